//! `cutover agent`: the far end of a run, started by cutover over a remote shell.

use clap::Args;

use crate::cli::commands::print;
use crate::error::Error;
use crate::session;
use crate::transport::{agent_preamble, self_hash};

/// Serves a run over standard input and output: started by cutover on the other host
#[derive(Debug, Args)]
pub(crate) struct AgentCommand {
    /// Print which protocol this program speaks, and exit
    #[arg(long)]
    protocol: bool,

    /// Print the hash of this program's file, and exit
    #[arg(long, conflicts_with = "protocol")]
    self_hash: bool,
}

impl AgentCommand {
    /// Serves, or answers what the uploading end asks first.
    pub(crate) fn run(&self) -> Result<u8, Error> {
        if self.protocol {
            print(agent_preamble().as_bytes())?;
            return Ok(0);
        }
        if self.self_hash {
            let hash = self_hash().map_err(|err| Error::io("read", "this program", err))?;
            print(format!("{hash}\n").as_bytes())?;
            return Ok(0);
        }
        Ok(session::serve_agent())
    }
}
