//! What a person or a script sees of a run: its events as lines, a progress bar or JSON, and its
//! end as a summary. Results go to standard output; errors, warnings and progress to standard
//! error.

mod generations;
mod human;
pub mod itemize;
mod json;
mod mirror;
mod plan;
mod progress;
mod report;
mod screen;
mod status;
mod steps;
mod summary;
mod tally;
mod totals;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Error;
use crate::events::{Event, Observer, Summary};
use crate::options::Compare;
use crate::session::Cancel;

use itemize::Direction;
use json::Json;
use progress::{Meter, Progress};
use report::Report;
use screen::Screen;

pub use generations::{
    comparison_json, comparison_text, generations_json, generations_table, recovered_text,
};
pub use human::printable;
pub use mirror::{MirrorUi, MirrorView};
pub use plan::{Colours, findings_json, findings_table, plan_json, plan_text};
pub use status::{status_json, status_lines, status_text};
pub use steps::Steps;

/// What the run is for, as far as its words differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Changes the destination.
    Sync,
    /// Tells what a sync would change.
    DryRun,
    /// Tells what differs, compared in this way.
    Diff(Compare),
    /// Proves that nothing differs.
    Verify,
    /// Writes a manifest to this file.
    Manifest(PathBuf),
    /// Writes a bundle to this file.
    Bundle(PathBuf),
    /// Proves that a bundle is what its manifest says.
    VerifyBundle,
    /// Restores a bundle to this directory.
    Restore(PathBuf),
}

impl Act {
    /// Whether the lines on standard output are all that the run is for, so that it may stop
    /// when nobody reads them.
    fn only_reports(&self) -> bool {
        matches!(
            self,
            Act::DryRun | Act::Diff(_) | Act::Verify | Act::VerifyBundle
        )
    }

    /// Whether entries that only the destination has are findings, not deletions.
    fn compares(&self) -> bool {
        matches!(self, Act::Diff(_) | Act::Verify | Act::VerifyBundle)
    }
}

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Detail {
    /// Errors only.
    Quiet,
    /// What was asked for, and the summary.
    #[default]
    Normal,
    /// Also notes on what the run decides and why.
    Verbose,
}

/// Whom the lines are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// A person.
    #[default]
    People,
    /// A program: JSON lines, as `doc/json.md` has them.
    Json,
}

/// Whether progress is shown on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ShowProgress {
    /// A bar on a terminal, a line now and then elsewhere.
    #[default]
    Yes,
    /// Not at all.
    No,
}

/// How far bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Both ends are on this host.
    Here,
    /// An end is on another.
    Far,
}

/// How a run is shown.
#[derive(Clone, Debug)]
pub struct View {
    /// What it is for.
    pub act: Act,
    /// Whom for.
    pub format: Format,
    /// How much.
    pub detail: Detail,
    /// Whether a line is written for each changed entry.
    pub items: bool,
    /// Whether progress is shown.
    pub progress: ShowProgress,
    /// Which way content goes, as itemised lines show it.
    pub direction: Direction,
    /// How far: only between hosts is traffic told.
    pub reach: Reach,
}

/// What became of standard output.
#[derive(Debug)]
pub enum Output {
    /// All was written.
    Written,
    /// Its reader went away before the end (`| head`).
    ReaderLeft,
    /// It could not be written.
    Failed(io::Error),
}

/// Shows one run: an observer while it lasts, and [`Ui::close`] at its end.
pub struct Ui {
    screen: Arc<Screen>,
    progress: Option<Progress>,
    voice: Voice,
}

enum Voice {
    People(Report),
    Json(Json),
}

impl Ui {
    /// Shows a run on the process's standard streams.
    ///
    /// When the reader of standard output goes away, a run that only reports is cancelled; a run
    /// that changes something goes on.
    pub fn open(view: View, cancel: &Cancel) -> Ui {
        let meter = match view.progress {
            ShowProgress::No => None,
            ShowProgress::Yes => Some(Meter::for_stderr()),
        };
        let bar = meter.as_ref().map(Meter::bar);
        let cancel = view.act.only_reports().then(|| cancel.clone());
        let screen = Arc::new(Screen::stdio(bar, cancel));
        Ui::on(screen, meter, view)
    }

    fn on(screen: Arc<Screen>, meter: Option<Meter>, view: View) -> Ui {
        let progress = meter.and_then(|meter| Progress::start(meter, Arc::clone(&screen)));
        let voice = match view.format {
            Format::People => Voice::People(Report::new(view, Arc::clone(&screen))),
            Format::Json => Voice::Json(Json::new(view, Arc::clone(&screen))),
        };
        Ui {
            screen,
            progress,
            voice,
        }
    }

    /// Says how the run ended, and with which exit code. Returns what became of the output.
    pub fn close(&self, outcome: &Result<Summary, Error>, exit_code: u8) -> Output {
        if let Some(progress) = &self.progress {
            progress.finish();
        }
        if !(self.screen.cancelled_the_run() && matches!(outcome, Err(Error::Interrupted))) {
            match &self.voice {
                Voice::People(report) => report.close(outcome),
                Voice::Json(json) => json.close(outcome, exit_code),
            }
        }
        self.screen.output()
    }
}

impl Observer for Ui {
    fn observe(&self, event: Event) {
        if let Some(progress) = &self.progress {
            progress.take(&event);
        }
        match &self.voice {
            Voice::People(report) => report.take(&event),
            Voice::Json(json) => json.take(&event),
        }
    }
}

/// Locks, whatever another thread's panic left behind: what is shown may then be a line short,
/// which is no reason to lose the run.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
