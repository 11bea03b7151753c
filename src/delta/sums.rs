//! Aligned block sums: the chaining values of a file's BLAKE3 subtrees, so that one pass yields
//! both the sums and the content hash. The rolling kind, which finds blocks at any offset, is in
//! `signature`.

use std::io;
use std::num::NonZeroUsize;

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

/// How much one read takes; fits the second-level cache with room for the hasher's state.
const READ_BYTES: usize = 256 << 10;

/// How much one thread sums before it takes the next piece. A power of two no smaller than any
/// block, so that a piece is a subtree too.
const PIECE_BYTES: u64 = 4 << 20;
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
    sums: Option<Vec<Sum>>,
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
            sums: Some(Vec::new()),
        }
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

    /// The content hash of all that was pushed, and the sums unless there are more than
    /// [`MAX_BLOCKS`].
    pub fn finish(mut self) -> (ContentHash, Option<BlockSums>) {
        if self.filled > 0 {
            self.end_block();
        }
        let hash = self
            .tree
            .root()
            .or(self.only)
            .unwrap_or_else(|| ContentHash::of(b""));
        let (block, len) = (self.block, self.len);
        (hash, self.sums.map(|sums| BlockSums { block, len, sums }))
    }

    fn end_block(&mut self) {
        if self.tree.leaves == 0 {
            self.only = Some(self.hasher.finalize().into());
        }
        let value = self.hasher.finalize_non_root();
        self.tree.push(value);
        self.filled = 0;
        match &mut self.sums {
            Some(sums) if (sums.len() as u64) < MAX_BLOCKS => sums.push(truncate(&value)),
            _ => self.sums = None,
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

    /// The chaining value of all leaves as a part of a larger tree.
    fn value(mut self) -> Option<ChainingValue> {
        while self.stack.len() > 1 {
            self.merge_top();
        }
        self.stack.pop()
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
) -> io::Result<(ContentHash, Option<BlockSums>)> {
    if len <= PIECE_BYTES || block.count(len) > MAX_BLOCKS {
        let mut builder = SumBuilder::new(block);
        read_through(file, len, |bytes| builder.push(bytes))?;
        return Ok(builder.finish());
    }
    let pieces: Vec<_> = parallel::cut(0..len, PIECE_BYTES).collect();
    let done = parallel::map(&pieces, threads, |piece, buf| {
        let mut tree = Tree::default();
        let mut sums = Vec::with_capacity((PIECE_BYTES / block.bytes()) as usize);
        for range in parallel::cut(piece.clone(), block.bytes().max(READ_BYTES as u64)) {
            buf.resize((range.end - range.start) as usize, 0);
            file.read_exact_at(buf, range.start)?;
            for (bytes, part) in buf
                .chunks(block.len())
                .zip(parallel::cut(range, block.bytes()))
            {
                let value = chaining_value(bytes, part.start);
                sums.push(truncate(&value));
                tree.push(value);
            }
        }
        Ok((tree.value(), sums))
    })?;
    let mut tree = Tree::default();
    let mut sums = Vec::with_capacity(block.count(len) as usize);
    for (value, part) in done {
        value.into_iter().for_each(|value| tree.push(value));
        sums.extend(part);
    }
    let hash = tree.root().ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((hash, Some(BlockSums { block, len, sums })))
}

/// The content hash of the `len` bytes of `file`, without sums and on this thread.
pub fn hash_file(file: &(impl ReadAt + ?Sized), len: u64) -> io::Result<ContentHash> {
    let mut hasher = Hasher::new();
    read_through(file, len, |bytes| {
        hasher.update(bytes);
    })?;
    Ok(hasher.finalize().into())
}

/// Adds `len` zeros to a content hash: a hole, which has no bytes to read.
///
/// There is no shorter way than hashing them: BLAKE3 numbers its chunks, so no two subtrees of
/// zeros have the same value.
pub fn hash_zeros(hasher: &mut Hasher, len: u64, cancel: &Cancel) -> Result<(), Error> {
    static ZEROS: [u8; READ_BYTES] = [0; READ_BYTES];
    for part in parallel::cut(0..len, READ_BYTES as u64) {
        cancel.check()?;
        hasher.update(&ZEROS[..(part.end - part.start) as usize]);
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
    len: u64,
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut buf = vec![0; len.min(READ_BYTES as u64) as usize];
    for range in parallel::cut(0..len, READ_BYTES as u64) {
        let part = &mut buf[..(range.end - range.start) as usize];
        file.read_exact_at(part, range.start)?;
        each(part);
    }
    Ok(())
}
