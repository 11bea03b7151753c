//! Which directory each of the kernel's marks is on: the part of a watcher that needs no kernel.
//!
//! Paths are kept in full. An index from names to marks, which a tree of names would need to follow
//! moves, takes as much; and against the kilobyte that the kernel has for each mark, the 100 bytes
//! here are little. 20,000 marks take 3 MB.

use std::collections::{HashMap, HashSet};

use crate::path::RelPath;

/// All marks of a watcher.
#[derive(Default)]
pub(super) struct Marks {
    /// By the kernel's number for them, which it does not use again.
    places: HashMap<i32, Mark>,
    /// Marks that stand for nothing and that the kernel has yet to be told to drop.
    doomed: HashSet<i32>,
    /// How many full scans have begun.
    scans: u32,
}

struct Mark {
    path: RelPath,
    /// The full scan that set it last.
    scan: u32,
}

impl Marks {
    pub(super) fn len(&self) -> u64 {
        self.places.len() as u64
    }

    /// Where the directory is that a mark is on; `None` for one that was given up.
    pub(super) fn path(&self, wd: i32) -> Option<&RelPath> {
        self.places.get(&wd).map(|mark| &mark.path)
    }

    /// Enters a mark, or renews it. One that was to be dropped stays: it is the kernel that says
    /// which mark is on a directory, and it said this one.
    pub(super) fn set(&mut self, wd: i32, path: &RelPath) {
        self.doomed.remove(&wd);
        let mark = Mark {
            path: path.clone(),
            scan: self.scans,
        };
        self.places.insert(wd, mark);
    }

    /// Forgets a mark that the kernel has dropped.
    pub(super) fn forget(&mut self, wd: i32) {
        self.places.remove(&wd);
        self.doomed.remove(&wd);
    }

    /// Gives up all marks on and below these directories.
    pub(super) fn give_up_below(&mut self, tops: &HashSet<RelPath>) {
        if tops.is_empty() {
            return;
        }
        let is_below = |path: &RelPath| path.ancestors().any(|at| tops.contains(&at));
        let gone = self.places.extract_if(|_, mark| is_below(&mark.path));
        self.doomed.extend(gone.map(|(wd, _)| wd));
    }

    pub(super) fn begin_scan(&mut self) {
        self.scans = self.scans.wrapping_add(1);
    }

    /// Gives up the marks that have not been renewed since the last full scan began.
    pub(super) fn give_up_unrenewed(&mut self) {
        let scans = self.scans;
        let stale = self.places.extract_if(|_, mark| mark.scan != scans);
        self.doomed.extend(stale.map(|(wd, _)| wd));
    }

    /// Takes up to `most` marks that the kernel is to be told to drop.
    pub(super) fn take_doomed(&mut self, most: usize) -> Vec<i32> {
        let taken: Vec<_> = self.doomed.iter().copied().take(most).collect();
        for wd in &taken {
            self.doomed.remove(wd);
        }
        taken
    }
}
