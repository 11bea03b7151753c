//! Aligned block sums: the chaining values of a file's BLAKE3 subtrees, so that one pass yields
//! both the sums and the content hash. The rolling kind, which finds blocks at any offset, is in
//! `signature`.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::parallel;
use super::{BlockSize, DeltaError, MAX_BLOCKS, ReadAt};
use crate::digest::ContentHash;
use crate::error::Error;
use crate::events::Cancel;

/// A block's chaining value, cut short: as the content hash decides in the end, a collision costs
/// a second transfer and nothing else, and 128 bits make one unthinkable.
pub type Sum = [u8; SUM_LEN];

const SUM_LEN: usize = 16;

/// How long one block's chaining value is, in bytes.
const VALUE_LEN: usize = 32;

/// How much one read takes; fits the second-level cache with room for the hasher's state.
const READ_BYTES: usize = 256 << 10;

/// How much one thread sums before it takes the next piece. A power of two no smaller than any
/// block, so that a piece is a subtree too.
const PIECE_BYTES: u64 = 4 << 20;

/// How many pieces' values are held before they are merged: what 2 MiB hold in the smallest blocks
/// is little against what the threads read.
const PIECES_AT_ONCE: u64 = 16;
const _: () = assert!(PIECE_BYTES.is_power_of_two() && PIECE_BYTES >= 4 << 20);

/// The sums of all blocks of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawBlockSums", into = "RawBlockSums")]
pub struct BlockSums {
    block: BlockSize,
    len: u64,
    sums: Vec<Sum>,
}

/// The serialized form, not yet checked.
#[derive(Serialize, Deserialize)]
struct RawBlockSums {
    block: BlockSize,
    len: u64,
    sums: ByteBuf,
}

impl BlockSums {
    /// The sums as they came from the far end or from stored state.
    pub fn from_bytes(block: BlockSize, len: u64, bytes: &[u8]) -> Result<BlockSums, DeltaError> {
        let (sums, rest) = bytes.as_chunks::<SUM_LEN>();
        let expected = block.count(len);
        if expected > MAX_BLOCKS {
            return Err(DeltaError::TooManyBlocks(expected));
        }
        if !rest.is_empty() || sums.len() as u64 != expected {
            return Err(DeltaError::WrongCount {
                expected,
                bytes: bytes.len(),
            });
        }
        let sums = sums.to_vec();
        Ok(BlockSums { block, len, sums })
    }

    /// All sums in the order of the blocks.
    pub fn as_bytes(&self) -> &[u8] {
        self.sums.as_flattened()
    }

    /// The size of a block.
    pub fn block(&self) -> BlockSize {
        self.block
    }

    /// The length of the file.
    pub fn file_len(&self) -> u64 {
        self.len
    }

    /// The sums, one a block.
    pub fn sums(&self) -> &[Sum] {
        &self.sums
    }
}

/// The chaining values of all blocks of one file, uncut, so that they also make its content hash:
/// what is known of a block need not be read to be hashed again. They stay on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subtrees {
    block: BlockSize,
    len: u64,
    values: Vec<ChainingValue>,
}

impl Subtrees {
    /// The values as stored state has them; `None` where they are not those of `len` bytes.
    pub fn from_bytes(block: BlockSize, len: u64, bytes: &[u8]) -> Option<Subtrees> {
        let (values, rest) = bytes.as_chunks::<VALUE_LEN>();
        let fits = rest.is_empty() && values.len() as u64 == block.count(len);
        fits.then(|| Subtrees {
            block,
            len,
            values: values.to_vec(),
        })
    }

    /// All values in the order of the blocks.
    pub fn as_bytes(&self) -> &[u8] {
        self.values.as_flattened()
    }

    /// The size of a block.
    pub fn block(&self) -> BlockSize {
        self.block
    }

    /// The length of the file.
    pub fn file_len(&self) -> u64 {
        self.len
    }

    /// What the far end is told of them.
    pub fn sums(&self) -> BlockSums {
        BlockSums {
            block: self.block,
            len: self.len,
            sums: self.values.iter().map(truncate).collect(),
        }
    }

    /// The value of the whole block at `offset`; none for a short last block, whose value changes
    /// when bytes follow.
    pub fn whole_block(&self, offset: u64) -> Option<&ChainingValue> {
        let whole = offset.is_multiple_of(self.block.bytes())
            && offset.checked_add(self.block.bytes())? <= self.len;
        let index = usize::try_from(offset / self.block.bytes()).ok()?;
        self.values.get(index).filter(|_| whole)
    }
}

impl BlockSums {
    /// Whether `new`, of `new_len` bytes, seems to have most of these blocks at the same places:
    /// samples from all over it do, but for one in eight. Shorter files are not worth the question.
    pub fn resemble(&self, new: &(impl ReadAt + ?Sized), new_len: u64) -> io::Result<bool> {
        const SAMPLES: u64 = 64;
        let shared = self.len.min(new_len) / self.block.bytes();
        if shared < 4 * SAMPLES || shared < self.block.count(self.len.max(new_len)) / 2 {
            return Ok(false);
        }
        let mut bytes = vec![0; self.block.len()];
        let mut equal = 0;
        for index in (0..SAMPLES).map(|i| i * shared / SAMPLES) {
            let offset = index * self.block.bytes();
            new.read_exact_at(&mut bytes, offset)?;
            equal += u64::from(self.sums.get(index as usize) == Some(&sum_at(&bytes, offset)));
        }
        Ok(equal >= SAMPLES - SAMPLES / 8)
    }
}

impl TryFrom<RawBlockSums> for BlockSums {
    type Error = DeltaError;

    fn try_from(raw: RawBlockSums) -> Result<BlockSums, DeltaError> {
        BlockSums::from_bytes(raw.block, raw.len, &raw.sums)
    }
}

impl From<BlockSums> for RawBlockSums {
    fn from(sums: BlockSums) -> RawBlockSums {
        RawBlockSums {
            block: sums.block,
            len: sums.len,
            sums: ByteBuf::from(sums.as_bytes()),
        }
    }
}

/// Sums a file while it is written or read for another reason.
#[derive(Debug)]
pub struct SumBuilder {
    block: BlockSize,
    /// Of the block under way, at its place in the file.
    hasher: Hasher,
    filled: u64,
    tree: Tree,
    /// The hash of the first block as if it were the whole file, for when it is.
    only: Option<ContentHash>,
    len: u64,
    /// `None` once the file has too many blocks.
    values: Option<Vec<ChainingValue>>,
}

impl SumBuilder {
    /// Starts a file.
    pub fn new(block: BlockSize) -> SumBuilder {
        SumBuilder {
            block,
            hasher: Hasher::new(),
            filled: 0,
            tree: Tree::default(),
            only: None,
            len: 0,
            values: Some(Vec::new()),
        }
    }

    /// The size of a block.
    pub fn block(&self) -> BlockSize {
        self.block
    }

    /// How many bytes the block under way has left; the next block's where none is.
    pub fn room(&self) -> u64 {
        self.block.bytes() - self.filled
    }

    /// Takes the next bytes of the file.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.filled == 0 {
                self.hasher = Hasher::new();
                self.hasher.set_input_offset(self.len);
            }
            let room = (self.block.bytes() - self.filled) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.hasher.update(now);
            self.filled += now.len() as u64;
            self.len += now.len() as u64;
            if self.filled == self.block.bytes() {
                self.end_block();
            }
            bytes = later;
        }
    }

    /// Takes the next block by the value that it has at this place. `false` where its bytes are
    /// needed: within a block, and for the first, which may be the only one and then is no
    /// subtree.
    pub fn push_known(&mut self, value: &ChainingValue) -> bool {
        let fits = self.filled == 0 && self.tree.leaves > 0;
        if fits {
            self.len += self.block.bytes();
            self.enter(*value);
        }
        fits
    }

    /// Takes the next bytes of the file from `file` itself, whole blocks on up to `threads` threads;
    /// `range` starts where the last bytes ended.
    pub fn push_file(
        &mut self,
        file: &(impl ReadAt + ?Sized),
        range: Range<u64>,
        threads: NonZeroUsize,
    ) -> io::Result<()> {
        let block = self.block.bytes();
        let lead = match (self.filled, self.tree.leaves) {
            // The first block may be the only one.
            (0, 0) => block,
            (0, _) => 0,
            _ => self.room(),
        };
        let start = range.end.min(range.start + lead);
        let end = start + (range.end - start) / block * block;
        read_through(file, range.start..start, |bytes| self.push(bytes))?;
        for batch in parallel::cut(start..end, PIECES_AT_ONCE * PIECE_BYTES) {
            let pieces: Vec<_> = parallel::cut(batch, PIECE_BYTES).collect();
            let done = parallel::map(&pieces, threads, |piece, buf| {
                values_of(file, piece.clone(), self.block, buf)
            })?;
            for value in done.into_iter().flatten() {
                self.push_known(&value);
            }
        }
        read_through(file, end..range.end, |bytes| self.push(bytes))
    }

    /// The content hash of all that was pushed, and the values of its blocks unless there are
    /// more than [`MAX_BLOCKS`].
    pub fn finish(mut self) -> (ContentHash, Option<Subtrees>) {
        if self.filled > 0 {
            self.end_block();
        }
        let hash = self
            .tree
            .root()
            .or(self.only)
            .unwrap_or_else(|| ContentHash::of(b""));
        let (block, len) = (self.block, self.len);
        let values = self.values.map(|values| Subtrees { block, len, values });
        (hash, values)
    }

    fn end_block(&mut self) {
        if self.tree.leaves == 0 {
            self.only = Some(self.hasher.finalize().into());
        }
        let value = self.hasher.finalize_non_root();
        self.filled = 0;
        self.enter(value);
    }

    fn enter(&mut self, value: ChainingValue) {
        self.tree.push(value);
        match &mut self.values {
            Some(values) if (values.len() as u64) < MAX_BLOCKS => values.push(value),
            _ => self.values = None,
        }
    }
}

/// The right edge of a BLAKE3 tree whose leaves are equal subtrees (the BLAKE3 paper, 5.1.2).
#[derive(Debug, Default)]
struct Tree {
    stack: Vec<ChainingValue>,
    leaves: u64,
}

impl Tree {
    /// Adds the next leaf. Parents are merged only now that they are known not to be the root.
    fn push(&mut self, leaf: ChainingValue) {
        while self.stack.len() > self.leaves.count_ones() as usize {
            self.merge_top();
        }
        self.stack.push(leaf);
        self.leaves += 1;
    }

    fn merge_top(&mut self) {
        if let (Some(right), Some(left)) = (self.stack.pop(), self.stack.pop()) {
            self.stack
                .push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
    }

    /// The content hash, if there are two leaves or more.
    fn root(mut self) -> Option<ContentHash> {
        while self.stack.len() > 2 {
            self.merge_top();
        }
        match self.stack.as_slice() {
            [left, right] => Some(merge_subtrees_root(left, right, Mode::Hash).into()),
            _ => None,
        }
    }
}

/// Sums the `len` bytes of `file` on up to `threads` threads; the result is [`SumBuilder`]'s.
pub fn sum_file(
    file: &(impl ReadAt + ?Sized),
    len: u64,
    block: BlockSize,
    threads: NonZeroUsize,
) -> io::Result<(ContentHash, Option<Subtrees>)> {
    let mut builder = SumBuilder::new(block);
    builder.push_file(file, 0..len, threads)?;
    Ok(builder.finish())
}

/// The values of the whole blocks of `piece`.
fn values_of(
    file: &(impl ReadAt + ?Sized),
    piece: Range<u64>,
    block: BlockSize,
    buf: &mut Vec<u8>,
) -> io::Result<Vec<ChainingValue>> {
    let mut values = Vec::with_capacity((PIECE_BYTES / block.bytes()) as usize);
    for range in parallel::cut(piece, block.bytes().max(READ_BYTES as u64)) {
        buf.resize((range.end - range.start) as usize, 0);
        file.read_exact_at(buf, range.start)?;
        let starts = parallel::cut(range, block.bytes()).map(|block| block.start);
        let blocks = buf.chunks(block.len()).zip(starts);
        values.extend(blocks.map(|(bytes, start)| chaining_value(bytes, start)));
    }
    Ok(values)
}

/// The content hash of the `len` bytes of `file`, without sums and on this thread.
pub fn hash_file(file: &(impl ReadAt + ?Sized), len: u64) -> io::Result<ContentHash> {
    let mut hasher = Hasher::new();
    read_through(file, 0..len, |bytes| {
        hasher.update(bytes);
    })?;
    Ok(hasher.finalize().into())
}

/// Adds `len` zeros to a content hash: a hole, which has no bytes to read.
///
/// There is no shorter way than hashing them: BLAKE3 numbers its chunks, so no two subtrees of
/// zeros have the same value.
pub fn zeros(len: u64, cancel: &Cancel, mut each: impl FnMut(&[u8])) -> Result<(), Error> {
    static ZEROS: [u8; READ_BYTES] = [0; READ_BYTES];
    for part in parallel::cut(0..len, READ_BYTES as u64) {
        cancel.check()?;
        each(&ZEROS[..(part.end - part.start) as usize]);
    }
    Ok(())
}

/// The sum that a block of these bytes at this offset has; `offset` is a multiple of a block size
/// and `bytes` are at most one block.
pub(super) fn sum_at(bytes: &[u8], offset: u64) -> Sum {
    truncate(&chaining_value(bytes, offset))
}

fn chaining_value(bytes: &[u8], offset: u64) -> ChainingValue {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(offset);
    hasher.update(bytes);
    hasher.finalize_non_root()
}

fn truncate(value: &ChainingValue) -> Sum {
    let mut sum = [0; SUM_LEN];
    sum.copy_from_slice(&value[..SUM_LEN]);
    sum
}

fn read_through(
    file: &(impl ReadAt + ?Sized),
    range: Range<u64>,
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let longest = (range.end - range.start).min(READ_BYTES as u64);
    let mut buf = vec![0; longest as usize];
    for range in parallel::cut(range, READ_BYTES as u64) {
        let part = &mut buf[..(range.end - range.start) as usize];
        file.read_exact_at(part, range.start)?;
        each(part);
    }
    Ok(())
}
