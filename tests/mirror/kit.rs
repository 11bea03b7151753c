//! The churner itself: a program that changes little, or cannot do the same twice, would prove
//! little.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::churner::{Bounds, Churner};
use crate::common::dump::{Dump, assert_same, assert_same_dumps};
use crate::common::lab::Lab;

const START: &str = "f a 'text' @5\n d dir @6\n f dir/b random(9000) @7\n l c -> a @8\n h d = a";

/// Two equal trees that one seed and another have changed so many times.
fn changed(seeds: [u64; 2], acts: u64) -> (Lab, [Churner; 2]) {
    let lab = Lab::new();
    lab.source(START);
    lab.destination(START);
    let [a, b] = seeds;
    let mut churners = [
        Churner::new(&lab.src, a, Bounds::default()),
        Churner::new(&lab.dst, b, Bounds::default()),
    ];
    for churner in &mut churners {
        churner.acts(acts);
    }
    (lab, churners)
}

fn dump(path: &Path) -> Dump {
    Dump::of(path).without("mtime")
}

#[test]
fn the_same_seed_makes_the_same_changes() {
    let (lab, [one, other]) = changed([7, 7], 600);
    assert_eq!(one.report(), other.report());
    assert_same_dumps(&dump(&lab.src), &dump(&lab.dst));
}

#[test]
fn another_seed_makes_other_changes() {
    let (lab, _) = changed([7, 8], 50);
    assert!(!dump(&lab.src).differences(&dump(&lab.dst)).is_empty());
}

#[test]
fn all_that_can_be_done_is_done_within_bounds() {
    let lab = Lab::with_source(START);
    let bounds = Bounds {
        entries: 300,
        bytes: 1 << 20,
        burst: 100,
    };
    let mut churner = Churner::new(&lab.src, 3, bounds);
    for _ in 0..30 {
        churner.acts(100);
        let count = Dump::of(&lab.src).paths().len();
        // One act may exceed them, and the next makes room.
        assert!(count < 2 * bounds.entries, "{count}\n{}", churner.report());
    }
    // All 27, and the two that make room.
    assert_eq!(churner.done().len(), 29, "{:?}", churner.done());
}

#[test]
fn a_report_tells_the_seed_and_the_last_acts() {
    let (_lab, [churner, _]) = changed([41, 42], 300);
    let report = churner.report();
    assert!(report.starts_with("seed 41, 300 acts"), "{report}");
    assert!(report.lines().last().unwrap().starts_with("  300 "));
    assert_eq!(report.lines().count(), 201);
}

#[test]
fn changes_go_on_for_a_given_time() {
    let lab = Lab::with_source(START);
    let mut churner = Churner::new(&lab.src, 9, Bounds::default());
    let (time, pause) = (Duration::from_millis(300), Duration::from_millis(10));
    let began = Instant::now();
    churner.churn_for(time, pause);
    assert!(began.elapsed() >= time);
    let acts: u64 = churner.done().values().sum();
    assert!(acts > 5, "{acts}");
}

#[test]
fn a_tree_that_others_change_too_is_no_fault() {
    let lab = Lab::with_source(START);
    let mut churner = Churner::new(&lab.src, 5, Bounds::default());
    for _ in 0..10 {
        churner.acts(20);
        for entry in std::fs::read_dir(&lab.src).unwrap().flatten().step_by(2) {
            let _ = std::fs::remove_file(entry.path());
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    churner.acts(20);
}

/// What the mirror is held against must itself hold for a churned tree.
#[test]
fn a_churned_tree_is_copied_by_a_trusted_tool_without_a_difference() {
    crate::common::prerequisites::need("rsync");
    let (lab, _) = changed([11, 12], 400);
    let status = Command::new("rsync")
        .args(["-aHAXS", "--numeric-ids", "--delete", "--modify-window=-1"])
        // Files of one size and time need not be one file.
        .arg("--checksum")
        .arg(lab.src.join(""))
        .arg(&lab.dst)
        .status();
    assert!(status.unwrap().success());
    assert_same(&lab.src, &lab.dst);
}
