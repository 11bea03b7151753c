//! The service: it must not run on the destination already, and the source must be able to say
//! whether it does.

use super::gather::{Asked, Status};
use super::{Findings, View, some};
use crate::events::Side;
use crate::plan::resolve::Verb;
use crate::protocol::errand::Exit;

pub(super) fn judge(view: &View<'_>, findings: &mut Findings) {
    for side in [Side::Source, Side::Destination] {
        status(view, side, findings);
        unit(view, side, findings);
    }
    occupants(view, findings);
    let can = |verb| view.resolved.action(verb, Side::Source).is_some();
    if can(Verb::Stop) && !can(Verb::Status) {
        findings.warning(
            "service",
            "there is a command that stops it and none that tells whether it runs",
            "add `status` to [service]: a switch proves by it that the service has stopped",
        );
    }
}

/// How a command for the status of a service ended.
enum Told<'a> {
    Runs,
    DoesNot,
    CannotTell(&'a str),
    TooLong,
}

fn told(status: &Asked<Status>) -> Told<'_> {
    match status {
        Err(why) => Told::CannotTell(why),
        Ok(Status { exit, last_line }) => match exit {
            Exit::Code(0) => Told::Runs,
            // What a shell says of a command that is not there, or is none.
            Exit::Code(126 | 127) => Told::CannotTell(last_line),
            Exit::Code(_) | Exit::Signal(_) => Told::DoesNot,
            Exit::TimedOut => Told::TooLong,
            Exit::NotStarted(why) => Told::CannotTell(why),
        },
    }
}

fn status(view: &View<'_>, side: Side, findings: &mut Findings) {
    let Some(status) = &view.seen.of(side).status else {
        return;
    };
    let place = side.noun();
    match (told(status), side) {
        (Told::Runs, Side::Source) => findings.ok("service", "it runs on the source"),
        (Told::DoesNot, Side::Source) => findings.warning(
            "service",
            "it does not run on the source",
            "all is well if you stopped it; if not, `status` asks for another one than you mean",
        ),
        (Told::Runs, Side::Destination) => findings.fail(
            "service",
            "it runs on the destination already",
            "stop and disable it there: two must never run at once",
        ),
        (Told::DoesNot, Side::Destination) => {
            findings.ok("service", "it does not run on the destination");
        }
        (Told::TooLong, _) => findings.fail(
            "service",
            format!("`status` does not end on the {place} within its `timeout`"),
            "give it more time, or another command",
        ),
        (Told::CannotTell(why), _) => findings.fail(
            "service",
            format!("`status` cannot be run on the {place}: {why}"),
            "install the service there, or correct the command or its `user`",
        ),
    }
}

/// A unit that is not there is as little active as one that has stopped.
fn unit(view: &View<'_>, side: Side, findings: &mut Findings) {
    let Some(Ok(Status { exit, last_line })) = &view.seen.of(side).unit else {
        return;
    };
    // Where systemctl cannot be run at all, `status` says so.
    if matches!(exit, Exit::Code(code) if *code != 0) {
        findings.fail(
            "service",
            format!("its unit is not there on the {}: {last_line}", side.noun()),
            "install the service there, or correct `unit`",
        );
    }
}

fn occupants(view: &View<'_>, findings: &mut Findings) {
    let occupants = match &view.seen.destination.occupants {
        Some(Ok(occupants)) => occupants,
        Some(Err(why)) => return findings.unknown("destination", "processes", why),
        None => return,
    };
    if !occupants.found.is_empty() {
        let named: Vec<_> = occupants
            .found
            .iter()
            .map(|process| format!("{} ({}): {}", process.command, process.pid, process.path))
            .collect();
        let message = format!(
            "processes have files open in the roots there:\n{}",
            some(&named, named.len() as u64, "\n")
        );
        findings.fail("destination", message, "stop them");
    }
    if occupants.hidden > 0 {
        let message = format!(
            "{} processes could not be looked at, so one may have files open in the roots",
            occupants.hidden
        );
        findings.warning(
            "destination",
            message,
            "log in there as root, or set `sudo = true`",
        );
    } else if occupants.found.is_empty() {
        findings.ok("destination", "no process has files open in the roots");
    }
}
