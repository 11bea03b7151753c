//! `cutover completions` and `cutover man`: the command line's own description, in other forms.

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::error::Error;

use super::print;

/// Write a completion script for SHELL to standard output
///
/// For bash: cutover completions bash > ~/.local/share/bash-completion/completions/cutover
#[derive(Clone, Debug, Args)]
pub(crate) struct CompletionsCommand {
    /// Shell that it is for
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

impl CompletionsCommand {
    /// Writes the script.
    pub(crate) fn run(&self, cli: &mut Command) -> Result<u8, Error> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, cli, "cutover", &mut script);
        print(&script)?;
        Ok(0)
    }
}

/// Write the manual page, or that of COMMAND, to standard output
///
/// To read it: cutover man sync | man -l -
#[derive(Clone, Debug, Args)]
pub(crate) struct ManCommand {
    /// Command whose page is written, as in `sync` or `plan init`
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

impl ManCommand {
    /// Writes the page.
    pub(crate) fn run(&self, mut cli: Command) -> Result<u8, Error> {
        // Gives each subcommand its full name and the settings that it inherits.
        cli.build();
        let mut names = self.command.iter();
        let command = names.try_fold(cli, |of, name| subcommand(&of, name))?;
        let mut page = Vec::new();
        Man::new(command)
            .render(&mut page)
            .map_err(|err| Error::io("write", "the manual page", err))?;
        print(&page)?;
        Ok(0)
    }
}

/// The command of this name that `of` has.
fn subcommand(of: &Command, name: &str) -> Result<Command, Error> {
    let commands = || of.get_subcommands().filter(|one| !one.is_hide_set());
    if let Some(found) = commands().find(|one| one.get_name() == name) {
        return Ok(found.clone());
    }
    let names: Vec<_> = commands().map(Command::get_name).collect();
    let hint = match names.is_empty() {
        true => format!("{} has no commands", of.get_name()),
        false => format!("name one of {}", names.join(", ")),
    };
    Err(Error::Usage(format!(
        "there is no command {name:?} to write a page of: {hint}"
    )))
}
