//! The changes, and how long each takes to arrive at the standby.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::data::{self, Noise};

/// How often the standby is looked at: far less than what is measured.
const LOOK: Duration = Duration::from_millis(2);

/// Longer than anybody takes for a change, or for the first comparison of both trees.
const PATIENCE: Duration = Duration::from_secs(600);

/// The pause between two changes is this and up to a second more, so that who looks every second is
/// met at any moment of it.
const PAUSE: Duration = Duration::from_secs(2);

const BURST: usize = 1000;
const BURST_DIRS: usize = 20;
const BURST_FILE_BYTES: usize = 4096;
const APPENDED_BYTES: usize = 1 << 20;

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// One small file is written anew.
    Small,
    /// A thousand files of 4 KiB come, in twenty directories.
    Burst,
    /// The large file grows by a MiB.
    Append,
}

impl Change {
    pub(crate) const ALL: [Change; 3] = [Change::Small, Change::Burst, Change::Append];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Change::Small => "one small file",
            Change::Burst => "1000 files",
            Change::Append => "1 MiB appended",
        }
    }
}

/// The two trees while they are changed.
pub(crate) struct Course<'a> {
    pub(crate) src: &'a Path,
    pub(crate) dst: &'a Path,
    /// Directories in the tree.
    pub(crate) dirs: usize,
    /// Grows with each change, from another beginning for each contender: none is like another.
    pub(crate) number: u64,
}

/// Where the large file is.
pub(crate) fn big_file() -> &'static Path {
    Path::new("big/file")
}

impl Course<'_> {
    /// Makes a change and returns how long after its last byte was written all of it had arrived.
    pub(crate) fn take(&mut self, change: Change) -> Duration {
        self.number += 1;
        let number = self.number;
        thread::sleep(PAUSE + Duration::from_millis(number * 377 % 1000));
        match change {
            Change::Small => self.small(number),
            Change::Burst => self.burst(number),
            Change::Append => self.append(number),
        }
    }

    fn small(&self, number: u64) -> Duration {
        // Far apart, and no directory twice in a row.
        let dir = data::dir(number as usize * 7919 % self.dirs, 2);
        let path = dir.join("small.dat");
        let text = format!("change {number}\n");
        fs::write(self.src.join(&path), &text).unwrap();
        let began = Instant::now();
        let arrived = || fs::read(self.dst.join(&path)).is_ok_and(|found| found == text.as_bytes());
        wait(began, arrived)
    }

    fn burst(&self, number: u64) -> Duration {
        let mut noise = Noise::seeded(number);
        let paths: Vec<PathBuf> = (0..BURST)
            .map(|at| {
                let dir = data::dir((number as usize + at % BURST_DIRS * 31) % self.dirs, 2);
                dir.join(format!("burst-{number}-{at:04}.dat"))
            })
            .collect();
        for path in &paths {
            fs::write(self.src.join(path), noise.bytes(BURST_FILE_BYTES)).unwrap();
        }
        let began = Instant::now();
        let mut missing = paths.iter().peekable();
        wait(began, || {
            let is_there = |path: &&PathBuf| {
                let found = fs::metadata(self.dst.join(path));
                found.is_ok_and(|found| found.len() == BURST_FILE_BYTES as u64)
            };
            while missing.next_if(is_there).is_some() {}
            missing.peek().is_none()
        })
    }

    fn append(&self, number: u64) -> Duration {
        let bytes = Noise::seeded(number).bytes(APPENDED_BYTES);
        let path = self.src.join(big_file());
        let mut file = File::options().append(true).open(path).unwrap();
        file.write_all(&bytes).unwrap();
        let len = file.metadata().unwrap().len();
        drop(file);
        let began = Instant::now();
        wait(began, || {
            let Ok(file) = File::open(self.dst.join(big_file())) else {
                return false;
            };
            let mut end = vec![0; APPENDED_BYTES];
            file.metadata().is_ok_and(|found| found.len() == len)
                && file
                    .read_exact_at(&mut end, len - APPENDED_BYTES as u64)
                    .is_ok()
                && end == bytes
        })
    }
}

fn wait(began: Instant, mut arrived: impl FnMut() -> bool) -> Duration {
    while !arrived() {
        assert!(began.elapsed() < PATIENCE, "a change did not arrive");
        thread::sleep(LOOK);
    }
    began.elapsed()
}
