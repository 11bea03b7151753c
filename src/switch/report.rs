//! What the operator files away: every step with its times, every root with its size and digest,
//! every check with what it said.

use serde::{Deserialize, Serialize};

use super::journal::{Journal, What, clock};
use super::live::Live;
use super::step::{ROLLBACK, Step};
use crate::events::Summary;
use crate::plan::{Finding, Resolved};
use crate::session::Mode;

/// A switch or a rollback, as far as it came.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The plan's name.
    pub plan: String,
    /// Names this switch.
    pub id: String,
    /// When it began, in UTC.
    pub began: String,
    /// The host it left.
    pub source: String,
    /// The host it came to.
    pub destination: String,
    /// Which side serves now.
    pub live: Live,
    /// How it came to its end; `None` where it has not.
    pub end: Option<What>,
    /// The steps that were begun, in the order of their beginnings.
    pub steps: Vec<StepReport>,
    /// The roots.
    pub roots: Vec<RootReport>,
    /// What the preflight found.
    pub findings: Vec<Finding>,
    /// The checks.
    pub checks: Vec<CheckReport>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// Which.
    pub step: Step,
    /// When it began, in UTC.
    pub began: String,
    /// How long it took, in milliseconds; `None` where its end is not known.
    pub elapsed_ms: Option<u64>,
    /// How it ended.
    pub what: What,
    /// What there is to say of it.
    pub note: Option<String>,
}

/// One root.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RootReport {
    /// Its name in the plan.
    pub name: String,
    /// Its path at the source.
    pub source: String,
    /// Its path at the destination.
    pub destination: String,
    /// The root that holds it, where one does: its figures are there.
    pub within: Option<String>,
    /// Entries, where they were counted.
    pub entries: Option<u64>,
    /// Content, in bytes.
    pub bytes: Option<u64>,
    /// The digest that both sides had when they were compared by content.
    pub digest: Option<String>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Its name in the plan.
    pub name: String,
    /// Whether it holds.
    pub holds: bool,
    /// What was found.
    pub said: String,
}

/// What a step found that the report needs, also where another process goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// By the preflight.
    Findings(Vec<Finding>),
    /// By a sync or a comparison.
    Roots(Vec<RootReport>),
    /// By the plan's checks.
    Checks(Vec<CheckReport>),
}

impl Report {
    /// The roots of a plan, before anything is known of them.
    pub(super) fn of(resolved: &Resolved, source: &str, destination: &str) -> Report {
        let holder = |at: usize| resolved.roots[at].name.clone();
        Report {
            plan: resolved.plan.name.clone(),
            id: String::new(),
            began: String::new(),
            source: source.to_string(),
            destination: destination.to_string(),
            live: Live::Source,
            end: None,
            steps: Vec::new(),
            roots: resolved
                .roots
                .iter()
                .map(|root| RootReport {
                    name: root.name.clone(),
                    source: root.source.clone(),
                    destination: root.destination.clone(),
                    within: root.held_by.map(holder),
                    entries: None,
                    bytes: None,
                    digest: None,
                })
                .collect(),
            findings: Vec::new(),
            checks: Vec::new(),
        }
    }

    /// Whether there is a switch to report of; else nothing of it is known, nor which side is live.
    pub fn is_of_something(&self) -> bool {
        !self.id.is_empty()
    }

    /// Whether the way back was taken, and what the checks found is not so any more.
    pub fn goes_back(&self) -> bool {
        self.steps
            .iter()
            .any(|taken| ROLLBACK.contains(&taken.step))
    }

    /// Takes over what the journal knows.
    pub(super) fn read(&mut self, journal: &Journal) {
        self.id = journal.heading().id.clone();
        self.began = clock(journal.heading().at_ms);
        self.live = journal.live();
        self.end = journal.end();
        self.steps.clear();
        for record in journal.records() {
            self.take(record.found.as_ref());
            let Some(step) = record.step else { continue };
            if record.what == What::Began {
                self.steps.push(StepReport {
                    step,
                    began: clock(record.at_ms),
                    elapsed_ms: None,
                    what: What::Began,
                    note: None,
                });
                continue;
            }
            let began_ms = journal
                .records()
                .iter()
                .rev()
                .filter(|other| other.step == Some(step) && other.what == What::Began)
                .map(|other| other.at_ms)
                .find(|at_ms| *at_ms <= record.at_ms);
            let open = self.steps.iter_mut().rev().find(|known| known.step == step);
            if let Some(known) = open {
                known.what = record.what;
                known.note.clone_from(&record.text);
                known.elapsed_ms = began_ms.map(|began| record.at_ms - began);
            }
        }
    }

    fn take(&mut self, found: Option<&Found>) {
        match found {
            None => {}
            Some(Found::Findings(findings)) => self.findings.clone_from(findings),
            Some(Found::Roots(roots)) => self.roots.clone_from(roots),
            Some(Found::Checks(checks)) => self.checks.clone_from(checks),
        }
    }

    /// What a step that was just taken found.
    pub(super) fn found_by(&self, step: Step) -> Option<Found> {
        match step {
            Step::Preflight => Some(Found::Findings(self.findings.clone())),
            Step::FinalSync | Step::Verify => Some(Found::Roots(self.roots.clone())),
            Step::Checks => Some(Found::Checks(self.checks.clone())),
            _ => None,
        }
    }

    /// Takes over what a comparison or sync of a root found.
    pub(super) fn root_was(&mut self, at: usize, summary: &Summary, mode: Mode) {
        let Some(root) = self.roots.get_mut(at) else {
            return;
        };
        root.entries = Some(summary.source_entries);
        root.bytes = Some(summary.source_bytes);
        let is_common = mode == Mode::Verify && !summary.differs;
        let digest = summary.digest.filter(|_| is_common);
        root.digest = digest.map(|digest| digest.to_string());
    }
}
