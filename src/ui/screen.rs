//! Where lines go: the two standard streams, kept apart from the bar that is drawn on one of them.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::Mutex;

use indicatif::ProgressBar;

use crate::session::Cancel;

use super::{Output, lock};

/// The two streams. Lines of many threads do not mix.
///
/// Writing waits for whoever reads: a pager that stands still holds the run, as it would any
/// other filter, rather than have its lines pile up in memory.
pub(super) struct Screen {
    out: Mutex<Out>,
    err: Mutex<Box<dyn Write + Send>>,
    out_is_terminal: bool,
    bar: ProgressBar,
}

struct Out {
    writer: Box<dyn Write + Send>,
    /// The first failure; nothing is written after it.
    failure: Option<io::Error>,
    /// Cancelled on a failure, when the lines are all that the run is for.
    cancel: Option<Cancel>,
}

impl Screen {
    /// The process's own streams, with the bar that is drawn on standard error.
    pub(super) fn stdio(bar: Option<ProgressBar>, cancel: Option<Cancel>) -> Screen {
        Screen {
            out_is_terminal: io::stdout().is_terminal(),
            bar: bar.unwrap_or_else(ProgressBar::hidden),
            ..Screen::new(Box::new(io::stdout()), Box::new(io::stderr()), cancel)
        }
    }

    pub(super) fn new(
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
        cancel: Option<Cancel>,
    ) -> Screen {
        Screen {
            out: Mutex::new(Out {
                writer: out,
                failure: None,
                cancel,
            }),
            err: Mutex::new(err),
            out_is_terminal: false,
            bar: ProgressBar::hidden(),
        }
    }

    /// Writes a line of results.
    pub(super) fn out(&self, line: &str) {
        let mut out = lock(&self.out);
        if out.failure.is_some() {
            return;
        }
        // The bar is in the way only where both streams are one terminal.
        let written = if self.out_is_terminal {
            self.bar.suspend(|| out.write_line(line))
        } else {
            out.write_line(line)
        };
        if let Err(err) = written {
            out.failure = Some(err);
            if let Some(cancel) = &out.cancel {
                cancel.cancel();
            }
        }
    }

    /// Writes a line of errors, warnings or progress. There is nowhere to say that it failed.
    pub(super) fn err(&self, line: &str) {
        let mut err = lock(&self.err);
        let _ = self.bar.suspend(|| writeln!(err, "{line}"));
    }

    /// Whether a failed output made the screen cancel the run.
    pub(super) fn cancelled_the_run(&self) -> bool {
        let out = lock(&self.out);
        out.failure.is_some() && out.cancel.is_some()
    }

    /// What became of the output up to now; tells of a failure once.
    pub(super) fn output(&self) -> Output {
        match lock(&self.out).failure.take() {
            None => Output::Written,
            Some(err) if err.kind() == ErrorKind::BrokenPipe => Output::ReaderLeft,
            Some(err) => Output::Failed(err),
        }
    }
}

impl Out {
    fn write_line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.writer, "{line}")?;
        self.writer.flush()
    }
}
