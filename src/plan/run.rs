//! The roots of a plan, synced or compared one after the other over one connection.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::hosts::Hosts;
use super::resolve::{Resolved, ResolvedRoot};
use crate::error::{Error, RemoteError, Result};
use crate::events::{Cancel, Event, Observer, RootBegun, Side, Summary, Warning};
use crate::filter::Rules;
use crate::options::SyncOptions;
use crate::path::RelPath;
use crate::protocol::errand::Database;
use crate::session::{self, Mode};

/// Databases that changed meanwhile are told by name up to this number, and counted beyond it.
const MAX_NAMED: usize = 10;

/// Runs all roots that are synced by themselves, each with its options after `tweak`; returns what
/// was done in which.
///
/// # Errors
///
/// Those of the first root that does not come to its end. What was done before it stays done.
pub fn run_roots(
    resolved: &Resolved,
    mode: Mode,
    tweak: &dyn Fn(&mut SyncOptions),
    observer: &Arc<dyn Observer>,
    cancel: &Cancel,
) -> Result<Vec<(usize, Summary)>> {
    let mut done = Vec::new();
    for (n, root) in synced(resolved) {
        done.push((n, run_root(resolved, root, mode, tweak, observer, cancel)?));
    }
    Ok(done)
}

/// The same for a sync while the service may run, with a warning for each database that was
/// written to meanwhile: its copy is not consistent.
///
/// # Errors
///
/// As [`run_roots`].
pub fn sync_warm(
    resolved: &Resolved,
    hosts: &mut Hosts,
    tweak: &dyn Fn(&mut SyncOptions),
    observer: &Arc<dyn Observer>,
    cancel: &Cancel,
) -> Result<Vec<(usize, Summary)>> {
    let mut done = Vec::new();
    for (n, root) in synced(resolved) {
        let before = databases(root, hosts)?;
        let summary = run_root(resolved, root, Mode::Sync, tweak, observer, cancel)?;
        let after = databases(root, hosts)?;
        if let Some(warning) = changed_meanwhile(&root.name, &before, &after) {
            observer.observe(Event::Warning(warning));
        }
        done.push((n, summary));
    }
    Ok(done)
}

/// The databases of a root that take part.
fn databases(root: &ResolvedRoot, hosts: &mut Hosts) -> Result<Vec<Database>> {
    let rules = Rules::parse(&root.options.selection.rules);
    let rules = rules.map_err(|err| Error::Usage(err.to_string()))?;
    let takes_part = |database: &Database| {
        RelPath::new(database.path.as_bytes()).is_ok_and(|path| {
            let explained = rules.explain(&path, false, Side::Source);
            !explained.verdict.is_excluded()
        })
    };
    let mut found = hosts.source.databases(&root.source, false)?;
    found.retain(takes_part);
    Ok(found)
}

/// What was done in all roots together.
pub fn total(done: &[(usize, Summary)]) -> Summary {
    let mut total = Summary::default();
    for (_, summary) in done {
        total.add(summary);
    }
    total
}

fn synced(resolved: &Resolved) -> impl Iterator<Item = (usize, &ResolvedRoot)> {
    let roots = resolved.roots.iter().enumerate();
    roots.filter(|(_, root)| root.is_synced())
}

fn run_root(
    resolved: &Resolved,
    root: &ResolvedRoot,
    mode: Mode,
    tweak: &dyn Fn(&mut SyncOptions),
    observer: &Arc<dyn Observer>,
    cancel: &Cancel,
) -> Result<Summary> {
    cancel.check()?;
    let mut job = resolved.job(root, mode);
    tweak(&mut job.options);
    observer.observe(Event::RootBegun(RootBegun {
        name: root.name.clone(),
        source: job.source.to_string(),
        destination: job.destination.to_string(),
    }));
    let summary =
        session::run(&job, Arc::clone(observer), cancel).map_err(|err| of_root(&root.name, err))?;
    observer.observe(Event::RootDone {
        name: root.name.clone(),
        summary: Box::new(summary.clone()),
    });
    Ok(summary)
}

/// The error with the root's name in front, and of the same class.
fn of_root(name: &str, err: Error) -> Error {
    let told = |message: String| format!("root {name}: {message}");
    match err {
        Error::Usage(message) => Error::Usage(told(message)),
        Error::Refused(message) => Error::Refused(told(message)),
        Error::Connection(message) => Error::Connection(told(message)),
        Error::Locked(message) => Error::Locked(told(message)),
        Error::Failed(message) => Error::Failed(told(message)),
        Error::Remote(RemoteError { class, message }) => Error::Remote(RemoteError {
            class,
            message: told(message),
        }),
        // They name the path, or concern no root.
        other
        @ (Error::Io { .. } | Error::Protocol(_) | Error::Interrupted | Error::Stopped(_)) => other,
    }
}

fn changed_meanwhile(root: &str, before: &[Database], after: &[Database]) -> Option<Warning> {
    let stamps: BTreeMap<_, _> = before.iter().map(|db| (&db.path, &db.stamp)).collect();
    let changed: Vec<_> = after
        .iter()
        .filter(|db| stamps.get(&db.path) != Some(&&db.stamp))
        .map(|db| db.path.as_str())
        .collect();
    if changed.is_empty() {
        return None;
    }
    let (named, more) = changed.split_at(changed.len().min(MAX_NAMED));
    let more = match more.len() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let (copies, are) = match changed.len() {
        1 => ("the copy", "is"),
        _ => ("the copies", "are"),
    };
    Some(Warning {
        topic: "database".to_owned(),
        entries: changed.len() as u64,
        message: format!(
            "root {root}: {copies} of {}{more} {are} not consistent, because a service wrote to \
             it meanwhile; the final sync of a switch is",
            named.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(path: &str, stamp: u8) -> Database {
        Database {
            path: path.to_owned(),
            stamp: [stamp; 32],
            beside: Vec::new(),
            wal_bytes: 0,
            fault: None,
        }
    }

    #[test]
    fn a_database_that_was_written_to_is_told() {
        let before = [database("a.db", 1), database("b.db", 1)];
        let after = [database("a.db", 1), database("b.db", 2)];
        assert_eq!(changed_meanwhile("state", &before, &before), None);
        let warning = changed_meanwhile("state", &before, &after).unwrap();
        assert_eq!(warning.topic, "database");
        assert_eq!(warning.entries, 1);
        assert!(
            warning
                .message
                .starts_with("root state: the copy of b.db is not consistent"),
            "{}",
            warning.message
        );
    }

    #[test]
    fn one_that_is_new_counts_and_one_that_went_does_not() {
        let gone = [database("old.db", 1)];
        assert_eq!(changed_meanwhile("r", &gone, &[]), None);
        assert!(changed_meanwhile("r", &[], &[database("new.db", 1)]).is_some());
    }

    #[test]
    fn many_are_counted() {
        let after: Vec<_> = (0..12).map(|n| database(&format!("{n}.db"), 1)).collect();
        let message = changed_meanwhile("r", &[], &after).unwrap().message;
        assert!(
            message.contains(" and 2 more are not consistent"),
            "{message}"
        );
    }

    #[test]
    fn an_error_of_a_root_keeps_its_class() {
        let err = of_root("state", Error::Refused("the source is empty".into()));
        assert_eq!(err.to_string(), "refused: root state: the source is empty");
        assert_eq!(err.class().exit_code(), 5);
    }
}
