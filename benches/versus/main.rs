//! Measures cutover against what people use today, on data it makes itself and over an sshd it
//! starts itself: `cargo bench --bench versus -- --help`. A program of its own because what it
//! measures are processes, not functions.

#![allow(clippy::unwrap_used)] // A benchmark that unwraps has said what it expects.

mod calls;
mod chart;
mod growth;
mod job;
mod link;
mod meter;
mod report;
mod scenario;
mod set;
mod stage;

// What it shares with the benchmark of the mirror.
#[path = "../support/data.rs"]
mod data;
#[path = "../support/figures.rs"]
mod figures;
#[path = "../support/tools.rs"]
mod tools;

// The tests' own kit: a real sshd, and an account of a tree that shares no code with cutover.
#[allow(dead_code, unreachable_pub)]
#[path = "../../tests/common/dump.rs"]
mod dump;
#[path = "../../tests/common/sshd.rs"]
mod sshd;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use scenario::{Outcome, Scenario};
use stage::Stage;

/// What to measure and how large.
#[derive(Parser, Debug)]
#[command(
    name = "versus",
    about = "Measures cutover against rsync, cp, rclone and tar"
)]
struct Options {
    /// Only scenarios whose name contains NAME; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// List the scenarios and stop
    #[arg(long)]
    list: bool,
    /// Rounds: each runs every contender once, in turning order
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Files in the trees that do not change, 50 in a directory
    #[arg(long, default_value_t = 20_000)]
    files: usize,
    /// Files of 7 KiB on average in the trees that are copied, 50 in a directory
    #[arg(long, default_value_t = 10_000)]
    small_files: usize,
    /// Size of the large file in MiB
    #[arg(long, default_value_t = 256)]
    big_mib: u64,
    /// The sizes of the record in doc/performance.md: a million files, 100,000 small ones, 1 GiB
    #[arg(long)]
    record: bool,
    /// Measure how cost grows instead: 10,000 to a million files, 1 MiB to 1 GiB, 1 to 16 levels
    #[arg(long, conflicts_with = "record")]
    growth: bool,
    /// With --growth: files of 4 and 16 GiB too, where the disk has room for four of them
    #[arg(long, requires = "growth")]
    long: bool,
    /// Do not count system calls
    #[arg(long)]
    no_calls: bool,
    /// Where data goes: a directory on a disk
    #[arg(long, default_value = "/tmp")]
    disk: PathBuf,
    /// Where data goes: a directory in memory
    #[arg(long, default_value = "/dev/shm")]
    memory: PathBuf,
    /// Where results.json and chart.svg go
    #[arg(long, default_value = "target/versus")]
    out: PathBuf,
    /// Draw the chart of an earlier run's results.json on standard output, and stop
    #[arg(long, value_name = "RESULTS")]
    redraw: Option<PathBuf>,
    /// Given by cargo; without it nothing is measured, so that `cargo test` stays quick
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn sizes(&self) -> data::Sizes {
        if self.record {
            return data::Sizes {
                files: 1_000_000,
                small_files: 100_000,
                big_mib: 1024,
                levels: 2,
            };
        }
        data::Sizes {
            files: self.files,
            small_files: self.small_files,
            big_mib: self.big_mib,
            levels: 2,
        }
    }

    fn takes(&self, scenario: &Scenario) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| scenario.name.contains(part))
    }
}

fn main() -> ExitCode {
    // The same program meters each process it starts, on both sides, and delays what they say.
    if let Some(code) = meter::run_if_asked().or_else(link::run_if_asked) {
        return code;
    }
    let options = Options::parse();
    if !options.bench {
        println!("nothing measured: run `cargo bench --bench versus`");
        return ExitCode::SUCCESS;
    }
    if let Some(results) = &options.redraw {
        let text = std::fs::read(results).unwrap();
        let results: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
        print!("{}", chart::draw(&results));
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<Scenario> = scenario::ALL
        .into_iter()
        .filter(|scenario| options.takes(scenario))
        .collect();
    if options.list {
        for scenario in &chosen {
            println!("{:<28} {}", scenario.name, scenario.about);
        }
        return ExitCode::SUCCESS;
    }
    let outcomes = match options.growth {
        true => grow(&options),
        false => compare(&options, &chosen),
    };
    let is_right = |outcome: &Outcome| {
        let mut contenders = outcome.contenders.iter();
        contenders.all(|contender| contender.wrong.is_empty())
    };
    // A fast run that leaves something wrong is no result.
    match outcomes.iter().all(is_right) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Measures scenarios at the sizes asked for.
fn compare(options: &Options, chosen: &[Scenario]) -> Vec<Outcome> {
    let stage = Stage::set(&options.disk, &options.memory, options.sizes());
    stage.print_missing();
    let mut outcomes = Vec::new();
    for scenario in chosen {
        let outcome = scenario::measure(scenario, &stage, options.rounds, !options.no_calls);
        take(outcome, &mut outcomes, &options.out);
    }
    outcomes
}

/// Measures how cost grows, on a stage of its own at each size.
fn grow(options: &Options) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut points = growth::points(options.long);
    points.retain(|point| options.takes(&point.scenario));
    for point in points {
        if !point.fits(&options.disk) {
            println!("\nno room for files of {} MiB", point.sizes.big_mib);
            continue;
        }
        let stage = Stage::set(&options.disk, &options.memory, point.sizes);
        let outcome = scenario::measure(&point.scenario, &stage, options.rounds, false);
        take(outcome, &mut outcomes, &options.out.join("growth"));
    }
    outcomes
}

/// Reports an outcome, each as it comes, so that an interrupted record leaves what it has.
fn take(outcome: Outcome, outcomes: &mut Vec<Outcome>, out: &Path) {
    report::print_table(&outcome);
    outcomes.push(outcome);
    report::write_files(out, outcomes);
}
