//! The data: trees and files made from a seed, the same on every machine.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
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

/// Makes a tree of `files` files, 50 in a directory, 100 directories in another.
pub(crate) fn tree(root: &Path, files: usize, content: Content) {
    let mut noise = Noise::seeded(1);
    let pool = noise.bytes(1 << 20);
    let dirs = files.div_ceil(FILES_PER_DIR);
    for dir in 0..dirs {
        let path = root.join(format!("group-{:03}/dir-{dir:05}", dir / 100));
        fs::create_dir_all(&path).unwrap();
        for number in dir * FILES_PER_DIR..files.min((dir + 1) * FILES_PER_DIR) {
            let file = File::create(path.join(format!("file-{number:07}.dat"))).unwrap();
            let size = noise.size(MEAN_FILE_BYTES).min(pool.len() as u64 / 2);
            match content {
                Content::Holes => file.set_len(size).unwrap(),
                Content::Noise => {
                    let start = noise.number() as usize % (pool.len() / 2);
                    let bytes = &pool[start..start + size as usize];
                    file.write_all_at(bytes, 0).unwrap();
                }
            }
            age(&file, number as u64);
        }
    }
}

/// Makes a directory of `files` empty files.
pub(crate) fn flat(root: &Path, files: usize) {
    fs::create_dir_all(root).unwrap();
    for number in 0..files {
        let file = File::create(root.join(format!("file-{number:07}.dat"))).unwrap();
        age(&file, number as u64);
    }
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
pub(crate) fn edit(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    let pages = file.metadata().unwrap().len() / EDIT_BYTES;
    let mut noise = Noise::seeded(99);
    for _ in 0..EDITS {
        let page = noise.number() % pages;
        let bytes = noise.bytes(EDIT_BYTES as usize);
        file.write_all_at(&bytes, page * EDIT_BYTES).unwrap();
    }
    age(&file, 1_000_000_000);
}

/// Gives a file a time of its own, long ago, so that nothing is suspected of having just changed.
fn age(file: &File, number: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_500_000_000 + number % 100_000_000, 42);
    file.set_modified(time).unwrap();
}
