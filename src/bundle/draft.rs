//! The file that a bundle is written to: beside its place under a name of ours and for its owner's
//! eyes only, until it is whole and durable.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fs::{self, Dir, ListScratch};
use crate::path::{Name, escape};

/// What may be at the place that a bundle goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// Nothing.
    Never,
    /// A file, which makes way once the new one is whole.
    Allowed,
}

/// Where a bundle goes.
#[derive(Clone, Debug)]
pub enum Out {
    /// To a file.
    File(PathBuf, Replace),
    /// To standard output.
    Stdout,
}

impl Out {
    /// The file's directory; `None` for standard output.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Out::Stdout => None,
            Out::File(path, _) => Some(match path.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder,
                _ => Path::new("."),
            }),
        }
    }

    /// Refuses a file that may not be replaced, before there is anything to put in its place.
    pub(super) fn refuse_taken(&self) -> Result<()> {
        let Out::File(path, replace) = self else {
            return Ok(());
        };
        let shown = path.as_os_str().as_bytes();
        match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => Err(Error::Usage(format!(
                "{} is a directory: name a file in it with -o FILE",
                escape(shown)
            ))),
            Ok(_) if *replace == Replace::Allowed => Ok(()),
            Ok(_) => Err(taken(shown)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(err) => Err(Error::io("create", shown, err)),
        }
    }
}

/// A bundle's file until it is whole.
pub(super) enum Draft {
    File(Unnamed),
    Stdout(io::Stdout),
}

/// A file without its final name.
pub(super) struct Unnamed {
    folder: Dir,
    file: File,
    temp: Name,
    name: Name,
    replace: Replace,
    shown: Vec<u8>,
}

impl Draft {
    /// Starts one.
    pub(super) fn create(out: &Out) -> Result<Draft> {
        let (Out::File(path, replace), Some(at)) = (out, out.folder()) else {
            return Ok(Draft::Stdout(io::stdout()));
        };
        let shown = path.as_os_str().as_bytes();
        let failed = |err| Error::io("create", shown, err);
        let name = path.file_name().map(|name| Name::new(name.as_bytes()));
        let Some(Ok(name)) = name else {
            return Err(Error::Usage(format!("{} names no file", escape(shown))));
        };
        let folder = Dir::open_root(at).map_err(failed)?;
        sweep(&folder, &name);
        let (temp, file) = create_locked(&folder, &name).map_err(failed)?;
        Ok(Draft::File(Unnamed {
            folder,
            file,
            temp,
            name,
            replace: *replace,
            shown: shown.to_vec(),
        }))
    }

    /// What an error of writing is called.
    pub(super) fn failed(&self, err: io::Error) -> Error {
        match self {
            Draft::File(unnamed) => Error::io("write", &unnamed.shown, err),
            Draft::Stdout(_) => Error::io("write to", "standard output", err),
        }
    }

    /// Where its bytes go.
    pub(super) fn writer(&self) -> io::Result<Box<dyn Write>> {
        Ok(match self {
            Draft::File(unnamed) => Box::new(unnamed.file.try_clone()?),
            Draft::Stdout(_) => Box::new(io::stdout()),
        })
    }

    /// Makes the file durable and gives it its name.
    pub(super) fn finish(self) -> Result<()> {
        match &self {
            Draft::File(unnamed) => unnamed.publish(),
            Draft::Stdout(out) => out.lock().flush().map_err(|err| self.failed(err)),
        }
    }

    /// Removes the file.
    pub(super) fn discard(self) {
        if let Draft::File(unnamed) = self {
            unnamed.remove();
        }
    }
}

impl Unnamed {
    fn publish(&self) -> Result<()> {
        let failed = |err| Error::io("finish", &self.shown, err);
        let published = self.file.sync_all().and_then(|()| match self.replace {
            Replace::Allowed => self.folder.rename(&self.temp, &self.folder, &self.name),
            Replace::Never => self
                .folder
                .rename_noreplace(&self.temp, &self.folder, &self.name),
        });
        if let Err(err) = published {
            self.remove();
            return Err(match err.kind() {
                io::ErrorKind::AlreadyExists => taken(&self.shown),
                _ => failed(err),
            });
        }
        self.folder.sync().map_err(failed)
    }

    fn remove(&self) {
        // The failure that led here is what counts; what stays has a name that says what it is.
        let _ = self.folder.unlink(&self.temp);
    }
}

/// Makes a draft and locks it, which tells a later run that somebody is at it.
fn create_locked(folder: &Dir, name: &Name) -> io::Result<(Name, File)> {
    loop {
        let temp = fs::temp_name(name);
        let file = folder.create_new(&temp)?;
        // Some filesystems have no locks. On these nothing is swept either.
        let is_locked = file.lock().is_ok();
        // Before it was locked, another run may have taken it for one that was left.
        if !is_locked || file.metadata()?.nlink() > 0 {
            return Ok((temp, file));
        }
    }
}

/// Removes what killed runs left of the same bundle: drafts of its name that nobody holds a lock
/// on. What cannot be looked at or removed is in nobody's way.
fn sweep(folder: &Dir, name: &Name) {
    let mut drafts = Vec::new();
    let listed = folder.list(&mut ListScratch::new(), &mut |found, _, _| {
        if fs::temp_belongs_to(found, name) {
            drafts.extend(Name::new(found));
        }
    });
    for draft in drafts.into_iter().filter(|_| listed.is_ok()) {
        if let Ok(file) = folder.open_file(&draft)
            && file.try_lock().is_ok()
        {
            let _ = folder.unlink(&draft);
        }
    }
}

fn taken(shown: &[u8]) -> Error {
    Error::Refused(format!(
        "{} is there already; --force replaces it",
        escape(shown)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_that_nobody_writes_are_swept_and_no_other() {
        let place = tempfile::tempdir().unwrap();
        let out = |name: &str| Out::File(place.path().join(name), Replace::Never);
        let live = Draft::create(&out("a")).unwrap();
        let dead = place.path().join(".a.cutover-01234567");
        let of_another = place.path().join(".b.cutover-01234567");
        for path in [&dead, &of_another] {
            std::fs::write(path, "half").unwrap();
        }
        let second = Draft::create(&out("a")).unwrap();
        assert!(!dead.exists() && of_another.exists());
        live.finish().unwrap();
        assert!(
            place.path().join("a").exists(),
            "it was not swept while it was written"
        );
        second.discard();
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2);
    }
}
