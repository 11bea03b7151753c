//! Moments in which a watch can miss something, each brought about on purpose. No rescan helps: the
//! next one would be in an hour.

use std::ffi::OsString;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::lab::{Lab, Route};
use crate::common::prerequisites::need;
use crate::common::tree::tree;
use crate::needs;
use crate::standby::Standby;

#[test]
fn more_changes_than_the_kernel_keeps_lose_nothing() {
    let mut standby = Standby::here("d d/e/f\n f d/x 'text'", &[]);
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: u64 = limit.trim().parse().unwrap();
    if limit > 50_000 {
        eprintln!("skipped: the kernel's limit makes it no test");
        return;
    }
    standby.run().signal(Signal::STOP);
    let deep = standby.lab.src.join("d/e/f");
    // Each is two events at least: it comes, and it goes.
    for number in 0..=limit / 2 {
        let path = deep.join(number.to_string());
        fs::create_dir(&path).unwrap();
        fs::remove_dir(path).unwrap();
    }
    // Of these the kernel tells nothing any more.
    fs::write(standby.lab.src.join("d/x"), "later").unwrap();
    tree(&standby.lab.src, "f new/y 'later'\n f d/e/z 'later'");
    standby.run().signal(Signal::CONT);
    standby.wait_for("it overflows", |status| status["totals"]["overflows"] != 0);
    standby.settle();
    standby.assert_same();
    assert_eq!(standby.told("overflowed").len(), 1);
    // What came meanwhile is marked.
    fs::write(standby.lab.src.join("new/more"), "x").unwrap();
    standby.settle();
    standby.assert_same();
    standby.stop();
}

/// What a mirror is run by whose listings are kept waiting for a while once they are read.
fn with_slow_listings(lab: &Lab) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["strace", "-f", "-y", "-e", "trace=getdents64", "-e"]
        .map(OsString::from)
        .into();
    words.push("inject=getdents64:delay_exit=150000".into());
    words.push("-o".into());
    words.push(lab.path("strace").into());
    words
}

/// Waits until some thread of the mirror has read what is in the directory and does not know it yet.
fn wait_until_listed(standby: &Standby, dir: &str) {
    let began = Instant::now();
    let needle = format!("{}>", standby.lab.src.join(dir).display());
    loop {
        let log = fs::read_to_string(standby.lab.path("strace")).unwrap_or_default();
        if log.lines().any(|line| line.contains(&needle)) {
            return;
        }
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{dir} is not listed:\n{log}"
        );
        thread::sleep(Duration::from_millis(2));
    }
}

/// Fails when a directory is marked after it is listed.
#[test]
fn a_change_between_mark_and_scan_is_not_missed() {
    need("strace");
    let lab = Lab::with_source("f d/a 'text' @5\n m d @6\n m . @7");
    lab.destination("f d/a 'text' @5\n m d @6\n m . @7");
    let mut standby = Standby::new(lab, Route::Local, &[]);
    standby.wrapper = with_slow_listings(&standby.lab);
    standby.start();
    wait_until_listed(&standby, "d");
    fs::write(standby.lab.src.join("d/meanwhile"), "x").unwrap();
    standby.settle();
    standby.assert_same();
    standby.kill();
}

#[test]
fn a_directory_that_is_moved_in_while_it_is_marked_is_not_missed() {
    need("strace");
    let lab = Lab::with_source("d d");
    tree(&lab.path("outside"), "f a/x 'text'\n f b/y 'text'\n d c");
    let mut standby = Standby::new(lab, Route::Local, &[]);
    standby.wrapper = with_slow_listings(&standby.lab);
    standby.start();
    standby.settle();
    let at = |name: &str| standby.lab.src.join(name);
    fs::rename(standby.lab.path("outside"), at("d/in")).unwrap();
    wait_until_listed(&standby, "d/in");
    // The mirror is at the first of its directories.
    fs::write(at("d/in/c/meanwhile"), "x").unwrap();
    fs::rename(at("d/in/b"), at("d/b")).unwrap();
    fs::create_dir(at("d/in/new")).unwrap();
    fs::write(at("d/in/new/file"), "x").unwrap();
    standby.settle();
    standby.assert_same();
    for file in ["d/b/later", "d/in/new/later", "d/in/c/later"] {
        fs::write(standby.lab.src.join(file), "x").unwrap();
    }
    standby.settle();
    standby.assert_same();
    standby.kill();
}

#[test]
fn more_directories_than_may_be_watched_are_read_by_the_interval() {
    needs!(Root);
    need("unshare");
    let lab = Lab::with_source("f a/x '1'\n f b/x '1'\n f c/x '1'\n f d/x '1'\n f e/x '1'");
    let mut standby = Standby::new(lab, Route::Local, &["--rescan=1s"]);
    // In a namespace of its own, so that no other process meets the limit.
    let script = "echo 3 > /proc/sys/user/max_inotify_watches && exec \"$@\"";
    standby.wrapper = ["unshare", "-Ur", "sh", "-c", script, "sh"]
        .map(OsString::from)
        .into();
    standby.start();
    let status = standby.wait_for("it reads by the interval", |status| {
        Standby::is_settled(status) && status["watch"]["means"] == "interval"
    });
    assert_eq!(status["state"], "watching");
    let said = standby.log();
    assert!(
        said.contains("sysctl fs.inotify.max_user_watches="),
        "{said}"
    );
    for dir in ["a", "e"] {
        fs::write(standby.lab.src.join(dir).join("later"), "x").unwrap();
    }
    let later = ["a/later", "e/later"].map(|name| standby.lab.dst.join(name));
    standby.wait_for("they arrive", |_| later.iter().all(|path| path.exists()));
    standby.settle();
    standby.assert_same();
    standby.stop();
}
