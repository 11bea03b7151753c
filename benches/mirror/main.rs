//! Measures `cutover mirror` against lsyncd and unison: how long a change takes to arrive, and what
//! waiting for the next one costs. Apart from `versus` because what is measured stays running.
//! `cargo bench --bench mirror -- --help`.

#![allow(clippy::unwrap_used)] // A benchmark that unwraps has said what it expects.

mod course;
mod family;
mod peer;

// What it shares with the benchmark of single runs, and uses a part of.
#[allow(dead_code)]
#[path = "../support/data.rs"]
mod data;
#[path = "../support/figures.rs"]
mod figures;
#[path = "../support/tools.rs"]
mod tools;

// The tests' own kit.
#[path = "../../tests/common/sshd.rs"]
mod sshd;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};
use tempfile::TempDir;

use course::{Change, Course, big_file};
use data::Content;
use family::{Family, Peaks};
use figures::{least, median, most};
use peer::{Ends, Peer};
use sshd::Sshd;

/// What has to settle after the last change before idleness is measured.
const REST: Duration = Duration::from_secs(8);

/// What to measure and how large.
#[derive(Parser, Debug)]
#[command(
    name = "mirror",
    about = "Measures cutover mirror against lsyncd and unison"
)]
struct Options {
    /// Only contenders whose label contains NAME; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Changes of each kind
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Files in the tree, 50 in a directory
    #[arg(long, default_value_t = 200_000)]
    files: usize,
    /// Size of the large file in MiB
    #[arg(long, default_value_t = 1024)]
    big_mib: u64,
    /// Seconds for which idleness is measured
    #[arg(long, default_value_t = 60)]
    idle_s: u64,
    /// Where data goes: a directory on a disk
    #[arg(long, default_value = "/tmp")]
    disk: PathBuf,
    /// Where results.json goes
    #[arg(long, default_value = "target/mirror")]
    out: PathBuf,
    /// Given by cargo; without it nothing is measured, so that `cargo test` stays quick
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a contender reached.
struct Outcome {
    peer: Peer,
    /// From its start until the first change had arrived.
    ready_s: f64,
    /// Seconds, for each kind of change.
    arrivals: Vec<(Change, Vec<f64>)>,
    /// Processor time of both sides for one small file.
    small_cpu_s: f64,
    /// Of one processor, in percent.
    idle_percent: f64,
    peaks: Peaks,
    /// How the standby differs in the end.
    wrong: Option<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.bench {
        println!("nothing measured: run `cargo bench --bench mirror`");
        return ExitCode::SUCCESS;
    }
    let home = TempDir::with_prefix_in("cutover-mirror-", &options.disk).unwrap();
    let src = home.path().join("src");
    data::tree(&src, options.files, 2, Content::Holes);
    data::big(&src.join(big_file()), options.big_mib, 1);
    let mut outcomes: Vec<Outcome> = Vec::new();
    for peer in Peer::ALL {
        let label = peer.label();
        if !options.only.is_empty() && !options.only.iter().any(|part| label.contains(part)) {
            continue;
        }
        if let Some(what) = peer.missing() {
            println!("{what} is not installed: its figures are left out");
            continue;
        }
        let outcome = measure(peer, &options, home.path(), &src);
        print(&outcome, outcomes.first());
        outcomes.push(outcome);
        fs::create_dir_all(&options.out).unwrap();
        let all: Vec<Value> = outcomes.iter().map(to_json).collect();
        let text = serde_json::to_string_pretty(&all).unwrap();
        fs::write(options.out.join("results.json"), text).unwrap();
    }
    match outcomes.iter().all(|outcome| outcome.wrong.is_none()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Has a contender keep a standby warm that begins as a copy.
fn measure(peer: Peer, options: &Options, base: &Path, src: &Path) -> Outcome {
    let home = base.join(format!("{peer:?}"));
    let dst = base.join("dst");
    fs::create_dir_all(home.join("run")).unwrap();
    for dir in [home.clone(), home.join("run")] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    }
    tools::copy(src, &dst);
    rustix::fs::sync();
    let sshd = Sshd::start();
    let ends = Ends {
        home: &home,
        sshd: &sshd,
        src,
        dst: &dst,
    };
    let family = Family::gather(sshd.pid());
    let mut course = Course {
        src,
        dst: &dst,
        dirs: options.files.div_ceil(50),
        number: 1000 * peer as u64,
    };
    let began = Instant::now();
    let child = peer.start(&ends);
    let (mut outcome, peaks) = family.watch(|| {
        course.take(Change::Small);
        let ready_s = began.elapsed().as_secs_f64();
        run(peer, options, &mut course, family, ready_s)
    });
    outcome.peaks = peaks;
    family.part();
    drop(child);
    drop(sshd);
    outcome.wrong = tools::listed_by_rsync(src, &dst, peer.not_kept());
    fs::remove_dir_all(&dst).unwrap();
    outcome
}

/// Makes all changes, then none.
fn run(
    peer: Peer,
    options: &Options,
    course: &mut Course<'_>,
    family: Family,
    ready_s: f64,
) -> Outcome {
    // What the first comparison has left to do.
    thread::sleep(REST);
    let mut small_cpu_s = 0.0;
    let arrivals = Change::ALL.map(|change| {
        let before = family.cpu_s();
        let seconds = (0..options.rounds).map(|_| course.take(change).as_secs_f64());
        let seconds: Vec<f64> = seconds.collect();
        if change == Change::Small {
            small_cpu_s = (family.cpu_s() - before) / options.rounds as f64;
        }
        (change, seconds)
    });
    thread::sleep(REST);
    let before = family.cpu_s();
    thread::sleep(Duration::from_secs(options.idle_s));
    let idle_s = family.cpu_s() - before;
    Outcome {
        peer,
        ready_s,
        arrivals: arrivals.into(),
        small_cpu_s,
        idle_percent: 100.0 * idle_s / options.idle_s as f64,
        peaks: Peaks::default(),
        wrong: None,
    }
}

/// Prints what a contender reached, and how ours compares with it.
fn print(outcome: &Outcome, ours: Option<&Outcome>) {
    println!("\n{}", outcome.peer.label());
    for (at, (change, seconds)) in outcome.arrivals.iter().enumerate() {
        let ratio = ours.map_or(String::new(), |ours| {
            let ratio = median(&ours.arrivals[at].1) / median(seconds);
            format!("  {} by this: {ratio:.2}", ours.peer.label())
        });
        println!(
            "  {:<16} {:>7.3} s ({:.3}-{:.3}){ratio}",
            change.label(),
            median(seconds),
            least(seconds),
            most(seconds),
        );
    }
    let mib = |kib: u64| kib as f64 / 1024.0;
    println!(
        "  ready after {:.1} s; processor: {:.3} s for a small file, idle {:.2} %; peak {:.1} + {:.1} MiB",
        outcome.ready_s,
        outcome.small_cpu_s,
        outcome.idle_percent,
        mib(outcome.peaks.near_kib),
        mib(outcome.peaks.far_kib),
    );
    if let Some(note) = outcome.peer.note() {
        println!("  {note}");
    }
    if let Some(wrong) = &outcome.wrong {
        println!("  WRONG RESULT: {wrong}");
    }
}

fn to_json(outcome: &Outcome) -> Value {
    let arrivals = outcome.arrivals.iter().map(|(change, seconds)| {
        json!({
            "change": change.label(),
            "seconds": seconds,
            "median_s": median(seconds),
        })
    });
    json!({
        "tool": outcome.peer.label(),
        "note": outcome.peer.note(),
        "ready_s": outcome.ready_s,
        "arrivals": arrivals.collect::<Vec<_>>(),
        "small_cpu_s": outcome.small_cpu_s,
        "idle_percent": outcome.idle_percent,
        "near_peak_kib": outcome.peaks.near_kib,
        "far_peak_kib": outcome.peaks.far_kib,
        "wrong": outcome.wrong,
    })
}
