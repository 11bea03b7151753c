//! What was renamed at the source is renamed at the destination, not sent again.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::common::lab::{Lab, Route, text_of};
use crate::common::run::Outcome;

/// Syncs `before`, renames in the source, and syncs with `--delete` over a wire.
fn resync_after_renames(lab: &Lab, renames: &[(&str, &str)]) -> Outcome {
    lab.sync_via(Route::Push, &[]).ok();
    for (from, to) in renames {
        fs::create_dir_all(lab.src.join(to).parent().unwrap()).unwrap();
        fs::rename(lab.src.join(from), lab.src.join(to)).unwrap();
    }
    let outcome = lab.sync_via(Route::Push, &["--delete", "--json"]).ok();
    lab.assert_synced();
    outcome
}

fn a_project() -> Lab {
    let text: String = (0..40)
        .map(|n| format!("f project/src/{n} random(20K) @{n}.5\n"))
        .collect();
    Lab::with_source(&format!(
        "{text} f project/README 'read me' @7\n f other 'x'"
    ))
}

#[test]
fn a_renamed_directory_is_not_resent() {
    let lab = a_project();
    let inode = |path: &str| fs::metadata(lab.dst.join(path)).unwrap().ino();
    lab.sync_via(Route::Push, &[]).ok();
    let before = inode("project/src/7");
    let outcome = resync_after_renames(&lab, &[("project", "renamed")]);
    assert_eq!(outcome.count("literal_bytes"), 0, "{outcome}");
    assert!(outcome.count("moved") >= 1, "{outcome}");
    assert_eq!(before, inode("renamed/src/7"), "it was copied, not renamed");
}

#[test]
fn a_directory_moved_into_another_is_not_resent() {
    let lab = a_project();
    let outcome = resync_after_renames(&lab, &[("project/src", "archive/2024/src")]);
    assert_eq!(outcome.count("literal_bytes"), 0, "{outcome}");
}

#[test]
fn a_moved_file_is_not_resent() {
    let lab = a_project();
    let outcome = resync_after_renames(&lab, &[("project/src/5", "elsewhere/five")]);
    assert_eq!(outcome.count("literal_bytes"), 0, "{outcome}");
    assert!(outcome.count("moved") >= 1, "{outcome}");
}

#[test]
fn swapped_names_are_sorted_out() {
    let lab = Lab::with_source("f a random(50K) @5\n f b random(50K) @6\n f c/x 'x'\n f d/y 'y'");
    let swap = [
        ("a", "t"),
        ("b", "a"),
        ("t", "b"),
        ("c", "u"),
        ("d", "c"),
        ("u", "d"),
    ];
    resync_after_renames(&lab, &swap);
}

#[test]
fn a_directory_renamed_and_edited_sends_only_the_edit() {
    let lab = a_project();
    lab.sync_via(Route::Push, &[]).ok();
    fs::rename(lab.src.join("project"), lab.src.join("renamed")).unwrap();
    lab.source("f renamed/src/3 'edited' @99");
    let outcome = lab.sync_via(Route::Push, &["--delete", "--json"]).ok();
    lab.assert_synced();
    // The edited directory no longer has its old digest; its files are found one by one.
    assert!(outcome.count("literal_bytes") < 100, "{outcome}");
}

#[test]
fn a_move_is_not_trusted_when_the_destination_was_meddled_with() {
    let lab = Lab::with_source("f dir/a 'one' @5\n f dir/b 'two' @5");
    lab.sync_via(Route::Push, &[]).ok();
    lab.destination("f dir/a 'ONE' @6");
    fs::rename(lab.src.join("dir"), lab.src.join("moved")).unwrap();
    lab.sync_via(Route::Push, &["--delete"]).ok();
    lab.assert_synced();
}

#[test]
fn equal_size_and_time_do_not_make_two_files_one() {
    let lab = Lab::with_source("f a 'one' @5");
    lab.sync_via(Route::Push, &[]).ok();
    lab.source("r a\n f b 'two' @5");
    lab.sync_via(Route::Push, &["--delete"]).ok();
    lab.assert_synced();
}

#[test]
fn without_delete_the_old_name_stays() {
    let lab = a_project();
    lab.sync(&[]).ok();
    fs::rename(lab.src.join("project"), lab.src.join("renamed")).unwrap();
    lab.sync(&[]).ok();
    assert!(lab.dst.join("project/src/7").exists());
    fs::remove_dir_all(lab.dst.join("project")).unwrap();
    lab.source("m .");
    lab.sync(&[]).ok();
    lab.assert_synced();
}

#[test]
fn a_directory_and_a_file_that_swap_names_are_sorted_out() {
    let lab = Lab::with_source("f a/1 'one'\n f a/sub/2 'two'\n f b 'file'");
    resync_after_renames(&lab, &[("a", "t"), ("b", "a"), ("t", "b")]);
}

#[test]
fn a_copied_directory_is_taken_from_what_it_was() {
    let lab = Lab::with_source("f a/1 'one' @5\n f a/2 random(100K) @6\n l a/3 -> x");
    lab.sync(&[]).ok();
    lab.source("f b/1 'one' @5\n m a/2 @6\n r a/3\n d a/3\n f a/1 'changed' @9");
    fs::copy(lab.src.join("a/2"), lab.src.join("b/2")).unwrap();
    lab.source("m b/2 0644 @6\n l b/3 -> x");
    lab.sync(&["--delete"]).ok();
    lab.assert_synced();
}

#[test]
fn files_of_one_size_and_time_are_told_apart_by_content() {
    let files = |dir: &str, prefix: &str| -> String {
        (100..1100)
            .map(|n| format!("f {dir}/{prefix}{n} '{n}' @5\n"))
            .collect()
    };
    let lab = Lab::with_source(&files("old", "a"));
    lab.sync_via(Route::Push, &[]).ok();
    lab.source(&format!("r old\n{} f new/more 'x'", files("new", "b")));
    let all = ["--delete", "--max-delete", "100%", "--json"];
    let outcome = lab.sync_via(Route::Push, &all).ok();
    assert_eq!(outcome.count("moved"), 1000, "{outcome}");
    lab.assert_synced();
}

/// Renames logs as a rotation does: each one further, and a new one begun.
fn rotate(lab: &Lab, kept: u32) {
    let of = |n: u32| match n {
        0 => lab.src.join("logs/log"),
        _ => lab.src.join(format!("logs/log.{n}")),
    };
    for n in (0..kept).rev() {
        if of(n).exists() {
            fs::rename(of(n), of(n + 1)).unwrap();
        }
    }
    lab.source("f logs/log 'begun anew'");
}

#[test]
fn rotated_logs_are_not_resent() {
    for route in [Route::Local, Route::Push] {
        for options in [&["--json"][..], &["--json", "--delete"]] {
            let lab = Lab::with_source("f logs/log random(300K) @5");
            lab.sync_via(route, &[]).ok();
            for round in 1..5 {
                // Names that are new, names that are there, and in the end one that goes.
                rotate(&lab, 3);
                lab.source(&format!("m logs/log @{}", 100 + round));
                let outcome = lab.sync_via(route, options).ok();
                assert!(outcome.count("literal_bytes") <= 10, "{outcome}");
                assert_eq!(outcome.count("copied_locally"), round.min(3), "{outcome}");
                lab.assert_synced();
            }
        }
    }
}

#[test]
fn a_rotated_log_that_was_meddled_with_is_sent() {
    for route in [Route::Local, Route::Push] {
        let lab = Lab::with_source("f logs/log 'written by the source' @5");
        lab.sync_via(route, &[]).ok();
        lab.destination("f logs/log 'written by a meddler' @5");
        rotate(&lab, 3);
        lab.sync_via(route, &[]).ok();
        lab.assert_synced();
    }
}

#[test]
fn a_rotation_leaves_its_old_versions_in_the_trash() {
    let lab = Lab::with_source("f logs/log 'first' @5\n f logs/log.1 'before' @4");
    lab.sync_via(Route::Push, &[]).ok();
    rotate(&lab, 3);
    lab.sync_via(Route::Push, &["--delete", "--trash"]).ok();
    let trash = fs::read_dir(lab.dst.join(".cutover-trash")).unwrap();
    let run = trash.map(|run| run.unwrap().path()).next().unwrap();
    assert_eq!(text_of(&run.join("logs/log")), "first");
    assert_eq!(text_of(&run.join("logs/log.1")), "before");
    fs::remove_dir_all(lab.dst.join(".cutover-trash")).unwrap();
    lab.source("m . @9");
    lab.sync(&[]).ok();
    lab.assert_synced();
}

#[test]
fn files_that_change_places_are_sorted_out() {
    for options in [
        &[][..],
        &["--inplace"],
        &["--checksum"],
        &["--ignore-times"],
    ] {
        let lab = Lab::with_source(
            "f a random(50K) @5\n f b random(50K) @6\n f c random(50K) @7\n f d random(50K) @7
             f linked random(50K) @8\n h too = linked",
        );
        lab.sync_via(Route::Push, &[]).ok();
        let circle = [
            ("a", "t"),
            ("b", "a"),
            ("c", "b"),
            ("t", "c"),
            ("linked", "u"),
            ("d", "linked"),
            ("u", "d"),
        ];
        for (from, to) in circle {
            fs::rename(lab.src.join(from), lab.src.join(to)).unwrap();
        }
        lab.sync_via(Route::Push, options).ok();
        lab.assert_synced();
    }
}
