//! Which side is the live one, as far as the journal tells: what every message of a switch that
//! did not go through ends with.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::journal::{Record, What};
use super::step::Step;

/// Which side serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Live {
    /// The source, as before.
    Source,
    /// The destination.
    Destination,
    /// None: one was stopped, the other has not been started.
    Neither,
    /// The source may be stopped or not: the command that stops or starts it did not end.
    SourceOrNeither,
    /// The destination may run or not, for the same reason.
    DestinationOrNeither,
    /// One of them, or both, or none: somebody else starts services here.
    Unknown,
    /// Both: the source was seen running after the destination had been started.
    Both,
}

impl Live {
    /// What the records of a journal lead to. Where `is_service` is not so, the plan has nothing
    /// that runs: then it is the end of the switch alone that counts.
    pub(super) fn after(records: &[Record], is_service: bool) -> Live {
        let next = match is_service {
            true => Live::next,
            false => Live::next_of_data,
        };
        records.iter().fold(Live::Source, next)
    }

    fn next_of_data(self, record: &Record) -> Live {
        match record.what {
            What::Switched => Live::Destination,
            What::RolledBack => Live::Source,
            _ => self,
        }
    }

    fn next(self, record: &Record) -> Live {
        let Some(step) = record.step else { return self };
        match step {
            Step::Stop if self == Live::Source => Live::SourceOrNeither,
            Step::ProveStopped => self.source_was_asked(record.what),
            Step::Start if record.what == What::Ended => Live::Destination,
            // What comes before the start may wake the service as well, and a repair often does.
            step if step.wakes_destination() => match self {
                Live::Unknown | Live::Both => self,
                _ => Live::DestinationOrNeither,
            },
            Step::StopDestination => match self {
                Live::Destination => Live::DestinationOrNeither,
                Live::Both => Live::Unknown,
                other => other,
            },
            Step::ProveDestinationStopped => self.destination_was_asked(record.what),
            Step::StartSource if record.what == What::Ended => Live::Source,
            Step::StartSource => Live::SourceOrNeither,
            _ => self,
        }
    }

    /// After the proof that the source has stopped, or that it has not.
    fn source_was_asked(self, what: What) -> Live {
        match (what, self) {
            (What::Ended, Live::Source | Live::SourceOrNeither) => Live::Neither,
            (What::Ended, Live::Unknown) => Live::DestinationOrNeither,
            (What::Ended, Live::Both) => Live::Destination,
            (What::Failed, Live::Neither) => Live::SourceOrNeither,
            (What::Failed, Live::DestinationOrNeither) => Live::Unknown,
            (What::Failed, Live::Destination) => Live::Both,
            (_, other) => other,
        }
    }

    /// The same of the destination.
    fn destination_was_asked(self, what: What) -> Live {
        match (what, self) {
            (What::Ended, Live::Destination | Live::DestinationOrNeither) => Live::Neither,
            (What::Ended, Live::Unknown | Live::Both) => Live::SourceOrNeither,
            (What::Failed, Live::Neither | Live::Destination) => Live::DestinationOrNeither,
            (What::Failed, Live::Source | Live::SourceOrNeither) => Live::Unknown,
            (_, other) => other,
        }
    }
}

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Live::Source => "the source is the live side",
            Live::Destination => "the destination is the live side",
            Live::Neither => "neither side is live",
            Live::SourceOrNeither => {
                "the destination is not live; whether the source still is, is not known"
            }
            Live::DestinationOrNeither => {
                "the source is not live; whether the destination is, is not known"
            }
            Live::Unknown => {
                "it is not known which side is live, and both may be: look at both at once"
            }
            Live::Both => "both sides are live: stop one of them at once",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::step::{ROLLBACK, SWITCH};

    fn record(step: Step, what: What) -> Record {
        Record {
            at_ms: 0,
            step: Some(step),
            what,
            text: None,
            found: None,
        }
    }

    fn after(steps: &[(Step, What)]) -> Live {
        let records: Vec<Record> = steps
            .iter()
            .map(|(step, what)| record(*step, *what))
            .collect();
        Live::after(&records, true)
    }

    fn through(steps: &[Step]) -> Vec<(Step, What)> {
        let both = |step: &Step| [(*step, What::Began), (*step, What::Ended)];
        steps.iter().flat_map(both).collect()
    }

    #[test]
    fn the_source_is_live_until_its_stop_begins() {
        let steps = through(&SWITCH[..4]);
        assert_eq!(after(&steps), Live::Source);
        assert_eq!(after(&[(Step::Stop, What::Began)]), Live::SourceOrNeither);
        assert_eq!(after(&through(&[Step::Stop])), Live::SourceOrNeither);
    }

    #[test]
    fn neither_is_live_between_the_proof_and_the_start() {
        // From the proof to the fence.
        for last in 6..=11 {
            assert_eq!(after(&through(&SWITCH[..last])), Live::Neither, "{last}");
        }
    }

    #[test]
    fn the_destination_is_live_once_it_was_started() {
        let mut steps = through(&SWITCH[..13]);
        steps.push((Step::Start, What::Began));
        assert_eq!(after(&steps), Live::DestinationOrNeither);
        assert_eq!(after(&through(&SWITCH)), Live::Destination);
        steps.push((Step::Start, What::Failed));
        assert_eq!(after(&steps), Live::DestinationOrNeither);
    }

    #[test]
    fn a_rollback_leads_back_to_the_source_by_way_of_neither() {
        let mut steps = through(&SWITCH);
        steps.push((Step::StopDestination, What::Began));
        assert_eq!(after(&steps), Live::DestinationOrNeither);
        steps.extend(through(&ROLLBACK[..4]));
        assert_eq!(after(&steps), Live::Neither);
        steps.push((Step::StartSource, What::Began));
        assert_eq!(after(&steps), Live::SourceOrNeither);
        steps.push((Step::StartSource, What::Ended));
        assert_eq!(after(&steps), Live::Source);
    }

    #[test]
    fn a_repair_may_have_woken_the_destination() {
        let mut steps = through(&SWITCH[..13]);
        assert_eq!(after(&steps), Live::DestinationOrNeither);
        steps.push((Step::ProveStopped, What::Failed));
        assert_eq!(after(&steps), Live::Unknown);
    }

    #[test]
    fn a_source_that_was_seen_running_again_is_told() {
        let mut steps = through(&SWITCH[..11]);
        steps.push((Step::ProveStopped, What::Failed));
        assert_eq!(after(&steps), Live::SourceOrNeither);
        let mut steps = through(&SWITCH);
        steps.push((Step::ProveStopped, What::Failed));
        assert_eq!(after(&steps), Live::Both);
        steps.extend(through(&ROLLBACK[..2]));
        assert_eq!(after(&steps), Live::SourceOrNeither);
        steps.extend(through(&ROLLBACK[2..]));
        assert_eq!(after(&steps), Live::Source);
    }

    #[test]
    fn without_a_service_the_end_alone_counts() {
        let end = |what| Record {
            at_ms: 0,
            step: None,
            what,
            text: None,
            found: None,
        };
        let mut records = vec![record(Step::ProveStopped, What::Ended)];
        assert_eq!(Live::after(&records, false), Live::Source);
        records.push(end(What::Switched));
        assert_eq!(Live::after(&records, false), Live::Destination);
        records.push(record(Step::Restore, What::Began));
        assert_eq!(Live::after(&records, false), Live::Destination);
        records.push(end(What::RolledBack));
        assert_eq!(Live::after(&records, false), Live::Source);
    }
}
