//! The door of a running mirror: a Unix socket that its user alone can open, through which it is
//! asked how it is, to hand over or to end. `running` knocks at it.
//!
//! A line of JSON each way: an [`Ask`], then an [`Answer`].

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::board::Board;
use super::last::Keeper;
use super::requests::Requests;
use super::status::Status;
use crate::error::{Error, Result};
use crate::fs::{Places, is_private_dir, make_private_dir};

/// The longest path of a socket: `sun_path` has 108 bytes with its NUL.
const SOCKET_PATH_MAX_BYTES: usize = 107;

/// Bytes of a socket's longest name, with its slash: a process's number, one of several of it, and
/// the end that it is made under.
const NAME_MAX_BYTES: usize = "/4194304-15.sock.new".len();

/// Mirrors in one process that can be found.
const MOST_IN_PROCESS: u32 = 16;

/// Conversations at a time: a switch waits in one for minutes, anything else is over at once.
const MOST_CONVERSATIONS: usize = 16;

/// Far more than any request, in bytes.
const ASK_MAX_BYTES: u64 = 4 << 10;

/// How long the other side of a conversation may take for a line: it is on this host.
pub(super) const LINE_TIMEOUT: Duration = Duration::from_secs(5);

/// What can be asked of a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Ask {
    /// Whether it is there.
    Ping,
    /// How it is.
    Status,
    /// To hand over: [`Requests::drain`].
    Drain {
        /// How long that may take, in milliseconds.
        limit_ms: u64,
    },
    /// To end.
    Stop,
    /// To read its plan again.
    Reload,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "lowercase")]
pub enum Answer {
    /// It is there; it was asked to; it has handed over.
    Done,
    /// How it is.
    Status {
        /// All of it.
        status: Box<Status>,
    },
    /// It could not, or knows no such request.
    Failed {
        /// Why, as a sentence.
        why: String,
    },
}

/// How long the end of a mirror waits for those who talk to it: for the switch that is to hear that it
/// has handed over.
const FAREWELL: Duration = Duration::from_secs(5);

/// The door of one mirror while it is open, and the keeper of what it told last.
#[derive(Debug)]
pub struct Control {
    socket: PathBuf,
    listener: Arc<UnixListener>,
    conversations: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
    keeper: Option<Keeper>,
}

impl Control {
    /// Opens the door of the mirror that `board` shows, in the first of the user's directories that
    /// can hold it.
    pub fn open(places: &Places, board: &Board, requests: &Requests) -> Result<Control> {
        let dir = private_dirs(places)
            .into_iter()
            .find(|dir| make_private_dir(dir).unwrap_or(false))
            .ok_or_else(|| {
                Error::Failed(
                    "there is no directory for the mirror's socket that only you can enter: set \
                     XDG_RUNTIME_DIR to one"
                        .into(),
                )
            })?;
        let failed = |err| Error::io("open a socket in", dir.as_os_str().as_bytes(), err);
        let (socket, listener) = listen(&dir).map_err(failed)?;
        let listener = Arc::new(listener);
        let host = Host {
            board: board.clone(),
            requests: requests.clone(),
            conversations: Arc::default(),
        };
        let accepting = Arc::clone(&listener);
        let conversations = Arc::clone(&host.conversations);
        let thread = thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || host.receive(&accepting))
            .map_err(failed)?;
        Ok(Control {
            socket,
            listener,
            conversations,
            thread,
            keeper: Keeper::start(places, board.clone())?,
        })
    }

    /// Where the door is.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Shuts the door once everybody has been answered, and leaves word of how the mirror ended.
    pub fn finish(self) -> Result<()> {
        let until = Instant::now() + FAREWELL;
        while self.conversations.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        let removed = match fs::remove_file(&self.socket) {
            // Its directory goes with the user's last session.
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
        // Ends the accepting thread's wait.
        let shut = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
        if shut.is_ok() {
            // It panics nowhere, and nothing would follow from it.
            let _ = self.thread.join();
        }
        self.keeper.map_or(Ok(()), Keeper::finish)?;
        removed.map_err(|err| Error::io("remove", self.socket.as_os_str().as_bytes(), err))
    }
}

/// Where sockets may be, best first. Mirrors of services have no runtime directory, so that whoever
/// looks for them looks in both.
pub(super) fn private_dirs(places: &Places) -> Vec<PathBuf> {
    [&places.runtime, &places.state]
        .into_iter()
        .flatten()
        .map(|dir| dir.join("cutover/run"))
        .filter(|dir| dir.as_os_str().len() + NAME_MAX_BYTES <= SOCKET_PATH_MAX_BYTES)
        .collect()
}

/// Makes the socket under another name first: one that is there and does not listen yet would be
/// taken for that of a dead mirror.
fn listen(dir: &Path) -> io::Result<(PathBuf, UnixListener)> {
    let pid = std::process::id();
    for n in 0..MOST_IN_PROCESS {
        let name = match n {
            0 => format!("{pid}.sock"),
            n => format!("{pid}-{n}.sock"),
        };
        let new = dir.join(format!("{name}.new"));
        let listener = match UnixListener::bind(&new) {
            Err(err) if err.kind() == ErrorKind::AddrInUse => {
                // Left by one who died in the moment between: its number is ours now.
                fs::remove_file(&new)?;
                UnixListener::bind(&new)?
            }
            bound => bound?,
        };
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
        let path = dir.join(name);
        if UnixStream::connect(&path).is_err() {
            fs::rename(&new, &path)?;
            return Ok((path, listener));
        }
        fs::remove_file(&new)?;
    }
    Err(ErrorKind::AddrInUse.into())
}

/// Sockets that may be a mirror's, in directories that only this user can enter.
pub(super) fn sockets(places: &Places) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in private_dirs(places) {
        if !is_private_dir(&dir).unwrap_or(false) {
            continue;
        }
        let names = fs::read_dir(&dir).into_iter().flatten().flatten();
        let paths = names.map(|name| name.path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "sock")));
    }
    found.sort();
    found
}

/// Who answers at the door.
#[derive(Clone)]
struct Host {
    board: Board,
    requests: Requests,
    conversations: Arc<AtomicUsize>,
}

impl Host {
    /// Receives until the door is shut.
    fn receive(&self, listener: &UnixListener) {
        loop {
            match listener.accept() {
                Ok((stream, _)) => self.begin(stream),
                Err(err) if err.kind() == ErrorKind::InvalidInput => return,
                // Out of descriptors, most likely: others give theirs back in time.
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    fn begin(&self, stream: UnixStream) {
        let host = self.clone();
        if self.conversations.fetch_add(1, Ordering::Relaxed) >= MOST_CONVERSATIONS {
            self.conversations.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let begun = thread::Builder::new()
            .name("conversation".to_owned())
            .spawn(move || {
                // Who does not listen to the answer has no use for it.
                let _ = host.converse(stream);
                host.conversations.fetch_sub(1, Ordering::Relaxed);
            });
        if begun.is_err() {
            self.conversations.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn converse(&self, mut stream: UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(LINE_TIMEOUT))?;
        stream.set_write_timeout(Some(LINE_TIMEOUT))?;
        let mut line = String::new();
        BufReader::new((&stream).take(ASK_MAX_BYTES)).read_line(&mut line)?;
        let answer = match serde_json::from_str(&line) {
            Ok(ask) => self.answer(ask, &stream),
            Err(err) => Answer::Failed {
                why: format!("that is no request: {err}"),
            },
        };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        stream.shutdown(Shutdown::Both)
    }

    fn answer(&self, ask: Ask, stream: &UnixStream) -> Answer {
        match ask {
            Ask::Ping => {}
            Ask::Status => {
                let status = Box::new(self.board.snapshot());
                return Answer::Status { status };
            }
            Ask::Stop => self.requests.stop(),
            Ask::Reload => self.requests.reload(),
            Ask::Drain { limit_ms } => {
                let limit = Duration::from_millis(limit_ms);
                if let Err(why) = self.requests.drain(limit, || is_open(stream)) {
                    return Answer::Failed { why };
                }
            }
        }
        Answer::Done
    }
}

/// Whether the other side is still there.
fn is_open(stream: &UnixStream) -> bool {
    let mut ends = [PollFd::new(stream, PollFlags::RDHUP)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    match poll(&mut ends, Some(&at_once)) {
        Ok(_) => !ends[0].revents().intersects(gone),
        Err(_) => true,
    }
}
