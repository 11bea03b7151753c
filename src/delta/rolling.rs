//! The rolling sum of a window: cheap to move on by one byte. It is librsync's rollsum, the one
//! that `fast_rsync` writes into signatures; apart because the search lives on its inner loop.

/// librsync adds this to every byte, so that runs of zeros of different lengths differ.
const CHAR_OFFSET: u32 = 31;

/// In how many prefixes of a group of 16 each byte is.
const WEIGHTS: [u32; 16] = [16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1];

/// The two halves of the sum. Both are defined modulo 2^16; the upper halves of the words hold
/// carries that [`Rolling::value`] drops, which keeps the masks out of the inner loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rolling {
    /// The sum of the bytes.
    bytes: u32,
    /// The sum of all prefixes' sums.
    prefixes: u32,
}

impl Rolling {
    /// The sum of `window`.
    pub(super) fn of(window: &[u8]) -> Rolling {
        let (mut bytes, mut prefixes) = (0u32, 0u32);
        // In groups the two sums do not depend on each other byte by byte, which the compiler
        // turns into vector code.
        let (groups, rest) = window.as_chunks::<16>();
        for group in groups {
            prefixes = prefixes.wrapping_add(bytes.wrapping_mul(16));
            for (byte, weight) in group.iter().zip(WEIGHTS) {
                bytes = bytes.wrapping_add(u32::from(*byte) + CHAR_OFFSET);
                prefixes = prefixes.wrapping_add((u32::from(*byte) + CHAR_OFFSET) * weight);
            }
        }
        for byte in rest {
            bytes = bytes.wrapping_add(u32::from(*byte) + CHAR_OFFSET);
            prefixes = prefixes.wrapping_add(bytes);
        }
        Rolling { bytes, prefixes }
    }

    /// Moves a window of `1 << len_log2` bytes on by one byte.
    #[inline(always)]
    pub(super) fn roll(&mut self, len_log2: u32, leaves: u8, enters: u8) {
        let leaves = u32::from(leaves);
        // Grouped so that each step waits for one addition of the step before it.
        self.bytes = self
            .bytes
            .wrapping_add(u32::from(enters).wrapping_sub(leaves));
        self.prefixes = self
            .prefixes
            .wrapping_add(self.bytes.wrapping_sub((leaves + CHAR_OFFSET) << len_log2));
    }

    /// The sum as a signature has it.
    #[inline(always)]
    pub(super) fn value(self) -> u32 {
        self.bytes & 0xffff | self.prefixes << 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(len: usize) -> Vec<u8> {
        (0..len as u64).map(|i| (i * i / 7 + i) as u8).collect()
    }

    #[test]
    fn rolling_equals_summing_anew() {
        let data = sample(3000);
        let mut rolling = Rolling::of(&data[..512]);
        for i in 0..data.len() - 512 {
            rolling.roll(9, data[i], data[i + 512]);
            let anew = Rolling::of(&data[i + 1..i + 1 + 512]);
            assert_eq!(rolling.value(), anew.value(), "{i}");
        }
    }

    #[test]
    fn sum_is_the_one_in_fast_rsyncs_signatures() {
        for len in [1, 31, 32, 33, 512, 70_000] {
            let data = sample(len);
            let options = fast_rsync::SignatureOptions {
                block_size: len as u32,
                crypto_hash_size: 0,
            };
            let signature = fast_rsync::Signature::calculate(&data, options);
            assert_eq!(
                signature.serialized()[12..],
                Rolling::of(&data).value().to_be_bytes(),
                "{len}"
            );
        }
    }
}
