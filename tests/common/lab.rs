//! A test's own corner of the machine: a source, a destination, a far side behind a pipe, and
//! state directories that no other test sees.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use super::dump::{assert_same, stamps};
use super::run::{BINARY, Invocation, POLL, TIME_LIMIT, install};
use super::tree::tree;

/// The host name that stands for the far side when no network is involved.
pub const FAR: &str = "far";

/// How a source and a destination are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Both ends here.
    Local,
    /// The destination is far.
    Push,
    /// The source is far.
    Pull,
    /// Both are far.
    Relay,
}

impl Route {
    /// All of them.
    pub const ALL: [Route; 4] = [Route::Local, Route::Push, Route::Pull, Route::Relay];

    /// The two paths as the command line names them.
    pub fn endpoints(self, host: &str, src: &Path, dst: &Path) -> [OsString; 2] {
        let far = |path: &Path| {
            let mut text = OsString::from(format!("{host}:"));
            text.push(path);
            text
        };
        match self {
            Route::Local => [src.into(), dst.into()],
            Route::Push => [src.into(), far(dst)],
            Route::Pull => [far(src), dst.into()],
            Route::Relay => [far(src), far(dst)],
        }
    }
}

/// A test's own corner: `src`, `dst` and the state of both hosts, gone when dropped.
pub struct Lab {
    dir: TempDir,
    /// The source; not made yet.
    pub src: PathBuf,
    /// The destination; not made yet.
    pub dst: PathBuf,
}

impl Lab {
    /// An empty one.
    pub fn new() -> Lab {
        let dir = tempfile::Builder::new()
            .prefix("cutover-test-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .expect("a temporary directory");
        let (src, dst) = (dir.path().join("src"), dir.path().join("dst"));
        Lab { dir, src, dst }
    }

    /// One whose source holds the tree that `text` describes.
    pub fn with_source(text: &str) -> Lab {
        let lab = Lab::new();
        lab.source(text);
        lab
    }

    /// Makes or changes the source.
    pub fn source(&self, text: &str) {
        tree(&self.src, text);
    }

    /// Makes or changes the destination.
    pub fn destination(&self, text: &str) {
        tree(&self.dst, text);
    }

    /// A path in this corner, beside `src` and `dst`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `cutover` with these arguments and nothing else.
    pub fn cutover<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Invocation {
        let mut command = Command::new(BINARY);
        command.args(args);
        self.isolate(&mut command, "near");
        Invocation::new(command, self.dir.path())
    }

    /// `cutover sync OPTIONS src dst`.
    pub fn sync(&self, options: &[&str]) -> Invocation {
        self.between("sync", options)
    }

    /// `cutover VERB OPTIONS src dst`.
    pub fn between(&self, verb: &str, options: &[&str]) -> Invocation {
        self.cutover([verb])
            .args(options)
            .args([&self.src, &self.dst])
    }

    /// `cutover sync OPTIONS` over a route whose far side is this machine behind a pipe.
    pub fn sync_via(&self, route: Route, options: &[&str]) -> Invocation {
        self.cutover(["sync"])
            .args(options)
            .args(self.far_options())
            .args(route.endpoints(FAR, &self.src, &self.dst))
    }

    /// The options that reach the far side: a command in place of ssh, and the agent.
    pub fn far_options(&self) -> [OsString; 4] {
        let shell = self.far_shell().into_os_string();
        ["-e".into(), shell, "--agent-path".into(), BINARY.into()]
    }

    /// The process ids of the agents that were started on the far side so far.
    pub fn far_pids(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.path("far-pids")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Waits until no agent is left on the far side, and fails when one stays.
    pub fn wait_for_agents_to_end(&self) {
        let start = Instant::now();
        while let Some(pid) = self.far_pids().into_iter().find(|pid| is_running(*pid)) {
            assert!(start.elapsed() < TIME_LIMIT, "agent {pid} does not end");
            std::thread::sleep(POLL);
        }
    }

    /// Runs `sync` again and fails unless neither end was touched and nothing was sent.
    pub fn assert_settled(&self, options: &[&str]) {
        let (before_src, before_dst) = (stamps(&self.src), stamps(&self.dst));
        let outcome = self.sync(&[options, &["--json"]].concat()).ok();
        outcome.assert_sent_nothing();
        assert_eq!(before_src, stamps(&self.src), "the source was touched");
        assert_eq!(before_dst, stamps(&self.dst), "the destination was touched");
    }

    /// Fails with the differences unless the destination is what the source is.
    #[track_caller]
    pub fn assert_synced(&self) {
        assert_same(&self.src, &self.dst);
    }

    /// A script that stands in for ssh: notes its process id, forgets the host, runs the rest.
    fn far_shell(&self) -> PathBuf {
        let script = self.path("far-shell");
        if script.exists() {
            return script;
        }
        let mut exports = String::new();
        for (name, dir) in self.home("far") {
            exports += &format!("export {name}='{}'\n", dir.display());
        }
        let pids = self.path("far-pids");
        let pids = pids.display();
        let text = format!("#!/bin/sh\n{exports}echo $$ >> '{pids}'\nshift\nexec \"$@\"\n");
        let draft = self.path("far-shell.draft");
        fs::write(&draft, text).expect("writing the far shell");
        install(&draft, &script);
        script
    }

    /// Gives a command the environment of one host or user, and nothing of this machine's.
    pub fn isolate(&self, command: &mut Command, host: &str) {
        command.envs(self.home(host)).env_remove("SSH_AUTH_SOCK");
        command.env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
    }

    /// The directories that one host or user keeps its state in.
    pub fn home(&self, host: &str) -> Vec<(&'static str, PathBuf)> {
        let home = self.path(&format!("home-{host}"));
        let variables = [
            ("HOME", "home"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_RUNTIME_DIR", "run"),
            ("XDG_CONFIG_HOME", "config"),
        ];
        variables
            .map(|(name, below)| {
                let dir = home.join(below);
                fs::create_dir_all(&dir).expect("making a home");
                // As XDG demands of the runtime directory.
                fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("chmod");
                (name, dir)
            })
            .into()
    }
}

/// Whether a process is there and not merely waiting to be reaped.
fn is_running(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// The text of a file, which must be there.
pub fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|err| panic!("cannot read {path:?}: {err}"))
}
