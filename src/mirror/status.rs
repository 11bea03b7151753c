//! What a mirror tells of itself: plain values, the same for a terminal, for scripts, for a page and
//! for metrics.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

pub use crate::events::WatchMeans;
use crate::protocol::errand::KeepMeans;

/// The form of [`Status`] as JSON; raised when a field changes its meaning or goes.
pub const STATUS_VERSION: u32 = 1;

/// How many problems, and how many places of drift, are told by name; beyond, they are counted.
pub const MOST_NAMED: usize = 100;

/// One mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`STATUS_VERSION`].
    pub version: u32,
    /// The plan's name, or both ends.
    pub name: String,
    /// The plan's file, in full, where there is one.
    pub plan: Option<String>,
    /// Its process.
    pub pid: u32,
    /// When it began, in seconds since 1970.
    pub started_s: u64,
    /// Its roots, in the plan's order.
    pub roots: Vec<RootStatus>,
}

/// One root of a mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootStatus {
    /// Its name in the plan.
    pub name: String,
    /// Where it is.
    pub source: String,
    /// Where its standby is.
    pub destination: String,
    /// What is being done.
    pub state: State,
    /// Since when, in seconds since 1970.
    pub since_s: u64,
    /// What is waited for, or why it stopped.
    pub reason: Option<String>,
    /// When the oldest change was made that the standby lacks, in milliseconds since 1970; `None`
    /// where it lacks none that is known.
    pub oldest_change_ms: Option<u64>,
    /// When both sides were the same the last time.
    pub agreed: Option<Agreed>,
    /// What travelled on the current day.
    pub today: Today,
    /// How the source is watched.
    pub watch: Watch,
    /// Counted since the mirror began.
    pub totals: Totals,
    /// What was changed at the standby by others, as last found: up to [`MOST_NAMED`] paths.
    pub drift: Vec<String>,
    /// All of them.
    pub drift_total: u64,
    /// What could not be copied in the last round that met it: up to [`MOST_NAMED`].
    pub problems: Vec<String>,
    /// All of them.
    pub problems_total: u64,
    /// Former states of the standby, the newest first.
    pub generations: Vec<GenerationStatus>,
    /// The last hour, the oldest first.
    pub history: Vec<Sample>,
}

/// What a mirror is doing with a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Reading a whole tree.
    Scanning,
    /// Sending what changed.
    Syncing,
    /// Nothing to do but to listen.
    Watching,
    /// Something hinders it, and it will try again.
    Waiting,
    /// It has ended.
    Stopped,
}

/// When and in what both sides were the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// In seconds since 1970.
    pub at_s: u64,
    /// The root digest of both, in hexadecimal.
    pub digest: String,
    /// Entries below the root.
    pub entries: u64,
    /// Content of its files, in bytes.
    pub bytes: u64,
}

/// What travelled on one day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Today {
    /// The day, as `2026-11-23` in UTC.
    pub day: String,
    /// Files that were sent or patched.
    pub files: u64,
    /// Their content in bytes, however little of it travelled.
    pub bytes: u64,
    /// What was put on the wire, in bytes.
    pub wire_bytes: u64,
}

/// How a source is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// By what.
    pub means: WatchMeans,
    /// Directories that are watched.
    pub directories: u64,
}

/// Counted since a mirror began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Rounds that brought something over, or found nothing to.
    pub rounds: u64,
    /// Of them, those that read everything again.
    pub rescans: u64,
    /// Directories in which a rescan found what the watch had missed.
    pub missed: u64,
    /// Times that the kernel had more to tell than it keeps.
    pub overflows: u64,
    /// Times that the connection was made anew.
    pub reconnects: u64,
    /// Files that were sent or patched.
    pub files: u64,
    /// Their content in bytes, however little of it travelled.
    pub bytes: u64,
    /// What was put on the wire, in bytes.
    pub wire_bytes: u64,
}

/// A former state of a standby.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationStatus {
    /// Its name.
    pub id: String,
    /// When it was made, in seconds since 1970.
    pub made_s: u64,
    /// How.
    pub means: KeepMeans,
    /// Entries in it.
    pub entries: u64,
}

/// One moment of a root's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// In seconds since 1970.
    pub at_s: u64,
    /// The lag then, in milliseconds.
    pub lag_ms: u64,
    /// Content bytes brought over since the sample before.
    pub bytes: u64,
}

impl RootStatus {
    /// Whether the standby is being kept and is what it should be.
    pub fn is_fine(&self) -> bool {
        !matches!(self.state, State::Waiting | State::Stopped)
            && self.drift_total == 0
            && self.problems_total == 0
    }

    /// The [`lag`](RootStatus::lag); `None` before the first round is over, when nobody knows what the
    /// standby lacks.
    pub fn known_lag(&self, now: SystemTime) -> Option<Duration> {
        let is_known = self.oldest_change_ms.is_some() || self.totals.rounds > 0;
        is_known.then(|| self.lag(now))
    }

    /// How old the oldest change is that the standby lacks; zero where it lacks none that is known.
    pub fn lag(&self, now: SystemTime) -> Duration {
        let Some(oldest_ms) = self.oldest_change_ms else {
            return Duration::ZERO;
        };
        let oldest = UNIX_EPOCH + Duration::from_millis(oldest_ms);
        now.duration_since(oldest).unwrap_or_default()
    }
}

impl Status {
    /// Whether nothing needs anybody's attention.
    pub fn is_fine(&self) -> bool {
        self.roots.iter().all(RootStatus::is_fine)
    }
}

/// A time for people: `2026-11-22T21:15:00Z`; empty where it is beyond all years.
pub fn moment(at_s: u64) -> String {
    let mut text = String::new();
    if let Some(at) = UNIX_EPOCH.checked_add(Duration::from_secs(at_s)) {
        // It writes nothing of a year that it cannot write.
        let _ = write!(text, "{}", humantime::format_rfc3339_seconds(at));
    }
    text
}

impl State {
    /// All of them.
    pub const ALL: [State; 5] = [
        State::Scanning,
        State::Syncing,
        State::Watching,
        State::Waiting,
        State::Stopped,
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            State::Scanning => "scanning",
            State::Syncing => "syncing",
            State::Watching => "watching",
            State::Waiting => "waiting",
            State::Stopped => "stopped",
        }
    }
}
