//! What the tests of `fs` share: directories on several filesystems, and short spellings.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Dir, Users};
use crate::entry::Timestamp;
use crate::path::{Name, RelPath};

/// A time that no clock gives by accident, with all digits in use.
pub(super) const SOME_TIME: Timestamp = Timestamp {
    secs: 1_234_567_891,
    nanos: 987_654_321,
};

pub(super) fn name(text: impl AsRef<[u8]>) -> Name {
    Name::new(text.as_ref()).unwrap()
}

pub(super) fn path(text: impl AsRef<[u8]>) -> RelPath {
    RelPath::new(text.as_ref()).unwrap()
}

/// A directory that is removed at the end of the test.
pub(super) struct Place {
    pub(super) temp: TempDir,
    pub(super) dir: Dir,
}

impl Place {
    pub(super) fn new() -> Place {
        Place::on(&std::env::temp_dir())
    }

    fn on(parent: &Path) -> Place {
        let temp = TempDir::new_in(parent).unwrap();
        let dir = Dir::open_root(temp.path()).unwrap();
        Place { temp, dir }
    }

    pub(super) fn path(&self) -> &Path {
        self.temp.path()
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path().join(name), content).unwrap();
    }
}

/// One directory on disk and one in memory: filesystems differ in what they keep.
pub(super) fn places() -> Vec<Place> {
    let mut places = vec![Place::new()];
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        places.push(Place::on(memory));
    }
    places
}

/// Says so and returns false where the test needs root.
pub(super) fn has_root() -> bool {
    if !Users::is_root() {
        eprintln!("skipped: needs root");
    }
    Users::is_root()
}

/// A filesystem in a file, mounted until dropped.
pub(super) struct Mounted {
    temp: TempDir,
    pub(super) dir: Dir,
}

impl Mounted {
    /// Makes one of `bytes`; `None`, with the reason printed, where that cannot be done.
    pub(super) fn new(fs_type: &str, bytes: u64) -> Option<Mounted> {
        Mounted::with_options(fs_type, bytes, &[])
    }

    /// The same, with options for the tool that makes it.
    pub(super) fn with_options(fs_type: &str, bytes: u64, options: &[&str]) -> Option<Mounted> {
        Mounted::try_new(fs_type, bytes, options)
            .inspect_err(|err| eprintln!("skipped: no {fs_type} to test on: {err}"))
            .ok()
    }

    fn try_new(fs_type: &str, bytes: u64, options: &[&str]) -> io::Result<Mounted> {
        let temp = TempDir::new()?;
        let (image, mount_point) = (temp.path().join("image"), temp.path().join("mnt"));
        std::fs::File::create(&image)?.set_len(bytes)?;
        std::fs::create_dir(&mount_point)?;
        run(Command::new(format!("mkfs.{fs_type}"))
            .args(options)
            .arg(&image))?;
        let mut mount = Command::new("mount");
        run(mount
            .args(["-t", fs_type, "-o", "loop"])
            .args([&image, &mount_point]))?;
        let dir = Dir::open_root(&mount_point)?;
        Ok(Mounted { temp, dir })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.temp.path().join("mnt")
    }

    pub(super) fn remount_read_only(&self) {
        let mut mount = Command::new("mount");
        mount.args(["-o", "remount,ro"]).arg(self.path());
        run(&mut mount).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily, since our own descriptor is still open.
        run(Command::new("umount").arg("-l").arg(self.path())).unwrap();
    }
}

/// Runs a command to its end; its messages are the error.
pub(super) fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )),
    }
}
