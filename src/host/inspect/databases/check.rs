//! Puts a database through SQLite's integrity check and leaves the tree as it is.
//!
//! SQLite changes what it opens: it makes `-shm`, copies a log back and removes it, rolls a journal
//! back. So a database without either is opened as one that nobody changes (`immutable`), which
//! touches nothing, and else it is copied with them into a private directory. That directory is
//! never in the tree.
//!
//! A database may be made to do harm. Nothing of its schema is trusted, extensions are off, and a
//! journal that names other files is not given to SQLite, which would remove a file of that name.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::events::Cancel;
use crate::fs::{self, Dir, ListScratch, Sparse, Stat, Users};
use crate::path::{Name, RelPath, escape};

use super::Set;
use super::header::{Journal, disproof_of_wal, journal};

/// How often a database is checked whose files change meanwhile.
const ATTEMPTS: usize = 3;

/// How much of what SQLite says is told.
const FAULT_CHARS: usize = 300;

/// The longest path that SQLite opens is 512 bytes; databases further down are copied.
const SQLITE_PATH_BYTES: usize = 500;

/// How long it may take until a wish to stop reaches SQLite.
const PATIENCE: Duration = Duration::from_millis(50);

/// What must be free beside the files' own size: SQLite's index of the log, and directories.
const SPARE_BYTES: u64 = 1 << 20;

/// The age from which a scratch directory is taken for one that a killed process left: longer than
/// any check takes.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Checks the databases of one root.
pub(super) struct Checker<'a> {
    /// The root without symlinks.
    root: PathBuf,
    dir: &'a Dir,
    cancel: &'a Cancel,
}

/// Why a database is not sound, or not known to be; nothing where it is.
type Fault = Option<String>;

impl Checker<'_> {
    /// For the databases below `root`, which is open as `dir`.
    pub(super) fn new<'a>(root: &str, dir: &'a Dir, cancel: &'a Cancel) -> Result<Checker<'a>> {
        let canonical = Path::new(root).canonicalize();
        Ok(Checker {
            root: canonical.map_err(|err| Error::io("resolve", root, err))?,
            dir,
            cancel,
        })
    }

    /// Checks one database as it is; what changes meanwhile is checked again.
    pub(super) fn fault(&self, path: &RelPath) -> Result<Fault> {
        for _ in 0..ATTEMPTS {
            let outcome = self.attempt(path);
            self.cancel.check()?;
            match outcome {
                Ok(Some(fault)) => return Ok(fault),
                Ok(None) => {}
                Err(err) => return Ok(Some(format!("could not be checked: {err}"))),
            }
        }
        Ok(Some(
            "could not be checked: it, or what leads to it, changes all the time".to_owned(),
        ))
    }

    /// `None` where the files changed while they were looked at, or what leads to them.
    fn attempt(&self, path: &RelPath) -> io::Result<Option<Fault>> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let (parent, name) = path.parent().zip(path.file_name()).ok_or_else(gone)?;
        let dir = self.dir.open_dir(&parent)?;
        let before = Set::look(&dir, &name).ok_or_else(gone)?.stamp();
        let fault = self.check(&dir, &name, path)?;
        let after = Set::look(&dir, &name).map(|set| set.stamp());
        Ok(fault.filter(|_| after == Some(before)))
    }

    fn check(&self, dir: &Dir, name: &Name, path: &RelPath) -> io::Result<Option<Fault>> {
        let main = dir.open_file(name)?;
        let wal = open_beside(dir, name, b"-wal")?;
        let journal_file = open_beside(dir, name, b"-journal")?;
        let journal_holds = journal_file.as_ref().map_or(Ok(Journal::Done), journal)?;
        if let Some(wal) = &wal
            && let Some(why) = disproof_of_wal(&main, wal)?
        {
            return Ok(Some(Some(format!(
                "the -wal beside it is not its own: {why}; its changes would be written into it"
            ))));
        }
        if journal_holds == Journal::HotWithOthers {
            return Ok(Some(Some(
                "could not be checked: the -journal beside it is of a transaction over several \
                 databases; let the service end it"
                    .to_owned(),
            )));
        }
        let at = self.root.join(path.as_os_str());
        let is_alone = wal.is_none() && journal_holds == Journal::Done;
        if is_alone && at.as_os_str().len() <= SQLITE_PATH_BYTES {
            return self.judge_in_place(&main, &at);
        }
        let journal = journal_file.filter(|_| journal_holds == Journal::Hot);
        let scratch = Scratch::make(&self.root, size_of_set(&main, &wal)?)?;
        let copied = self.copy(&scratch, &main, &wal, &journal);
        let fault = copied.map(|()| self.judge(open_copy(&scratch.path)));
        scratch.remove()?;
        fault.map(Some)
    }

    /// Lets SQLite judge a database where it is. It opens nothing but paths, and follows even those
    /// below `/proc/self/fd` itself; so the path is asked before and after whether it leads to
    /// `main`, which was found to be a file of the tree. `None` where it does not.
    fn judge_in_place(&self, main: &File, at: &Path) -> io::Result<Option<Fault>> {
        let main = fs::stat_file(main)?;
        let leads_there = || fs::stat_path(at).is_ok_and(|found| found.is_same_inode(&main));
        if !leads_there() {
            return Ok(None);
        }
        let fault = self.judge(open_immutable(at));
        Ok(leads_there().then_some(fault))
    }

    fn copy(
        &self,
        scratch: &Scratch,
        main: &File,
        wal: &Option<File>,
        journal: &Option<File>,
    ) -> io::Result<()> {
        let set = [
            ("db", Some(main)),
            ("db-wal", wal.as_ref()),
            ("db-journal", journal.as_ref()),
        ];
        for (name, file) in set {
            let Some(from) = file else { continue };
            let to = scratch
                .dir
                .create_new(&Name::new(name.as_bytes()).map_err(io::Error::other)?)?;
            let size = from.metadata()?.len();
            let mut progress = |_| self.cancel.check().map_err(io::Error::other);
            fs::copy_content(from, &to, size, Sparse::Keep, &mut progress)?;
        }
        Ok(())
    }

    /// Lets SQLite judge what it opened.
    fn judge(&self, opened: rusqlite::Result<Connection>) -> Fault {
        let judged = opened.and_then(|database| self.check_integrity(&database));
        match judged {
            Ok(said) if said == "ok" => None,
            Ok(said) => Some(printable(&said)),
            Err(rusqlite::Error::SqliteFailure(code, said)) => Some(match code.code {
                rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase => {
                    printable(&said.unwrap_or_else(|| code.to_string()))
                }
                _ => could_not(&said.unwrap_or_else(|| code.to_string())),
            }),
            Err(err) => Some(could_not(&err.to_string())),
        }
    }

    /// The first thing that the check complains about, or "ok".
    fn check_integrity(&self, database: &Connection) -> rusqlite::Result<String> {
        database.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        database.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        let handle = database.get_interrupt_handle();
        let (done, wait) = channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while wait.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                    if self.cancel.is_cancelled() {
                        handle.interrupt();
                    }
                }
            });
            let said = database.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
            drop(done);
            said
        })
    }
}

fn could_not(why: &str) -> String {
    format!("could not be checked: {}", printable(why))
}

/// What SQLite says, in one line.
fn printable(said: &str) -> String {
    let said = said.lines().collect::<Vec<_>>().join("; ");
    escape(said.as_bytes()).chars().take(FAULT_CHARS).collect()
}

/// Opens a file that belongs to the database; none where it is missing or holds nothing.
fn open_beside(dir: &Dir, name: &Name, suffix: &[u8]) -> io::Result<Option<File>> {
    // A name that is too long for a filesystem is no file's.
    let Ok(name) = Name::new(&[name.as_bytes(), suffix].concat()) else {
        return Ok(None);
    };
    match dir.open_file(&name) {
        Ok(file) => Ok((file.metadata()?.len() > 0).then_some(file)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

fn open_immutable(path: &Path) -> rusqlite::Result<Connection> {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => uri.push(byte.into()),
            byte => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri.push_str("?mode=ro&immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

fn open_copy(scratch: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(scratch.join("db"), flags)
}

/// What a copy takes, with the log once more, as it is written into the database.
fn size_of_set(main: &File, wal: &Option<File>) -> io::Result<u64> {
    let wal = wal
        .as_ref()
        .map_or(Ok(0), |wal| wal.metadata().map(|meta| meta.len()))?;
    let size = main.metadata()?.len();
    Ok(size
        .saturating_add(wal.saturating_mul(2))
        .saturating_add(SPARE_BYTES))
}

/// A private directory outside of the tree.
struct Scratch {
    parent: Dir,
    name: Name,
    dir: Dir,
    path: PathBuf,
}

impl Scratch {
    /// Makes one where there is room, in the directory for temporary files or in `/var/tmp`, which
    /// is on disk where the former is in memory.
    fn make(root: &Path, bytes: u64) -> io::Result<Scratch> {
        let places = [std::env::temp_dir(), PathBuf::from("/var/tmp")];
        let has_room = |place: &PathBuf| {
            let canonical = place.canonicalize();
            let is_outside = canonical.is_ok_and(|place| !place.starts_with(root));
            is_outside && fs::volume(place).is_ok_and(|volume| volume.free_bytes >= bytes)
        };
        let Some(place) = places.iter().find(|place| has_room(place)) else {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!(
                    "a copy of it needs {} MiB in {} or /var/tmp; make room, or set TMPDIR",
                    bytes.div_ceil(1 << 20),
                    places[0].display()
                ),
            ));
        };
        let parent = Dir::open_root(place)?;
        let stem = Name::new(b"check").map_err(io::Error::other)?;
        Scratch::sweep(&parent, place, &stem);
        let name = fs::temp_name(&stem);
        parent.make_dir(&name, 0o700)?;
        Ok(Scratch {
            dir: parent.open_child(&name)?,
            path: place.join(name.as_os_str()),
            parent,
            name,
        })
    }

    /// Removes what killed processes of this user left in `place`. What cannot be removed is in
    /// nobody's way.
    fn sweep(parent: &Dir, place: &Path, stem: &Name) {
        let mut left = Vec::new();
        let listed = parent.list(&mut ListScratch::new(), &mut |name, _, _| {
            if fs::temp_belongs_to(name, stem) {
                left.extend(Name::new(name));
            }
        });
        for name in left.into_iter().filter(|_| listed.is_ok()) {
            if parent.stat(&name).is_ok_and(|stat| is_abandoned(&stat))
                && let (Ok(parent), Ok(dir)) = (parent.try_clone(), parent.open_child(&name))
            {
                let path = place.join(name.as_os_str());
                let _ = Scratch {
                    parent,
                    name,
                    dir,
                    path,
                }
                .remove();
            }
        }
    }

    fn remove(self) -> io::Result<()> {
        let mut names = Vec::new();
        self.dir.list(&mut ListScratch::new(), &mut |name, _, _| {
            names.extend(Name::new(name));
        })?;
        for name in names {
            self.dir.unlink(&name)?;
        }
        self.parent.remove_dir(&self.name)
    }
}

/// Whether a scratch directory is this user's, and too old to be in use.
fn is_abandoned(stat: &Stat) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let age_secs = now.map_or(0, |now| now.as_secs() as i64) - stat.meta.mtime.secs;
    stat.meta.kind == EntryKind::Dir
        && stat.meta.uid == Users::effective_uid()
        && age_secs > ABANDONED_AFTER.as_secs() as i64
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_scratch_directory_is_private_and_goes_with_all_in_it() {
        let scratch = Scratch::make(Path::new("/nowhere"), 1).unwrap();
        let path = scratch.path.clone();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        for name in ["db", "db-wal", "db-shm"] {
            std::fs::write(path.join(name), "x").unwrap();
        }
        scratch.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_scratch_directory_is_not_made_in_the_tree() {
        let tree = std::env::temp_dir().canonicalize().unwrap();
        match Scratch::make(&tree, 1) {
            Ok(scratch) => {
                assert!(!scratch.path.starts_with(&tree));
                scratch.remove().unwrap();
            }
            Err(err) => assert_eq!(err.kind(), io::ErrorKind::StorageFull),
        }
    }

    #[test]
    fn what_a_killed_process_left_is_swept_when_it_is_old() {
        let place = tempfile::tempdir().unwrap();
        let stem = Name::new(b"check").unwrap();
        let parent = Dir::open_root(place.path()).unwrap();
        let left = ["old", "new", "others"].map(|kind| {
            let name = match kind {
                "others" => Name::new(b".cache.cutover-01234567").unwrap(),
                _ => fs::temp_name(&stem),
            };
            let path = place.path().join(name.as_os_str());
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("db"), "x").unwrap();
            if kind != "new" {
                let old = SystemTime::now() - ABANDONED_AFTER - Duration::from_secs(2);
                File::open(&path).unwrap().set_modified(old).unwrap();
            }
            path
        });
        Scratch::sweep(&parent, place.path(), &stem);
        assert_eq!(left.map(|path| path.exists()), [false, true, true]);
    }

    #[test]
    fn what_is_said_in_lines_is_told_in_one() {
        let said = "*** in database main ***\nTree 3 page 21: invalid page number 7";
        let told = "*** in database main ***; Tree 3 page 21: invalid page number 7";
        assert_eq!(printable(said), told);
    }

    #[test]
    fn a_path_that_leads_elsewhere_meanwhile_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let [root, moved] = ["root", "moved"].map(|name| place.path().join(name));
        std::fs::create_dir(&root).unwrap();
        Connection::open(root.join("db"))
            .unwrap()
            .execute_batch("CREATE TABLE t (x)")
            .unwrap();
        let (dir, cancel) = (Dir::open_root(&root).unwrap(), Cancel::new());
        let checker = Checker::new(root.to_str().unwrap(), &dir, &cancel).unwrap();
        let path = RelPath::new(b"db").unwrap();
        assert_eq!(checker.fault(&path).unwrap(), None);
        std::fs::rename(&root, &moved).unwrap();
        std::fs::create_dir(&root).unwrap();
        // Opening this would wait for a writer.
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("db"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let fault = checker.fault(&path).unwrap();
        assert!(fault.is_some_and(|said| said.contains("leads to it")));
    }

    #[test]
    fn too_little_room_is_told_with_what_is_needed() {
        let err = Scratch::make(Path::new("/nowhere"), 1 << 62).err().unwrap();
        assert!(err.to_string().contains("MiB in"), "{err}");
    }
}
