//! The proof that a service has stopped: it says so itself, and no process has anything open below
//! the roots.

use std::thread;
use std::time::{Duration, Instant};

use super::conductor::Conductor;
use crate::error::{Error, Result};
use crate::events::Side;
use crate::plan::Verb;
use crate::protocol::errand::Exit;

/// How long a service that was told to stop may take until its last process is gone, beyond the
/// time that its stop command took.
const GRACE: Duration = Duration::from_secs(30);

/// How often it is looked at meanwhile.
const PAUSE: Duration = Duration::from_millis(300);

/// How many processes an error names.
const NAMED: usize = 5;

/// What a service's status command says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Running {
    Yes,
    No,
    /// The plan has no command that would tell.
    Untold,
}

impl Conductor<'_> {
    /// Asks a service whether it runs.
    pub(super) fn is_running(&mut self, side: Side) -> Result<Running> {
        let Some(command) = self.resolved.action(Verb::Status, side) else {
            return Ok(Running::Untold);
        };
        match self.run_quietly(side, command)? {
            Exit::Code(0) => Ok(Running::Yes),
            Exit::Code(_) => Ok(Running::No),
            exit => Err(Error::Failed(format!(
                "the status command on the {} does not tell whether the service runs: it {}; \
                 run it there by hand",
                side.noun(),
                ended(&exit)
            ))),
        }
    }

    /// Waits until a service has stopped for certain. What it returns tells how that is known.
    pub(super) fn prove_stopped(&mut self, side: Side) -> Result<String> {
        let until = Instant::now() + GRACE;
        loop {
            match self.objection_to_stopped(side)? {
                Ok(proof) => return Ok(proof),
                Err(why) if Instant::now() >= until => return Err(Error::Failed(why)),
                Err(_) => {
                    self.cancel.check()?;
                    thread::sleep(PAUSE);
                }
            }
        }
    }

    /// The proof, or what speaks against it.
    fn objection_to_stopped(&mut self, side: Side) -> Result<Result<String, String>> {
        let said = match self.is_running(side)? {
            Running::Yes => {
                return Ok(Err(format!(
                    "the service still runs on the {}: its status command exits with 0; \
                     stop it there, then go on",
                    side.noun()
                )));
            }
            Running::No => "the status command says so",
            Running::Untold => "the plan has no status command",
        };
        let roots = self.root_paths(side);
        let occupants = self.hosts.of(side).occupants(&roots)?;
        if !occupants.found.is_empty() {
            let named: Vec<String> = occupants
                .found
                .iter()
                .take(NAMED)
                .map(|one| format!("{} ({}) has {}", one.pid, one.command, one.path))
                .collect();
            return Ok(Err(format!(
                "{} on the {} still have files open below the roots: {}; \
                 stop them, then go on",
                counted(occupants.found.len() as u64, "process", "processes"),
                side.noun(),
                named.join(", ")
            )));
        }
        let unseen = match occupants.hidden {
            0 => String::new(),
            hidden => format!(
                ", {} of other users could not be looked at",
                counted(hidden, "process", "processes")
            ),
        };
        Ok(Ok(format!("{said}; no process has a root open{unseen}")))
    }
}

/// How a command ended, after "it".
pub(super) fn ended(exit: &Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited with {code}"),
        Exit::Signal(signal) => format!("was killed by signal {signal}"),
        Exit::TimedOut => "took too long and was killed".to_string(),
        Exit::NotStarted(why) => format!("could not be started: {why}"),
    }
}

/// A number with its noun.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {many}"),
    }
}
