//! How much may be sent in a round, by the hour.

use std::time::SystemTime;

use crate::fs::LocalTime;
use crate::options::{Mirroring, SyncOptions};

/// The options with the bandwidth of this minute.
pub(super) fn with_bandwidth(mirroring: &Mirroring, options: &SyncOptions) -> SyncOptions {
    let mut options = options.clone();
    options.transfer.bandwidth_bytes_per_s = bandwidth(mirroring, &options, minute_of_the_week());
    options
}

/// The most content bytes a second at a minute of the week. Before the first entry the last one of
/// the week before holds.
fn bandwidth(mirroring: &Mirroring, options: &SyncOptions, minute: u16) -> Option<u64> {
    let table = &mirroring.bandwidth_by_minute;
    let now = table.iter().rev().find(|(from, _)| *from <= minute);
    match now.or(table.last()) {
        Some((_, limit)) => *limit,
        None => options.transfer.bandwidth_bytes_per_s,
    }
}

/// Minutes since Monday began, by the clock on this host's wall.
fn minute_of_the_week() -> u16 {
    let now = LocalTime::at(SystemTime::now());
    now.map_or(0, |now| u16::from(now.weekday) * 24 * 60 + now.minute)
}
