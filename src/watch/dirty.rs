//! What is to be read again: the outcome of many events, and all that a scan is told of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use crate::path::RelPath;

/// How much of a directory is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Its own entries.
    Listing,
    /// All below it, marks included.
    Subtree,
}

/// One or several changes, as times: which of them count is all that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// When it was first heard of.
    pub(super) first: Instant,
    /// When it was last heard of.
    pub(super) last: Instant,
    /// The first time, by the clock on the wall.
    pub(super) since: SystemTime,
    pub(super) reach: Reach,
}

/// How long changes wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) settle: Duration,
    pub(super) max_delay: Duration,
}

impl Change {
    /// When it has waited long enough.
    pub(super) fn due(&self, pace: Pace) -> Instant {
        (self.last + pace.settle).min(self.first + pace.max_delay)
    }

    /// Both in one, which is due as soon as either.
    pub(super) fn join(self, other: Change) -> Change {
        Change {
            first: self.first.min(other.first),
            last: self.last.min(other.last),
            since: self.since.min(other.since),
            reach: self.reach.max(other.reach),
        }
    }
}

/// Directories that are to be read again, with when they changed.
#[derive(Clone, Debug, Default)]
pub struct Dirty {
    /// None of them lies below one whose subtree is to be read.
    places: BTreeMap<RelPath, Change>,
}

impl Dirty {
    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many directories and subtrees there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The directories, each after those that it lies in. One may be gone by now, or never have
    /// taken part in the tree.
    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, Reach)> {
        self.places
            .iter()
            .map(|(path, change)| (path, change.reach))
    }

    /// When the oldest of the changes was heard of.
    pub fn oldest(&self) -> Option<SystemTime> {
        self.places.values().map(|change| change.since).min()
    }

    /// Adds a place; [`Dirty::absorb`] is due after the last.
    pub(super) fn add(&mut self, path: RelPath, change: Change) {
        self.places
            .entry(path)
            .and_modify(|known| *known = known.join(change))
            .or_insert(change);
    }

    /// Joins what lies below a subtree with it.
    pub(super) fn absorb(&mut self) {
        let mut tops: BTreeMap<RelPath, Change> = BTreeMap::new();
        // A directory comes before all below it, so whatever covers a place is there already.
        for (path, change) in std::mem::take(&mut self.places) {
            match top_above(&tops, &path) {
                Some(top) => {
                    let joined = tops[&top].join(change);
                    tops.insert(top, joined);
                }
                None => {
                    tops.insert(path, change);
                }
            }
        }
        self.places = tops;
    }

    /// Whether a directory is to be read, by itself or with a subtree above it.
    pub fn contains(&self, path: &RelPath) -> bool {
        self.places.contains_key(path) || self.covers(path)
    }

    /// Whether a directory is read with a subtree above it.
    pub(super) fn covers(&self, path: &RelPath) -> bool {
        top_above(&self.places, path).is_some()
    }

    pub(super) fn has_subtrees(&self) -> bool {
        let mut changes = self.places.values();
        changes.any(|change| change.reach == Reach::Subtree)
    }

    pub(super) fn into_places(self) -> impl Iterator<Item = (RelPath, Change)> {
        self.places.into_iter()
    }
}

/// The directory above `path` whose whole subtree is among `places`.
fn top_above(places: &BTreeMap<RelPath, Change>, path: &RelPath) -> Option<RelPath> {
    let is_top = |path: &RelPath| {
        let change = places.get(path);
        change.is_some_and(|change| change.reach == Reach::Subtree)
    };
    path.ancestors().skip(1).find(is_top)
}
