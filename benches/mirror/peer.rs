//! Who keeps a standby warm: each as it is best set for this.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::sshd::{HOST, Sshd};
use crate::tools::says;

const CUTOVER: &str = env!("CARGO_BIN_EXE_cutover");

/// A contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Ours as it is by default: durable before a round is over. The others are not.
    Cutover,
    Lsyncd,
    Unison,
}

/// What all of them are given.
pub(crate) struct Ends<'a> {
    /// Where logs and state go, and connections that are shared.
    pub(crate) home: &'a Path,
    pub(crate) sshd: &'a Sshd,
    pub(crate) src: &'a Path,
    pub(crate) dst: &'a Path,
}

impl Peer {
    pub(crate) const ALL: [Peer; 3] = [Peer::Cutover, Peer::Lsyncd, Peer::Unison];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Peer::Cutover => "cutover",
            Peer::Lsyncd => "lsyncd, delay 1",
            Peer::Unison if has_fsmonitor() => "unison -repeat watch",
            Peer::Unison => "unison -repeat 1",
        }
    }

    /// What must be installed for it.
    pub(crate) fn missing(self) -> Option<&'static str> {
        let there = match self {
            Peer::Cutover => true,
            Peer::Lsyncd => {
                says("lsyncd", "-version").contains("Version: 2")
                    && says("rsync", "--version").contains("rsync  version 3")
            }
            Peer::Unison => says("unison", "-version").starts_with("unison version"),
        };
        (!there).then_some(match self {
            Peer::Lsyncd => "lsyncd 2 and rsync 3",
            _ => "unison",
        })
    }

    /// What a reader of its figures should know.
    pub(crate) fn note(self) -> Option<&'static str> {
        let lacks = self == Peer::Unison && !has_fsmonitor();
        lacks.then_some(
            "unison-fsmonitor is not installed (Debian 12 does not package it), so unison cannot \
             watch: it reads everything again a second after each round",
        )
    }

    /// What its standby is not held against, as options of rsync.
    pub(crate) fn not_kept(self) -> &'static [&'static str] {
        match self {
            // By which a standby tells what it is.
            Peer::Cutover => &["--exclude=/.cutover-marker"],
            Peer::Lsyncd => &[],
            // It gives directories no times, and keeps no ACLs or attributes without being told.
            Peer::Unison => &["--omit-dir-times", "--no-acls", "--no-xattrs"],
        }
    }

    /// Starts it; what it says goes to a log.
    pub(crate) fn start(self, ends: &Ends<'_>) -> Child {
        let (program, args) = self.words(ends);
        let log = File::create(self.log(ends)).unwrap();
        // It ends with the benchmark, however that ends.
        Command::new("setpriv")
            .args(["--pdeathsig", "TERM", program])
            .args(args)
            .env("HOME", ends.home)
            .env("XDG_STATE_HOME", ends.home.join("state"))
            .env("XDG_CACHE_HOME", ends.home.join("cache"))
            .env("XDG_RUNTIME_DIR", ends.home.join("run"))
            .env("UNISON", ends.home.join("unison"))
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            .spawn()
            .unwrap_or_else(|err| panic!("cannot start {}: {err}", self.label()))
    }

    pub(crate) fn log(self, ends: &Ends<'_>) -> PathBuf {
        ends.home.join(format!("{self:?}.log"))
    }

    fn words(self, ends: &Ends<'_>) -> (&'static str, Vec<OsString>) {
        match self {
            Peer::Cutover => (CUTOVER, cutover(ends)),
            Peer::Lsyncd => ("lsyncd", lsyncd(ends)),
            Peer::Unison => ("unison", unison(ends)),
        }
    }
}

fn cutover(ends: &Ends<'_>) -> Vec<OsString> {
    let config = format!("--ssh-option=-F{}", ends.sshd.ssh_config().display());
    let mut words = owned(&["mirror", "--agent-path", CUTOVER, &config]);
    words.extend([ends.src.into(), far(ends, ":").into()]);
    words
}

/// A second is the least that it waits for more of the same. ssh keeps one connection, as ours does:
/// without that each batch logs in anew. Batches go one after the other, as two of one tree must.
fn lsyncd(ends: &Ends<'_>) -> Vec<OsString> {
    let shell = format!(
        "ssh -F {} -o ControlMaster=auto -o ControlPersist=600 -o ControlPath={}",
        ends.sshd.ssh_config().display(),
        ends.home.join("%C").display(),
    );
    let text = format!(
        "settings {{ nodaemon = true, insist = true, maxProcesses = 1 }}\n\
         sync {{ default.rsync, source = \"{}\", target = \"{}\", delay = 1,\n  \
         rsync = {{ archive = true, hard_links = true, acls = true, xattrs = true, \
         rsh = \"{shell}\" }} }}\n",
        ends.src.display(),
        far(ends, ":"),
    );
    let config = ends.home.join("lsyncd.lua");
    fs::write(&config, text).unwrap();
    vec!["-nodaemon".into(), config.into()]
}

/// The source is always right, nobody is asked, and contents are believed by size and time.
fn unison(ends: &Ends<'_>) -> Vec<OsString> {
    let repeat = if has_fsmonitor() { "watch" } else { "1" };
    let mut words: Vec<OsString> = vec![ends.src.into()];
    words.push(format!("ssh://{}", far(ends, "/")).into());
    words.extend(owned(&["-batch", "-auto", "-times", "-owner", "-group"]));
    words.extend(owned(&["-numericids", "-confirmbigdel=false"]));
    words.extend(owned(&["-fastcheck", "true", "-repeat", repeat]));
    words.extend(["-force".into(), ends.src.into(), "-sshargs".into()]);
    words.push(format!("-F {}", ends.sshd.ssh_config().display()).into());
    words
}

fn owned(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// The standby, as ssh leads to it.
fn far(ends: &Ends<'_>, separator: &str) -> String {
    format!("{HOST}{separator}{}", ends.dst.display())
}

fn has_fsmonitor() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join("unison-fsmonitor").exists())
}
