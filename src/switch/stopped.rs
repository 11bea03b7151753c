//! The proof that a service has stopped: it says so itself, and no process has anything open below
//! the roots.

use std::thread;
use std::time::{Duration, Instant};

use super::conductor::Conductor;
use super::journal::{Journal, What};
use super::step::Step;
use crate::error::{Error, ErrorClass, Result};
use crate::events::Side;
use crate::plan::Verb;
use crate::plan::model::FenceOff;
use crate::protocol::errand::Exit;
use crate::units::counted;

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
    /// There is no command that would tell.
    Untold,
}

/// What speaks against a service's having stopped.
struct Objection {
    why: String,
    /// It says that it runs. Otherwise it is a process that has something open, which may be one
    /// that only looks.
    says_itself: bool,
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// The service's own word, and the last process.
    All,
    /// The last process: the service has been stopped before.
    Holders,
}

impl Conductor<'_> {
    /// Asks a service whether it runs.
    pub(super) fn is_running(&mut self, side: Side) -> Result<Running> {
        let Some(command) = self.resolved.action(Verb::Status, side) else {
            return Ok(Running::Untold);
        };
        let is_systemctl = command
            .words
            .first()
            .is_some_and(|word| word == "systemctl");
        match self.run_quietly(side, command)? {
            Exit::Code(0) => Ok(Running::Yes),
            Exit::Code(code) if says_no(code, is_systemctl) => Ok(Running::No),
            exit => Err(Error::Failed(format!(
                "the status command on the {} does not tell whether the service runs: it {}; \
                 run it there by hand",
                side.noun(),
                ended(&exit)
            ))),
        }
    }

    /// The same where the root may be gone that the command needs, renamed by the fence or empty as
    /// it was before: then it need not tell.
    pub(super) fn asked(&mut self, side: Side, journal: &Journal) -> Result<Running> {
        let is_bare = match side {
            Side::Source => {
                journal.heading().frame.fence == FenceOff::Rename && journal.has_ended(Step::Fence)
            }
            Side::Destination => journal.has_ended(Step::Restore),
        };
        match self.is_running(side) {
            Err(Error::Failed(_)) if is_bare => Ok(Running::Untold),
            running => running,
        }
    }

    /// Waits until a service has stopped for certain. What it returns tells how that is known.
    pub(super) fn prove_stopped(&mut self, side: Side, journal: &Journal) -> Result<String> {
        self.wait_for_proof(side, journal, Patience::All)
    }

    fn wait_for_proof(
        &mut self,
        side: Side,
        journal: &Journal,
        patience: Patience,
    ) -> Result<String> {
        let until = Instant::now() + GRACE;
        loop {
            match self.objection_to_stopped(side, journal)? {
                Ok(proof) => return Ok(proof),
                Err(objection) => {
                    let is_hopeless = patience == Patience::Holders && objection.says_itself;
                    if is_hopeless || Instant::now() >= until {
                        return Err(Error::Failed(objection.why));
                    }
                    self.cancel.check()?;
                    thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Whether any process has something open below the roots.
    pub(super) fn is_held(&mut self, side: Side) -> Result<bool> {
        let roots = self.root_paths(side);
        let occupants = self.hosts.of(side).occupants(&roots)?;
        Ok(!occupants.found.is_empty())
    }

    /// Refuses a step while the other side runs: whatever the journal says, it may have been
    /// started by hand or by its supervisor. That is written down, since from then on another side
    /// is live than the steps would tell.
    pub(super) fn refuse_other_side(&mut self, step: Step, journal: &mut Journal) -> Result<()> {
        let (side, proof, advice) = match step {
            Step::StartSource => (
                Side::Destination,
                Step::ProveDestinationStopped,
                "stop it there",
            ),
            step if step == Step::Fence || step.wakes_destination() => (
                Side::Source,
                Step::ProveStopped,
                "keep its supervisor from starting it there",
            ),
            _ => return Ok(()),
        };
        let why = match self.wait_for_proof(side, journal, Patience::Holders) {
            Ok(_) => return Ok(()),
            Err(err)
                if matches!(
                    err.class(),
                    ErrorClass::Interrupted | ErrorClass::Connection
                ) =>
            {
                return Err(err);
            }
            Err(err) => format!(
                "the {} may be in use again though it was stopped: {err}; {advice}",
                side.noun()
            ),
        };
        journal.note(Some(proof), What::Failed, Some(why.clone()))?;
        Err(Error::Refused(why))
    }

    /// Refuses to call a switch done while both sides run.
    pub(super) fn refuse_two(&mut self, journal: &mut Journal) -> Result<()> {
        if self.asked(Side::Source, journal)? != Running::Yes {
            return Ok(());
        }
        let why = "the service runs on the source again, and on the destination too: stop it on \
                   the source, and keep its supervisor from starting it there";
        journal.note(Some(Step::ProveStopped), What::Failed, Some(why.into()))?;
        Err(Error::Refused(why.into()))
    }

    /// The proof, or what speaks against it.
    fn objection_to_stopped(
        &mut self,
        side: Side,
        journal: &Journal,
    ) -> Result<Result<String, Objection>> {
        let said = match self.asked(side, journal)? {
            Running::Yes => {
                let why = format!(
                    "the service still runs on the {}: its status command exits with 0; \
                     stop it there, then go on",
                    side.noun()
                );
                return Ok(Err(Objection {
                    why,
                    says_itself: true,
                }));
            }
            Running::No => "the status command says so",
            Running::Untold => "no status command tells",
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
            let why = format!(
                "{} on the {} still have files open below the roots: {}; \
                 stop them, then go on",
                counted(occupants.found.len() as u64, "process", "processes"),
                side.noun(),
                named.join(", ")
            );
            return Ok(Err(Objection {
                why,
                says_itself: false,
            }));
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

/// Whether the exit of a status command means that the service does not run. A shell exits with
/// 126 and 127 where it cannot run the command, and `systemctl is-active` with 1 where it cannot ask:
/// neither must pass for a proof.
fn says_no(code: i32, is_systemctl: bool) -> bool {
    match is_systemctl {
        // As LSB has it: 3 is not running, 4 is no such unit.
        true => matches!(code, 3 | 4),
        false => !matches!(code, 126 | 127),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_that_could_not_be_asked_for_says_nothing() {
        for code in [1, 3, 4, 125] {
            assert!(says_no(code, false), "{code}");
        }
        for code in [126, 127] {
            assert!(!says_no(code, false) && !says_no(code, true), "{code}");
        }
        assert!(says_no(3, true) && says_no(4, true) && !says_no(1, true));
    }
}
