//! What is really there: an account of a tree that shares no code with the program under test,
//! and the comparison that every test of fidelity ends with.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, SeekFrom, Stat, fstat, lgetxattr, llistxattr, major,
    minor, openat, readlinkat, seek, statat,
};

/// The slack in allocated bytes that a sparse file's copy gets: filesystems round extents up
/// and keep a few blocks of their own.
const ALLOCATION_SLACK_BYTES: u64 = 128 << 10;

/// How many differences a failure shows: what comes after more of them nobody reads.
const MOST_SHOWN: usize = 100;

/// Every entry of a tree with all that a copy must keep; the root is `.`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    /// What must be equal, by the word that a difference is reported with.
    properties: BTreeMap<String, String>,
    size: u64,
    allocated: u64,
}

impl Dump {
    /// Reads the tree at `root`, each directory through its parent's descriptor, so that its
    /// depth has no bound.
    pub fn of(root: &Path) -> Dump {
        Dump::of_all_but(root, &[])
    }

    /// Reads the tree at `root` but for some of the root's entries: what a standby has of its own.
    pub fn of_all_but(root: &Path, names: &'static [&'static str]) -> Dump {
        let mut walk = Walk {
            left_out: names,
            ..Walk::default()
        };
        let stat = statat(CWD, root, AtFlags::SYMLINK_NOFOLLOW)
            .unwrap_or_else(|err| panic!("cannot stat {root:?}: {err}"));
        let shown = root.to_path_buf();
        let mut entry = walk.entry(CWD.as_fd(), root, &shown, &stat);
        // Its own length; for a directory that is the filesystem's business.
        entry.properties.remove("links");
        walk.entries.insert(".".into(), entry);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            walk.directory(open(CWD, root, OFlags::DIRECTORY), "");
        }
        walk.finish()
    }

    /// The dump without one property ("owner", "mtime", ...), where a test must not expect it.
    pub fn without(mut self, property: &str) -> Dump {
        for entry in self.entries.values_mut() {
            entry.properties.remove(property);
        }
        self
    }

    /// The dump without the property that an entry has other names elsewhere, none of them in the
    /// tree, where something outside shares its files.
    #[allow(dead_code, reason = "in few test crates anything shares them")]
    pub fn without_links_to_outside(mut self) -> Dump {
        for (path, entry) in &mut self.entries {
            if entry.properties.get("links") == Some(path) {
                entry.properties.remove("links");
            }
        }
        self
    }

    /// All paths but the root's, sorted; bytes that cannot be printed are escaped.
    pub fn paths(&self) -> Vec<&str> {
        let paths = self.entries.keys().map(String::as_str);
        paths.filter(|path| *path != ".").collect()
    }

    /// One line for each difference of `copy`, which may be sparser but not less sparse.
    pub fn differences(&self, copy: &Dump) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, entry) in &self.entries {
            match copy.entries.get(path) {
                None => lines.push(format!("missing from the copy: {path}")),
                Some(other) => entry.differences(path, other, &mut lines),
            }
        }
        let extra = copy
            .entries
            .keys()
            .filter(|path| !self.entries.contains_key(*path));
        lines.extend(extra.map(|path| format!("only in the copy: {path}")));
        lines
    }
}

impl Entry {
    fn differences(&self, path: &str, copy: &Entry, lines: &mut Vec<String>) {
        let absent = String::from("(none)");
        let mut words: Vec<_> = self
            .properties
            .keys()
            .chain(copy.properties.keys())
            .collect();
        words.sort();
        words.dedup();
        for word in words {
            let ours = self.properties.get(word).unwrap_or(&absent);
            let theirs = copy.properties.get(word).unwrap_or(&absent);
            if ours != theirs {
                lines.push(format!("{path}: {word} is {theirs}, should be {ours}"));
            }
        }
        let is_sparse = self.allocated + ALLOCATION_SLACK_BYTES < self.size;
        if is_sparse && copy.allocated > self.allocated + ALLOCATION_SLACK_BYTES {
            let (theirs, ours) = (copy.allocated, self.allocated);
            lines.push(format!("{path}: takes {theirs} bytes on disk, not {ours}"));
        }
    }
}

/// Fails with one line for each difference unless `copy` is what `original` is.
#[track_caller]
pub fn assert_same(original: &Path, copy: &Path) {
    assert_same_dumps(&Dump::of(original), &Dump::of(copy));
}

/// Fails with one line for each difference unless `copy` is what `original` is.
#[track_caller]
pub fn assert_same_dumps(original: &Dump, copy: &Dump) {
    let lines = original.differences(copy);
    let (count, shown) = (lines.len(), &lines[..lines.len().min(MOST_SHOWN)]);
    assert!(count == 0, "{count} differences:\n  {}", shown.join("\n  "));
}

/// What changes whenever an entry is touched at all: inode number and ctime by path.
pub fn stamps(root: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    use std::os::unix::fs::MetadataExt;
    let walk = walkdir::WalkDir::new(root).into_iter();
    walk.map(|entry| {
        let entry = entry.expect("walking a tree");
        let meta = entry.path().symlink_metadata().expect("stat of an entry");
        let path = entry.path().strip_prefix(root).expect("it is beneath");
        (path.into(), (meta.ino(), meta.ctime(), meta.ctime_nsec()))
    })
    .collect()
}

/// Where a file has data, as start and end offsets; the rest of it is holes.
pub fn data_ranges(path: &Path) -> Vec<(u64, u64)> {
    let file = File::open(path).expect("opening a file for its holes");
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Ok(start) = seek(&file, SeekFrom::Data(at)) {
        let end = seek(&file, SeekFrom::Hole(start)).expect("each range of data ends");
        ranges.push((start, end));
        at = end;
    }
    ranges
}

#[derive(Default)]
struct Walk {
    entries: BTreeMap<String, Entry>,
    /// The paths of each inode that has several names.
    groups: HashMap<(u64, u64), Vec<String>>,
    /// Names in the root.
    left_out: &'static [&'static str],
}

impl Walk {
    fn directory(&mut self, fd: OwnedFd, path: &str) {
        let listing = Dir::read_from(&fd).expect("listing a directory");
        for found in listing {
            let found = found.expect("reading a directory");
            let name = found.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if path.is_empty()
                && self
                    .left_out
                    .iter()
                    .any(|out| out.as_bytes() == name.to_bytes())
            {
                continue;
            }
            let shown = match path {
                "" => escaped(name.to_bytes()),
                _ => format!("{path}/{}", escaped(name.to_bytes())),
            };
            let stat = statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW).expect("stat of an entry");
            // Names beneath a descriptor, for the calls that take only paths.
            let by_path = Path::new("/proc/self/fd")
                .join(fd.as_raw_fd().to_string())
                .join(std::ffi::OsStr::from_bytes(name.to_bytes()));
            let entry = self.entry(fd.as_fd(), name, &by_path, &stat);
            self.entries.insert(shown.clone(), entry);
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if stat.st_nlink > 1 && !is_dir {
                let group = self.groups.entry((stat.st_dev, stat.st_ino)).or_default();
                group.push(shown.clone());
            }
            if is_dir {
                self.directory(open(&fd, name, OFlags::DIRECTORY), &shown);
            }
        }
    }

    fn entry(
        &self,
        at: impl AsFd,
        name: impl rustix::path::Arg + Copy,
        by_path: &Path,
        stat: &Stat,
    ) -> Entry {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mut entry = Entry::default();
        let mut set = |word: &str, value: String| entry.properties.insert(word.into(), value);
        set("kind", format!("{kind:?}"));
        set("mode", format!("{:04o}", stat.st_mode & 0o7777));
        set("owner", format!("{}:{}", stat.st_uid, stat.st_gid));
        set(
            "mtime",
            format!("{}.{:09}", stat.st_mtime, stat.st_mtime_nsec),
        );
        for (word, value) in xattrs(by_path) {
            set(&word, value);
        }
        match kind {
            FileType::RegularFile => {
                let file = File::from(open(&at, name, OFlags::empty()));
                set("size", stat.st_size.to_string());
                set("content", content_hash(file));
            }
            FileType::Symlink => {
                let target = readlinkat(&at, name, Vec::new()).expect("reading a symlink");
                set("target", escaped(target.as_bytes()));
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
                set("device", format!("{major},{minor}"));
            }
            _ => {}
        }
        if kind == FileType::RegularFile {
            entry.size = stat.st_size as u64;
            entry.allocated = stat.st_blocks as u64 * 512;
        }
        entry
    }

    fn finish(mut self) -> Dump {
        for mut group in self.groups.into_values() {
            group.sort();
            for path in &group {
                let entry = self.entries.get_mut(path).expect("it was walked");
                let links = group.join(" = ");
                entry.properties.insert("links".into(), links);
            }
        }
        Dump {
            entries: self.entries,
        }
    }
}

fn open(at: impl AsFd, name: impl rustix::path::Arg + Copy, extra: OFlags) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | extra;
    openat(at, name, flags, Mode::empty())
        .unwrap_or_else(|err| panic!("cannot open {:?}: {err}", name.to_string_lossy()))
}

fn content_hash(mut file: File) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).expect("reading a file") {
            0 => return hasher.finalize().to_hex().to_string(),
            count => hasher.update(&buffer[..count]),
        };
    }
}

fn xattrs(path: &Path) -> Vec<(String, String)> {
    let mut names = vec![0; 1 << 16];
    let size = match llistxattr(path, &mut names) {
        Ok(size) => size,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(err) => panic!("cannot list attributes: {err}"),
    };
    let mut found = Vec::new();
    for name in names[..size].split_inclusive(|&byte| byte == 0) {
        let name = CStr::from_bytes_with_nul(name).expect("the kernel closes names");
        let mut value = vec![0; 1 << 16];
        let size = lgetxattr(path, name, &mut value).expect("reading an attribute");
        let word = format!("xattr {}", escaped(name.to_bytes()));
        found.push((word, format!("{:?}", escaped(&value[..size]))));
    }
    found
}

fn escaped(bytes: &[u8]) -> String {
    let plain = std::str::from_utf8(bytes).ok();
    match plain.filter(|text| !text.contains(|c: char| c.is_control() || c == '\\')) {
        Some(text) => text.into(),
        None => bytes.escape_ascii().to_string(),
    }
}

/// The bytes that an open descriptor's file takes on disk.
pub fn allocated_bytes(path: &Path) -> u64 {
    let file = File::open(path).expect("opening a file for its blocks");
    fstat(&file).expect("stat of an open file").st_blocks as u64 * 512
}
