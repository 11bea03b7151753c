//! What earlier runs learnt of a root, in an embedded database. A cache: a run is right without
//! it, and every row is believed only where the file or directory is as it was.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{
    AccessGuard, Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable,
    TableDefinition, WriteTransaction,
};

use crate::digest::{ContentHash, Digest};
use crate::entry::Timestamp;
use crate::fs::{Dir, Stat};
use crate::path::RelPath;

/// `[rules 8][device 8][inode 8]` to [`DirFact`]: what a directory's entries digest to.
const DIRS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("dirs-1");
/// `[device 8][inode 8]` of a directory to its files' [`FileFact`]s, sorted by inode.
const FILES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("files-1");
/// Small values by name.
const NOTES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("notes-1");

/// Enough for the inner pages of a million directories; the crate's default is a gibibyte.
const CACHE_BYTES: usize = 4 << 20;

/// The rules under which directory digests are kept at once: sync, verify and one more.
const RULE_SETS: usize = 3;

/// The database of one root.
#[derive(Debug)]
pub struct State {
    database: Database,
    dirs: Option<ReadOnlyTable<&'static [u8], &'static [u8]>>,
    files: Option<ReadOnlyTable<&'static [u8], &'static [u8]>>,
}

/// What a directory's entries digested to when they last were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirFact {
    /// Over what `statx` said of the entries.
    pub stats: Digest,
    /// Over their records.
    pub shallow: Digest,
}

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
    const BYTES: usize = 8 + 8 + 12 + 12 + 32;

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

    fn encode(&self, out: &mut Vec<u8>) {
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

    fn decode(mut bytes: &[u8]) -> Option<FileFact> {
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
pub struct KnownFacts(Option<AccessGuard<'static, &'static [u8]>>);

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
    pub fn store_into(&self, root: &Dir, state: &State, update: &mut StateUpdate) {
        let facts = std::mem::take(&mut *self.lock());
        for (path, facts) in facts.by_dir {
            // A directory that is gone has nothing to be remembered.
            if let Ok(stat) = root.open_dir(&path).and_then(|dir| dir.stat_self()) {
                let key = file_key(&stat);
                let row = match update.files.remove(&key) {
                    Some(row) => merged(facts, row.as_chunks().0),
                    None => merged(facts, state.facts(&stat).rows()),
                };
                update.files.insert(key, row);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// New rows, kept in memory until the run has succeeded.
#[derive(Debug, Default)]
pub struct StateUpdate {
    dirs: Vec<([u8; 24], DirFact)>,
    /// Rows as they are stored: of a huge directory there should be one copy.
    files: BTreeMap<[u8; 16], Vec<u8>>,
}

impl StateUpdate {
    /// Keeps what a directory digested to.
    pub fn dir(&mut self, rules: u64, dir: &Stat, fact: DirFact) {
        self.dirs.push((dir_key(rules, dir), fact));
    }

    /// Keeps what a directory's files hashed to.
    pub fn files(&mut self, dir: &Stat, facts: Vec<FileFact>) {
        self.files.insert(file_key(dir), merged(facts, &[]));
    }

    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.dirs.is_empty() && self.files.is_empty()
    }
}

impl State {
    /// Opens the database of the root with this canonical path, creating it where needed. A file
    /// that is damaged or of another version is replaced.
    pub fn open(root: &Path) -> Result<State, String> {
        let path = state_path(root)?;
        if let Some(dir) = path.parent() {
            use std::os::unix::fs::DirBuilderExt;
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(|err| format!("cannot create {}: {err}", dir.display()))?;
        }
        let database = match open_database(&path) {
            Ok(database) => database,
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => {
                return Err("another run is using it".to_string());
            }
            Err(redb::DatabaseError::Storage(redb::StorageError::Io(err)))
                if err.kind() != std::io::ErrorKind::InvalidData =>
            {
                return Err(format!("cannot open {}: {err}", path.display()));
            }
            Err(_) => {
                std::fs::remove_file(&path)
                    .map_err(|err| format!("cannot replace {}: {err}", path.display()))?;
                open_database(&path).map_err(|err| err.to_string())?
            }
        };
        let mut state = State {
            database,
            dirs: None,
            files: None,
        };
        state.refresh();
        Ok(state)
    }

    fn refresh(&mut self) {
        if let Ok(read) = self.database.begin_read() {
            self.dirs = read.open_table(DIRS).ok();
            self.files = read.open_table(FILES).ok();
        }
    }

    /// What a directory digested to under these rules. Whether its entries are as they were is
    /// for the caller to see.
    pub fn dir(&self, rules: u64, dir: &Stat) -> Option<DirFact> {
        let row = self.dirs.as_ref()?.get(&dir_key(rules, dir)[..]).ok()??;
        let (stats, shallow) = row.value().split_first_chunk::<32>()?;
        Some(DirFact {
            stats: Digest(*stats),
            shallow: Digest(shallow.try_into().ok()?),
        })
    }

    /// What the files of a directory hashed to.
    pub fn facts(&self, dir: &Stat) -> KnownFacts {
        let row = self
            .files
            .as_ref()
            .and_then(|table| table.get(&file_key(dir)[..]).ok().flatten());
        KnownFacts(row)
    }

    /// A small value kept under a name.
    pub fn note(&self, name: &str) -> Option<Vec<u8>> {
        let read = self.database.begin_read().ok()?;
        let table = read.open_table(NOTES).ok()?;
        let value = table.get(name).ok()??;
        Some(value.value().to_vec())
    }

    /// Stores new rows and notes in one durable transaction. A failure costs the next run time,
    /// so it is a sentence, not an error.
    pub fn store(&mut self, update: StateUpdate, notes: &[(&str, Vec<u8>)]) -> Result<(), String> {
        if update.is_empty()
            && notes
                .iter()
                .all(|(name, value)| self.note(name).as_ref() == Some(value))
        {
            return Ok(());
        }
        self.try_store(update, notes)
            .map_err(|err| err.to_string())?;
        self.refresh();
        Ok(())
    }

    fn try_store(
        &mut self,
        mut update: StateUpdate,
        notes: &[(&str, Vec<u8>)],
    ) -> Result<(), redb::Error> {
        self.dirs = None;
        self.files = None;
        // Sorted inserts fill pages one after the other: twice as fast, half the size.
        update.dirs.sort_unstable_by_key(|(key, _)| *key);
        let mut write = self.database.begin_write()?;
        // Losing the last run's rows costs time only, but a torn file would cost a rebuild.
        write.set_durability(Durability::Immediate)?;
        let rules = update.dirs.first().map(|(key, _)| *key);
        write_rows(&write, update)?;
        {
            let mut table = write.open_table(NOTES)?;
            for (name, value) in notes {
                table.insert(*name, value.as_slice())?;
            }
        }
        if let Some(key) = rules {
            retire_rules(&write, &key[..8])?;
        }
        write.commit()?;
        Ok(())
    }
}

fn write_rows(write: &WriteTransaction, update: StateUpdate) -> Result<(), redb::Error> {
    let mut dirs = write.open_table(DIRS)?;
    for (key, fact) in &update.dirs {
        let mut value = [0; 64];
        value[..32].copy_from_slice(&fact.stats.0);
        value[32..].copy_from_slice(&fact.shallow.0);
        dirs.insert(&key[..], &value[..])?;
    }
    let mut files = write.open_table(FILES)?;
    for (key, row) in update.files {
        files.insert(&key[..], row.as_slice())?;
    }
    Ok(())
}

/// A row of new facts and of those old ones that are of other files.
fn merged(mut new: Vec<FileFact>, old: &[[u8; FileFact::BYTES]]) -> Vec<u8> {
    new.sort_unstable_by_key(|fact| fact.ino);
    new.dedup_by_key(|fact| fact.ino);
    let mut row = Vec::with_capacity((new.len() + old.len()) * FileFact::BYTES);
    let mut old = old.iter().peekable();
    for fact in new {
        while let Some(before) = old.next_if(|old| FileFact::ino_of(old) < fact.ino) {
            row.extend_from_slice(before);
        }
        old.next_if(|old| FileFact::ino_of(old) == fact.ino);
        fact.encode(&mut row);
    }
    row.extend(old.flatten());
    row
}

/// Drops the rows of rules that were not used for the longest time, so that every combination of
/// options ever tried does not stay.
fn retire_rules(write: &WriteTransaction, current: &[u8]) -> Result<(), redb::Error> {
    let mut notes = write.open_table(NOTES)?;
    let mut recent: Vec<Vec<u8>> = match notes.get("rules")? {
        Some(value) => value.value().chunks_exact(8).map(<[u8]>::to_vec).collect(),
        None => Vec::new(),
    };
    recent.retain(|rules| rules != current);
    recent.insert(0, current.to_vec());
    let mut dirs = write.open_table(DIRS)?;
    for rules in recent.iter().skip(RULE_SETS) {
        let end: Vec<u8> = rules.iter().copied().chain([0xff; 17]).collect();
        dirs.retain_in(rules.as_slice()..end.as_slice(), |_, _| false)?;
    }
    recent.truncate(RULE_SETS);
    notes.insert("rules", recent.concat().as_slice())?;
    Ok(())
}

fn open_database(path: &Path) -> Result<Database, redb::DatabaseError> {
    use std::os::unix::fs::OpenOptionsExt;
    // The file lists names and sizes of private trees: nobody else reads it.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|err| redb::DatabaseError::Storage(redb::StorageError::Io(err)))?;
    let backend = redb::backends::FileBackend::new(file)?;
    redb::Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(backend)
}

/// Where the database of a root lies: `$XDG_STATE_HOME/cutover/<hash of the path>.redb`.
fn state_path(root: &Path) -> Result<PathBuf, String> {
    use std::os::unix::ffi::OsStrExt;
    let base = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| {
            let home = PathBuf::from(std::env::var_os("HOME")?);
            Some(home.join(".local/state"))
        })
        .ok_or("neither XDG_STATE_HOME nor HOME is set")?;
    let hash = blake3::hash(root.as_os_str().as_bytes()).to_hex();
    Ok(base.join("cutover").join(format!("{}.redb", &hash[..32])))
}

fn dir_key(rules: u64, dir: &Stat) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&rules.to_be_bytes());
    key[8..].copy_from_slice(&file_key(dir));
    key
}

fn file_key(dir: &Stat) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&dir.dev.to_be_bytes());
    key[8..].copy_from_slice(&dir.ino.to_be_bytes());
    key
}

#[cfg(test)]
pub(in crate::manifest) mod tests;
