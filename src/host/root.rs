//! The root that an errand is about, opened where it is there.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fs::{self, Dir, Stat, Target};
use crate::path::escape;

/// A root's directory, pinned.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) dir: Dir,
    pub(super) path: PathBuf,
}

/// A root's path, which must not depend on where this process happens to be.
pub(super) fn absolute(root: &str) -> Result<&Path> {
    match root.strip_prefix('/') {
        // A slash at the end would keep it from being renamed, and name what it points to.
        Some(rest) if !rest.trim_end_matches('/').is_empty() => {
            Ok(Path::new(root.trim_end_matches('/')))
        }
        Some(_) => Err(Error::Usage(
            "the root of the filesystem is no root of a plan".into(),
        )),
        None => Err(Error::Usage(format!(
            "{} is not an absolute path",
            escape(root.as_bytes())
        ))),
    }
}

/// Opens a root, if it is there.
pub(super) fn find(root: &str) -> Result<Option<Root>> {
    match opened(root) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// Opens a root that must be there.
pub(super) fn opened(root: &str) -> Result<Root> {
    let path = absolute(root)?.to_path_buf();
    match Dir::open_root(&path) {
        Ok(dir) => Ok(Root { dir, path }),
        Err(err) => Err(Error::io("open", path.as_os_str().as_bytes(), err)),
    }
}

impl Root {
    /// Its path for messages.
    pub(super) fn shown(&self) -> String {
        escape(self.path.as_os_str().as_bytes()).into_owned()
    }

    /// The failure of an act on the root itself.
    pub(super) fn failed(&self, act: &'static str, err: io::Error) -> Error {
        Error::io(act, self.path.as_os_str().as_bytes(), err)
    }

    /// What its directory is now.
    pub(super) fn stat(&self) -> Result<Stat> {
        self.dir.stat_self().map_err(|err| self.failed("stat", err))
    }

    pub(super) fn set_mode(&self, mode: u16) -> Result<()> {
        fs::set_mode(&Target::Dir(&self.dir), mode)
            .and_then(|()| self.dir.sync())
            .map_err(|err| self.failed("set the mode of", err))
    }

    /// Does something with names of ours in it; its time of last change, which the next sync
    /// compares, does not tell of them.
    pub(super) fn keeping_mtime<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let before = self.stat()?.meta.mtime;
        let done = act()?;
        match fs::set_mtime(&Target::Dir(&self.dir), before) {
            // Not ours: then the next sync sets it.
            Err(err) if err.kind() == io::ErrorKind::PermissionDenied => Ok(done),
            Err(err) => Err(self.failed("set the times of", err)),
            Ok(()) => Ok(done),
        }
    }
}
