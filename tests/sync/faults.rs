//! When something is wrong: unreadable, full, read-only, locked, unreachable, or still changing.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::dump::Dump;
use crate::common::lab::{FAR, Lab, Route, text_of};
use crate::common::meanwhile::meanwhile;
use crate::common::prerequisites::{Tmpfs, need};
use crate::common::run::{Outcome, Running};
use crate::common::tree::Noise;
use crate::needs;

/// An unprivileged user that every Linux has.
const NOBODY: u32 = 65534;

#[test]
fn an_unreadable_file_fails_alone() {
    needs!(Root);
    let lab = Lab::with_source("f a 'x'\n f locked 'secret' 0600\n f sub/b 'y'\n f z 'z'");
    lab.destination("d . 65534:65534");
    let outcome = lab.sync(&["--json"]).by_user(&lab, NOBODY).code(3);
    outcome.says("locked").says("ermission denied");
    assert_eq!(outcome.count("problems"), 1, "{outcome}");
    assert_eq!(Dump::of(&lab.dst).paths(), ["a", "sub", "sub/b", "z"]);
}

#[test]
fn an_unreadable_directory_fails_alone() {
    needs!(Root);
    let lab = Lab::with_source("f a 'x'\n f locked/b 'y'\n f z 'z'\n m locked 0700");
    lab.destination("d . 65534:65534");
    lab.sync(&[]).by_user(&lab, NOBODY).code(3).says("locked");
    let paths = Dump::of(&lab.dst);
    assert!(
        paths.paths().contains(&"a") && paths.paths().contains(&"z"),
        "{paths:?}"
    );
}

#[test]
fn a_new_unreadable_directory_is_reported_once() {
    needs!(Root);
    for route in [Route::Local, Route::Push] {
        let lab = Lab::with_source("f a 'x'\n f new/locked/b 'y'\n m new/locked 0700");
        // With something to compare, the source scans before it sends what is new.
        for before in ["d . 65534:65534", "f a 'y' @5\n m . 65534:65534"] {
            lab.destination(before);
            let run = lab.sync_via(route, &["--json"]).by_user(&lab, NOBODY);
            let outcome = run.code(3);
            assert_eq!(outcome.count("problems"), 1, "{route:?}: {outcome}");
            let told = outcome.stdout.matches(r#""event":"problem""#).count();
            assert_eq!(told, 1, "{route:?}: {outcome}");
            assert!(lab.dst.join("new/locked").is_dir());
            fs::remove_dir_all(&lab.dst).unwrap();
        }
    }
}

#[test]
fn a_directory_that_cannot_be_written_fails_alone() {
    needs!(Root);
    let lab = Lab::with_source("f a 'x'\n f foreign/b 'y'\n f z 'z'");
    lab.destination("d foreign 0755 0:0\n m . 65534:65534");
    lab.sync(&[]).by_user(&lab, NOBODY).code(3).says("foreign");
    assert_eq!(Dump::of(&lab.dst).paths(), ["a", "foreign", "z"]);
}

#[test]
fn a_full_disk_leaves_old_files_intact_and_a_later_run_finishes() {
    needs!(Mount);
    for route in [Route::Local, Route::Push] {
        let lab = Lab::with_source("f a-old random(2M) @5");
        let mounted = Tmpfs::mount(&lab.dst, "size=8m");
        lab.sync_via(route, &[]).ok();
        let old = fs::read(lab.dst.join("a-old")).unwrap();
        lab.source("f a-old random(3M) @6\n f big random(16M) @5\n f small 'x' @5");
        let full = lab.sync_via(route, &[]).code(3);
        full.says("at the destination: No space left");
        let now = fs::read(lab.dst.join("a-old")).unwrap();
        let is_new = now == fs::read(lab.src.join("a-old")).unwrap();
        assert!(now == old || is_new, "a file was torn by {route:?}");
        assert!(!lab.dst.join("big").exists());
        mounted.remount("size=64m");
        lab.sync_via(route, &[]).ok();
        lab.assert_synced();
    }
}

#[test]
fn a_read_only_destination_fails_and_says_so() {
    needs!(Mount);
    let lab = Lab::with_source("f a 'x'");
    let mounted = Tmpfs::mount(&lab.dst, "size=1m");
    mounted.remount("ro");
    lab.sync(&[]).code(3).says("ead-only file system");
    lab.sync_via(Route::Push, &[])
        .code(3)
        .says("ead-only file system");
}

#[test]
fn a_destination_without_inodes_is_a_full_disk() {
    needs!(Mount);
    let lab = Lab::with_source("f a 'x'\n f b 'y'\n f c 'z'\n f d 'w'\n f e 'v'");
    let _mounted = Tmpfs::mount(&lab.dst, "size=1m,nr_inodes=4");
    lab.sync(&[]).code(3).says("o space left");
    let dump = Dump::of(&lab.dst);
    assert!(dump.paths().iter().all(|path| path.len() == 1), "{dump:?}");
}

/// Starts a sync of one big file that takes long, and waits until it writes.
fn a_slow_run(lab: &Lab) -> Running {
    lab.source("f big random(8M)\n f a 'x'");
    let mut running = lab.sync(&["--bwlimit", "200K"]).spawn();
    let has_begun = || fs::read_dir(&lab.dst).is_ok_and(|mut found| found.next().is_some());
    running.wait_until("something was written", has_begun);
    running
}

#[test]
fn a_second_run_on_the_same_destination_is_locked_out() {
    let lab = Lab::new();
    let running = a_slow_run(&lab);
    lab.sync(&[]).code(7);
    lab.sync(&["-n"]).code(7);
    lab.between("diff", &[]).code(7);
    lab.between("verify", &[]).code(7);
    lab.cutover(["manifest".as_ref(), lab.dst.as_os_str()])
        .current_dir(&lab.path("."))
        .code(7);
    running.kill();
    // A dead run's lock is no lock.
    lab.sync(&[]).ok();
    lab.assert_synced();
}

#[test]
fn an_interrupted_run_says_so_and_stops_soon() {
    for signal in [Signal::INT, Signal::TERM] {
        let lab = Lab::new();
        let running = a_slow_run(&lab);
        running.signal(signal);
        let outcome = running.limit(Duration::from_secs(10)).wait();
        assert_eq!(outcome.status.code(), Some(130), "{outcome}");
        lab.sync(&[]).ok();
        lab.assert_synced();
    }
}

/// Starts runs whose ends hash a hole for minutes, ends each with `stop`, and fails unless all is
/// over soon.
fn stop_in_a_huge_hole(stop: impl Fn(Running)) {
    for (route, old) in [
        (Route::Push, ""),
        (Route::Pull, ""),
        // Then the destination hashes its old version first.
        (Route::Push, "f huge 'x' hole(4T) @5"),
        (Route::Pull, "f huge 'x' hole(4T) @5"),
    ] {
        let lab = Lab::with_source("f huge 'new' hole(4T)");
        lab.destination(old);
        let mut running = lab.sync_via(route, &[]).spawn();
        running.wait_until("the far side was started", || !lab.far_pids().is_empty());
        std::thread::sleep(Duration::from_millis(500));
        let start = Instant::now();
        stop(running);
        lab.wait_for_agents_to_end();
        let took = start.elapsed();
        assert!(took < Duration::from_secs(2), "{route:?} took {took:?}");
    }
}

#[test]
fn a_huge_hole_is_interrupted_soon_on_both_ends() {
    stop_in_a_huge_hole(|running| {
        running.signal(Signal::INT);
        let outcome = running.wait();
        assert_eq!(outcome.status.code(), Some(130), "{outcome}");
    });
}

#[test]
fn an_agent_does_not_hash_a_huge_hole_for_nobody() {
    stop_in_a_huge_hole(Running::kill_alone);
}

#[test]
fn an_interrupt_is_no_fault_of_the_file_at_hand() {
    // Seconds of hashing.
    let lab = Lab::with_source("f big hole(16384M)");
    lab.destination("d .");
    let running = lab.between("verify", &[]).spawn();
    std::thread::sleep(Duration::from_millis(300));
    running.signal(Signal::INT);
    let outcome = running.limit(Duration::from_secs(10)).wait();
    assert_eq!(outcome.status.code(), Some(130), "{outcome}");
    assert!(!outcome.stderr.contains("cannot"), "{outcome}");
}

#[test]
fn a_refused_connection_is_told_apart() {
    need("ssh");
    let lab = Lab::with_source("f a 'x'");
    let destination = format!("127.0.0.1:{}", lab.dst.display());
    // Nothing listens on the port of the TCP multiplexer anywhere.
    lab.cutover(["sync", "--ssh-option", "-oPort=1"])
        .args([lab.src.as_os_str(), destination.as_ref()])
        .code(6)
        .says("127.0.0.1");
}

/// Syncs to a far side that is reached with `command`.
fn sync_through(lab: &Lab, command: &str) -> Outcome {
    lab.cutover(["sync", "-e", command])
        .args(Route::Push.endpoints(FAR, &lab.src, &lab.dst))
        .code(6)
}

#[test]
fn a_transport_that_cannot_be_started_is_a_connection_error() {
    let lab = Lab::with_source("f a 'x'");
    sync_through(&lab, "/no/such/command").says("/no/such/command");
    sync_through(&lab, "false");
}

#[test]
fn a_far_side_that_talks_nonsense_is_a_connection_error() {
    let lab = Lab::with_source("f a 'x'");
    for text in [
        "Welcome to this machine",
        "",
        "0123456789012345678901234567890123456789",
    ] {
        let script = lab.path("banner");
        fs::write(&script, format!("#!/bin/sh\necho '{text}'\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&script, mode).unwrap();
        sync_through(&lab, script.to_str().unwrap());
        assert!(!lab.dst.exists());
    }
}

/// Runs `sync` while `work` is done over and over, with a fresh number each time.
fn sync_during(lab: &Lab, options: &[&str], work: impl Fn(u64) + Sync) -> Outcome {
    let work = |round| {
        work(round);
        // Leaves a processor to the run.
        std::thread::sleep(Duration::from_micros(200));
    };
    meanwhile(work, || lab.sync(options).run())
}

#[test]
fn a_file_that_never_holds_still_is_churn_and_the_rest_arrives() {
    let lab = Lab::with_source("f growing random(16M)\n f quiet 'x'\n f sub/quiet 'y'");
    let path = lab.src.join("growing");
    let file = File::options().append(true).open(path).unwrap();
    let outcome = sync_during(&lab, &["--json"], |_| (&file).write_all(b"more\n").unwrap());
    assert_eq!(outcome.status.code(), Some(4), "{outcome}");
    outcome.says("growing");
    assert_eq!(outcome.count("churn"), 1, "{outcome}");
    assert_eq!(text_of(&lab.dst.join("sub/quiet")), "y");
    lab.sync(&[]).ok();
    lab.assert_synced();
}

#[test]
fn files_that_come_and_go_are_no_failure() {
    let text: String = (0..300).map(|n| format!("f dir/{n} 'x'\n")).collect();
    let lab = Lab::with_source(&text);
    for _ in 0..5 {
        let outcome = sync_during(&lab, &["--delete"], |round| {
            let name = lab.src.join(format!("dir/temporary-{}", round % 20));
            fs::write(&name, b"short-lived").unwrap();
            if round % 2 == 1 {
                fs::remove_file(name).unwrap();
            }
        });
        assert!(
            [Some(0), Some(4)].contains(&outcome.status.code()),
            "{outcome}"
        );
    }
    lab.sync(&["--delete"]).ok();
    lab.assert_synced();
}

#[test]
fn directories_that_are_renamed_meanwhile_are_churn_at_most() {
    let text: String = (0..400)
        .map(|n| format!("f dir/{n}/a 'x'\n f dir/{n}/b/c 'y'\n"))
        .collect();
    for route in [Route::Local, Route::Push] {
        let lab = Lab::with_source(&text);
        let rename = |round: u64| {
            let (name, other) = (round / 2 % 400, round / 2 % 400 + 1000);
            let (name, other) = match round % 2 {
                0 => (name, other),
                _ => (other, name),
            };
            let of = |name| lab.src.join(format!("dir/{name}"));
            fs::rename(of(name), of(other)).unwrap();
        };
        // The first run streams, the others compare.
        for _ in 0..3 {
            let outcome = meanwhile(rename, || lab.sync_via(route, &["--delete"]).run());
            let code = outcome.status.code();
            assert!([Some(0), Some(4)].contains(&code), "{outcome}");
            // What a broken-off round has left under its other name.
            for name in 0..400 {
                let of = |name: u64| lab.src.join(format!("dir/{name}"));
                if !of(name).exists() {
                    fs::rename(of(name + 1000), of(name)).unwrap();
                }
            }
        }
        lab.sync_via(route, &["--delete"]).ok();
        lab.assert_synced();
    }
}

#[test]
fn a_database_that_is_written_never_shows_half_under_its_name() {
    const PAGE: u64 = 4096;
    let lab = Lab::with_source("f state.db 'SQLite format 3\\x00' random(8M)\n f state.db-wal 'x'");
    let path = lab.src.join("state.db");
    let size = fs::metadata(&path).unwrap().len();
    let file = File::options().write(true).open(&path).unwrap();
    let copy = lab.dst.join("state.db");
    for _ in 0..5 {
        let outcome = sync_during(&lab, &[], |round| {
            let page = Noise::seeded(&round.to_le_bytes()).bytes(PAGE);
            file.write_all_at(&page, (round * 37 % (size / PAGE)) * PAGE)
                .unwrap();
            if let Ok(meta) = fs::metadata(&copy) {
                assert_eq!(meta.len(), size, "half a database has its name");
            }
        });
        assert!(
            [Some(0), Some(4)].contains(&outcome.status.code()),
            "{outcome}"
        );
    }
    lab.sync(&[]).ok();
    lab.assert_synced();
}
