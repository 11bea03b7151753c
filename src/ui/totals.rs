//! How far a run is: the running totals of its events, for the bar, the lines and JSON alike.

use std::time::Duration;

use indicatif::FormattedDuration;

use crate::events::{Event, Phase, Side};
use crate::path::{RelPath, escape};

use super::human;

/// What a terminal of 80 columns has left for a path.
const PATH_BYTES: usize = 24;

/// The last that was heard of a run's progress.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) phase: Option<Phase>,
    pub(super) scanned_source: u64,
    pub(super) scanned_destination: u64,
    pub(super) planned_files: u64,
    pub(super) planned_bytes: u64,
    pub(super) plan_complete: bool,
    pub(super) done_files: u64,
    pub(super) done_bytes: u64,
    pub(super) current: Option<RelPath>,
}

impl Totals {
    /// Takes an event in; returns whether it told of progress.
    ///
    /// Totals only grow: events of several threads may overtake one another.
    pub(super) fn take(&mut self, event: &Event) -> bool {
        match event {
            Event::Phase(phase) => self.phase = Some(*phase),
            Event::Scanned { side, entries } => {
                let scanned = match side {
                    Side::Source => &mut self.scanned_source,
                    Side::Destination => &mut self.scanned_destination,
                };
                *scanned = (*scanned).max(*entries);
            }
            Event::Planned {
                files,
                bytes,
                complete,
            } => {
                self.planned_files = self.planned_files.max(*files);
                self.planned_bytes = self.planned_bytes.max(*bytes);
                self.plan_complete |= complete;
            }
            Event::Done { files, bytes } => {
                self.done_files = self.done_files.max(*files);
                self.done_bytes = self.done_bytes.max(*bytes);
            }
            Event::Current(path) => self.current = Some(path.clone()),
            // The next root has totals of its own.
            Event::RootBegun(_) => {
                let phase = self.phase;
                *self = Totals {
                    phase,
                    ..Totals::default()
                };
            }
            Event::Item(_)
            | Event::Problem(_)
            | Event::Churn(_)
            | Event::Warning(_)
            | Event::Note(_)
            | Event::Round(_)
            | Event::RootDone { .. } => return false,
        }
        true
    }

    /// Whether the other host is still being reached.
    pub(super) fn is_connecting(&self) -> bool {
        matches!(self.phase, None | Some(Phase::Connecting))
    }

    /// The totals in one line. `left` is an estimate that only a complete plan allows.
    pub(super) fn line(&self, bytes_per_s: f64, left: Option<Duration>) -> String {
        match self.phase {
            None | Some(Phase::Connecting) => "connecting".to_owned(),
            Some(Phase::Scanning | Phase::Comparing) if self.planned_files == 0 => format!(
                "scanning: {} at the source, {} at the destination",
                human::entries(self.scanned_source),
                human::count(self.scanned_destination),
            ),
            Some(Phase::Finishing) => format!("{}, finishing", self.amounts()),
            Some(_) => self.transferring(bytes_per_s, left),
        }
    }

    /// What matters most comes first: a narrow terminal cuts the end off.
    fn transferring(&self, bytes_per_s: f64, left: Option<Duration>) -> String {
        // A rate of nothing has no time left to tell.
        let left = left.filter(|_| self.plan_complete && bytes_per_s >= 1.0);
        let left = left.map_or(String::new(), |left| {
            format!("{} left, ", FormattedDuration(left))
        });
        let rate = human::bytes(bytes_per_s as u64);
        let current = self.current.as_ref();
        let current = current.map_or(String::new(), |path| format!("  {}", shortened(path)));
        format!("{left}{rate}/s, {}{current}", self.amounts())
    }

    /// Done of planned; a `+` marks a plan that can still grow.
    fn amounts(&self) -> String {
        let more = if self.plan_complete { "" } else { "+" };
        format!(
            "{}/{}{more}, {}/{}{more} files",
            human::bytes(self.done_bytes),
            human::bytes(self.planned_bytes),
            human::count(self.done_files),
            human::count(self.planned_files),
        )
    }
}

/// A path that leaves room for the rest of the line: of a long one its last name, since those
/// before it are the same for many files.
fn shortened(path: &RelPath) -> String {
    match path.file_name() {
        Some(name) if path.as_bytes().len() > PATH_BYTES => {
            format!(".../{}", escape(name.as_bytes()))
        }
        _ => path.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(complete: bool) -> Event {
        Event::Planned {
            files: 10,
            bytes: 4096,
            complete,
        }
    }

    fn totals(events: &[Event]) -> Totals {
        let mut totals = Totals::default();
        for event in events {
            totals.take(event);
        }
        totals
    }

    #[test]
    fn time_left_is_told_only_of_a_complete_plan() {
        let left = Some(Duration::from_secs(65));
        let begun = [Event::Phase(Phase::Transferring), planned(false)];
        let mut growing = totals(&begun);
        assert_eq!(
            growing.line(1024.0, left),
            "1.00 KiB/s, 0 B/4.00 KiB+, 0/10+ files"
        );
        growing.take(&planned(true));
        assert_eq!(
            growing.line(1024.0, left),
            "00:01:05 left, 1.00 KiB/s, 0 B/4.00 KiB, 0/10 files"
        );
    }

    #[test]
    fn a_late_event_does_not_turn_totals_back() {
        let done = |files| Event::Done { files, bytes: 0 };
        let totals = totals(&[done(3), done(2), planned(true), planned(false)]);
        assert_eq!(totals.done_files, 3);
        assert!(totals.plan_complete);
    }

    #[test]
    fn each_root_of_a_plan_has_totals_of_its_own() {
        let begun = Event::RootBegun(crate::events::RootBegun {
            name: "second".to_owned(),
            source: "/a".to_owned(),
            destination: "/b".to_owned(),
        });
        let first = [Event::Phase(Phase::Transferring), planned(true)];
        let mut totals = totals(&first);
        totals.take(&begun);
        assert_eq!((totals.planned_files, totals.plan_complete), (0, false));
        assert_eq!(totals.phase, Some(Phase::Transferring));
    }

    #[test]
    fn scanning_counts_both_sides() {
        let scanned = |side, entries| Event::Scanned { side, entries };
        let totals = totals(&[
            Event::Phase(Phase::Scanning),
            scanned(Side::Source, 1200),
            scanned(Side::Destination, 7),
        ]);
        assert_eq!(
            totals.line(0.0, None),
            "scanning: 1,200 entries at the source, 7 at the destination"
        );
    }

    #[test]
    fn of_a_long_path_the_end_is_shown() {
        let shown = |path: &str| shortened(&RelPath::new(path.as_bytes()).unwrap());
        assert_eq!(shown("src/ui/totals.rs"), "src/ui/totals.rs");
        let long = "registry/src/index.crates.io-1949cf8c6b5b557f/zstd/lib.rs";
        assert_eq!(shown(long), ".../lib.rs");
    }

    #[test]
    fn the_file_at_hand_cannot_break_the_line() {
        let current = Event::Current(RelPath::new(b"a\rb").unwrap());
        let line = totals(&[Event::Phase(Phase::Transferring), current]).line(0.0, None);
        assert!(line.ends_with("  a\\#015b"), "{line}");
    }
}
