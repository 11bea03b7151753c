//! How long a far side may take to answer: waits that end at their limit, and early when the run
//! is to stop.

use std::fs::File;
use std::pin::pin;
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::events::Cancel;

/// How long a person may take over prompts: as long as servers wait before they hang up
/// (`LoginGraceTime`).
pub(super) const LOGIN_LIMIT: Duration = Duration::from_secs(120);

/// How soon an interrupt is noticed.
const TICK: Duration = Duration::from_millis(50);

/// What is waited for, within reason.
#[derive(Clone, Copy)]
pub(super) struct Patience<'a>(pub(super) &'a Cancel);

impl Patience<'_> {
    /// Waits for `act` for `limit` at most; `None` when that was not enough.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] when the run is to stop.
    pub(super) async fn wait<T>(
        self,
        limit: Duration,
        act: impl Future<Output = T>,
    ) -> Result<Option<T>> {
        let mut act = pin!(act);
        let started = Instant::now();
        loop {
            let left = limit.saturating_sub(started.elapsed());
            if let Ok(done) = timeout(left.min(TICK), &mut act).await {
                return Ok(Some(done));
            }
            self.0.check()?;
            if started.elapsed() >= limit {
                return Ok(None);
            }
        }
    }

    /// Waits for `act`, which has limits of its own.
    ///
    /// # Errors
    ///
    /// As [`wait`](Patience::wait).
    pub(super) async fn wait_on<T>(self, act: impl Future<Output = T>) -> Result<T> {
        let mut act = pin!(act);
        loop {
            if let Ok(done) = timeout(TICK, &mut act).await {
                return Ok(done);
            }
            self.0.check()?;
        }
    }
}

impl Patience<'_> {
    /// The error of an attempt that failed: an interrupt at a terminal ends the commands that it
    /// depends on as well, and their end may be noticed first.
    pub(super) fn blame(self, err: Error) -> Error {
        thread::sleep(TICK);
        self.0.check().err().unwrap_or(err)
    }
}

/// How long a command that may prompt gets for it: no time where nobody can be asked.
pub(super) fn login_limit() -> Duration {
    match has_terminal() {
        true => LOGIN_LIMIT,
        false => Duration::ZERO,
    }
}

/// Whether a person may be there: prompts go to the terminal that controls the process, wherever
/// its streams lead.
pub(super) fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn block_on<T>(act: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(act)
    }

    #[test]
    fn a_wait_ends_with_its_act_or_at_its_limit() {
        let cancel = Cancel::new();
        let patience = Patience(&cancel);
        let limit = Duration::from_millis(60);
        assert_eq!(
            block_on(patience.wait(limit, async { 1 })).unwrap(),
            Some(1)
        );
        let waited = block_on(patience.wait(limit, pending::<u8>()));
        assert_eq!(waited.unwrap(), None);
    }

    #[test]
    fn an_interrupt_ends_both_kinds_of_waits() {
        let cancel = Cancel::new();
        cancel.cancel();
        let patience = Patience(&cancel);
        let long = Duration::from_secs(3600);
        let waited = block_on(patience.wait(long, pending::<u8>()));
        assert!(matches!(waited, Err(Error::Interrupted)), "{waited:?}");
        let waited = block_on(patience.wait_on(pending::<u8>()));
        assert!(matches!(waited, Err(Error::Interrupted)), "{waited:?}");
    }
}
