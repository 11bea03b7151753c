//! The board on which a mirror's threads write what they do, and from which everybody else reads
//! it: one [`Status`] behind a lock, with its history and its days.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::status::{
    Agreed, GenerationStatus, MOST_NAMED, RootStatus, STATUS_VERSION, Sample, State, Status, Today,
    Totals, Watch, WatchMeans, moment,
};

/// Seconds between two samples of the history.
pub const SAMPLE_S: u64 = 10;

/// Samples that are kept: an hour.
pub const HISTORY: usize = 360;

/// A root as it is put on the board at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Its name in the plan.
    pub name: String,
    /// Where it is.
    pub source: String,
    /// Where its standby is.
    pub destination: String,
}

/// Whether a round read everything again, or what was said to have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All.
    Full,
    /// Dirty directories.
    Dirty,
}

/// What a round brought over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// Files that were sent or patched.
    pub files: u64,
    /// Their content in bytes, however little of it travelled.
    pub bytes: u64,
    /// What was put on the wire, in bytes.
    pub wire_bytes: u64,
}

/// A handle on the board of one mirror; a clone is another handle on the same.
#[derive(Clone, Debug)]
pub struct Board(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    status: Status,
    /// For each root its total of bytes when its history's newest sample was taken.
    sampled_bytes: Vec<u64>,
    /// Counts the changes.
    version: u64,
}

impl Board {
    /// Makes the board of a mirror that begins now.
    pub fn create(name: String, plan: Option<String>, roots: Vec<Ends>) -> Board {
        let now = SystemTime::now();
        Board::of(Status {
            version: STATUS_VERSION,
            name,
            plan,
            pid: std::process::id(),
            started_s: secs(now),
            roots: roots.into_iter().map(|ends| root(ends, now)).collect(),
        })
    }

    /// Makes a board that shows `status`.
    pub fn of(status: Status) -> Board {
        let sampled_bytes = status.roots.iter().map(|root| root.totals.bytes);
        Board(Arc::new(Shared {
            inner: Mutex::new(Inner {
                sampled_bytes: sampled_bytes.collect(),
                status,
                version: 0,
            }),
            changed: Condvar::new(),
        }))
    }

    /// The handle of the thread that mirrors root `at`, counted from 0.
    ///
    /// # Panics
    ///
    /// Where the mirror has no such root.
    pub fn root(&self, at: usize) -> RootBoard {
        let roots = self.lock().status.roots.len();
        assert!(at < roots, "root {at} of {roots}");
        RootBoard {
            board: self.clone(),
            at,
        }
    }

    /// What the board shows now.
    pub fn snapshot(&self) -> Status {
        let mut inner = self.lock();
        let now = SystemTime::now();
        for at in 0..inner.status.roots.len() {
            inner.settle(at, now);
        }
        inner.status.clone()
    }

    /// How often the board has changed.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Waits until the board has changed since it was in version `seen`, or until `timeout` is
    /// over. Returns its version.
    pub fn wait(&self, seen: u64, timeout: Duration) -> u64 {
        let deadline = Instant::now() + timeout;
        let mut inner = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if inner.version != seen || left.is_zero() {
                return inner.version;
            }
            let waited = self.0.changed.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A thread that panicked left whole values: all writes are of fields.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle on one root of a board, for the thread that mirrors it.
#[derive(Clone, Debug)]
pub struct RootBoard {
    board: Board,
    at: usize,
}

impl RootBoard {
    /// What is being done, and what is waited for or why it stopped.
    pub fn state(&self, state: State, reason: Option<String>) {
        self.write(|root, now| {
            if root.state != state {
                root.since_s = secs(now);
            }
            root.state = state;
            root.reason = reason;
        });
    }

    /// When the oldest change was made that the standby lacks; `None` where it lacks none.
    pub fn pending(&self, oldest: Option<SystemTime>) {
        self.write(|root, _| root.oldest_change_ms = oldest.map(millis));
    }

    /// Both sides are the same, now: `digest` is the root's, in hexadecimal.
    pub fn agreed(&self, digest: String, entries: u64, bytes: u64) {
        self.write(|root, now| {
            root.agreed = Some(Agreed {
                at_s: secs(now),
                digest,
                entries,
                bytes,
            });
        });
    }

    /// A round is over.
    pub fn round(&self, brought: Brought, extent: Extent) {
        self.write(|root, _| count(root, brought, extent));
    }

    /// How the source is watched.
    pub fn watch(&self, watch: Watch) {
        self.write(|root, _| root.watch = watch);
    }

    /// A rescan found changes in so many directories that the watch had not told of.
    pub fn missed(&self, directories: u64) {
        self.write(|root, _| root.totals.missed = root.totals.missed.saturating_add(directories));
    }

    /// The kernel had more to tell than it keeps.
    pub fn overflowed(&self) {
        self.write(|root, _| root.totals.overflows += 1);
    }

    /// The connection was made anew.
    pub fn reconnected(&self) {
        self.write(|root, _| root.totals.reconnects += 1);
    }

    /// What others changed at the standby: all that is named, or the first of them, and how many
    /// there are.
    pub fn drift(&self, paths: Vec<String>, total: u64) {
        self.write(|root, _| (root.drift, root.drift_total) = (named(paths), total));
    }

    /// What could not be copied, the same way.
    pub fn problems(&self, lines: Vec<String>, total: u64) {
        self.write(|root, _| (root.problems, root.problems_total) = (named(lines), total));
    }

    /// The former states of the standby, the newest first.
    pub fn generations(&self, generations: Vec<GenerationStatus>) {
        self.write(|root, _| root.generations = generations);
    }

    fn write(&self, change: impl FnOnce(&mut RootStatus, SystemTime)) {
        let mut inner = self.board.lock();
        let now = SystemTime::now();
        // First, so that samples of the time up to now show what was so then.
        inner.settle(self.at, now);
        change(&mut inner.status.roots[self.at], now);
        inner.version += 1;
        self.board.0.changed.notify_all();
    }
}

fn root(ends: Ends, now: SystemTime) -> RootStatus {
    RootStatus {
        name: ends.name,
        source: ends.source,
        destination: ends.destination,
        state: State::Waiting,
        since_s: secs(now),
        reason: None,
        oldest_change_ms: None,
        agreed: None,
        today: Today {
            day: day(now),
            ..Today::default()
        },
        watch: Watch {
            means: WatchMeans::Interval,
            directories: 0,
        },
        totals: Totals::default(),
        drift: Vec::new(),
        drift_total: 0,
        problems: Vec::new(),
        problems_total: 0,
        generations: Vec::new(),
        history: vec![Sample {
            at_s: secs(now),
            lag_ms: 0,
            bytes: 0,
        }],
    }
}

fn named(mut names: Vec<String>) -> Vec<String> {
    names.truncate(MOST_NAMED);
    names
}

fn count(root: &mut RootStatus, brought: Brought, extent: Extent) {
    let Brought {
        files,
        bytes,
        wire_bytes,
    } = brought;
    root.totals.rounds += 1;
    root.totals.rescans += u64::from(extent == Extent::Full);
    root.totals.files = root.totals.files.saturating_add(files);
    root.totals.bytes = root.totals.bytes.saturating_add(bytes);
    root.totals.wire_bytes = root.totals.wire_bytes.saturating_add(wire_bytes);
    root.today.files = root.today.files.saturating_add(files);
    root.today.bytes = root.today.bytes.saturating_add(bytes);
    root.today.wire_bytes = root.today.wire_bytes.saturating_add(wire_bytes);
}

impl Inner {
    /// Brings a root's history and its day up to `now`.
    fn settle(&mut self, at: usize, now: SystemTime) {
        let (root, sampled_bytes) = (&mut self.status.roots[at], &mut self.sampled_bytes[at]);
        let day = day(now);
        if root.today.day != day {
            root.today = Today {
                day,
                ..Today::default()
            };
        }
        sample(root, sampled_bytes, secs(now));
    }
}

/// Takes the samples that are due. Nothing changed since the last of them but what is counted in
/// `totals`, so that a board on which nobody wrote for long needs no clock of its own.
fn sample(root: &mut RootStatus, sampled_bytes: &mut u64, now_s: u64) {
    // A clock that was set back has made a future of some of the past.
    root.history.retain(|sample| sample.at_s <= now_s);
    let (last_s, due) = match root.history.last() {
        Some(last) => (last.at_s, (now_s - last.at_s) / SAMPLE_S),
        None => (now_s.saturating_sub(SAMPLE_S), 1),
    };
    let skipped = due.saturating_sub(HISTORY as u64);
    for n in skipped + 1..=due {
        let at_s = last_s + n * SAMPLE_S;
        let lag = root.lag(UNIX_EPOCH + Duration::from_secs(at_s));
        root.history.push(Sample {
            at_s,
            lag_ms: u64::try_from(lag.as_millis()).unwrap_or(u64::MAX),
            bytes: root.totals.bytes - *sampled_bytes,
        });
        *sampled_bytes = root.totals.bytes;
    }
    let kept = root.history.len().min(HISTORY);
    root.history.drain(..root.history.len() - kept);
}

fn secs(time: SystemTime) -> u64 {
    since_1970(time).as_secs()
}

fn millis(time: SystemTime) -> u64 {
    u64::try_from(since_1970(time).as_millis()).unwrap_or(u64::MAX)
}

/// A clock before 1970 is no reason to stop.
fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The day of a time in UTC, as `2026-11-23`.
fn day(time: SystemTime) -> String {
    let mut text = moment(secs(time));
    text.truncate("2026-11-23".len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Board {
        let ends = Ends {
            name: "data".into(),
            source: "/a".into(),
            destination: "/b".into(),
        };
        Board::create("app".into(), None, vec![ends])
    }

    /// One root whose history has one sample, at `at_s`.
    fn root_at(at_s: u64) -> RootStatus {
        let mut status = board().snapshot();
        let mut root = status.roots.remove(0);
        root.history = vec![Sample {
            at_s,
            lag_ms: 0,
            bytes: 0,
        }];
        root
    }

    #[test]
    fn samples_that_nobody_took_are_made_up_for() {
        let mut root = root_at(1000);
        root.oldest_change_ms = Some(1_015_000);
        root.totals.bytes = 70;
        let mut sampled = 20;
        sample(&mut root, &mut sampled, 1009);
        assert_eq!(root.history.len(), 1);
        sample(&mut root, &mut sampled, 1035);
        let told: Vec<_> = root
            .history
            .iter()
            .map(|sample| (sample.at_s, sample.lag_ms, sample.bytes))
            .collect();
        assert_eq!(
            told,
            [
                (1000, 0, 0),
                (1010, 0, 50),
                (1020, 5000, 0),
                (1030, 15_000, 0)
            ]
        );
    }

    #[test]
    fn an_hour_is_kept_however_long_nobody_looked() {
        let mut root = root_at(1000);
        sample(&mut root, &mut 0, u64::MAX / 4);
        assert_eq!(root.history.len(), HISTORY);
        let span = root.history[HISTORY - 1].at_s - root.history[0].at_s;
        assert_eq!(span, (HISTORY as u64 - 1) * SAMPLE_S);
    }

    #[test]
    fn a_clock_that_is_set_back_takes_the_future_with_it() {
        let mut root = root_at(5000);
        sample(&mut root, &mut 0, 5040);
        sample(&mut root, &mut 0, 5015);
        let last = root.history.last().unwrap();
        assert_eq!((root.history.len(), last.at_s), (2, 5010));
        sample(&mut root, &mut 0, 100);
        assert_eq!(root.history.last().unwrap().at_s, 100);
    }

    #[test]
    fn a_new_day_begins_at_nothing() {
        let board = board();
        board.root(0).round(
            Brought {
                files: 3,
                bytes: 30,
                wire_bytes: 10,
            },
            Extent::Full,
        );
        let mut inner = board.lock();
        let today = inner.status.roots[0].today.clone();
        assert_eq!((today.files, today.bytes, today.wire_bytes), (3, 30, 10));
        inner.settle(0, SystemTime::now() + Duration::from_secs(86_400));
        let root = &inner.status.roots[0];
        assert_eq!(root.today.files, 0);
        assert!(root.today.day > today.day);
        assert_eq!((root.totals.files, root.totals.rescans), (3, 1));
    }

    #[test]
    fn a_state_lasts_since_it_began() {
        let board = board();
        board.lock().status.roots[0].since_s = 7;
        let root = board.root(0);
        root.state(State::Waiting, Some("for the host".into()));
        let shown = board.snapshot().roots.remove(0);
        assert_eq!((shown.since_s, shown.reason.is_some()), (7, true));
        root.state(State::Scanning, None);
        let shown = board.snapshot().roots.remove(0);
        assert!(shown.since_s > 7);
        assert_eq!(shown.reason, None);
    }

    #[test]
    fn a_change_wakes_who_waits_and_nothing_else_does() {
        let board = board();
        assert_eq!(board.wait(0, Duration::from_millis(20)), 0);
        let waiter = board.clone();
        let waited = std::thread::spawn(move || waiter.wait(0, Duration::from_secs(60)));
        board.root(0).overflowed();
        assert_eq!(waited.join().unwrap(), 1);
        assert_eq!(board.snapshot().roots[0].totals.overflows, 1);
    }

    #[test]
    fn names_beyond_the_first_are_only_counted() {
        let board = board();
        let paths = (0..MOST_NAMED + 5).map(|n| n.to_string()).collect();
        board.root(0).drift(paths, 4711);
        let root = board.snapshot().roots.remove(0);
        assert_eq!((root.drift.len(), root.drift_total), (MOST_NAMED, 4711));
    }
}
