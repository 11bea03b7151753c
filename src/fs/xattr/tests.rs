use std::os::fd::AsFd;

use super::super::Acl;
use super::super::testing::{Place, has_root, name, places};
use super::*;
use crate::entry::EntryKind;

const ALL: XattrSelect = XattrSelect::ALL;

fn xattr(name: &[u8], value: impl Into<Vec<u8>>) -> Xattr {
    Xattr {
        name: name.to_vec(),
        value: value.into(),
    }
}

fn some_acl() -> Vec<u8> {
    let acl = Acl {
        owner: 6,
        users: vec![(1000, 7)],
        group: 5,
        groups: vec![(20, 4)],
        mask: Some(7),
        other: 0,
    };
    acl.to_raw()
}

/// What the kernel still lists of its own accord, such as a security module's label.
fn without_labels(mut xattrs: Vec<Xattr>) -> Vec<Xattr> {
    xattrs.retain(|xattr| !xattr.name.starts_with(b"security."));
    xattrs
}

#[test]
fn attributes_and_acls_come_back_by_name_and_by_descriptor() {
    for place in places() {
        let file = place.dir.create_new(&name("file")).unwrap();
        let want = [
            xattr(Xattr::ACL_ACCESS, some_acl()),
            xattr(b"user.empty", ""),
            xattr(b"user.large", vec![7; 2000]),
            xattr(b"user.rsync.%stat", "100644 0,0 1:2"),
            xattr(b"user.\xff raw", b"\0\n\xff".to_vec()),
        ];
        let entry = name("file");
        let targets = [Target::File(&file), Target::Entry(&place.dir, &entry)];
        for target in &targets {
            let refused = write_xattrs(target, &want, &[]);
            assert!(refused.is_empty(), "{refused:?}");
            for reader in &targets {
                let have = read_xattrs(reader, ALL).unwrap();
                assert_eq!(without_labels(have), want);
            }
            let refused = write_xattrs(target, &[], &want);
            assert!(refused.is_empty(), "{refused:?}");
            for reader in &targets {
                let have = read_xattrs(reader, ALL).unwrap();
                assert_eq!(without_labels(have), []);
            }
        }
    }
}

#[test]
fn directories_have_default_acls() {
    for place in places() {
        let want = [
            xattr(Xattr::ACL_ACCESS, some_acl()),
            xattr(Xattr::ACL_DEFAULT, some_acl()),
        ];
        assert!(write_xattrs(&Target::Dir(&place.dir), &want, &[]).is_empty());
        let have = read_xattrs(&Target::Dir(&place.dir), ALL).unwrap();
        assert_eq!(without_labels(have), want);
    }
}

#[test]
fn only_what_was_selected_is_read() {
    let place = Place::new();
    place.write("file", "");
    let file = name("file");
    let target = Target::Entry(&place.dir, &file);
    set_xattr(&target, b"user.a", b"1").unwrap();
    set_xattr(&target, Xattr::ACL_ACCESS, &some_acl()).unwrap();
    let names = |xattrs, acls| -> Vec<Vec<u8>> {
        let read = read_xattrs(
            &target,
            XattrSelect {
                xattrs,
                acls,
                ..XattrSelect::default()
            },
        )
        .unwrap();
        let read = without_labels(read);
        read.into_iter().map(|xattr| xattr.name).collect()
    };
    assert_eq!(names(true, false), [b"user.a".to_vec()]);
    assert_eq!(names(false, true), [Xattr::ACL_ACCESS.to_vec()]);
    assert_eq!(names(false, false), Vec::<Vec<u8>>::new());
}

#[test]
fn symlinks_and_special_entries_have_attributes_of_their_own() {
    if !has_root() {
        return;
    }
    for place in places() {
        place.write("file", "");
        place.dir.make_symlink(&name("link"), b"file").unwrap();
        place
            .dir
            .make_node(&name("fifo"), EntryKind::Fifo, 0o644, (0, 0))
            .unwrap();
        for entry in ["link", "fifo"].map(name) {
            let target = Target::Entry(&place.dir, &entry);
            set_xattr(&target, b"trusted.x", b"own").unwrap();
            assert!(
                list_xattrs(&target)
                    .unwrap()
                    .contains(&b"trusted.x".to_vec())
            );
            assert_eq!(get_xattr(&target, b"trusted.x").unwrap().unwrap(), b"own");
            let path = proc_path(place.dir.as_fd(), &entry);
            let mut value = [0; 8];
            let length = rustix::fs::lgetxattr(&path, "trusted.x", &mut value).unwrap();
            assert_eq!(&value[..length], b"own");
            remove_xattr(&target, b"trusted.x").unwrap();
            assert_eq!(get_xattr(&target, b"trusted.x").unwrap(), None);
        }
        let file = name("file");
        let file = Target::Entry(&place.dir, &file);
        assert_eq!(get_xattr(&file, b"trusted.x").unwrap(), None);
    }
}

#[test]
fn a_long_list_of_names_is_read_whole() {
    let place = Place::new();
    place.write("file", "");
    let file = name("file");
    let target = Target::Entry(&place.dir, &file);
    let want: Vec<Xattr> = (0..30)
        .map(|number| xattr(format!("user.{number:0>50}").as_bytes(), "v"))
        .collect();
    assert!(write_xattrs(&target, &want, &[]).is_empty());
    assert_eq!(without_labels(read_xattrs(&target, ALL).unwrap()), want);
}

#[test]
fn only_what_differs_is_written() {
    let place = Place::new();
    place.write("file", "");
    let file = name("file");
    let target = Target::Entry(&place.dir, &file);
    let same = xattr(b"user.same", "1");
    let have = [
        xattr(b"user.changed", "1"),
        xattr(b"user.gone", "1"),
        same.clone(),
    ];
    let want = [xattr(b"user.changed", "2"), xattr(b"user.new", "1"), same];
    assert!(write_xattrs(&target, &have, &[]).is_empty());
    // Were it written again, it would be there again.
    remove_xattr(&target, b"user.same").unwrap();
    assert!(write_xattrs(&target, &want, &have).is_empty());
    assert_eq!(
        without_labels(read_xattrs(&target, ALL).unwrap()),
        want[..2]
    );
}

#[test]
fn refusals_are_collected_and_the_rest_is_written() {
    let place = Place::new();
    place.write("file", "");
    let file = name("file");
    let target = Target::Entry(&place.dir, &file);
    let want = [
        xattr(b"nonsense", "1"),
        xattr(b"user.a", "1"),
        xattr(b"user.nul\0", "1"),
    ];
    let refused = write_xattrs(&target, &want, &[]);
    let names: Vec<_> = refused.iter().map(|(name, _)| name.as_slice()).collect();
    assert_eq!(names, [&b"nonsense"[..], b"user.nul\0"]);
    assert_eq!(get_xattr(&target, b"user.a").unwrap().unwrap(), b"1");
}

#[test]
fn a_filesystem_without_attributes_has_none() {
    let proc = super::super::Dir::open_root("/proc/self".as_ref()).unwrap();
    let entry = name("status");
    assert_eq!(read_xattrs(&Target::Entry(&proc, &entry), ALL).unwrap(), []);
    assert_eq!(read_xattrs(&Target::Dir(&proc), ALL).unwrap(), []);
}
