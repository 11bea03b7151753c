//! How large the blocks of a delta are: powers of two only, so that a block is a subtree of the
//! file's BLAKE3 tree and so that no size from the far end can be odd, zero or huge.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::DeltaError;

/// The most blocks that one file's sums or signature may have. At 16 bytes a sum that is 64 MiB,
/// and with the largest block it covers 16 TiB, the largest file of ext4.
pub const MAX_BLOCKS: u64 = 1 << 22;

/// A power of two of bytes between `MIN` and `MAX`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct PowerOfTwo<const MIN: u32, const MAX: u32>(u32);

/// The size of an aligned block. One BLAKE3 chunk is the least that has a chaining value.
pub type BlockSize = PowerOfTwo<1024, { 4 << 20 }>;

/// The size of a rolling window. rsync's smallest is 700 bytes; the next lower power of two keeps
/// literals of small files no larger than rsync's.
pub type WindowSize = PowerOfTwo<512, { 4 << 20 }>;

impl<const MIN: u32, const MAX: u32> PowerOfTwo<MIN, MAX> {
    /// The smallest size.
    pub const MIN: Self = Self(MIN);
    /// The largest size.
    pub const MAX: Self = Self(MAX);

    /// The size of `bytes`.
    pub fn new(bytes: u32) -> Result<Self, DeltaError> {
        if bytes.is_power_of_two() && (MIN..=MAX).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(DeltaError::Size(bytes))
        }
    }

    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }

    /// The size in bytes, for slices.
    pub(super) fn len(self) -> usize {
        self.0 as usize
    }

    /// How many blocks `len` bytes have, the last one perhaps short.
    pub fn count(self, len: u64) -> u64 {
        len.div_ceil(self.bytes())
    }

    /// The largest size that is no larger than the square root of `len`, so that sums and one
    /// block of literals cost about the same; never above rsync's choice, so that an edit never
    /// costs more literals than it does there.
    fn near_square_root(len: u64) -> Self {
        let root = u32::try_from(len.isqrt()).unwrap_or(u32::MAX);
        let power = 1 << root.max(1).ilog2();
        Self(power).clamp(Self::MIN, Self::MAX)
    }
}

impl BlockSize {
    /// The size for the aligned sums of a file of `len` bytes.
    pub fn for_len(len: u64) -> BlockSize {
        // BLAKE3 hashes the 16 chunks of 16 KiB side by side: 4.2 GB/s a core, and only 1.6 GB/s
        // in blocks of 2 KiB. Large blocks cost no literals: a signature of what differs follows.
        const AT_FULL_SPEED: u32 = 16 << 10;
        BlockSize::near_square_root(len).max(PowerOfTwo(AT_FULL_SPEED))
    }
}

impl WindowSize {
    /// The size for a signature over `len` bytes.
    pub fn for_len(len: u64) -> WindowSize {
        WindowSize::near_square_root(len)
    }
}

impl<const MIN: u32, const MAX: u32> TryFrom<u32> for PowerOfTwo<MIN, MAX> {
    type Error = DeltaError;

    fn try_from(bytes: u32) -> Result<Self, DeltaError> {
        Self::new(bytes)
    }
}

impl<const MIN: u32, const MAX: u32> From<PowerOfTwo<MIN, MAX>> for u32 {
    fn from(size: PowerOfTwo<MIN, MAX>) -> u32 {
        size.0
    }
}

impl<const MIN: u32, const MAX: u32> fmt::Debug for PowerOfTwo<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_never_above_the_square_root() {
        for (len, bytes) in [
            (0, 512),
            (490_000, 512),
            (1 << 20, 1024),
            ((4 << 20) - 1, 1024),
            (1 << 30, 32 << 10),
            (u64::MAX, 4 << 20),
        ] {
            assert_eq!(WindowSize::for_len(len).bytes(), bytes, "{len}");
        }
    }

    #[test]
    fn only_powers_of_two_in_range_are_sizes() {
        assert!(BlockSize::new(1024).is_ok());
        for bytes in [0, 1, 512, 1025, 3 << 10, 8 << 20, u32::MAX] {
            assert!(BlockSize::new(bytes).is_err(), "{bytes}");
        }
    }
}
