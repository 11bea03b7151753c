//! Big files that changed a little: what travels is near what changed, and the result is exact.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::common::dump::allocated_bytes;
use crate::common::lab::{Lab, Route};
use crate::common::prerequisites::Tmpfs;
use crate::common::run::Outcome;
use crate::common::tree::Noise;
use crate::needs;

const FILE_BYTES: u64 = 4 << 20;

/// The most that a small change of a 4 MiB file may cost: some blocks, and the signature.
const SMALL_BYTES: u64 = 128 << 10;

/// Syncs a big file over a wire, edits it, and syncs it again with `options`.
fn resend_after(route: Route, options: &[&str], edit: impl Fn(&mut Vec<u8>)) -> Outcome {
    let lab = Lab::with_source("f big random(4M) 0640 @5");
    lab.sync_via(route, &[]).ok();
    let path = lab.src.join("big");
    let mut content = fs::read(&path).unwrap();
    edit(&mut content);
    fs::write(&path, content).unwrap();
    let outcome = lab.sync_via(route, &[options, &["--json"]].concat()).ok();
    lab.assert_synced();
    outcome
}

#[track_caller]
fn assert_cheap(outcome: &Outcome) {
    let literal = outcome.count("literal_bytes");
    let wire = outcome.count("wire_sent_bytes") + outcome.count("wire_received_bytes");
    assert!(literal < SMALL_BYTES, "{literal} literal bytes:\n{outcome}");
    assert!(
        wire < 2 * SMALL_BYTES,
        "{wire} bytes on the wire:\n{outcome}"
    );
    assert!(
        outcome.count("matched_bytes") > FILE_BYTES - 2 * SMALL_BYTES,
        "{outcome}"
    );
    assert_eq!(outcome.count("files_patched"), 1, "{outcome}");
}

#[test]
fn bytes_changed_in_place_are_all_that_travels() {
    for route in [Route::Push, Route::Pull, Route::Relay] {
        assert_cheap(&resend_after(route, &[], |content| content[2_000_000] ^= 1));
    }
}

#[test]
fn an_appended_file_sends_its_end() {
    assert_cheap(&resend_after(Route::Push, &[], |content| {
        content.extend(Noise::seeded(b"appended").bytes(5000));
    }));
}

#[test]
fn an_insertion_does_not_resend_what_it_moved() {
    for at in [0, 1, 2_000_001] {
        assert_cheap(&resend_after(Route::Push, &[], |content| {
            content.splice(at..at, Noise::seeded(b"inserted").bytes(777));
        }));
    }
}

#[test]
fn a_deletion_does_not_resend_what_it_moved() {
    assert_cheap(&resend_after(Route::Pull, &[], |content| {
        content.drain(1_000_001..1_000_100);
    }));
}

#[test]
fn a_truncated_file_sends_nearly_nothing() {
    let outcome = resend_after(Route::Push, &[], |content| content.truncate(3_000_001));
    assert!(outcome.count("literal_bytes") < SMALL_BYTES, "{outcome}");
}

#[test]
fn swapped_halves_are_found() {
    assert_cheap(&resend_after(Route::Push, &[], |content| {
        content.rotate_left(2_097_153)
    }));
}

#[test]
fn a_file_that_has_nothing_in_common_is_sent_once() {
    let outcome = resend_after(Route::Push, &[], |content| {
        *content = Noise::seeded(b"another").bytes(FILE_BYTES);
    });
    assert_eq!(outcome.count("matched_bytes"), 0, "{outcome}");
    assert_eq!(outcome.count("literal_bytes"), FILE_BYTES, "{outcome}");
}

#[test]
fn whole_file_sends_all_of_it() {
    let flip = |content: &mut Vec<u8>| content[9] ^= 1;
    let outcome = resend_after(Route::Push, &["--whole-file"], flip);
    assert_eq!(outcome.count("literal_bytes"), FILE_BYTES, "{outcome}");
}

#[test]
fn no_whole_file_makes_local_copies_use_the_old_version() {
    let flip = |content: &mut Vec<u8>| content[9] ^= 1;
    let outcome = resend_after(Route::Local, &["--no-whole-file"], flip);
    assert!(outcome.count("literal_bytes") < SMALL_BYTES, "{outcome}");
}

#[test]
fn the_block_size_can_be_chosen() {
    let flip = |content: &mut Vec<u8>| content[1_000_000] ^= 1;
    let outcome = resend_after(Route::Push, &["--block-size", "4096"], flip);
    assert_eq!(outcome.count("literal_bytes"), 4096, "{outcome}");
}

#[test]
fn a_block_size_that_is_not_possible_is_a_usage_error() {
    let lab = Lab::with_source("f a 'x'");
    for size in ["0", "1000", "1048576", "many"] {
        lab.sync(&["--block-size", size]).code(2);
    }
}

#[test]
fn repeated_content_does_not_defeat_the_search() {
    // Every block has the same sum: the case where a naive table degenerates.
    let lab = Lab::with_source("f zeros 'x' @5");
    fs::write(lab.src.join("zeros"), vec![b'z'; 16 << 20]).unwrap();
    lab.sync_via(Route::Push, &[]).ok();
    let mut content = vec![b'z'; 16 << 20];
    content.insert(5_000_001, b'!');
    fs::write(lab.src.join("zeros"), content).unwrap();
    let outcome = lab.sync_via(Route::Push, &["--json"]).ok();
    lab.assert_synced();
    assert!(outcome.count("literal_bytes") < SMALL_BYTES, "{outcome}");
}

fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

#[test]
fn a_patched_file_stays_sparse() {
    for route in [Route::Push, Route::Local] {
        let lab = Lab::with_source("f image hole(32M) random(64K) hole(32M) @5");
        lab.sync_via(route, &[]).ok();
        write_at(
            &lab.src.join("image"),
            50 << 20,
            b"a sector in the middle of a hole",
        );
        lab.sync_via(route, &[]).ok();
        lab.assert_synced();
        let allocated = allocated_bytes(&lab.dst.join("image"));
        assert!(
            allocated < 1 << 20,
            "{allocated} bytes on disk by {route:?}"
        );
    }
}

#[test]
fn data_that_became_a_hole_arrives_as_zeros() {
    let lab = Lab::with_source("f image random(2M) @5");
    lab.sync_via(Route::Push, &[]).ok();
    lab.source("f image hole(2M) @6");
    lab.sync_via(Route::Push, &[]).ok();
    lab.assert_synced();
}

#[test]
fn what_became_a_hole_is_zeros_where_no_holes_can_be_made() {
    needs!(Mount);
    for options in [&["--inplace"][..], &[]] {
        let lab = Lab::with_source("f image random(8M) @5");
        let _mounted = Tmpfs::mount_ramfs(&lab.dst);
        lab.sync_via(Route::Push, options).ok();
        lab.source("f image random(1M) hole(6M) random(1M) @6");
        lab.sync_via(Route::Push, options).ok();
        let content = |root: &Path| fs::read(root.join("image")).unwrap();
        assert!(content(&lab.src) == content(&lab.dst), "{options:?}");
    }
}

#[test]
fn in_place_keeps_the_inode() {
    use std::os::unix::fs::MetadataExt;
    let lab = Lab::with_source("f big random(1M) @5");
    lab.sync_via(Route::Push, &[]).ok();
    let inode = || fs::metadata(lab.dst.join("big")).unwrap().ino();
    let before = inode();
    write_at(&lab.src.join("big"), 1000, b"changed");
    lab.sync_via(Route::Push, &["--inplace"]).ok();
    lab.assert_synced();
    assert_eq!(before, inode());
}

#[test]
fn every_way_of_making_it_durable_gives_the_same_tree() {
    for fsync in ["end", "each", "none"] {
        let lab = Lab::with_source("f a 'x'\n f b/c random(100K)\n l d -> a");
        lab.sync(&["--fsync", fsync]).ok();
        lab.assert_synced();
    }
}

#[test]
fn what_compression_saves_is_not_lost_as_credit() {
    let lab = Lab::with_source("f log");
    // More than the credit of a whole session, and nearly all of it saved.
    fs::write(
        lab.src.join("log"),
        b"a line like the next\n".repeat(2 << 20),
    )
    .unwrap();
    let outcome = lab.sync_via(Route::Push, &["-z", "--json"]).ok();
    assert!(outcome.count("wire_sent_bytes") < 8 << 20, "{outcome}");
    lab.assert_synced();
}

#[test]
fn the_bandwidth_limit_is_kept() {
    let lab = Lab::with_source("f a random(1M)");
    let start = std::time::Instant::now();
    lab.sync_via(Route::Push, &["--bwlimit", "512K"]).ok();
    let elapsed = start.elapsed();
    assert!(
        elapsed.as_millis() > 1000,
        "1 MiB at 512 KiB/s took {elapsed:?}"
    );
    lab.assert_synced();
}

#[test]
fn a_standby_that_was_changed_behind_its_stored_sums_is_put_right() {
    // Long enough for its blocks to be kept.
    let lab = Lab::with_source("f big random(20M) 0640 @5");
    lab.sync_via(Route::Push, &[]).ok();
    let (src, dst) = (lab.src.join("big"), lab.dst.join("big"));
    for round in 0..3 {
        // The block at the start is the standby's own change, with the times put back.
        let mtime = fs::metadata(&dst).unwrap().modified().unwrap();
        let standby = File::options().write(true).open(&dst).unwrap();
        standby
            .write_all_at(b"not the source's", 3_000_000)
            .unwrap();
        standby.set_modified(mtime).unwrap();
        write_at(&src, 9_000_000 + round, b"new");
        let outcome = lab.sync_via(Route::Push, &["--json"]).ok();
        lab.assert_synced();
        assert_eq!(outcome.count("files_patched"), 1, "{outcome}");
    }
}
