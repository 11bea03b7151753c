use super::super::testing::{SOME_TIME, has_root, name, places};
use super::*;

#[test]
fn a_symlinks_own_owner_and_time_are_set() {
    if !has_root() {
        return;
    }
    for place in places() {
        place.write("file", "");
        place.dir.make_symlink(&name("link"), b"file").unwrap();
        let before = place.dir.stat(&name("file")).unwrap();
        let link_name = name("link");
        let link = Target::Entry(&place.dir, &link_name);
        set_owner(&link, Some(12), Some(34)).unwrap();
        set_mode(&link, 0o600).unwrap();
        set_mtime(&link, SOME_TIME).unwrap();
        let meta = place.dir.stat(&link_name).unwrap().meta;
        assert_eq!((meta.uid, meta.gid, meta.mtime), (12, 34, SOME_TIME));
        assert_eq!(meta.mode, 0o777);
        assert_eq!(place.dir.stat(&name("file")).unwrap(), before);
    }
}

#[test]
fn special_entries_take_modes_without_being_opened() {
    for place in places() {
        let fifo = name("fifo");
        place
            .dir
            .make_node(&fifo, EntryKind::Fifo, 0o600, (0, 0))
            .unwrap();
        set_mode(&Target::Entry(&place.dir, &fifo), 0o2751).unwrap();
        assert_eq!(place.dir.stat(&fifo).unwrap().meta.mode, 0o2751);
        set_entry_mode_by_proc(place.dir.as_fd(), &fifo, 0o640).unwrap();
        assert_eq!(place.dir.stat(&fifo).unwrap().meta.mode, 0o640);
    }
}

#[test]
fn without_the_new_call_a_symlink_is_still_left_alone() {
    let places = places();
    let place = &places[0];
    place.write("file", "");
    place.dir.make_symlink(&name("link"), b"file").unwrap();
    let before = place.dir.stat(&name("file")).unwrap();
    set_entry_mode_by_proc(place.dir.as_fd(), &name("link"), 0o600).unwrap();
    assert_eq!(place.dir.stat(&name("file")).unwrap(), before);
}

#[test]
fn open_files_and_directories_are_set_by_descriptor() {
    for place in places() {
        let file = place.dir.create_new(&name("file")).unwrap();
        for target in [Target::File(&file), Target::Dir(&place.dir)] {
            set_mode(&target, 0o750).unwrap();
            set_mtime(&target, SOME_TIME).unwrap();
        }
        let stats = [place.dir.stat(&name("file")), place.dir.stat_self()];
        for meta in stats.map(|stat| stat.unwrap().meta) {
            assert_eq!((meta.mode, meta.mtime), (0o750, SOME_TIME));
        }
    }
}

#[test]
fn times_before_the_epoch_are_kept() {
    for place in places() {
        place.write("file", "");
        let old = Timestamp {
            secs: -86_401,
            nanos: 5,
        };
        set_mtime(&Target::Entry(&place.dir, &name("file")), old).unwrap();
        assert_eq!(place.dir.stat(&name("file")).unwrap().meta.mtime, old);
    }
}

#[test]
fn a_new_owner_clears_setuid_so_modes_come_after() {
    if !has_root() {
        return;
    }
    for place in places() {
        let file = place.dir.create_new(&name("file")).unwrap();
        let target = Target::File(&file);
        set_mode(&target, 0o4755).unwrap();
        set_owner(&target, Some(12), None).unwrap();
        assert_eq!(place.dir.stat(&name("file")).unwrap().meta.mode, 0o755);
        set_mode(&target, 0o4755).unwrap();
        assert_eq!(place.dir.stat(&name("file")).unwrap().meta.mode, 0o4755);
    }
}
