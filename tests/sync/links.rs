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

#[test]
fn other_names_of_what_is_no_file_are_told_as_what_they_are() {
    for route in Route::ALL {
        for before in ["", "l l -> t @5\n p p @5", "d elsewhere @5"] {
            let lab =
                Lab::with_source("d elsewhere @5\n l l -> t @5\n p p @5\n h l2 = l\n h p2 = p");
            lab.destination(before);
            let predicted = lab.sync_via(route, &["-n", "-i"]).ok();
            let done = lab.sync_via(route, &["-i"]).ok();
            lab.assert_synced();
            let items = done.items();
            let (links, made): (Vec<&str>, Vec<&str>) =
                items.iter().partition(|line| line.starts_with('h'));
            assert_eq!(
                links,
                ["hL+++++++++ l2 => l", "hS+++++++++ p2 => p"],
                "{before:?} by {route:?}"
            );
            assert!(
                !made.iter().any(|line| line.ends_with('2')),
                "made before it was linked, {before:?} by {route:?}:\n{done}"
            );
            assert_eq!(predicted.items(), items, "{before:?} by {route:?}");
        }
    }
}

#[test]
fn a_new_directory_gets_links_and_not_content_that_is_here() {
    for route in Route::ALL {
        let lab = Lab::with_source("f old/a random(300K) @5\n p old/p @5");
        lab.sync(&[]).ok();
        lab.source("h new/deep/b = old/a\n h new/p = old/p\n f new/c 'x'\n f new/other/d 'x'");
        lab.source("h new/other/e = new/c");
        let predicted = lab.sync_via(route, &["-n", "-i"]).ok();
        let done = lab.sync_via(route, &["--json", "-i"]).ok();
        lab.assert_synced();
        assert_eq!(done.count("literal_bytes"), 2, "by {route:?}: {done}");
        assert_eq!(done.count("hard_linked"), 3, "by {route:?}: {done}");
        let links = predicted.items();
        for expected in [
            "hf+++++++++ new/deep/b => old/a",
            "hS+++++++++ new/p => old/p",
            "hf+++++++++ new/other/e => new/c",
        ] {
            assert!(links.contains(&expected), "by {route:?}: {predicted}");
        }
        assert!(
            !predicted.stdout.contains("f+++++++++ new/deep/b\n"),
            "by {route:?}: {predicted}"
        );
    }
}
