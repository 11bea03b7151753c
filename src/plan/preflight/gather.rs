//! All questions of a preflight to one host, asked in a row by the thread that has it. Apart from
//! the rules, which look at both hosts' answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use super::asked;
use super::expect::{self, Answered};
use crate::error::Result;
use crate::events::{Cancel, Side};
use crate::plan::resolve::{Resolved, ResolvedRoot, Verb, texts};
use crate::protocol::errand::{
    Command, Exit, HostFacts, Marker, Measured, Mention, Occupants, Probe, RootKind,
};
use crate::session::Host;

/// An answer, or why there is none.
pub(super) type Asked<T> = Result<T, String>;

/// What was seen of one host.
pub(super) struct Seen {
    /// What messages call it.
    pub(super) name: String,
    pub(super) facts: HostFacts,
    /// What `~` is in the plan's paths.
    pub(super) home: String,
    pub(super) clock: Clock,
    pub(super) people: Asked<People>,
    /// By the plan's order.
    pub(super) roots: Vec<RootSeen>,
    /// How the status command ended, and its last words; `None` where there is none.
    pub(super) status: Option<Asked<Status>>,
    /// How looking the unit up ended; `None` where there is none.
    pub(super) unit: Option<Asked<Status>>,
    /// Of the destination; on the source the service is at work still.
    pub(super) occupants: Option<Asked<Occupants>>,
    /// By the plan's order; `None` where the other side is asked.
    pub(super) expected: Vec<Option<Asked<Answered>>>,
}

/// A clock against that of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// How far it is ahead, in milliseconds.
    pub(super) ahead_ms: i64,
    /// By how much that may be wrong: half of the time that the question took.
    pub(super) doubt_ms: u64,
}

/// Which users and groups there are, of those that matter.
#[derive(Clone, Debug, Default)]
pub(super) struct People {
    pub(super) users: BTreeMap<String, bool>,
    pub(super) groups: BTreeMap<String, bool>,
}

/// How a command that only asks ended.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) exit: Exit,
    pub(super) last_line: String,
}

/// What was seen of one root.
#[derive(Default)]
pub(super) struct RootSeen {
    /// Of one that is a directory and synced by itself.
    pub(super) measured: Option<Asked<Measured>>,
    pub(super) marker: Option<Asked<Option<Marker>>>,
    /// What is required and missing.
    pub(super) missing: Vec<String>,
    /// Of the source: secrets that anyone can read.
    pub(super) exposed: Option<Asked<Vec<String>>>,
    /// Of the source: text that names paths.
    pub(super) mentions: Option<Asked<Vec<Mention>>>,
}

/// Asks one host everything.
pub(super) fn look(
    resolved: &Resolved,
    side: Side,
    host: &mut Host,
    cancel: &Cancel,
) -> Result<Seen> {
    let before = now_ms();
    let facts = host.facts()?;
    let clock = Clock::of(before, facts.clock_ms, now_ms());
    let home = texts::expand(host, &["~".to_owned()], resolved.environment(side))?;
    let home = home.into_iter().next().unwrap_or_default();
    let mut roots = Vec::new();
    for root in &resolved.roots {
        cancel.check()?;
        roots.push(look_at_root(resolved, root, side, &home, host)?);
    }
    cancel.check()?;
    let paths = resolved.roots.iter().filter(|root| root.is_synced());
    let paths: Vec<_> = paths.map(|root| root.path(side).to_owned()).collect();
    Ok(Seen {
        name: host.name().to_owned(),
        home,
        clock,
        people: asked(look_for_people(resolved, side, host))?,
        roots,
        status: run(resolved.action(Verb::Status, side), host)?,
        unit: run(resolved.unit_lookup(side), host)?,
        occupants: match side {
            Side::Source => None,
            Side::Destination => Some(asked(host.occupants(&paths))?),
        },
        expected: expect::ask(resolved, side, host)?,
        facts,
    })
}

impl Clock {
    fn of(before_ms: u64, told_ms: u64, after_ms: u64) -> Clock {
        let middle = before_ms.midpoint(after_ms);
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        Clock {
            ahead_ms: signed(told_ms).saturating_sub(signed(middle)),
            doubt_ms: after_ms.saturating_sub(before_ms) / 2,
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

fn look_at_root(
    resolved: &Resolved,
    root: &ResolvedRoot,
    side: Side,
    home: &String,
    host: &mut Host,
) -> Result<RootSeen> {
    let mut seen = RootSeen::default();
    let facts = root.facts.of(side);
    if !root.present || facts.kind != RootKind::Dir {
        return Ok(seen);
    }
    let path = root.path(side);
    seen.marker = Some(asked(host.read_marker(path))?);
    if root.held_by.is_none() {
        seen.measured = Some(asked(host.measure(path))?);
    }
    if side == Side::Destination {
        return Ok(seen);
    }
    let written = resolved
        .plan
        .roots
        .iter()
        .find(|written| written.name == root.name);
    let (required, secrets) = match written {
        Some(written) => (&written.required[..], &written.secrets[..]),
        None => (&[][..], &[][..]),
    };
    for name in required {
        if !is_there(host, &format!("{path}/{name}"))? {
            seen.missing.push(name.clone());
        }
    }
    // The outer root's search finds what lies in this one, but for what only this one calls secret.
    if root.held_by.is_none() || !secrets.is_empty() {
        seen.exposed = Some(asked(host.exposed(path, secrets))?);
    }
    if root.held_by.is_none() {
        let paths = paths_of_the_source(resolved, home);
        seen.mentions = Some(asked(host.mentions(path, &paths))?);
    }
    Ok(seen)
}

/// Whether there is something at a path; with a slash at its end, a directory.
fn is_there(host: &mut Host, path: &str) -> Result<bool> {
    let probe = Probe::File {
        path: path.to_owned(),
        exists: true,
        owner: None,
        group: None,
        mode: None,
        contains: None,
    };
    Ok(asked(host.check(probe))?.is_ok_and(|found| found.is_ok()))
}

/// The paths that may mean something else on the destination.
fn paths_of_the_source(resolved: &Resolved, home: &String) -> Vec<String> {
    let roots = resolved.roots.iter();
    let roots = roots.flat_map(|root| [&root.source, &root.facts.source.canonical]);
    let paths: BTreeSet<_> = roots.chain([home]).collect();
    // Every absolute path is below this one.
    paths
        .into_iter()
        .filter(|path| *path != "/")
        .cloned()
        .collect()
}

fn look_for_people(resolved: &Resolved, side: Side, host: &mut Host) -> Result<People> {
    let wanted = super::people::wanted(resolved, side);
    let users: Vec<_> = wanted.users.keys().cloned().collect();
    let groups: Vec<_> = wanted.groups.keys().cloned().collect();
    let (users_known, groups_known) = host.known(&users, &groups)?;
    Ok(People {
        users: users.into_iter().zip(users_known).collect(),
        groups: groups.into_iter().zip(groups_known).collect(),
    })
}

/// Runs a command that only asks.
fn run(command: Option<Command>, host: &mut Host) -> Result<Option<Asked<Status>>> {
    let Some(command) = command else {
        return Ok(None);
    };
    let mut last_line = String::new();
    let exit = asked(host.run(command, &mut |line| {
        if !line.text.trim().is_empty() {
            last_line = line.text;
        }
    }))?;
    Ok(Some(exit.map(|exit| Status { exit, last_line })))
}
