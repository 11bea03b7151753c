//! The far command while it runs: over the shared ssh connection, or as a local child that
//! reaches the far side in its own way. As a link's guard it ends both.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use openssh::Session;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::master::Master;
use super::stderr::{Echo, Stderr};
use super::{Aborter, Link, LinkGuard, LinkReader, LinkWriter};
use crate::error::{Error, Result};

/// How long a far command may take to exit once its input has ended: it has nothing left to do.
const FINISH_LIMIT: Duration = Duration::from_secs(20);

/// How long a local command may take to end itself before it is killed: `sudo` passes SIGTERM
/// on and waits for its own child, but cannot pass on SIGKILL.
const TERM_LIMIT: Duration = Duration::from_secs(2);

/// Where the far command runs.
pub(super) enum Place {
    /// On the other end of a shared ssh connection. `child` is `None` once it is let go.
    Shared {
        child: Option<openssh::Child<Arc<Session>>>,
        master: Master,
    },
    /// Behind a local command.
    Local(tokio::process::Child),
}

/// How a far command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// A signal ended the local command.
    Signal(i32),
    /// Nobody knows: a signal ended it on the far host, or the connection broke.
    Lost,
}

impl Exit {
    fn from_status(status: ExitStatus) -> Exit {
        match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Lost,
        }
    }

    /// "(exit code 3)".
    pub(super) fn shown(self) -> String {
        match self {
            Exit::Code(code) => format!("(exit code {code})"),
            Exit::Signal(signal) => format!("(killed by signal {signal})"),
            Exit::Lost => "(killed, or the connection was lost)".into(),
        }
    }
}

impl Place {
    /// Waits for the command's end.
    pub(super) async fn wait(&mut self) -> Exit {
        match self {
            Place::Shared { child, .. } => match child.take() {
                Some(child) => match child.wait().await {
                    Ok(status) => Exit::from_status(status),
                    // How the crate tells of the code that shells use for it.
                    Err(openssh::Error::Remote(_)) => Exit::Code(127),
                    Err(_) => Exit::Lost,
                },
                None => Exit::Lost,
            },
            Place::Local(child) => child.wait().await.map_or(Exit::Lost, Exit::from_status),
        }
    }

    /// Makes an end of the command, in order if a local one can.
    pub(super) async fn stop(&mut self) {
        match self {
            // The ssh process closes the session of a client that goes away; the far command
            // sees its input end and its output fail.
            Place::Shared { child, .. } => drop(child.take()),
            Place::Local(child) => {
                let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
                if let Some(pid) = pid {
                    // It fails when the child has just ended, which the wait will tell.
                    let _ = kill_process(pid, Signal::TERM);
                }
                if timeout(TERM_LIMIT, child.wait()).await.is_err() {
                    // As above.
                    let _ = child.kill().await;
                }
            }
        }
    }

    /// Lets go of the shared connection, if there is one.
    pub(super) async fn release(&self) {
        if let Place::Shared { master, .. } = self {
            master.release().await;
        }
    }
}

/// The near ends of a far command's streams, and their far ends to start it with.
pub(super) struct Streams {
    /// Where the command's input is written.
    pub(super) input: UnixStream,
    /// Where its output is read.
    pub(super) output: UnixStream,
    /// Its stderr.
    pub(super) stderr: Stderr,
}

/// What a command is started with.
pub(super) struct FarStreams {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

impl Streams {
    /// Makes the streams of one command.
    pub(super) fn open(echo: Echo) -> Result<(Streams, FarStreams)> {
        let open = || {
            let (input, stdin) = UnixStream::pair()?;
            let (output, stdout) = UnixStream::pair()?;
            let (reader, stderr) = io::pipe()?;
            let far = FarStreams {
                stdin: stdin.into(),
                stdout: stdout.into(),
                stderr: stderr.into(),
            };
            let stderr = Stderr::watch(reader, echo);
            Ok((
                Streams {
                    input,
                    output,
                    stderr,
                },
                far,
            ))
        };
        open().map_err(|err: io::Error| Error::io("make", "a socket", err))
    }

    /// Makes a link of the streams, which `place` stands behind. `name` is what messages call
    /// the far side.
    pub(super) fn into_link(self, runtime: Runtime, place: Place, name: String) -> Result<Link> {
        for end in [&self.input, &self.output] {
            end.set_nonblocking(false)
                .map_err(|err| Error::io("set up", "a socket", err))?;
        }
        let mut link = Link {
            reader: LinkReader(File::from(OwnedFd::from(self.output))),
            writer: LinkWriter(File::from(OwnedFd::from(self.input))),
            guard: Box::new(super::Unguarded),
        };
        let aborter = link
            .aborter()
            .map_err(|err| Error::io("copy", "a socket", err))?;
        link.guard = Box::new(FarGuard {
            place,
            aborter,
            stderr: self.stderr,
            name,
            runtime,
        });
        Ok(link)
    }
}

/// Guards a link to a far command.
struct FarGuard {
    place: Place,
    aborter: Aborter,
    stderr: Stderr,
    name: String,
    /// Last, so that what is registered with it is gone before it.
    runtime: Runtime,
}

impl LinkGuard for FarGuard {
    fn finish(mut self: Box<Self>) -> Result<()> {
        self.aborter.end_writing();
        let FarGuard { runtime, place, .. } = &mut *self;
        let exit = runtime.block_on(async {
            let exit = timeout(FINISH_LIMIT, place.wait()).await;
            if exit.is_err() {
                place.stop().await;
            }
            place.release().await;
            exit
        });
        let what = match exit {
            Ok(Exit::Code(0)) => return Ok(()),
            Ok(exit) => format!("failed {}", exit.shown()),
            Err(_) => "does not end".to_owned(),
        };
        let lines = self.stderr.tail().last_lines();
        let name = &self.name;
        Err(Error::Connection(format!(
            "the agent on {name} {what}{lines}"
        )))
    }

    fn abort(&mut self) {
        self.aborter.abort();
        let FarGuard { runtime, place, .. } = self;
        runtime.block_on(async {
            place.stop().await;
            place.release().await;
        });
    }
}
