//! `cutover diff` and `cutover verify`: what differs, and the proof that nothing does.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::flags::{
    CompareFlags, FidelityFlags, OutputFlags, OwnershipFlags, RehashFlag, RemoteFlags,
    SAID_BY_A_PLAN, SelectionFlags,
};
use crate::cli::run::observed;
use crate::error::Error;
use crate::options::{Compare, SyncOptions};
use crate::session::{self, Job, Mode};
use crate::ui::itemize::Direction;
use crate::ui::{Act, Detail, Reach, View};

use super::planned::Planned;
use super::{direction, locations, reach};

/// Tell what differs between SRC and DST, and change nothing
///
/// Lines as with sync --itemize-changes, `*extra` for what only DST has, and a verdict at the
/// end. Exit code 0: same; 1: different; others as `cutover --help` lists them.
#[derive(Clone, Debug, Args)]
pub(crate) struct DiffCommand {
    #[command(flatten)]
    ends: Ends,

    #[command(flatten)]
    compare: CompareFlags,
}

/// Prove that DST has all that SRC has: contents by hash, and all metadata
///
/// Lines as with sync --itemize-changes, `*extra` for what only DST has, and a verdict at the
/// end. Exit code 0: identical; 1: different; 3: not all could be compared; others as `cutover
/// --help` lists them.
#[derive(Clone, Debug, Args)]
pub(crate) struct VerifyCommand {
    #[command(flatten)]
    ends: Ends,

    #[command(flatten)]
    rehash: RehashFlag,
}

/// What both take.
#[derive(Clone, Debug, Args)]
struct Ends {
    /// Directory or single file as it should be: a path, [USER@]HOST:PATH, or a manifest's file
    #[arg(value_name = "SRC", required_unless_present = "plan")]
    source: Option<OsString>,

    /// Directory or single file that is compared with it: a path or [USER@]HOST:PATH
    #[arg(value_name = "DST", required_unless_present = "plan")]
    destination: Option<OsString>,

    /// Compare all roots of the plan in FILE, as it says, instead of SRC with DST
    #[arg(long, value_name = "FILE", conflicts_with_all = SAID_BY_A_PLAN)]
    plan: Option<PathBuf>,

    #[command(flatten)]
    output: OutputFlags,

    #[command(flatten)]
    selection: SelectionFlags,

    #[command(flatten)]
    fidelity: FidelityFlags,

    #[command(flatten)]
    ownership: OwnershipFlags,

    #[command(flatten)]
    remote: RemoteFlags,
}

impl DiffCommand {
    /// Compares.
    pub(crate) fn run(&self) -> Result<u8, Error> {
        let compare = self.compare.compare();
        if let Some(file) = &self.ends.plan {
            let planned = self.ends.planned(file, Mode::Diff)?;
            let compare = match compare {
                Compare::Quick if planned.checksum() => Compare::Checksum,
                chosen => chosen,
            };
            let act = Act::Diff(compare);
            return self
                .ends
                .run_plan(&planned, act, compare, self.compare.rehash());
        }
        let options = self.ends.options(compare, self.compare.rehash())?;
        self.ends.run(Mode::Diff, Act::Diff(compare), options)
    }
}

impl VerifyCommand {
    /// Compares by content.
    pub(crate) fn run(&self) -> Result<u8, Error> {
        if let Some(file) = &self.ends.plan {
            let planned = self.ends.planned(file, Mode::Verify)?;
            let rehash = self.rehash.rehash;
            return self
                .ends
                .run_plan(&planned, Act::Verify, Compare::Checksum, rehash);
        }
        let options = self.ends.options(Compare::Checksum, self.rehash.rehash)?;
        self.ends.run(Mode::Verify, Act::Verify, options)
    }
}

impl Ends {
    fn options(&self, compare: Compare, rehash: bool) -> Result<SyncOptions, Error> {
        let mut options = SyncOptions {
            fidelity: self.fidelity.fidelity(),
            compare,
            selection: self.selection.selection()?,
            rehash,
            itemize: self.itemizes(),
            ..SyncOptions::default()
        };
        self.ownership.apply_to(&mut options);
        Ok(options)
    }

    fn planned(&self, file: &Path, mode: Mode) -> Result<Planned, Error> {
        Planned::load(file, mode, self.remote.connection().remote())
    }

    /// Compares the roots of a plan.
    fn run_plan(
        &self,
        planned: &Planned,
        act: Act,
        compare: Compare,
        rehash: bool,
    ) -> Result<u8, Error> {
        let view = self.view(act, planned.direction(), planned.reach());
        planned.run(view, |options| {
            options.compare = compare;
            options.rehash = rehash;
            options.itemize = self.itemizes();
        })
    }

    /// Lines that nobody sees need not travel.
    fn itemizes(&self) -> bool {
        self.output.detail() != Detail::Quiet
    }

    fn view(&self, act: Act, direction: Direction, reach: Reach) -> View {
        View {
            act,
            format: self.output.format(),
            detail: self.output.detail(),
            items: true,
            progress: self.output.progress(),
            direction,
            reach,
        }
    }

    fn run(&self, mode: Mode, act: Act, options: SyncOptions) -> Result<u8, Error> {
        let (source, destination) = locations(&self.source, &self.destination)?;
        let view = self.view(act, direction(&destination), reach(&source, &destination));
        let remote = self.remote.between(&source, &destination)?;
        let job = Job {
            source,
            destination,
            options,
            remote,
            mode,
        };
        observed(mode, view, |observer, cancel| {
            session::run(&job, observer, cancel)
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn command(args: &[&str]) -> Command {
        let all = ["cutover"].iter().chain(args);
        Cli::try_parse_from(all).unwrap().command
    }

    #[test]
    fn diff_compares_as_it_is_told() {
        let Command::Diff(diff) = command(&["diff", "-c", "--no-group", "a", "b"]) else {
            panic!("not a diff");
        };
        let options = diff
            .ends
            .options(diff.compare.compare(), diff.compare.rehash())
            .unwrap();
        assert_eq!(options.compare, Compare::Checksum);
        assert!(!options.fidelity.group);
        assert!(options.itemize && !options.dry_run);
    }

    #[test]
    fn verify_takes_no_weaker_comparison() {
        let weaker = ["cutover", "verify", "--size-only", "a", "b"];
        assert!(Cli::try_parse_from(weaker).is_err());
        let Command::Verify(verify) = command(&["verify", "--rehash", "a", "b"]) else {
            panic!("not a verify");
        };
        assert!(verify.rehash.rehash);
    }

    #[test]
    fn quiet_saves_the_traffic_of_items() {
        let Command::Verify(verify) = command(&["verify", "-q", "a", "b"]) else {
            panic!("not a verify");
        };
        let options = verify.ends.options(Compare::Checksum, false).unwrap();
        assert!(!options.itemize);
    }
}
