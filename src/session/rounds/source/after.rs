//! What follows from a round that is over: what is told of it, what the standby still lacks, and
//! whether another one is due though nothing is heard.

use std::time::{Duration, Instant, SystemTime};

use super::{Extent, SourceRounds};
use crate::events::{RoundEvent, Summary, WatchMeans};
use crate::fs::Dir;
use crate::path::RelPath;
use crate::session::source::SourceRole;
use crate::watch::{Dirty, Now};

/// How long it is until a round is tried again that left the two sides different.
pub(super) const RETRY: Duration = Duration::from_secs(60);

/// And at most, after many in vain: as often as everything is read anyway.
const MOST_PAUSE: Duration = Duration::from_secs(60 * 60);

impl SourceRounds {
    /// What a round that is over has to tell.
    pub(super) fn outcome(
        &mut self,
        role: &SourceRole<'_>,
        summary: Summary,
        dirty: &Dirty,
        full: bool,
    ) -> Vec<RoundEvent> {
        let root = self.standing.root_inode().filter(|_| full);
        let mut events: Vec<_> = root.map(RoundEvent::Root).into_iter().collect();
        if full && self.standing.has_scan() {
            events.push(match &self.watcher {
                Some(watcher) => RoundEvent::Watching {
                    means: WatchMeans::Inotify,
                    directories: watcher.directories(),
                },
                None => RoundEvent::Watching {
                    means: WatchMeans::Interval,
                    directories: 0,
                },
            });
        }
        let unheard = std::mem::take(&mut self.standing.unheard);
        if self.watcher.is_some() {
            // What changed while it was being read again was not missed.
            let missed = unheard
                .iter()
                .filter(|dir| !self.pending.contains(dir))
                .count() as u64;
            events.extend((missed > 0).then_some(RoundEvent::Missed(missed)));
        }
        if let Ok(root) = Dir::open_root(role.root) {
            let changed: Vec<_> = self.pending.names().collect();
            let torn = self.torn.take(&root, (!full).then_some(dirty), &changed);
            events.extend(torn.map(RoundEvent::Torn));
        }
        let same = summary.is_complete() && summary.destination_digest == summary.digest;
        self.retry = self.retry_after(role, &summary, same);
        self.unsent = match summary.is_complete() {
            true => None,
            false => [self.unsent, dirty.oldest()].into_iter().flatten().min(),
        };
        if !summary.is_complete() {
            // Of what nobody told it is known since now.
            self.unsent.get_or_insert_with(SystemTime::now);
        }
        events.push(RoundEvent::Ended {
            agreed: summary.digest.filter(|_| same),
            summary: Box::new(summary),
            full,
        });
        self.lacking = self.lacks_since();
        events.push(RoundEvent::Lacking(self.lacking.map(age_ms)));
        events
    }

    /// When the oldest change was made that the standby lacks.
    pub(super) fn lacks_since(&self) -> Option<SystemTime> {
        [self.unsent, self.pending.oldest()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether and when a round is due though nothing is heard: entries that failed may work later, and
    /// sides that differ for no known reason are read in full. Each attempt in vain doubles the pause:
    /// some sides can never be the same, as where a filter protects what only the standby has.
    fn retry_after(
        &mut self,
        role: &SourceRole<'_>,
        summary: &Summary,
        same: bool,
    ) -> Option<(Instant, Extent)> {
        // What only the standby has makes it differ for ever where nothing is deleted.
        let is_meant = role.options.delete.is_none() || summary.destination_digest.is_none();
        let extent = match summary.problems {
            0 if same || is_meant || !self.pending.is_empty() => {
                self.pause = RETRY;
                return None;
            }
            0 => Extent::Full,
            _ => Extent::Changes,
        };
        let pause = self.pause;
        self.pause = (pause * 2).min(MOST_PAUSE);
        Some((Instant::now() + pause, extent))
    }

    /// Has what would not hold still looked at again once it has settled.
    pub(super) fn again<'d>(&mut self, dirs: impl Iterator<Item = &'d RelPath>) {
        let now = Now::by_clocks();
        for dir in dirs {
            self.pending.note(dir, None, now);
        }
    }
}

pub(super) fn age_ms(since: SystemTime) -> u64 {
    let age = SystemTime::now().duration_since(since).unwrap_or_default();
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}
