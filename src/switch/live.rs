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
}

impl Live {
    /// What the journal's records lead to.
    pub fn after(records: &[Record]) -> Live {
        records.iter().fold(Live::Source, Live::next)
    }

    fn next(self, record: &Record) -> Live {
        let ended = record.what == What::Ended;
        match (record.step, ended) {
            (Some(Step::Stop), _) => match self {
                Live::Source => Live::SourceOrNeither,
                other => other,
            },
            (Some(Step::ProveStopped), true) => Live::Neither,
            // What comes before the start may wake the service as well.
            (Some(step), false) if step.wakes_destination() => Live::DestinationOrNeither,
            (Some(Step::BeforeStart | Step::Doctor), true) => Live::Neither,
            (Some(Step::Start), true) => Live::Destination,
            (Some(Step::StopDestination), _) => match self {
                Live::Destination | Live::DestinationOrNeither => Live::DestinationOrNeither,
                other => other,
            },
            (Some(Step::ProveDestinationStopped), true) => match self {
                Live::Destination | Live::DestinationOrNeither => Live::Neither,
                other => other,
            },
            (Some(Step::StartSource), false) => Live::SourceOrNeither,
            (Some(Step::StartSource), true) => Live::Source,
            _ => self,
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
        }
    }

    fn after(steps: &[(Step, What)]) -> Live {
        let records: Vec<Record> = steps
            .iter()
            .map(|(step, what)| record(*step, *what))
            .collect();
        Live::after(&records)
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
}
