//! What a mirror told last, in a file: so that one that died is missed, and not merely absent.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::board::Board;
use super::status::{State, Status, moment};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::fs::{Places, is_private_dir, make_private_dir};

/// The least time between two writes: who died is known well enough by the minute.
const PACE: Duration = Duration::from_secs(60);

/// How long a dead mirror is told of.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Far more than a status takes, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// What a file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Last {
    /// When it was so, in seconds since 1970.
    seen_s: u64,
    status: Status,
}

/// Writes down what a board shows, now and then and at the end.
#[derive(Debug)]
pub(super) struct Keeper {
    path: PathBuf,
    board: Board,
    /// Ends the thread by being dropped.
    running: Sender<()>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Begins to; `None` where the user has no directory for it.
    pub(super) fn start(places: &Places, board: Board) -> Result<Option<Keeper>> {
        let dir = dir(places).filter(|dir| make_private_dir(dir).unwrap_or(false));
        let Some(dir) = dir else {
            return Ok(None);
        };
        let path = dir.join(format!("{}.json", id(&board.snapshot())));
        let (running, ended) = mpsc::channel();
        let (kept, shown) = (path.clone(), board.clone());
        let thread = thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || {
                let mut written = None;
                while ended.recv_timeout(pause(written)) == Err(RecvTimeoutError::Timeout) {
                    let version = shown.version();
                    if written != Some(version) {
                        // The next one may be written again.
                        let _ = write(&kept, &shown);
                        written = Some(version);
                    }
                }
            })
            .map_err(|err| Error::io("write", path.as_os_str().as_bytes(), err))?;
        Ok(Some(Keeper {
            path,
            board,
            running,
            thread,
        }))
    }

    /// Writes down the end.
    pub(super) fn finish(self) -> Result<()> {
        drop(self.running);
        // It panics nowhere, and the last word is said here anyway.
        let _ = self.thread.join();
        write(&self.path, &self.board)
            .map_err(|err| Error::io("write", self.path.as_os_str().as_bytes(), err))
    }
}

/// The first is written at once.
fn pause(written: Option<u64>) -> Duration {
    match written {
        None => Duration::ZERO,
        Some(_) => PACE,
    }
}

fn write(path: &Path, board: &Board) -> io::Result<()> {
    let last = Last {
        seen_s: seconds(SystemTime::now()),
        status: board.snapshot(),
    };
    let temp = path.with_extension(format!("{}.new", std::process::id()));
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temp)?;
    let written = file
        .write_all(&serde_json::to_vec(&last)?)
        .and_then(|()| fs::rename(&temp, path));
    if written.is_err() {
        fs::remove_file(&temp)?;
    }
    written
}

/// What the mirrors that are not among `running` told last, as of ones that stopped. Files of
/// those that nobody has missed for a month are removed.
pub(super) fn of_stopped(places: &Places, running: &[Status]) -> Vec<Status> {
    let running: Vec<String> = running.iter().map(id).collect();
    let dir = dir(places).filter(|dir| is_private_dir(dir).unwrap_or(false));
    let names = dir.map(fs::read_dir).into_iter().flatten();
    let mut paths: Vec<PathBuf> = names.flatten().flatten().map(|name| name.path()).collect();
    paths.sort();
    let mut stopped = Vec::new();
    for path in paths {
        let stem = path.file_stem().unwrap_or_default();
        let is_running = running.iter().any(|id| stem == id.as_str());
        if is_running || path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        // What cannot be read tells of nobody; it goes with time.
        let last = read(&path).ok();
        let seen = last.as_ref().map(|last| last.seen_s);
        match last {
            _ if is_old(&path, seen) => {
                let _ = fs::remove_file(&path);
            }
            Some(last) => stopped.push(last.into_stopped()),
            None => {}
        }
    }
    stopped
}

fn is_old(path: &Path, seen_s: Option<u64>) -> bool {
    let seen = seen_s.map(|seen| UNIX_EPOCH.checked_add(Duration::from_secs(seen)));
    let seen = match seen {
        Some(seen) => seen,
        None => path.metadata().and_then(|meta| meta.modified()).ok(),
    };
    let age = seen.and_then(|seen| SystemTime::now().duration_since(seen).ok());
    age.is_some_and(|age| age > KEPT)
}

fn read(path: &Path) -> io::Result<Last> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(|err| io::Error::new(ErrorKind::InvalidData, err))
}

impl Last {
    fn into_stopped(self) -> Status {
        let mut status = self.status;
        for root in &mut status.roots {
            if root.state != State::Stopped {
                root.state = State::Stopped;
                root.since_s = self.seen_s;
                root.reason = Some(format!(
                    "it ended without a word, or does not answer; last seen {}",
                    moment(self.seen_s)
                ));
            }
        }
        status
    }
}

/// Names a mirror: the same one when it is started again.
fn id(status: &Status) -> String {
    let mut name = status.plan.clone().unwrap_or_default();
    if name.is_empty() {
        for root in &status.roots {
            // No path has a NUL.
            name += &format!("{}\0{}\0", root.source, root.destination);
        }
    }
    let mut digits = Digest::of(name.as_bytes()).to_string();
    digits.truncate(16);
    digits
}

fn dir(places: &Places) -> Option<PathBuf> {
    Some(places.state.as_ref()?.join("cutover/mirror"))
}

fn seconds(time: SystemTime) -> u64 {
    // A clock before 1970 is no reason to stop.
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
