//! What a running mirror is asked to do by others: by a switch that takes over, by a signal, by a
//! terminal. The engine waits on it; who asks for a hand-over waits for the engine's word.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often somebody who waits for a hand-over is looked at: whether he is still there.
const LOOK: Duration = Duration::from_millis(200);

/// What is asked of a mirror at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// To bring over what there is, leave the standby as it is then, and end.
    pub drain: bool,
    /// To end as soon as a file is whole.
    pub stop: bool,
    /// To read its plan again, counted: each number more is a reload.
    pub reloads: u64,
}

/// A handle on the requests to one mirror; a clone is another handle on the same.
#[derive(Clone, Debug, Default)]
pub struct Requests(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    /// How many wait for a hand-over.
    drainers: u32,
    /// What became of it, until all of them have heard.
    drained: Option<Result<(), String>>,
    is_stopping: bool,
    reloads: u64,
}

impl Requests {
    /// What is asked for now.
    pub fn asked(&self) -> Asked {
        self.lock().asked()
    }

    /// Waits until something else is asked for than `seen`, or until `timeout` is over.
    pub fn wait(&self, seen: Asked, timeout: Duration) -> Asked {
        let deadline = Instant::now() + timeout;
        let mut inner = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if inner.asked() != seen || left.is_zero() {
                return inner.asked();
            }
            inner = self.wait_for(inner, left);
        }
    }

    /// Asks the mirror to end.
    pub fn stop(&self) {
        self.lock().is_stopping = true;
        self.0.changed.notify_all();
    }

    /// Asks it to read its plan again.
    pub fn reload(&self) {
        self.lock().reloads += 1;
        self.0.changed.notify_all();
    }

    /// Asks it to hand over, and waits until it has, at most for `limit` and as long as
    /// `is_wanted`. A request that was waited for in vain is taken back: the mirror goes on.
    ///
    /// # Errors
    ///
    /// Why it has not, as a sentence.
    pub fn drain(&self, limit: Duration, is_wanted: impl Fn() -> bool) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        let mut inner = self.lock();
        inner.drainers += 1;
        self.0.changed.notify_all();
        let outcome = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match &inner.drained {
                Some(outcome) => break outcome.clone(),
                None if left.is_zero() => {
                    break Err(format!(
                        "it was not drained within {} s, and goes on",
                        limit.as_secs()
                    ));
                }
                None if !is_wanted() => break Err("nobody waits for it any more".to_owned()),
                None => inner = self.wait_for(inner, left.min(LOOK)),
            }
        };
        inner.drainers -= 1;
        if inner.drainers == 0 && matches!(inner.drained, Some(Err(_))) {
            inner.drained = None;
        }
        self.0.changed.notify_all();
        outcome
    }

    /// The engine's word on a hand-over. Returns whether anybody still wants it: if not, the mirror
    /// must go on as if it had not been asked.
    pub fn drained(&self, outcome: Result<(), String>) -> bool {
        let mut inner = self.lock();
        if inner.drainers == 0 {
            return false;
        }
        inner.drained = Some(outcome);
        self.0.changed.notify_all();
        true
    }

    fn wait_for<'a>(&self, inner: MutexGuard<'a, Inner>, time: Duration) -> MutexGuard<'a, Inner> {
        let waited = self.0.changed.wait_timeout(inner, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn asked(&self) -> Asked {
        Asked {
            drain: match &self.drained {
                None => self.drainers > 0,
                // What was handed over is not taken back.
                Some(outcome) => outcome.is_ok(),
            },
            stop: self.is_stopping,
            reloads: self.reloads,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_hand_over_is_waited_for() {
        let requests = Requests::default();
        let engine = requests.clone();
        let engine = thread::spawn(move || {
            assert!(engine.wait(Asked::default(), LONG).drain);
            engine.drained(Ok(()))
        });
        assert_eq!(requests.drain(LONG, || true), Ok(()));
        assert!(engine.join().unwrap());
        assert!(requests.asked().drain);
        assert_eq!(requests.drain(LONG, || true), Ok(()));
    }

    #[test]
    fn a_failed_hand_over_is_told_and_can_be_asked_for_again() {
        let requests = Requests::default();
        for _ in 0..2 {
            let engine = requests.clone();
            let engine = thread::spawn(move || {
                engine.wait(Asked::default(), LONG);
                engine.drained(Err("the standby is full".into()))
            });
            let outcome = requests.drain(LONG, || true);
            assert_eq!(outcome, Err("the standby is full".into()));
            assert!(engine.join().unwrap());
            assert!(!requests.asked().drain);
        }
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_taken_back() {
        let requests = Requests::default();
        let late = requests.drain(Duration::from_millis(10), || true);
        assert!(late.unwrap_err().contains("goes on"));
        assert!(requests.drain(LONG, || false).is_err());
        assert_eq!(requests.asked(), Asked::default());
        assert!(!requests.drained(Ok(())));
        assert_eq!(requests.asked(), Asked::default());
    }

    #[test]
    fn each_reload_is_another() {
        let requests = Requests::default();
        requests.reload();
        let first = requests.wait(Asked::default(), LONG);
        requests.reload();
        requests.stop();
        let second = requests.wait(first, LONG);
        assert_eq!((first.reloads, second.reloads), (1, 2));
        assert!(second.stop && !second.drain);
        assert_eq!(requests.wait(second, Duration::from_millis(5)), second);
    }
}
