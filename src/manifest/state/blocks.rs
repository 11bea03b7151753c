//! The chaining values of large files' blocks, kept so that a basis need be neither read nor
//! hashed again. Rows of their own: they are long, and most directories have none.

use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{ReadOnlyTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use super::{FileFact, file_key};
use crate::delta::{BlockSize, Subtrees};
use crate::digest::ContentHash;
use crate::fs::Stat;

/// `[device 8][inode 8]` of a file to its [`FileFact`], the size of a block (4 bytes) and the
/// values.
const BLOCKS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("blocks-1");

/// How many files' blocks are kept. The rows of files that were replaced are dropped; what
/// deleted files leave goes, with all others, when there are more rows than this.
const MOST_ROWS: u64 = 20_000;

pub(super) type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// One file's row.
type Row = ([u8; 16], Vec<u8>);

/// Block values that a run came by, until it has succeeded.
///
/// Bounded: what does not fit is not remembered, and summed again when it is a basis.
#[derive(Debug, Default)]
pub struct BlockBook(Mutex<Blocks>);

#[derive(Debug, Default)]
struct Blocks {
    rows: Vec<Row>,
    bytes: usize,
    /// Files that are there no more.
    replaced: Vec<[u8; 16]>,
}

impl BlockBook {
    /// The values of 16 GiB in files of 1 GiB each.
    const MOST_BYTES: usize = 16 << 20;

    /// Remembers the values of a file with this stat, which took the place of `replaced`.
    pub fn note(&self, stat: &Stat, hash: ContentHash, blocks: &Subtrees, replaced: Option<&Stat>) {
        let mut book = self.lock();
        book.replaced.extend(replaced.map(file_key));
        let bytes = blocks.as_bytes().len();
        if book.bytes + bytes <= BlockBook::MOST_BYTES {
            book.bytes += bytes;
            let mut row = Vec::with_capacity(FileFact::BYTES + 4 + bytes);
            FileFact::new(stat, hash).encode(&mut row);
            row.extend_from_slice(&(blocks.block().bytes() as u32).to_le_bytes());
            row.extend_from_slice(blocks.as_bytes());
            book.rows.push((file_key(stat), row));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What shall become of the rows.
#[derive(Debug, Default)]
pub(super) struct BlocksUpdate(Blocks);

impl BlocksUpdate {
    pub(super) fn take(&mut self, book: &BlockBook) {
        self.0 = std::mem::take(&mut *book.lock());
    }

    pub(super) fn absorb(&mut self, mut other: BlocksUpdate) {
        self.0.rows.append(&mut other.0.rows);
        self.0.replaced.append(&mut other.0.replaced);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.rows.is_empty() && self.0.replaced.is_empty()
    }

    pub(super) fn write(&self, write: &WriteTransaction) -> Result<(), redb::Error> {
        if self.is_empty() {
            return Ok(());
        }
        let mut table = write.open_table(BLOCKS)?;
        for key in &self.0.replaced {
            table.remove(&key[..])?;
        }
        if table.len()? > MOST_ROWS {
            table.retain(|_, _| false)?;
        }
        for (key, row) in &self.0.rows {
            table.insert(&key[..], row.as_slice())?;
        }
        Ok(())
    }
}

pub(super) fn open(read: &redb::ReadTransaction) -> Option<Table> {
    read.open_table(BLOCKS).ok()
}

/// The values of a file, where it is as it was.
pub(super) fn read(table: &Table, stat: &Stat) -> Option<Subtrees> {
    let row = table.get(&file_key(stat)[..]).ok()??;
    let (fact, rest) = row.value().split_at_checked(FileFact::BYTES)?;
    let (block, values) = rest.split_first_chunk::<4>()?;
    let block = BlockSize::new(u32::from_le_bytes(*block)).ok()?;
    FileFact::decode(fact)
        .filter(|fact| fact.matches(stat))
        .and_then(|_| Subtrees::from_bytes(block, stat.meta.size, values))
}
