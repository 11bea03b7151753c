//! What earlier runs learnt of a root, in an embedded database. A cache: a run is right without
//! it, and every row is believed only where the file or directory is as it was.

mod blocks;
mod facts;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition,
    WriteTransaction,
};

pub use blocks::BlockBook;
pub use facts::{FactBook, FileFact, KnownFacts};
use facts::{encode_facts, join_facts};

use crate::delta::Subtrees;
use crate::digest::Digest;
use crate::fs::Stat;

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
    tables: RwLock<Tables>,
    /// Rows were added that no durable transaction has confirmed.
    spilled: AtomicBool,
}

/// What is read during a run: all of it as it was when the run began.
#[derive(Debug, Default)]
struct Tables {
    dirs: Option<ReadOnlyTable<&'static [u8], &'static [u8]>>,
    files: Option<ReadOnlyTable<&'static [u8], &'static [u8]>>,
    blocks: Option<blocks::Table>,
}

/// What a directory's entries digested to when they last were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirFact {
    /// Over what `statx` said of the entries.
    pub stats: Digest,
    /// Over their records.
    pub shallow: Digest,
    /// Over the records of each bucket of a huge directory, cut to 8 bytes.
    pub buckets: Box<[u64]>,
}

/// A directory's files.
type FilesRow = ([u8; 16], Vec<FileFact>);

/// New rows, kept in memory until the run has succeeded.
#[derive(Debug, Default)]
pub struct StateUpdate {
    dirs: Vec<([u8; 24], DirFact)>,
    files: Vec<FilesRow>,
    /// Joined with the rows of the same directories, whichever run they are of.
    added: Vec<FilesRow>,
    blocks: blocks::BlocksUpdate,
    held_bytes: usize,
}

impl StateUpdate {
    /// Keeps what a directory digested to.
    pub fn dir(&mut self, rules: u64, dir: &Stat, fact: DirFact) {
        self.held_bytes += size_of::<([u8; 24], DirFact)>() + 8 * fact.buckets.len();
        self.dirs.push((dir_key(rules, dir), fact));
    }

    /// Keeps what a directory's files hashed to.
    pub fn files(&mut self, dir: &Stat, mut facts: Vec<FileFact>) {
        facts.sort_unstable_by_key(|fact| fact.ino);
        facts.dedup_by_key(|fact| fact.ino);
        self.held_bytes += 48 + facts.len() * size_of::<FileFact>();
        self.files.push((file_key(dir), facts));
    }

    /// Adds what some of a directory's files hashed to.
    pub fn add_files(&mut self, dir: &Stat, facts: Vec<FileFact>) {
        self.added.push((file_key(dir), facts));
    }

    /// About how much memory the rows take, those of large files' blocks apart.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Takes another update's rows.
    pub fn absorb(&mut self, mut other: StateUpdate) {
        self.dirs.append(&mut other.dirs);
        self.files.append(&mut other.files);
        self.added.append(&mut other.added);
        self.blocks.absorb(other.blocks);
        self.held_bytes += other.held_bytes;
    }

    /// Keeps the values of large files' blocks.
    pub fn blocks(&mut self, book: &BlockBook) {
        self.blocks.take(book);
    }

    /// Takes back what was learnt of files whose content changed behind their size and mtime: a
    /// run that has not made both sides equal must leave them to be found by the next.
    pub fn keep_suspects(&mut self, state: &State) {
        for (dir, facts) in self.files.iter_mut().chain(&mut self.added) {
            let known = state.facts_at(dir);
            for fact in facts {
                if let Some((_, old)) = known.find(fact.ino)
                    && old.is_contradicted_by(fact)
                {
                    *fact = old;
                }
            }
        }
    }

    /// Sorted inserts fill pages one after the other: twice as fast, half the size.
    fn sort(&mut self) {
        self.dirs.sort_unstable_by_key(|(key, _)| *key);
        self.files.sort_unstable_by_key(|(key, _)| *key);
    }

    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.dirs.is_empty()
            && self.files.is_empty()
            && self.added.is_empty()
            && self.blocks.is_empty()
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
        Ok(State::of(database))
    }

    fn of(database: Database) -> State {
        let state = State {
            database,
            tables: RwLock::default(),
            spilled: AtomicBool::new(false),
        };
        state.refresh();
        state
    }

    fn refresh(&self) {
        if let Ok(read) = self.database.begin_read() {
            *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Tables {
                dirs: read.open_table(DIRS).ok(),
                files: read.open_table(FILES).ok(),
                blocks: blocks::open(&read),
            };
        }
    }

    fn tables(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a directory digested to under these rules. Whether its entries are as they were is
    /// for the caller to see.
    pub fn dir(&self, rules: u64, dir: &Stat) -> Option<DirFact> {
        let tables = self.tables();
        let row = tables.dirs.as_ref()?.get(&dir_key(rules, dir)[..]).ok()??;
        let (stats, rest) = row.value().split_first_chunk::<32>()?;
        let (shallow, buckets) = rest.split_first_chunk::<32>()?;
        let buckets = buckets.as_chunks().0.iter();
        Some(DirFact {
            stats: Digest(*stats),
            shallow: Digest(*shallow),
            buckets: buckets.map(|bytes| u64::from_le_bytes(*bytes)).collect(),
        })
    }

    /// What the files of a directory hashed to.
    pub fn facts(&self, dir: &Stat) -> KnownFacts {
        self.facts_at(&file_key(dir))
    }

    fn facts_at(&self, dir: &[u8; 16]) -> KnownFacts {
        let tables = self.tables();
        let row = tables
            .files
            .as_ref()
            .and_then(|table| table.get(&dir[..]).ok().flatten());
        KnownFacts(row)
    }

    /// The values of a large file's blocks, where it is as it was.
    pub fn blocks(&self, file: &Stat) -> Option<Subtrees> {
        blocks::read(self.tables().blocks.as_ref()?, file)
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
    pub fn store(&self, update: StateUpdate, notes: &[(&str, Vec<u8>)]) -> Result<(), String> {
        if update.is_empty()
            && !self.spilled.load(Ordering::Relaxed)
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

    /// Adds rows while a scan goes on, so that they need not be held until its end. Only what the
    /// scan found may go this way: it is true whatever becomes of the run. Of
    /// [suspects](StateUpdate::keep_suspects) what was known stays. Nobody reads the rows, and a
    /// power cut may lose them, before [`State::store`]. What fails is not remembered.
    pub fn spill(&self, mut update: StateUpdate) {
        self.spilled.store(true, Ordering::Relaxed);
        update.keep_suspects(self);
        update.sort();
        // The next run reads again what is not there.
        let _ = self.try_spill(update);
    }

    fn try_spill(&self, update: StateUpdate) -> Result<(), redb::Error> {
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::None)?;
        write_rows(&write, update)?;
        write.commit()?;
        Ok(())
    }

    fn try_store(
        &self,
        mut update: StateUpdate,
        notes: &[(&str, Vec<u8>)],
    ) -> Result<(), redb::Error> {
        // Rows that are still being read would keep the pages of all that are replaced.
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Tables::default();
        update.sort();
        let mut write = self.database.begin_write()?;
        // Losing the last run's rows costs time only, but a torn file would cost a rebuild.
        write.set_durability(Durability::Immediate)?;
        update.blocks.write(&write)?;
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
    let mut value = Vec::new();
    for (key, fact) in &update.dirs {
        value.clear();
        value.extend_from_slice(&fact.stats.0);
        value.extend_from_slice(&fact.shallow.0);
        value.extend(fact.buckets.iter().flat_map(|cut| cut.to_le_bytes()));
        dirs.insert(&key[..], value.as_slice())?;
    }
    let mut files = write.open_table(FILES)?;
    for (key, facts) in update.files {
        encode_facts(&facts, &mut value);
        // Of a huge directory they are many: the database is about to copy them.
        drop(facts);
        files.insert(&key[..], value.as_slice())?;
    }
    for (key, facts) in update.added {
        let old = files.get(&key[..])?;
        join_facts(
            facts,
            old.as_ref().map_or(&[], |row| row.value()),
            &mut value,
        );
        drop(old);
        files.insert(&key[..], value.as_slice())?;
    }
    Ok(())
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

/// What is kept of a root outside of it, but for its last name's end:
/// `$XDG_STATE_HOME/cutover/<hash of the path>`. The directory need not be there.
pub fn state_stem(root: &Path) -> Result<PathBuf, String> {
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
    Ok(base.join("cutover").join(&hash[..32]))
}

/// Where the database of a root lies.
fn state_path(root: &Path) -> Result<PathBuf, String> {
    Ok(state_stem(root)?.with_extension("redb"))
}

fn dir_key(rules: u64, dir: &Stat) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&rules.to_be_bytes());
    key[8..].copy_from_slice(&file_key(dir));
    key
}

fn file_key(inode: &Stat) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&inode.dev.to_be_bytes());
    key[8..].copy_from_slice(&inode.ino.to_be_bytes());
    key
}

#[cfg(test)]
pub(in crate::manifest) mod tests;
