//! The stage: directories on a disk and in memory, an sshd, the tools that are installed, and
//! the trees that scenarios share. All of it goes when it is dropped.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::data::Sizes;
use crate::link;
use crate::sshd::Sshd;
use crate::tools::{copy, says};

/// Where a scenario's trees are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Disk,
    Memory,
}

/// Below are the seeds of what is made before anything changes.
const FIRST_SEED: u64 = 100;

pub(crate) struct Stage {
    disk: TempDir,
    memory: TempDir,
    pub(crate) sshd: Sshd,
    pub(crate) sizes: Sizes,
    /// rsync 3, not the other program of that name.
    pub(crate) has_rsync: bool,
    /// One that keeps metadata.
    pub(crate) has_rclone: bool,
    pub(crate) has_strace: bool,
    made: RefCell<HashSet<PathBuf>>,
    last_seed: Cell<u64>,
}

impl Stage {
    pub(crate) fn set(disk: &Path, memory: &Path, sizes: Sizes) -> Stage {
        let dir = |base: &Path| TempDir::with_prefix_in("cutover-versus-", base).unwrap();
        let stage = Stage {
            disk: dir(disk),
            memory: dir(memory),
            sshd: Sshd::start(),
            sizes,
            has_rsync: says("rsync", "--version").contains("rsync  version 3"),
            has_rclone: says("rclone", "help flags").contains("--metadata "),
            has_strace: says("strace", "-V").contains("strace -- version"),
            made: RefCell::default(),
            last_seed: Cell::new(FIRST_SEED),
        };
        for (_, home) in stage.near_home() {
            fs::create_dir_all(&home).unwrap();
            fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        }
        stage
    }

    /// Says whose figures will not be there.
    pub(crate) fn print_missing(&self) {
        let wanted = [
            ("rsync 3", self.has_rsync),
            ("rclone 1.59 or later", self.has_rclone),
            ("strace", self.has_strace),
        ];
        for (what, there) in wanted {
            if !there {
                println!("{what} is not installed: its figures are left out");
            }
        }
    }

    pub(crate) fn dir(&self, place: Place) -> &Path {
        match place {
            Place::Disk => self.disk.path(),
            Place::Memory => self.memory.path(),
        }
    }

    /// A file for figures and scripts.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.disk.path().join(name)
    }

    /// The near side's environment: its state is the benchmark's, not the user's.
    pub(crate) fn near_home(&self) -> [(&'static str, PathBuf); 4] {
        [
            ("HOME", "home"),
            ("XDG_STATE_HOME", "home/state"),
            ("XDG_CACHE_HOME", "home/cache"),
            ("XDG_RUNTIME_DIR", "home/run"),
        ]
        .map(|(variable, below)| (variable, self.file(below)))
    }

    /// The client configuration that leads to the sshd over a link with this round trip; 0 is the
    /// loopback as it is.
    pub(crate) fn ssh_config(&self, round_trip_ms: u32) -> PathBuf {
        let direct = self.sshd.ssh_config();
        if round_trip_ms == 0 {
            return direct;
        }
        let me = std::env::current_exe().unwrap();
        let text = format!(
            "ProxyCommand '{}' {} {round_trip_ms} %h %p\nInclude {}\n",
            me.display(),
            link::WORD,
            direct.display()
        );
        let path = self.file("delayed.ssh_config");
        fs::write(&path, text).unwrap();
        path
    }

    /// A seed for the next change.
    pub(crate) fn new_seed(&self) -> u64 {
        self.last_seed.set(self.last_seed.get() + 1);
        self.last_seed.get()
    }

    /// Makes what is at `path` unless an earlier scenario did.
    pub(crate) fn make(&self, path: &Path, make: impl FnOnce(&Path)) {
        if self.made.borrow_mut().insert(path.into()) {
            make(path);
        }
    }

    /// Copies a tree exactly, unless an earlier scenario did.
    pub(crate) fn make_copy(&self, from: &Path, to: &Path) {
        self.make(to, |to| copy(from, to));
    }

    /// Removes what scenarios made at `path`, so that the disk holds one set at a time.
    pub(crate) fn clear(&self, path: &Path) {
        remove(path);
        self.made
            .borrow_mut()
            .retain(|made| !made.starts_with(path));
    }
}

pub(crate) fn remove(path: &Path) {
    if path.exists() {
        fs::remove_dir_all(path).unwrap();
    }
}
