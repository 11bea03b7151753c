//! The mirror itself: a thread for each root, which runs rounds, and connects again for as long as it
//! takes; and one that sees to what is asked of the whole.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::board::{Board, Ends};
use super::note::Notes;
use super::requests::{Asked, Requests};
use super::status::State;
use crate::error::{Error, ErrorClass, Result};
use crate::events::{Cancel, Event};
use crate::options::{Mirroring, OnDrift};
use crate::session::{Job, Keeper, Wishes, run_rounds};

/// The pause before the first attempt to connect again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// And at most so long: a standby is back soon after its host is.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How soon a root that rests notices what is asked.
const LOOK: Duration = Duration::from_millis(200);

/// One root of a mirror.
#[derive(Clone, Debug)]
pub struct MirrorRoot {
    /// What it is called.
    pub name: String,
    /// Both ends, and what a round does.
    pub job: Job,
    /// How rounds follow each other.
    pub mirroring: Mirroring,
}

/// Watches a mirror. Called from all of its threads; a call must not block for long.
pub trait MirrorObserver: Send + Sync {
    /// Takes one event of a root.
    fn observe(&self, root: &str, event: &Event);

    /// A root waits for better times, and will try again after `pause`.
    fn waits(&self, root: &str, reason: &Error, pause: Duration);

    /// A root is connected again.
    fn goes_on(&self, root: &str);
}

/// How a mirror ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to stop. The standby is as it was after the last round.
    Stopped,
    /// It was asked to hand over: the standby has all that changed, and is marked as one no longer.
    HandedOver,
    /// It was asked to read its plan again, which is for whoever runs it.
    Reloads,
}

/// Keeps standbys warm until it is asked to stop.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use cutover::mirror::{Mirror, MirrorRoot, SilentMirror};
/// # fn roots() -> Vec<MirrorRoot> { Vec::new() }
/// let mirror = Mirror::new("state", None, roots());
/// let requests = mirror.requests();
/// std::thread::spawn(move || {
///     std::thread::sleep(std::time::Duration::from_secs(60));
///     requests.stop();
/// });
/// mirror.run(&SilentMirror)?;
/// # Ok::<(), cutover::error::Error>(())
/// ```
pub struct Mirror {
    roots: Vec<MirrorRoot>,
    board: Board,
    requests: Requests,
    pulse: Arc<AtomicU64>,
}

/// An observer that looks away; [`Mirror::board`] tells all the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct SilentMirror;

impl MirrorObserver for SilentMirror {
    fn observe(&self, _: &str, _: &Event) {}
    fn waits(&self, _: &str, _: &Error, _: Duration) {}
    fn goes_on(&self, _: &str) {}
}

impl Mirror {
    /// A mirror of these roots. `name` and `plan`, a file, are what others know it by.
    pub fn new(name: &str, plan: Option<String>, roots: Vec<MirrorRoot>) -> Mirror {
        let ends = roots.iter().map(|root| Ends {
            name: root.name.clone(),
            source: root.job.source.to_string(),
            destination: root.job.destination.to_string(),
        });
        Mirror {
            board: Board::create(name.to_owned(), plan, ends.collect()),
            requests: Requests::default(),
            pulse: Arc::default(),
            roots,
        }
    }

    /// Where it writes what it does.
    pub fn board(&self) -> Board {
        self.board.clone()
    }

    /// How it is asked to stop, or to hand over.
    pub fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// Grows several times a second while it runs: one that stands still hangs.
    pub fn pulse(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.pulse)
    }

    /// Runs until it is asked to end.
    ///
    /// # Errors
    ///
    /// Why a root could not be mirrored at all: those of its first round; later only that others
    /// changed the standby, where the options say that this stops it.
    pub fn run(&self, observer: &dyn MirrorObserver) -> Result<Ended> {
        let cancel = Cancel::new();
        let threads: Vec<_> = (0..self.roots.len()).map(|_| Thread::default()).collect();
        thread::scope(|scope| {
            let pairs = self.roots.iter().zip(&threads).enumerate();
            let runs = pairs.map(|(at, (root, thread))| {
                let runner = Runner {
                    root,
                    thread,
                    notes: Notes::new(&root.name, self.board.root(at), observer),
                    observer,
                    cancel: &cancel,
                };
                scope.spawn(move || runner.run())
            });
            let runs: Vec<_> = runs.collect();
            let ended = self.attend(&threads, &runs, &cancel);
            let mut outcome = Ok(ended);
            for run in runs {
                let run = run
                    .join()
                    .unwrap_or_else(|_| Err(Error::protocol("a root panicked")));
                match run {
                    Err(err) if err.class() != ErrorClass::Interrupted => {
                        outcome = outcome.and(Err(err));
                    }
                    _ => {}
                }
            }
            outcome
        })
    }

    /// Sees to what is asked of the mirror, until that or a root ends it.
    fn attend(
        &self,
        threads: &[Thread],
        runs: &[ScopedJoinHandle<'_, Result<()>>],
        cancel: &Cancel,
    ) -> Ended {
        let mut seen = Asked::default();
        loop {
            self.pulse.fetch_add(1, Ordering::Relaxed);
            if runs.iter().any(ScopedJoinHandle::is_finished) {
                cancel.cancel();
                return Ended::Stopped;
            }
            seen = self.requests.wait(seen, LOOK);
            if seen.stop || seen.reloads > 0 {
                cancel.cancel();
                return match seen.stop {
                    true => Ended::Stopped,
                    false => Ended::Reloads,
                };
            }
            threads
                .iter()
                .for_each(|thread| thread.wishes.drain(seen.drain));
            if seen.drain && self.is_handed_over(threads) {
                cancel.cancel();
                return Ended::HandedOver;
            }
            if !seen.drain {
                threads.iter().for_each(|thread| thread.go_on());
            }
        }
    }

    /// Gives the word on a hand-over where there is one; whether it is the end.
    fn is_handed_over(&self, threads: &[Thread]) -> bool {
        if let Some(reason) = threads.iter().find_map(Thread::hindrance) {
            self.requests.drained(Err(reason));
            return false;
        }
        threads.iter().all(Thread::has_parted) && self.requests.drained(Ok(()))
    }
}

/// What the thread of a root and the one that attends tell each other.
#[derive(Default)]
struct Thread {
    wishes: Wishes,
    /// All that changed has arrived, and the ends have parted.
    has_parted: AtomicBool,
    hindrance: Mutex<Option<String>>,
}

impl Thread {
    fn has_parted(&self) -> bool {
        self.has_parted.load(Ordering::Acquire)
    }

    /// Lets a root that has parted be mirrored again.
    fn go_on(&self) {
        self.has_parted.store(false, Ordering::Release);
    }

    /// What the root waits for.
    fn hindrance(&self) -> Option<String> {
        let hindrance = self.hindrance.lock();
        hindrance.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_hindrance(&self, reason: Option<String>) {
        *self
            .hindrance
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

/// Mirrors one root.
struct Runner<'a> {
    root: &'a MirrorRoot,
    thread: &'a Thread,
    notes: Notes<'a>,
    observer: &'a dyn MirrorObserver,
    cancel: &'a Cancel,
}

impl Runner<'_> {
    fn run(&self) -> Result<()> {
        let outcome = self.run_on();
        let reason = match &outcome {
            Err(err) if err.class() != ErrorClass::Interrupted => Some(err.to_string()),
            _ => None,
        };
        self.notes.board().state(State::Stopped, reason);
        outcome
    }

    fn run_on(&self) -> Result<()> {
        let mut keeper = Keeper::default();
        let mut pause = FIRST_PAUSE;
        // Rounds until the ends parted the last time, which takes the marker off the standby.
        let mut parted_after = 0;
        loop {
            let began = Instant::now();
            let rounds = self.notes.rounds();
            // The marker is put up after the first round, for certain before the second.
            let mirroring = Mirroring {
                goes_on: rounds > parted_after + 1,
                root: self.notes.root(),
                ..self.root.mirroring.clone()
            };
            let outcome = run_rounds(
                &self.root.job,
                &mirroring,
                &mut keeper,
                &self.thread.wishes,
                &self.notes,
                self.cancel,
            );
            let err = match outcome {
                Ok(()) => {
                    self.rest_parted(&mut keeper)?;
                    parted_after = self.notes.rounds();
                    continue;
                }
                Err(err) => err,
            };
            self.cancel.check()?;
            if self.is_final(&err) {
                return Err(err);
            }
            // A connection that served is no failed attempt.
            if self.notes.rounds() > rounds {
                pause = FIRST_PAUSE;
            }
            let jittered = jittered(pause, began);
            self.wait(&err, jittered, &mut keeper)?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether trying again would not help. Before the first round whoever started the mirror is
    /// there to hear of it; once it has begun it goes on for as long as it takes.
    fn is_final(&self, err: &Error) -> bool {
        let stops_for_drift =
            self.root.mirroring.on_drift == OnDrift::Stop && self.notes.has_drift();
        let is_first = self.notes.rounds() == 0;
        match err.class() {
            ErrorClass::Usage => true,
            ErrorClass::Refused => is_first || stops_for_drift,
            ErrorClass::Locked => is_first,
            // A first copy that took hours is not given up for a connection that broke.
            _ => !self.notes.has_begun(),
        }
    }

    /// Waits before the next attempt, and goes on listening.
    fn wait(&self, err: &Error, pause: Duration, keeper: &mut Keeper) -> Result<()> {
        let board = self.notes.board();
        board.state(State::Waiting, Some(err.to_string()));
        self.observer.waits(&self.root.name, err, pause);
        self.thread.set_hindrance(Some(err.to_string()));
        let until = Instant::now() + pause;
        while Instant::now() < until {
            self.cancel.check()?;
            thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
            keeper.listen(&self.notes);
        }
        self.thread.set_hindrance(None);
        self.notes.reconnects();
        Ok(())
    }

    /// Rests after the ends have parted, until it is clear whether they meet again.
    fn rest_parted(&self, keeper: &mut Keeper) -> Result<()> {
        self.thread.has_parted.store(true, Ordering::Release);
        while self.thread.has_parted() {
            self.cancel.check()?;
            thread::sleep(LOOK / 4);
            keeper.listen(&self.notes);
        }
        Ok(())
    }
}

/// A pause of nearly this length: mirrors that lost one host together shall not come back to it
/// together.
fn jittered(pause: Duration, seed: Instant) -> Duration {
    let nanos = seed.elapsed().subsec_nanos() % 1000;
    pause.mul_f64(0.75 + f64::from(nanos) / 2000.0)
}
