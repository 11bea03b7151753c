//! `cutover sync`: one pass that makes the destination like the source.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::flags::{
    BandwidthFlag, CompareFlags, DeleteFlags, FidelityFlags, KeepFlags, OutputFlags,
    OwnershipFlags, PreviewFlags, RemoteFlags, SAID_BY_A_PLAN, SelectionFlags, TransferFlags,
};
use crate::cli::run::observed;
use crate::error::Error;
use crate::options::SyncOptions;
use crate::session::{self, Job, Mode};
use crate::transport::Location;
use crate::ui::itemize::Direction;
use crate::ui::{Act, Reach, View};

use super::explain::explanation;
use super::planned::Planned;
use super::{direction, locations, print, reach};

/// Make DST like SRC: one pass that sends what is new or changed
///
/// A sync that was interrupted goes on where it stopped when it is run again. Entries that only
/// DST has stay, unless --delete is given.
#[derive(Clone, Debug, Args)]
pub(crate) struct SyncCommand {
    /// Directory whose contents are copied, or a single file: a path or [USER@]HOST:PATH
    #[arg(value_name = "SRC", required_unless_present = "plan")]
    source: Option<OsString>,

    /// Directory that they are copied into: a path or [USER@]HOST:PATH; made if it is not there
    #[arg(value_name = "DST", required_unless_present = "plan")]
    destination: Option<OsString>,

    /// Sync all roots of the plan in FILE, as it says, instead of SRC to DST
    ///
    /// While the service may run: a database that it writes to meanwhile is told, since its copy is
    /// not consistent. What the plan says is not said here as well: filters, deletion, owners,
    /// hosts.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = SAID_BY_A_PLAN,
        conflicts_with_all = ["explain", "DeleteFlags", "KeepFlags", "CompareFlags", "BandwidthFlag", "TransferFlags"]
    )]
    plan: Option<PathBuf>,

    #[command(flatten)]
    preview: PreviewFlags,

    #[command(flatten)]
    output: OutputFlags,

    #[command(flatten)]
    selection: SelectionFlags,

    /// Tell which filter rule decides about PATH, and do nothing else
    ///
    /// PATH is relative to SRC; a slash at its end makes it a directory's, as does being one if
    /// SRC is local.
    #[arg(long, value_name = "PATH", help_heading = "Selection")]
    explain: Option<OsString>,

    #[command(flatten)]
    delete: DeleteFlags,

    #[command(flatten)]
    keep: KeepFlags,

    #[command(flatten)]
    compare: CompareFlags,

    #[command(flatten)]
    fidelity: FidelityFlags,

    #[command(flatten)]
    ownership: OwnershipFlags,

    #[command(flatten)]
    transfer: TransferFlags,

    #[command(flatten)]
    bandwidth: BandwidthFlag,

    #[command(flatten)]
    remote: RemoteFlags,
}

impl SyncCommand {
    /// Syncs, or explains.
    pub(crate) fn run(&self) -> Result<u8, Error> {
        if let Some(plan) = &self.plan {
            return self.run_plan(plan);
        }
        let (source, destination) = locations(&self.source, &self.destination)?;
        if let Some(path) = &self.explain {
            let root = match &source {
                Location::Local(root) => Some(root.as_path()),
                Location::Remote(_) => None,
            };
            print(explanation(self.selection.filters(), path, root)?.as_bytes())?;
            return Ok(0);
        }
        let view = self.view(direction(&destination), reach(&source, &destination));
        let remote = self.remote.between(&source, &destination)?;
        let job = Job {
            source,
            destination,
            options: self.options()?,
            remote,
            mode: Mode::Sync,
        };
        observed(job.mode, view, |observer, cancel| {
            session::run(&job, observer, cancel)
        })
    }

    /// Syncs the roots of a plan.
    fn run_plan(&self, file: &Path) -> Result<u8, Error> {
        let connection = self.remote.connection().remote();
        let planned = Planned::load(file, Mode::Sync, connection)?;
        let view = self.view(planned.direction(), planned.reach());
        planned.run(view, |options| {
            options.dry_run = self.preview.dry_run;
            options.itemize = self.preview.items();
        })
    }

    fn view(&self, direction: Direction, reach: Reach) -> View {
        View {
            act: if self.preview.dry_run {
                Act::DryRun
            } else {
                Act::Sync
            },
            format: self.output.format(),
            detail: self.output.detail(),
            items: self.preview.items(),
            progress: self.output.progress(),
            direction,
            reach,
        }
    }

    fn options(&self) -> Result<SyncOptions, Error> {
        let mut options = SyncOptions {
            fidelity: self.fidelity.fidelity(),
            compare: self.compare.compare(),
            selection: self.selection.selection()?,
            delete: self.delete.delete(),
            keep: self.keep.keep(),
            transfer: self.transfer.transfer(),
            write: self.transfer.write(),
            dry_run: self.preview.dry_run,
            rehash: self.compare.rehash(),
            itemize: self.preview.items(),
            ..SyncOptions::default()
        };
        options.transfer.bandwidth_bytes_per_s = self.bandwidth.limit();
        self.ownership.apply_to(&mut options);
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::options::{Compare, Delete, DeltaMode, Ownership};

    fn sync(args: &[&str]) -> SyncCommand {
        let all = ["cutover", "sync"].iter().chain(args);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Sync(sync) => *sync,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_flags_the_options_are_the_librarys_defaults() {
        let options = sync(&["src", "dst"]).options().unwrap();
        assert_eq!(options, SyncOptions::default());
    }

    #[test]
    fn every_group_of_flags_reaches_the_options() {
        let options = sync(&[
            "-n",
            "src",
            "--no-owner",
            "-c",
            "--rehash",
            "--exclude=*.o",
            "--delete",
            "--backup",
            "--groupmap=*:www",
            "-W",
            "--inplace",
            "dst",
        ])
        .options()
        .unwrap();
        assert!(options.dry_run && options.itemize && options.rehash);
        assert!(!options.fidelity.owner && options.fidelity.group);
        assert_eq!(options.compare, Compare::Checksum);
        assert_eq!(options.selection.rules[0].0, b"- *.o");
        assert_eq!(options.delete, Some(Delete::default()));
        assert_eq!(options.keep.backup_suffix, Some(b"~".to_vec()));
        assert_eq!(
            options.ownership,
            Ownership {
                groupmap: vec!["*:www".to_owned()],
                ..Ownership::default()
            }
        );
        assert_eq!(options.transfer.delta, DeltaMode::Never);
        assert!(options.write.inplace);
    }

    #[test]
    fn a_plan_says_what_is_not_said_beside_it() {
        assert!(
            sync(&["--plan", "p.toml", "-n", "-v", "--persist=10m"])
                .plan
                .is_some()
        );
        for flag in [
            "a",
            "--exclude=x",
            "--max-size=1",
            "--no-acls",
            "--chown=a",
            "--delete",
            "-c",
            "--bwlimit=1",
            "--compress=never",
            "--sudo",
            "--explain=a",
        ] {
            let args = ["cutover", "sync", "--plan=p.toml", flag];
            assert!(Cli::try_parse_from(args).is_err(), "{flag}");
        }
    }

    #[test]
    fn an_option_given_twice_counts_the_second_time() {
        let options = sync(&["--max-size=1", "--max-size=2", "-W", "-W", "s", "d"])
            .options()
            .unwrap();
        assert_eq!(options.selection.max_size, Some(2));
    }

    #[test]
    fn lines_point_to_another_host_only_when_content_goes_there() {
        let pointing = |destination: &str| {
            let command = sync(&["src", destination]);
            let (source, destination) = locations(&command.source, &command.destination).unwrap();
            command
                .view(direction(&destination), reach(&source, &destination))
                .direction
        };
        assert_eq!(pointing("host:dst"), Direction::Sent);
        assert_eq!(pointing("dst"), Direction::Received);
    }
}
