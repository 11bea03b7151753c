//! The meter: the benchmark's program started again as the only parent of what is measured, so
//! that the kernel's account of its children is the account of that one run.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

/// The first argument that makes the program a meter.
pub(crate) const WORD: &str = "--meter";

/// What one process and its children took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Wall time in seconds.
    pub(crate) wall_s: f64,
    /// Processor time, user and system, in seconds.
    pub(crate) cpu_s: f64,
    /// Peak memory of the largest process, in KiB.
    pub(crate) peak_kib: i64,
}

impl Usage {
    /// What the meter left in a file; `None` where it never ran.
    pub(crate) fn read(path: &Path) -> Option<Usage> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }
}

/// Meters `--meter FILE COMMAND ARGS...` if that is what the arguments say.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != WORD {
        return None;
    }
    let file = args.next().expect("a file for the figures");
    let command = args.next().expect("a command");
    Some(meter(Path::new(&file), command, args))
}

fn meter(file: &Path, command: OsString, args: impl Iterator<Item = OsString>) -> ExitCode {
    let start = Instant::now();
    let status = Command::new(&command)
        .args(args)
        .status()
        .unwrap_or_else(|err| panic!("cannot run {command:?}: {err}"));
    let wall = start.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let seconds = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000).as_secs_f64()
    };
    let usage = Usage {
        wall_s: wall.as_secs_f64(),
        cpu_s: seconds(usage.user_time()) + seconds(usage.system_time()),
        peak_kib: usage.max_rss(),
    };
    std::fs::write(file, serde_json::to_vec(&usage).unwrap()).unwrap();
    ExitCode::from(status.code().unwrap_or(255) as u8)
}
