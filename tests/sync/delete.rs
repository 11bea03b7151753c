//! Deletion: what goes, what never goes, what stops it, and where it goes instead.

use std::fs;

use crate::common::dump::Dump;
use crate::common::lab::{FAR, Lab, Route, text_of};
use crate::common::prerequisites::Tmpfs;
use crate::needs;

/// A tree of `count` small files.
fn files(prefix: &str, count: usize) -> String {
    (0..count)
        .map(|n| format!("f {prefix}{n} '{prefix}{n}' @5\n"))
        .collect()
}

#[test]
fn nothing_is_deleted_without_being_asked() {
    let lab = Lab::with_source("f a 'x'");
    lab.destination("f old/file 'stays'\n f b 'stays'");
    let outcome = lab.sync(&["--json"]).ok();
    assert_eq!(text_of(&lab.dst.join("old/file")), "stays");
    assert_eq!(outcome.count("deleted"), 0);
    // `old`, `old/file` and `b`.
    assert_eq!(outcome.count("extraneous"), 3, "{outcome}");
}

#[test]
fn delete_makes_a_mirror() {
    for route in Route::ALL {
        let lab = Lab::with_source("f a 'x'\n f sub/b 'y'");
        lab.destination("f old/deep/file 'old'\n f sub/c 'older'\n l link -> a\n d empty\n p fifo");
        let outcome = lab.sync_via(route, &["--delete", "--json"]).ok();
        lab.assert_synced();
        assert_eq!(outcome.count("deleted"), 7, "by {route:?}:\n{outcome}");
    }
}

#[test]
fn a_deleted_symlink_leaves_what_it_points_to() {
    let lab = Lab::with_source("f a 'x'");
    fs::create_dir(lab.path("outside")).unwrap();
    fs::write(lab.path("outside/precious"), "precious").unwrap();
    lab.destination("l link -> ../outside");
    lab.sync(&["--delete"]).ok();
    lab.assert_synced();
    assert_eq!(text_of(&lab.path("outside/precious")), "precious");
}

#[test]
fn a_read_only_directory_is_deleted_with_what_it_holds() {
    let lab = Lab::with_source("f a 'x'");
    lab.destination("f old/sub/file 'x'\n m old/sub 0555\n m old 0555");
    lab.sync(&["--delete"]).ok();
    lab.assert_synced();
}

#[track_caller]
fn assert_refused_untouched(lab: &Lab, options: &[&str]) {
    let before = Dump::of(&lab.dst);
    lab.sync(options).code(5).says("refused");
    assert_eq!(before, Dump::of(&lab.dst));
}

#[test]
fn an_empty_source_deletes_nothing() {
    let lab = Lab::with_source("d .");
    lab.destination("f a 'x'");
    assert_refused_untouched(&lab, &["--delete"]);
    let refused = lab.sync(&["--delete"]).code(5);
    refused.says("1 entry of the destination would be deleted, but the source is empty");
}

#[test]
fn nested_paths_are_refused_both_ways() {
    let mut lab = Lab::with_source("f a 'x'\n f sub/b 'y'\n f sub/c 'z'");
    let outer = lab.src.clone();
    lab.dst = outer.join("sub");
    assert_refused_untouched(&lab, &["--delete"]);
    (lab.src, lab.dst) = (outer.join("sub"), outer);
    assert_refused_untouched(&lab, &["--delete"]);
}

#[test]
fn nested_paths_are_seen_through_symlinks() {
    let mut lab = Lab::with_source("f a 'x'\n f sub/b 'y'");
    std::os::unix::fs::symlink(lab.src.join("sub"), lab.path("alias")).unwrap();
    lab.dst = lab.path("alias");
    assert_refused_untouched(&lab, &["--delete"]);
}

#[test]
fn a_tree_is_not_synced_onto_itself() {
    let mut lab = Lab::with_source("f a 'x'");
    lab.dst = lab.src.clone();
    assert_refused_untouched(&lab, &["--delete"]);
}

#[test]
fn most_of_a_large_destination_does_not_go_unasked() {
    let lab = Lab::with_source(&files("kept-", 60));
    lab.destination(&files("kept-", 60));
    lab.destination(&files("old-", 140));
    assert_refused_untouched(&lab, &["--delete"]);
    lab.sync(&["--delete", "--max-delete", "140"]).ok();
    lab.assert_synced();
}

#[test]
fn most_of_a_small_destination_may_go() {
    let lab = Lab::with_source(&files("kept-", 2));
    lab.destination(&files("old-", 90));
    lab.sync(&["--delete"]).ok();
    lab.assert_synced();
}

#[test]
fn a_limit_by_number_is_kept() {
    let lab = Lab::with_source(&files("kept-", 30));
    lab.destination(&files("old-", 11));
    assert_refused_untouched(&lab, &["--delete", "--max-delete", "10"]);
    lab.sync(&["--delete", "--max-delete", "11"]).ok();
    lab.assert_synced();
}

#[test]
fn a_limit_by_share_is_kept() {
    let lab = Lab::with_source(&files("kept-", 50));
    lab.destination(&files("kept-", 50));
    lab.destination(&files("old-", 50));
    assert_refused_untouched(&lab, &["--delete", "--max-delete", "40%"]);
    lab.sync(&["--delete", "--max-delete", "60%"]).ok();
    lab.assert_synced();
}

#[test]
fn read_errors_at_the_source_stop_deletion() {
    needs!(Root);
    let lab = Lab::with_source("f a 'x'\n f locked/file 'x'\n m locked 0700");
    lab.destination("f a 'x'\n f locked/file 'x'\n f old 'stays'\n m . 65534:65534");
    let outcome = lab.sync(&["--delete"]).by_user(&lab, 65534).run();
    assert!(
        [Some(3), Some(5)].contains(&outcome.status.code()),
        "{outcome}"
    );
    assert_eq!(text_of(&lab.dst.join("locked/file")), "x");
    assert_eq!(text_of(&lab.dst.join("old")), "stays");
}

#[test]
fn a_file_that_cannot_be_read_does_not_lose_its_old_name() {
    needs!(Root);
    for route in [Route::Local, Route::Push] {
        let lab = Lab::with_source("f renamed 'x' 0600\n f a 'x'");
        lab.destination("f old-name 'x'\n m . 65534:65534");
        let run = lab.sync_via(route, &["--delete"]).by_user(&lab, 65534);
        let outcome = run.code(3);
        assert_eq!(text_of(&lab.dst.join("old-name")), "x", "{outcome}");
        outcome.says("nothing is deleted");
    }
}

#[test]
fn a_source_that_is_no_longer_mounted_deletes_nothing() {
    needs!(Mount);
    let lab = Lab::with_source("d .");
    let mounted = Tmpfs::mount(&lab.src, "size=1m");
    lab.source("f a 'x'\n f b 'y'");
    lab.sync(&["--delete"]).ok();
    drop(mounted);
    // Not empty: what lay beneath the mount point shows.
    lab.source("f placeholder 'not mounted'");
    assert_refused_untouched(&lab, &["--delete"]);
}

#[test]
fn trash_keeps_what_was_deleted_and_replaced() {
    let lab = Lab::with_source("f a 'new' @6");
    lab.destination("f a 'old' @5\n f gone/deep 'deleted' @5");
    lab.sync(&["--delete", "--trash"]).ok();
    let trash = lab.dst.join(".cutover-trash");
    let kept = Dump::of(&trash);
    let holds = |end: &str| kept.paths().iter().any(|path| path.ends_with(end));
    assert!(holds("/a") && holds("/gone/deep"), "{:?}", kept.paths());
    lab.sync(&["--delete", "--trash"]).ok();
    assert_eq!(kept, Dump::of(&trash), "a later run touched the trash");
}

#[test]
fn trash_is_never_deleted_by_a_run_without_it() {
    let lab = Lab::with_source("f a 'x'");
    lab.destination("f gone 'deleted'");
    lab.sync(&["--delete", "--trash"]).ok();
    lab.sync(&["--delete"]).ok();
    assert!(lab.dst.join(".cutover-trash").is_dir());
}

#[test]
fn trash_can_be_elsewhere() {
    let lab = Lab::with_source("f a 'x'");
    lab.destination("f gone 'deleted'");
    let trash = lab.path("trash");
    lab.sync(&["--delete", &format!("--trash={}", trash.display())])
        .ok();
    lab.assert_synced();
    let kept = Dump::of(&trash);
    assert!(
        kept.paths().iter().any(|path| path.ends_with("/gone")),
        "{:?}",
        kept.paths()
    );
}

#[test]
fn backup_keeps_the_old_version_beside_the_new() {
    let lab = Lab::with_source("f a 'new' @6");
    lab.destination("f a 'old' @5");
    lab.sync(&["--backup"]).ok();
    assert_eq!(text_of(&lab.dst.join("a")), "new");
    assert_eq!(text_of(&lab.dst.join("a~")), "old");
    lab.source("f a 'newer' @7");
    lab.sync(&["--backup=.bak"]).ok();
    assert_eq!(text_of(&lab.dst.join("a.bak")), "new");
}

#[test]
fn what_is_excluded_is_never_deleted() {
    let lab = Lab::with_source("f a 'x'");
    lab.destination("f keep.log 'stays'\n f logs/today.log 'stays'\n f old 'goes'");
    lab.sync(&["--delete", "--exclude", "*.log"]).ok();
    assert_eq!(text_of(&lab.dst.join("keep.log")), "stays");
    assert_eq!(text_of(&lab.dst.join("logs/today.log")), "stays");
    assert!(!lab.dst.join("old").exists());
}

#[test]
fn delete_excluded_deletes_them_too() {
    let lab = Lab::with_source("f a 'x'\n f b.log 'x'");
    lab.destination("f b.log 'goes'\n f c.log 'goes'");
    lab.sync(&["--delete", "--delete-excluded", "--exclude", "*.log"])
        .ok();
    assert_eq!(Dump::of(&lab.dst).paths(), ["a"]);
}

#[test]
fn guards_hold_over_a_wire() {
    let lab = Lab::with_source("d .");
    lab.destination("f a 'x'");
    for route in [Route::Push, Route::Pull, Route::Relay] {
        lab.cutover(["sync", "--delete"])
            .args(lab.far_options())
            .args(route.endpoints(FAR, &lab.src, &lab.dst))
            .code(5);
        assert_eq!(text_of(&lab.dst.join("a")), "x");
    }
}

#[test]
fn a_directory_that_a_file_replaces_counts_as_deleted() {
    let lab = Lab::with_source("f old 'now a file'");
    lab.destination(&files("old/", 11));
    assert_refused_untouched(&lab, &["--delete", "--max-delete", "10"]);
    lab.sync(&["--delete", "--max-delete", "11"]).ok();
    lab.assert_synced();
}

#[test]
fn new_names_in_a_directory_that_replaced_a_file_need_no_trash() {
    let lab = Lab::with_source("f a 'x'\n f b 'y' @5");
    lab.sync(&[]).ok();
    lab.source("r a\n f a/b 'new'\n h a/c = b\n h a/d = a/b");
    lab.sync(&["--delete", "--trash"]).ok();
    let runs: Vec<_> = fs::read_dir(lab.dst.join(".cutover-trash"))
        .unwrap()
        .collect();
    assert_eq!(runs.len(), 1);
    let folder = runs[0].as_ref().unwrap().path();
    assert_eq!(text_of(&folder.join("a")), "x");
    assert_eq!(text_of(&lab.dst.join("a/d")), "new");
}

#[test]
fn changing_files_in_place_cannot_keep_old_versions() {
    let lab = Lab::with_source("f a 'new'");
    lab.destination("f a 'old'");
    for keep in ["--trash", "--backup"] {
        lab.sync(&["--inplace", keep]).code(2);
    }
    assert_eq!(text_of(&lab.dst.join("a")), "old");
}

#[test]
fn a_dry_run_shows_what_the_run_would_refuse() {
    let lab = Lab::with_source(&files("kept-", 1));
    lab.destination(&files("old-", 150));
    let outcome = lab.sync(&["-n", "-i", "--delete"]).code(5);
    assert!(
        outcome.items().contains(&"*deleting   old-149"),
        "{outcome}"
    );
}

#[test]
fn a_backup_that_is_the_file_itself_leaves_nothing_behind() {
    let lab = Lab::with_source("f a 'newer' @6");
    lab.destination("f a 'old' @5\n h a~ = a");
    lab.sync(&["--backup"]).ok();
    assert_eq!(text_of(&lab.dst.join("a")), "newer");
    assert_eq!(text_of(&lab.dst.join("a~")), "old");
    assert_eq!(Dump::of(&lab.dst).paths(), ["a", "a~"]);
}
