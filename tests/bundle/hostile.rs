//! Archives that were made to do harm. Each is refused before anything is written, and nothing
//! outside of the destination is ever touched.

use std::path::PathBuf;

use proptest::prelude::*;

use crate::archive::{Archive, Part};
use crate::common::dump::Dump;
use crate::common::lab::Lab;
use crate::kit::{plain, restore, verify};

/// A lab with a tree beside its destination that nobody may touch, and a bundle.
struct Target {
    lab: Lab,
    file: PathBuf,
    archive: Archive,
    outside: Dump,
}

impl Target {
    fn new() -> Target {
        let lab = Lab::with_source("f a 'some text'\n d d\n l way -> ../../outside");
        crate::common::tree::tree(&lab.path("outside"), "f canary 'alive'");
        let file = plain(&lab);
        Target {
            archive: Archive::open(&file),
            outside: Dump::of(&lab.path("outside")),
            file,
            lab,
        }
    }

    /// Fails unless the bundle is refused with `why`, by both commands, and nothing is written.
    #[track_caller]
    fn assert_refused(&self, why: &str) {
        verify(&self.lab, &self.file).code(3).says(why);
        restore(&self.lab, &self.file).code(3).says(why);
        assert!(!self.lab.dst.exists(), "nothing is made");
        self.assert_untouched();
    }

    #[track_caller]
    fn assert_untouched(&self) {
        let now = Dump::of(&self.lab.path("outside"));
        assert_eq!(self.outside, now, "it reached out");
    }
}

/// Fails unless a bundle with one more member is refused with `why`.
#[track_caller]
fn assert_member_refused(part: Part, why: &str) {
    let mut target = Target::new();
    target.archive.add(part);
    target.archive.write(&target.file);
    target.assert_refused(why);
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in [
        "/etc/cutover-test",
        "../outside/x",
        "src/../../outside/x",
        "src/..",
        "./src/x",
        "src/./x",
        "src//x",
        ".",
    ] {
        assert_member_refused(Part::new(b'0', name, b"evil"), "unsafe name");
    }
    let part = Part::new(b'0', "src/x", b"evil").with("path", b"src/../../outside/x");
    assert_member_refused(part, "unsafe name");
    let part = Part::new(b'0', "src/x", b"evil").with("path", b"src/a\0b");
    assert_member_refused(part, "unsafe name");
    let part = Part::new(b'0', "src/x", b"evil").with("path", "src/n".repeat(999).as_bytes());
    assert_member_refused(part, "no directory of the bundle");
}

#[test]
fn names_that_mean_something_to_us_are_refused() {
    for name in [
        "src/.cutover-trash",
        "src/.cutover-kept",
        "src/.cutover-marker",
        "src/.a.cutover-01234567",
    ] {
        assert_member_refused(Part::new(b'0', name, b"evil"), "keeps for itself");
    }
    assert_member_refused(
        Part::new(b'0', "cutover-bundle/x", b"evil"),
        "cutover-bundle/x",
    );
}

#[test]
fn a_way_through_a_symlink_is_refused() {
    assert_member_refused(
        Part::new(b'0', "src/way/x", b"evil"),
        "no directory of the bundle",
    );
    assert_member_refused(
        Part::new(b'5', "src/way/d/", b""),
        "no directory of the bundle",
    );
    assert_member_refused(
        Part::new(b'0', "src/a/x", b"evil"),
        "no directory of the bundle",
    );
    assert_member_refused(
        Part::new(b'0', "src/none/x", b"evil"),
        "no directory of the bundle",
    );
}

#[test]
fn a_symlink_that_stands_in_the_destination_is_not_followed() {
    let target = Target::new();
    std::fs::create_dir_all(target.lab.dst.join("src")).unwrap();
    let way = target.lab.dst.join("src/d");
    std::os::unix::fs::symlink(target.lab.path("outside"), way).unwrap();
    restore(&target.lab, &target.file).ok();
    target.assert_untouched();
    assert!(
        target
            .lab
            .dst
            .join("src/d")
            .symlink_metadata()
            .unwrap()
            .is_dir()
    );
}

#[test]
fn hard_links_to_what_is_not_in_the_tree_are_refused() {
    for to in [
        "/etc/passwd",
        "src/../../outside/canary",
        "../outside/canary",
    ] {
        assert_member_refused(Part::new(b'1', "src/x", b"").to(to), "unsafe name");
    }
    for to in [
        "src/none",
        "other/a",
        "src/d",
        "cutover-bundle/version",
        "src/way/canary",
    ] {
        assert_member_refused(Part::new(b'1', "src/x", b"").to(to), "not in its tree");
    }
}

#[test]
fn a_member_that_is_there_twice_is_refused() {
    assert_member_refused(Part::new(b'0', "src/a", b"evil"), "twice");
    assert_member_refused(Part::new(b'5', "src/d/", b""), "twice");
    assert_member_refused(Part::new(b'2', "src/d", b"").to("/etc"), "twice");
    assert_member_refused(Part::new(b'5', "src/", b""), "twice");
}

#[test]
fn kinds_that_no_bundle_holds_are_refused() {
    for flag in *b"LKSgD7\0V" {
        assert_member_refused(Part::new(flag, "src/x", b""), "type");
    }
    assert_member_refused(Part::new(b'0', "new-root", b"evil"), "no directory");
    assert_member_refused(Part::new(b'2', "new-root", b"").to("/etc"), "no directory");
    assert_member_refused(Part::new(b'5', "src/x", b""), "without a slash");
    assert_member_refused(Part::new(b'6', "src/x", b"content"), "has content");
}

#[test]
fn lengths_that_lie_are_refused() {
    let mut part = Part::new(b'0', "src/x", b"short");
    part.put_size(1 << 30);
    assert_member_refused(part, "it ends in the middle");
    let mut part = Part::new(b'0', "src/x", b"");
    part.put(124, b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
    assert_member_refused(part, "base 256");
    let part = Part::new(b'0', "src/x", b"").with("size", b"18446744073709551615");
    assert_member_refused(part, "a file of");
    let part = Part::new(b'0', "src/x", b"").with("size", b"1073741824");
    assert_member_refused(part, "it ends in the middle");
    let mut records = Part::new(b'x', "PaxHeaders/x", b"");
    records.put_size(1 << 32);
    assert_member_refused(records, "said to take");
    assert_member_refused(Part::new(b'x', "x", b"999999 path=x\n"), "makes no sense");
    assert_member_refused(Part::new(b'x', "x", b"x"), "makes no sense");
}

fn sparse(len: &[u8], content: &[u8]) -> Part {
    Part::new(b'0', "GNUSparseFile.0/x", content)
        .with("GNU.sparse.major", b"1")
        .with("GNU.sparse.minor", b"0")
        .with("GNU.sparse.name", b"src/x")
        .with("GNU.sparse.realsize", len)
}

/// A map in its block, and a byte of data.
fn map(text: &str) -> Vec<u8> {
    let mut map = text.as_bytes().to_vec();
    map.resize(512, 0);
    map.push(1);
    map
}

#[test]
fn maps_of_sparse_files_that_lie_are_refused() {
    for (len, text, why) in [
        (&b"10"[..], "2\n0\n5\n4\n1\n", "overlap"),
        (b"10", "1\n10\n1\n", "lie outside"),
        (b"10", "1\n18446744073709551615\n1\n", "lie outside"),
        (b"10", "1\n0\n2\n", "not that of its content"),
        (b"10", "99999999\n", "pieces"),
        (b"10", "1\n", "makes no sense"),
        (b"9223372036854775807", "1\n0\n1\n", "a file of"),
    ] {
        assert_member_refused(sparse(len, &map(text)), why);
    }
    assert_member_refused(sparse(b"10", b"1\n0\n"), "it ends in the middle");
    let part = Part::new(b'0', "src/x", b"").with("GNU.sparse.map", b"0,1");
    assert_member_refused(part, "no bundle holds");
}

#[test]
fn a_window_that_takes_our_memory_is_refused() {
    let target = Target::new();
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(30).unwrap();
    std::io::Write::write_all(&mut encoder, &target.archive.to_bytes()).unwrap();
    std::fs::write(&target.file, encoder.finish().unwrap()).unwrap();
    target.assert_refused("memory");
}

#[test]
fn a_bomb_is_refused_by_its_size() {
    let mut target = Target::new();
    target
        .archive
        .add(Part::new(b'0', "src/x", &vec![0; 64 << 20]));
    target.archive.write(&target.file);
    assert!(target.file.metadata().unwrap().len() < 100_000);
    verify(&target.lab, &target.file)
        .args(["--max-size", "32M"])
        .code(3)
        .says("--max-size");
    restore(&target.lab, &target.file)
        .args(["--max-size", "32M"])
        .code(3)
        .says("--max-size");
    assert!(!target.lab.dst.exists(), "nothing is made");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_changed_archive_never_reaches_out(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        in_names in any::<bool>(),
    ) {
        let mut target = Target::new();
        let many = target.archive.members.len();
        for (at, byte) in changes {
            let part = &mut target.archive.members[at.index(many)];
            // Headers get their checksum again, so that what is in them is looked at.
            let within = if in_names { 100 } else { 512 };
            part.header[at.index(within)] = byte;
        }
        target.archive.write(&target.file);
        let outcome = restore(&target.lab, &target.file).run();
        let code = outcome.status.code();
        // What changed is in no field that counts, or it is refused.
        prop_assert!(matches!(code, Some(0 | 3 | 5)), "{outcome}");
        if code != Some(0) {
            prop_assert!(!target.lab.dst.exists(), "nothing is made: {outcome}");
        }
        target.assert_untouched();
    }
}
