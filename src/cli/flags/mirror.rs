//! How rounds of a mirror follow each other, and what becomes of a standby's own changes.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::options::{Mirroring, OnDrift};
use crate::retention::Rule;
use crate::units::{parse_duration, parse_pause};

/// Pace, watch, drift, generations.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Mirror")]
pub(crate) struct MirrorFlags {
    /// Send a file once it has been left alone for TIME
    #[arg(long, value_name = "TIME", value_parser = parse_pause, default_value = "500ms")]
    settle: Duration,

    /// But never later than TIME after it began to change
    ///
    /// A file that is always being written is sent at this pace, by what changed in it.
    #[arg(long, value_name = "TIME", value_parser = parse_pause, default_value = "10s")]
    max_delay: Duration,

    /// Read both sides in full every TIME, to find what nobody told of
    ///
    /// At the source that is what the kernel does not tell (writes through memory maps, changes on
    /// a shared filesystem by other hosts); at the standby, what others changed.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1h")]
    rescan: Duration,

    /// Do not watch the source; read it in full every TIME instead
    ///
    /// That is what happens, every minute, where watching is not possible.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    interval: Option<Duration>,

    /// What becomes of changes that others made at the standby
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    on_drift: DriftChoice,

    /// Keep former states of the standby by RULE, like 24h:1h,7d:1d
    ///
    /// One an hour of the last day and one a day of the last week, that is. They share what they
    /// have in common with the standby, by reflinks or hard links. `cutover generations` lists,
    /// compares and restores them.
    #[arg(long, value_name = "RULE")]
    keep: Option<Rule>,
}

/// `--on-drift`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum DriftChoice {
    /// They are told, and stay until the source changes in the same directory
    #[default]
    Report,
    /// They are told and undone
    Restore,
    /// They are told, and the mirror ends
    Stop,
}

impl MirrorFlags {
    /// The options; whose standby it is and what it may send is for the command to add.
    pub(crate) fn mirroring(&self) -> Mirroring {
        let defaults = Mirroring::default();
        Mirroring {
            settle: self.settle,
            max_delay: self.max_delay.max(self.settle),
            rescan: self.rescan,
            interval: self.interval.unwrap_or(defaults.interval),
            watch: self.interval.is_none(),
            on_drift: match self.on_drift {
                DriftChoice::Report => OnDrift::Report,
                DriftChoice::Restore => OnDrift::Restore,
                DriftChoice::Stop => OnDrift::Stop,
            },
            generations: self.keep.clone(),
            ..defaults
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn without_flags_the_pace_is_the_librarys() {
        let mirroring = parse::<MirrorFlags>(&[]).unwrap().mirroring();
        assert_eq!(mirroring, Mirroring::default());
    }

    #[test]
    fn an_interval_is_instead_of_a_watch() {
        let flags = parse::<MirrorFlags>(&["--interval=5m", "--on-drift=stop"]).unwrap();
        let mirroring = flags.mirroring();
        assert!(!mirroring.watch);
        assert_eq!(mirroring.interval, Duration::from_secs(300));
        assert_eq!(mirroring.on_drift, OnDrift::Stop);
    }
}
