//! What is on disk after each kind of write, and after each that failed.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::*;
use crate::delta::{BlockSize, SumBuilder};
use crate::digest::ContentHash;
use crate::entry::Timestamp;
use crate::manifest::listing::{Listing, Row};
use crate::options::{Fidelity, Trash};

const MIB: u64 = 1 << 20;

const TRASH: &str = ".cutover-trash";

/// When everything that these tests make shall have been changed last.
const WHEN: Timestamp = Timestamp {
    secs: 1_000_000_000,
    nanos: 123_456_789,
};

/// A destination and its applier.
struct Place {
    dir: tempfile::TempDir,
    applier: Applier,
    cancel: Cancel,
}

impl Place {
    fn new() -> Place {
        Place::keeping(&options::Keep::default(), options::Write::default())
    }

    fn keeping(keep: &options::Keep, write: options::Write) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let root = Dir::open_root(dir.path()).unwrap();
        let cancel = Cancel::new();
        let options = ApplyOptions {
            rules: RecordRules {
                fidelity: Fidelity::default(),
                granularity_ns: 1,
                content: false,
            },
            write,
            fake_super: false,
            cancel: cancel.clone(),
            aside: Aside::open(&root, keep).unwrap(),
        };
        Place {
            applier: Applier::new(root, options),
            cancel,
            dir,
        }
    }

    fn with_trash() -> Place {
        let keep = options::Keep {
            trash: Some(Trash::InRoot),
            backup_suffix: None,
        };
        Place::keeping(&keep, options::Write::default())
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join(path)
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).unwrap()
    }

    /// Every name in a directory, sorted.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.at(path)).unwrap();
        let name = |entry: io::Result<std::fs::DirEntry>| {
            entry.unwrap().file_name().into_string().unwrap()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }

    /// The folder that this run made in the trash.
    fn trash(&self) -> String {
        let folders = self.names(TRASH);
        assert_eq!(folders.len(), 1);
        format!("{TRASH}/{}", folders[0])
    }

    fn write(&self, path: &str, content: &str) -> Result<Landed, Failure> {
        let bytes = content.as_bytes();
        let entry = file_entry(path, bytes.len() as u64);
        self.applier
            .write_small(&rel(path), &entry, bytes, ContentHash::of(bytes))
    }

    fn remove(&self, path: &str, kind: EntryKind, whole: Option<u64>, hidden: &str) -> Removed {
        let mut removed = Removed::default();
        let list = |dir: &RelPath| list(self.dir.path(), dir, hidden);
        self.applier
            .remove(&rel(path), kind, whole, &list, &mut removed);
        removed
    }
}

fn rel(path: &str) -> RelPath {
    RelPath::new(path.as_bytes()).unwrap()
}

fn entry(path: &str, kind: EntryKind, mode: u16, size: u64) -> Entry {
    let who = fs::Process::current();
    Entry {
        name: rel(path).file_name().unwrap(),
        meta: Metadata {
            kind,
            mode,
            uid: who.uid,
            gid: who.gid,
            mtime: WHEN,
            size,
            rdev: (0, 0),
        },
        target: Vec::new(),
        xattrs: Vec::new(),
        content: None,
        link: None,
    }
}

fn file_entry(path: &str, size: u64) -> Entry {
    entry(path, EntryKind::File, 0o640, size)
}

/// A listing without the entries of one name, as a filter would make it.
fn list(root: &Path, dir: &RelPath, hidden: &str) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for found in std::fs::read_dir(root.join(dir.as_os_str()))? {
        let found = found?;
        let name = Name::new(found.file_name().as_encoded_bytes()).map_err(io::Error::other)?;
        if name.as_bytes() == hidden.as_bytes() {
            continue;
        }
        let stat = fs::stat_path(&found.path())?;
        listing.rows.push(Row {
            entry: Entry {
                name,
                meta: stat.meta,
                ..entry("any", EntryKind::File, 0, 0)
            },
            stat,
            protected: false,
        });
    }
    Ok(listing)
}

fn mtime_of(path: &Path) -> (i64, i64) {
    let meta = std::fs::symlink_metadata(path).unwrap();
    (meta.mtime(), meta.mtime_nsec())
}

fn set_mtime(path: &Path, secs: u64) {
    let time = UNIX_EPOCH + Duration::from_secs(secs);
    File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_file_has_its_content_mode_and_time_and_nothing_else_is_left() {
    let place = Place::new();
    std::fs::write(place.at("f"), "old").unwrap();
    place.write("f", "new").unwrap();
    assert_eq!(place.read("f"), "new");
    let meta = std::fs::metadata(place.at("f")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o640);
    assert_eq!(mtime_of(&place.at("f")), (WHEN.secs, 123_456_789));
    assert_eq!(place.names(""), ["f"]);
}

#[test]
fn a_copy_that_fails_half_way_leaves_the_old_file() {
    let place = Place::new();
    std::fs::write(place.at("f"), "old").unwrap();
    let from = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(from.path(), vec![1; 1 << 20]).unwrap();
    let entry = file_entry("f", MIB);
    let mut stop = |_| Err(io::Error::other("stopped"));
    let stat = fs::stat_file(from.as_file()).unwrap();
    let original = Original {
        file: from.as_file(),
        stat: &stat,
    };
    let copied = place
        .applier
        .copy_file(&rel("f"), &entry, original, &mut stop);
    assert_eq!(copied.unwrap_err().act, "copy");
    assert_eq!(place.read("f"), "old");
    assert_eq!(place.names(""), ["f"]);
}

#[test]
fn a_source_that_became_shorter_leaves_the_old_file() {
    let place = Place::new();
    std::fs::write(place.at("f"), "old").unwrap();
    let from = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(from.path(), "short").unwrap();
    let entry = file_entry("f", 5000);
    let stat = fs::stat_file(from.as_file()).unwrap();
    let original = Original {
        file: from.as_file(),
        stat: &stat,
    };
    let copied = place
        .applier
        .copy_file(&rel("f"), &entry, original, &mut |_| Ok(()));
    let kind = copied.unwrap_err().source.kind();
    assert_eq!(kind, io::ErrorKind::UnexpectedEof);
    assert_eq!(place.read("f"), "old");
    assert_eq!(place.names(""), ["f"]);
}

#[test]
fn small_content_without_its_hash_is_not_written() {
    let place = Place::new();
    std::fs::write(place.at("f"), "old").unwrap();
    let entry = file_entry("f", 3);
    let written = place
        .applier
        .write_small(&rel("f"), &entry, b"new", ContentHash::of(b"other"));
    assert_eq!(
        written.unwrap_err().source.kind(),
        io::ErrorKind::InvalidData
    );
    assert_eq!(place.read("f"), "old");
    assert_eq!(place.names(""), ["f"]);
}

#[test]
fn large_content_without_its_hash_does_not_get_the_name() {
    let place = Place::new();
    std::fs::write(place.at("f"), "old").unwrap();
    let mut incoming = place.applier.begin(&rel("f"), 3, None).unwrap();
    incoming.write(0, b"new").unwrap();
    let entry = file_entry("f", 3);
    let hash = ContentHash::of(b"other");
    let finished = incoming.finish(&place.applier, &entry, hash);
    assert_eq!(finished.unwrap_err().act, "verify");
    assert_eq!(place.read("f"), "old");
    assert_eq!(place.names(""), ["f"]);
}

#[test]
fn parts_out_of_order_are_refused() {
    let place = Place::new();
    let mut incoming = place.applier.begin(&rel("f"), 15, None).unwrap();
    incoming.write(10, b"later").unwrap();
    let early = incoming.write(0, b"earlier").unwrap_err();
    assert_eq!(early.source.kind(), io::ErrorKind::InvalidData);
    incoming.abandon(Keep::Nothing);
    assert!(place.names("").is_empty());
}

#[test]
fn a_file_does_not_grow_beyond_what_was_announced() {
    let place = Place::new();
    std::fs::write(place.at("f"), "0123456789").unwrap();
    let old = place.applier.existing(&rel("f")).unwrap();
    let mut incoming = place
        .applier
        .begin(&rel("f"), 8, Some(Arc::new(old)))
        .unwrap();
    for refused in [
        incoming.write(6, b"end"),
        incoming.write(u64::MAX, b"end"),
        incoming.copy(0, 0, 9),
        incoming.copy(u64::MAX, 0, 1),
    ] {
        assert_eq!(
            refused.unwrap_err().source.kind(),
            io::ErrorKind::InvalidData
        );
    }
    assert_eq!(incoming.settled_bytes(), 0);
}

#[test]
fn an_interrupt_ends_the_hashing_of_a_hole_and_keeps_what_has_come() {
    const HUGE: u64 = 1 << 42;
    let start = vec![1; MIB as usize];
    let interrupted = |act: fn(Incoming, &Applier) -> Result<(), Failure>| {
        let place = Place::new();
        let mut incoming = place.applier.begin(&rel("f"), HUGE, None).unwrap();
        incoming.write(0, &start).unwrap();
        let began = Instant::now();
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                place.cancel.cancel();
            });
            act(incoming, &place.applier)
        });
        assert_eq!(outcome.unwrap_err().act, "hash");
        assert!(began.elapsed() < Duration::from_secs(2));
        place.names("").len()
    };
    let to_the_end = |incoming: Incoming, applier: &Applier| {
        let entry = file_entry("f", HUGE);
        let hash = ContentHash::of(b"never reached");
        incoming.finish(applier, &entry, hash).map(|_| ())
    };
    assert_eq!(interrupted(to_the_end), 1);
    let to_a_part = |mut incoming: Incoming, _: &Applier| {
        let written = incoming.write(HUGE - 1, b"x");
        incoming.abandon(Keep::Partial);
        written
    };
    assert_eq!(interrupted(to_a_part), 1);
}

#[test]
fn what_no_part_covers_is_a_hole() {
    let place = Place::new();
    let mut incoming = place.applier.begin(&rel("f"), 16 * MIB, None).unwrap();
    let data = vec![7; 4096];
    incoming.write(8 * MIB, &data).unwrap();
    let mut whole = vec![0; 16 * MIB as usize];
    whole[8 * MIB as usize..][..4096].copy_from_slice(&data);
    let (len, hash) = (whole.len() as u64, ContentHash::of(&whole));
    let entry = file_entry("f", len);
    incoming.finish(&place.applier, &entry, hash).unwrap();
    assert!(std::fs::read(place.at("f")).unwrap() == whole);
    let blocks = std::fs::metadata(place.at("f")).unwrap().blocks();
    assert!(blocks * 512 < MIB, "{blocks} blocks are in use");
}

#[test]
fn a_patch_takes_what_it_can_from_the_old_file() {
    let place = Place::new();
    std::fs::write(place.at("f"), "0123456789").unwrap();
    let old = place.applier.existing(&rel("f")).unwrap();
    let mut incoming = place
        .applier
        .begin(&rel("f"), 10, Some(Arc::new(old)))
        .unwrap();
    incoming.copy(0, 5, 5).unwrap();
    incoming.write(5, b"new").unwrap();
    incoming.copy(8, 0, 2).unwrap();
    let hash = ContentHash::of(b"56789new01");
    let entry = file_entry("f", 10);
    let landed = incoming.finish(&place.applier, &entry, hash).unwrap();
    assert_eq!(place.read("f"), "56789new01");
    assert_eq!((landed.literal_bytes, landed.matched_bytes), (3, 7));
}

/// An old file of three blocks whose values are known, and what it becomes: its second block new.
fn three_blocks(place: &Place) -> (Arc<Existing>, Vec<u8>) {
    const BLOCK: usize = 16 << 10;
    let mut content = [vec![1; BLOCK], vec![2; BLOCK], vec![3; BLOCK]].concat();
    std::fs::write(place.at("f"), &content).unwrap();
    let mut old = place.applier.existing(&rel("f")).unwrap();
    let mut sums = SumBuilder::new(BlockSize::new(BLOCK as u32).unwrap());
    sums.push(&content);
    old.blocks = sums.finish().1;
    content[BLOCK..2 * BLOCK].fill(9);
    (Arc::new(old), content)
}

fn patch_three_blocks(place: &Place, old: Arc<Existing>, new: &[u8]) -> Result<Landed, Failure> {
    let third = new.len() as u64 / 3;
    let mut incoming = place.applier.begin(&rel("f"), 3 * third, Some(old))?;
    incoming.copy(0, 0, third)?;
    incoming.write(third, &new[third as usize..2 * third as usize])?;
    incoming.copy(2 * third, 2 * third, third)?;
    let entry = file_entry("f", 3 * third);
    incoming.finish(&place.applier, &entry, ContentHash::of(new))
}

#[test]
fn known_blocks_of_the_old_file_are_taken_without_reading_them() {
    let place = Place::new();
    let (old, new) = three_blocks(&place);
    let landed = patch_three_blocks(&place, old, &new).unwrap();
    assert_eq!(std::fs::read(place.at("f")).unwrap(), new);
    assert_eq!(landed.matched_bytes, 32 << 10);
}

#[test]
fn a_file_that_starts_as_the_old_one_ends_as_the_new_one() {
    let place = Place::new();
    std::fs::write(place.at("f"), "0123456789").unwrap();
    let old = Arc::new(place.applier.existing(&rel("f")).unwrap());
    let mut incoming = place.applier.begin(&rel("f"), 8, Some(old)).unwrap();
    incoming.start_as_basis().unwrap();
    incoming.copy(0, 0, 2).unwrap();
    incoming.write(2, b"xy").unwrap();
    incoming.copy(4, 8, 2).unwrap();
    // The rest is zeros where the old file has bytes.
    let hash = ContentHash::of(b"01xy89\0\0");
    incoming
        .finish(&place.applier, &file_entry("f", 8), hash)
        .unwrap();
    assert_eq!(place.read("f"), "01xy89\0\0");
}

#[test]
fn known_blocks_of_an_old_file_that_changed_meanwhile_are_not_trusted() {
    let place = Place::new();
    let (old, new) = three_blocks(&place);
    // Longer than the kernel's clock takes for a tick.
    std::thread::sleep(Duration::from_millis(30));
    let file = File::options().write(true).open(place.at("f")).unwrap();
    let mtime = file.metadata().unwrap().modified().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", 40_000).unwrap();
    file.set_modified(mtime).unwrap();
    let refused = patch_three_blocks(&place, old, &new).unwrap_err();
    assert_eq!(refused.source.kind(), io::ErrorKind::InvalidData);
    assert_ne!(std::fs::read(place.at("f")).unwrap(), new);
}

#[test]
fn an_old_file_that_changes_between_its_copy_and_its_reading_is_not_trusted() {
    let place = Place::new();
    let becomes = |content: &str| {
        // Longer than the kernel's clock takes for a tick.
        std::thread::sleep(Duration::from_millis(30));
        std::fs::write(place.at("f"), content).unwrap();
    };
    becomes("0123456789");
    let old = Arc::new(place.applier.existing(&rel("f")).unwrap());
    becomes("abcdefghij");
    let mut incoming = place.applier.begin(&rel("f"), 10, Some(old)).unwrap();
    incoming.start_as_basis().unwrap();
    becomes("0123456789");
    incoming.copy(0, 0, 10).unwrap();
    let hash = ContentHash::of(b"0123456789");
    let refused = incoming
        .finish(&place.applier, &file_entry("f", 10), hash)
        .unwrap_err();
    assert_eq!(refused.source.kind(), io::ErrorKind::InvalidData);
    assert_eq!(place.names(""), ["f"]);
    assert_eq!(place.read("f"), "0123456789");
}

#[test]
fn a_copy_from_beyond_the_old_file_is_refused() {
    let place = Place::new();
    std::fs::write(place.at("f"), "0123456789").unwrap();
    let old = place.applier.existing(&rel("f")).unwrap();
    let mut incoming = place
        .applier
        .begin(&rel("f"), 10, Some(Arc::new(old)))
        .unwrap();
    for (from, len) in [(5, 6), (u64::MAX, 2)] {
        let refused = incoming.copy(0, from, len).unwrap_err();
        assert_eq!(refused.source.kind(), io::ErrorKind::InvalidData);
    }
}

#[test]
fn an_unfinished_file_stays_only_where_it_is_worth_going_on_with() {
    for (len, stays) in [(MIB as usize, 1), (1000, 0)] {
        let place = Place::new();
        let mut incoming = place.applier.begin(&rel("f"), len as u64, None).unwrap();
        incoming.write(0, &vec![1; len]).unwrap();
        incoming.abandon(Keep::Partial);
        let names = place.names("");
        assert_eq!(names.len(), stays, "{len}");
        assert!(names.iter().all(|name| fs::is_temp(name.as_bytes())));
    }
}

#[test]
fn in_place_a_file_keeps_its_inode_and_nothing_may_move_in_it() {
    let write = options::Write {
        inplace: true,
        ..options::Write::default()
    };
    let place = Place::keeping(&options::Keep::default(), write);
    std::fs::write(place.at("f"), "0123456789").unwrap();
    let inode = std::fs::metadata(place.at("f")).unwrap().ino();
    let old = place.applier.existing(&rel("f")).unwrap();
    let mut incoming = place
        .applier
        .begin(&rel("f"), 5, Some(Arc::new(old)))
        .unwrap();
    incoming.copy(0, 0, 3).unwrap();
    assert!(incoming.copy(3, 0, 2).is_err());
    incoming.write(3, b"xy").unwrap();
    let (entry, hash) = (file_entry("f", 5), ContentHash::of(b"012xy"));
    incoming.finish(&place.applier, &entry, hash).unwrap();
    assert_eq!(place.read("f"), "012xy");
    assert_eq!(std::fs::metadata(place.at("f")).unwrap().ino(), inode);
}

#[test]
fn a_directory_keeps_its_time_though_files_are_written_into_it() {
    let place = Place::new();
    std::fs::create_dir(place.at("d")).unwrap();
    set_mtime(&place.at("d"), 1_234);
    place.write("d/f", "new").unwrap();
    assert_ne!(mtime_of(&place.at("d")).0, 1_234);
    assert!(place.applier.finish_dirs().is_empty());
    assert_eq!(mtime_of(&place.at("d")).0, 1_234);
}

#[test]
fn a_new_directory_gets_its_mode_and_time_at_the_end() {
    let place = Place::new();
    let shall_be = entry("d", EntryKind::Dir, 0o555, 0);
    place.applier.make_dir(&rel("d"), &shall_be).unwrap();
    place.write("d/f", "new").unwrap();
    assert!(place.applier.finish_dirs().is_empty());
    let mode = std::fs::metadata(place.at("d")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o7777, 0o555);
    assert_eq!(mtime_of(&place.at("d")), (WHEN.secs, 123_456_789));
}

#[test]
fn the_trash_has_the_old_file_under_its_own_path() {
    let place = Place::with_trash();
    std::fs::create_dir(place.at("d")).unwrap();
    std::fs::write(place.at("d/f"), "old").unwrap();
    place.write("d/f", "new").unwrap();
    assert_eq!(place.read("d/f"), "new");
    assert_eq!(place.read(&format!("{}/d/f", place.trash())), "old");
    assert_eq!(place.names("d"), ["f"]);
}

#[test]
fn names_of_ours_in_the_root_are_not_written_to() {
    let place = Place::with_trash();
    for name in [TRASH, ".cutover-kept", ".cutover-marker"] {
        let err = place.write(name, "x").unwrap_err();
        assert!(err.source.to_string().contains("cutover"), "{err:?}");
        place.write(&format!("d/{name}"), "x").unwrap();
    }
}

#[test]
fn a_new_file_puts_nothing_into_the_trash() {
    let place = Place::with_trash();
    place.write("f", "new").unwrap();
    let runs = place.names(TRASH).into_iter();
    assert_eq!(
        runs.flat_map(|run| place.names(&format!("{TRASH}/{run}")))
            .count(),
        0
    );
}

#[test]
fn a_deleted_directory_goes_to_the_trash_whole() {
    let place = Place::with_trash();
    std::fs::create_dir_all(place.at("d/e")).unwrap();
    std::fs::write(place.at("d/e/f"), "old").unwrap();
    let removed = place.remove("d", EntryKind::Dir, Some(3), "");
    assert_eq!(removed.entries, 3);
    assert!(!place.at("d").exists());
    assert_eq!(place.read(&format!("{}/d/e/f", place.trash())), "old");
}

#[test]
fn a_backup_stays_beside_the_new_file() {
    let keep = options::Keep {
        trash: None,
        backup_suffix: Some(b"~".to_vec()),
    };
    let place = Place::keeping(&keep, options::Write::default());
    std::fs::write(place.at("f"), "old").unwrap();
    place.write("f", "new").unwrap();
    assert_eq!(place.read("f"), "new");
    assert_eq!(place.read("f~"), "old");
    assert_eq!(place.names(""), ["f", "f~"]);
}

#[test]
fn a_deleted_directory_stays_where_it_holds_what_does_not_take_part() {
    let place = Place::new();
    std::fs::create_dir_all(place.at("d/e")).unwrap();
    std::fs::write(place.at("d/f"), "goes").unwrap();
    std::fs::write(place.at("d/e/kept"), "stays").unwrap();
    let removed = place.remove("d", EntryKind::Dir, None, "kept");
    assert_eq!(removed.entries, 1);
    assert_eq!(removed.kept, [rel("d/e"), rel("d")]);
    assert!(removed.failed.is_empty());
    assert_eq!(place.read("d/e/kept"), "stays");
    assert_eq!(place.names("d"), ["e"]);
}

#[test]
fn another_name_shares_the_file_and_replaces_what_was_there() {
    let place = Place::new();
    std::fs::write(place.at("a"), "content").unwrap();
    std::fs::write(place.at("b"), "old").unwrap();
    assert!(place.applier.link(&rel("b"), &rel("a")).unwrap());
    let inode = |path| std::fs::metadata(place.at(path)).unwrap().ino();
    assert_eq!(inode("a"), inode("b"));
    assert!(!place.applier.link(&rel("b"), &rel("a")).unwrap());
    assert_eq!(place.names(""), ["a", "b"]);
}

#[test]
fn a_symlink_replaces_a_file_in_one_step() {
    let place = Place::new();
    std::fs::write(place.at("l"), "old").unwrap();
    let link = Entry {
        target: b"nowhere".to_vec(),
        ..entry("l", EntryKind::Symlink, 0o777, 7)
    };
    place.applier.make_special(&rel("l"), &link).unwrap();
    let target = std::fs::read_link(place.at("l")).unwrap();
    assert_eq!(target, Path::new("nowhere"));
    assert_eq!(mtime_of(&place.at("l")), (WHEN.secs, 123_456_789));
    assert_eq!(place.names(""), ["l"]);
}

#[test]
fn a_symlink_in_the_place_of_a_directory_leads_no_write_away() {
    let (place, outside) = (Place::new(), tempfile::tempdir().unwrap());
    symlink(outside.path(), place.at("d")).unwrap();
    assert!(place.write("d/f", "new").is_err());
    assert!(place.write("d/e/f", "new").is_err());
    assert!(outside.path().read_dir().unwrap().next().is_none());
}

#[test]
fn a_renamed_entry_replaces_a_file_but_no_directory() {
    let place = Place::new();
    std::fs::write(place.at("from"), "moved").unwrap();
    std::fs::write(place.at("file"), "old").unwrap();
    std::fs::create_dir(place.at("dir")).unwrap();
    assert!(place.applier.rename(&rel("from"), &rel("dir")).is_err());
    assert_eq!(place.read("from"), "moved");
    place.applier.rename(&rel("from"), &rel("file")).unwrap();
    assert_eq!(place.read("file"), "moved");
    assert_eq!(place.names(""), ["dir", "file"]);
}

#[test]
fn leftovers_are_swept_and_missing_ones_are_no_fault() {
    let place = Place::new();
    std::fs::write(place.at(".f.cutover-01234567"), "half").unwrap();
    let name = |text: &str| Name::new(text.as_bytes()).unwrap();
    let leftovers = [
        (RelPath::root(), name(".f.cutover-01234567")),
        (RelPath::root(), name(".g.cutover-01234567")),
        (rel("gone"), name(".h.cutover-01234567")),
    ];
    assert_eq!(place.applier.sweep(&leftovers), 1);
    assert!(place.names("").is_empty());
}
