//! The progress bar, and the plain lines that stand for it where there is no terminal.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::events::{Event, Phase};

use super::lock;
use super::screen::Screen;
use super::totals::Totals;

/// How often the bar is drawn: fluent to the eye, and nothing beside the run's own work.
const BAR_INTERVAL: Duration = Duration::from_millis(100);

/// How often a line is written to a log: often enough to see life in it, seldom enough that an
/// hour's run stays readable.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// How long the other host may take before the terminal says what is waited for: most are reached
/// sooner, and a person at a prompt is not disturbed at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// What it says then. There is no bar yet, since ssh may be asking on its line.
const WAITING: &str = "cutover: still waiting for the other host: it may be asking for a password \
                       or a confirmation; Ctrl-C gives up";

/// What a file counts beside its bytes when the time left is estimated: to make one takes about as
/// long as to write this much. Without it a tree that ends in small files has "no time left" for
/// most of its time.
const FILE_COST_BYTES: u64 = 32 << 10;

/// What shows progress.
pub(super) struct Meter {
    shape: Shape,
    /// Counts work, of which bytes are only a part. Hidden, it still estimates the time left.
    bar: ProgressBar,
    /// Counts bytes, never drawn: estimates the rate.
    bytes: ProgressBar,
}

#[derive(Clone, Copy)]
enum Shape {
    /// A bar on the terminal.
    Bar,
    /// A line now and then.
    Lines,
}

impl Meter {
    /// The one that suits the process's standard error.
    pub(super) fn for_stderr() -> Meter {
        let (shape, bar) = if io::stderr().is_terminal() {
            // Shown once there is something to draw: whatever is printed before draws it as well.
            let hidden = ProgressDrawTarget::hidden();
            let bar = ProgressBar::with_draw_target(Some(0), hidden).with_style(style(false));
            (Shape::Bar, bar)
        } else {
            (Shape::Lines, ProgressBar::hidden())
        };
        Meter {
            shape,
            bar,
            bytes: ProgressBar::hidden(),
        }
    }

    /// The bar, drawn or hidden.
    pub(super) fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    fn interval(&self) -> Duration {
        match self.shape {
            Shape::Bar => BAR_INTERVAL,
            Shape::Lines => LINE_INTERVAL,
        }
    }

    /// Shows the totals.
    fn draw(&self, totals: &Totals, screen: &Screen) {
        if matches!(self.shape, Shape::Bar) && self.bar.is_hidden() {
            // ssh may be asking for a password on this very line.
            if totals.is_connecting() {
                return;
            }
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bytes.set_position(totals.done_bytes);
        self.bar
            .set_length(work(totals.planned_files, totals.planned_bytes));
        self.bar
            .set_position(work(totals.done_files, totals.done_bytes));
        let line = totals.line(self.bytes.per_sec(), Some(self.bar.eta()));
        match self.shape {
            Shape::Bar => {
                self.bar.set_style(style(totals.plan_complete));
                self.bar.set_message(line);
            }
            Shape::Lines => screen.err(&format!("cutover: {line}")),
        }
        self.bar.tick();
    }
}

fn work(files: u64, bytes: u64) -> u64 {
    bytes.saturating_add(files.saturating_mul(FILE_COST_BYTES))
}

/// While the plan grows: a bar would run backwards.
const GROWING: &str = "{spinner} {wide_msg}";

/// Once the whole is known.
const WHOLE: &str = "[{bar:12}] {wide_msg}";

fn style(plan_complete: bool) -> ProgressStyle {
    let template = if plan_complete { WHOLE } else { GROWING };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// How long the other host has been waited for.
#[derive(Default)]
struct Wait {
    since: Option<Instant>,
    is_told: bool,
}

impl Wait {
    /// Whether it has become too long for silence; true once.
    fn is_long(&mut self, is_reaching: bool, patience: Duration) -> bool {
        if !is_reaching || self.is_told {
            return false;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        self.is_told = since.elapsed() >= patience;
        self.is_told
    }
}

/// Shows progress from a thread of its own, so that events only add up.
pub(super) struct Progress {
    totals: Arc<Mutex<Totals>>,
    drawing: Mutex<Option<Drawing>>,
}

struct Drawing {
    /// Dropped to end the thread.
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Progress {
    /// Starts to show; `None` where no thread can be had, which is no reason not to sync.
    pub(super) fn start(meter: Meter, screen: Arc<Screen>) -> Option<Progress> {
        let totals = Arc::new(Mutex::new(Totals::default()));
        let (stop, stopped) = mpsc::channel();
        let shown = Arc::clone(&totals);
        let thread = thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || {
                let mut wait = Wait::default();
                while stopped.recv_timeout(meter.interval()) == Err(RecvTimeoutError::Timeout) {
                    let totals = lock(&shown).clone();
                    let is_reaching = totals.phase == Some(Phase::Connecting);
                    if matches!(meter.shape, Shape::Bar) && wait.is_long(is_reaching, PATIENCE) {
                        screen.err(WAITING);
                    }
                    meter.draw(&totals, &screen);
                }
                meter.bar().finish_and_clear();
            })
            .ok()?;
        Some(Progress {
            totals,
            drawing: Mutex::new(Some(Drawing { stop, thread })),
        })
    }

    /// Takes an event in.
    pub(super) fn take(&self, event: &Event) {
        lock(&self.totals).take(event);
    }

    /// Removes the bar; nothing is shown after it.
    pub(super) fn finish(&self) {
        if let Some(Drawing { stop, thread }) = lock(&self.drawing).take() {
            drop(stop);
            // A panic of the thread was printed by the panic hook and concerns the bar alone.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_small_files_are_still_work() {
        let left = work(1000, 1 << 30) - work(0, (1 << 30) - 5000);
        assert!(left > 1000 * FILE_COST_BYTES);
    }

    #[test]
    fn a_long_wait_for_the_other_host_is_told_once() {
        let mut wait = Wait::default();
        assert!(!wait.is_long(true, Duration::from_secs(3600)));
        assert!(!wait.is_long(false, Duration::ZERO));
        assert!(wait.is_long(true, Duration::ZERO));
        assert!(!wait.is_long(true, Duration::ZERO));
    }

    #[test]
    fn both_templates_are_valid() {
        for template in [GROWING, WHOLE] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
