//! One run of one contender: its command line on both sides, what it took, and what it said.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::meter::{self, Usage};
use crate::sshd::HOST;
use crate::stage::Stage;

const CUTOVER: &str = env!("CARGO_BIN_EXE_cutover");

/// The cipher that cutover asks ssh for.
const GCM: &str = "aes128-gcm@openssh.com";

/// Who runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Ours, as durable as rsync: not at all.
    Cutover,
    /// Ours as it is by default: durable before it reports success.
    Durable,
    /// With ssh as it is by default.
    Rsync,
    /// With the cipher that ours prefers.
    RsyncGcm,
    Cp,
    /// With the metadata that it keeps.
    Rclone,
    /// Two tars and ssh between them.
    Tar,
}

impl Tool {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Tool::Cutover => "cutover --fsync none",
            Tool::Durable => "cutover",
            Tool::Rsync => "rsync",
            Tool::RsyncGcm => "rsync, aes-gcm",
            Tool::Cp => "cp -a",
            Tool::Rclone => "rclone sync -M",
            Tool::Tar => "tar | ssh | tar",
        }
    }

    /// The peers that ours is compared with.
    pub(crate) fn is_peer(self) -> bool {
        !matches!(self, Tool::Cutover | Tool::Durable)
    }

    pub(crate) fn is_installed(self, stage: &Stage) -> bool {
        match self {
            Tool::Rsync | Tool::RsyncGcm => stage.has_rsync,
            Tool::Rclone => stage.has_rclone,
            Tool::Cutover | Tool::Durable | Tool::Cp | Tool::Tar => true,
        }
    }
}

/// What a scenario asks for, as each tool calls it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flags {
    pub(crate) cutover: &'static [&'static str],
    pub(crate) rsync: &'static [&'static str],
}

/// A run to be made.
pub(crate) struct Job<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) tool: Tool,
    pub(crate) flags: Flags,
    pub(crate) far: bool,
    /// Of the link to the far side, beyond what the loopback takes.
    pub(crate) round_trip_ms: u32,
    pub(crate) src: &'a Path,
    pub(crate) dst: PathBuf,
}

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) near: Usage,
    pub(crate) far: Option<Usage>,
    /// Both directions, as the tool counts them.
    pub(crate) wire_bytes: Option<u64>,
}

/// How the processes of a run are watched.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Time and memory, by the meter.
    Meter,
    /// System calls, by strace.
    Strace,
}

impl Watch {
    /// What a command is prefixed with to be watched into `file`.
    pub(crate) fn prefix(self, file: &Path) -> Vec<OsString> {
        let me = std::env::current_exe().unwrap();
        let words: Vec<OsString> = match self {
            Watch::Meter => vec![me.into(), meter::WORD.into()],
            // Not the ssh that is started: it is the same for all.
            Watch::Strace => "strace -f -c -b execve -o"
                .split(' ')
                .map(OsString::from)
                .collect(),
        };
        words.into_iter().chain([file.into()]).collect()
    }
}

impl Job<'_> {
    /// Runs it to its end; a contender that fails ends the benchmark.
    pub(crate) fn run(&self) -> Taken {
        let output = self.watched(Watch::Meter);
        Taken {
            near: Usage::read(&self.figures("near")).unwrap(),
            far: Usage::read(&self.figures("far")),
            wire_bytes: self.wire_bytes(&output),
        }
    }

    /// Runs it so that what it does is left in [`Job::figures`].
    pub(crate) fn watched(&self, watch: Watch) -> Output {
        for side in ["near", "far"] {
            let _ = fs::remove_file(self.figures(side));
        }
        self.write_far_script(watch);
        let prefix = watch.prefix(&self.figures("near"));
        let mut command = Command::new(&prefix[0]);
        command.args(&prefix[1..]).args(self.words());
        command.envs(self.stage.near_home()).env("LC_ALL", "C");
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{command:?} failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    /// Where the figures of a side are.
    pub(crate) fn figures(&self, side: &str) -> PathBuf {
        self.stage.file(&format!("{side}.figures"))
    }

    fn far_script(&self) -> PathBuf {
        self.stage.sshd.home().join("bin/watched")
    }

    /// The script that the far side runs in the place of the tool.
    fn write_far_script(&self, watch: Watch) {
        let program = match self.tool {
            Tool::Cutover | Tool::Durable => CUTOVER,
            _ => "rsync",
        };
        let words = watch.prefix(&self.figures("far"));
        let words: Vec<String> = words
            .iter()
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect();
        let script = self.far_script();
        let text = format!("#!/bin/sh\nexec {} {program} \"$@\"\n", words.join(" "));
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn words(&self) -> Vec<OsString> {
        match self.tool {
            Tool::Cutover => self.cutover(&["--fsync", "none"]),
            Tool::Durable => self.cutover(&[]),
            Tool::Rsync => self.rsync(""),
            Tool::RsyncGcm => self.rsync(&format!(" -c {GCM}")),
            Tool::Cp => vec![
                "cp".into(),
                "-aT".into(),
                self.src.into(),
                self.dst.clone().into(),
            ],
            Tool::Rclone => self.rclone(),
            Tool::Tar => self.tar(),
        }
    }

    fn cutover(&self, more: &[&str]) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec![CUTOVER.into(), "sync".into(), "--json".into()];
        words.extend(self.flags.cutover.iter().chain(more).map(OsString::from));
        if self.far {
            let mut option = OsString::from("--ssh-option=-F");
            option.push(self.stage.ssh_config(self.round_trip_ms));
            words.extend([option, "--agent-path".into(), self.far_script().into()]);
        }
        words.extend([self.src.into(), self.far_path("")]);
        words
    }

    fn rsync(&self, ssh: &str) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["rsync".into(), "--stats".into()];
        words.extend(self.flags.rsync.iter().map(OsString::from));
        if self.far {
            let mut path = OsString::from("--rsync-path=");
            path.push(self.far_script());
            let shell = format!("{}{ssh}", self.ssh());
            words.extend([path, "-e".into(), shell.into()]);
        }
        let mut src = self.src.as_os_str().to_owned();
        // The contents of the directory, as the others do.
        src.push("/");
        words.extend([src, self.far_path("/")]);
        words
    }

    fn rclone(&self) -> Vec<OsString> {
        let words = ["rclone", "sync", "-M", "--config", "/dev/null"].map(OsString::from);
        let trees = [self.src.into(), self.dst.clone().into()];
        words.into_iter().chain(trees).collect()
    }

    fn tar(&self) -> Vec<OsString> {
        let (src, dst) = (self.src.display(), self.dst.display());
        let ssh = self.ssh();
        // Its default format cuts times to seconds.
        let line = format!(
            "tar --format=posix -C {src} -cf - . | {ssh} {HOST} 'mkdir -p {dst} && tar -C {dst} -xpf -'"
        );
        vec!["sh".into(), "-c".into(), line.into()]
    }

    fn ssh(&self) -> String {
        let config = self.stage.ssh_config(self.round_trip_ms);
        format!("ssh -F {}", config.display())
    }

    fn far_path(&self, end: &str) -> OsString {
        let mut path = OsString::new();
        if self.far {
            path.push(format!("{HOST}:"));
        }
        path.push(&self.dst);
        path.push(end);
        path
    }

    fn wire_bytes(&self, output: &Output) -> Option<u64> {
        if !self.far {
            return None;
        }
        let text = String::from_utf8_lossy(&output.stdout);
        match self.tool {
            Tool::Cutover | Tool::Durable => {
                let summary: serde_json::Value = serde_json::from_str(text.lines().last()?).ok()?;
                let field = |name: &str| summary[name].as_u64();
                Some(field("wire_sent_bytes")? + field("wire_received_bytes")?)
            }
            Tool::Rsync | Tool::RsyncGcm => {
                let total = |label: &str| {
                    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
                    line.replace([',', ' '], "").parse::<u64>().ok()
                };
                Some(total("Total bytes sent:")? + total("Total bytes received:")?)
            }
            Tool::Cp | Tool::Rclone | Tool::Tar => None,
        }
    }
}
