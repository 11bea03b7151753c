//! How the other host is reached and what runs there.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::error::Error;
use crate::events::Both;
use crate::transport::{Location, RemoteOptions};

use crate::units::parse_duration;

/// How long a connection may take to come about: TCP alone would try for two minutes.
const CONNECT_TIMEOUT: &str = "30s";

/// The running program, which is what is sent to hosts that have no agent. Still there when an
/// update has replaced the file.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// The far end.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Remote host")]
pub(crate) struct RemoteFlags {
    /// Reach the host with COMMAND instead of ssh
    ///
    /// COMMAND is run with the host's name and the agent's command line after it, like `docker
    /// exec -i` or `ssh -p 2222`.
    #[arg(short = 'e', long, value_name = "COMMAND")]
    rsh: Option<String>,

    /// Use the cutover at PATH on the other host
    ///
    /// Without it a compatible one is looked for there, else this one is sent over the connection
    /// and kept in the far user's cache directory.
    #[arg(long, value_name = "PATH")]
    agent_path: Option<OsString>,

    /// Run with `sudo -n` on the other host
    ///
    /// sudo must not ask for a password there. Paths stay those of the user who logs in: `~` and
    /// relative ones start in that user's home.
    #[arg(long)]
    sudo: bool,

    /// Give ARG to ssh; may be given several times
    ///
    /// As one word that ssh understands: `--ssh-option=-p2222`, `--ssh-option=-oPort=2222`.
    #[arg(
        long,
        value_name = "ARG",
        allow_hyphen_values = true,
        conflicts_with = "rsh"
    )]
    ssh_option: Vec<String>,

    #[command(flatten)]
    connection: ConnectionFlags,
}

/// What is the user's to say of a connection, whoever says where it leads.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Remote host")]
pub(crate) struct ConnectionFlags {
    /// Keep the connection for the next run, for DURATION after this one
    ///
    /// In seconds, or with s, m, h or d: 90s, 10m. Without it the connection ends with the run, or with
    /// a plan after a minute.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    persist: Option<Duration>,

    /// Give up when no connection stands after DURATION
    ///
    /// ConnectTimeout in ssh's configuration goes before it. With -e, of which nothing is known
    /// until it works, it is the time until then. At a terminal two minutes more are allowed,
    /// for prompts.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration,
          default_value = CONNECT_TIMEOUT)]
    connect_timeout: Duration,
}

impl ConnectionFlags {
    /// The options for the transport, but for where to and how.
    pub(crate) fn remote(&self) -> RemoteOptions {
        RemoteOptions {
            persist: self.persist,
            agent_binary: PathBuf::from(THIS_PROGRAM),
            connect_timeout: self.connect_timeout,
            ..RemoteOptions::default()
        }
    }
}

impl RemoteFlags {
    /// The options for both ends of a run between two places.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when root's rights are asked for where no agent would have them.
    pub(crate) fn between(
        &self,
        source: &Location,
        destination: &Location,
    ) -> Result<Both<RemoteOptions>, Error> {
        let is_all_here = matches!(
            (source, destination),
            (Location::Local(_), Location::Local(_))
        );
        if self.sudo && is_all_here {
            return Err(Error::Usage(
                "--sudo is for the other host, and both paths are on this one: run `sudo cutover` \
                 instead"
                    .to_string(),
            ));
        }
        let remote = self.remote()?;
        Ok(Both {
            source: remote.clone(),
            destination: remote,
        })
    }

    /// What is said beside how the host is reached, which a plan says.
    pub(crate) fn connection(&self) -> &ConnectionFlags {
        &self.connection
    }

    /// The options for the transport.
    pub(crate) fn remote(&self) -> Result<RemoteOptions, Error> {
        let mut options = RemoteOptions {
            shell: self.rsh.clone(),
            agent_path: self.agent_path.clone().map(OsString::into_vec),
            sudo: self.sudo,
            ..self.connection.remote()
        };
        for words in &self.ssh_option {
            options.push_ssh_option(words)?;
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn remote(args: &[&str]) -> RemoteOptions {
        parse::<RemoteFlags>(args).unwrap().remote().unwrap()
    }

    #[test]
    fn ssh_is_the_default_and_nothing_outlives_the_run() {
        let remote = remote(&[]);
        assert_eq!(remote.shell, None);
        assert_eq!(remote.agent_path, None);
        assert!(!remote.sudo);
        assert_eq!(remote.persist, None);
        assert!(remote.ssh_args.is_empty());
        assert_eq!(remote.connect_timeout, Duration::from_secs(30));
        assert!(remote.agent_binary.is_absolute());
    }

    #[test]
    fn every_flag_reaches_the_transport() {
        let far = remote(&[
            "--agent-path=/opt/cutover",
            "--sudo",
            "--persist=10m",
            "--ssh-option",
            "-p2222",
            "--ssh-option=-oPort=2222",
            "--connect-timeout=5s",
        ]);
        assert_eq!(far.agent_path, Some(b"/opt/cutover".to_vec()));
        assert!(far.sudo);
        assert_eq!(far.persist, Some(Duration::from_secs(600)));
        assert_eq!(far.ssh_args, ["-p2222", "-oPort=2222"]);
        assert_eq!(far.connect_timeout, Duration::from_secs(5));
        let shell = remote(&["-e", "docker exec -i"]).shell;
        assert_eq!(shell.as_deref(), Some("docker exec -i"));
    }

    #[test]
    fn ssh_options_need_ssh() {
        let both = ["-e", "docker exec -i", "--ssh-option=-v"];
        assert!(parse::<RemoteFlags>(&both).is_err());
    }
}
