//! Names that share a file at one end and not at the other.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::common::lab::{Lab, Route};

/// A destination where `a` and `b` are one file, and a source where `change` has parted them.
fn parted(size: &str, change: &str) -> Lab {
    let lab = Lab::with_source(&format!("f a random({size}) 0644 @5\n h b = a"));
    lab.sync(&[]).ok();
    fs::copy(lab.src.join("b"), lab.src.join("copy")).unwrap();
    fs::rename(lab.src.join("copy"), lab.src.join("b")).unwrap();
    lab.source("m b 0644 @5");
    lab.source(change);
    lab
}

#[test]
fn parting_names_in_place_keeps_their_content() {
    for route in Route::ALL {
        for change in [
            "",
            "m b 0600",
            "f b 'new'",
            "f a 'new'",
            "f c 'x'\n h d = a",
        ] {
            let lab = parted("300K", change);
            lab.sync_via(route, &["--inplace"]).ok();
            lab.assert_synced();
        }
    }
}

#[test]
fn a_parted_name_gets_what_it_is_at_the_source() {
    for change in [
        "m b 0600 @7",
        "f b 'new, and small'",
        "r b\n p b",
        "r b\n d b",
    ] {
        let lab = parted("20M", change);
        lab.sync(&["--delete"]).ok();
        lab.assert_synced();
        lab.assert_settled(&["--delete"]);
    }
}

#[test]
fn a_renamed_name_is_parted_under_its_new_one() {
    let lab = parted("1K", "");
    fs::rename(lab.src.join("b"), lab.src.join("c")).unwrap();
    lab.sync(&["--delete"]).ok();
    lab.assert_synced();
}

#[test]
fn linked_files_become_linked_fifos() {
    let lab = Lab::with_source("f a 'x'\n h b = a");
    lab.sync(&[]).ok();
    lab.source("r a\n r b\n p a\n h b = a");
    lab.sync(&[]).ok();
    let inode = |name: &str| fs::metadata(lab.dst.join(name)).unwrap().ino();
    assert_eq!(inode("a"), inode("b"));
    lab.assert_synced();
}

#[test]
fn a_renamed_name_is_parted_beneath_a_directory_that_replaces_a_file() {
    let lab = Lab::with_source("f a random(1K) 0644 @5\n h b = a\n f c 'x'");
    lab.sync(&[]).ok();
    lab.source("r c\n d c");
    fs::copy(lab.src.join("b"), lab.src.join("c/b")).unwrap();
    lab.source("r b\n m c/b 0644 @5");
    lab.sync(&["--delete"]).ok();
    lab.assert_synced();
}
