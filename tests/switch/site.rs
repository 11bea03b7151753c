//! Two machines and the service that moves between them: `aipro`, a real process with a database,
//! a lock and a port (`examples/aipro`).

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::common::lab::Lab;
use crate::common::run::{Invocation, install};
use crate::common::sshd::{HOST, Sshd};

/// Ports of the services under test, each used by one test alone.
static NEXT_PORT: AtomicU16 = AtomicU16::new(21_700);

/// A port for a service.
pub fn port() -> u16 {
    loop {
        let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        // Another run of the tests may be under way on this machine.
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// An old machine, a new one, and the controlling side.
pub struct Site {
    pub lab: Lab,
    pub old: Sshd,
    pub new: Sshd,
    pub port: u16,
}

impl Site {
    /// Two machines, and `aipro` set up and running on the old one.
    pub fn with_gateway() -> Site {
        let site = Site::bare();
        site.on_old(&["onboard"]);
        site.on_old(&["gateway", "start"]);
        site
    }

    /// Two machines with nothing on them but the program.
    pub fn bare() -> Site {
        Site::of(Sshd::start(), Sshd::start())
    }

    /// The same of these two.
    pub fn of(old: Sshd, new: Sshd) -> Site {
        let site = Site {
            lab: Lab::new(),
            old,
            new,
            port: port(),
        };
        for machine in [&site.old, &site.new] {
            install(aipro(), &machine.home().join("bin/aipro"));
        }
        site
    }

    /// Runs `aipro` on the old machine; it must succeed.
    pub fn on_old(&self, words: &[&str]) -> Output {
        succeeding(self.aipro(&self.old, words))
    }

    /// Whether `aipro` runs on a machine.
    pub fn runs_on(&self, machine: &Sshd) -> bool {
        self.aipro(machine, &["status"]).status.success()
    }

    pub fn aipro(&self, machine: &Sshd, words: &[&str]) -> Output {
        Command::new(machine.home().join("bin/aipro"))
            .args(words)
            .env_clear()
            .env("HOME", machine.home())
            .env("PATH", "/usr/bin:/bin")
            .env("AIPRO_PORT", self.port.to_string())
            .output()
            .unwrap()
    }

    /// The state directory on a machine.
    pub fn state(&self, machine: &Sshd) -> PathBuf {
        machine.home().join(".aipro")
    }

    /// The plan of preset `aipro` for this site, with `more` at its end.
    pub fn plan(&self, more: &str) -> PathBuf {
        self.plan_with(&[], more)
    }

    /// The same with variables of the preset set.
    pub fn plan_with(&self, set: &[&str], more: &str) -> PathBuf {
        let made = self.lab.cutover(["plan", "init", "--preset", "aipro"]);
        let made = made.args(set.iter().flat_map(|one| ["--set", one])).ok();
        let text = self.addressed(&made.stdout) + more;
        self.write_plan(&text)
    }

    pub fn write_plan(&self, text: &str) -> PathBuf {
        let file = self.lab.path("plan.toml");
        fs::write(&file, text).unwrap();
        file
    }

    /// A plan's text with the addresses of the two machines in it.
    pub fn addressed(&self, text: &str) -> String {
        let end = |name: &str, machine: &Sshd| {
            let config = machine.ssh_config();
            format!("[{name}]\nhost = {HOST:?}\nssh = [\"-F\", {config:?}]\nagent = {BINARY:?}\n")
        };
        let mut out = String::new();
        let mut skipping = false;
        for line in text.lines() {
            if line.starts_with('[') {
                skipping = false;
            }
            match line.trim() {
                "[source]" => {
                    out += &end("source", &self.old);
                    skipping = true;
                }
                "[destination]" => {
                    out += &end("destination", &self.new);
                    skipping = true;
                }
                _ if skipping => {}
                _ => out += &format!("{line}\n"),
            }
        }
        out
    }

    /// `cutover VERB PLAN`.
    pub fn cutover(&self, verb: &str, plan: &Path) -> Invocation {
        let invocation = self.lab.cutover(verb.split(' '));
        invocation.args(["--no-progress"]).args([plan])
    }

    /// How many rows the database on a machine has, and lines its session.
    pub fn heard(&self, machine: &Sshd) -> (i64, i64) {
        let state = self.state(machine);
        let database = state.join("agents/main/memory.sqlite");
        let rows = rusqlite::Connection::open(database)
            .and_then(|one| one.query_row("SELECT max(id) FROM heard", [], |row| row.get(0)))
            .unwrap();
        let session = state.join("agents/main/sessions/current.jsonl");
        let lines = fs::read_to_string(session).unwrap().lines().count();
        (rows, lines as i64)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for machine in [&self.old, &self.new] {
            self.aipro(machine, &["gateway", "stop"]);
        }
    }
}

const BINARY: &str = crate::common::run::BINARY;

#[track_caller]
pub fn succeeding(output: Output) -> Output {
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The stand-in service, built where `cargo test --test switch` alone has not built it.
fn aipro() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(BINARY).parent().unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--example", "aipro"]);
        if target.ends_with("release") {
            build.arg("--release");
        }
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        // With what cargo sets for tests some dependencies would look changed, and be built anew.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let is_cargos = name.starts_with("CARGO_") && name != "CARGO_HOME";
            if is_cargos || name == "LD_LIBRARY_PATH" {
                build.env_remove(name);
            }
        }
        succeeding(build.output().unwrap());
        target.join("examples/aipro")
    })
}
