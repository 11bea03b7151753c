//! The kit itself: a comparison that sees nothing would let every other test pass.

use std::process::Command;

use crate::common::dump::{Dump, assert_same, data_ranges};
use crate::common::lab::Lab;
use crate::common::prerequisites::need;
use crate::common::tree::{deeper_than_a_system_call, every_kind, tree};
use crate::needs;

/// The words of the differences that `change` makes to a tree of `text`.
fn differences_after(text: &str, change: &str) -> Vec<String> {
    let lab = Lab::new();
    lab.source(text);
    lab.destination(text);
    lab.destination(change);
    lab.destination("m . @1");
    lab.source("m . @1");
    Dump::of(&lab.src).differences(&Dump::of(&lab.dst))
}

#[test]
fn equal_trees_have_no_differences() {
    let text = "f a 'x' @5.25 user.a=1\n h b = a\n l c -> a @6\n f s hole(1M) 'x' @7";
    assert_eq!(differences_after(text, ""), Vec::<String>::new());
}

#[test]
fn every_property_that_differs_is_seen() {
    let text = r"
        f a 'text' 0644 @5.000000001 user.a=1 acl=u::rw,u:7:r,g::r,m::r,o::-
        h b = a
        f c 'text' @5
        l l -> a @5
    ";
    for (change, word) in [
        ("m a 0600 @5.000000001", "mode"),
        ("m a @5.000000002", "mtime"),
        ("f c 'texT' @5", "content"),
        ("f c 'longer text' @5", "size"),
        ("m c user.new=1 @5", "user.new"),
        ("m a user.a=2", "user.a"),
        ("m a acl=u::rw,u:8:r,g::r,m::r,o::-", "posix_acl"),
        ("r b\n f b 'text' 0644 @5.000000001", "links"),
        ("m l @6", "mtime"),
        ("r l\n l l -> b @5", "target"),
        ("r c", "missing"),
        ("f new", "only in the copy"),
    ] {
        let lines = differences_after(text, change);
        let seen = lines.iter().any(|line| line.contains(word));
        assert!(seen, "{change:?} must show as {word:?}: {lines:?}");
    }
}

#[test]
fn another_owner_is_seen() {
    needs!(Root);
    let lines = differences_after("f a @5", "m a 1:2 @5");
    assert_eq!(lines, ["a: owner is 1:2, should be 0:0"]);
}

#[test]
fn a_copy_that_lost_its_holes_is_seen() {
    let lab = Lab::new();
    lab.source("f a hole(4M) 'end' @5\n m . @5");
    lab.destination("f a @5\n m . @5");
    let content = std::fs::read(lab.src.join("a")).unwrap();
    std::fs::write(lab.dst.join("a"), content).unwrap();
    lab.destination("m a @5");
    let lines = Dump::of(&lab.src).differences(&Dump::of(&lab.dst));
    assert!(
        lines.len() == 1 && lines[0].contains("on disk"),
        "{lines:?}"
    );
}

#[test]
fn a_trusted_tool_copies_every_kind_without_a_difference() {
    need("rsync");
    let lab = Lab::new();
    every_kind(&lab.src);
    let status = Command::new("rsync")
        // Without a negative window it takes times of the same second as equal.
        .args(["-aHAXS", "--numeric-ids", "--modify-window=-1"])
        .arg(lab.src.join(""))
        .arg(&lab.dst)
        .status()
        .unwrap();
    assert!(status.success());
    assert_same(&lab.src, &lab.dst);
}

#[test]
fn the_language_makes_what_it_says() {
    let lab = Lab::with_source(r"f a/b\s\xff 'x\n' random(5) hole(1K) 0604 # a comment");
    let dump = Dump::of(&lab.src);
    assert_eq!(dump.paths(), ["a", r"a/b \xff"]);
    let content = std::fs::read_dir(lab.src.join("a"))
        .unwrap()
        .next()
        .unwrap();
    let content = std::fs::read(content.unwrap().path()).unwrap();
    assert_eq!((content.len(), &content[..2]), (2 + 5 + 1024, &b"x\n"[..]));
    tree(&lab.src, "r a");
    assert_eq!(Dump::of(&lab.src).paths(), Vec::<&str>::new());
}

#[test]
fn holes_are_found_where_they_are() {
    let lab = Lab::with_source("f a hole(1M) random(64K) hole(1M)");
    let ranges = data_ranges(&lab.src.join("a"));
    assert_eq!(ranges, [(1 << 20, (1 << 20) + (64 << 10))]);
}

#[test]
fn a_tree_deeper_than_a_system_call_is_dumped() {
    let lab = Lab::with_source("d .");
    let length = deeper_than_a_system_call(&lab.src);
    assert!(length > 4096);
    let dump = Dump::of(&lab.src);
    assert_eq!(
        dump.paths().iter().map(|path| path.len()).max(),
        Some(length)
    );
}
