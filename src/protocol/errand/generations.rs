//! What a host can be asked about the generations of a root: former states that a mirror keeps by a
//! rule. They are kept as [`Errand::Keep`](super::Errand::Keep) does, but stay when one is restored.

use serde::{Deserialize, Serialize};

use super::KeepMeans;
use crate::events::Item;
use crate::path::RelPath;
use crate::retention::Rule;

/// One thing to do or to find out. Each variant names its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GenerationsErrand {
    /// Makes one if the rule says that one is due, and lets go of those that it has no use for:
    /// [`GenerationsAnswer::Made`]. A mirror does so itself.
    Make {
        /// The root.
        root: String,
        /// The rule.
        rule: Rule,
    },
    /// Which there are: [`GenerationsAnswer::Listed`].
    List {
        /// The root.
        root: String,
    },
    /// What became of one since: [`GenerationsAnswer::Compared`].
    Compare {
        /// The root.
        root: String,
        /// The generation.
        id: String,
        /// The later one; `None` is what is in the root now.
        with: Option<String>,
    },
    /// Brings back one, or some of it: [`GenerationsAnswer::Restored`].
    Restore {
        /// The root.
        root: String,
        /// The generation, or what an earlier restore replaced.
        id: String,
        /// Entries of it, each with all beneath it; none: all of it.
        paths: Vec<RelPath>,
        /// The directory that gets the entries, with their paths; `None`: their place in the root.
        to: Option<String>,
    },
}

/// Answers, each to the errand that names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GenerationsAnswer {
    /// The new one; `None`: none was due.
    Made(Option<Made>),
    /// What is there.
    Listed(Shelved),
    /// What differs.
    Compared(Comparison),
    /// What was brought back.
    Restored(Recovered),
}

/// A generation that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The new one.
    pub generation: Generation,
    /// The ids of those that the rule had no more use for.
    pub pruned: Vec<String>,
}

/// Former states of a root, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelved {
    /// The generations.
    pub generations: Vec<Generation>,
    /// What was in the root when a generation was restored. No rule lets go of it.
    pub replaced: Vec<Generation>,
}

/// A former state of a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its name.
    pub id: String,
    /// When it was made, in seconds since 1970.
    pub made_s: u64,
    /// How it was kept: never [`KeepMeans::Auto`].
    pub means: KeepMeans,
    /// Entries in it.
    pub entries: u64,
}

/// What differs between an earlier and a later state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// The first of it, by directories: what a sync would do to turn the earlier state into the
    /// later one. At most 10,000, and less where their paths take more than 2 MiB.
    pub items: Vec<Item>,
    /// Entries that only the later one has.
    pub added: u64,
    /// Entries that only the earlier one has.
    pub removed: u64,
    /// Entries that are not the same in both.
    pub changed: u64,
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// How many entries are as they were.
    pub entries: u64,
    /// Those of which the content, or the time, changed since in the generation itself, as what
    /// is written in place does to hard links.
    pub differing: Vec<String>,
    /// As what the state that was there is kept, where all of it was replaced.
    pub replaced: Option<String>,
}

impl Comparison {
    /// How many entries differ.
    pub fn total(&self) -> u64 {
        self.added + self.removed + self.changed
    }
}
