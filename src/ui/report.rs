//! The observer for people: itemised lines, problems as they come, and the closing words.

use std::sync::{Arc, Mutex};

use crate::error::{Error, ErrorClass};
use crate::events::{Churn, ChurnKind, Event, Problem, RootBegun, Summary, Warning};

use super::itemize::{Extraneous, Itemizer};
use super::screen::Screen;
use super::tally::Tally;
use super::{Act, Detail, View, human, lock, printable, summary};

/// Tells a person of a run.
pub(super) struct Report {
    itemizer: Itemizer,
    view: View,
    screen: Arc<Screen>,
    tally: Mutex<Tally>,
}

impl Report {
    pub(super) fn new(view: View, screen: Arc<Screen>) -> Report {
        let extraneous = if view.act.compares() {
            Extraneous::Reported
        } else {
            Extraneous::Deleted
        };
        Report {
            itemizer: Itemizer {
                direction: view.direction,
                extraneous,
            },
            view,
            screen,
            tally: Mutex::default(),
        }
    }

    /// Takes an event in.
    pub(super) fn take(&self, event: &Event) {
        match event {
            Event::Item(item) => {
                lock(&self.tally).item(item);
                if self.view.items && self.view.detail != Detail::Quiet {
                    self.screen.out(&self.itemizer.line(item));
                }
            }
            Event::Problem(problem) => {
                lock(&self.tally).problem(problem);
                self.screen.err(&problem_line(problem));
            }
            Event::Churn(churn) => self.screen.err(&churn_line(churn)),
            Event::Warning(warning) => lock(&self.tally).warning(warning),
            Event::Note(note) if self.view.detail == Detail::Verbose => {
                self.screen.err(&printable(note));
            }
            Event::RootBegun(root) if self.tells_roots() => {
                let RootBegun {
                    name,
                    source,
                    destination,
                } = root;
                self.screen.out(&printable(&format!(
                    "root {name}: {source} -> {destination}"
                )));
            }
            Event::RootDone { name, summary } => {
                let done = (name.clone(), Summary::clone(summary));
                lock(&self.tally).roots.push(done);
            }
            Event::Note(_)
            | Event::Round(_)
            | Event::RootBegun(_)
            | Event::Phase(_)
            | Event::Scanned { .. }
            | Event::Planned { .. }
            | Event::Done { .. }
            | Event::Current(_) => {}
        }
    }

    /// Whether lines follow that need to be told which root they are of.
    fn tells_roots(&self) -> bool {
        match self.view.detail {
            Detail::Quiet => false,
            Detail::Normal => self.view.items,
            Detail::Verbose => true,
        }
    }

    /// Says how the run ended.
    pub(super) fn close(&self, outcome: &Result<Summary, Error>) {
        let tally = lock(&self.tally);
        if self.view.detail != Detail::Quiet {
            for warning in tally.warnings() {
                self.screen.err(&warning_line(warning));
            }
        }
        match outcome {
            Ok(summary) if self.view.detail != Detail::Quiet => {
                for line in summary::lines(&self.view, summary, &tally) {
                    self.screen.out(&line);
                }
            }
            Ok(_) => {}
            Err(err) => self.screen.err(&error_line(err, &self.view.act)),
        }
    }
}

pub(super) fn problem_line(problem: &Problem) -> String {
    format!(
        "cutover: cannot {} {} at the {}: {}",
        printable(&problem.act),
        problem.path,
        problem.side.noun(),
        printable(&problem.reason),
    )
}

pub(super) fn churn_line(churn: &Churn) -> String {
    let what = match churn.kind {
        ChurnKind::Changed => "kept changing while it was copied",
        ChurnKind::Vanished => "vanished before it could be copied",
    };
    format!("cutover: {} {what}", churn.path)
}

pub(super) fn warning_line(warning: &Warning) -> String {
    let count = match warning.entries {
        0 => String::new(),
        n => format!(" ({})", human::entries(n)),
    };
    format!("cutover: warning: {}{count}", printable(&warning.message))
}

/// The last words of a run that did not get to its end.
pub(super) fn error_line(err: &Error, act: &Act) -> String {
    if err.class() != ErrorClass::Interrupted {
        return format!("cutover: {}", printable(&err.to_string()));
    }
    match act {
        Act::Sync => "cutover: interrupted; run the same command again to go on: what was \
                      finished is kept"
            .to_owned(),
        Act::Bundle(_) => "cutover: interrupted; there is no bundle".to_owned(),
        Act::Restore(_) => {
            "cutover: interrupted; what was restored is kept, and the rest is as it \
                            was: run the same command again for all of it"
                .to_owned()
        }
        _ => "cutover: interrupted; run the same command again for the whole answer".to_owned(),
    }
}
