//! Puts one tree into an archive, directory by directory, and keeps the record of what went into
//! it. Each entry is described as it is when it is packed; its content hash is of what was packed.

use std::collections::HashMap;
use std::io::{self, Write};

use super::content::{Fate, FileContent};
use super::layout::Place;
use super::member::Member;
use super::progress::Progress;
use super::write::Archive;
use crate::entry::{EntryKind, Metadata};
use crate::error::{Error, Result};
use crate::events::{Churn, ChurnKind, Event, Problem, Side};
use crate::fs::{Dir, ListScratch, Users, is_gone};
use crate::manifest::listing::{Lister, Row};
use crate::manifest::record::Entry;
use crate::manifest::spool::Spool;
use crate::path::{Name, RelPath};

/// What became of the trees that were packed.
#[derive(Debug, Default)]
pub(super) struct Packed {
    /// Entries, the roots not counted.
    pub(super) entries: u64,
    /// Files with content of their own.
    pub(super) files: u64,
    /// Their content in bytes.
    pub(super) bytes: u64,
    /// Sockets, which tar cannot hold.
    pub(super) sockets: u64,
    pub(super) problems: u64,
    pub(super) churn: u64,
    /// What is not in the archive as it should be, a line each.
    pub(super) faults: Vec<String>,
}

/// An archive that trees are put into.
pub(super) struct Packer<'a, W> {
    pub(super) archive: Archive<W>,
    pub(super) progress: Progress<'a>,
    pub(super) packed: Packed,
    pub(super) users: Users,
}

/// One tree on its way into the archive.
pub(super) struct Tree<'a> {
    /// What its root is called.
    pub(super) name: &'a Name,
    /// Reads it.
    pub(super) lister: &'a Lister<'a>,
    /// Takes down what was packed.
    pub(super) spool: &'a Spool,
    /// Do not enter directories on another filesystem.
    pub(super) one_file_system: bool,
}

/// An entry whose file may have more names.
struct Leader {
    path: Vec<u8>,
    entry: Entry,
}

/// A directory that is to be packed.
struct Pending {
    path: RelPath,
    entry: Entry,
    dev: u64,
}

impl<'a, W: Write> Packer<'a, W> {
    /// Packs a whole tree. Returns its root's own entry.
    ///
    /// # Errors
    ///
    /// Of the archive, of the root itself, and an interrupt. What else cannot be read is told and
    /// left out.
    pub(super) fn tree(&mut self, tree: &Tree<'_>) -> Result<Entry> {
        let row = tree
            .lister
            .root_entry()
            .map_err(|err| Error::io("read", tree.name.as_bytes(), err))?;
        let root = row.entry.clone();
        let mut leaders = HashMap::new();
        let mut stack = vec![Pending {
            path: RelPath::root(),
            entry: row.entry,
            dev: row.stat.dev,
        }];
        while let Some(dir) = stack.pop() {
            tree.lister.cancel.check()?;
            let head = self.member(tree, &dir.path, &dir.entry);
            self.put(&head).map_err(written)?;
            let is_elsewhere = tree.one_file_system && dir.dev != row.stat.dev;
            if !is_elsewhere {
                let below = self.dir(tree, &dir.path, &mut leaders)?;
                // The last one is taken first.
                stack.extend(below.into_iter().rev());
            }
        }
        Ok(root)
    }

    /// Packs what is in a directory but not in its subdirectories, which it returns.
    fn dir(
        &mut self,
        tree: &Tree<'_>,
        path: &RelPath,
        leaders: &mut HashMap<u64, Leader>,
    ) -> Result<Vec<Pending>> {
        let lister = tree.lister;
        let listed = lister.root.open_dir(path).and_then(|dir| {
            let mut listing = lister.stats(&dir, path, &mut ListScratch::new())?;
            lister.complete(&dir, path, &mut listing)?;
            Ok((dir, listing))
        });
        let (dir, listing) = match listed {
            Ok(listed) => listed,
            Err(err) => {
                lister.cancel.check()?;
                self.unread(tree, "read directory", path, &err);
                return Ok(Vec::new());
            }
        };
        for problem in listing.problems {
            self.problem(tree, problem);
        }
        let mut entries = Vec::with_capacity(listing.rows.len());
        let mut below = Vec::new();
        for row in listing.rows {
            lister.cancel.check()?;
            let path = path.join(&row.entry.name);
            let dev = row.stat.dev;
            let Some(entry) = self.entry(tree, &dir, &path, row, leaders)? else {
                continue;
            };
            self.packed.entries += 1;
            if entry.meta.kind == EntryKind::Dir {
                let entry = entry.clone();
                below.push(Pending { path, entry, dev });
            }
            entries.push(entry);
        }
        tree.spool.put(path, &entries.iter().collect::<Vec<_>>());
        Ok(below)
    }

    /// Packs an entry, but for a directory, of which it only finds out whether it can be packed.
    /// Returns the entry as it is in the archive; `None` where it is not.
    fn entry(
        &mut self,
        tree: &Tree<'_>,
        dir: &Dir,
        path: &RelPath,
        row: Row,
        leaders: &mut HashMap<u64, Leader>,
    ) -> Result<Option<Entry>> {
        let entry = row.entry;
        if let Some(leader) = entry.link.and_then(|link| leaders.get(&link)) {
            let mut member = self.member(tree, path, &leader.entry);
            member.link = Some(leader.path.clone());
            let entry = Entry {
                name: entry.name,
                ..leader.entry.clone()
            };
            return self.put(&member).map(|()| Some(entry)).map_err(written);
        }
        let packed = match entry.meta.kind {
            EntryKind::Socket => {
                self.packed.sockets += 1;
                None
            }
            EntryKind::File => self.file(tree, dir, path, entry)?,
            kind => {
                let member = self.member(tree, path, &entry);
                match member.head() {
                    Err(err) => {
                        self.unread(tree, "pack", path, &err);
                        None
                    }
                    Ok(_) if kind == EntryKind::Dir => Some(entry),
                    Ok(_) => {
                        self.put(&member).map_err(written)?;
                        Some(entry)
                    }
                }
            }
        };
        if let Some(entry) = &packed
            && let Some(link) = entry.link
        {
            let place = Place::Entry(tree.name.clone(), path.clone());
            leaders.insert(
                link,
                Leader {
                    path: place.path(),
                    entry: entry.clone(),
                },
            );
        }
        Ok(packed)
    }

    fn file(
        &mut self,
        tree: &Tree<'_>,
        dir: &Dir,
        path: &RelPath,
        mut entry: Entry,
    ) -> Result<Option<Entry>> {
        let content = match FileContent::open(dir, &entry.name) {
            Ok(content) => content,
            // It is no file any more.
            Err(err) if err.kind() == io::ErrorKind::InvalidInput => {
                self.churn(tree, path, ChurnKind::Changed);
                return Ok(None);
            }
            Err(err) => {
                self.unread(tree, "read", path, &err);
                return Ok(None);
            }
        };
        entry.meta = content.meta();
        let mut member = self.member(tree, path, &entry);
        member.extents = content.extents();
        let head = match member.head() {
            Ok(head) => head,
            Err(err) => {
                self.unread(tree, "pack", path, &err);
                return Ok(None);
            }
        };
        let mut out = self.archive.begin(&member, &head).map_err(written)?;
        let progress = &mut self.progress;
        let told = Place::Entry(tree.name.clone(), path.clone());
        let told = RelPath::new(&told.path()).unwrap_or_default();
        let mut put = |bytes: &[u8]| {
            progress.add(bytes.len() as u64, &told);
            out.write(bytes).map(drop)
        };
        let (hash, fate) = content.pack(&mut put, tree.lister.cancel)?;
        out.finish().map_err(written)?;
        entry.content = Some(hash);
        self.packed.files += 1;
        self.packed.bytes += entry.meta.size;
        self.progress.file();
        match fate {
            Fate::Whole => {}
            Fate::Changed => self.churn(tree, path, ChurnKind::Changed),
            Fate::Torn(err) => self.torn(tree, path, &err),
        }
        Ok(Some(entry))
    }

    fn member(&self, tree: &Tree<'_>, path: &RelPath, entry: &Entry) -> Member {
        let Metadata { uid, gid, .. } = entry.meta;
        Member {
            path: Place::Entry(tree.name.clone(), path.clone()).path(),
            meta: entry.meta,
            target: entry.target.clone(),
            xattrs: entry.xattrs.clone(),
            link: None,
            extents: None,
            user: self.users.user_name(uid).unwrap_or_default(),
            group: self.users.group_name(gid).unwrap_or_default(),
        }
    }

    /// Appends a member without content.
    pub(super) fn put(&mut self, member: &Member) -> io::Result<()> {
        let head = member.head()?;
        self.archive.begin(member, &head)?.finish().map(drop)
    }

    /// Tells what cannot be packed, or is no longer there.
    fn unread(&mut self, tree: &Tree<'_>, act: &str, path: &RelPath, err: &io::Error) {
        if is_gone(err) {
            return self.churn(tree, path, ChurnKind::Vanished);
        }
        let problem = problem(act, path, err);
        self.problem(tree, problem);
    }

    fn problem(&mut self, tree: &Tree<'_>, problem: Problem) {
        let Problem {
            act, path, reason, ..
        } = &problem;
        self.fault(tree, &format!("cannot {act}"), path, reason);
        self.packed.problems += 1;
        self.progress.tell(Event::Problem(problem));
    }

    /// A file of which the archive has the front, and zeros for the rest.
    fn torn(&mut self, tree: &Tree<'_>, path: &RelPath, err: &io::Error) {
        self.fault(tree, "incomplete, ends in zeros", path, &err.to_string());
        self.packed.problems += 1;
        self.progress
            .tell(Event::Problem(problem("read", path, err)));
    }

    fn churn(&mut self, tree: &Tree<'_>, path: &RelPath, kind: ChurnKind) {
        let why = match kind {
            ChurnKind::Changed => "it changed while it was read",
            ChurnKind::Vanished => "it vanished",
        };
        self.fault(tree, "unsettled", path, why);
        self.packed.churn += 1;
        let path = path.clone();
        self.progress.tell(Event::Churn(Churn { path, kind }));
    }

    /// Notes a fault for who opens the bundle one day.
    fn fault(&mut self, tree: &Tree<'_>, what: &str, path: &RelPath, why: &str) {
        /// More lines than anybody reads.
        const ENOUGH: usize = 10_000;
        if self.packed.faults.len() < ENOUGH {
            let line = format!("{what}: {}/{path}: {why}", tree.name);
            self.packed.faults.push(line);
        }
    }
}

fn problem(act: &str, path: &RelPath, err: &io::Error) -> Problem {
    Problem {
        side: Side::Source,
        act: act.to_string(),
        path: path.clone(),
        reason: err.to_string(),
        os_error: err.raw_os_error(),
    }
}

/// An archive that cannot be written to. Which file that is, its draft knows.
pub(super) fn written(err: io::Error) -> Error {
    Error::io("write", "the bundle", err)
}
