//! Turns what a root's rounds tell into what the board shows, and passes it on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::board::{Brought, Extent, RootBoard};
use super::run::MirrorObserver;
use super::status::{GenerationStatus, MOST_NAMED, State, Watch};
use crate::events::{Churn, ChurnKind, Event, Observer, Problem, RoundEvent, Summary};
use crate::path::RelPath;

/// Longer lines are cut, in characters: longer than any path.
const LONGEST_LINE: usize = 5000;

/// Who notes what happens to one root.
pub(super) struct Notes<'a> {
    name: &'a str,
    board: RootBoard,
    observer: &'a dyn MirrorObserver,
    rounds: AtomicU64,
    has_begun: AtomicBool,
    has_drift: AtomicBool,
    /// Whether a connection is new: the next round that ends tells that it goes on.
    is_new: AtomicBool,
    /// The inode of the source's root.
    root: Mutex<Option<u64>>,
    wrong: Mutex<Wrong>,
}

/// What is wrong at the moment.
#[derive(Default)]
struct Wrong {
    /// Told since the round began.
    lines: Vec<String>,
    total: u64,
    /// Databases whose copies are of more than one moment.
    torn: Vec<String>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(
        name: &'a str,
        board: RootBoard,
        observer: &'a dyn MirrorObserver,
    ) -> Notes<'a> {
        Notes {
            name,
            board,
            observer,
            rounds: AtomicU64::new(0),
            has_begun: AtomicBool::new(false),
            has_drift: AtomicBool::new(false),
            is_new: AtomicBool::new(false),
            root: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    pub(super) fn board(&self) -> &RootBoard {
        &self.board
    }

    /// How many rounds have ended well.
    pub(super) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Whether a round has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Whether others had changed the standby when it was looked at last.
    pub(super) fn has_drift(&self) -> bool {
        self.has_drift.load(Ordering::Relaxed)
    }

    /// The inode that the source's root had in the last round that read all of it.
    pub(super) fn root(&self) -> Option<u64> {
        *self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes next comes over a new connection.
    pub(super) fn reconnects(&self) {
        self.is_new.store(true, Ordering::Relaxed);
    }

    fn note(&self, event: &RoundEvent) {
        match event {
            RoundEvent::Watching { means, directories } => self.board.watch(Watch {
                means: *means,
                directories: *directories,
            }),
            RoundEvent::Lacking(age_ms) => {
                let age = age_ms.map(Duration::from_millis);
                let since = age.and_then(|age| SystemTime::now().checked_sub(age));
                self.board.pending(since);
            }
            RoundEvent::Began { full } => {
                self.has_begun.store(true, Ordering::Relaxed);
                let mut wrong = self.wrong();
                (wrong.lines, wrong.total) = (Vec::new(), 0);
                self.board.state(
                    match full {
                        true => State::Scanning,
                        false => State::Syncing,
                    },
                    None,
                );
            }
            RoundEvent::Ended {
                summary,
                full,
                agreed,
            } => self.end(summary, *full, agreed.map(|digest| digest.to_string())),
            RoundEvent::Missed(dirs) => self.board.missed(*dirs),
            RoundEvent::Overflowed => self.board.overflowed(),
            RoundEvent::Drift { dirs, total } => {
                self.has_drift.store(*total > 0, Ordering::Relaxed);
                let shown = dirs.iter().map(|dir| match dir.is_root() {
                    true => ".".to_owned(),
                    false => dir.to_string(),
                });
                self.board.drift(shown.collect(), *total);
            }
            RoundEvent::Torn(databases) => self.torn(databases),
            RoundEvent::Generations(generations) => {
                let all = generations.iter().map(|generation| GenerationStatus {
                    id: generation.id.clone(),
                    made_s: generation.made_s,
                    means: generation.means,
                    entries: generation.entries,
                });
                self.board.generations(all.collect());
            }
            RoundEvent::Root(inode) => {
                *self.root.lock().unwrap_or_else(PoisonError::into_inner) = Some(*inode);
            }
        }
    }

    fn torn(&self, databases: &[RelPath]) {
        let line = |path| {
            format!(
                "{path}: written to while it was copied; its copy is not consistent until it has \
                 been at rest"
            )
        };
        self.wrong().torn = databases.iter().map(line).collect();
        self.tell_wrong();
    }

    fn end(&self, summary: &Summary, full: bool, agreed: Option<String>) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
        if self.is_new.swap(false, Ordering::Relaxed) {
            self.board.reconnected();
            self.observer.goes_on(self.name);
        }
        let brought = Brought {
            files: summary.files_sent + summary.files_patched,
            bytes: summary.changed_bytes,
            wire_bytes: summary.wire_sent_bytes + summary.wire_received_bytes,
        };
        let extent = match full {
            true => Extent::Full,
            false => Extent::Dirty,
        };
        self.board.round(brought, extent);
        if let Some(digest) = agreed {
            self.board
                .agreed(digest, summary.source_entries, summary.source_bytes);
        }
        self.tell_wrong();
        self.board.state(State::Watching, None);
    }

    fn wrong_line(&self, line: String) {
        let mut wrong = self.wrong();
        wrong.total += 1;
        let line = shortened(line);
        if wrong.lines.len() < MOST_NAMED {
            wrong.lines.push(line);
        }
    }

    fn tell_wrong(&self) {
        let wrong = self.wrong();
        let total = wrong.total + wrong.torn.len() as u64;
        let lines = wrong.lines.iter().chain(&wrong.torn);
        self.board.problems(lines.cloned().collect(), total);
    }

    fn wrong(&self) -> MutexGuard<'_, Wrong> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Notes<'_> {
    fn observe(&self, event: Event) {
        match &event {
            Event::Round(event) => self.note(event),
            Event::Problem(problem) => self.wrong_line(problem_line(problem)),
            Event::Churn(churn) => self.wrong_line(churn_line(churn)),
            Event::Phase(crate::events::Phase::Transferring) => {
                self.board.state(State::Syncing, None);
            }
            _ => {}
        }
        self.observer.observe(self.name, &event);
    }
}

/// What the other end says may be of any length.
fn shortened(mut line: String) -> String {
    if let Some((cut, _)) = line.char_indices().nth(LONGEST_LINE) {
        line.truncate(cut);
    }
    line
}

fn problem_line(problem: &Problem) -> String {
    let Problem {
        side,
        act,
        path,
        reason,
        ..
    } = problem;
    format!("{}: cannot {act} {path}: {reason}", side.noun())
}

fn churn_line(churn: &Churn) -> String {
    match churn.kind {
        ChurnKind::Changed => format!("{}: changed while it was copied", churn.path),
        ChurnKind::Vanished => format!("{}: vanished before it was copied", churn.path),
    }
}
