//! Power cuts: either side is killed at random moments, over and over. Under a live name there
//! is always one whole version, and one more run makes what a clean run makes.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::dump::{Dump, assert_same_dumps};
use crate::common::lab::{Lab, Route};
use crate::common::meanwhile::meanwhile;
use crate::common::tree::Noise;

/// How often a run is killed. `make soak` asks for the long test.
fn rounds() -> u64 {
    if std::env::var_os("CUTOVER_SOAK").is_some() {
        200
    } else {
        20
    }
}

/// Who dies.
#[derive(Clone, Copy)]
enum Victim {
    /// The run itself.
    Command,
    /// The agent on the far side.
    Agent,
}

/// Content that proves to be whole: its length and its version are in its first line, and all
/// that follows is made from them.
fn story(version: u64, size: u64) -> Vec<u8> {
    let mut bytes = format!("{version} {size}\n").into_bytes();
    bytes.extend(Noise::seeded(&version.to_le_bytes()).bytes(size));
    bytes
}

fn is_whole(bytes: &[u8]) -> bool {
    let tell = || {
        let line = bytes.split(|&byte| byte == b'\n').next()?;
        let (version, size) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        Some(story(version.parse().ok()?, size.parse().ok()?))
    };
    tell().is_some_and(|whole| whole == bytes)
}

/// What the source holds in a given version: some files change, some move, some come and go.
fn write_version(src: &Path, version: u64) {
    let _ = fs::remove_dir_all(src);
    let write = |path: String, version: u64, size: u64| {
        let path = src.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, story(version, size)).unwrap();
    };
    for n in 0..60 {
        // A third of them stays as it is.
        let changes = if n % 3 == 0 { 0 } else { version };
        write(format!("files/{:02}/{n}", n % 7), changes, 200 * n);
    }
    write("big".into(), version, 3 << 20);
    write(format!("moving-{}/file", version % 2), 0, 400_000);
    write(format!("only-in-{version}/file"), version, 5000);
    fs::hard_link(src.join("big"), src.join("files/big-too")).unwrap();
}

/// Whether a name is one of the source's, in any version.
fn is_live(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    !name.starts_with(b".")
}

/// Looks at the destination as a reader would: a file with a live name has a whole content.
fn assert_none_torn(dst: &Path, seed: u64) {
    let walk = walkdir::WalkDir::new(dst)
        .into_iter()
        .filter_map(Result::ok);
    for entry in walk.filter(|entry| entry.file_type().is_file() && is_live(entry.path())) {
        // It may have been replaced or deleted since it was listed.
        let is_torn = fs::read(entry.path()).is_ok_and(|bytes| !is_whole(&bytes));
        assert!(!is_torn, "seed {seed}: {:?} is torn", entry.path());
    }
}

fn survives_kills(route: Route, victim: Victim) {
    let lab = Lab::new();
    let options = ["--delete", "--max-delete", "100%"];
    write_version(&lab.src, 0);
    let start = Instant::now();
    lab.sync_via(route, &options).ok();
    let clean_run = start.elapsed();
    let seed = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let mut random = Noise::seeded(&seed.to_le_bytes());
    let look = |_| {
        assert_none_torn(&lab.dst, seed);
        // Leaves a processor to the run.
        std::thread::sleep(Duration::from_millis(5));
    };
    meanwhile(look, || {
        for round in 1..=rounds() {
            // Some rounds go on where the last was killed.
            if round % 3 == 1 {
                write_version(&lab.src, round);
            }
            let fuse = clean_run.mul_f64((random.number() % 1100) as f64 / 1000.0);
            kill_after(fuse, &lab, route, victim);
        }
    });
    assert_none_torn(&lab.dst, seed);
    lab.sync_via(route, &options).ok();
    assert_like_a_clean_run(&lab, seed);
}

fn kill_after(fuse: Duration, lab: &Lab, route: Route, victim: Victim) {
    let agents_before = lab.far_pids().len();
    let mut running = lab
        .sync_via(route, &["--delete", "--max-delete", "100%"])
        .spawn();
    std::thread::sleep(fuse);
    match victim {
        Victim::Command => {
            running.kill_alone();
            // An agent whose other end is gone goes too, and gives its lock back.
            lab.wait_for_agents_to_end();
        }
        Victim::Agent => {
            for pid in lab.far_pids().split_off(agents_before) {
                let pid = Pid::from_raw(pid as i32).unwrap();
                if !running.is_over() {
                    // It may be gone while the run is still finishing.
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            // It sees that its other end is dead, and does not hang.
            let outcome = running.wait();
            let code = outcome.status.code();
            assert!(matches!(code, Some(0 | 6)), "{outcome}");
        }
    }
}

/// Fails unless the destination is the source, with nothing left over, deletion or not.
fn assert_like_a_clean_run(lab: &Lab, seed: u64) {
    let (ours, theirs) = (Dump::of(&lab.src), Dump::of(&lab.dst));
    let leftover = theirs
        .paths()
        .into_iter()
        .find(|path| path.contains("/.") || path.starts_with('.'));
    assert_eq!(leftover, None, "seed {seed}: a leftover");
    assert_same_dumps(&ours, &theirs);
}

#[test]
fn a_killed_local_run_leaves_whole_files() {
    survives_kills(Route::Local, Victim::Command);
}

#[test]
fn a_killed_sender_leaves_whole_files() {
    survives_kills(Route::Push, Victim::Command);
}

#[test]
fn a_killed_receiver_leaves_whole_files() {
    survives_kills(Route::Push, Victim::Agent);
}

#[test]
fn a_killed_far_sender_leaves_whole_files() {
    survives_kills(Route::Pull, Victim::Agent);
}

#[test]
fn leftovers_are_swept_without_delete_too() {
    let lab = Lab::new();
    write_version(&lab.src, 0);
    for step in 1..6 {
        kill_after(
            Duration::from_millis(step * 15),
            &lab,
            Route::Local,
            Victim::Command,
        );
    }
    lab.sync(&[]).ok();
    assert_like_a_clean_run(&lab, 0);
}

#[test]
fn what_only_looks_like_a_leftover_is_left_alone() {
    let lab = Lab::with_source("f .big.a1B2c3 'x'\n f .cutoverrc 'mine'\n f .x.tmp 'mine'");
    lab.destination("f .other.Zz9Yy8 'not ours'\n f .cutover-notes 'not ours'");
    lab.sync(&[]).ok();
    for name in [".other.Zz9Yy8", ".cutover-notes"] {
        assert!(lab.dst.join(name).exists(), "{name} is gone");
    }
}

#[test]
fn an_interrupted_big_file_is_continued() {
    let lab = Lab::with_source("f big random(8M)");
    let mut running = lab.sync_via(Route::Push, &["--bwlimit", "4M"]).spawn();
    let mebibytes_written = || {
        let walk = walkdir::WalkDir::new(&lab.dst)
            .into_iter()
            .filter_map(Result::ok);
        let sizes = walk.filter_map(|entry| entry.metadata().ok());
        sizes
            .filter(|meta| meta.is_file())
            .map(|meta| meta.len() >> 20)
            .sum::<u64>()
    };
    running.wait_until("half of it was written", || mebibytes_written() >= 4);
    running.kill();
    let outcome = lab.sync_via(Route::Push, &["--json"]).ok();
    lab.assert_synced();
    assert!(outcome.count("literal_bytes") < 6 << 20, "{outcome}");
}

#[test]
fn a_story_proves_that_it_is_whole() {
    let whole = story(3, 1000);
    assert!(is_whole(&whole));
    assert!(!is_whole(&whole[..whole.len() - 1]));
    assert!(!is_whole(b""));
    let mut mixed = whole.clone();
    mixed[500..].copy_from_slice(&story(4, 1000)[500..]);
    assert!(!is_whole(&mixed));
}
