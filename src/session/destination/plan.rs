//! What a run is going to do, before any of it is done: so that it can be printed by a dry run,
//! and refused while nothing has been touched.

mod packed;

use std::collections::BTreeMap;

use crate::entry::{EntryKind, Timestamp};
use crate::error::{Error, Result};
use crate::events::Changes;
use crate::manifest::compact::Compact;
use crate::manifest::record::{Entry, RecordRules};
use crate::options::{Compare, Delete, DeleteLimit};
use crate::path::RelPath;
use crate::protocol::message::Scanned;
use crate::units::counted;

/// Fewer deletions than this are never refused by the built-in guard.
const GUARD_MIN: u64 = 100;

/// Everything that makes the destination like the source.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Directories of which only metadata differs.
    pub(super) dir_attributes: Vec<Differing>,
    /// Other entries of which only metadata differs.
    pub(super) attributes: Compact<Differing>,
    /// Files whose content differs or that are new, by path.
    pub(super) files: Compact<FilePlan>,
    /// Directories to make whose content is planned entry by entry.
    pub(super) dirs: Vec<(RelPath, Entry)>,
    /// Symlinks and special files to make.
    pub(super) specials: Compact<FilePlan>,
    /// Directories that come whole.
    pub(super) trees: Vec<NewTree>,
    /// Entries to rename.
    pub(super) moves: Compact<Relocation>,
    /// Entries to copy from others of the destination.
    pub(super) copies: Compact<Relocation>,
    /// Files to copy over those that have their names, in rounds: each after the copies and the
    /// round before it, which read what it replaces.
    pub(super) shifts: Vec<Compact<Relocation>>,
    /// Names to link.
    pub(super) links: Vec<PlannedLink>,
    /// Linked files of which content differs, until it is known which name leads.
    pub(super) linked: BTreeMap<RelPath, FilePlan>,
    /// Entries that only the destination has.
    pub(super) extraneous: Compact<Extraneous>,
    /// What stands where something of another kind shall be; always a directory or in the way of
    /// one.
    pub(super) conflicts: Vec<Extraneous>,
}

/// An entry that is on both sides and differs.
#[derive(Debug, Clone)]
pub(super) struct Differing {
    pub(super) path: RelPath,
    pub(super) new: Entry,
    /// Its metadata and attributes; the rest may be the new one's.
    pub(super) old: Entry,
    pub(super) changes: Changes,
}

/// An entry that is to be made or replaced. Its name is its path's.
#[derive(Debug, Clone)]
pub(in crate::session) struct FilePlan {
    pub(in crate::session) path: RelPath,
    pub(in crate::session) entry: Entry,
    /// The size of the old file, where there is one to build on.
    pub(in crate::session) basis_len: Option<u64>,
    pub(in crate::session) changes: Changes,
}

/// A directory that the destination does not have.
#[derive(Debug, Clone)]
pub(super) struct NewTree {
    pub(super) path: RelPath,
    pub(super) entry: Entry,
    pub(super) deep: crate::digest::Digest,
}

/// An entry that is elsewhere in the destination already. Only its paths name it.
#[derive(Debug, Clone)]
pub(super) struct Relocation {
    pub(super) from: RelPath,
    pub(super) to: RelPath,
    pub(super) entry: Entry,
    /// How many entries it is, itself included.
    pub(super) entries: u64,
    pub(super) changes: Changes,
}

/// A name to be made another one of an entry that has its content by then.
#[derive(Debug)]
pub(super) struct PlannedLink {
    pub(super) path: RelPath,
    pub(super) leader: RelPath,
    pub(super) kind: EntryKind,
}

/// An entry that only the destination has.
#[derive(Debug, Clone)]
pub(super) struct Extraneous {
    pub(super) path: RelPath,
    pub(super) kind: EntryKind,
    /// How many entries it is, itself included.
    pub(super) entries: u64,
    /// Whether everything beneath it takes part.
    pub(super) whole: bool,
    pub(super) size: u64,
    pub(super) mtime: Timestamp,
    /// Whether it is on another filesystem than the root.
    pub(super) elsewhere: bool,
}

impl Plan {
    /// Takes over what listing new directories has shown, but for the directories in them, which
    /// are returned.
    pub(super) fn absorb(&mut self, level: Plan) -> Vec<NewTree> {
        self.dirs.extend(level.dirs);
        self.files.extend(level.files);
        self.specials.extend(level.specials);
        self.linked.extend(level.linked);
        level.trees
    }

    /// How many entries a deletion of the rest would take.
    pub(super) fn extraneous_entries(&self) -> u64 {
        self.extraneous.iter().map(|extra| extra.entries).sum()
    }

    /// Leaves alone what is on another filesystem than the root.
    pub(super) fn spare_mounts(&mut self) {
        self.extraneous.retain(|extra| !extra.elsewhere);
    }

    /// Refuses deletions that nobody can have meant. Called before anything is changed.
    pub(super) fn guard(
        &self,
        delete: Delete,
        source: &Scanned,
        destination_entries: u64,
    ) -> Result<()> {
        let is_dir = |conflict: &&Extraneous| conflict.kind == EntryKind::Dir;
        let replaced = self.conflicts.iter().filter(is_dir);
        // A directory that makes way for something else takes with it what is in it.
        let within: u64 = replaced.map(|conflict| conflict.entries - 1).sum();
        let doomed = self.extraneous_entries() + within;
        if doomed == 0 {
            return Ok(());
        }
        if source.entries == 0 && delete.max.is_none() {
            return Err(refused(
                doomed,
                "the source is empty",
                "look whether it is mounted",
            ));
        }
        if source.moved_device && delete.max.is_none() {
            return Err(refused(
                doomed,
                "the source is on another device than the last time",
                "look whether it is mounted",
            ));
        }
        let (most, rule) = match delete.max {
            Some(DeleteLimit::Entries(most)) => (most, format!("--max-delete {most}")),
            Some(DeleteLimit::Percent(percent)) => (
                destination_entries.saturating_mul(u64::from(percent)) / 100,
                format!("--max-delete {percent}%"),
            ),
            None => (
                GUARD_MIN.max(destination_entries / 2),
                "half of the destination's".to_string(),
            ),
        };
        if doomed > most {
            let there = counted(destination_entries, "entry is", "entries are");
            return Err(refused(
                doomed,
                &format!("that is more than {rule} ({there} there)"),
                "look at it with --dry-run -i",
            ));
        }
        Ok(())
    }
}

fn refused(doomed: u64, why: &str, advice: &str) -> Error {
    Error::Refused(format!(
        "{} of the destination would be deleted, but {why}; nothing was changed. \
         If this is right, {advice}, then allow it with --max-delete {doomed}",
        counted(doomed, "entry", "entries")
    ))
}

/// What differs between an entry of the source and the one of the destination.
pub(super) fn differences(
    new: &Entry,
    old: &Entry,
    rules: &RecordRules,
    content_differs: bool,
) -> Changes {
    let (a, b) = (rules.normalize(new.meta), rules.normalize(old.meta));
    let split = |entry: &Entry, acl: bool| {
        let of_kind = entry.xattrs.iter().filter(|xattr| xattr.is_acl() == acl);
        of_kind.cloned().collect::<Vec<_>>()
    };
    let node = new.target != old.target || a.rdev != b.rdev;
    Changes {
        new: false,
        content: node || (content_differs && rules.content),
        size: a.size != b.size,
        time: a.mtime != b.mtime,
        perms: a.mode != b.mode,
        owner: a.uid != b.uid,
        group: a.gid != b.gid,
        acl: split(new, true) != split(old, true),
        xattr: split(new, false) != split(old, false),
    }
}

/// Whether a quick look tells that two files of the same name differ in content; `None` where
/// only their hashes can.
pub(super) fn content_differs(
    new: &Entry,
    old: &Entry,
    rules: &RecordRules,
    compare: Compare,
) -> Option<bool> {
    if new.meta.size != old.meta.size {
        return Some(true);
    }
    match (&new.content, &old.content) {
        (Some(a), Some(b)) => return Some(a != b),
        // The source doubts its file: its hash decides, and ours is not known yet.
        (Some(_), None) => return None,
        // We doubt ours: have it compared.
        (None, Some(_)) => return Some(true),
        (None, None) => {}
    }
    if compare == Compare::SizeOnly {
        return Some(false);
    }
    let granularity = rules.granularity_ns;
    Some(new.meta.mtime.cut(granularity) != old.meta.mtime.cut(granularity))
}

/// The changes of an entry that was not there.
pub(super) fn all_new() -> Changes {
    Changes {
        new: true,
        ..Changes::default()
    }
}
