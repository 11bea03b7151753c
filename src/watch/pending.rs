//! What has changed and was not read again yet, and when it shall be: as soon as one file of a
//! directory has settled, and no later than the longest delay after its first change.
//!
//! Times are kept for each name, so that a file that is always written does not hold up its
//! neighbours. A directory is taken with all its names, since it is listed as a whole.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use super::dirty::{Change, Dirty, Pace, Reach};
use crate::path::{Name, RelPath};

/// So many names are kept apart in one directory. When there are more, the directory waits no longer
/// than the first of them would have.
const MOST_NAMES_IN_ONE: usize = 2048;

/// So many are kept apart in all: they take about 3 MB.
const MOST_NAMES: usize = 16_384;

/// When more directories than this have changed, the whole tree is read instead. They take up to
/// 8 MB, and to list so many takes as long as to list them all.
const MOST_DIRECTORIES: usize = 16_384;

/// No wait is longer, so that times can be added to.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The present, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Decides how long to wait.
    pub monotonic: Instant,
    /// Tells a person how old a change is.
    pub wall: SystemTime,
}

impl Now {
    /// What the clocks show.
    pub fn by_clocks() -> Now {
        Now {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    fn change(self, reach: Reach) -> Change {
        Change {
            first: self.monotonic,
            last: self.monotonic,
            since: self.wall,
            reach,
        }
    }
}

/// What changed and was not sent yet, with the times that decide when it shall be.
#[derive(Debug)]
pub struct Pending {
    pace: Pace,
    /// The whole tree; then there is nothing else.
    everything: Option<Change>,
    dirs: HashMap<RelPath, Waiting>,
    /// The names in all of `dirs`.
    names: usize,
}

/// A directory that waits.
#[derive(Debug, Default)]
struct Waiting {
    /// The directory itself, and names that are not kept apart. Later changes do not put it off.
    all: Option<Change>,
    names: HashMap<Name, Change>,
}

impl Waiting {
    fn changes(&self) -> impl Iterator<Item = &Change> {
        self.all.iter().chain(self.names.values())
    }

    fn is_due(&self, pace: Pace, now: Instant) -> bool {
        self.changes().any(|change| change.due(pace) <= now)
    }

    fn join_all(&mut self, change: Change) {
        let joined = self.all.map_or(change, |all| all.join(change));
        self.all = Some(joined);
    }

    /// Puts the directory, and those in it that are to be read whole, into `dirty`.
    fn add_to(self, dir: RelPath, dirty: &mut Dirty) {
        for (name, change) in self.names {
            if change.reach == Reach::Subtree {
                dirty.add(dir.join(&name), change);
            }
            let listing = Change {
                reach: Reach::Listing,
                ..change
            };
            dirty.add(dir.clone(), listing);
        }
        if let Some(change) = self.all {
            dirty.add(dir, change);
        }
    }
}

/// Noting.
impl Pending {
    /// Nothing yet. A change waits until its file had no other for `settle`, and no longer than
    /// `max_delay`.
    pub fn new(settle: Duration, max_delay: Duration) -> Pending {
        Pending {
            pace: Pace {
                settle: settle.min(LONGEST),
                max_delay: max_delay.min(LONGEST),
            },
            everything: None,
            dirs: HashMap::new(),
            names: 0,
        }
    }

    /// Notes a change of `name` in a directory, or without one, of the directory itself.
    pub fn note(&mut self, dir: &RelPath, name: Option<&Name>, now: Now) {
        match name {
            Some(name) => self.note_entry(dir, name, Reach::Listing, now),
            None => self.note_all(dir, now.change(Reach::Listing)),
        }
    }

    /// Notes that all below a directory is to be read, and its own place in its parent.
    pub fn note_subtree(&mut self, dir: &RelPath, now: Now) {
        match (dir.parent(), dir.file_name()) {
            (Some(parent), Some(name)) => self.note_entry(&parent, &name, Reach::Subtree, now),
            _ => self.note_all(dir, now.change(Reach::Subtree)),
        }
    }

    pub(super) fn note_entry(&mut self, dir: &RelPath, name: &Name, reach: Reach, now: Now) {
        if self.everything.is_some() {
            return;
        }
        let is_full = self.names >= MOST_NAMES;
        let is_crowded = self.dirs.len() >= MOST_DIRECTORIES;
        let waiting = match self.dirs.get_mut(dir) {
            Some(waiting) => waiting,
            None if is_crowded => {
                return self.note_all(&RelPath::root(), now.change(Reach::Subtree));
            }
            None => self.dirs.entry(dir.clone()).or_default(),
        };
        if let Some(change) = waiting.names.get_mut(name) {
            change.last = now.monotonic;
            change.reach = change.reach.max(reach);
            return;
        }
        let change = now.change(reach);
        // Whoever waits for the directory as a whole waits no longer than for a new name.
        if waiting.all.is_some_and(|all| all.reach >= reach) {
            return;
        }
        if is_full || waiting.names.len() >= MOST_NAMES_IN_ONE {
            self.names -= waiting.names.len();
            for (_, named) in std::mem::take(&mut waiting.names) {
                waiting.join_all(named);
            }
            waiting.join_all(change);
            return;
        }
        waiting.names.insert(name.clone(), change);
        self.names += 1;
    }

    fn note_all(&mut self, dir: &RelPath, change: Change) {
        if let Some(everything) = self.everything {
            self.everything = Some(everything.join(change));
            return;
        }
        let is_full = self.dirs.len() >= MOST_DIRECTORIES && !self.dirs.contains_key(dir);
        if is_full || (dir.is_root() && change.reach == Reach::Subtree) {
            let others = self.dirs.values().flat_map(Waiting::changes);
            let joined = others.fold(change, |joined, other| joined.join(*other));
            self.everything = Some(Change {
                reach: Reach::Subtree,
                ..joined
            });
            self.dirs = HashMap::new();
            self.names = 0;
            return;
        }
        self.dirs.entry(dir.clone()).or_default().join_all(change);
    }
}

/// Taking.
impl Pending {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.everything.is_none() && self.dirs.is_empty()
    }

    /// Whether a directory is among what waits, by itself or with all of a tree.
    pub fn contains(&self, dir: &RelPath) -> bool {
        let is_in_tree = |top: &RelPath| {
            let all = self.dirs.get(top).and_then(|waiting| waiting.all);
            all.is_some_and(|change| change.reach == Reach::Subtree)
        };
        self.everything.is_some()
            || self.dirs.contains_key(dir)
            || dir.ancestors().any(|top| is_in_tree(&top))
    }

    /// The entries that wait, where they are kept apart.
    pub fn names(&self) -> impl Iterator<Item = (RelPath, Name)> {
        let dirs = self.dirs.iter();
        dirs.flat_map(|(dir, waiting)| {
            let names = waiting.names.keys();
            names.map(|name| (dir.clone(), name.clone()))
        })
    }

    /// When the oldest of all changes was heard of: how far a copy may be behind.
    pub fn oldest(&self) -> Option<SystemTime> {
        self.changes().map(|change| change.since).min()
    }

    /// When the next directory is ready.
    pub fn due(&self) -> Option<Instant> {
        self.changes().map(|change| change.due(self.pace)).min()
    }

    fn changes(&self) -> impl Iterator<Item = &Change> {
        let named = self.dirs.values().flat_map(Waiting::changes);
        self.everything.iter().chain(named)
    }

    /// Takes the directories that are ready at `now`, and what waits below a subtree that is.
    pub fn take_ready(&mut self, now: Instant) -> Dirty {
        let pace = self.pace;
        self.take_where(
            |change| change.due(pace) <= now,
            |waiting| waiting.is_due(pace, now),
        )
    }

    /// Takes all, ready or not.
    pub fn take_all(&mut self) -> Dirty {
        self.take_where(|_| true, |_| true)
    }

    fn take_where(
        &mut self,
        takes_everything: impl FnOnce(&mut Change) -> bool,
        takes_dir: impl Fn(&Waiting) -> bool,
    ) -> Dirty {
        let mut dirty = Dirty::default();
        if let Some(change) = self.everything.take_if(takes_everything) {
            dirty.add(RelPath::root(), change);
        }
        for (dir, waiting) in self.dirs.extract_if(|_, waiting| takes_dir(waiting)) {
            waiting.add_to(dir, &mut dirty);
        }
        dirty.absorb();
        if dirty.has_subtrees() {
            let covered = self.dirs.extract_if(|dir, _| dirty.covers(dir));
            let covered: Vec<_> = covered.collect();
            for (dir, waiting) in covered {
                waiting.add_to(dir, &mut dirty);
            }
            dirty.absorb();
        }
        self.names = self.dirs.values().map(|waiting| waiting.names.len()).sum();
        dirty
    }

    /// Takes back what could not be read or sent, with its times: it is ready at once.
    pub fn put_back(&mut self, dirty: Dirty) {
        for (dir, change) in dirty.into_places() {
            self.note_all(&dir, change);
        }
    }
}

#[cfg(test)]
mod tests;
