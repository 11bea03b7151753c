//! A bundle opened without cutover, by the tools that are everywhere.

use crate::common::dump::{assert_same, data_ranges};
use crate::common::lab::Lab;
use crate::common::prerequisites::need;
use crate::common::tree::{every_kind, tree};
use crate::kit::{create, key_pair, plain, shell};
use crate::needs;

/// What GNU tar must be told to restore everything.
const UNTAR: &str = "tar -x --same-owner --numeric-owner --xattrs --xattrs-include='*' --acls -C";

#[test]
fn age_zstd_and_tar_restore_all_of_it() {
    needs!(Root);
    for tool in ["age", "zstd", "tar"] {
        need(tool);
    }
    let lab = Lab::new();
    every_kind(&lab.src);
    tree(&lab.src, "r socket\n m . @1600000000.987654321");
    let (recipient, identity) = key_pair(&lab, "key");
    let (run, file) = create(&lab, &["--recipient", &recipient]);
    run.ok();
    let line = format!("mkdir \"$3\"; age -d -i \"$1\" \"$2\" | zstd -d | {UNTAR} \"$3\"");
    shell(&line, [&identity, &file, &lab.dst]);
    assert_same(&lab.src, &lab.dst.join("src"));
}

#[test]
fn tar_makes_holes_where_they_were() {
    let lab = Lab::with_source(
        "f a hole(1M) random(64K) hole(2M) random(128K) hole(1M)\n f none hole(8M)\n f full random(3M)",
    );
    let file = plain(&lab);
    let line = format!("mkdir \"$2\"; zstd -d < \"$1\" | {UNTAR} \"$2\"");
    shell(&line, [&file, &lab.dst]);
    for name in ["a", "none", "full"] {
        let copy = lab.dst.join("src").join(name);
        assert_eq!(
            data_ranges(&lab.src.join(name)),
            data_ranges(&copy),
            "{name}"
        );
    }
}

#[test]
fn the_manifest_within_proves_what_tar_restored() {
    let lab = Lab::with_source("f a/b 'text' 0640\n l c -> a/b\n f d random(2M)");
    let file = plain(&lab);
    let line = format!("mkdir \"$2\"; zstd -d < \"$1\" | {UNTAR} \"$2\"");
    shell(&line, [&file, &lab.dst]);
    let manifest = lab.dst.join("cutover-bundle/manifests/src");
    let copy = lab.dst.join("src");
    lab.cutover(["verify"]).args([&manifest, &copy]).ok();
    tree(&copy, "f a/b 'texT' 0640");
    lab.cutover(["verify"])
        .args([&manifest, &copy])
        .code(1)
        .says("a/b");
}

#[test]
fn tar_lists_names_owners_and_times() {
    let lab = Lab::with_source("f a 'text' 0640 @1700000000");
    let listed = shell("zstd -d < \"$1\" | TZ=UTC tar -tv", [plain(&lab)]);
    let line = listed.lines().find(|line| line.ends_with("src/a"));
    let line = line.unwrap_or_else(|| panic!("{listed}"));
    assert!(line.starts_with("-rw-r----- root/root"), "{line}");
    assert!(line.contains("2023-11-14 22:13"), "{line}");
}
