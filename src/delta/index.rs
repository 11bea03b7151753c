//! A signature made searchable: a bitmap that rejects nearly every offset of the new file, and a
//! compact table behind it. Apart from `search` so that the bounds on hostile signatures are
//! seen in one place.

use super::Signature;
use super::signature::{Entry, rolling_of};

/// Fibonacci hashing: the rolling sum's low half, a sum of bytes, is far from uniform.
const FACTOR: u32 = 0x9e37_79b1;

/// Bits of the filter for each block: one offset in 64 gets past it by chance. A search in vain ran
/// at 0.19 GB/s a core with 8, 0.38 with 32 and 0.45 with 64; with 128 small windows, whose filter
/// leaves the cache, lost more than large ones gained.
const BITS_PER_BLOCK: usize = 64;

/// The least filter, 8 KiB: small signatures profit from its being nearly empty.
const MIN_FILTER_BITS: usize = 1 << 16;

/// The largest filter, 4 MiB: it has left the second-level cache from 16 Ki blocks on, and must not
/// leave the third.
const MAX_FILTER_BITS: usize = 1 << 25;

/// How far from its place a block may sit in the table. At a load of at most one half honest sums
/// stay well below; sums made to collide are left out, which costs their sender matches only.
const MAX_PROBES: usize = 32;

/// A place in the table: the rolling sum is beside the block's index, so that a probe that leads to
/// nothing costs one cache line.
#[derive(Clone, Copy)]
struct Slot {
    rolling: u32,
    block: u32,
}

/// No block has this index: there are [`MAX_BLOCKS`](super::MAX_BLOCKS) at most.
const NO_BLOCK: u32 = u32::MAX;

const EMPTY: Slot = Slot {
    rolling: 0,
    block: NO_BLOCK,
};

/// Finds blocks by their sums.
pub(super) struct Index<'a> {
    pub(super) signature: &'a Signature,
    filter: Vec<u64>,
    filter_shift: u32,
    table: Vec<Slot>,
    table_shift: u32,
}

impl<'a> Index<'a> {
    pub(super) fn new(signature: &'a Signature) -> Index<'a> {
        let count = signature.entries().len();
        let filter_bits = (count * BITS_PER_BLOCK)
            .next_power_of_two()
            .clamp(MIN_FILTER_BITS, MAX_FILTER_BITS);
        let slots = (count * 2).next_power_of_two().max(MAX_PROBES);
        let mut index = Index {
            signature,
            filter: vec![0; filter_bits / 64],
            filter_shift: 32 - filter_bits.ilog2(),
            table: vec![EMPTY; slots],
            table_shift: 32 - slots.ilog2(),
        };
        let window = signature.spec().window().bytes();
        for (i, entry) in (0..).zip(signature.entries()) {
            // A short block's sum is of another length than the window's.
            let block = signature.spec().block(i);
            if block.is_some_and(|block| block.end - block.start == window) {
                index.insert(i, entry);
            }
        }
        index
    }

    /// Adds a block unless there is an equal one: runs of zeros are one entry.
    fn insert(&mut self, block: u32, entry: &Entry) {
        let rolling = rolling_of(entry);
        let first = (rolling.wrapping_mul(FACTOR) >> self.table_shift) as usize;
        for probe in first..first + MAX_PROBES {
            let at = probe & (self.table.len() - 1);
            let taken = self.table[at].block;
            if taken == NO_BLOCK {
                self.table[at] = Slot { rolling, block };
                let bit = rolling.wrapping_mul(FACTOR) >> self.filter_shift;
                self.filter[(bit / 64) as usize] |= 1 << (bit % 64);
                return;
            }
            if self.is(taken, entry) {
                return;
            }
        }
    }

    /// Whether some block may have this rolling sum.
    #[inline(always)]
    pub(super) fn may_have(&self, rolling: u32) -> bool {
        let bit = rolling.wrapping_mul(FACTOR) >> self.filter_shift;
        // The mask changes nothing; it shows the compiler that the access is in bounds.
        let word = self.filter[(bit / 64) as usize & (self.filter.len() - 1)];
        word >> (bit % 64) & 1 != 0
    }

    /// The blocks that have this rolling sum.
    pub(super) fn with_rolling(&self, rolling: u32) -> impl Iterator<Item = (u32, &Entry)> {
        let first = (rolling.wrapping_mul(FACTOR) >> self.table_shift) as usize;
        (first..first + MAX_PROBES)
            .map(|probe| self.table[probe & (self.table.len() - 1)])
            .take_while(|slot| slot.block != NO_BLOCK)
            .filter(move |slot| slot.rolling == rolling)
            .map(|slot| (slot.block, &self.signature.entries()[slot.block as usize]))
    }

    /// A block with exactly these sums.
    pub(super) fn find(&self, entry: &Entry) -> Option<u32> {
        self.with_rolling(rolling_of(entry))
            .find(|(_, candidate)| *candidate == entry)
            .map(|(i, _)| i)
    }

    /// Whether block `i` exists and has exactly these sums.
    pub(super) fn is(&self, i: u32, entry: &Entry) -> bool {
        self.signature.entries().get(i as usize) == Some(entry)
    }
}
