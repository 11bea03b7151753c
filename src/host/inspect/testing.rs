//! What the tests of these questions share: a tree to ask about.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::fs::{Dir, Users};

/// A directory with what a test puts into it, removed at the test's end. Everybody may enter it.
pub(super) struct Tree {
    temp: TempDir,
}

impl Tree {
    pub(super) fn new() -> Tree {
        let temp = TempDir::new().unwrap();
        let tree = Tree { temp };
        tree.chmod("", 0o755);
        tree
    }

    pub(super) fn root(&self) -> &str {
        self.temp.path().to_str().unwrap()
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.temp.path().join(below)
    }

    pub(super) fn text(&self, below: &str) -> String {
        self.path(below).to_str().unwrap().to_owned()
    }

    pub(super) fn dir(&self) -> Dir {
        Dir::open_root(self.temp.path()).unwrap()
    }

    /// Writes a file, mode 0644, in directories that everybody may enter.
    pub(super) fn file(&self, below: &str, content: impl AsRef<[u8]>) {
        for parent in Path::new(below).ancestors().skip(1) {
            std::fs::create_dir_all(self.path(parent.to_str().unwrap())).unwrap();
        }
        std::fs::write(self.path(below), content).unwrap();
        for entry in Path::new(below).ancestors().skip(1) {
            self.chmod(entry.to_str().unwrap(), 0o755);
        }
        self.chmod(below, 0o644);
    }

    pub(super) fn chmod(&self, below: &str, mode: u32) {
        std::fs::set_permissions(self.path(below), Permissions::from_mode(mode)).unwrap();
    }

    pub(super) fn fifo(&self, below: &str) {
        run(Command::new("mkfifo").arg(self.path(below)));
    }

    /// Everything below with what a reader can change, for comparing before and after.
    pub(super) fn snapshot(&self) -> Vec<String> {
        let mut lines: Vec<_> = walkdir::WalkDir::new(self.temp.path())
            .into_iter()
            .map(|entry| {
                use std::os::unix::fs::MetadataExt;
                let entry = entry.unwrap();
                let meta = entry.metadata().unwrap();
                let times = (
                    meta.mtime(),
                    meta.mtime_nsec(),
                    meta.ctime(),
                    meta.ctime_nsec(),
                );
                format!("{:?} {} {times:?}", entry.path(), meta.len())
            })
            .collect();
        lines.sort();
        lines
    }
}

/// Runs a command that must succeed.
pub(super) fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// Says so and returns false where the test needs root.
pub(super) fn has_root() -> bool {
    if !Users::is_root() {
        eprintln!("skipped: needs root");
    }
    Users::is_root()
}
