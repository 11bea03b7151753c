//! Starting an agent on a far host: where ssh, its stand-ins and the agent's first words come
//! together.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use openssh::Session;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::agent::{Answer, QUIET_LIMIT, Step, hash_executable, read_answer, start_words, upload};
use super::explain::{cannot_connect, is_ssh_complaint, sudo_refused};
use super::far::{Exit, FarStreams, Place, Streams};
use super::location::RemotePath;
use super::master::Master;
use super::patience::{Patience, login_limit};
use super::remote::RemoteOptions;
use super::shell::{command_line, join_for_login_shell};
use super::stderr::{Echo, Said};
use crate::error::{Error, Result};
use crate::events::{Event, Observer};
use crate::path::escape;

/// How much of what a login shell printed is shown.
const SHOWN_NOISE_BYTES: usize = 200;

/// How long a command whose stream has ended may take to exit.
const EXIT_LIMIT: Duration = Duration::from_secs(5);

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
pub(super) struct Opening<'a> {
    pub(super) remote: &'a RemotePath,
    pub(super) options: &'a RemoteOptions,
    pub(super) observer: &'a dyn Observer,
    pub(super) patience: Patience<'a>,
    /// What messages call the far side.
    pub(super) name: String,
}

impl Opening<'_> {
    /// Connects and starts an agent, whose streams then hold nothing but the protocol.
    pub(super) async fn run(&self) -> Result<(Streams, Place)> {
        let binary = self.options.agent_binary.clone();
        // Beside the connecting, which takes longer.
        let hash = tokio::task::spawn_blocking(move || hash_executable(&binary));
        let master = match self.options.shell {
            None => Some(self.connect().await?),
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
                let master = self.connect().await?;
                Ok(self.start_shared(master, &words).await?)
            }
            result => Ok(result?),
        }
    }

    async fn connect(&self) -> Result<Master> {
        Master::open(self.remote, self.options, self.patience).await
    }

    /// Starts the agent over the shared connection.
    async fn start_shared(
        &self,
        master: Master,
        words: &[Vec<u8>],
    ) -> Result<(Streams, Place), Failure> {
        let (streams, far) = Streams::open(Echo::Never)?;
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
        let (streams, far) = Streams::open(Echo::to_person())?;
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
        let limit = self.options.connect_timeout + login_limit();
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
        mut limit: Duration,
    ) -> Result<(), Failure> {
        let mut input = register(&streams.input)?;
        let mut output = register(&streams.output)?;
        let mut noise = Vec::new();
        loop {
            let reading = read_answer(&mut output, &mut noise);
            let answer = match self.patience.wait(limit, reading).await? {
                None => return Err(self.no_answer(limit, &noise)),
                // A stream that breaks has ended as well.
                Some(answer) => answer.unwrap_or(Answer::Ended),
            };
            match answer {
                Answer::Started { version } => {
                    self.note(format!("cutover {version} runs on {}", self.name));
                    return Ok(());
                }
                Answer::Missing { system, machine } => {
                    self.check_same_system(&system, &machine)?;
                    self.send_binary(&mut input).await?;
                    // Whoever had to log in has.
                    limit = self.options.start_timeout;
                }
                Answer::Ended => {
                    let exit = timeout(EXIT_LIMIT, place.wait()).await;
                    let exit = exit.unwrap_or(Exit::Lost);
                    return Err(self.ended(exit, &streams.stderr.tail(), &noise));
                }
                Answer::Quiet => return Err(self.no_answer(QUIET_LIMIT, &noise)),
                Answer::Failed(step) => {
                    let text = self.unusable(step, &streams.stderr.tail());
                    return Err(Failure::Final(Error::Connection(text)));
                }
                Answer::Incompatible { .. } | Answer::Terminal | Answer::Noise => {
                    let text = self.misunderstood(&answer, &noise);
                    return Err(Failure::Final(Error::Connection(text)));
                }
            }
        }
    }

    /// What to say of something that is no agent of ours.
    fn misunderstood(&self, answer: &Answer, noise: &[u8]) -> String {
        let name = &self.name;
        match answer {
            Answer::Incompatible { version } => format!(
                "the agent on {name} is cutover {version}, which speaks another protocol; \
                 install the same version on both sides"
            ),
            Answer::Terminal => format!(
                "the agent on {name} is behind a terminal, which changes bytes; leave out \
                 the option that allocates one, such as -t"
            ),
            _ => format!(
                "what answers on {name} is no agent, nor a shell that starts one; it printed {}",
                shown(noise)
            ),
        }
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
        let sending = upload(input, &mut binary, self.options.start_timeout);
        match self.patience.wait_on(sending).await? {
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
        if !noise.is_empty() {
            return Failure::Final(Error::Connection(format!(
                "no agent started on {name}: the remote shell printed {} and then nothing for \
                 {seconds} seconds",
                shown(noise)
            )));
        }
        let advice = match self.options.shell {
            Some(_) => "; check the command given with -e, or allow more time to connect",
            None => "",
        };
        Failure::Silent(Error::Connection(format!(
            "no agent started on {name} within {seconds} seconds{advice}"
        )))
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
            _ => format!("no agent started on {name}: the remote shell ended {how}{lines}"),
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
    let noise = noise.trim_ascii_end();
    let first = &noise[..noise.len().min(SHOWN_NOISE_BYTES)];
    let more = if first.len() < noise.len() { "..." } else { "" };
    format!("\"{}{more}\"", escape(first))
}

fn with_causes(err: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(err.source(), |cause| cause.source());
    causes.fold(err.to_string(), |text, cause| format!("{text}: {cause}"))
}
