use std::io;
use std::os::unix::fs::FileExt;
use std::process::Command;

use super::super::testing::{Place, SOME_TIME, has_root, name, run};
use super::super::{
    Dir, ListScratch, Target, XattrSelect, get_xattr, read_xattrs, set_mode, set_mtime, set_owner,
    set_xattr, write_xattrs,
};
use super::*;
use crate::path::Name;

const ALL: XattrSelect = XattrSelect::ALL;

fn meta(kind: EntryKind, mode: u16) -> Metadata {
    Metadata {
        kind,
        mode,
        uid: 1234,
        gid: 2345,
        mtime: SOME_TIME,
        size: 0,
        rdev: if kind.is_device() { (8, 300) } else { (0, 0) },
    }
}

fn names_in(dir: &Dir) -> Vec<Name> {
    let mut names = Vec::new();
    dir.list(&mut ListScratch::new(), &mut |bytes, _, _| {
        names.push(name(bytes))
    })
    .unwrap();
    names.sort();
    names
}

fn set_acl(dir: &Dir, entry: &str, attribute: &[u8], acl: &Acl) {
    let entry = name(entry);
    set_xattr(&Target::Entry(dir, &entry), attribute, &acl.to_raw()).unwrap();
}

/// One of everything that needs privileges to keep.
fn make_source() -> Place {
    let place = Place::new();
    let dir = &place.dir;
    let acl = |group, mask| Acl {
        owner: 6,
        users: vec![(1000, 6), (1001, 7)],
        group,
        groups: vec![(2000, 4)],
        mask: Some(mask),
        other: 4,
    };
    for (entry, mode) in [
        ("plain", 0o644),
        ("setuid", 0o4755),
        ("none", 0),
        ("read", 0o444),
    ] {
        place.write(entry, entry);
        set_mode(&Target::Entry(dir, &name(entry)), mode).unwrap();
    }
    for (entry, group, mask) in [("acl", 4, 7), ("acl-low-mask", 7, 4), ("acl-as-mask", 6, 6)] {
        place.write(entry, entry);
        set_acl(dir, entry, Xattr::ACL_ACCESS, &acl(group, mask));
    }
    place.write("acl-mask-only", "");
    let mask_only = Acl {
        users: Vec::new(),
        groups: Vec::new(),
        ..acl(4, 6)
    };
    set_acl(dir, "acl-mask-only", Xattr::ACL_ACCESS, &mask_only);
    for (entry, mode) in [("dir", 0o2750), ("dir-closed", 0o555), ("dir-acl", 0o755)] {
        dir.make_dir(&name(entry), 0o700).unwrap();
        set_mode(&Target::Entry(dir, &name(entry)), mode).unwrap();
    }
    set_acl(dir, "dir-acl", Xattr::ACL_DEFAULT, &acl(5, 7));
    let plain_default = Acl {
        mask: None,
        ..mask_only
    };
    set_acl(dir, "dir", Xattr::ACL_DEFAULT, &plain_default);
    dir.make_symlink(&name("link"), b"target/of the link")
        .unwrap();
    for (entry, kind) in [
        ("fifo", EntryKind::Fifo),
        ("socket", EntryKind::Socket),
        ("char", EntryKind::CharDevice),
        ("block", EntryKind::BlockDevice),
    ] {
        dir.make_node(&name(entry), kind, 0o640, (8, 300)).unwrap();
    }
    place.write("foreign", "");
    let foreign = name("foreign");
    for attribute in ["trusted.x", "security.x", "user.x"] {
        let target = Target::Entry(dir, &foreign);
        set_xattr(&target, attribute.as_bytes(), attribute.as_bytes()).unwrap();
    }
    for entry in names_in(dir) {
        let target = Target::Entry(dir, &entry);
        let mode = dir.stat(&entry).unwrap().meta.mode;
        if !entry.as_bytes().starts_with(b"read") {
            set_owner(&target, Some(1234), Some(2345)).unwrap();
        }
        set_mode(&target, mode).unwrap();
        set_mtime(&target, SOME_TIME).unwrap();
    }
    place
}

/// Keeps `entry` of `from` in `to` as this module says, without using a privilege.
fn store(from: &Dir, to: &Dir, entry: &Name) {
    let source = Target::Entry(from, entry);
    let meta = from.stat(entry).unwrap().meta;
    match meta.kind {
        EntryKind::Dir => to.make_dir(entry, 0o700).unwrap(),
        EntryKind::File => {
            let file = to.create_new(entry).unwrap();
            io::copy(&mut from.open_file(entry).unwrap(), &mut &file).unwrap();
        }
        EntryKind::Symlink => {
            let file = to.create_new(entry).unwrap();
            file.write_all_at(&from.read_link(entry).unwrap(), 0)
                .unwrap();
        }
        _ => drop(to.create_new(entry).unwrap()),
    }
    let target = Target::Entry(to, entry);
    set_mode(&target, real_mode(&meta)).unwrap();
    let want = to_stored(&read_xattrs(&source, ALL).unwrap(), meta.mode);
    let refused = write_xattrs(&target, &want, &[]);
    assert!(refused.is_empty(), "{refused:?}");
    if is_needed(&meta, &to.stat(entry).unwrap().meta) {
        set_xattr(&target, STAT, &encode(&meta)).unwrap();
    }
    set_mtime(&target, meta.mtime).unwrap();
}

/// What an entry is and has, by way of this module where it was stored by it or by rsync.
fn meant(dir: &Dir, entry: &Name, is_stored: bool) -> (Metadata, Vec<Xattr>) {
    let target = Target::Entry(dir, entry);
    let mut stat = dir.stat(entry).unwrap();
    let mut xattrs = read_xattrs(&target, ALL).unwrap();
    if is_stored {
        if let Some(value) = get_xattr(&target, STAT).unwrap() {
            assert!(overlay(&mut stat, &value), "{entry}");
        }
        xattrs = from_stored(&xattrs, stat.meta.mode);
    }
    (stat.meta, xattrs)
}

fn rsync(options: &[&str], from: &Place, to: &Place) -> io::Result<()> {
    let from = from.path().join("");
    let mut rsync = Command::new("rsync");
    run(rsync
        .args(["-aAX", "--numeric-ids"])
        .args(options)
        .args([&from, to.path()]))
}

fn has_rsync() -> bool {
    let found = run(Command::new("rsync").arg("--version"));
    if let Err(err) = &found {
        eprintln!("skipped: no rsync: {err}");
    }
    found.is_ok()
}

#[test]
fn what_rsync_stored_is_read() {
    if !has_root() || !has_rsync() {
        return;
    }
    let (source, stored) = (make_source(), Place::new());
    rsync(&["-M--fake-super"], &source, &stored).unwrap();
    for entry in names_in(&source.dir) {
        let is = meant(&source.dir, &entry, false);
        assert_eq!(meant(&stored.dir, &entry, true), is, "{entry}");
    }
}

#[test]
fn rsync_reads_what_was_stored() {
    if !has_root() || !has_rsync() {
        return;
    }
    let (source, stored, restored) = (make_source(), Place::new(), Place::new());
    for entry in names_in(&source.dir) {
        store(&source.dir, &stored.dir, &entry);
    }
    rsync(&["--fake-super", "-M--super"], &stored, &restored).unwrap();
    for entry in names_in(&source.dir) {
        let is = meant(&source.dir, &entry, false);
        assert_eq!(meant(&restored.dir, &entry, false), is, "{entry}");
    }
    let link = name("link");
    let target = restored.dir.read_link(&link).unwrap();
    assert_eq!(target, source.dir.read_link(&link).unwrap());
}

#[test]
fn what_is_stored_is_byte_for_byte_what_rsync_stores() {
    if !has_root() || !has_rsync() {
        return;
    }
    let (source, ours, theirs) = (make_source(), Place::new(), Place::new());
    rsync(&["-M--fake-super"], &source, &theirs).unwrap();
    for entry in names_in(&source.dir) {
        store(&source.dir, &ours.dir, &entry);
        let read = |dir: &Dir| {
            let stat = dir.stat(&entry).unwrap().meta;
            (stat, read_xattrs(&Target::Entry(dir, &entry), ALL).unwrap())
        };
        let (their_meta, their_xattrs) = read(&theirs.dir);
        let (our_meta, our_xattrs) = read(&ours.dir);
        assert_eq!(our_xattrs, their_xattrs, "{entry}");
        assert_eq!(our_meta, their_meta, "{entry}");
    }
}

#[test]
fn a_value_comes_back() {
    for kind in [
        EntryKind::File,
        EntryKind::Dir,
        EntryKind::Symlink,
        EntryKind::Fifo,
        EntryKind::Socket,
        EntryKind::CharDevice,
        EntryKind::BlockDevice,
    ] {
        let meta = meta(kind, 0o6751);
        let fake = decode(&encode(&meta)).unwrap();
        assert_eq!((fake.kind, fake.mode, fake.rdev), (kind, 0o6751, meta.rdev));
        assert_eq!((fake.uid, fake.gid), (1234, 2345));
    }
    let setuid = meta(EntryKind::File, 0o4755);
    assert_eq!(encode(&setuid), b"104755 0,0 1234:2345");
}

#[test]
fn damaged_values_are_refused() {
    for bad in [
        &b""[..],
        b"100644",
        b"100644 0,0",
        b"100644 0,0 1",
        b"644 0,0 1:2",
        b"100648 0,0 1:2",
        b"7777777777777 0,0 1:2",
        b"100644 0,0 1:99999999999",
        b"100644 0,0 -1:2",
        b"\xff",
    ] {
        assert_eq!(decode(bad), None, "{bad:?}");
    }
}

#[test]
fn a_file_does_not_pass_for_a_directory() {
    let place = Place::new();
    let mut stat = place.dir.stat_self().unwrap();
    let before = stat;
    assert!(!overlay(&mut stat, b"100644 0,0 1:2"));
    assert_eq!(stat, before);
    assert!(overlay(&mut stat, b"40700 0,0 1:2"));
    assert_eq!((stat.meta.uid, stat.meta.gid), (1, 2));
}

#[test]
fn the_value_is_needed_only_where_the_entry_says_less() {
    let plain = meta(EntryKind::File, 0o640);
    assert!(!is_needed(&plain, &plain));
    assert!(is_needed(&plain, &Metadata { uid: 1, ..plain }));
    let closed = meta(EntryKind::File, 0o040);
    let real = Metadata {
        mode: real_mode(&closed),
        ..closed
    };
    assert!(is_needed(&closed, &real));
    let fifo = meta(EntryKind::Fifo, 0o640);
    assert!(is_needed(&fifo, &plain));
}

#[test]
fn damaged_acls_are_left_out() {
    let stored = |value: &[u8]| Xattr {
        name: ACL_ACCESS.to_vec(),
        value: value.to_vec(),
    };
    let words =
        |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let good = words(&[0x80, 0x80, 6, 0x80, 1000, 0x8000_0006]);
    assert_eq!(from_stored(&[stored(&good)], 0o664).len(), 1);
    for bad in [
        good[..good.len() - 1].to_vec(),
        good[..good.len() - 4].to_vec(),
        words(&[0x80, 0x80, 6]),
        words(&[0x80, 0x80, 9, 0x80]),
        words(&[0x80, 0x80, 6, 0x80, 1000, 0x8000_0008]),
        Vec::new(),
    ] {
        assert_eq!(from_stored(&[stored(&bad)], 0o664), [], "{bad:?}");
    }
}

#[test]
fn a_mask_changed_by_mode_alone_is_the_modes() {
    let words = [0x80, 4, 7, 0x80, 1000, 0x8000_0006];
    let stored = Xattr {
        name: ACL_ACCESS.to_vec(),
        value: words.into_iter().flat_map(u32::to_le_bytes).collect(),
    };
    let meant = from_stored(&[stored], 0o650);
    let acl = Acl::from_raw(&meant[0].value).unwrap();
    assert_eq!(
        (acl.owner, acl.group, acl.mask, acl.other),
        (6, 4, Some(5), 0)
    );
    assert_eq!(acl.users, [(1000, 6)]);
}

#[test]
fn a_stored_name_cannot_bring_in_a_raw_acl_or_become_ours() {
    let named = |name: &[u8]| Xattr {
        name: name.to_vec(),
        value: b"v".to_vec(),
    };
    let smuggled = [named(b"user.rsync.system.posix_acl_access"), named(STAT)];
    assert_eq!(from_stored(&smuggled, 0o644), []);
    assert_eq!(to_stored(&[named(STAT), named(ACL_ACCESS)], 0o644), []);
    let kept = [named(b"user.rsync.%other"), named(b"user.rsync.bare")];
    assert_eq!(from_stored(&kept, 0o644), kept);
}
