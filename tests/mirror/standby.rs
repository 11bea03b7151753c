//! A mirror that runs, over whatever route, and all that can befall it. What it says of itself is
//! asked of `cutover status`; what is true, of the dump.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common::dump::Dump;
use crate::common::lab::{Lab, Route};
use crate::common::run::{BINARY, Running};
use crate::common::sshd::{HOST, Sshd};

/// The longest that a mirror may take to catch up here.
pub const CATCH_UP: Duration = Duration::from_secs(60);

/// How often its status is asked.
const ASK: Duration = Duration::from_millis(25);

/// What a standby has of its own in its root.
pub static OWN: [&str; 3] = [".cutover-marker", ".cutover-kept", ".cutover-trash"];

/// A pace at which a test does not wait long.
pub const QUICK: [&str; 2] = ["--settle=50ms", "--max-delay=1s"];

/// A source, its standby and the mirror between them.
pub struct Standby {
    pub lab: Lab,
    pub route: Route,
    pub sshd: Option<Sshd>,
    options: Vec<OsString>,
    /// The program that runs the mirror, if another does.
    pub wrapper: Vec<OsString>,
    run: Option<Running>,
}

impl Standby {
    /// Of the lab's source at the lab's destination; not running yet.
    pub fn new(lab: Lab, route: Route, options: &[&str]) -> Standby {
        let options = QUICK.iter().chain(options).map(OsString::from);
        Standby {
            sshd: (route != Route::Local).then(Sshd::start),
            options: options.collect(),
            wrapper: Vec::new(),
            lab,
            route,
            run: None,
        }
    }

    /// One on this host of the source that `text` describes, in agreement with it.
    pub fn here(text: &str, options: &[&str]) -> Standby {
        let mut standby = Standby::new(Lab::with_source(text), Route::Local, options);
        standby.start();
        standby.settle();
        standby
    }

    /// Starts the mirror.
    pub fn start(&mut self) {
        let mut mirror = self.lab.cutover(["mirror", "--json"]).args(&self.options);
        let mut host = "";
        if let Some(sshd) = &self.sshd {
            host = HOST;
            let agent = self.noted_agent();
            mirror = mirror.args(["-e".into(), OsString::from(sshd.shell())]);
            mirror = mirror.args(["--agent-path".into(), agent]);
        }
        let ends = self.route.endpoints(host, &self.lab.src, &self.lab.dst);
        let mirror = mirror.args(ends).behind(&self.lab, &self.wrapper);
        self.run = Some(mirror.spawn());
    }

    /// An agent that leaves its process id behind.
    fn noted_agent(&self) -> OsString {
        let script = self.lab.path("agent");
        let pids = self.lab.path("agents");
        let text = format!(
            "#!/bin/sh\necho $$ >> '{}'\nexec '{BINARY}' \"$@\"\n",
            pids.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        script.into()
    }

    /// The mirror's run, which must be.
    pub fn run(&mut self) -> &mut Running {
        self.run.as_mut().unwrap()
    }

    /// Takes the run out, to wait for its end.
    pub fn take_run(&mut self) -> Running {
        self.run.take().unwrap()
    }

    /// Kills the mirror, as a crash does.
    pub fn kill(&mut self) {
        if let Some(run) = self.run.take() {
            run.kill_alone();
        }
    }

    /// Starts the mirror again if it has ended, as a service manager does.
    pub fn keep_up(&mut self) {
        if self.run.as_mut().is_none_or(Running::is_over) {
            self.start();
        }
    }

    /// Sends a signal to the agent that was started last, if it is there still.
    pub fn signal_agent(&self, signal: Signal) {
        let Some(pid) = self.agent() else { return };
        let _ = kill_process(pid, signal);
    }

    /// The agent that was started last, while it runs.
    pub fn agent(&self) -> Option<Pid> {
        let pids = fs::read_to_string(self.lab.path("agents")).unwrap_or_default();
        let pid: i32 = pids.lines().last()?.parse().ok()?;
        let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        (program == fs::canonicalize(BINARY).unwrap()).then(|| Pid::from_raw(pid).unwrap())
    }

    /// How the root is, by `cutover status`; `Null` where there is no mirror.
    pub fn status(&self) -> Value {
        let mut whole = self.whole_status();
        whole["roots"].get_mut(0).map_or(Value::Null, Value::take)
    }

    /// How the mirror is.
    pub fn whole_status(&self) -> Value {
        let said = self.lab.cutover(["status", "--json"]).run();
        let mut all: Value =
            serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said}"));
        all.get_mut(0).map_or(Value::Null, Value::take)
    }

    /// Waits until the root's status is as it should be, and returns it.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let status = self.status();
            if is_so(&status) {
                return status;
            }
            if began.elapsed() > CATCH_UP {
                panic!("waited in vain until {what}: {status:#}\n{}", self.log());
            }
            std::thread::sleep(ASK);
        }
    }

    /// Whether the mirror says that it has nothing left to bring over.
    pub fn is_settled(status: &Value) -> bool {
        status["state"] == "watching"
            && status["oldest_change_ms"].is_null()
            && !status["agreed"].is_null()
    }

    /// Waits until the mirror says, and says again after a while, that it has caught up.
    #[track_caller]
    pub fn settle(&mut self) -> Value {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < CATCH_UP, "no rest:\n{}", self.log());
            // What was done a moment ago has not been heard yet.
            std::thread::sleep(Duration::from_millis(60));
            self.wait_for("it has caught up", Standby::is_settled);
            std::thread::sleep(Duration::from_millis(60));
            let status = self.status();
            if Standby::is_settled(&status) {
                return status;
            }
        }
    }

    /// Fails unless the standby is what the source is.
    #[track_caller]
    pub fn assert_same(&self) {
        let found = self.differences();
        assert!(found.is_empty(), "{}\n{}", found.join("\n"), self.log());
    }

    /// What of the standby is other than the source.
    pub fn differences(&self) -> Vec<String> {
        let copy = Dump::of_all_but(&self.lab.dst, &OWN);
        // What has left the tree can have kept names of files in it.
        let source = Dump::of(&self.lab.src).without_links_to_outside();
        source.differences(&copy.without_links_to_outside())
    }

    /// Fails unless the last round has found both sides to digest to the same.
    #[track_caller]
    pub fn assert_agreed(&mut self) {
        let rounds = self.told("round");
        let agreed = rounds.last().map(|round| round["agreed"].is_string());
        assert!(agreed == Some(true), "no agreement:\n{}", self.log());
    }

    /// What the mirror has said.
    pub fn log(&self) -> String {
        self.run
            .as_ref()
            .map_or(String::new(), |run| run.so_far().to_string())
    }

    /// The lines of one kind that the mirror has written.
    pub fn told(&mut self, kind: &str) -> Vec<Value> {
        let said = self.run().so_far().stdout;
        // The last line may be under way.
        let lines = said
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines.filter(|line: &Value| line["event"] == kind).collect()
    }

    /// Ends the mirror as a service manager does; it must end well.
    #[track_caller]
    pub fn stop(&mut self) {
        let run = self.take_run();
        run.signal(Signal::TERM);
        let outcome = run.wait();
        assert!(outcome.status.success(), "{outcome}");
    }
}
