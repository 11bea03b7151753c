//! Roots: how the paths that a user gave become pinned directories, and what may not be synced
//! into what.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fs::{self, Dir};
use crate::path::Name;
use crate::protocol::message::RootIdentity;

/// The source's root.
#[derive(Debug)]
pub(crate) struct SourceRoot {
    /// The directory; a single file's parent.
    pub(crate) dir: Dir,
    /// Its path without symlinks, for the state.
    pub(crate) canonical: PathBuf,
    /// The only entry that takes part, where the path names something else than a directory.
    pub(crate) single: Option<Name>,
    /// The root is on another device than the last time: perhaps nothing is mounted there now.
    pub(crate) moved_device: bool,
}

impl SourceRoot {
    pub(crate) fn open(path: &Path) -> Result<SourceRoot> {
        let failed = |err| Error::io("open source", path.as_os_str().as_bytes(), err);
        if std::fs::metadata(path).is_ok_and(|meta| meta.is_dir()) {
            return Ok(SourceRoot {
                dir: Dir::open_root(path).map_err(failed)?,
                canonical: path.canonicalize().map_err(failed)?,
                single: None,
                moved_device: false,
            });
        }
        // Not a directory: it must at least be there, be it a dangling symlink.
        std::fs::symlink_metadata(path).map_err(failed)?;
        let (parent, name) = split_last(path)?;
        Ok(SourceRoot {
            dir: Dir::open_root(&parent).map_err(failed)?,
            canonical: parent.canonicalize().map_err(failed)?,
            single: Some(name),
            moved_device: false,
        })
    }
}

/// The destination's root.
#[derive(Debug)]
pub(crate) struct DestinationRoot {
    /// The directory; `None` where it is not there.
    pub(crate) dir: Option<Dir>,
    /// Its path, without symlinks where it is there.
    pub(crate) canonical: PathBuf,
    /// What a single source is called here.
    pub(crate) single: Option<Name>,
}

impl DestinationRoot {
    /// Opens the root if it is there. Makes nothing: the run may still be refused.
    pub(crate) fn find(path: &Path, single: Option<&Name>) -> Result<Self> {
        let (path, single) = match single {
            Some(name) if path.is_dir() || ends_in_slash(path) => {
                (path.to_path_buf(), Some(name.clone()))
            }
            Some(_) => {
                let (parent, name) = split_last(path)?;
                (parent, Some(name))
            }
            None => (path.to_path_buf(), None),
        };
        let failed = |err| Error::io("open destination", path.as_os_str().as_bytes(), err);
        let dir = match std::fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => Some(Dir::open_root(&path).map_err(failed)?),
            Ok(_) => {
                return Err(Error::Usage(format!(
                    "destination {} is not a directory, but the source is; remove it or choose \
                     another destination",
                    path.display()
                )));
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => None,
            Err(err) => return Err(failed(err)),
        };
        Ok(DestinationRoot {
            canonical: path.canonicalize().unwrap_or(path),
            dir,
            single,
        })
    }

    /// The root, or what it would be made in: their filesystem is the same.
    pub(crate) fn nearest(&self) -> Result<Dir> {
        let found = match &self.dir {
            Some(dir) => dir.try_clone(),
            None => fs::open_nearest(&self.canonical),
        };
        found.map_err(|err| Error::io("open", self.canonical.as_os_str().as_bytes(), err))
    }

    /// Makes the root and its missing parents, where it is not there.
    pub(crate) fn create(&mut self) -> Result<()> {
        if self.dir.is_some() {
            return Ok(());
        }
        let failed =
            |path: &Path, err| Error::io("create destination", path.as_os_str().as_bytes(), err);
        let dir =
            fs::create_dir_all(&self.canonical).map_err(|err| failed(&self.canonical, err))?;
        self.dir = Some(dir);
        if let Ok(canonical) = self.canonical.canonicalize() {
            self.canonical = canonical;
        }
        Ok(())
    }
}

fn ends_in_slash(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/")
}

/// A path's parent directory and last name.
fn split_last(path: &Path) -> Result<(PathBuf, Name)> {
    let name = path
        .file_name()
        .and_then(|name| Name::new(name.as_bytes()).ok());
    let Some(name) = name else {
        return Err(Error::Usage(format!(
            "{} names no file; give its full name",
            path.display()
        )));
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    Ok((parent, name))
}

/// Refuses roots of which one holds the other, whatever their paths look like.
pub(crate) fn refuse_nested(source: &RootIdentity, destination: &RootIdentity) -> Result<()> {
    match source.overlap(destination) {
        None => Ok(()),
        Some(what) => Err(Error::Refused(format!(
            "{what}; choose roots of which none holds the other"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::identify;

    #[test]
    fn nested_roots_are_refused_through_symlinks_too() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path();
        std::fs::create_dir_all(dir.join("a/inner")).unwrap();
        std::fs::create_dir_all(dir.join("b")).unwrap();
        std::os::unix::fs::symlink(dir.join("a"), dir.join("link")).unwrap();
        let refused = |a: &str, b: &str| {
            refuse_nested(&identify(&dir.join(a)), &identify(&dir.join(b))).is_err()
        };
        assert!(refused("a", "a"));
        assert!(refused("a", "a/inner"));
        assert!(refused("a/inner", "a"));
        assert!(refused("a", "link/new/deep"));
        assert!(!refused("a", "b"));
        assert!(!refused("a", "ab"), "a sibling that is not there yet");
    }
}
