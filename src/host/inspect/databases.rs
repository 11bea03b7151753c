//! Finds SQLite databases below a root, with the files beside them that belong to them, and checks
//! them. Formats are those of SQLite's own pages "Database File Format" and "WAL-mode File
//! Format".

mod check;
mod header;

use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};
use crate::events::Cancel;
use crate::fs::{Dir, Stat};
use crate::path::{Name, RelPath};
use crate::protocol::errand::Database;

use super::limits::Bounded;
use super::open_root;
use super::walk::{Found, Visit, walk};
use check::Checker;

/// More databases in one root than this are an error: a list that leaves some out would let a
/// broken one pass.
const MOST_DATABASES: usize = 10_000;

/// The least that a database takes: a page of the smallest size.
const LEAST_BYTES: u64 = 512;

/// What SQLite puts behind a database's name for the files that belong to it.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The databases below `root`, sorted by name. With `check` each is put through SQLite's own
/// check, with the tree left as it is.
pub(super) fn find(root: &str, check: bool, cancel: &Cancel) -> Result<Vec<Database>> {
    let dir = open_root(root)?;
    let searches = walk(&dir, cancel, || Search {
        databases: Bounded::new(MOST_DATABASES),
    })?;
    let lists = searches.into_iter().map(|search| search.databases);
    let (mut databases, others) = Bounded::join(lists, MOST_DATABASES).finish();
    if others > 0 {
        return Err(Error::Refused(format!(
            "{root} holds more than {MOST_DATABASES} SQLite databases; give its parts as roots of \
             their own"
        )));
    }
    if check {
        let checker = Checker::new(root, &dir, cancel)?;
        for found in &mut databases {
            cancel.check()?;
            found.database.fault = checker.fault(&found.path)?;
        }
    }
    Ok(databases.into_iter().map(|found| found.database).collect())
}

/// A database with its path, whose bytes the answer does not have.
pub(super) struct Located {
    path: RelPath,
    pub(super) database: Database,
}

struct Search {
    databases: Bounded<Located>,
}

impl Visit for Search {
    fn entry(&mut self, found: &Found<'_>) {
        if !found.is_file() || !is_database(found) {
            return;
        }
        let path = found.path();
        if let Some(set) = Set::look(found.dir, found.name) {
            self.databases.push(Located {
                database: set.describe(&path),
                path,
            });
        }
    }
}

/// Looks at the size before it opens: most files of a tree are small.
fn is_database(found: &Found<'_>) -> bool {
    let has_room = |stat: Stat| stat.meta.size >= LEAST_BYTES;
    if !found.dir.stat(found.name).is_ok_and(has_room) {
        return false;
    }
    let mut magic = [0; header::MAGIC.len()];
    let opened = found.open();
    opened.is_ok_and(|(file, _)| file.read_exact_at(&mut magic, 0).is_ok())
        && magic == *header::MAGIC
}

/// A database and the files that belong to it, as they are at a moment.
struct Set {
    main: Stat,
    /// In the order of [`BESIDE`].
    beside: [Option<Stat>; 3],
}

impl Set {
    /// `None` where the database is gone by now.
    fn look(dir: &Dir, name: &Name) -> Option<Set> {
        let stat_of = |suffix: &str| {
            let name = [name.as_bytes(), suffix.as_bytes()].concat();
            dir.stat(&Name::new(&name).ok()?).ok()
        };
        Some(Set {
            main: stat_of("")?,
            beside: BESIDE.map(stat_of),
        })
    }

    fn wal_bytes(&self) -> u64 {
        self.beside[0].map_or(0, |stat| stat.meta.size)
    }

    /// Everything that a write to one of the files changes, digested.
    fn stamp(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for stat in [&Some(self.main)].into_iter().chain(&self.beside) {
            let Some(stat) = stat else {
                hasher.update(&[0]);
                continue;
            };
            hasher.update(&[1]);
            hasher.update(&stat.meta.size.to_le_bytes());
            for time in [stat.meta.mtime, stat.ctime] {
                hasher.update(&time.secs.to_le_bytes());
                hasher.update(&time.nanos.to_le_bytes());
            }
        }
        hasher.finalize().into()
    }

    fn describe(&self, path: &RelPath) -> Database {
        let present = BESIDE.iter().zip(&self.beside);
        let present = present.filter(|(_, stat)| stat.is_some());
        Database {
            path: path.to_string(),
            stamp: self.stamp(),
            beside: present.map(|(suffix, _)| suffix.to_string()).collect(),
            wal_bytes: self.wal_bytes(),
            fault: None,
        }
    }
}

#[cfg(test)]
mod tests;
