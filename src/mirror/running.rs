//! Looks for the running mirrors of this user and asks them: what a terminal and a switch do.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::control::{Answer, Ask, LINE_TIMEOUT, sockets};
use super::last;
use super::status::Status;
use crate::error::{Error, Result};
use crate::fs::Places;

/// Far more than a status takes, in bytes.
const ANSWER_MAX_BYTES: u64 = 64 << 20;

/// A mirror that runs, as it was found.
#[derive(Clone, Debug)]
pub struct Running {
    socket: PathBuf,
    found: Status,
}

/// All mirrors of this user that answer, by the order of their beginning. What dead ones left of
/// their doors is removed.
pub fn find_all(places: &Places) -> Vec<Running> {
    let mut running: Vec<Running> = sockets(places)
        .into_iter()
        .filter_map(|socket| {
            let found = ask_status(&socket).ok()?;
            Some(Running { socket, found })
        })
        .collect();
    running.sort_by_key(|one| (one.found.started_s, one.found.pid));
    running
}

/// Whether a mirror is of the plan in this file.
pub fn is_of_plan(status: &Status, plan: &Path) -> bool {
    let full = |path: &Path| fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    let Some(of) = &status.plan else { return false };
    matches!((full(Path::new(of)), full(plan)), (Ok(of), Ok(plan)) if of == plan)
}

/// How all mirrors of this user are: first those that run, then those that stopped within the last
/// month and were not started again.
pub fn statuses(places: &Places) -> Vec<Status> {
    let mut all: Vec<Status> = find_all(places)
        .into_iter()
        .map(|running| running.found)
        .collect();
    let stopped = last::of_stopped(places, &all);
    all.extend(stopped);
    all
}

impl Running {
    /// How it was when it was found.
    pub fn found(&self) -> &Status {
        &self.found
    }

    /// How it is.
    pub fn status(&self) -> Result<Status> {
        ask_status(&self.socket).map_err(|err| self.lost(err))
    }

    /// Has it bring over what there is, leave the standby as it is then, and end.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] where it could not within `limit`: then it goes on. [`Error::Connection`]
    /// where it went away meanwhile.
    pub fn drain(&self, limit: Duration) -> Result<()> {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let ask = Ask::Drain { limit_ms };
        self.tell(ask, limit.saturating_add(LINE_TIMEOUT))
    }

    /// Asks it to end, without waiting for that.
    pub fn stop(&self) -> Result<()> {
        self.tell(Ask::Stop, LINE_TIMEOUT)
    }

    /// Asks it to read its plan again, without waiting for that.
    pub fn reload(&self) -> Result<()> {
        self.tell(Ask::Reload, LINE_TIMEOUT)
    }

    /// Whether it is still there.
    pub fn answers(&self) -> bool {
        self.tell(Ask::Ping, LINE_TIMEOUT).is_ok()
    }

    fn tell(&self, ask: Ask, timeout: Duration) -> Result<()> {
        match converse(&self.socket, ask, timeout).map_err(|err| self.lost(err))? {
            Answer::Done => Ok(()),
            Answer::Failed { why } => Err(Error::Failed(format!(
                "the mirror of {} (process {}) says: {why}",
                self.found.name, self.found.pid
            ))),
            Answer::Status { .. } => Err(self.lost(misfit())),
        }
    }

    fn lost(&self, err: io::Error) -> Error {
        Error::Connection(format!(
            "the mirror of {} (process {}) does not answer: {err}",
            self.found.name, self.found.pid
        ))
    }
}

fn ask_status(socket: &Path) -> io::Result<Status> {
    match converse(socket, Ask::Status, LINE_TIMEOUT)? {
        Answer::Status { status } => Ok(*status),
        _ => Err(misfit()),
    }
}

fn misfit() -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        "its answer does not fit the question",
    )
}

/// One question and its answer.
fn converse(socket: &Path, ask: Ask, timeout: Duration) -> io::Result<Answer> {
    let mut stream = match UnixStream::connect(socket) {
        Err(err) if err.kind() == ErrorKind::ConnectionRefused => {
            // Nobody listens, and nobody will: a living mirror has listened before it had the name.
            fs::remove_file(socket)?;
            return Err(err);
        }
        connected => connected?,
    };
    stream.set_write_timeout(Some(LINE_TIMEOUT))?;
    stream.set_read_timeout(Some(timeout))?;
    let mut line = serde_json::to_vec(&ask)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut line = Vec::new();
    BufReader::new(stream.take(ANSWER_MAX_BYTES)).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&line).map_err(|err| {
        let name = socket.file_name().unwrap_or_default().as_bytes();
        let name = crate::path::escape(name);
        io::Error::new(ErrorKind::InvalidData, format!("{name}: {err}"))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::mirror::board::{Board, Ends};
    use crate::mirror::control::Control;
    use crate::mirror::requests::{Asked, Requests};
    use crate::mirror::status::State;

    const LONG: Duration = Duration::from_secs(60);

    fn places(temp: &tempfile::TempDir) -> Places {
        Places {
            runtime: Some(temp.path().join("run")),
            state: Some(temp.path().join("state")),
        }
    }

    fn board(plan: Option<String>) -> Board {
        let ends = Ends {
            name: "data".into(),
            source: "/srv/a".into(),
            destination: "new:/srv/a".into(),
        };
        Board::create("app".into(), plan, vec![ends])
    }

    /// The file with a mirror's last word.
    fn word(temp: &tempfile::TempDir) -> Option<PathBuf> {
        let names = fs::read_dir(temp.path().join("state/cutover/mirror")).ok()?;
        let mut paths = names.map(|name| name.unwrap().path());
        paths.find(|path| path.extension().is_some_and(|end| end == "json"))
    }

    #[test]
    fn a_running_mirror_is_found_and_one_that_ended_is_remembered() {
        let temp = tempfile::tempdir().unwrap();
        let places = places(&temp);
        assert!(statuses(&places).is_empty());
        let plan = temp.path().join("app.toml");
        fs::write(&plan, "").unwrap();
        let board = board(Some(plan.display().to_string()));
        let control = Control::open(&places, &board, &Requests::default()).unwrap();
        let mode = control.socket().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let found = find_all(&places).remove(0);
        assert!(is_of_plan(found.found(), &plan));
        assert!(!is_of_plan(found.found(), temp.path()));
        assert_eq!(found.status().unwrap().name, "app");
        assert!(found.answers());

        let bye = Some("asked to".to_owned());
        board.root(0).state(State::Stopped, bye.clone());
        control.finish().unwrap();
        assert!(find_all(&places).is_empty());
        assert!(!found.answers());
        let told = statuses(&places);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].roots[0].reason, bye);
    }

    #[test]
    fn two_mirrors_of_one_process_have_a_door_each() {
        let temp = tempfile::tempdir().unwrap();
        let places = places(&temp);
        let open = |plan: &str| {
            let board = board(Some(plan.to_owned()));
            Control::open(&places, &board, &Requests::default()).unwrap()
        };
        let both = [open("/a"), open("/b")];
        assert_eq!(find_all(&places).len(), 2);
        for control in both {
            control.finish().unwrap();
        }
    }

    #[test]
    fn a_door_without_a_mirror_is_removed_and_the_mirror_missed() {
        let temp = tempfile::tempdir().unwrap();
        let places = places(&temp);
        let control = Control::open(&places, &board(None), &Requests::default()).unwrap();
        // It dies: its socket and its last word stay as they are.
        let socket = control.socket().to_path_buf();
        let word = loop {
            // Written soon after the door is open.
            if let Some(path) = word(&temp) {
                break path;
            }
            thread::yield_now();
        };
        let kept = fs::read(&word).unwrap();
        control.finish().unwrap();
        fs::write(&word, kept).unwrap();
        drop(UnixListener::bind(&socket).unwrap());

        assert!(find_all(&places).is_empty());
        assert!(!socket.exists());
        let told = statuses(&places);
        assert_eq!(told[0].roots[0].state, State::Stopped);
        let reason = told[0].roots[0].reason.clone().unwrap();
        assert!(reason.contains("last seen 20"), "{reason}");
    }

    #[test]
    fn a_drain_ends_when_the_engine_says_so() {
        let temp = tempfile::tempdir().unwrap();
        let places = places(&temp);
        let requests = Requests::default();
        let control = Control::open(&places, &board(None), &requests).unwrap();
        let mirror = find_all(&places).remove(0);

        let late = mirror.drain(Duration::from_millis(30)).unwrap_err();
        assert!(late.to_string().contains("goes on"), "{late}");
        assert_eq!(requests.asked(), Asked::default());

        let engine = requests.clone();
        let engine = thread::spawn(move || {
            assert!(engine.wait(Asked::default(), LONG).drain);
            engine.drained(Ok(()))
        });
        mirror.drain(LONG).unwrap();
        assert!(engine.join().unwrap());
        mirror.stop().unwrap();
        mirror.reload().unwrap();
        assert_eq!((requests.asked().stop, requests.asked().reloads), (true, 1));
        control.finish().unwrap();
    }

    #[test]
    fn a_drain_whose_asker_left_is_taken_back() {
        let temp = tempfile::tempdir().unwrap();
        let places = places(&temp);
        let requests = Requests::default();
        let control = Control::open(&places, &board(None), &requests).unwrap();
        let mut stream = UnixStream::connect(control.socket()).unwrap();
        stream
            .write_all(b"{\"ask\":\"drain\",\"limit_ms\":60000}\n")
            .unwrap();
        let asked = requests.wait(Asked::default(), LONG);
        assert!(asked.drain);
        drop(stream);
        assert!(!requests.wait(asked, LONG).drain);
        control.finish().unwrap();
    }

    #[test]
    fn what_is_no_request_is_said_to_be_none() {
        let temp = tempfile::tempdir().unwrap();
        let places = places(&temp);
        let control = Control::open(&places, &board(None), &Requests::default()).unwrap();
        for line in ["{}\n".to_owned(), "x".repeat(10_000)] {
            let mut stream = UnixStream::connect(control.socket()).unwrap();
            stream.write_all(line.as_bytes()).unwrap();
            let mut answer = String::new();
            // It leaves with what it did not read, which resets the connection.
            let _ = BufReader::new(&stream).read_line(&mut answer);
            assert!(answer.contains("failed"), "{answer}");
        }
        control.finish().unwrap();
    }

    #[test]
    fn word_of_a_mirror_nobody_missed_for_a_month_goes() {
        let temp = tempfile::tempdir().unwrap();
        let places = places(&temp);
        Control::open(&places, &board(None), &Requests::default())
            .unwrap()
            .finish()
            .unwrap();
        let path = word(&temp).unwrap();
        let mut word: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let seen_s = word["seen_s"].as_u64().unwrap();
        word["seen_s"] = (seen_s - 29 * 86_400).into();
        fs::write(&path, word.to_string()).unwrap();
        assert_eq!(statuses(&places).len(), 1);
        word["seen_s"] = (seen_s - 31 * 86_400).into();
        fs::write(&path, word.to_string()).unwrap();
        assert!(statuses(&places).is_empty());
        assert!(!path.exists());
    }
}
