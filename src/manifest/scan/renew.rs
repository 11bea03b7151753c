//! Brings a kept scan up to date: reads again the directories that may have changed, and what is new
//! beneath them, and sums up anew only the way from there to the root.

use std::collections::BTreeSet;

use super::scanner::{Job, Scanner, Shared};
use super::{Scan, ScanOptions, Stale, has_unknown_names, root_row, scan};
use crate::digest::Digest;
use crate::error::Result;
use crate::events::Observer;
use crate::fs::ListScratch;
use crate::manifest::listing::Lister;
use crate::manifest::tree::{NodeId, Tree};
use crate::path::{Name, RelPath};

impl Scan {
    /// Reads again what is stale. The lister must have the rules, and the table of
    /// [tracked](crate::manifest::links::Links::tracked) links, that the scan was made with.
    ///
    /// # Errors
    ///
    /// As for [`scan`]; then the scan is not to be used any more.
    pub fn renew(
        &mut self,
        lister: &Lister<'_>,
        options: ScanOptions<'_>,
        stale: &Stale,
        observer: &dyn Observer,
    ) -> Result<()> {
        if stale.is_everything() {
            return self.read_anew(lister, options, observer);
        }
        let mut stale = with_parents(stale);
        let mut read = BTreeSet::new();
        let mut outdated = BTreeSet::new();
        self.outdated.clear();
        self.vanished.clear();
        while !stale.is_empty() {
            self.read_stale(lister, options, &stale, &mut read, observer)?;
            let mut again = std::mem::take(&mut self.outdated);
            again.extend(lister.links.dirs_of_changed());
            // What changes all the time is not read all the time.
            let (mut late, again): (BTreeSet<_>, _) =
                again.into_iter().partition(|dir| read.contains(dir));
            outdated.append(&mut late);
            stale = Stale {
                dirs: again,
                trees: BTreeSet::new(),
            };
        }
        self.outdated = outdated;
        if has_unknown_names(lister) {
            return self.read_anew(lister, options, observer);
        }
        self.tree.finish_renewed(read.iter());
        self.links = lister.links.digest();
        let top = self.tree.node(NodeId::ROOT);
        (self.entries, self.bytes) = (top.total_entries, top.total_bytes);
        Ok(())
    }

    fn read_anew(
        &mut self,
        lister: &Lister<'_>,
        options: ScanOptions<'_>,
        observer: &dyn Observer,
    ) -> Result<()> {
        lister.links.clear();
        *self = scan(lister, options, observer)?;
        Ok(())
    }

    /// Reads the stale directories one after the other, then what is new beneath them on all
    /// threads. Adds what it read to `read`.
    fn read_stale(
        &mut self,
        lister: &Lister<'_>,
        options: ScanOptions<'_>,
        stale: &Stale,
        read: &mut BTreeSet<RelPath>,
        observer: &dyn Observer,
    ) -> Result<()> {
        let root = root_row(lister)?;
        (self.root, self.root_stat) = (root.entry.clone(), root.stat);
        let shared = Shared {
            tree: std::mem::take(&mut self.tree),
            problems: std::mem::take(&mut self.problems),
            vanished: std::mem::take(&mut self.vanished),
            leftovers: std::mem::take(&mut self.leftovers),
            outdated: std::mem::take(&mut self.outdated),
            update: std::mem::take(&mut self.update),
            ..Shared::default()
        };
        let scanner = Scanner::new(lister, options, observer, &root, shared);
        let mut scratch = ListScratch::new();
        for dir in &stale.dirs {
            lister.cancel.check()?;
            scanner.read_dir_again(dir, read, &mut scratch)?;
        }
        for dir in &stale.trees {
            if scanner.read_tree_again(dir) {
                read.insert(dir.clone());
            }
        }
        // Threads cost more than a few directories take.
        let new = scanner.lock().stack.len();
        match new {
            0..=16 => scanner.work(),
            _ => scanner.read_all(),
        }
        let shared = scanner.finish()?;
        self.tree = shared.tree;
        self.problems = shared.problems;
        self.vanished = shared.vanished;
        self.leftovers = shared.leftovers;
        self.outdated = shared.outdated;
        self.update = shared.update;
        Ok(())
    }
}

impl Scanner<'_> {
    /// Reads one directory again, unless it is not known or will be read as new. Adds it to `read`,
    /// with those in it that will be.
    fn read_dir_again(
        &self,
        path: &RelPath,
        read: &mut BTreeSet<RelPath>,
        scratch: &mut ListScratch,
    ) -> Result<()> {
        let Some(node) = self.read_before(path) else {
            return Ok(());
        };
        read.insert(path.clone());
        let links = self.lister.links;
        let stat = self
            .lister
            .root
            .open_dir(path)
            .and_then(|dir| dir.stat_self());
        let digested = stat.and_then(|stat| {
            let job = Job {
                node,
                path: path.clone(),
                stat,
            };
            self.digest_dir(&job, scratch)
                .map(|digested| (job, digested))
        });
        self.lister.cancel.check()?;
        let mut shared = self.lock();
        let before = subdirs(&shared.tree, node);
        shared.forget_here(path);
        links.forget_dir(path);
        match digested {
            Ok((job, digested)) => {
                shared.tree.node_mut(node).inode = (job.stat.dev, job.stat.ino);
                self.enter(&mut shared, job, digested);
                read.extend(self.try_unreadable(&mut shared, node, path));
            }
            Err(err) => {
                shared.tree.drop_children(node);
                self.fail(&mut shared, node, path.clone(), err);
            }
        }
        for (name, inode) in before {
            let now = shared.tree.child(node, name.as_bytes());
            if now.is_none_or(|now| shared.tree.node(now).inode != inode) {
                let gone = path.join(&name);
                shared.forget_below(&gone);
                links.forget_below(&gone);
            }
        }
        Ok(())
    }

    /// Has subdirectories read that could not be: what was changed about them is told of the
    /// directory that they are in. Returns which.
    fn try_unreadable(&self, shared: &mut Shared, node: NodeId, path: &RelPath) -> Vec<RelPath> {
        let mut tried = Vec::new();
        for child in shared.tree.children(node) {
            let known = shared.tree.node(child);
            let Ok(name) = Name::new(shared.tree.name(child)) else {
                continue;
            };
            let was_tried = known.shallow != Digest::default();
            if !(known.flags.unreadable && was_tried) {
                continue;
            }
            let path = path.join(&name);
            if let Ok(stat) = self
                .lister
                .root
                .open_dir(&path)
                .and_then(|dir| dir.stat_self())
            {
                shared.forget_below(&path);
                tried.push(path.clone());
                let node = child;
                shared.stack.push(Job { node, path, stat });
            }
        }
        tried
    }

    /// Has a directory and all beneath it read as if it were new. `false`: it is not known, or will be
    /// read so anyway.
    fn read_tree_again(&self, path: &RelPath) -> bool {
        let Some(node) = self.read_before(path) else {
            return false;
        };
        let stat = self
            .lister
            .root
            .open_dir(path)
            .and_then(|dir| dir.stat_self());
        let mut shared = self.lock();
        shared.tree.drop_children(node);
        shared.forget_below(path);
        self.lister.links.forget_below(path);
        let path = path.clone();
        match stat {
            Ok(stat) => shared.stack.push(Job { node, path, stat }),
            Err(err) => self.fail(&mut shared, node, path, err),
        }
        true
    }

    /// A directory's node, if it has been read before.
    fn read_before(&self, path: &RelPath) -> Option<NodeId> {
        let shared = self.lock();
        let node = shared.tree.find(path)?;
        let known = shared.tree.node(node);
        let was_read = known.shallow != Digest::default() && !known.flags.elsewhere;
        was_read.then_some(node)
    }
}

impl Shared {
    /// Forgets what was wrong with a directory's own entries, and leftovers among them. What is
    /// wrong within its subdirectories stays.
    fn forget_here(&mut self, dir: &RelPath) {
        let Shared {
            tree,
            problems,
            leftovers,
            ..
        } = self;
        let is_of_subdir = |path: &RelPath| {
            let node = tree.find(path);
            node.is_some_and(|node| tree.node(node).flags.unreadable)
        };
        problems.retain(|problem| {
            let is_here = problem.path == *dir || problem.path.parent().as_ref() == Some(dir);
            !is_here || (problem.path != *dir && is_of_subdir(&problem.path))
        });
        leftovers.retain(|(at, _)| at != dir);
    }

    /// Forgets what was wrong in a directory and beneath it.
    fn forget_below(&mut self, dir: &RelPath) {
        self.problems
            .retain(|problem| !problem.path.starts_with(dir));
        self.leftovers.retain(|(at, _)| !at.starts_with(dir));
    }
}

/// What is stale, and the directories that it is in: a directory's own times move with its entries,
/// and are in its parent's records.
fn with_parents(stale: &Stale) -> Stale {
    let mut stale = stale.clone();
    let inner = stale.dirs.iter().chain(&stale.trees);
    let parents: Vec<_> = inner.filter_map(RelPath::parent).collect();
    stale.dirs.extend(parents);
    stale
}

/// A directory's subdirectories as they are known.
fn subdirs(tree: &Tree, node: NodeId) -> Vec<(Name, (u64, u64))> {
    let children = tree.children(node);
    let known = children.filter_map(|child| {
        let name = Name::new(tree.name(child)).ok()?;
        Some((name, tree.node(child).inode))
    });
    known.collect()
}

#[cfg(test)]
mod tests;
