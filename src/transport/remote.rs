//! Reaching a far host and starting an agent there: where ssh, its stand-ins and the agent's
//! first words come together.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use openssh::Session;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Link;
use super::agent::{Answer, Step, hash_executable, read_answer, start_words, upload};
use super::explain::{cannot_connect, is_ssh_complaint, sudo_refused};
use super::far::{Exit, FarStreams, Place, Streams};
use super::location::RemotePath;
use super::master::{LOGIN_LIMIT, Master};
use super::shell::{command_line, join_for_login_shell, split_words};
use super::stderr::{Echo, Said};
use crate::error::{Error, Result};
use crate::events::{Event, Observer, Phase};
use crate::path::escape;

/// How much of what a login shell printed is shown.
const SHOWN_NOISE_BYTES: usize = 200;

/// How long a command whose stream has ended may take to exit.
const EXIT_LIMIT: Duration = Duration::from_secs(5);

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
    /// What is uploaded where there is no agent: an executable that knows `agent`.
    pub agent_binary: PathBuf,
    /// How long connecting may take, prompts apart, unless ssh's configuration says otherwise.
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
/// or a command that could not be one.
pub fn open_agent(
    remote: &RemotePath,
    options: &RemoteOptions,
    observer: &dyn Observer,
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
        name: name_of(remote, options)?,
    };
    let (streams, place) = runtime.block_on(opening.run())?;
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

/// Why an agent did not start.
enum Failure {
    /// There was no sign of the far side; a connection that was there before may have died.
    Silent(Error),
    /// There was, and trying again would be no use.
    Final(Error),
}

impl From<Error> for Failure {
    fn from(err: Error) -> Failure {
        Failure::Final(err)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::Silent(err) | Failure::Final(err) => err,
        }
    }
}

/// One attempt to get an agent.
struct Opening<'a> {
    remote: &'a RemotePath,
    options: &'a RemoteOptions,
    observer: &'a dyn Observer,
    name: String,
}

impl Opening<'_> {
    async fn run(&self) -> Result<(Streams, Place)> {
        let binary = self.options.agent_binary.clone();
        // Beside the connecting, which takes longer.
        let hash = tokio::task::spawn_blocking(move || hash_executable(&binary));
        let master = match self.options.shell {
            None => Some(Master::open(self.remote, self.options).await?),
            Some(_) => None,
        };
        let hash = hash
            .await
            .map_err(io::Error::other)
            .and_then(|hash| hash)
            .map_err(|err| self.cannot_read_binary(err))?;
        let words = start_words(hash, self.options.agent_path.as_deref(), self.options.sudo);
        let Some(master) = master else {
            return Ok(self.start_local(&words).await?);
        };
        let (reused, last) = (master.reused, master.clone());
        match self.start_shared(master, &words).await {
            Err(Failure::Silent(_)) if reused => {
                self.note("the connection that was kept does not answer: opening another");
                last.close().await;
                let master = Master::open(self.remote, self.options).await?;
                Ok(self.start_shared(master, &words).await?)
            }
            result => Ok(result?),
        }
    }

    /// Starts the agent over the shared connection.
    async fn start_shared(
        &self,
        master: Master,
        words: &[Vec<u8>],
    ) -> Result<(Streams, Place), Failure> {
        let (streams, far) = Streams::open(Echo::Off)?;
        let line = OsString::from_vec(join_for_login_shell(words));
        let spawned = timeout(
            self.options.start_timeout,
            spawn_shared(master.session(), &line, far),
        );
        let child = match spawned.await {
            Ok(Ok(child)) => child,
            failed => {
                master.release().await;
                let why = match failed {
                    Ok(Err(err)) => with_causes(&err),
                    _ => "there is no answer".into(),
                };
                return Err(Failure::Silent(Error::Connection(format!(
                    "cannot start a command on {}: {why}",
                    self.name
                ))));
            }
        };
        let child = Some(child);
        let place = Place::Shared { child, master };
        self.shake_hands(streams, place, self.options.start_timeout)
            .await
    }

    /// Starts the agent by way of a command.
    async fn start_local(&self, words: &[Vec<u8>]) -> Result<(Streams, Place), Failure> {
        let shell = self.options.shell.as_deref().unwrap_or_default();
        let line = command_line(shell, self.remote, words)?;
        let (streams, far) = Streams::open(Echo::On)?;
        let child = tokio::process::Command::new(&line[0])
            .args(&line[1..])
            .stdin(Stdio::from(far.stdin))
            .stdout(Stdio::from(far.stdout))
            .stderr(Stdio::from(far.stderr))
            .spawn()
            .map_err(|err| {
                let program = escape(line[0].as_bytes()).into_owned();
                Error::Connection(format!("cannot run {program}, given with -e: {err}"))
            })?;
        // It may ask for a password first.
        let limit = LOGIN_LIMIT + self.options.start_timeout;
        self.shake_hands(streams, Place::Local(child), limit).await
    }

    /// Waits for the agent's first words, and makes an end of everything when they are others.
    async fn shake_hands(
        &self,
        mut streams: Streams,
        mut place: Place,
        limit: Duration,
    ) -> Result<(Streams, Place), Failure> {
        match self.await_agent(&mut streams, &mut place, limit).await {
            Ok(()) => {
                streams.stderr.mute();
                Ok((streams, place))
            }
            Err(failure) => {
                place.stop().await;
                place.release().await;
                Err(failure)
            }
        }
    }

    async fn await_agent(
        &self,
        streams: &mut Streams,
        place: &mut Place,
        limit: Duration,
    ) -> Result<(), Failure> {
        let mut input = register(&streams.input)?;
        let mut output = register(&streams.output)?;
        let mut noise = Vec::new();
        loop {
            let answer = timeout(limit, read_answer(&mut output, &mut noise)).await;
            let name = &self.name;
            let problem = match answer {
                Err(_) => return Err(self.no_answer(limit, &noise)),
                Ok(Ok(Answer::Started { version })) => {
                    self.note(format!("cutover {version} runs on {name}"));
                    break;
                }
                Ok(Ok(Answer::Missing { system, machine })) => {
                    self.check_same_system(&system, &machine)?;
                    self.send_binary(&mut input).await?;
                    continue;
                }
                Ok(Ok(Answer::Ended) | Err(_)) => {
                    let exit = timeout(EXIT_LIMIT, place.wait()).await;
                    let exit = exit.unwrap_or(Exit::Lost);
                    return Err(self.ended(exit, &streams.stderr.tail(), &noise));
                }
                Ok(Ok(Answer::Incompatible { version })) => format!(
                    "the agent on {name} is cutover {version}, which speaks another protocol; \
                     install the same version on both sides"
                ),
                Ok(Ok(Answer::Terminal)) => format!(
                    "the agent on {name} is behind a terminal, which changes bytes; leave out \
                     the option that allocates one, such as -t"
                ),
                Ok(Ok(Answer::Noise)) => format!(
                    "the remote shell on {name} prints without end before the agent \
                     starts; it printed {}",
                    shown(&noise)
                ),
                Ok(Ok(Answer::Failed(step))) => self.unusable(step, &streams.stderr.tail()),
            };
            return Err(Failure::Final(Error::Connection(problem)));
        }
        Ok(())
    }

    fn check_same_system(&self, system: &str, machine: &str) -> Result<()> {
        let ours = rustix::system::uname();
        let (our_system, our_machine) = (
            ours.sysname().to_string_lossy(),
            ours.machine().to_string_lossy(),
        );
        if our_system == system && our_machine == machine {
            return Ok(());
        }
        let name = &self.name;
        Err(Error::Connection(format!(
            "there is no cutover on {name}, and ours, for {our_system} {our_machine}, does not \
             run on {} {}: install one there, or say where it is with --agent-path",
            escape(system.as_bytes()),
            escape(machine.as_bytes()),
        )))
    }

    async fn send_binary(&self, input: &mut UnixStream) -> Result<()> {
        let path = &self.options.agent_binary;
        let mut binary = File::open(path).map_err(|err| self.cannot_read_binary(err))?;
        self.note(format!(
            "there is no cutover on {}: installing one",
            self.name
        ));
        match upload(input, &mut binary, self.options.start_timeout).await {
            // The script gave up; its answer says why.
            Err(err) if has_hung_up(&err) => Ok(()),
            result => result.map_err(|err| {
                Error::Connection(format!("cannot send cutover to {}: {err}", self.name))
            }),
        }
    }

    /// What to say of a copy that cannot be used.
    fn unusable(&self, step: Step, stderr: &Said) -> String {
        let (what, advice) = match step {
            Step::Store => (
                "cannot be stored",
                "make room in the home of the user there",
            ),
            Step::Run => ("does not run", "install one that was built for it"),
            Step::Hash => ("arrived damaged", "try again"),
        };
        format!(
            "our copy of cutover {what} on {}: {advice}, or say where one is with \
             --agent-path{}",
            self.name,
            stderr.last_lines()
        )
    }

    fn no_answer(&self, limit: Duration, noise: &[u8]) -> Failure {
        let (name, seconds) = (&self.name, limit.as_secs());
        let mut text = format!("no agent started on {name} within {seconds} seconds");
        if noise.is_empty() {
            return Failure::Silent(Error::Connection(text));
        }
        text += &format!("; the remote shell printed {}", shown(noise));
        Failure::Final(Error::Connection(text))
    }

    /// Why the stream ended where an agent should have started.
    fn ended(&self, exit: Exit, stderr: &Said, noise: &[u8]) -> Failure {
        let name = &self.name;
        if let Some(err) = sudo_refused(name, stderr).filter(|_| self.options.sudo) {
            return Failure::Final(err);
        }
        if self.options.shell.is_some() && is_ssh_complaint(stderr) {
            return Failure::Final(cannot_connect(name, stderr));
        }
        let (how, lines) = (exit.shown(), stderr.last_lines());
        let text = match (&self.options.agent_path, exit) {
            (Some(path), Exit::Code(126 | 127)) => format!(
                "there is no agent on {name} at {}, or it does not run: check --agent-path{lines}",
                escape(path)
            ),
            _ if !noise.is_empty() => format!(
                "the remote shell on {name} printed {} before the agent started, and ended \
                 {how}{lines}",
                shown(noise)
            ),
            _ => format!("the agent on {name} ended before it started {how}{lines}"),
        };
        if exit == Exit::Lost && noise.is_empty() {
            return Failure::Silent(Error::Connection(text));
        }
        Failure::Final(Error::Connection(text))
    }

    fn cannot_read_binary(&self, err: io::Error) -> Error {
        Error::io(
            "read",
            self.options.agent_binary.as_os_str().as_bytes(),
            err,
        )
    }

    fn note(&self, text: impl Into<String>) {
        self.observer.observe(Event::Note(text.into()));
    }
}

async fn spawn_shared(
    session: Session,
    line: &OsStr,
    far: FarStreams,
) -> Result<openssh::Child<Arc<Session>>, openssh::Error> {
    // The command closes our copies of the far ends when it goes out of scope.
    Session::to_raw_command(Arc::new(session), line)
        .stdin(far.stdin)
        .stdout(far.stdout)
        .stderr(far.stderr)
        .spawn()
        .await
}

/// Whether an error only says that nobody reads any more.
fn has_hung_up(err: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(err.kind(), BrokenPipe | ConnectionReset)
}

/// A second handle on a stream, for the asynchronous part at its start.
fn register(stream: &std::os::unix::net::UnixStream) -> Result<UnixStream> {
    let register = || {
        let stream = stream.try_clone()?;
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream)
    };
    register().map_err(|err| Error::io("watch", "a socket", err))
}

fn shown(noise: &[u8]) -> String {
    let first = &noise[..noise.len().min(SHOWN_NOISE_BYTES)];
    let more = if first.len() < noise.len() { "..." } else { "" };
    format!("\"{}{more}\"", escape(first))
}

fn with_causes(err: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(err.source(), |cause| cause.source());
    causes.fold(err.to_string(), |text, cause| format!("{text}: {cause}"))
}
