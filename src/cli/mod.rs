//! The command line: what is written becomes options and a session, and its outcome an exit code.
//!
//! Everything that it does, the library offers; here are only words.

mod commands;
mod exit;
mod flags;
mod habits;
mod run;
mod signals;
mod terminal;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::error::{Error, ErrorClass};
use crate::ui::printable;

use commands::{
    AgentCommand, BundleCommand, CompletionsCommand, DiffCommand, ExplainCommand,
    GenerationsCommand, ManCommand, ManifestCommand, MirrorCommand, PlanCommand, RollbackCommand,
    StatusCommand, SwitchCommand, SyncCommand, VerifyCommand,
};

pub use exit::exit_code;

/// What the help says after the commands.
const AFTER_HELP: &str = "\
SRC and DST are directories or single files, local or [USER@]HOST:PATH. What is in a directory \
SRC comes to be in DST, with or without a slash at the end.

Exit codes:
  0    done; for diff and verify: no difference
  1    diff and verify: the two sides differ, or two generations, or a bundle and its manifest;
       status: a mirror needs attention, or there is none
  2    the command line or the plan makes no sense, or not with what is there
  3    some entries failed, and the rest is done; or the run could not begin or go on
  4    some entries changed while they were copied; the rest is done
  5    refused by a guard: nothing was deleted
  6    the other host could not be reached, went away or broke the protocol
  7    another run writes to one of the trees, or reads the one to be written to
  130  interrupted; the same command goes on where it stopped";

/// Moves large workspaces between machines and keeps a warm standby until the switch
///
/// A repeated sync costs little more than looking at the tree. By default everything is
/// preserved: modes, owners, times, links, hard links, extended attributes, ACLs, holes, and
/// devices when root. Nothing is deleted unless asked for.
#[derive(Debug, Parser)]
#[command(
    name = "cutover",
    version,
    after_help = "Exit codes and more: cutover --help, cutover COMMAND --help.",
    after_long_help = AFTER_HELP,
    // A script that appends an option overrides one that was there.
    args_override_self = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Sync(Box<SyncCommand>),
    Diff(Box<DiffCommand>),
    Verify(Box<VerifyCommand>),
    Manifest(Box<ManifestCommand>),
    Bundle(BundleCommand),
    Plan(PlanCommand),
    Switch(Box<SwitchCommand>),
    Rollback(Box<RollbackCommand>),
    Mirror(Box<MirrorCommand>),
    Status(StatusCommand),
    Generations(GenerationsCommand),
    Explain(ExplainCommand),
    Completions(CompletionsCommand),
    Man(ManCommand),
    #[command(hide = true)]
    Agent(AgentCommand),
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let cli = Cli::try_parse_from(&args).unwrap_or_else(|err| {
        let mut command = Cli::command();
        command.build();
        habits::explained(err, &command, &args).exit()
    });
    let code = match cli.command {
        Command::Sync(sync) => sync.run(),
        Command::Diff(diff) => diff.run(),
        Command::Verify(verify) => verify.run(),
        Command::Manifest(manifest) => manifest.run(),
        Command::Bundle(bundle) => bundle.run(),
        Command::Plan(plan) => plan.run(),
        Command::Switch(switch) => switch.run(),
        Command::Rollback(rollback) => rollback.run(),
        Command::Mirror(mirror) => mirror.run(),
        Command::Status(status) => status.run(),
        Command::Generations(generations) => generations.run(),
        Command::Explain(explain) => explain.run(),
        Command::Completions(completions) => completions.run(&mut Cli::command()),
        Command::Man(man) => man.run(Cli::command()),
        Command::Agent(agent) => agent.run(),
    };
    ExitCode::from(code.unwrap_or_else(|err| fail(&err)))
}

/// Prints an error that came before there was a run to report it.
fn fail(err: &Error) -> u8 {
    let mut said = format!("cutover: {}\n", printable(&err.to_string()));
    if err.class() == ErrorClass::Usage {
        said += "For more information, try 'cutover help COMMAND'.\n";
    }
    // Whoever has stopped reading still gets the exit code.
    let _ = std::io::stderr().write_all(said.as_bytes());
    err.class().exit_code()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_visible_flag_of_every_command_has_help() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for arg in command.get_arguments() {
                let name = format!("{} {}", command.get_name(), arg.get_id());
                assert!(arg.get_help().is_some(), "{name}");
            }
        }
    }
}
