//! What is known of single files: their content hashes, and when those are believed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::AccessGuard;

use super::StateUpdate;
use crate::digest::ContentHash;
use crate::entry::Timestamp;
use crate::fs::{Dir, Stat};
use crate::path::RelPath;

/// What a file's content hashed to, and what `statx` said when it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFact {
    /// Inode number, on the device of its directory.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: Timestamp,
    /// Change time.
    pub ctime: Timestamp,
    /// The content's hash.
    pub hash: ContentHash,
}

impl FileFact {
    pub(super) const BYTES: usize = 8 + 8 + 12 + 12 + 32;

    /// The fact of a file with this stat.
    pub fn new(stat: &Stat, hash: ContentHash) -> FileFact {
        FileFact {
            ino: stat.ino,
            size: stat.meta.size,
            mtime: stat.meta.mtime,
            ctime: stat.ctime,
            hash,
        }
    }

    /// Whether the file is as it was, as far as `statx` can tell.
    pub fn matches(&self, stat: &Stat) -> bool {
        self.same_size_and_mtime(stat) && self.ctime == stat.ctime
    }

    /// Whether a quick check would take the file for unchanged.
    pub fn same_size_and_mtime(&self, stat: &Stat) -> bool {
        self.ino == stat.ino && self.size == stat.meta.size && self.mtime == stat.meta.mtime
    }

    /// Whether another fact of the same file says that its content changed and nothing else.
    pub(super) fn is_contradicted_by(&self, now: &FileFact) -> bool {
        (self.size, self.mtime) == (now.size, now.mtime) && self.hash != now.hash
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.ino.to_le_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
        for time in [self.mtime, self.ctime] {
            out.extend_from_slice(&time.secs.to_le_bytes());
            out.extend_from_slice(&time.nanos.to_le_bytes());
        }
        out.extend_from_slice(&self.hash.0);
    }

    fn ino_of(row: &[u8; FileFact::BYTES]) -> u64 {
        let (ino, _) = row.split_first_chunk().unwrap_or((&[0; 8], &[]));
        u64::from_le_bytes(*ino)
    }

    pub(super) fn decode(mut bytes: &[u8]) -> Option<FileFact> {
        fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
            let (head, tail) = bytes.split_first_chunk::<N>()?;
            *bytes = tail;
            Some(*head)
        }
        let bytes = &mut bytes;
        let ino = u64::from_le_bytes(take(bytes)?);
        let size = u64::from_le_bytes(take(bytes)?);
        let mut time = || {
            Some(Timestamp {
                secs: i64::from_le_bytes(take(bytes)?),
                nanos: u32::from_le_bytes(take(bytes)?),
            })
        };
        let (mtime, ctime) = (time()?, time()?);
        Some(FileFact {
            ino,
            size,
            mtime,
            ctime,
            hash: ContentHash(take(bytes)?),
        })
    }
}

/// What the files of one directory hashed to, as the database holds it: sorted by inode.
#[derive(Default)]
pub struct KnownFacts(pub(super) Option<AccessGuard<'static, &'static [u8]>>);

impl KnownFacts {
    fn rows(&self) -> &[[u8; FileFact::BYTES]] {
        let bytes = self.0.as_ref().map_or(&[][..], |row| row.value());
        bytes.as_chunks().0
    }

    /// How many files are known.
    pub fn len(&self) -> usize {
        self.rows().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file with this inode number, and its place.
    pub fn find(&self, ino: u64) -> Option<(usize, FileFact)> {
        let rows = self.rows();
        let place = rows.binary_search_by_key(&ino, FileFact::ino_of).ok()?;
        Some((place, FileFact::decode(&rows[place])?))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = FileFact> {
        self.rows().iter().filter_map(|row| FileFact::decode(row))
    }
}

/// Hashes that a run came by as it sent or wrote files, by directory, until it has succeeded.
///
/// Bounded: what does not fit is not remembered, and hashed again should it ever look suspicious.
#[derive(Debug, Default)]
pub struct FactBook(Mutex<Facts>);

#[derive(Debug, Default)]
struct Facts {
    by_dir: HashMap<RelPath, Vec<FileFact>>,
    count: usize,
}

impl FactBook {
    /// About 8 MB.
    const MOST: usize = 100_000;

    /// Remembers a file's hash.
    pub fn note(&self, dir: &RelPath, fact: FileFact) {
        let mut facts = self.lock();
        if facts.count < FactBook::MOST {
            facts.count += 1;
            match facts.by_dir.get_mut(dir) {
                Some(known) => known.push(fact),
                None => {
                    facts.by_dir.insert(dir.clone(), vec![fact]);
                }
            }
        }
    }

    /// Adds what was remembered to what shall be stored.
    pub fn store_into(&self, root: &Dir, update: &mut StateUpdate) {
        let facts = std::mem::take(&mut *self.lock());
        for (path, facts) in facts.by_dir {
            // A directory that is gone has nothing to be remembered.
            if let Ok(stat) = root.open_dir(&path).and_then(|dir| dir.stat_self()) {
                update.add_files(&stat, facts);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes `row` the bytes of these facts.
pub(super) fn encode_facts(facts: &[FileFact], row: &mut Vec<u8>) {
    row.clear();
    row.reserve_exact(facts.len() * FileFact::BYTES);
    facts.iter().for_each(|fact| fact.encode(row));
}

/// Makes `row` the bytes of these facts and of those in an old row that are of other files. Of
/// several facts of one file the last is the newest.
pub(super) fn join_facts(mut facts: Vec<FileFact>, old: &[u8], row: &mut Vec<u8>) {
    facts.reverse();
    facts.sort_by_key(|fact| fact.ino);
    facts.dedup_by_key(|fact| fact.ino);
    row.clear();
    row.reserve_exact(facts.len() * FileFact::BYTES + old.len());
    let mut old = old.as_chunks().0.iter().peekable();
    for fact in facts {
        while let Some(before) = old.next_if(|old| FileFact::ino_of(old) < fact.ino) {
            row.extend_from_slice(before);
        }
        old.next_if(|old| FileFact::ino_of(old) == fact.ino);
        fact.encode(row);
    }
    row.extend(old.flatten());
}
