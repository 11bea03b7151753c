//! What this host can be asked about roots and services, and answers by looking alone: nothing is
//! changed, nothing left behind. What keeps, runs or marks something is in this file's neighbours.
//!
//! Trees are hostile: whoever owns one may change it while it is read. Beneath a root no symlink is
//! followed and nothing but regular files is opened. Answers are bounded, whatever is found.

mod databases;
mod exposed;
mod glob;
mod limits;
mod measure;
mod mentions;
mod occupants;
mod probe;
mod root;
#[cfg(test)]
mod testing;
mod values;
mod walk;

pub(crate) use exposed::{holds_packages, is_secret_file};

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::events::Cancel;
use crate::fs::Dir;
use crate::path::Name;
use crate::protocol::errand::{Answer, Errand};

/// Answers an errand that only looks; `None` where it is not one.
pub(super) fn answer(errand: &Errand, cancel: &Cancel) -> Option<Result<Answer>> {
    Some(match errand {
        Errand::Root(path) => root::look(path).map(Answer::Root),
        Errand::Measure { root } => measure::measure(root, cancel).map(Answer::Measured),
        Errand::Glob(patterns) => glob::find(patterns, cancel).map(Answer::Paths),
        Errand::Exposed { root, secrets } => {
            exposed::find(root, secrets, cancel).map(Answer::Paths)
        }
        Errand::Mentions { root, paths } => {
            mentions::find(root, paths, cancel).map(Answer::Mentions)
        }
        Errand::Values(queries) => values::read(queries, cancel).map(Answer::Values),
        Errand::Occupants(roots) => occupants::find(roots, cancel).map(Answer::Occupants),
        Errand::Databases { root, check } => {
            databases::find(root, *check, cancel).map(Answer::Databases)
        }
        Errand::Check(probe) => probe::attempt(probe, cancel).map(Answer::Checked),
        _ => return None,
    })
}

/// Pins a root, which must be a directory that may be listed. Symlinks on the way to it are
/// followed: the path is the user's own.
fn open_root(root: &str) -> Result<Dir> {
    Dir::open_root(Path::new(root)).map_err(|err| Error::io("list", root, err))
}

/// Opens the regular file at the user's own `path`, following symlinks. What is something else
/// ([`io::ErrorKind::InvalidInput`]) is not opened, so that a FIFO keeps nobody waiting.
fn open_file(path: &str) -> io::Result<File> {
    let path = Path::new(path).canonicalize()?;
    let name = path
        .file_name()
        .and_then(|name| Name::new(name.as_bytes()).ok());
    let (Some(parent), Some(name)) = (path.parent(), name) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    };
    Dir::open_root(parent)?.open_file(&name)
}
