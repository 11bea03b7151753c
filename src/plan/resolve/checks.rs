//! The checks of a plan, ready to be tried on the destination.

use std::time::Duration;

use super::{Resolved, ResolvedRoot};
use crate::events::Side;
use crate::plan::model::Check;
use crate::plan::parse_mode;
use crate::protocol::errand::{self, Probe};

/// How long one try of a check over the network may take: the next one follows until the check's
/// own time is over.
pub(super) const TRY: Duration = Duration::from_secs(10);

/// A check, ready to be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedCheck {
    /// What it is called.
    pub name: String,
    /// It is tried until it holds or this time is over; zero is once.
    pub within: Duration,
    /// What is tried, on the destination.
    pub what: Tried,
}

/// What a check tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// A probe.
    Probe(Probe),
    /// A command that exits with 0.
    Command {
        /// The command.
        command: errand::Command,
        /// What its output contains.
        contains: Option<String>,
    },
}

impl Resolved {
    /// What must hold on the destination.
    pub fn checks(&self) -> Vec<ResolvedCheck> {
        let checks = self.plan.checks.iter();
        checks.flat_map(|check| self.check(check)).collect()
    }

    fn check(&self, check: &Check) -> Vec<ResolvedCheck> {
        let name = check.name();
        match check {
            Check::Command {
                run,
                contains,
                within,
                ..
            } => {
                let what = Tried::Command {
                    command: self.command(run, Side::Destination),
                    contains: contains.clone(),
                };
                one(name, within.duration(), what)
            }
            Check::Http {
                url,
                status,
                contains,
                within,
                ..
            } => {
                let probe = Probe::Http {
                    url: url.clone(),
                    status: *status,
                    contains: contains.clone(),
                    timeout: within.duration().min(TRY),
                };
                one(name, within.duration(), Tried::Probe(probe))
            }
            Check::Tcp {
                address, within, ..
            } => {
                let probe = Probe::Tcp {
                    address: address.clone(),
                    timeout: within.duration().min(TRY),
                };
                one(name, within.duration(), Tried::Probe(probe))
            }
            Check::File {
                path,
                exists,
                owner,
                group,
                mode,
                contains,
                ..
            } => {
                let probe = Probe::File {
                    path: self.texts.destination.get(path).to_owned(),
                    exists: *exists,
                    owner: owner.clone(),
                    group: group.clone(),
                    mode: mode.as_deref().and_then(parse_mode),
                    contains: contains.clone(),
                };
                one(name, Duration::ZERO, Tried::Probe(probe))
            }
            Check::ReadableAs { root, user, .. } => {
                self.readable_as(name, root.as_deref(), user.as_deref())
            }
        }
    }

    /// One check for each root that is meant; of one within another the outer one is enough.
    fn readable_as(
        &self,
        name: &str,
        root: Option<&str>,
        user: Option<&str>,
    ) -> Vec<ResolvedCheck> {
        let Some(user) = user.or(self.plan.service.user.as_deref()) else {
            return Vec::new();
        };
        let is_meant = |found: &&ResolvedRoot| match root {
            Some(root) => found.name == root && found.present,
            None => found.is_synced(),
        };
        let meant: Vec<_> = self.roots.iter().filter(is_meant).collect();
        let checks = meant.iter().map(|found| ResolvedCheck {
            name: match meant.len() {
                1 => name.to_owned(),
                _ => format!("{name} ({})", found.name),
            },
            within: Duration::ZERO,
            what: Tried::Probe(Probe::ReadableAs {
                root: found.destination.clone(),
                user: user.to_owned(),
            }),
        });
        checks.collect()
    }
}

fn one(name: &str, within: Duration, what: Tried) -> Vec<ResolvedCheck> {
    let name = name.to_owned();
    vec![ResolvedCheck { name, within, what }]
}
