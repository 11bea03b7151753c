use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::super::testing::{Place, has_root, name, path, places};
use super::*;

fn listed(dir: &Dir) -> Vec<(Vec<u8>, u64, Option<EntryKind>)> {
    let mut entries = Vec::new();
    dir.list(&mut ListScratch::new(), &mut |name, ino, kind| {
        entries.push((name.to_vec(), ino, kind));
    })
    .unwrap();
    entries.sort();
    entries
}

#[test]
fn a_symlink_on_the_way_is_never_followed() {
    for place in places() {
        let outside = Place::new();
        std::fs::create_dir(outside.path().join("b")).unwrap();
        std::fs::create_dir_all(place.path().join("real/b")).unwrap();
        symlink(outside.path(), place.path().join("a")).unwrap();
        symlink("real", place.path().join("c")).unwrap();
        symlink(outside.path().join("b"), place.path().join("real/d")).unwrap();

        for bad in ["a/b", "a", "c/b", "c", "real/d"] {
            assert!(place.dir.open_dir(&path(bad)).is_err(), "{bad}");
            let by_component = open_by_component(place.dir.as_fd(), bad.as_bytes(), OFlags::RDONLY);
            assert!(by_component.is_err(), "{bad}");
        }
        assert!(place.dir.open_child(&name("a")).is_err());
        assert!(place.dir.open_dir(&path("real/b")).is_ok());
    }
}

#[test]
fn a_parent_swapped_for_a_symlink_meanwhile_leads_nowhere() {
    let place = Place::new();
    let outside = Place::new();
    std::fs::create_dir(outside.path().join("b")).unwrap();
    std::fs::create_dir_all(place.path().join("a/b")).unwrap();
    symlink(outside.path(), place.path().join("link")).unwrap();
    let inside = place.dir.open_dir(&path("a/b")).unwrap();
    let inside = inside.stat_self().unwrap();

    let (mut inside_count, mut outside_count, mut refused_count) = (0, 0, 0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let dir = &place.dir;
                rustix::fs::renameat_with(dir, "a", dir, "link", RenameFlags::EXCHANGE).unwrap();
                std::thread::yield_now();
            }
        });
        let start = Instant::now();
        let is_enough = |inside, refused| inside >= 100 && refused >= 100;
        while !is_enough(inside_count, refused_count) && start.elapsed().as_secs() < 20 {
            let by_one_call = place.dir.open_dir(&path("a/b"));
            let by_component = open_by_component(place.dir.as_fd(), b"a/b", OFlags::RDONLY);
            for result in [by_one_call, by_component.map(|fd| Dir { fd })] {
                match result.map(|dir| dir.stat_self().unwrap().is_same_inode(&inside)) {
                    Ok(true) => inside_count += 1,
                    Ok(false) => outside_count += 1,
                    Err(_) => refused_count += 1,
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(outside_count, 0);
    assert!(inside_count > 0 && refused_count > 0);
}

#[test]
fn a_path_longer_than_a_system_call_takes_is_opened() {
    for place in places() {
        let deep = name([b'x'; 255]);
        let mut at = place.dir.try_clone().unwrap();
        let mut long = RelPath::root();
        for _ in 0..40 {
            at.make_dir(&deep, 0o755).unwrap();
            at = at.open_child(&deep).unwrap();
            long = long.join(&deep);
        }
        assert!(long.as_bytes().len() > 2 * CALL_PATH_MAX);
        let found = place.dir.open_dir(&long).unwrap().stat_self().unwrap();
        assert!(found.is_same_inode(&at.stat_self().unwrap()));
    }
}

#[test]
fn every_length_around_the_limit_of_a_call_is_opened() {
    let place = Place::new();
    let long = name([b'x'; 255]);
    let mut parent = RelPath::root();
    let mut at = place.dir.try_clone().unwrap();
    for _ in 0..15 {
        at.make_dir(&long, 0o755).unwrap();
        at = at.open_child(&long).unwrap();
        parent = parent.join(&long);
    }
    for length in 250..=255 {
        let last = name(vec![b'y'; length]);
        at.make_dir(&last, 0o755).unwrap();
        let last_dir = at.open_child(&last).unwrap();
        last_dir.make_dir(&name("z"), 0o755).unwrap();
        let found = place.dir.open_dir(&parent.join(&last).join(&name("z")));
        found.unwrap_or_else(|err| panic!("{length}: {err}"));
    }
}

#[test]
fn names_of_any_bytes_are_listed_and_found() {
    for place in places() {
        let names = [
            name("new\nline"),
            name(b"\xff\xfe not utf-8"),
            name([b'n'; 255]),
            name("..."),
            name("-rf"),
        ];
        for name in &names {
            place.dir.create_new(name).unwrap();
        }
        let mut expected: Vec<_> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        expected.sort();
        let entries = listed(&place.dir);
        let found: Vec<_> = entries.iter().map(|(name, _, _)| name.clone()).collect();
        assert_eq!(found, expected);
        for (listed_name, ino, kind) in entries {
            let stat = place.dir.stat(&name(listed_name)).unwrap();
            assert_eq!(stat.ino, ino);
            assert_eq!(kind, Some(EntryKind::File));
        }
    }
}

#[test]
fn a_directory_can_be_listed_again_and_sees_what_is_new() {
    let place = Place::new();
    assert_eq!(listed(&place.dir).len(), 0);
    place.write("a", "");
    assert_eq!(listed(&place.dir).len(), 1);
    assert_eq!(listed(&place.dir).len(), 1);
}

#[test]
fn a_directory_larger_than_the_buffer_is_listed_whole() {
    let place = Place::new();
    let count = 3 * LIST_BUFFER_BYTES / 100;
    for number in 0..count {
        place
            .dir
            .create_new(&name(format!("{number:0>100}")))
            .unwrap();
    }
    assert_eq!(listed(&place.dir).len(), count);
}

#[test]
fn only_regular_files_are_opened() {
    for place in places() {
        let dir = &place.dir;
        dir.make_node(&name("fifo"), EntryKind::Fifo, 0o644, (0, 0))
            .unwrap();
        dir.make_node(&name("socket"), EntryKind::Socket, 0o644, (0, 0))
            .unwrap();
        dir.make_dir(&name("dir"), 0o755).unwrap();
        place.write("file", "content");
        dir.make_symlink(&name("link"), b"file").unwrap();
        for bad in ["fifo", "socket", "dir", "link"] {
            for result in [
                dir.open_file(&name(bad)),
                dir.open_file_rw(&name(bad)),
                dir.open_listed_file(&name(bad)).map(|(file, _)| file),
            ] {
                let err = result.unwrap_err();
                assert_eq!(err.kind(), io::ErrorKind::InvalidInput, "{bad}: {err}");
            }
        }
        let (file, stat) = dir.open_listed_file(&name("file")).unwrap();
        assert_eq!(io::read_to_string(file).unwrap(), "content");
        assert_eq!(stat, dir.stat(&name("file")).unwrap());
    }
}

#[test]
fn looking_at_a_fifo_does_not_wake_its_writer() {
    let place = Place::new();
    let fifo = name("fifo");
    place
        .dir
        .make_node(&fifo, EntryKind::Fifo, 0o644, (0, 0))
        .unwrap();
    place.dir.open_file(&fifo).unwrap_err();
    // Without a reader a writer that will not wait is turned away.
    let mut writer = std::fs::OpenOptions::new();
    writer
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32);
    let err = writer.open(place.path().join("fifo")).unwrap_err();
    assert!(is(&err, Errno::NXIO));
}

#[test]
fn a_fifo_in_the_place_of_a_listed_file_is_not_read() {
    let place = Place::new();
    let fifo = name("file");
    place
        .dir
        .make_node(&fifo, EntryKind::Fifo, 0o644, (0, 0))
        .unwrap();
    let mut held = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(place.path().join("file"))
        .unwrap();
    Write::write_all(&mut held, b"for another").unwrap();
    place.dir.open_listed_file(&fifo).unwrap_err();
    let mut still = [0; 11];
    io::Read::read_exact(&mut held, &mut still).unwrap();
    assert_eq!(&still, b"for another");
}

#[test]
fn reading_leaves_the_access_time_alone() {
    let place = Place::new();
    place.write("file", "content");
    let path = place.path().join("file");
    let old = std::fs::FileTimes::new().set_accessed(std::time::UNIX_EPOCH);
    File::open(&path).unwrap().set_times(old).unwrap();
    let file = place.dir.open_file(&name("file")).unwrap();
    io::read_to_string(file).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().atime(), 0);
}

#[test]
fn stat_agrees_with_the_standard_library() {
    for place in places() {
        place.write("file", "content");
        place
            .dir
            .make_symlink(&name("link"), b"no such file")
            .unwrap();
        for entry in ["file", "link"] {
            let ours = place.dir.stat(&name(entry)).unwrap();
            let theirs = place.path().join(entry).symlink_metadata().unwrap();
            assert_eq!(ours.dev, theirs.dev());
            assert_eq!(ours.ino, theirs.ino());
            assert_eq!(u64::from(ours.nlink), theirs.nlink());
            assert_eq!(ours.blocks, theirs.blocks());
            assert_eq!(ours.meta.size, theirs.len());
            assert_eq!(u32::from(ours.meta.mode), theirs.mode() & 0o7777);
            assert_eq!((ours.meta.uid, ours.meta.gid), (theirs.uid(), theirs.gid()));
            assert_eq!(ours.meta.mtime.secs, theirs.mtime());
            assert_eq!(i64::from(ours.meta.mtime.nanos), theirs.mtime_nsec());
            assert_eq!(ours.ctime.secs, theirs.ctime());
        }
        assert_eq!(place.dir.read_link(&name("link")).unwrap(), b"no such file");
    }
}

#[test]
fn a_mount_point_is_told() {
    let root = Dir::open_root(Path::new("/")).unwrap();
    if root.stat(&name("proc")).is_ok() {
        assert!(root.stat(&name("proc")).unwrap().mount_root);
    }
    assert!(!Place::new().dir.stat_self().unwrap().mount_root);
}

#[test]
fn devices_keep_their_numbers() {
    if !has_root() {
        return;
    }
    for place in places() {
        let numbers = (259, 70_000);
        for kind in [EntryKind::CharDevice, EntryKind::BlockDevice] {
            let device = name(kind.noun());
            place.dir.make_node(&device, kind, 0o600, numbers).unwrap();
            let stat = place.dir.stat(&device).unwrap();
            assert_eq!((stat.meta.kind, stat.meta.rdev), (kind, numbers));
            let err = place.dir.open_file(&device).unwrap_err();
            assert_eq!(err.kind(), io::ErrorKind::InvalidInput);
        }
    }
}

#[test]
fn files_and_directories_are_no_nodes() {
    let place = Place::new();
    for kind in [EntryKind::File, EntryKind::Dir, EntryKind::Symlink] {
        let err = place
            .dir
            .make_node(&name("x"), kind, 0o600, (0, 0))
            .unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn a_link_to_a_symlink_is_the_symlink() {
    for place in places() {
        place.write("file", "");
        place.dir.make_symlink(&name("link"), b"file").unwrap();
        place
            .dir
            .make_link(&name("again"), &place.dir, &name("link"))
            .unwrap();
        let again = place.dir.stat(&name("again")).unwrap();
        assert_eq!(again.meta.kind, EntryKind::Symlink);
        assert!(again.is_same_inode(&place.dir.stat(&name("link")).unwrap()));
        assert_eq!(again.nlink, 2);
    }
}

#[test]
fn a_taken_name_is_replaced_only_on_request() {
    for place in places() {
        let dir = &place.dir;
        place.write("old", "old");
        place.write("new", "new");
        let err = dir
            .rename_noreplace(&name("new"), dir, &name("old"))
            .unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::AlreadyExists);
        dir.rename_noreplace(&name("new"), dir, &name("free"))
            .unwrap();
        dir.rename(&name("free"), dir, &name("old")).unwrap();
        assert_eq!(std::fs::read(place.path().join("old")).unwrap(), b"new");
        assert_eq!(listed(dir).len(), 1);
    }
}

#[test]
fn a_new_file_is_private_and_never_an_old_one() {
    let place = Place::new();
    place.dir.create_new(&name("file")).unwrap();
    assert_eq!(place.dir.stat(&name("file")).unwrap().meta.mode, 0o600);
    place.dir.make_symlink(&name("link"), b"elsewhere").unwrap();
    for taken in ["file", "link"] {
        let err = place.dir.create_new(&name(taken)).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::AlreadyExists);
    }
    assert!(!place.path().join("elsewhere").exists());
}

#[test]
fn what_is_removed_is_gone() {
    let place = Place::new();
    place.write("file", "");
    place.dir.make_dir(&name("dir"), 0o755).unwrap();
    assert!(place.dir.unlink(&name("dir")).is_err());
    assert!(place.dir.remove_dir(&name("file")).is_err());
    place.dir.unlink(&name("file")).unwrap();
    place.dir.remove_dir(&name("dir")).unwrap();
    assert_eq!(listed(&place.dir).len(), 0);
    place.dir.sync().unwrap();
}

#[test]
fn missing_parents_of_a_root_are_made() {
    let place = Place::new();
    let dir = create_dir_all(&place.path().join("a/b/c")).unwrap();
    let found = place.dir.open_dir(&path("a/b/c")).unwrap();
    assert!(
        found
            .stat_self()
            .unwrap()
            .is_same_inode(&dir.stat_self().unwrap())
    );
}
