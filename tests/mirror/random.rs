//! The random run: a source that changes all the time, while connection, agent, mirror and standby are
//! killed and the disk fills. At every pause both sides must be the same.
//!
//! Hours of it are `make soak-mirror`, with MINUTES (or SECONDS_EACH, for many seeds one after the
//! other) and SEED; two minutes, forty seconds over each route, are among the other tests.

use std::fs::{self, File};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::churner::{Bounds, Churner};
use crate::common::lab::{Lab, Route};
use crate::common::prerequisites::Tmpfs;
use crate::common::tree::Noise;
use crate::needs;
use crate::standby::Standby;

/// The standby's disk: room for the bounds of the churner, twice, and for what generations keep.
const DISK: &str = "size=192m,nr_inodes=100k";

/// What a mirror is told. With every other seed it keeps generations: hard links, as this disk
/// shares no blocks.
const SETTINGS: [&[&str]; 2] = [
    &["--max-delete=100%"],
    &["--max-delete=100%", "--keep=4s:2s"],
];

const START: &str =
    "f a 'text' @5\n d dir @6\n f dir/b random(9000) @7\n l c -> a @8\n h dir/d = a";

/// What befalls a mirror while its source changes.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// Nothing: most of the time all is well, and nothing hides what is missed.
    None,
    CutConnection,
    KillAgent,
    /// It hangs for a moment.
    StopAgent,
    KillMirror,
    EndMirror,
    StopStandby,
    FillDisk,
}

const BLOWS: [Blow; 12] = [
    Blow::None,
    Blow::None,
    Blow::None,
    Blow::None,
    Blow::None,
    Blow::CutConnection,
    Blow::KillAgent,
    Blow::StopAgent,
    Blow::KillMirror,
    Blow::EndMirror,
    Blow::StopStandby,
    Blow::FillDisk,
];

/// A run for so long.
fn run(route: Route, seed: u64, time: Duration) {
    let lab = Lab::with_source(START);
    let disk = lab.path("disk");
    let _mounted = Tmpfs::mount(&disk, DISK);
    let mut lab = lab;
    lab.dst = disk.join("dst");
    let mut churner = Churner::new(
        &lab.src,
        seed,
        Bounds {
            entries: 1500,
            bytes: 24 << 20,
            burst: 400,
        },
    );
    let settings = SETTINGS[seed as usize % SETTINGS.len()];
    let mut standby = Standby::new(lab, route, settings);
    standby.start();
    let mut random = Noise::seeded(&(!seed).to_le_bytes());
    let began = Instant::now();
    let mut told = Vec::new();
    while began.elapsed() < time {
        let blow = BLOWS[random.number() as usize % BLOWS.len()];
        told.push(format!("{:?}: {blow:?}", began.elapsed()));
        strike(blow, &mut standby, &mut churner, &mut random);
        churn(&mut churner, &mut random);
        standby.keep_up();
        let settled = catch_unwind(AssertUnwindSafe(|| standby.settle()));
        if let Err(panic) = settled {
            eprintln!(
                "{route:?}, {}\n{}\ndifferences:\n{}",
                told.join("\n"),
                churner.report(),
                standby.differences().join("\n")
            );
            resume_unwind(panic);
        }
        let found = standby.differences();
        assert!(
            found.is_empty(),
            "{route:?}, seed {seed}: {} differences:\n{}\n{}\n{}\n{}",
            found.len(),
            found[..found.len().min(60)].join("\n"),
            told.join("\n"),
            churner.report(),
            standby.log(),
        );
        standby.assert_agreed();
    }
    let status = standby.status();
    assert_eq!(status["problems_total"], 0, "{status:#}");
    assert_eq!(status["drift_total"], 0, "{status:#}");
    standby.stop();
    eprintln!(
        "{route:?}, seed {seed}: {} blows, {:?}",
        told.len(),
        churner.done()
    );
}

/// Changes the source, now in a hurry and now at leisure.
fn churn(churner: &mut Churner, random: &mut Noise) {
    match random.number() % 3 {
        0 => churner.acts(1 + random.number() % 200),
        1 => churner.churn_for(millis(random.number() % 1500), millis(5)),
        _ => churner.churn_for(millis(random.number() % 3000), millis(60)),
    }
}

fn strike(blow: Blow, standby: &mut Standby, churner: &mut Churner, random: &mut Noise) {
    churn(churner, random);
    match blow {
        Blow::None => {}
        Blow::CutConnection => {
            if let Some(sshd) = &standby.sshd {
                sshd.cut_connections();
            }
        }
        Blow::KillAgent => standby.signal_agent(Signal::KILL),
        Blow::StopAgent => {
            standby.signal_agent(Signal::STOP);
            churn(churner, random);
            standby.signal_agent(Signal::CONT);
        }
        Blow::KillMirror => {
            standby.kill();
            churn(churner, random);
            standby.start();
        }
        Blow::EndMirror => {
            standby.keep_up();
            standby.stop();
            churn(churner, random);
            standby.start();
        }
        Blow::StopStandby => {
            if let Some(sshd) = &mut standby.sshd {
                sshd.stop();
                churn(churner, random);
                standby.sshd.as_mut().unwrap().start_again();
            }
        }
        Blow::FillDisk => {
            let filler = standby.lab.path("disk").join("filler");
            let mut file = File::create(&filler).unwrap();
            while file.write_all(&[1; 1 << 16]).is_ok() {}
            churn(churner, random);
            fs::remove_file(filler).unwrap();
        }
    }
}

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// How long and with which seed: what the environment says, or a little.
fn run_as_asked(route: Route) {
    let number = |name: &str| {
        let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
        Some(
            text.parse::<u64>()
                .unwrap_or_else(|err| panic!("{name}={text}: {err}")),
        )
    };
    let time = match (number("MINUTES"), number("SECONDS_EACH")) {
        (Some(minutes), _) => Duration::from_secs(60 * minutes),
        (None, Some(seconds)) => Duration::from_secs(seconds),
        (None, None) => Duration::from_secs(40),
    };
    let seed = number("SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_secs()
    });
    run(route, seed, time);
}

#[test]
fn what_is_here_is_kept_the_same_whatever_befalls() {
    needs!(Mount);
    run_as_asked(Route::Local);
}

#[test]
fn what_is_pushed_is_kept_the_same_whatever_befalls() {
    needs!(Mount);
    run_as_asked(Route::Push);
}

#[test]
fn what_is_pulled_is_kept_the_same_whatever_befalls() {
    needs!(Mount);
    run_as_asked(Route::Pull);
}
