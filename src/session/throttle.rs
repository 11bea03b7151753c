//! `--bwlimit`: keeps content to so many bytes a second, over all threads together.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::events::Cancel;

/// A pause is cut into parts so short that an interrupt is noticed.
const NAP: Duration = Duration::from_millis(200);

/// A limit on bytes a second, or none.
#[derive(Debug)]
pub(crate) struct Throttle {
    bytes_per_s: Option<u64>,
    /// When the bytes spent so far will have been paid for.
    paid_at: Mutex<Instant>,
}

impl Throttle {
    pub(crate) fn new(bytes_per_s: Option<u64>) -> Throttle {
        Throttle {
            bytes_per_s: bytes_per_s.filter(|&rate| rate > 0),
            paid_at: Mutex::new(Instant::now()),
        }
    }

    /// Pays for so many bytes, by waiting as long as they take.
    pub(crate) fn spend(&self, bytes: usize, cancel: &Cancel) -> Result<()> {
        let Some(rate) = self.bytes_per_s else {
            return Ok(());
        };
        let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let due = {
            let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
            *paid_at = (*paid_at).max(Instant::now()) + cost;
            *paid_at
        };
        loop {
            cancel.check()?;
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(NAP));
        }
    }
}
