use super::super::testing::{Mounted, has_root, places};
use super::super::{ListScratch, stat_path};
use super::*;

fn is_empty(dir: &Dir) -> bool {
    let mut count = 0;
    dir.list(&mut ListScratch::new(), &mut |_, _, _| count += 1)
        .unwrap();
    count == 0
}

#[test]
fn probing_leaves_no_trace() {
    for place in places() {
        let before = place.dir.stat_self().unwrap();
        probe(&place.dir).unwrap();
        assert!(is_empty(&place.dir));
        assert_eq!(place.dir.stat_self().unwrap(), before);
    }
}

#[test]
fn root_can_keep_all_on_a_common_filesystem() {
    if !has_root() {
        return;
    }
    for place in places() {
        let found = probe(&place.dir).unwrap();
        let expected = Abilities {
            mtime_granularity_ns: 1,
            user_xattrs: true,
            trusted_xattrs: true,
            security_xattrs: true,
            capabilities: true,
            acls: true,
            owners: true,
            groups: true,
            symlinks: true,
            hard_links: true,
            modes: true,
            read_only: false,
            // Not the same on all machines.
            devices: found.devices,
            reflink: found.reflink,
        };
        assert_eq!(found, expected);
        assert_eq!(source_granularity(&place.dir), 1);
    }
}

#[test]
fn shared_blocks_are_found_where_they_can_be() {
    for fs_type in ["btrfs", "xfs"] {
        if let Some(mounted) = Mounted::new(fs_type, 400 << 20) {
            assert!(probe(&mounted.dir).unwrap().reflink, "{fs_type}");
        }
    }
    let on_ext4 = Mounted::new("ext4", 16 << 20);
    if let Some(mounted) = on_ext4 {
        assert!(!probe(&mounted.dir).unwrap().reflink);
    }
}

#[test]
fn coarse_times_are_found() {
    // Inodes of 128 bytes have no room for more than seconds.
    if let Some(mounted) = Mounted::with_options("ext4", 16 << 20, &["-q", "-I", "128"]) {
        assert_eq!(
            probe(&mounted.dir).unwrap().mtime_granularity_ns,
            1_000_000_000
        );
    }
}

#[test]
fn a_filesystem_of_fewer_words_is_found_out() {
    let Some(mounted) = Mounted::new("vfat", 16 << 20) else {
        return;
    };
    let found = probe(&mounted.dir).unwrap();
    assert!(is_empty(&mounted.dir));
    assert_eq!(found.mtime_granularity_ns, 2_000_000_000);
    assert_eq!(source_granularity(&mounted.dir), 2_000_000_000);
    let kept = [
        found.user_xattrs,
        found.acls,
        found.owners,
        found.modes,
        found.symlinks,
        found.hard_links,
        found.devices,
        found.reflink,
    ];
    assert_eq!(kept, [false; 8]);
}

#[test]
fn a_read_only_filesystem_keeps_nothing() {
    let Some(mounted) = Mounted::new("ext4", 16 << 20) else {
        return;
    };
    mounted.remount_read_only();
    let found = probe(&mounted.dir).unwrap();
    assert!(found.read_only);
    assert_eq!(found, read_only(&mounted.dir));
}

#[test]
fn a_missing_directory_is_an_error_not_a_poor_one() {
    let places = places();
    let gone = places[0].path().join("gone");
    std::fs::create_dir(&gone).unwrap();
    let dir = Dir::open_root(&gone).unwrap();
    std::fs::remove_dir(&gone).unwrap();
    assert!(stat_path(&gone).is_err());
    assert!(probe(&dir).is_err());
}
