//! How much may be sent in a round, by the hour.

use std::time::SystemTime;

use crate::fs::LocalTime;
use crate::options::{Mirroring, SyncOptions};

/// The options with the bandwidth of this minute.
pub(super) fn with_bandwidth(mirroring: &Mirroring, options: &SyncOptions) -> SyncOptions {
    let mut options = options.clone();
    let limit = &mut options.transfer.bandwidth_bytes_per_s;
    *limit = mirroring.bandwidth(minute_of_the_week(), *limit);
    options
}

/// Minutes since Monday began, by the clock on this host's wall.
fn minute_of_the_week() -> u16 {
    let now = LocalTime::at(SystemTime::now());
    now.map_or(0, |now| u16::from(now.weekday) * 24 * 60 + now.minute)
}
