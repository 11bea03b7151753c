//! What a run tells whoever watches it. Events are values, so that they can cross the wire, be
//! written as JSON or be drawn as a progress bar; the engine itself never prints.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::entry::EntryKind;
use crate::error::Error;
use crate::options::KeepMeans;
use crate::path::RelPath;

/// Receives a run's events.
///
/// Called from many threads at once, in no order but this: an item's event comes before its
/// problem, and the summary is returned, not observed. A call must not block for long: it is on
/// the path of the bytes. Nothing that an observer does changes the run.
pub trait Observer: Send + Sync {
    /// Takes one event.
    fn observe(&self, event: Event);
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn observe(&self, _: Event) {}
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The run entered a phase.
    Phase(Phase),
    /// So many entries of one side have been scanned so far.
    Scanned {
        /// Which side.
        side: Side,
        /// Running total.
        entries: u64,
    },
    /// What is known to be transferred, as a running total.
    Planned {
        /// Files.
        files: u64,
        /// Their content in bytes.
        bytes: u64,
        /// Whether the total can still grow.
        complete: bool,
    },
    /// What has been dealt with, as a running total against [`Event::Planned`].
    Done {
        /// Files.
        files: u64,
        /// Their content in bytes, however little of it travelled.
        bytes: u64,
    },
    /// The file at hand.
    Current(RelPath),
    /// An entry was (or in a dry run would be) changed.
    Item(Item),
    /// One entry's fault; the run goes on.
    Problem(Problem),
    /// An entry changed while it was copied.
    Churn(Churn),
    /// Something that concerns the run, not one entry.
    Warning(Warning),
    /// Free text for `-v`.
    Note(String),
    /// A run over several roots begins one of them: what follows is of it.
    RootBegun(RootBegun),
    /// And is done with it.
    RootDone {
        /// Its name.
        name: String,
        /// What was done there.
        summary: Box<Summary>,
    },
    /// How it goes in a session of many rounds.
    Round(RoundEvent),
}

/// How it goes where a standby is kept warm, round after round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoundEvent {
    /// How the source is watched.
    Watching {
        /// By what.
        means: WatchMeans,
        /// Directories that are watched.
        directories: u64,
    },
    /// How long ago the oldest change was made that the standby lacks, in milliseconds; `None`: it
    /// lacks none that is known.
    Lacking(Option<u64>),
    /// A round begins.
    Began {
        /// Whether everything is read, whatever is known.
        full: bool,
    },
    /// And is over.
    Ended {
        /// What was done.
        summary: Box<Summary>,
        /// Whether everything was read, whatever was known.
        full: bool,
        /// What both sides digest to now, where that is the same.
        agreed: Option<Digest>,
    },
    /// In so many directories a full round found what the watch had not told of.
    Missed(u64),
    /// The kernel had more to tell than it keeps: what it was about is read again.
    Overflowed,
    /// Directories of the standby in which others had changed something: the first ones, and how many
    /// there are. None, where a full round found none.
    Drift {
        /// Up to [`RoundEvent::MOST_NAMED`].
        dirs: Vec<RelPath>,
        /// All of them.
        total: u64,
    },
    /// SQLite databases that were written to while they were copied, so that their copies are not
    /// consistent until a later round finds them at rest.
    Torn(Vec<RelPath>),
    /// The former states that the standby has, the newest first.
    Generations(Vec<Generation>),
    /// The number of the source's root, for [`Mirroring::root`](crate::options::Mirroring::root).
    Root(u64),
}

impl RoundEvent {
    /// How many paths are told by name.
    pub const MOST_NAMED: usize = 100;
}

/// By what a source is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WatchMeans {
    /// The kernel tells of each change.
    Inotify,
    /// It cannot, so all is read from time to time.
    Interval,
}

/// A former state of a standby.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its name.
    pub id: String,
    /// When it was made, in seconds since 1970.
    pub made_s: u64,
    /// How.
    pub means: KeepMeans,
    /// Entries in it.
    pub entries: u64,
}

/// One of several roots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootBegun {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub source: String,
    /// Where it shall be.
    pub destination: String,
}

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Side {
    /// Where entries are read.
    Source,
    /// Where entries are written.
    Destination,
}

impl Side {
    /// "source" or "destination".
    pub fn noun(self) -> &'static str {
        match self {
            Side::Source => "source",
            Side::Destination => "destination",
        }
    }
}

/// One of something for each end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Both<T> {
    /// The source's.
    pub source: T,
    /// The destination's.
    pub destination: T,
}

impl<T> Both<T> {
    /// That of one side.
    pub fn of(&self, side: Side) -> &T {
        match side {
            Side::Source => &self.source,
            Side::Destination => &self.destination,
        }
    }
}

/// What a run is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Reaching the other end.
    Connecting,
    /// Both trees are read.
    Scanning,
    /// Digests are compared.
    Comparing,
    /// Content travels.
    Transferring,
    /// Links, deletions, directory times, durability.
    Finishing,
}

/// One changed entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Which entry.
    pub path: RelPath,
    /// What it is (for a deletion: what it was).
    pub kind: EntryKind,
    /// What was done.
    pub action: Action,
    /// What differed.
    pub changes: Changes,
}

/// What was done to an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Its content travelled.
    Transfer,
    /// It was made at the destination from its record alone (directory, symlink, device).
    Create,
    /// Only its metadata was set.
    Attributes,
    /// It was linked to a name that is there already.
    HardLink {
        /// That name.
        to: RelPath,
    },
    /// It was renamed at the destination.
    Move {
        /// Its old name.
        from: RelPath,
    },
    /// It was copied from another name at the destination.
    CopyLocal {
        /// That name.
        from: RelPath,
    },
    /// It was deleted.
    Delete,
}

/// What differed between the two sides; all false and `new` for an entry that was not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Changes {
    /// There was no entry of this kind.
    pub new: bool,
    /// Content, by hash; for symlinks and devices the target or number.
    pub content: bool,
    /// Size.
    pub size: bool,
    /// Modification time.
    pub time: bool,
    /// Permission bits.
    pub perms: bool,
    /// Owner.
    pub owner: bool,
    /// Group.
    pub group: bool,
    /// ACL.
    pub acl: bool,
    /// Extended attributes other than the ACL.
    pub xattr: bool,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}

/// One entry's fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// At which end.
    pub side: Side,
    /// The act that failed, as in "cannot ACT PATH": "read", "create".
    pub act: String,
    /// On which entry.
    pub path: RelPath,
    /// Why.
    pub reason: String,
    /// The system's error number, where it was a system call.
    pub os_error: Option<i32>,
}

/// An entry that changed or went while it was copied, and stayed unsettled after the retries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Churn {
    /// Which entry.
    pub path: RelPath,
    /// What it did.
    pub kind: ChurnKind,
}

/// How an entry would not hold still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChurnKind {
    /// Its content changed while it was read, each time it was tried.
    Changed,
    /// It was there when the tree was scanned and gone when it was to be read.
    Vanished,
}

/// Something that concerns the whole run: said once, with a count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// What it is about, a fixed word for scripts: `owner`, `xattrs`, `state`, ...
    pub topic: String,
    /// How many entries are concerned; 0 where counting makes no sense.
    pub entries: u64,
    /// The sentence for a person.
    pub message: String,
}

/// What a run did, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Entries found in the source.
    pub source_entries: u64,
    /// Entries found in the destination.
    pub destination_entries: u64,
    /// Files whose content travelled whole.
    pub files_sent: u64,
    /// Files that were patched from their old version.
    pub files_patched: u64,
    /// Entries other than files that were made.
    pub created: u64,
    /// Entries of which only metadata was set.
    pub attributes_set: u64,
    /// Names linked to a file that was there.
    pub hard_linked: u64,
    /// Files and directories renamed at the destination.
    pub moved: u64,
    /// Files copied from another name at the destination.
    pub copied_locally: u64,
    /// Entries deleted, those in deleted directories included.
    pub deleted: u64,
    /// Entries that only the destination has and that were left.
    pub extraneous: u64,
    /// Entries that would not hold still.
    pub churn: u64,
    /// Entries that failed.
    pub problems: u64,
    /// Content of all files that take part, in bytes.
    pub source_bytes: u64,
    /// Content of the files that were dealt with, in bytes.
    pub changed_bytes: u64,
    /// Content bytes that travelled as they are.
    pub literal_bytes: u64,
    /// Content bytes taken from old versions.
    pub matched_bytes: u64,
    /// Bytes put on the wire from source to destination, framing included.
    pub wire_sent_bytes: u64,
    /// Bytes put on the wire from destination to source.
    pub wire_received_bytes: u64,
    /// The source's digest, over all that the run compares; two equal trees have the same.
    pub digest: Option<Digest>,
    /// The destination's own once all was done, where it was looked at again.
    pub destination_digest: Option<Digest>,
    /// Whether the two sides differ (`diff`, `verify`, dry runs): an item, deletion or
    /// extraneous entry was found.
    pub differs: bool,
    /// Wall time.
    pub elapsed: Duration,
}

impl Summary {
    /// Whether everything was done that was to be done.
    pub fn is_complete(&self) -> bool {
        self.problems == 0 && self.churn == 0
    }

    /// Adds what was done elsewhere.
    pub fn add(&mut self, other: &Summary) {
        for (sum, more) in [
            (&mut self.source_entries, other.source_entries),
            (&mut self.destination_entries, other.destination_entries),
            (&mut self.files_sent, other.files_sent),
            (&mut self.files_patched, other.files_patched),
            (&mut self.created, other.created),
            (&mut self.attributes_set, other.attributes_set),
            (&mut self.hard_linked, other.hard_linked),
            (&mut self.moved, other.moved),
            (&mut self.copied_locally, other.copied_locally),
            (&mut self.deleted, other.deleted),
            (&mut self.extraneous, other.extraneous),
            (&mut self.churn, other.churn),
            (&mut self.problems, other.problems),
            (&mut self.source_bytes, other.source_bytes),
            (&mut self.changed_bytes, other.changed_bytes),
            (&mut self.literal_bytes, other.literal_bytes),
            (&mut self.matched_bytes, other.matched_bytes),
            (&mut self.wire_sent_bytes, other.wire_sent_bytes),
            (&mut self.wire_received_bytes, other.wire_received_bytes),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.differs |= other.differs;
        self.elapsed = self.elapsed.saturating_add(other.elapsed);
    }
}

/// The wish to stop, shared by all threads of a run and by whoever started it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A wish not yet made.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Asks the run to stop; safe in a signal handler.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the run shall stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// [`Error::Interrupted`] once the run shall stop.
    pub fn check(&self) -> Result<(), Error> {
        if self.is_cancelled() {
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    /// The flag itself, for a signal handler that sets one.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}
