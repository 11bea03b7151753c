//! Two hosts and a plan between them: this machine, and this machine again behind an sshd, with a
//! home of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::common::lab::Lab;
use crate::common::run::{BINARY, Invocation, Outcome, install};
use crate::common::sshd::{HOST, Sshd};
use crate::common::tree::tree;

/// A plan between two hosts.
pub struct Stage {
    pub lab: Lab,
    sshd: Sshd,
}

impl Stage {
    pub fn new() -> Stage {
        Stage {
            lab: Lab::new(),
            sshd: Sshd::start(),
        }
    }

    /// A stage with a state at the source: `text` in `~/.app`.
    pub fn with_state(text: &str) -> Stage {
        let stage = Stage::new();
        tree(&stage.near("home/.app"), text);
        stage
    }

    /// A path in the source's home.
    pub fn near(&self, name: &str) -> PathBuf {
        self.lab.path("home-near").join(name)
    }

    /// The source's home.
    pub fn near_home(&self) -> PathBuf {
        self.near("home")
    }

    /// The destination's home.
    pub fn far_home(&self) -> PathBuf {
        self.sshd.home()
    }

    /// How many connections have logged in at the destination.
    pub fn logins(&self) -> usize {
        self.sshd.logins()
    }

    /// Makes a command of the destination's.
    pub fn far_command(&self, name: &str, script: &str) {
        self.command(&self.far_home().join("bin"), name, script);
    }

    /// Makes a command in a directory.
    pub fn command(&self, dir: &Path, name: &str, script: &str) {
        fs::create_dir_all(dir).unwrap();
        let draft = self.lab.path("draft");
        fs::write(&draft, format!("#!/bin/sh\n{script}\n")).unwrap();
        install(&draft, &dir.join(name));
    }

    /// Writes a plan that leads to the destination, with more text after the hosts.
    pub fn plan(&self, more: &str) -> PathBuf {
        let args: Vec<_> = self.sshd.ssh_args();
        let args: Vec<_> = args.iter().map(|arg| arg.to_str().unwrap()).collect();
        let text = format!(
            "name = \"move\"\n[destination]\nhost = {HOST:?}\nssh = {args:?}\nagent = {BINARY:?}\n{more}"
        );
        self.write("plan.toml", &text)
    }

    /// A plan of one root, `~/.app`.
    pub fn plan_of_app(&self, more: &str) -> PathBuf {
        self.plan(&format!(
            "[[root]]\nname = \"app\"\npath = \"~/.app\"\n{more}"
        ))
    }

    /// Writes a file in this corner.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.lab.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// `cutover plan ACT PLAN`.
    pub fn run(&self, act: &str, plan: &Path) -> Invocation {
        self.lab.cutover(["plan", act]).args([plan])
    }

    /// The rows of `cutover plan check PLAN` that are not well, as `VERDICT SUBJECT: MESSAGE`.
    pub fn trouble(&self, plan: &Path) -> Vec<String> {
        let outcome = self.run("check", plan).args(["--json"]).run();
        let rows = findings(&outcome);
        let fails = rows.iter().any(|row| row.starts_with("fail "));
        let code = if fails { 5 } else { 0 };
        assert_eq!(outcome.status.code(), Some(code), "{outcome}");
        rows
    }
}

fn findings(outcome: &Outcome) -> Vec<String> {
    let lines = outcome.json_lines();
    let rows = lines.iter().filter(|line| line["event"] == "finding");
    let rows = rows.filter(|row| row["verdict"] != "ok");
    rows.map(|row| {
        assert!(row["advice"].is_string(), "{row}");
        let word = |key: &str| row[key].as_str().unwrap().to_owned();
        format!(
            "{} {}: {}",
            word("verdict"),
            word("subject"),
            word("message")
        )
    })
    .collect()
}

/// Gives a file these permission bits.
pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
