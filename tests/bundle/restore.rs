//! Restoring: everything as it was, over what is there, by whom it may be.

use std::fs;

use crate::common::dump::{Dump, assert_same, assert_same_dumps, data_ranges};
use crate::common::lab::Lab;
use crate::common::prerequisites::Tmpfs;
use crate::common::tree::{deeper_than_a_system_call, every_kind, tree};
use crate::kit::{bundle, create, plain, restore, restored, verify};
use crate::needs;

#[test]
fn every_kind_comes_back() {
    let lab = Lab::new();
    every_kind(&lab.src);
    tree(&lab.src, "r socket\n m . @1600000000.987654321");
    let file = plain(&lab);
    verify(&lab, &file).ok().says("sound");
    restore(&lab, &file).ok();
    assert_same(&lab.src, &restored(&lab));
}

#[test]
fn extremes_come_back() {
    needs!(Root);
    let lab = Lab::with_source(
        r"
        f big-owner 'x' 3000000000:3000000001
        f old 'x' @-2.5
        f older 'x' @-100000
        f far 'x' @9999999999.5
        f names 'x' user.with=a=b=c user.percent%=1 user.newline=\n\n
        l \xff\n -> \xfe\n
    ",
    );
    deeper_than_a_system_call(&lab.src);
    let long = "n".repeat(255);
    tree(
        &lab.src,
        &format!(
            "f {long}/{long}/{long} 'x'\n l link -> {}",
            "t/".repeat(2000)
        ),
    );
    let file = plain(&lab);
    verify(&lab, &file).ok();
    restore(&lab, &file).ok();
    assert_same(&lab.src, &restored(&lab));
}

#[test]
fn holes_come_back_as_holes() {
    let lab = Lab::with_source(
        "f a hole(1M) random(64K) hole(2M) random(128K) hole(1M)\n f none hole(8M)\n f full random(3M)",
    );
    let file = plain(&lab);
    restore(&lab, &file).ok();
    for name in ["a", "none", "full"] {
        let copy = restored(&lab).join(name);
        assert_eq!(
            data_ranges(&lab.src.join(name)),
            data_ranges(&copy),
            "{name}"
        );
    }
    assert_same(&lab.src, &restored(&lab));
}

#[test]
fn what_is_there_is_replaced_and_the_rest_stays() {
    let lab = Lab::with_source("f a 'new'\n f d/b 'new'\n l e -> a\n d f");
    let file = plain(&lab);
    lab.destination("f src/a 'old'\n f src/own 'kept'\n f src/e 'was a file'\n l src/f -> d");
    restore(&lab, &file).ok();
    let copy = restored(&lab);
    assert_eq!(fs::read(copy.join("own")).unwrap(), b"kept");
    fs::remove_file(copy.join("own")).unwrap();
    tree(&lab.src, "m . @7");
    tree(&copy, "m . @7");
    assert_same(&lab.src, &copy);
}

#[test]
fn a_directory_does_not_make_way_for_a_file() {
    let lab = Lab::with_source("f a 'new'\n f b 'new'");
    let file = plain(&lab);
    lab.destination("f src/a/precious 'old'");
    restore(&lab, &file).code(3).says("a at the destination");
    assert_eq!(fs::read(restored(&lab).join("a/precious")).unwrap(), b"old");
    assert_eq!(fs::read(restored(&lab).join("b")).unwrap(), b"new");
}

#[test]
fn a_root_can_go_straight_to_a_directory() {
    let lab = Lab::with_source("f a 'x' @5\n m . @6");
    let file = plain(&lab);
    restore(&lab, &file).args(["--root", "src"]).ok();
    assert_same(&lab.src, &lab.dst);
    restore(&lab, &file)
        .args(["--root", "other"])
        .code(2)
        .says("no root other, but these: src");
}

#[test]
fn owners_can_be_others() {
    needs!(Root);
    let lab = Lab::with_source("f a 'x' 1234:5678\n f b 'x' 0600");
    let file = plain(&lab);
    restore(&lab, &file)
        .args(["--chown", "77:88", "--chmod", "F640"])
        .ok();
    let copy = restored(&lab).join("a");
    let meta = fs::metadata(&copy).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(
        (meta.uid(), meta.gid(), meta.mode() & 0o7777),
        (77, 88, 0o640)
    );
}

#[test]
fn who_is_not_root_gets_what_can_be_had_and_is_told() {
    needs!(Devices);
    let lab = Lab::with_source("f a 'x' 77:88\n c null 1,3\n h second = a\n d own 0755 1234:1234");
    let file = plain(&lab);
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let to = lab.path("home-user-1234");
    fs::create_dir_all(&to).unwrap();
    std::os::unix::fs::chown(&to, Some(1234), Some(1234)).unwrap();
    bundle(&lab, ["restore"])
        .args([&file, &to.join("out")])
        .by_user(&lab, 1234)
        .ok()
        .says("device nodes are left out")
        .says("ownership is not kept");
    let copy = to.join("out/src");
    assert!(!copy.join("null").exists());
    let dump = |path: &_| Dump::of(path).without("owner").without("mtime");
    tree(&lab.src, "r null");
    assert_same_dumps(&dump(&lab.src), &dump(&copy));
}

#[test]
fn a_disk_that_is_too_small_is_not_begun() {
    needs!(Mount);
    let lab = Lab::with_source("f a random(8M)");
    let file = plain(&lab);
    let _small = Tmpfs::mount(&lab.dst, "size=2M");
    restore(&lab, &file)
        .code(3)
        .says("that the destination has left");
    assert_eq!(fs::read_dir(&lab.dst).unwrap().count(), 0);
}

#[test]
fn a_disk_that_fills_up_keeps_the_old_files() {
    needs!(Mount);
    let lab = Lab::with_source("f a random(8M)");
    let file = plain(&lab);
    let _small = Tmpfs::mount(&lab.dst, "size=2M");
    lab.destination("f src/a 'old'");
    restore(&lab, &file).code(3).says("No space left");
    assert_eq!(fs::read(restored(&lab).join("a")).unwrap(), b"old");
    assert_eq!(fs::read_dir(restored(&lab)).unwrap().count(), 1);
}

#[test]
fn a_destination_that_is_in_use_is_left_alone() {
    let lab = Lab::with_source("f a 'x'");
    let file = plain(&lab);
    fs::create_dir_all(restored(&lab)).unwrap();
    let held = fs::File::open(restored(&lab)).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    restore(&lab, &file).code(7).says("locked");
}

#[test]
fn a_restored_tree_is_settled_for_a_sync() {
    let lab = Lab::new();
    every_kind(&lab.src);
    tree(&lab.src, "r socket\n m . @1600000000.987654321");
    let (run, file) = create(&lab, &["--plaintext"]);
    run.ok();
    restore(&lab, &file).args(["--root", "src"]).ok();
    lab.assert_settled(&[]);
}

#[test]
fn json_tells_what_was_restored() {
    let lab = Lab::with_source("f a 'text'\n h b = a\n d c\n l d -> a");
    let file = plain(&lab);
    let outcome = restore(&lab, &file).args(["--json"]).ok();
    for (field, count) in [
        ("source_entries", 4),
        ("files_sent", 1),
        ("created", 2),
        ("hard_linked", 1),
        ("literal_bytes", 4),
    ] {
        assert_eq!(outcome.count(field), count, "{field}: {outcome}");
    }
}
