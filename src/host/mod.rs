//! What this host does for a plan: it runs errands, here or for whoever sent them to the agent.
//!
//! Most only look (`inspect`, `facts`, `expand`). `command` starts what a plan says; `keep` and
//! `marker` change a root, and of it only names of ours, but for a state that is restored.

mod command;
mod expand;
mod facts;
mod identity;
mod inspect;
mod keep;
pub(crate) mod marker;
mod root;

pub(crate) use identity::identify;
pub(crate) use inspect::{holds_packages, is_secret_file};
pub(crate) use keep::generations;

use crate::error::{Error, Result};
use crate::events::Cancel;
use crate::protocol::errand::{Answer, Errand, OutputLine};
use crate::transport::Whose;

/// Runs one errand. `whose` is the user that a bare `~` stands for; `output` hears each line that a
/// command writes as it comes.
///
/// # Errors
///
/// Why it could not be done; [`Error::Interrupted`] soon after `cancel` says so, once a command
/// that was running has been ended.
pub fn run(
    errand: &Errand,
    whose: Whose,
    cancel: &Cancel,
    output: &mut dyn FnMut(OutputLine),
) -> Result<Answer> {
    if let Some(answer) = inspect::answer(errand, cancel) {
        return answer;
    }
    match errand {
        Errand::Expand(question) => Ok(Answer::Expanded(expand::expand(question, whose))),
        Errand::Host => Ok(Answer::Host(facts::host())),
        Errand::Known { users, groups } => {
            let (users, groups) = facts::known(users, groups);
            Ok(Answer::Known { users, groups })
        }
        Errand::Run(command) => command::run(command, cancel, output).map(Answer::Exited),
        Errand::Keep { root, id, means } => keep::keep(root, id, *means, cancel),
        Errand::Restore { root, id } => keep::restore(root, id, cancel),
        Errand::Forget { root, id } => keep::forget(root, id).map(|()| Answer::Done),
        Errand::Discard { root, names } => {
            keep::discard(root, names, cancel).map(|()| Answer::Done)
        }
        Errand::ReadMarker(root) => marker::find(root).map(Answer::Marker),
        Errand::SetMarker { root, marker } => {
            marker::set(root, marker.as_ref()).map(|()| Answer::Done)
        }
        Errand::Fence { root, how, on } => marker::fence(root, *how, *on).map(|()| Answer::Done),
        Errand::Generations(errand) => generations::answer(errand, cancel).map(Answer::Generations),
        _ => Err(Error::protocol("an errand that no host runs")),
    }
}
