//! The data: trees and files made from a seed, the same on every machine.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Files in trees that do not change.
    pub(crate) files: usize,
    /// Files in trees that are copied.
    pub(crate) small_files: usize,
    /// The large file, in MiB.
    pub(crate) big_mib: u64,
    /// How many directories a file of a tree is beneath.
    pub(crate) levels: usize,
}

/// As many as a source tree has in a directory, or a little more.
const FILES_PER_DIR: usize = 50;

/// With an exponential distribution, what source trees and mail spools come to.
const MEAN_FILE_BYTES: f64 = 7168.0;

/// Edits in the large file, each a page of a database.
const EDITS: u64 = 200;
const EDIT_BYTES: u64 = 4096;

/// Bytes that do not compress, from BLAKE3's output stream: fast and the same everywhere.
pub(crate) struct Noise(blake3::OutputReader);

impl Noise {
    pub(crate) fn seeded(seed: u64) -> Noise {
        Noise(
            blake3::Hasher::new()
                .update(&seed.to_le_bytes())
                .finalize_xof(),
        )
    }

    fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Exponentially distributed.
    fn size(&mut self, mean: f64) -> u64 {
        let uniform = (self.number() >> 11) as f64 / (1_u64 << 53) as f64;
        (-mean * (1.0 - uniform).ln()) as u64
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.fill(&mut bytes);
        bytes
    }
}

/// Whether files hold their bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// All of them.
    Noise,
    /// Files are holes of the right size: a run that finds nothing to do reads no content, and a
    /// million files fit on a small disk.
    Holes,
}

/// What small files are made of: each is a piece of a pool of noise.
struct Pool {
    noise: Noise,
    bytes: Vec<u8>,
}

impl Pool {
    fn seeded(seed: u64) -> Pool {
        let mut noise = Noise::seeded(seed);
        let bytes = noise.bytes(1 << 20);
        Pool { noise, bytes }
    }

    /// Makes the next file.
    fn make(&mut self, path: &Path, number: u64, content: Content) {
        let file = File::create(path).unwrap();
        let longest = self.bytes.len() / 2;
        let size = self.noise.size(MEAN_FILE_BYTES).min(longest as u64);
        match content {
            Content::Holes => file.set_len(size).unwrap(),
            Content::Noise => {
                let start = self.noise.number() as usize % longest;
                let bytes = &self.bytes[start..start + size as usize];
                file.write_all_at(bytes, 0).unwrap();
            }
        }
        age(&file, number);
    }
}

/// Where a tree has its directory of this number: 100 of them are in another, and what `levels`
/// there are beyond that is above both.
pub(crate) fn dir(number: usize, levels: usize) -> PathBuf {
    let mut path: PathBuf = (2..levels)
        .map(|level| format!("level-{level:02}"))
        .collect();
    if levels > 1 {
        path.push(format!("group-{:03}", number / 100));
    }
    path.join(format!("dir-{number:05}"))
}

/// Makes a tree of `files` files, 50 in a directory.
pub(crate) fn tree(root: &Path, files: usize, levels: usize, content: Content) {
    let mut pool = Pool::seeded(1);
    for number in 0..files.div_ceil(FILES_PER_DIR) {
        let path = root.join(dir(number, levels));
        fs::create_dir_all(&path).unwrap();
        for file in number * FILES_PER_DIR..files.min((number + 1) * FILES_PER_DIR) {
            pool.make(
                &path.join(format!("file-{file:07}.dat")),
                file as u64,
                content,
            );
        }
    }
    for entry in walkdir::WalkDir::new(root).into_iter().flatten() {
        if entry.file_type().is_dir() {
            age_at(entry.path(), 0);
        }
    }
}

/// Adds a thousand files to a tree of `files`, ten in each of a hundred directories.
pub(crate) fn add(root: &Path, files: usize, levels: usize, seed: u64) {
    let mut pool = Pool::seeded(seed);
    let dirs = files.div_ceil(FILES_PER_DIR);
    for hundredth in 0..100 {
        let dir = root.join(dir(hundredth * dirs / 100, levels));
        for number in hundredth * 10..(hundredth + 1) * 10 {
            let name = format!("new-{seed}-{number:03}.dat");
            pool.make(&dir.join(name), seed, Content::Noise);
        }
        age_at(&dir, seed);
    }
}

/// Makes a directory of `files` empty files.
pub(crate) fn flat(root: &Path, files: usize) {
    fs::create_dir_all(root).unwrap();
    for number in 0..files {
        empty(&root.join(format!("file-{number:07}.dat")), number as u64);
    }
}

/// Makes an empty file.
pub(crate) fn empty(path: &Path, number: u64) {
    age(&File::create(path).unwrap(), number);
}

/// Gives what is at `path` a time of its own. A directory needs it after its names have changed:
/// rsync takes times within one second for the same, and its copy was changed just now too.
pub(crate) fn age_at(path: &Path, number: u64) {
    age(&File::open(path).unwrap(), number);
}

/// Makes a file of `mib` MiB of noise.
pub(crate) fn big(path: &Path, mib: u64, seed: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::create(path).unwrap();
    let mut noise = Noise::seeded(seed);
    for part in 0..mib {
        file.write_all_at(&noise.bytes(1 << 20), part << 20)
            .unwrap();
    }
    age(&file, seed);
}

/// Changes 200 pages of a file in place.
pub(crate) fn edit(path: &Path, seed: u64) {
    let file = File::options().write(true).open(path).unwrap();
    let pages = file.metadata().unwrap().len() / EDIT_BYTES;
    let mut noise = Noise::seeded(seed);
    for _ in 0..EDITS {
        let page = noise.number() % pages;
        let bytes = noise.bytes(EDIT_BYTES as usize);
        file.write_all_at(&bytes, page * EDIT_BYTES).unwrap();
    }
    age(&file, seed);
}

/// Gives a file a time of its own, long ago, so that nothing is suspected of having just changed.
fn age(file: &File, number: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_500_000_000 + number % 100_000_000, 42);
    file.set_modified(time).unwrap();
}
