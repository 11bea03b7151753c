//! Archives as values: what is written is read, and what is not written so is no panic.

use std::io::Read;

use proptest::collection::vec;
use proptest::prelude::*;

use super::member::Member;
use super::read::Reader;
use super::write::Archive;
use crate::entry::{EntryKind, Metadata, Timestamp, Xattr};
use crate::fs::Acl;

fn kinds() -> impl Strategy<Value = EntryKind> {
    use EntryKind::{BlockDevice, CharDevice, Dir, Fifo, File, Symlink};
    prop::sample::select(vec![File, Dir, Symlink, Fifo, CharDevice, BlockDevice])
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    vec(1_u8..=255, 1..300).prop_map(|mut name| {
        // Only the reader of a whole bundle minds what a path says.
        if name.ends_with(b"/") {
            name.push(b'x');
        }
        name
    })
}

fn xattrs() -> impl Strategy<Value = Vec<Xattr>> {
    let plain = (vec(1_u8..=255, 1..40), vec(any::<u8>(), 0..600)).prop_map(|(name, value)| {
        let name = [&b"user."[..], &name].concat();
        Xattr { name, value }
    });
    let acl = (any::<[u32; 2]>(), 0_u8..8).prop_map(|(ids, rights)| Xattr {
        name: Xattr::ACL_ACCESS.to_vec(),
        value: Acl {
            owner: rights,
            users: vec![(ids[0], 7)],
            group: 5,
            groups: vec![(ids[1], rights)],
            mask: Some(7),
            other: 0,
        }
        .to_raw(),
    });
    (vec(plain, 0..4), prop::option::of(acl)).prop_map(|(plain, acl)| {
        let mut all: Vec<_> = plain.into_iter().chain(acl).collect();
        all.sort_unstable();
        all.dedup_by(|a, b| a.name == b.name);
        all
    })
}

fn times() -> impl Strategy<Value = Timestamp> {
    (-(1_i64 << 40)..1 << 40, 0_u32..1_000_000_000)
        .prop_map(|(secs, nanos)| Timestamp { secs, nanos })
}

/// Members with content of at most a few blocks.
fn members() -> impl Strategy<Value = (Member, Vec<u8>)> {
    let meta = (kinds(), 0_u16..0o10000, [0..u32::MAX, 0..u32::MAX], times());
    let rest = (names(), names(), xattrs(), vec(any::<u8>(), 0..1500));
    let gaps = prop::option::of(vec((0_u64..5000, 1_u64..700), 0..4));
    (meta, rest, gaps, any::<bool>()).prop_map(|(meta, rest, gaps, is_link)| {
        let (kind, mode, [uid, gid], mtime) = meta;
        let (path, target, xattrs, bytes) = rest;
        let is_file = kind == EntryKind::File && !is_link;
        let mut member = Member::own(path, 0, mtime);
        member.meta = Metadata {
            kind,
            mode,
            uid,
            gid,
            ..member.meta
        };
        member.xattrs = xattrs;
        match kind {
            _ if is_link => member.link = Some(target),
            EntryKind::Symlink => {
                member.meta.size = target.len() as u64;
                member.target = target;
            }
            EntryKind::CharDevice | EntryKind::BlockDevice => member.meta.rdev = (4095, 1 << 19),
            _ => {}
        }
        if !is_file {
            return (member, Vec::new());
        }
        member.meta.size = bytes.len() as u64;
        let Some(gaps) = gaps else {
            return (member, bytes);
        };
        let (mut at, mut extents, mut left) = (0, Vec::new(), bytes.len() as u64);
        for (gap, len) in gaps {
            let len = len.min(left);
            if len > 0 {
                // Pieces that touch are one, and a map never has two of it.
                extents.push(at + gap + 1..at + gap + 1 + len);
                at += gap + 1 + len;
                left -= len;
            }
        }
        let data: u64 = extents.iter().map(|range| range.end - range.start).sum();
        member.meta.size = at + 77;
        member.extents = Some(extents);
        (member, bytes[..data as usize].to_vec())
    })
}

/// What is left of a member that is another name: nothing but that.
fn as_read(member: &Member) -> Member {
    let mut read = member.clone();
    if read.link.is_some() {
        read.xattrs.clear();
        read.target.clear();
        read.meta.size = 0;
        read.meta.rdev = (0, 0);
        read.meta.kind = EntryKind::File;
    }
    read
}

fn archive(members: &[(Member, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Archive::new(Vec::new());
    for (member, bytes) in members {
        let head = member.head().unwrap();
        let mut content = archive.begin(member, &head).unwrap();
        content.write(bytes).unwrap();
        assert_eq!(content.finish().unwrap(), 0);
    }
    archive.finish().unwrap()
}

fn read(bytes: &[u8]) -> std::io::Result<Vec<(Member, Vec<u8>)>> {
    let mut reader = Reader::new(bytes);
    let mut found = Vec::new();
    while let Some(member) = reader.next_member()? {
        let mut bytes = Vec::new();
        reader.content(&member, &mut |_, part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        found.push((member, bytes));
    }
    Ok(found)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn members_come_back_as_they_were(mut members in vec(members(), 0..4)) {
        // A link is written as what it is another name of, which is no directory.
        for (member, _) in &mut members {
            if member.link.is_some() && member.meta.kind == EntryKind::Dir {
                member.meta.kind = EntryKind::File;
            }
        }
        let found = read(&archive(&members)).unwrap();
        let expected: Vec<_> = members
            .iter()
            .map(|(member, bytes)| (as_read(member), bytes.clone()))
            .collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_changed_archive_is_read_or_refused(
        members in vec(members(), 1..4),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = archive(&members);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = read(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        prop_assert!(read(&bytes).is_err(), "it has no end");
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..4096)) {
        let _ = read(&bytes);
    }
}

#[test]
fn content_that_is_short_or_long_leaves_the_archive_whole() {
    let member = |path: &str, size| Member::own(path.as_bytes().to_vec(), size, times_zero());
    let mut archive = Archive::new(Vec::new());
    for (path, bytes) in [("short", &b"abc"[..]), ("long", b"abcdefghij")] {
        let member = member(path, 5);
        let head = member.head().unwrap();
        let mut content = archive.begin(&member, &head).unwrap();
        content.write(bytes).unwrap();
        content.finish().unwrap();
    }
    let found = read(&archive.finish().unwrap()).unwrap();
    let contents: Vec<_> = found.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    assert_eq!(contents, [&b"abc\0\0"[..], b"abcde"]);
}

#[test]
fn what_is_not_read_of_a_member_is_skipped() {
    let first = Member::own(b"first".to_vec(), 1000, times_zero());
    let second = Member::own(b"second".to_vec(), 3, times_zero());
    let bytes = archive(&[(first, vec![1; 1000]), (second, vec![2; 3])]);
    let mut reader = Reader::new(&bytes[..]);
    reader.next_member().unwrap();
    let mut some = [0; 10];
    reader.read_exact(&mut some).unwrap();
    let second = reader.next_member().unwrap().unwrap();
    assert_eq!(second.path, b"second");
    assert!(reader.next_member().unwrap().is_none());
}

fn times_zero() -> Timestamp {
    Timestamp::default()
}
