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
    /// Command whose page is written
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

impl ManCommand {
    /// Writes the page.
    pub(crate) fn run(&self, mut cli: Command) -> Result<u8, Error> {
        // Gives each subcommand its full name and the settings that it inherits.
        cli.build();
        let command = match &self.command {
            None => cli,
            Some(name) => self.subcommand(&cli, name)?,
        };
        let mut page = Vec::new();
        Man::new(command)
            .render(&mut page)
            .map_err(|err| Error::io("write", "the manual page", err))?;
        print(&page)?;
        Ok(0)
    }

    fn subcommand(&self, cli: &Command, name: &str) -> Result<Command, Error> {
        let commands = || {
            cli.get_subcommands()
                .filter(|command| !command.is_hide_set())
        };
        let Some(command) = commands().find(|command| command.get_name() == name) else {
            let names: Vec<_> = commands().map(Command::get_name).collect();
            return Err(Error::Usage(format!(
                "there is no command {name:?} to write a page of: name one of {}",
                names.join(", ")
            )));
        };
        Ok(command.clone())
    }
}
