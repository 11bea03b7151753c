//! What a switch tells whoever watches it, as it goes; the engine's own events among it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::step::Step;
use crate::events::{Event, Observer, Side};
use crate::plan::Finding;
use crate::protocol::errand::OutputLine;

/// One thing to tell.
#[derive(Clone, Debug)]
pub enum Told {
    /// A step begins, one of so many.
    Began {
        /// Which.
        step: Step,
        /// Counted from 1.
        number: usize,
        /// How many there are.
        of: usize,
    },
    /// A step did what it should.
    Ended {
        /// Which.
        step: Step,
        /// What there is to say of it.
        note: Option<String>,
        /// How long it took.
        elapsed: Duration,
    },
    /// A step did not.
    Failed {
        /// Which.
        step: Step,
        /// Why.
        why: String,
    },
    /// The switch failed and goes back, as the plan says.
    GoesBack {
        /// Why.
        why: String,
    },
    /// A step had been done before.
    Skipped {
        /// Which.
        step: Step,
    },
    /// What the preflight found.
    Finding(Finding),
    /// A command wrote a line.
    Output {
        /// On which side.
        side: Side,
        /// The line.
        line: OutputLine,
    },
    /// A sync or a comparison goes on.
    Event(Event),
}

/// Watches a switch. Called from several threads; a call must not block for long.
pub trait Watch: Send + Sync {
    /// Takes what is told.
    fn take(&self, told: Told);
}

/// How many lines on what went wrong with entries an error repeats.
const QUOTED: usize = 5;

/// Passes the engine's events on and remembers the first faults, which a step's failure names.
pub(super) struct Listener {
    watch: Arc<dyn Watch>,
    faults: Mutex<Vec<String>>,
}

impl Listener {
    pub(super) fn new(watch: Arc<dyn Watch>) -> Listener {
        Listener {
            watch,
            faults: Mutex::default(),
        }
    }

    /// The first faults, as the end of a sentence.
    pub(super) fn quoted(&self) -> String {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        match faults.is_empty() {
            true => String::new(),
            false => format!(": {}", faults.join("; ")),
        }
    }

    fn remember(&self, fault: String) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.len() < QUOTED {
            faults.push(fault);
        }
    }
}

impl Observer for Listener {
    fn observe(&self, event: Event) {
        match &event {
            Event::Problem(problem) => self.remember(format!(
                "cannot {} {} at the {}: {}",
                problem.act,
                problem.path,
                problem.side.noun(),
                problem.reason
            )),
            Event::Churn(churn) => self.remember(format!("{} changed meanwhile", churn.path)),
            Event::Item(item) => self.remember(item.path.to_string()),
            _ => {}
        }
        self.watch.take(Told::Event(event));
    }
}
