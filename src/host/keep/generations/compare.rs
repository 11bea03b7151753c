//! What became of a generation: two states are gone through side by side, a directory at a time, so
//! that a million entries take no more memory than the largest directory.

use std::cmp::Ordering;

use super::super::index::{Block, Records};
use super::super::walk::{Walk, order};
use super::super::{apply_options, entry_in, entry_of, failed, fidelity_of};
use super::{REPLACED, pinned, shelf_with, time_of};
use crate::apply::{During, RootLock};
use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::events::{Action, Cancel, Changes, Item};
use crate::fs;
use crate::host::root::Root;
use crate::manifest::record::{Entry, RecordRules};
use crate::path::RelPath;
use crate::protocol::errand::Comparison;

/// How much is told of what differs: what is beyond either is counted. Together they fit well into
/// one message.
const TOLD_ITEMS: usize = 10_000;
const TOLD_BYTES: usize = 2 << 20;

/// Compares a generation with a later one, or with what is in the root now.
pub(super) fn compare(
    root: &Root,
    id: &str,
    with: Option<&str>,
    cancel: &Cancel,
) -> Result<Comparison> {
    let abilities = fs::probe_untouched(&root.dir);
    let rules = apply_options(fidelity_of(abilities), cancel).rules;
    let mut before = Former::kept(root, id, &rules)?;
    let mut after = match with {
        Some(with) => Former::kept(root, with, &rules)?,
        None => Former::there(pinned(&root.dir, &root.path)?, None, &rules)?,
    };
    let mut told = Told::default();
    if let (Some(before), Some(after)) = (&before.own, &after.own) {
        told.pair(&RelPath::root(), before, after);
    }
    let (mut before, mut after) = (before.blocks(rules)?, after.blocks(rules)?);
    let (mut a, mut b) = (before.next()?, after.next()?);
    loop {
        cancel.check()?;
        let first = match (&a, &b) {
            (None, None) => return Ok(told.comparison),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => order(&a.dir, &b.dir),
        };
        let old = a.take_if(|_| first.is_le());
        let new = b.take_if(|_| first.is_ge());
        told.blocks(old.as_ref(), new.as_ref());
        if old.is_some() {
            a = before.next()?;
        }
        if new.is_some() {
            b = after.next()?;
        }
    }
}

/// A state that is compared.
struct Former {
    /// What the root's own entry was; `None` where that is not known.
    own: Option<Entry>,
    place: Place,
    /// Held, so that it is not pruned meanwhile.
    _lock: Option<RootLock>,
}

/// Where it is told what the entries are.
enum Place {
    /// In the index.
    Index(Box<Records>, String),
    /// In the tree itself.
    Tree(Root),
}

impl Former {
    fn kept(root: &Root, id: &str, rules: &RecordRules) -> Result<Former> {
        let shelf = shelf_with(root, id)?;
        let lock = RootLock::shared(&shelf.folder(id)?, &shelf.path(id))?;
        // What was replaced has been moved there, as it was.
        if time_of(REPLACED, id).is_some() {
            let tree = pinned(&shelf.tree(id)?, &shelf.path(id).join("tree"))?;
            return Former::there(tree, Some(lock), rules);
        }
        Ok(Former {
            own: shelf.state(id)?.and_then(|state| state.root),
            place: Place::Index(
                Box::new(Records::open(shelf.index(id)?)),
                shelf.path(id).to_string_lossy().into_owned(),
            ),
            _lock: Some(lock),
        })
    }

    fn there(root: Root, lock: Option<RootLock>, rules: &RecordRules) -> Result<Former> {
        let own = entry_of(&root.dir, rules).map_err(|err| root.failed("read", err))?;
        Ok(Former {
            own: Some(own),
            place: Place::Tree(root),
            _lock: lock,
        })
    }

    fn blocks(&mut self, rules: RecordRules) -> Result<Blocks<'_>> {
        Ok(match &mut self.place {
            Place::Index(records, shown) => Blocks::Index(records, shown),
            Place::Tree(root) => Blocks::Tree {
                walk: Walk::of(root)?,
                root,
                rules,
            },
        })
    }
}

/// Gives the directories of a state in [`order`].
enum Blocks<'a> {
    Index(&'a mut Records, &'a str),
    Tree {
        walk: Walk<'a>,
        root: &'a Root,
        rules: RecordRules,
    },
}

impl Blocks<'_> {
    fn next(&mut self) -> Result<Option<Block>> {
        match self {
            Blocks::Index(records, shown) => records
                .next_block()
                .map_err(|err| Error::io("read the index of", *shown, err)),
            Blocks::Tree { walk, root, rules } => next_there(walk, root, rules),
        }
    }
}

fn next_there(walk: &mut Walk<'_>, root: &Root, rules: &RecordRules) -> Result<Option<Block>> {
    while let Some(folder) = walk.next()? {
        let (mut entries, mut below) = (Vec::new(), Vec::new());
        for name in &folder.names {
            let path = folder.path.join(name);
            let entry = match entry_in(&folder.dir, name, rules) {
                Err(err) if fs::is_gone(&err) => continue,
                found => found.during("read"),
            };
            let (entry, _) = entry.map_err(|failure| failed(root, &path, failure))?;
            if entry.meta.kind == EntryKind::Dir {
                below.push(path);
            }
            entries.push(entry);
        }
        walk.descend(below);
        if !entries.is_empty() {
            let dir = folder.path;
            return Ok(Some(Block { dir, entries }));
        }
    }
    Ok(None)
}

/// What was found so far.
#[derive(Default)]
struct Told {
    comparison: Comparison,
    bytes: usize,
}

impl Told {
    /// Compares what is in one directory: `None`, or an entry missing, is what only the other has.
    fn blocks(&mut self, old: Option<&Block>, new: Option<&Block>) {
        let Some(dir) = old.or(new).map(|block| &block.dir) else {
            return;
        };
        let mut old = old.map_or(&[][..], |block| &block.entries);
        let mut new = new.map_or(&[][..], |block| &block.entries);
        loop {
            let first = match (old, new) {
                ([], []) => return,
                ([_, ..], []) => Ordering::Less,
                ([], [_, ..]) => Ordering::Greater,
                ([a, ..], [b, ..]) => a.name.cmp(&b.name),
            };
            let a = if first.is_le() { take(&mut old) } else { None };
            let b = if first.is_ge() { take(&mut new) } else { None };
            match (a, b) {
                (Some(a), Some(b)) => self.pair(&dir.join(&a.name), a, b),
                (Some(a), None) => self.removed(dir.join(&a.name), a),
                (None, Some(b)) => self.added(dir.join(&b.name), b),
                (None, None) => return,
            }
        }
    }

    /// Compares two entries of one name.
    fn pair(&mut self, path: &RelPath, old: &Entry, new: &Entry) {
        if old.meta.kind != new.meta.kind {
            self.removed(path.clone(), old);
            return self.added(path.clone(), new);
        }
        let changes = changes(old, new);
        if changes.is_empty() {
            return;
        }
        let is_other = changes.content || changes.size || changes.time;
        let action = match new.meta.kind {
            EntryKind::File if is_other => Action::Transfer,
            EntryKind::File | EntryKind::Dir => Action::Attributes,
            _ if changes.content => Action::Create,
            _ => Action::Attributes,
        };
        self.comparison.changed += 1;
        self.tell(path.clone(), new, action, changes);
    }

    fn removed(&mut self, path: RelPath, entry: &Entry) {
        self.comparison.removed += 1;
        self.tell(path, entry, Action::Delete, Changes::default());
    }

    fn added(&mut self, path: RelPath, entry: &Entry) {
        let action = match entry.meta.kind {
            EntryKind::File => Action::Transfer,
            _ => Action::Create,
        };
        let changes = Changes {
            new: true,
            ..Changes::default()
        };
        self.comparison.added += 1;
        self.tell(path, entry, action, changes);
    }

    fn tell(&mut self, path: RelPath, entry: &Entry, action: Action, changes: Changes) {
        let bytes = self.bytes + path.as_bytes().len();
        if self.comparison.items.len() < TOLD_ITEMS && bytes <= TOLD_BYTES {
            self.bytes = bytes;
            self.comparison.items.push(Item {
                path,
                kind: entry.meta.kind,
                action,
                changes,
            });
        }
    }
}

fn take<'a>(entries: &mut &'a [Entry]) -> Option<&'a Entry> {
    let (first, rest) = entries.split_first()?;
    *entries = rest;
    Some(first)
}

/// What is not the same of two entries of one kind. Content is not read: who writes a file moves its
/// time.
fn changes(old: &Entry, new: &Entry) -> Changes {
    let of_kind = |entry: &Entry, acl: bool| {
        let xattrs = entry.xattrs.iter().filter(|xattr| xattr.is_acl() == acl);
        xattrs.cloned().collect::<Vec<_>>()
    };
    let (is, was) = (new.meta, old.meta);
    Changes {
        new: false,
        content: old.target != new.target || was.rdev != is.rdev,
        size: was.size != is.size && is.kind == EntryKind::File,
        time: was.mtime != is.mtime,
        perms: was.mode != is.mode,
        owner: was.uid != is.uid,
        group: was.gid != is.gid,
        acl: of_kind(old, true) != of_kind(new, true),
        xattr: of_kind(old, false) != of_kind(new, false),
    }
}
