//! Where replaced and deleted entries go: a trash directory, a backup beside them, or nowhere.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::apply::{Applier, Place};
use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::fs::{self, Dir};
use crate::options::{Keep, Trash};
use crate::path::{NAME_MAX, Name, RelPath};

/// Where replaced and deleted entries go.
#[derive(Debug, Default)]
pub struct Aside {
    /// The trash, on the destination's filesystem.
    pub trash: Option<TrashDir>,
    /// What is appended to the names of backups.
    pub backup_suffix: Option<Vec<u8>>,
}

/// The trash, in which a run makes a folder of its own once it has something to put there.
#[derive(Debug)]
pub struct TrashDir {
    base: Dir,
    run: OnceLock<Dir>,
    /// Two threads must not make two folders.
    making: Mutex<()>,
}

impl TrashDir {
    /// This run's folder, named by the time.
    fn run(&self) -> io::Result<&Dir> {
        let _one_at_a_time = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = self.run.get() {
            return Ok(run);
        }
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // Runs exclude each other by the root's lock, but two may start within a second.
        let name = format!(
            "{}.{:03}",
            since_epoch.as_secs(),
            since_epoch.subsec_millis()
        );
        let name = Name::new(name.as_bytes()).map_err(io::Error::other)?;
        self.base.make_dir(&name, 0o700)?;
        let dir = self.base.open_child(&name)?;
        Ok(self.run.get_or_init(|| dir))
    }
}

impl Aside {
    /// Refuses a trash that entries cannot be renamed into. Makes nothing: `root` may be what the
    /// root will be made in.
    pub fn check(root: &Dir, keep: &Keep) -> Result<()> {
        let Some(Trash::At(path)) = &keep.trash else {
            return Ok(());
        };
        let failed = |err: io::Error| Error::io("open the trash", path, err);
        let trash = fs::open_nearest(Path::new(OsStr::from_bytes(path))).map_err(failed)?;
        let device = |dir: &Dir| dir.stat_self().map(|stat| stat.dev).map_err(failed);
        if device(&trash)? != device(root)? {
            return Err(Error::Usage(format!(
                "the trash {} is on another filesystem than the destination: entries are renamed \
                 into it, so choose one on the same",
                crate::path::escape(path)
            )));
        }
        Ok(())
    }

    /// Opens the trash, where there shall be one, and makes it where it is not there yet.
    pub fn open(root: &Dir, keep: &Keep) -> Result<Aside> {
        Aside::check(root, keep)?;
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
        // Asked before a folder is made in the trash for nothing.
        if !self.options.aside.keeps() || !is_there(&place.dir, name)? {
            return Ok(());
        }
        let keep = |dir: &Dir, kept: &Name| {
            let temp = fs::temp_name(kept);
            dir.make_link(&temp, &place.dir, name)?;
            dir.rename(&temp, dir, kept)?;
            // Two names of one file are not renamed over each other, but both stay.
            match dir.unlink(&temp) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
                _ => Ok(()),
            }
        };
        match &self.options.aside.trash {
            Some(trash) => match trash_dir(trash.run()?, path)? {
                Some(dir) => keep(&dir, name),
                None => Ok(()),
            },
            None => keep(&place.dir, &self.backup_name(name)?),
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
            let Some(dir) = trash_dir(trash.run()?, path)? else {
                return Ok(false);
            };
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

fn is_there(dir: &Dir, name: &Name) -> io::Result<bool> {
    match dir.stat(name) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        found => found.map(|_| true),
    }
}

/// Opens the trash, and makes it where it is not there yet.
fn open_trash(root: &Dir, place: &Trash) -> Result<TrashDir> {
    let shown = match place {
        Trash::InRoot => fs::trash_name().as_bytes().to_vec(),
        Trash::At(path) => path.clone(),
    };
    let failed = |err: io::Error| Error::io("open the trash", &shown, err);
    let base = match place {
        Trash::InRoot => {
            let name = fs::trash_name();
            match root.make_dir(&name, 0o700) {
                Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(failed(err)),
                _ => root.open_child(&name).map_err(failed)?,
            }
        }
        Trash::At(path) => {
            fs::create_dir_all(Path::new(OsStr::from_bytes(path))).map_err(failed)?
        }
    };
    Ok(TrashDir {
        base,
        run: OnceLock::new(),
        making: Mutex::default(),
    })
}

/// The folder in the trash that mirrors the entry's own. `None` where what is no directory lies in
/// its place: then the entry is of this run, since its directory was something else before.
fn trash_dir(trash: &Dir, path: &RelPath) -> io::Result<Option<Dir>> {
    let mut dir = trash.try_clone()?;
    let parent = path.parent().unwrap_or_default();
    for component in parent.components() {
        let name = Name::new(component).map_err(io::Error::other)?;
        match dir.make_dir(&name, 0o700) {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(err),
            Err(_) if dir.stat(&name)?.meta.kind != EntryKind::Dir => return Ok(None),
            _ => dir = dir.open_child(&name)?,
        }
    }
    Ok(Some(dir))
}
