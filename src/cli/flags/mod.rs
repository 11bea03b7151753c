//! The flags, one file for each group of them: its help, its conversion into options, its tests.

mod compare;
mod delete;
mod fidelity;
mod mirror;
mod output;
mod ownership;
mod remote;
mod selection;
mod transfer;

pub(crate) use compare::{CompareFlags, RehashFlag};
pub(crate) use delete::{DeleteFlags, KeepFlags};
pub(crate) use fidelity::FidelityFlags;
pub(crate) use mirror::MirrorFlags;
pub(crate) use output::{OutputFlags, PreviewFlags};
pub(crate) use ownership::OwnershipFlags;
pub(crate) use remote::{ConnectionFlags, RemoteFlags};
pub(crate) use selection::{FilterFlags, SelectionFlags};
pub(crate) use transfer::{BandwidthFlag, TransferFlags};

/// What a command with `--plan` does not take beside it: a plan says all of this itself. Ids of
/// arguments and of groups of them, as clap names both; a group that holds another is empty.
pub(crate) const SAID_BY_A_PLAN: [&str; 12] = [
    "source",
    "destination",
    "FilterFlags",
    "max_size",
    "min_size",
    "one_file_system",
    "FidelityFlags",
    "OwnershipFlags",
    "rsh",
    "agent_path",
    "sudo",
    "ssh_option",
];

/// Parses one group of flags alone, under the settings of the whole command.
#[cfg(test)]
fn parse<T: clap::Args>(args: &[&str]) -> Result<T, clap::Error> {
    let cmd = clap::Command::new("test").args_override_self(true);
    let matches = T::augment_args(cmd)
        .no_binary_name(true)
        .try_get_matches_from(args)?;
    T::from_arg_matches(&matches)
}
