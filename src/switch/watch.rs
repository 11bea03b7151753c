//! What a switch tells whoever watches it, as it goes; the engine's own events among it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::step::Step;
use crate::events::{Action, Event, Observer, Side};
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

/// Passes the engine's events on and remembers the first faults, which a step's failure names, and
/// what of a comparison differed.
pub(super) struct Listener {
    watch: Arc<dyn Watch>,
    faults: Mutex<Vec<String>>,
    /// Whether an entry was told that only the destination has.
    saw_extra: AtomicBool,
    /// Whether any other difference was told.
    saw_other: AtomicBool,
}

impl Listener {
    pub(super) fn new(watch: Arc<dyn Watch>) -> Listener {
        Listener {
            watch,
            faults: Mutex::default(),
            saw_extra: AtomicBool::default(),
            saw_other: AtomicBool::default(),
        }
    }

    /// Whether all that differed is that the destination has more.
    pub(super) fn saw_only_extras(&self) -> bool {
        self.saw_extra.load(Ordering::Relaxed) && !self.saw_other.load(Ordering::Relaxed)
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
            Event::Item(item) => {
                let seen = match item.action {
                    Action::Delete => &self.saw_extra,
                    _ => &self.saw_other,
                };
                seen.store(true, Ordering::Relaxed);
                self.remember(item.path.to_string());
            }
            _ => {}
        }
        self.watch.take(Told::Event(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryKind;
    use crate::events::{Changes, Item};
    use crate::path::RelPath;

    struct Deaf;

    impl Watch for Deaf {
        fn take(&self, _: Told) {}
    }

    #[test]
    fn what_differs_is_named_and_told_from_what_is_only_more() {
        let listener = Listener::new(Arc::new(Deaf));
        let tell = |path: &[u8], action| {
            listener.observe(Event::Item(Item {
                path: RelPath::new(path).unwrap(),
                kind: EntryKind::File,
                action,
                changes: Changes::default(),
            }));
        };
        assert!(!listener.saw_only_extras(), "nothing was told");
        tell(b"own", Action::Delete);
        assert!(listener.saw_only_extras());
        tell(b"torn", Action::Transfer);
        assert!(!listener.saw_only_extras());
        assert_eq!(listener.quoted(), ": own; torn");
    }
}
