//! `diff`, `verify` and `manifest`: what differs, and proof that nothing does.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::common::dump::stamps;
use crate::common::lab::{FAR, Lab, Route};
use crate::common::tree::every_kind;

fn a_copy_of_every_kind() -> Lab {
    let lab = Lab::new();
    every_kind(&lab.src);
    lab.sync(&["--numeric-ids"]).ok();
    lab
}

/// Changes one byte of a file and hides it behind the old size and mtime.
fn rot(lab: &Lab, name: &str) {
    let path = lab.dst.join(name);
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"!", 0).unwrap();
    file.set_modified(modified).unwrap();
}

#[test]
fn equal_trees_do_not_differ() {
    let lab = a_copy_of_every_kind();
    lab.between("diff", &[]).code(0);
    lab.between("verify", &[]).code(0);
}

#[test]
fn a_difference_of_metadata_is_found_and_named() {
    for change in [
        "m plain 0600 @1700000000.123456789",
        "m plain @1700000000.123456788",
        "m attributed user.a=2",
        "r empty",
        "f extra 'x'",
        "r link\n l link -> elsewhere",
    ] {
        let lab = a_copy_of_every_kind();
        lab.destination(change);
        let name = change.split_whitespace().nth(1).unwrap();
        lab.between("diff", &[]).code(1).says(name);
        lab.between("verify", &[]).code(1).says(name);
    }
}

#[test]
fn neither_changes_anything() {
    let lab = a_copy_of_every_kind();
    lab.destination("f extra 'x'\n r empty\n f plain 'changed'");
    let before = (stamps(&lab.src), stamps(&lab.dst));
    lab.between("diff", &[]).code(1);
    lab.between("verify", &[]).code(1);
    assert_eq!(before, (stamps(&lab.src), stamps(&lab.dst)));
}

#[test]
fn verify_finds_a_flipped_byte_that_diff_cannot_see() {
    let lab = a_copy_of_every_kind();
    rot(&lab, "plain");
    lab.between("diff", &[]).code(0);
    lab.between("verify", &[]).code(1).says("plain");
    lab.between("diff", &["-c"]).code(1).says("plain");
}

#[test]
fn verify_does_not_trust_its_own_memory() {
    let lab = a_copy_of_every_kind();
    lab.between("verify", &[]).code(0);
    rot(&lab, "big");
    lab.between("verify", &[]).code(1).says("big");
}

#[test]
fn verify_works_over_every_route() {
    for route in [Route::Push, Route::Pull, Route::Relay] {
        let lab = a_copy_of_every_kind();
        let verify = || {
            lab.cutover(["verify"])
                .args(lab.far_options())
                .args(route.endpoints(FAR, &lab.src, &lab.dst))
        };
        verify().code(0);
        rot(&lab, "plain");
        verify().code(1).says("plain");
    }
}

#[test]
fn a_missing_side_is_a_failure_and_not_a_difference() {
    let lab = Lab::with_source("f a 'x'");
    lab.between("verify", &[]).code(3);
    lab.between("diff", &[]).code(3);
}

#[test]
fn an_excluded_entry_is_not_a_difference() {
    let lab = Lab::with_source("f a 'x'\n m . @5");
    lab.destination("f a 'x'\n f b.log 'x'\n m . @5");
    lab.sync(&[]).ok();
    lab.between("diff", &[]).code(1).says("b.log");
    lab.between("diff", &["--exclude", "*.log"]).code(0);
}

#[test]
fn a_tree_is_verified_against_a_manifest() {
    let lab = a_copy_of_every_kind();
    let manifest = lab.path("manifest");
    lab.cutover(["manifest"])
        .args([&lab.src])
        .args(["-o"])
        .args([&manifest])
        .ok();
    fs::rename(&lab.src, lab.path("moved away")).unwrap();
    let verify = || lab.cutover(["verify"]).args([&manifest, &lab.dst]);
    verify().code(0);
    rot(&lab, "plain");
    verify().code(1).says("plain");
}

#[test]
fn equal_trees_have_equal_manifests() {
    let lab = a_copy_of_every_kind();
    let write = |root, name| {
        let path = lab.path(name);
        lab.cutover(["manifest"])
            .args([root])
            .args(["-o"])
            .args([&path])
            .ok();
        fs::read(path).unwrap()
    };
    assert_eq!(write(&lab.src, "first"), write(&lab.src, "again"));
}

#[test]
fn what_a_killed_manifest_left_is_taken_over() {
    let lab = a_copy_of_every_kind();
    let manifest = lab.path("m.v1");
    let partial = lab.path("m.v1.cutover-partial");
    fs::write(&partial, "half a manifest").unwrap();
    let record = || lab.cutover(["manifest", "-o"]).args([&manifest, &lab.src]);
    record().ok();
    assert!(!partial.exists());
    lab.cutover(["verify"]).args([&manifest, &lab.dst]).code(0);

    // One that is being written is not touched.
    let held = fs::File::create(&partial).unwrap();
    held.lock().unwrap();
    record().code(7).says("another run is writing");
}

#[test]
fn a_damaged_manifest_is_an_error_and_not_a_verdict() {
    let lab = a_copy_of_every_kind();
    let manifest = lab.path("manifest");
    lab.cutover(["manifest"])
        .args([&lab.src])
        .args(["-o"])
        .args([&manifest])
        .ok();
    let whole = fs::read(&manifest).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    for damaged in [&whole[..whole.len() / 2], &flipped, b"not a manifest", b""] {
        fs::write(&manifest, damaged).unwrap();
        let outcome = lab.cutover(["verify"]).args([&manifest, &lab.dst]).run();
        let code = outcome.status.code();
        assert!(code.is_some_and(|code| code > 1 && code < 100), "{outcome}");
    }
}

#[test]
fn a_root_that_is_not_there_is_told_in_the_systems_words() {
    for route in [Route::Local, Route::Push] {
        for verb in ["diff", "verify"] {
            let lab = Lab::with_source("f a 'x'");
            let run = |from: &Path, to: &Path| {
                lab.cutover([verb])
                    .args(lab.far_options())
                    .args(route.endpoints(FAR, from, to))
                    .code(3)
            };
            run(&lab.src, &lab.dst).says("No such file or directory");
            run(&lab.dst, &lab.src).says("No such file or directory");
        }
    }
}
