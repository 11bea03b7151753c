//! Reads a whole tree on several threads and leaves only its digests.
//!
//! Workers take directories from one stack, deepest found first, which bounds what waits. A
//! directory costs one `openat2`, its `getdents64` calls and one `statx` for each entry; where
//! the state knows its entries as they are, nothing more. A scan that is kept is brought up to date by
//! `renew`, which reads only what may have changed.

mod renew;
mod scanner;

use std::collections::BTreeSet;

use crate::digest::Digest;
use crate::entry::Timestamp;
use crate::error::{Error, Result};
use crate::events::{Observer, Problem, Side};
use crate::fs::{Dir, Stat};
use crate::manifest::listing::{Lister, Listing, Row};
use crate::manifest::record::{Entry, RecordRules};
use crate::manifest::state::StateUpdate;
use crate::manifest::tree::{NodeId, Tree};
use crate::path::{Name, RelPath};
use scanner::{Job, RACY_WINDOW_NS, Scanner, Shared, now};

/// What a scan leaves.
#[derive(Debug)]
pub struct Scan {
    /// The digests.
    pub tree: Tree,
    /// The root's own entry.
    pub root: Entry,
    /// The root's stat.
    pub root_stat: Stat,
    /// Over the hard-link groups.
    pub links: Digest,
    /// Entries found, the root not counted.
    pub entries: u64,
    /// Content bytes of all files found.
    pub bytes: u64,
    /// What could not be read.
    pub problems: Vec<Problem>,
    /// Directories that went while the tree was read.
    pub vanished: Vec<RelPath>,
    /// Unfinished files of earlier runs.
    pub leftovers: Vec<(RelPath, Name)>,
    /// Directories that this scan, or the last renewal, read before what is in them had changed the
    /// last time, of which nobody else will tell. With [marks](ScanOptions::mark) only.
    pub outdated: BTreeSet<RelPath>,
    /// What the state shall learn.
    pub update: StateUpdate,
}

impl Scan {
    /// The digest of everything: two trees with the same one need nothing.
    pub fn digest(&self, rules: &RecordRules) -> Digest {
        root_digest(
            &self.root,
            self.tree.node(NodeId::ROOT).deep,
            self.links,
            rules,
        )
    }
}

/// Joins the root's own record, the tree and its hard links into one digest.
pub fn root_digest(root: &Entry, deep: Digest, links: Digest, rules: &RecordRules) -> Digest {
    let mut bytes = Vec::with_capacity(256);
    root.write_record(rules, &mut bytes);
    bytes.extend_from_slice(&deep.0);
    bytes.extend_from_slice(&links.0);
    Digest::of(&bytes)
}

/// Takes each directory's listing as it is read, completely; called from all scanning threads.
pub type Sink<'a> = &'a (dyn Fn(&RelPath, &Listing) + Sync);

/// Is shown each directory before it is listed, so that whoever marks it hears of all that changes
/// after; called from all scanning threads.
pub type Mark<'a> = &'a (dyn Fn(&Dir, &RelPath) + Sync);

/// How a scan is done.
#[derive(Clone, Copy)]
pub struct ScanOptions<'a> {
    /// Worker threads, at least one.
    pub threads: usize,
    /// Do not enter directories on another filesystem.
    pub one_file_system: bool,
    /// Who wants all listings. With one, nothing is taken from the state but content hashes.
    pub sink: Option<Sink<'a>>,
    /// Who wants to hear of changes.
    pub mark: Option<Mark<'a>>,
}

/// What of a scanned tree may have changed since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// Directories whose entries may have.
    pub dirs: BTreeSet<RelPath>,
    /// Directories beneath which anything may have.
    pub trees: BTreeSet<RelPath>,
}

impl Stale {
    /// All of it.
    pub fn everything() -> Stale {
        Stale {
            dirs: BTreeSet::new(),
            trees: BTreeSet::from([RelPath::root()]),
        }
    }

    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.dirs.is_empty() && self.trees.is_empty()
    }

    /// Whether anything anywhere may have changed.
    pub fn is_everything(&self) -> bool {
        self.trees.first().is_some_and(RelPath::is_root)
    }
}

/// Scans the whole tree of `lister`.
pub fn scan(
    lister: &Lister<'_>,
    options: ScanOptions<'_>,
    observer: &dyn Observer,
) -> Result<Scan> {
    let began = now();
    let root = root_row(lister)?;
    let job = Job {
        node: NodeId::ROOT,
        path: RelPath::root(),
        stat: root.stat,
    };
    let scanner = Scanner::new(lister, options, observer, &root, Shared::default());
    scanner.lock().stack.push(job);
    scanner.read_all();
    let mut shared = scanner.finish()?;
    shared.tree.node_mut(NodeId::ROOT).inode = (root.stat.dev, root.stat.ino);
    shared.tree.finish();
    let late = all_was_read(lister, began);
    if options.mark.is_some() {
        shared.outdated.extend(late);
    }
    lister.links.forget_single();
    Ok(shared.into_scan(root, lister))
}

/// Whether a file was read that has names in directories that are to be read as well. At the
/// destination nobody else makes any but generations, and what we make we know of.
fn has_unknown_names(lister: &Lister<'_>) -> bool {
    match lister.side {
        Side::Source => lister.links.has_unknown_names(),
        Side::Destination => {
            lister.links.forget_touched();
            false
        }
    }
}

/// Settles which files have names outside of a tree that has been read since `began`. Returns the
/// directories of those that changed meanwhile.
fn all_was_read(lister: &Lister<'_>, began: Timestamp) -> Vec<RelPath> {
    match lister.side {
        Side::Source => lister
            .links
            .all_was_read(|ctime| !ctime.is_within(RACY_WINDOW_NS, began)),
        Side::Destination => {
            lister.links.forget_touched();
            Vec::new()
        }
    }
}

fn root_row(lister: &Lister<'_>) -> Result<Row> {
    lister
        .root_entry()
        .map_err(|err| Error::io("read", b"the root directory", err))
}

#[cfg(test)]
mod tests;
