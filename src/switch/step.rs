//! The steps of a switch and of its rollback: their order, their names, and what becomes of one
//! that was begun and of which nobody knows whether it ended.

use serde::{Deserialize, Serialize};

/// One step. The names are those of the journal, the report and `--until`.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Everything that can be known to be wrong beforehand.
    Preflight,
    /// A sync while the source still runs, so that the last one is short.
    WarmSync,
    /// The destination's state is kept.
    Keep,
    /// The plan's own commands.
    BeforeStop,
    /// The service is stopped on the source.
    Stop,
    /// It is proved that it stopped.
    ProveStopped,
    /// The plan's own commands.
    AfterStop,
    /// The last sync: nothing may change meanwhile.
    FinalSync,
    /// Both sides are compared by content.
    Verify,
    /// Databases are sound, and nothing stale is beside them.
    Databases,
    /// The source is fenced off.
    Fence,
    /// The plan's own commands.
    BeforeStart,
    /// What came is repaired or migrated.
    Doctor,
    /// The service is started on the destination.
    Start,
    /// It says that it runs.
    Status,
    /// The plan's checks hold.
    Checks,
    /// The plan's own commands.
    AfterSwitch,
    /// The service is stopped on the destination.
    StopDestination,
    /// It is proved that it stopped.
    ProveDestinationStopped,
    /// The source's fence is taken away.
    Unfence,
    /// The destination's kept state is brought back.
    Restore,
    /// The service is started on the source.
    StartSource,
    /// It says that it runs.
    SourceStatus,
    /// The plan's own commands.
    AfterRollback,
}

/// What becomes of a step that was begun and of which the end is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It is done again: doing it twice is doing it once.
    Repeat,
    /// It asks first whether it has had its effect.
    Ask,
    /// It is not done again unless a person says so.
    Never,
}

/// A switch, in order.
pub const SWITCH: [Step; 17] = [
    Step::Preflight,
    Step::WarmSync,
    Step::Keep,
    Step::BeforeStop,
    Step::Stop,
    Step::ProveStopped,
    Step::AfterStop,
    Step::FinalSync,
    Step::Verify,
    Step::Databases,
    Step::Fence,
    Step::BeforeStart,
    Step::Doctor,
    Step::Start,
    Step::Status,
    Step::Checks,
    Step::AfterSwitch,
];

/// A rollback, in order.
pub const ROLLBACK: [Step; 7] = [
    Step::StopDestination,
    Step::ProveDestinationStopped,
    // Before the restore, which may need to read the source.
    Step::Unfence,
    Step::Restore,
    Step::StartSource,
    Step::SourceStatus,
    Step::AfterRollback,
];

impl Step {
    /// The step's name in journals, reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Step::Preflight => "preflight",
            Step::WarmSync => "warm-sync",
            Step::Keep => "keep",
            Step::BeforeStop => "before-stop",
            Step::Stop => "stop",
            Step::ProveStopped => "prove-stopped",
            Step::AfterStop => "after-stop",
            Step::FinalSync => "final-sync",
            Step::Verify => "verify",
            Step::Databases => "databases",
            Step::Fence => "fence",
            Step::BeforeStart => "before-start",
            Step::Doctor => "doctor",
            Step::Start => "start",
            Step::Status => "status",
            Step::Checks => "checks",
            Step::AfterSwitch => "after-switch",
            Step::StopDestination => "stop-destination",
            Step::ProveDestinationStopped => "prove-destination-stopped",
            Step::Restore => "restore",
            Step::Unfence => "unfence",
            Step::StartSource => "start-source",
            Step::SourceStatus => "source-status",
            Step::AfterRollback => "after-rollback",
        }
    }

    /// What it does, for people.
    pub fn title(self) -> &'static str {
        match self {
            Step::Preflight => "check everything beforehand",
            Step::WarmSync => "sync while the source still runs",
            Step::Keep => "keep the destination's present state",
            Step::BeforeStop => "run the commands before the stop",
            Step::Stop => "stop the service on the source",
            Step::ProveStopped => "prove that it stopped",
            Step::AfterStop => "run the commands after the stop",
            Step::FinalSync => "sync for the last time",
            Step::Verify => "compare both sides by content",
            Step::Databases => "check the databases that came",
            Step::Fence => "fence the source off",
            Step::BeforeStart => "run the commands before the start",
            Step::Doctor => "repair and migrate on the destination",
            Step::Start => "start the service on the destination",
            Step::Status => "ask whether it runs",
            Step::Checks => "try the plan's checks",
            Step::AfterSwitch => "run the commands after the switch",
            Step::StopDestination => "stop the service on the destination",
            Step::ProveDestinationStopped => "prove that it stopped",
            Step::Restore => "restore the destination's kept state",
            Step::Unfence => "take the source's fence away",
            Step::StartSource => "start the service on the source",
            Step::SourceStatus => "ask whether it runs",
            Step::AfterRollback => "run the commands after the rollback",
        }
    }

    /// What becomes of it when its end is not known.
    pub fn again(self) -> Again {
        match self {
            Step::Stop | Step::Start | Step::StopDestination | Step::StartSource => Again::Ask,
            Step::BeforeStop
            | Step::AfterStop
            | Step::BeforeStart
            | Step::Doctor
            | Step::AfterSwitch
            | Step::AfterRollback => Again::Never,
            _ => Again::Repeat,
        }
    }

    /// Whether it starts or repairs the service on the destination, which must never happen while
    /// the source is live.
    pub fn wakes_destination(self) -> bool {
        matches!(self, Step::BeforeStart | Step::Doctor | Step::Start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_journal() {
        for step in SWITCH.into_iter().chain(ROLLBACK) {
            let written = serde_json::to_value(step).unwrap();
            assert_eq!(written, step.name());
        }
    }

    #[test]
    fn nothing_wakes_the_destination_before_the_source_is_fenced() {
        let fence = SWITCH.iter().position(|step| *step == Step::Fence).unwrap();
        let first = SWITCH.iter().position(|step| step.wakes_destination());
        assert!(fence < first.unwrap());
    }

    #[test]
    fn the_source_starts_only_after_the_destination_was_proved_to_have_stopped() {
        let at = |wanted| ROLLBACK.iter().position(|step| *step == wanted).unwrap();
        assert!(at(Step::ProveDestinationStopped) < at(Step::Unfence));
        assert!(at(Step::Unfence) < at(Step::Restore));
        assert!(at(Step::Restore) < at(Step::StartSource));
    }
}
