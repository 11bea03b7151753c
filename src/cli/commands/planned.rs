//! `sync`, `diff` and `verify` with `--plan`: all roots of a plan over one connection, as one run.

use std::path::Path;

use crate::cli::run::observed;
use crate::error::Error;
use crate::events::{Event, Phase};
use crate::options::SyncOptions;
use crate::plan::{self, Hosts, Loaded};
use crate::session::Mode;
use crate::transport::RemoteOptions;
use crate::ui::itemize::Direction;
use crate::ui::{Act, Reach, View};

/// What a command makes of a plan.
pub(super) struct Planned {
    loaded: Loaded,
    mode: Mode,
    connection: RemoteOptions,
}

impl Planned {
    /// Reads the plan.
    pub(super) fn load(file: &Path, mode: Mode, connection: RemoteOptions) -> Result<Self, Error> {
        Ok(Planned {
            loaded: plan::load(file)?,
            mode,
            connection,
        })
    }

    /// Which way content goes.
    pub(super) fn direction(&self) -> Direction {
        match self.loaded.plan.destination.is_here() {
            true => Direction::Received,
            false => Direction::Sent,
        }
    }

    /// Whether anything leaves this host.
    pub(super) fn reach(&self) -> Reach {
        let plan = &self.loaded.plan;
        match plan.source.is_here() && plan.destination.is_here() {
            true => Reach::Here,
            false => Reach::Far,
        }
    }

    /// How the plan compares files, before the command's own wish.
    pub(super) fn checksum(&self) -> bool {
        self.loaded.plan.sync.checksum
    }

    /// Runs all roots with the plan's options after `tweak`.
    pub(super) fn run(&self, view: View, tweak: impl Fn(&mut SyncOptions)) -> Result<u8, Error> {
        let changes = view.act == Act::Sync;
        observed(self.mode, view, |observer, cancel| {
            observer.observe(Event::Phase(Phase::Connecting));
            let plan = &self.loaded.plan;
            let mut hosts = Hosts::reach(plan, &self.connection, observer.as_ref(), cancel)?;
            let resolved = plan::resolve(&self.loaded, &mut hosts)?;
            let done = match changes {
                true => plan::sync_warm(&resolved, &mut hosts, &tweak, &observer, cancel)?,
                false => plan::run_roots(&resolved, self.mode, &tweak, &observer, cancel)?,
            };
            hosts.finish()?;
            Ok(plan::total(&done))
        })
    }
}
