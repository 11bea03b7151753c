//! Notes that a root was not there when its state was kept. There is no root to keep that in, and
//! to make one would change what is kept: the notes are with the state of runs.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fs::Dir;
use crate::manifest::state::state_stem;

/// Notes that there is no root at this path.
pub(super) fn note(root: &Path, id: &str) -> Result<()> {
    let path = place(root, id)?;
    let make = || {
        let Some(dir) = path.parent() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        File::create(&path)?.sync_all()?;
        Dir::open_root(dir)?.sync()
    };
    make().map_err(|err| failed("write", &path, err))
}

/// Whether that was noted.
pub(super) fn is_noted(root: &Path, id: &str) -> Result<bool> {
    let path = place(root, id)?;
    path.try_exists().map_err(|err| failed("read", &path, err))
}

/// Removes the note, if there is one.
pub(super) fn forget(root: &Path, id: &str) -> Result<()> {
    let path = place(root, id)?;
    match std::fs::remove_file(&path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path, err)),
        _ => Ok(()),
    }
}

fn place(root: &Path, id: &str) -> Result<PathBuf> {
    let stem = state_stem(root)
        .map_err(|why| Error::io("use", "the state directory", io::Error::other(why)))?;
    let mut path = stem.into_os_string();
    path.push(format!("-{id}.absent"));
    Ok(path.into())
}

fn failed(act: &'static str, path: &Path, err: io::Error) -> Error {
    Error::io(act, path.as_os_str().as_bytes(), err)
}
