use super::super::testing::{Mounted, has_root, name, places};
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

/// A page of a file, mapped to be written to until dropped.
struct Mapped(*mut u8);

#[allow(unsafe_code)]
impl Mapped {
    const BYTES: usize = 4096;

    fn new(file: &File) -> Mapped {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a place where nothing is mapped.
        let page = unsafe {
            mmap(
                std::ptr::null_mut(),
                Mapped::BYTES,
                protection,
                MapFlags::SHARED,
                file,
                0,
            )
        };
        Mapped(page.unwrap().cast())
    }

    fn write(&self, byte: u8) {
        // SAFETY: the page is mapped for writing until `self` is dropped, and the file is as long.
        unsafe { self.0.write_volatile(byte) }
    }
}

#[allow(unsafe_code)]
impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more, and it has this length.
        unsafe { rustix::mm::munmap(self.0.cast(), Mapped::BYTES) }.unwrap();
    }
}

#[test]
fn where_writes_show_one_through_a_mapping_does_too() {
    for place in places() {
        place.write("f", [0; Mapped::BYTES]);
        let path = place.path().join("f");
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mapped = Mapped::new(&file);
        mapped.write(1);
        let shows = shows_writes(&file).unwrap();
        let before = stat_file(&file).unwrap();
        // Longer than the kernel's clock takes for a tick.
        std::thread::sleep(std::time::Duration::from_millis(30));
        mapped.write(2);
        let moved = stat_file(&file).unwrap().ctime != before.ctime;
        assert!(moved || !shows, "{:?}", place.path());
    }
}

#[test]
fn writes_show_on_the_usual_disks() {
    for fs_type in ["ext4", "btrfs", "xfs"] {
        if let Some(mounted) = Mounted::new(fs_type, 400 << 20) {
            let file = mounted.dir.create_new(&temp_name(&name("f"))).unwrap();
            assert!(shows_writes(&file).unwrap(), "{fs_type}");
        }
    }
}
