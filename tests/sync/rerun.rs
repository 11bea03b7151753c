//! Running again: what has not changed costs nothing, and lost or damaged state costs only time.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::common::dump::stamps;
use crate::common::lab::{Lab, Route, text_of};
use crate::common::tree::every_kind;

fn a_small_workspace() -> Lab {
    let text: String = (0..600)
        .map(|n| format!("f dir-{:02}/file-{n} 'content {n}' @{n}.5\n", n % 20))
        .collect();
    Lab::with_source(&text)
}

#[test]
fn a_second_run_touches_nothing() {
    let lab = a_small_workspace();
    lab.sync(&[]).ok();
    lab.assert_settled(&[]);
    lab.assert_settled(&["--delete"]);
}

#[test]
fn a_second_run_over_a_wire_costs_no_more_than_a_greeting() {
    for route in [Route::Push, Route::Pull] {
        let lab = a_small_workspace();
        lab.sync_via(route, &[]).ok();
        let before = stamps(&lab.dst);
        let outcome = lab.sync_via(route, &["--json"]).ok();
        outcome.assert_sent_nothing();
        assert_eq!(before, stamps(&lab.dst), "by {route:?}");
        let wire = outcome.count("wire_sent_bytes") + outcome.count("wire_received_bytes");
        assert!(wire < 4096, "{wire} bytes by {route:?}:\n{outcome}");
    }
}

#[test]
fn only_the_edited_file_is_sent() {
    let lab = a_small_workspace();
    lab.sync(&[]).ok();
    let before = stamps(&lab.dst);
    lab.source("f dir-07/file-7 'edited' @9999");
    let outcome = lab.sync(&["--json"]).ok();
    lab.assert_synced();
    assert_eq!(
        outcome.count("files_sent") + outcome.count("files_patched"),
        1,
        "{outcome}"
    );
    let after = stamps(&lab.dst);
    let touched = after
        .iter()
        .filter(|(path, stamp)| before.get(*path) != Some(*stamp));
    let touched: Vec<_> = touched
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(touched.contains(&"dir-07/file-7".into()), "{touched:?}");
    // The directory may have been: its entry was replaced.
    assert!(touched.len() <= 2, "{touched:?}");
}

#[test]
fn a_touched_file_sends_no_content() {
    for route in [Route::Push, Route::Pull] {
        let lab = Lab::with_source("f a random(300K) @5\n f small 'x' @5");
        lab.sync_via(route, &[]).ok();
        lab.source("m a @6.5");
        let outcome = lab.sync_via(route, &["--json"]).ok();
        lab.assert_synced();
        assert_eq!(
            outcome.count("literal_bytes"),
            0,
            "by {route:?}:\n{outcome}"
        );
    }
}

#[test]
fn a_file_that_went_missing_at_the_destination_comes_back() {
    let lab = a_small_workspace();
    lab.sync(&[]).ok();
    lab.destination("r dir-03/file-3\n r dir-05");
    lab.sync(&[]).ok();
    lab.assert_synced();
}

#[test]
fn a_file_that_was_edited_at_the_destination_is_put_right() {
    let lab = a_small_workspace();
    lab.sync(&[]).ok();
    lab.destination("f dir-03/file-3 'meddled with'");
    lab.sync(&[]).ok();
    lab.assert_synced();
}

#[test]
fn a_change_just_before_and_after_a_run_is_never_missed() {
    // Same size, and as near in time as a machine can: caches must not trust such entries.
    let lab = Lab::with_source("f a '0000'");
    for round in 0..30 {
        lab.source(&format!("f a '{round:04}'"));
        lab.sync(&[]).ok();
        assert_eq!(text_of(&lab.dst.join("a")), format!("{round:04}"));
    }
}

#[test]
fn same_size_and_time_is_taken_as_equal_without_checksum() {
    let lab = Lab::with_source("f a 'one' @5");
    lab.destination("f a 'two' @5");
    lab.sync(&[]).ok();
    assert_eq!(text_of(&lab.dst.join("a")), "two");
}

#[test]
fn checksum_finds_what_size_and_time_hide() {
    for route in Route::ALL {
        let lab = Lab::with_source("f a 'one' @5\n f b 'same' @5");
        lab.destination("f a 'two' @5\n f b 'same' @5");
        let outcome = lab.sync_via(route, &["--checksum", "--json"]).ok();
        lab.assert_synced();
        assert_eq!(
            outcome.count("files_sent") + outcome.count("files_patched"),
            1,
            "{outcome}"
        );
    }
}

#[test]
fn equal_content_with_another_time_is_not_rewritten_with_checksum() {
    let lab = Lab::with_source("f a random(100K) @5");
    lab.sync(&[]).ok();
    let inode = || fs::metadata(lab.dst.join("a")).unwrap().ino();
    let before = inode();
    lab.source("m a @6");
    lab.sync(&["-c"]).ok();
    lab.assert_synced();
    assert_eq!(before, inode(), "the file was replaced");
}

#[test]
fn lost_state_costs_no_transfer() {
    let lab = Lab::new();
    every_kind(&lab.src);
    lab.sync(&[]).ok();
    fs::remove_dir_all(lab.path("home-near/state")).unwrap();
    lab.assert_settled(&[]);
}

#[test]
fn damaged_state_is_said_once_and_rebuilt() {
    let lab = a_small_workspace();
    lab.sync(&["-c"]).ok();
    let mut damaged = 0;
    for entry in walkdir::WalkDir::new(lab.path("home-near/state")) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            fs::write(entry.path(), b"not a database at all").unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0, "no state is kept");
    lab.source("f dir-00/file-0 'edited' @77");
    lab.sync(&["-c"]).ok();
    lab.assert_synced();
    lab.assert_settled(&["-c"]);
}

#[test]
fn state_is_readable_by_its_owner_only() {
    let lab = a_small_workspace();
    lab.sync(&["-c"]).ok();
    for entry in walkdir::WalkDir::new(lab.path("home-near/state")) {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.path());
    }
}

/// Changes a file's content and puts its size and time back.
fn change_in_secret(path: &std::path::Path, content: &str) {
    let before = fs::metadata(path).unwrap();
    assert_eq!(before.len(), content.len() as u64);
    fs::write(path, content).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
}

#[test]
fn a_change_that_hides_behind_the_old_time_is_found_at_the_source() {
    let lab = Lab::with_source("f sub/secret 'one' @5\n f sub/other 'x' @5");
    lab.sync_via(Route::Push, &[]).ok();
    change_in_secret(&lab.src.join("sub/secret"), "two");
    lab.sync_via(Route::Push, &[]).ok();
    assert_eq!(fs::read(lab.dst.join("sub/secret")).unwrap(), b"two");
    lab.assert_settled(&[]);
}

#[test]
fn a_change_that_hides_behind_the_old_time_is_found_at_the_destination() {
    let lab = Lab::with_source("f sub/secret 'one' @5\n f sub/other 'x' @5");
    lab.sync_via(Route::Push, &[]).ok();
    change_in_secret(&lab.dst.join("sub/secret"), "bad");
    lab.sync_via(Route::Push, &[]).ok();
    assert_eq!(fs::read(lab.dst.join("sub/secret")).unwrap(), b"one");
}

#[test]
fn a_hidden_change_that_could_not_be_put_right_is_found_again() {
    for changed in ["src", "dst"] {
        let lab = Lab::with_source("f secret 'one' @5");
        lab.sync_via(Route::Push, &[]).ok();
        change_in_secret(&lab.path(changed).join("secret"), "two");
        // The backup has no place, so the old file stays.
        lab.destination("f secret~/in/the/way 'x'");
        lab.sync_via(Route::Push, &["--backup"]).code(3);
        assert_ne!(
            text_of(&lab.src.join("secret")),
            text_of(&lab.dst.join("secret"))
        );
        lab.sync_via(Route::Push, &[]).ok();
        assert_eq!(
            text_of(&lab.src.join("secret")),
            text_of(&lab.dst.join("secret"))
        );
    }
}

#[test]
fn what_one_run_hashed_is_known_although_it_wrote_to_the_same_directory() {
    let tree = "f secret 'one' @5\n f other 'x' @5";
    let lab = Lab::with_source(tree);
    lab.destination(tree);
    // Longer than any change is racy.
    std::thread::sleep(std::time::Duration::from_millis(50));
    lab.source("f other 'y' @6");
    lab.sync_via(Route::Push, &["--checksum"]).ok();
    change_in_secret(&lab.dst.join("secret"), "bad");
    lab.sync_via(Route::Push, &[]).ok();
    assert_eq!(text_of(&lab.dst.join("secret")), "one");
}
