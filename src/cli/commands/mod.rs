//! The commands, each a set of flag groups and what is done with them.

mod agent;
mod bundle;
mod compare;
mod docs;
mod explain;
mod generations;
mod manifest;
mod mirror;
mod plan;
mod planned;
mod status;
mod switch;
mod sync;

use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal, Write};

use crate::error::Error;
use crate::transport::Location;
use crate::ui::itemize::Direction;
use crate::ui::{Colours, Reach};

pub(super) use agent::AgentCommand;
pub(super) use bundle::BundleCommand;
pub(super) use compare::{DiffCommand, VerifyCommand};
pub(super) use docs::{CompletionsCommand, ManCommand};
pub(super) use explain::ExplainCommand;
pub(super) use generations::GenerationsCommand;
pub(super) use manifest::ManifestCommand;
pub(super) use mirror::MirrorCommand;
pub(super) use plan::PlanCommand;
pub(super) use status::StatusCommand;
pub(super) use switch::{RollbackCommand, SwitchCommand};
pub(super) use sync::SyncCommand;

/// Which way content goes, as rsync's lines show it.
fn direction(destination: &Location) -> Direction {
    match destination {
        Location::Remote(_) => Direction::Sent,
        Location::Local(_) => Direction::Received,
    }
}

/// Whether anything leaves this host.
fn reach(source: &Location, destination: &Location) -> Reach {
    match (source, destination) {
        (Location::Local(_), Location::Local(_)) => Reach::Here,
        _ => Reach::Far,
    }
}

/// Reads both ends of a command. clap has seen to it that they are there where they are needed.
fn locations(
    source: &Option<OsString>,
    destination: &Option<OsString>,
) -> Result<(Location, Location), Error> {
    let read = |end: &Option<OsString>| Location::parse(end.as_deref().unwrap_or_default());
    Ok((read(source)?, read(destination)?))
}

/// Writes a document to standard output. A reader that leaves early (`| head`) is no fault.
fn print(text: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(err) if err.kind() != ErrorKind::BrokenPipe => {
            Err(Error::io("write to", "standard output", err))
        }
        _ => Ok(()),
    }
}

/// Colours are for eyes, and for those who want them (<https://no-color.org>).
fn colours() -> Colours {
    let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match io::stdout().is_terminal() && !is_unwanted {
        true => Colours::Some,
        false => Colours::None,
    }
}
