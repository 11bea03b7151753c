//! Runs the command under test, to its end, to a signal or to its time limit, and keeps what it
//! said. Where it runs is the `lab`'s business.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::lab::Lab;
use super::prerequisites::need;

/// The command under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_cutover");

/// The longest that any run takes here: generous, because a machine that runs all tests at once
/// is slow, and a run that hangs must still fail.
pub const TIME_LIMIT: Duration = Duration::from_secs(120);

/// How often a wait looks again.
pub const POLL: Duration = Duration::from_millis(2);

/// A run that has not begun.
pub struct Invocation {
    command: Command,
    logs: PathBuf,
}

impl Invocation {
    /// One of `command`, whose output is kept in the directory `logs`.
    pub fn new(command: Command, logs: &Path) -> Invocation {
        Invocation {
            command,
            logs: logs.into(),
        }
    }

    /// Appends arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Invocation {
        self.command.args(args);
        self
    }

    /// Runs in another working directory.
    pub fn current_dir(mut self, dir: &Path) -> Invocation {
        self.command.current_dir(dir);
        self
    }

    /// Runs it by another program, which takes the command line as its last words.
    #[allow(dead_code, reason = "few test crates need one")]
    pub fn behind(mut self, lab: &Lab, wrapper: &[OsString]) -> Invocation {
        let Some((program, words)) = wrapper.split_first() else {
            return self;
        };
        let mut command = Command::new(program);
        command
            .args(words)
            .arg(BINARY)
            .args(self.command.get_args());
        lab.isolate(&mut command, "near");
        self.command = command;
        self
    }

    /// Runs as the user with this id, without any privilege; only root can.
    pub fn by_user(mut self, lab: &Lab, uid: u32) -> Invocation {
        need("setpriv");
        // The build directory may be in a place that only this user can enter.
        let binary = lab.path("cutover");
        if !binary.exists() {
            install(Path::new(BINARY), &binary);
        }
        let mut command = Command::new("setpriv");
        let id = uid.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
        command.arg(binary).args(self.command.get_args());
        let host = format!("user-{uid}");
        lab.isolate(&mut command, &host);
        for (_, dir) in lab.home(&host) {
            std::os::unix::fs::chown(dir, Some(uid), Some(uid)).expect("chown of a home");
        }
        self.command = command;
        self
    }

    /// Starts it in a process group of its own.
    pub fn spawn(mut self) -> Running {
        let log = || {
            tempfile::Builder::new()
                .prefix("log-")
                .tempfile_in(&self.logs)
        };
        // Files, not pipes: a shared ssh connection outlives the run and holds its streams.
        let (stdout, stdout_path) = log().expect("a log").keep().expect("keeping a log");
        let (stderr, stderr_path) = log().expect("a log").keep().expect("keeping a log");
        self.command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0);
        let child = self.command.spawn().expect("starting cutover");
        Running {
            child,
            shown: shown(&self.command),
            logs: [stdout_path, stderr_path],
            limit: TIME_LIMIT,
        }
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Outcome {
        self.spawn().wait()
    }

    /// Runs it and fails unless it exits with `code`.
    #[track_caller]
    pub fn code(self, code: i32) -> Outcome {
        let outcome = self.run();
        let exited = outcome.status.code();
        assert!(
            exited == Some(code),
            "expected exit code {code}, was {exited:?}:\n{outcome}"
        );
        outcome
    }

    /// Runs it and fails unless it succeeds.
    #[track_caller]
    pub fn ok(self) -> Outcome {
        self.code(0)
    }
}

/// A run that has begun; killed when dropped.
pub struct Running {
    child: Child,
    shown: String,
    logs: [PathBuf; 2],
    limit: Duration,
}

impl Running {
    /// Kills it the way a power cut would, with all that it started, and waits for that.
    pub fn kill(mut self) {
        self.kill_group();
    }

    /// Kills only the command itself; what it started must find out.
    pub fn kill_alone(mut self) {
        self.child.kill().expect("killing a run");
        self.child.wait().expect("waiting for a killed run");
    }

    fn kill_group(&mut self) {
        let group = Pid::from_child(&self.child);
        // It may have ended by itself.
        let _ = kill_process_group(group, Signal::KILL);
        self.child.wait().expect("waiting for a killed run");
    }

    /// Sends it a signal, to it alone, as a supervisor would.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the run is still there");
    }

    /// Shortens the time that it gets.
    pub fn limit(mut self, limit: Duration) -> Running {
        self.limit = limit;
        self
    }

    /// Whether it has ended.
    pub fn is_over(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("asking for a run's end")
            .is_some()
    }

    /// Waits until `condition` holds, and fails if the run ends before or takes too long.
    pub fn wait_until(&mut self, what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            let over = self.is_over();
            assert!(
                !over || condition(),
                "it ended before {what}: {}",
                self.output()
            );
            assert!(start.elapsed() < self.limit, "waited in vain until {what}");
            std::thread::sleep(POLL);
        }
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Outcome {
        let start = Instant::now();
        while !self.is_over() {
            if start.elapsed() > self.limit {
                self.kill_group();
                panic!("no end after {:?}: {}", self.limit, self.output());
            }
            std::thread::sleep(POLL);
        }
        let status = self.child.wait().expect("it is over");
        self.outcome(status)
    }

    /// What it has said so far; the status is none yet.
    #[allow(dead_code, reason = "only some runs never end by themselves")]
    pub fn so_far(&self) -> Outcome {
        self.outcome(ExitStatus::from_raw(0))
    }

    /// Its process id.
    #[allow(dead_code, reason = "as above")]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn output(&self) -> String {
        self.so_far().to_string()
    }

    fn outcome(&self, status: ExitStatus) -> Outcome {
        let [stdout, stderr] = self.logs.each_ref().map(|path| {
            let bytes = fs::read(path).expect("reading a log");
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Outcome {
            shown: self.shown.clone(),
            status,
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_over() {
            self.kill_group();
        }
    }
}

/// What a finished run left: its status and what it said.
#[derive(Clone, Debug)]
pub struct Outcome {
    shown: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Outcome {
            shown,
            status,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "{shown}: {status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}

impl Outcome {
    /// A number of the run's summary; the run must have been given `--json`.
    #[track_caller]
    pub fn count(&self, field: &str) -> u64 {
        let lines = self.json_lines();
        let summary = lines.iter().find(|line| line["event"] == "summary");
        let count = summary.and_then(|summary| summary[field].as_u64());
        count.unwrap_or_else(|| panic!("no {field} in the summary:\n{self}"))
    }

    /// The standard output of a run with `--json`, one value a line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let parse = |line| {
            serde_json::from_str(line).unwrap_or_else(|err| panic!("{err} in {line:?}:\n{self}"))
        };
        self.stdout.lines().map(parse).collect()
    }

    /// Fails unless the summary says that nothing was sent, made, changed or deleted.
    #[track_caller]
    pub fn assert_sent_nothing(&self) {
        for field in [
            "files_sent",
            "files_patched",
            "created",
            "attributes_set",
            "hard_linked",
            "moved",
            "copied_locally",
            "deleted",
            "literal_bytes",
        ] {
            assert_eq!(self.count(field), 0, "{field}:\n{self}");
        }
    }

    /// The itemised lines of a run with `-i`, sorted.
    pub fn items(&self) -> Vec<&str> {
        let is_item = |line: &&str| {
            let bytes = line.as_bytes();
            let is_kind = |byte: u8| b"fdLDS".contains(&byte) || bytes.starts_with(b"*");
            bytes.len() > 12
                && b"<>ch.*".contains(&bytes[0])
                && is_kind(bytes[1])
                && bytes[11] == b' '
        };
        let mut items: Vec<_> = self.stdout.lines().filter(is_item).collect();
        items.sort_unstable();
        items
    }

    /// Fails unless `text` is in what the run said, on either stream.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Outcome {
        let said = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(said, "nothing said about {text:?}:\n{self}");
        self
    }
}

/// Copies a program to where it is run. Another process writes it: were it this one, a test that
/// forks meanwhile would hold it open for writing, and nobody could start it.
pub fn install(from: &Path, to: &Path) {
    let status = Command::new("install")
        .args(["-m", "755"])
        .args([from, to])
        .status();
    assert!(
        status.expect("running install").success(),
        "installing {}",
        to.display()
    );
}

/// The command line without the environment, which is every run's.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| format!("{word:?} ")).collect()
}
