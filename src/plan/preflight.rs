//! The look at both hosts before anything is done: read-only, both sides at once, and one row for
//! each thing that is well, doubtful or in the way.

mod content;
mod expect;
mod gather;
mod hold;
mod people;
mod roots;
mod service;
mod space;

use serde::{Deserialize, Serialize};

use super::hosts::Hosts;
use super::resolve::Resolved;
use crate::error::{Error, ErrorClass, Result};
use crate::events::{Both, Cancel, Side};
use crate::session::Host;
use gather::Seen;

/// How much clocks may differ, in milliseconds: a change that follows a sync by less could carry
/// the time of an older one, and be overlooked.
const CLOCK_LIMIT_MS: u64 = 2000;

/// How many of many are named in one row.
const MAX_NAMED: usize = 10;

/// What was found about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Whether it is in the way.
    pub verdict: Verdict,
    /// What it is about.
    pub subject: String,
    /// What was found; may have several lines.
    pub message: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// Whether a thing is in the way of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is as it should be.
    Ok,
    /// It may be wrong.
    Warning,
    /// It is wrong: a switch is refused.
    Fail,
}

/// The rows of a preflight as they are found.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, subject: &str, message: impl Into<String>) {
        self.add(Verdict::Ok, subject, message.into(), None);
    }

    fn warning(&mut self, subject: &str, message: impl Into<String>, advice: impl Into<String>) {
        self.add(
            Verdict::Warning,
            subject,
            message.into(),
            Some(advice.into()),
        );
    }

    fn fail(&mut self, subject: &str, message: impl Into<String>, advice: impl Into<String>) {
        self.add(Verdict::Fail, subject, message.into(), Some(advice.into()));
    }

    fn add(&mut self, verdict: Verdict, subject: &str, message: String, advice: Option<String>) {
        self.0.push(Finding {
            verdict,
            subject: subject.to_owned(),
            message,
            advice,
        });
    }

    /// A row for something that could not be found out.
    fn unknown(&mut self, subject: &str, what: &str, why: &str) {
        let message = format!("{what} could not be looked at: {why}");
        self.warning(
            subject,
            message,
            "see to it that it can be, and check again",
        );
    }
}

/// All that rules look at.
struct View<'a> {
    resolved: &'a Resolved,
    seen: &'a Both<Seen>,
}

/// Looks at everything that a switch of the plan would meet.
///
/// # Errors
///
/// [`Error::Connection`] when a host went away meanwhile, [`Error::Interrupted`]. What is wrong
/// with the plan or its hosts is no error but a row.
pub fn preflight(resolved: &Resolved, hosts: &mut Hosts, cancel: &Cancel) -> Result<Vec<Finding>> {
    let seen = hosts.both(|side, host| gather::look(resolved, side, host, cancel))?;
    let there = content::paths_there(&seen.source, &mut hosts.destination)?;
    let view = View {
        resolved,
        seen: &seen,
    };
    let mut findings = Findings::default();
    reached(&view, &mut findings);
    clocks(&view, &mut findings);
    people::judge(&view, &mut findings);
    roots::judge(&view, &mut findings);
    hold::judge(&view, &mut findings);
    space::judge(&view, &mut findings);
    service::judge(&view, &mut findings);
    expect::judge(&view, &mut findings);
    content::judge(&view, &there, &mut findings);
    Ok(findings.0)
}

/// The rows of hosts of which one at least was not reached.
pub fn unreachable(hosts: &Both<Result<Host>>) -> Vec<Finding> {
    let mut findings = Findings::default();
    for side in [Side::Source, Side::Destination] {
        match hosts.of(side) {
            Ok(host) => findings.ok(side.noun(), format!("{} is reached", host.name())),
            Err(err) => {
                let advice = match err.class() {
                    ErrorClass::Usage => "correct the plan",
                    _ => {
                        "try `ssh HOST true` by hand, then check `host`, `ssh` and `agent` in \
                          the plan"
                    }
                };
                findings.fail(side.noun(), err.to_string(), advice);
            }
        }
    }
    findings.0
}

/// An answer, or why there is none; what ends the connection ends the preflight.
fn asked<T>(answer: Result<T>) -> Result<Result<T, String>> {
    match answer {
        Err(err @ (Error::Connection(_) | Error::Protocol(_) | Error::Interrupted)) => Err(err),
        Err(err) => Ok(Err(err.to_string())),
        Ok(answer) => Ok(Ok(answer)),
    }
}

fn reached(view: &View<'_>, findings: &mut Findings) {
    for side in [Side::Source, Side::Destination] {
        let seen = view.seen.of(side);
        let facts = &seen.facts;
        let message = format!(
            "{} ({}) is reached, the agent runs as {}, home {}",
            seen.name, facts.name, facts.user, facts.home
        );
        findings.ok(side.noun(), message);
    }
}

fn clocks(view: &View<'_>, findings: &mut Findings) {
    let (source, destination) = (&view.seen.source, &view.seen.destination);
    let ahead = destination.clock.ahead_ms - source.clock.ahead_ms;
    let doubt = destination.clock.doubt_ms + source.clock.doubt_ms;
    let apart = ahead.unsigned_abs().saturating_sub(doubt);
    if apart <= CLOCK_LIMIT_MS {
        return findings.ok("clocks", "they agree within two seconds");
    }
    let direction = if ahead > 0 { "ahead of" } else { "behind" };
    let message = format!(
        "the destination's clock is {:.1} s {direction} the source's",
        ahead.unsigned_abs() as f64 / 1000.0
    );
    findings.warning(
        "clocks",
        message,
        "set both by NTP: timedatectl set-ntp true",
    );
}

/// The first of many, a line each or in one, and how many more there are.
fn some<S: AsRef<str>>(names: &[S], total: u64, separator: &str) -> String {
    let named: Vec<_> = names.iter().take(MAX_NAMED).map(AsRef::as_ref).collect();
    let more = total.saturating_sub(named.len() as u64);
    match more {
        0 => named.join(separator),
        _ => format!("{}{separator}and {more} more", named.join(separator)),
    }
}

/// What rows about a root are headed by.
fn of_root(name: &str) -> String {
    format!("root {name}")
}

#[cfg(test)]
mod tests;
