//! What is counted while a run lasts, to be told at its end: kinds of problems, warnings, and
//! what a comparison found.

use std::collections::BTreeMap;

use crate::events::{Action, Item, Problem, Side, Summary, Warning};

/// The most kinds of problems or warnings that are told apart. Their words come from the other
/// end, which must not be able to make us hold any number of them; our own are about a dozen.
const MAX_KINDS: usize = 64;

/// A kind of problem: where, and the act that failed.
type Kind = (Side, String);

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    problems: BTreeMap<Kind, u64>,
    warnings: Vec<Warning>,
    /// The roots of a plan, each with what was done there. No other host tells of them.
    pub(super) roots: Vec<(String, Summary)>,
    pub(super) changed: u64,
    pub(super) missing: u64,
    pub(super) extra: u64,
}

impl Tally {
    /// Counts an item as a comparison sees it.
    pub(super) fn item(&mut self, item: &Item) {
        match item.action {
            Action::Delete => self.extra += 1,
            _ if item.changes.new => self.missing += 1,
            _ => self.changed += 1,
        }
    }

    /// Counts a problem of its kind.
    pub(super) fn problem(&mut self, problem: &Problem) {
        let kind = (problem.side, problem.act.clone());
        let known = self.problems.contains_key(&kind);
        let kind = if known || self.problems.len() < MAX_KINDS {
            kind
        } else {
            (problem.side, "do other things with".to_owned())
        };
        *self.problems.entry(kind).or_default() += 1;
    }

    /// Adds a warning to the one that says the same, if there is one.
    pub(super) fn warning(&mut self, warning: &Warning) {
        let same =
            |held: &&mut Warning| held.topic == warning.topic && held.message == warning.message;
        if let Some(held) = self.warnings.iter_mut().find(same) {
            held.entries = held.entries.saturating_add(warning.entries);
        } else if self.warnings.len() < MAX_KINDS {
            self.warnings.push(warning.clone());
        }
    }

    /// The kinds of problems with their counts, the most frequent first.
    pub(super) fn problem_kinds(&self) -> Vec<(&Kind, u64)> {
        let mut kinds: Vec<_> = self.problems.iter().map(|(kind, &n)| (kind, n)).collect();
        kinds.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
        kinds
    }

    /// Whether there was a warning on a topic.
    pub(super) fn warned_of(&self, topic: &str) -> bool {
        self.warnings.iter().any(|warning| warning.topic == topic)
    }

    /// The warnings, each once.
    pub(super) fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::RelPath;

    fn problem(act: &str) -> Problem {
        Problem {
            side: Side::Source,
            act: act.to_owned(),
            path: RelPath::root(),
            reason: String::new(),
            os_error: None,
        }
    }

    #[test]
    fn problems_are_grouped_by_act_and_the_most_frequent_come_first() {
        let mut tally = Tally::default();
        for act in ["open", "read", "read"] {
            tally.problem(&problem(act));
        }
        let kinds: Vec<_> = tally
            .problem_kinds()
            .into_iter()
            .map(|((_, act), n)| (act.as_str(), n))
            .collect();
        assert_eq!(kinds, [("read", 2), ("open", 1)]);
    }

    #[test]
    fn endless_kinds_are_counted_but_not_kept() {
        let mut tally = Tally::default();
        for n in 0..1000 {
            tally.problem(&problem(&n.to_string()));
            tally.warning(&Warning {
                topic: n.to_string(),
                entries: 1,
                message: String::new(),
            });
        }
        let kinds = tally.problem_kinds();
        assert_eq!(kinds.len(), MAX_KINDS + 1);
        assert_eq!(kinds.iter().map(|(_, n)| n).sum::<u64>(), 1000);
        assert_eq!(tally.warnings().len(), MAX_KINDS);
    }

    #[test]
    fn a_repeated_warning_is_one_with_the_sum() {
        let mut tally = Tally::default();
        let warning = Warning {
            topic: "owner".to_owned(),
            entries: 3,
            message: "cannot set owners".to_owned(),
        };
        tally.warning(&warning);
        tally.warning(&warning);
        assert_eq!(tally.warnings().len(), 1);
        assert_eq!(tally.warnings()[0].entries, 6);
    }
}
