//! Where replaced and deleted entries go: a trash directory, a backup beside them, or nowhere.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::apply::{Applier, Place};
use crate::error::{Error, Result};
use crate::fs::{self, Dir};
use crate::options::{Keep, Trash};
use crate::path::{NAME_MAX, Name, RelPath};

/// The trash in a destination's root, unless another place was given. Never synced.
pub const TRASH_NAME: &str = ".cutover-trash";

/// Where replaced and deleted entries go.
#[derive(Debug, Default)]
pub struct Aside {
    /// This run's folder in the trash, on the destination's filesystem.
    pub trash: Option<Dir>,
    /// What is appended to the names of backups.
    pub backup_suffix: Option<Vec<u8>>,
}

impl Aside {
    /// Makes this run's folder in the trash, where there shall be one.
    pub fn open(root: &Dir, keep: &Keep) -> Result<Aside> {
        let trash = match &keep.trash {
            None => None,
            Some(place) => Some(open_trash(root, place)?),
        };
        Ok(Aside {
            trash,
            backup_suffix: keep.backup_suffix.clone(),
        })
    }

    /// Whether old entries are kept at all.
    pub fn keeps(&self) -> bool {
        self.trash.is_some() || self.backup_suffix.is_some()
    }
}

impl Applier {
    /// Keeps the entry that is about to be replaced, while it also keeps its name: the new entry
    /// is renamed over it in the next step, and nobody sees a gap. Nothing to do where there is
    /// no old entry or old entries are not kept.
    pub(crate) fn set_aside(&self, place: &Place, path: &RelPath, name: &Name) -> io::Result<()> {
        if !self.options.aside.keeps() {
            return Ok(());
        }
        let keep = |dir: &Dir, kept: &Name| {
            let temp = fs::temp_name(kept);
            dir.make_link(&temp, &place.dir, name)?;
            dir.rename(&temp, dir, kept)
        };
        let kept = match &self.options.aside.trash {
            Some(trash) => {
                let dir = trash_dir(trash, path)?;
                keep(&dir, name)
            }
            None => keep(&place.dir, &self.backup_name(name)?),
        };
        match kept {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            kept => kept,
        }
    }

    /// Moves an entry to where deleted ones go. `false`: they go nowhere, it is still there.
    pub(crate) fn move_aside(
        &self,
        place: &Place,
        path: &RelPath,
        name: &Name,
    ) -> io::Result<bool> {
        if let Some(trash) = &self.options.aside.trash {
            let dir = trash_dir(trash, path)?;
            place.dir.rename(name, &dir, name)?;
            return Ok(true);
        }
        if self.options.aside.backup_suffix.is_some() {
            let kept = self.backup_name(name)?;
            place.dir.rename(name, &place.dir, &kept)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn backup_name(&self, name: &Name) -> io::Result<Name> {
        let suffix = self.options.aside.backup_suffix.as_deref().unwrap_or(b"~");
        let bytes = [name.as_bytes(), suffix].concat();
        if bytes.len() > NAME_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidFilename,
                "the name with the backup suffix is longer than 255 bytes; use --trash instead",
            ));
        }
        Name::new(&bytes).map_err(io::Error::other)
    }
}

/// Opens the trash and makes a folder for this run in it, named by the time.
fn open_trash(root: &Dir, place: &Trash) -> Result<Dir> {
    let shown = match place {
        Trash::InRoot => TRASH_NAME.as_bytes().to_vec(),
        Trash::At(path) => path.clone(),
    };
    let failed = |err: io::Error| Error::io("open the trash", &shown, err);
    let base = match place {
        Trash::InRoot => {
            let name = Name::new(TRASH_NAME.as_bytes())?;
            match root.make_dir(&name, 0o700) {
                Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(failed(err)),
                _ => root.open_child(&name).map_err(failed)?,
            }
        }
        Trash::At(path) => {
            fs::create_dir_all(Path::new(OsStr::from_bytes(path))).map_err(failed)?
        }
    };
    let device = |dir: &Dir| dir.stat_self().map(|stat| stat.dev).map_err(failed);
    if device(&base)? != device(root)? {
        return Err(Error::Usage(format!(
            "the trash {} is on another filesystem than the destination: entries are renamed into \
             it, so choose one on the same",
            crate::path::escape(&shown)
        )));
    }
    let since_epoch = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    // Runs exclude each other by the root's lock, but two may start within a second.
    let name = format!(
        "{}.{:03}",
        since_epoch.as_secs(),
        since_epoch.subsec_millis()
    );
    let name = Name::new(name.as_bytes())?;
    base.make_dir(&name, 0o700).map_err(failed)?;
    base.open_child(&name).map_err(failed)
}

/// The folder in the trash that mirrors the entry's own.
fn trash_dir(trash: &Dir, path: &RelPath) -> io::Result<Dir> {
    let mut dir = trash.try_clone()?;
    let parent = path.parent().unwrap_or_default();
    for component in parent.components() {
        let name = Name::new(component).map_err(io::Error::other)?;
        match dir.make_dir(&name, 0o700) {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(err),
            _ => dir = dir.open_child(&name)?,
        }
    }
    Ok(dir)
}
