//! How a far host is reached: the options, and the way from them to a link.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::Link;
use super::location::RemotePath;
use super::opening::Opening;
use super::patience::Patience;
use super::shell::split_words;
use crate::error::{Error, Result};
use crate::events::{Cancel, Event, Observer, Phase};

/// How a far host is reached and what runs there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteOptions {
    /// `-e`: a command that runs others on the far side, in place of ssh over a shared
    /// connection. It is split as rsync splits it, and gets the host and then the words to run;
    /// `{}` among its words stands for the host.
    pub shell: Option<String>,
    /// Further arguments for the user's ssh, one word each: `-F`, `file`. Not with `shell`.
    pub ssh_args: Vec<OsString>,
    /// The agent to run, a path on the far host or a name in its `PATH`; nothing else is tried.
    pub agent_path: Option<Vec<u8>>,
    /// Run the agent with `sudo -n`.
    pub sudo: bool,
    /// Keep the connection for later runs until it has been idle for so long, in whole seconds.
    pub persist: Option<Duration>,
    /// Where the connections' sockets are, a directory that only this user can enter; `None` finds
    /// one. Connections are shared by those who use the same.
    pub control_dir: Option<PathBuf>,
    /// What is uploaded where there is no agent: an executable that knows `agent`.
    pub agent_binary: PathBuf,
    /// How long connecting may take, prompts apart, unless ssh's configuration says otherwise.
    /// With `shell`, of which nothing is known until the agent speaks, how long that may take.
    pub connect_timeout: Duration,
    /// How long the agent may take to start once connected, and how long each piece of an upload.
    pub start_timeout: Duration,
}

impl Default for RemoteOptions {
    /// ssh as the user has set it up, and this executable as the agent.
    fn default() -> RemoteOptions {
        RemoteOptions {
            shell: None,
            ssh_args: Vec::new(),
            agent_path: None,
            sudo: false,
            persist: None,
            control_dir: None,
            // Still there when the file has been replaced or removed by an update.
            agent_binary: PathBuf::from("/proc/self/exe"),
            // TCP alone would try for two minutes.
            connect_timeout: Duration::from_secs(30),
            // A slow home on a network filesystem and a host that is swapping are no faults.
            start_timeout: Duration::from_secs(60),
        }
    }
}

impl RemoteOptions {
    /// Adds arguments for the user's ssh that stand in one string, as in `--ssh-option "-F file"`,
    /// split as [`shell`](RemoteOptions::shell) is.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a quote that is not closed, or no words at all.
    pub fn push_ssh_option(&mut self, words: &str) -> Result<()> {
        self.ssh_args
            .extend(split_words(words)?.into_iter().map(OsString::from));
        Ok(())
    }
}

/// Starts an agent on the far side and returns the link to it.
///
/// The path of `remote` takes no part: it travels in a message. ssh and commands given with `-e`
/// may prompt on the terminal and write to stderr until the agent runs.
///
/// # Errors
///
/// [`Error::Connection`] with what happened and what to do about it; [`Error::Usage`] for a host
/// or a command that could not be one; [`Error::Interrupted`] soon after `cancel` is.
pub fn open_agent(
    remote: &RemotePath,
    options: &RemoteOptions,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Link> {
    observer.observe(Event::Phase(Phase::Connecting));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|err| Error::io("start", "the connection's runtime", err))?;
    let opening = Opening {
        remote,
        options,
        observer,
        patience: Patience(cancel),
        name: name_of(remote, options)?,
    };
    let opened = runtime.block_on(opening.run());
    let (streams, place) = opened.map_err(|err| opening.patience.blame(err))?;
    streams.into_link(runtime, place, opening.name)
}

/// What messages call the far side.
fn name_of(remote: &RemotePath, options: &RemoteOptions) -> Result<String> {
    match (remote.destination(), &options.shell) {
        (empty, None) if empty.is_empty() => {
            Err(Error::Usage("there is no host before the colon".into()))
        }
        (empty, Some(shell)) if empty.is_empty() => Ok(shell.clone()),
        (destination, _) => Ok(destination),
    }
}
