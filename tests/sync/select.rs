//! Which entries take part: filters, sizes, filesystems.

use std::fs;

use crate::common::dump::Dump;
use crate::common::lab::{Lab, Route};
use crate::common::prerequisites::Tmpfs;
use crate::needs;

const WORKSPACE: &str = r"
    f a.txt 'x'
    f a.log 'x'
    f sub/b.txt 'x'
    f sub/b.log 'x'
    f cache/c 'x'
    f sub/cache/d 'x'
    f .git/config 'x'
";

/// Fails unless a sync of the workspace with `options` makes exactly these paths.
#[track_caller]
fn assert_selects(options: &[&str], expected: &[&str]) {
    for route in [Route::Local, Route::Push, Route::Pull] {
        let lab = Lab::with_source(WORKSPACE);
        lab.sync_via(route, options).ok();
        assert_eq!(
            Dump::of(&lab.dst).paths(),
            expected,
            "{options:?} by {route:?}"
        );
    }
}

#[test]
fn a_bare_pattern_excludes_at_any_depth() {
    assert_selects(
        &["--exclude", "*.log", "--exclude", "cache/"],
        &[".git", ".git/config", "a.txt", "sub", "sub/b.txt"],
    );
}

#[test]
fn a_leading_slash_anchors_at_the_root() {
    assert_selects(
        &[
            "--exclude",
            "/cache",
            "--exclude",
            "/b.txt",
            "--exclude",
            ".git",
        ],
        &[
            "a.log",
            "a.txt",
            "sub",
            "sub/b.log",
            "sub/b.txt",
            "sub/cache",
            "sub/cache/d",
        ],
    );
}

#[test]
fn the_first_match_wins() {
    assert_selects(
        &["--include", "/sub/", "--include", "b.*", "--exclude", "*"],
        &["sub", "sub/b.log", "sub/b.txt"],
    );
}

#[test]
fn two_stars_cross_directories() {
    assert_selects(
        &[
            "--exclude",
            "/sub/**",
            "--exclude",
            "/.git/***",
            "--exclude",
            "cache/***",
        ],
        &["a.log", "a.txt", "sub"],
    );
}

#[test]
fn patterns_come_from_a_file() {
    let lab = Lab::with_source(WORKSPACE);
    let list = lab.path("patterns");
    fs::write(&list, "# what can be built again\n*.log\n\ncache/\n.git/\n").unwrap();
    lab.sync(&["--exclude-from", list.to_str().unwrap()]).ok();
    assert_eq!(Dump::of(&lab.dst).paths(), ["a.txt", "sub", "sub/b.txt"]);
}

#[test]
fn filters_also_hold_on_the_second_run() {
    let lab = Lab::with_source(WORKSPACE);
    lab.sync(&["--exclude", "*.log"]).ok();
    lab.assert_settled(&["--exclude", "*.log"]);
    lab.sync(&[]).ok();
    lab.assert_synced();
}

#[test]
fn files_over_a_size_stay_out() {
    let lab = Lab::with_source("f big random(100K)\n f small random(1K)\n l link -> big");
    lab.sync(&["--max-size", "50K"]).ok();
    assert_eq!(Dump::of(&lab.dst).paths(), ["link", "small"]);
}

#[test]
fn files_under_a_size_stay_out() {
    let lab = Lab::with_source("f big random(100K)\n f small random(1K)");
    lab.sync(&["--min-size", "50K"]).ok();
    assert_eq!(Dump::of(&lab.dst).paths(), ["big"]);
}

#[test]
fn a_mounted_filesystem_is_left_out_when_asked() {
    needs!(Mount);
    let lab = Lab::with_source("f a 'x'");
    let point = lab.src.join("mounted");
    let _mounted = Tmpfs::mount(&point, "size=1m");
    lab.source("f mounted/inside 'x'");
    lab.sync(&["--one-file-system"]).ok();
    // The mount point is an entry of the outer filesystem.
    assert_eq!(Dump::of(&lab.dst).paths(), ["a", "mounted"]);
    lab.sync(&[]).ok();
    lab.assert_synced();
}

#[test]
fn what_is_on_another_filesystem_is_not_deleted() {
    needs!(Mount);
    let lab = Lab::with_source("f a 'x'\n d mounted");
    lab.destination("d mounted");
    let point = lab.dst.join("mounted");
    let _mounted = Tmpfs::mount(&point, "size=1m");
    lab.destination("f mounted/inside 'stays'");
    lab.sync(&["--one-file-system", "--delete"]).ok();
    assert!(point.join("inside").exists());
}

#[test]
fn a_mounted_filesystem_stays_out_of_later_runs() {
    needs!(Mount);
    let lab = Lab::with_source("f a 'x'");
    let point = lab.src.join("mounted");
    let _mounted = Tmpfs::mount(&point, "size=1m");
    lab.source("f mounted/inside 'x'");
    let options = ["--one-file-system", "--delete"];
    lab.sync(&options).ok();
    lab.assert_settled(&options);
    lab.source("f b 'x'");
    fs::remove_dir(lab.dst.join("mounted")).unwrap();
    lab.sync(&options).ok();
    assert_eq!(Dump::of(&lab.dst).paths(), ["a", "b", "mounted"]);
    lab.destination("f mounted/own 'stays'");
    lab.sync(&options).ok();
    assert!(lab.dst.join("mounted/own").exists());
}
