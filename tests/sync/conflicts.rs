//! A name that is one kind of entry here and another there, and links that lead elsewhere.

use std::fs;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::common::dump::Dump;
use crate::common::lab::{Lab, Route, text_of};
use crate::common::meanwhile::meanwhile;

const KINDS: [&str; 4] = [
    "f a 'file' @5",
    "l a -> somewhere @5",
    "p a 0600 @5",
    "d a 0700 @5",
];

#[test]
fn every_kind_replaces_every_other() {
    for before in KINDS {
        for after in KINDS {
            let lab = Lab::with_source(after);
            lab.destination(before);
            lab.sync(&[]).ok();
            lab.assert_synced();
        }
    }
}

#[test]
fn a_directory_with_content_is_not_replaced_unasked() {
    for after in ["f a 'file'", "l a -> somewhere"] {
        let lab = Lab::with_source(&format!("{after}\n f other 'arrives'"));
        lab.destination("f a/precious 'precious'");
        lab.sync(&[]).code(3).says("a");
        assert_eq!(text_of(&lab.dst.join("a/precious")), "precious");
        assert_eq!(text_of(&lab.dst.join("other")), "arrives");
    }
}

#[test]
fn a_directory_with_content_is_replaced_with_delete() {
    for after in ["f a 'file'", "l a -> somewhere", "p a"] {
        for route in Route::ALL {
            let lab = Lab::with_source(after);
            lab.destination("f a/deep/old 'x'");
            lab.sync_via(route, &["--delete"]).ok();
            lab.assert_synced();
        }
    }
}

#[test]
fn a_directory_takes_the_place_of_a_file_with_its_content() {
    for route in Route::ALL {
        let lab = Lab::with_source("f a/deep/new 'x'");
        lab.destination("f a 'old file'");
        lab.sync_via(route, &[]).ok();
        lab.assert_synced();
    }
}

/// A destination where `sub` leads out of the tree, to a directory that must stay as it is.
fn with_a_link_to_outside() -> Lab {
    let lab = Lab::with_source("f sub/file 'from the source'\n d sub/dir");
    fs::create_dir(lab.path("outside")).unwrap();
    fs::write(lab.path("outside/file"), "precious").unwrap();
    lab.destination("l sub -> ../outside");
    lab
}

fn assert_outside_untouched(outside: &Path) {
    assert_eq!(Dump::of(outside).paths(), ["file"]);
    assert_eq!(text_of(&outside.join("file")), "precious");
}

#[test]
fn a_symlink_in_place_of_a_directory_is_replaced_and_never_followed() {
    for options in [&[][..], &["--delete"]] {
        let lab = with_a_link_to_outside();
        lab.sync(options).ok();
        assert_outside_untouched(&lab.path("outside"));
        lab.assert_synced();
    }
}

#[test]
fn a_symlink_in_place_of_a_file_is_not_written_through() {
    let lab = Lab::with_source("f file 'from the source'");
    fs::write(lab.path("precious"), "precious").unwrap();
    lab.destination("l file -> ../precious");
    for options in [&[][..], &["--inplace"]] {
        lab.sync(options).ok();
        assert_eq!(text_of(&lab.path("precious")), "precious");
        lab.assert_synced();
        lab.destination("r file\n l file -> ../precious");
    }
}

#[test]
fn a_directory_swapped_for_a_symlink_during_the_run_is_not_followed() {
    let text: String = (0..200)
        .map(|n| format!("f sub/{n} 'content' @5\n"))
        .collect();
    let lab = Lab::with_source(&text);
    let outside = lab.path("outside");
    fs::create_dir(&outside).unwrap();
    lab.destination("d sub");
    std::os::unix::fs::symlink(&outside, lab.path("link")).unwrap();
    let (link, sub) = (lab.path("link"), lab.dst.join("sub"));
    // Fails while the run has `sub` in its hands; then the next swap counts.
    let swap = |_| {
        let _ = renameat_with(CWD, &link, CWD, &sub, RenameFlags::EXCHANGE);
    };
    meanwhile(swap, || {
        for round in 0..15 {
            lab.source(&format!("f sub/{round} 'changed in round {round}'"));
            // Any outcome will do but one: a file outside.
            lab.sync(&["--delete", "--max-delete", "100%"]).run();
        }
    });
    assert_eq!(Dump::of(&outside).paths(), Vec::<&str>::new());
}
