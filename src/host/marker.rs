//! What a root is in a plan, written into it as `.cutover-marker`, and the fence around a root that
//! was switched away from.
//!
//! The file is JSON, for people to read as well, and may be read by everybody who can enter the
//! root: whoever syncs must see it, and nothing in it is secret.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::root::{Root, opened};
use crate::error::{Error, Result};
use crate::fs::{self, Dir, Target};
use crate::path::escape;
use crate::protocol::errand::{FenceMeans, Marker, MarkerRole};

/// Far more than a marker takes: what is longer is none of ours.
const LONGEST: u64 = 64 << 10;

/// What a root that was moved out of the way has at the end of its name.
const MOVED: &str = ".moved";

/// The bits of a directory's mode that let somebody write to it.
const WRITE_BITS: u16 = 0o222;

/// A marker as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    role: MarkerRole,
    plan: String,
    other: String,
    since_s: u64,
    /// The root's mode before its write bits were taken, in octal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode_before: Option<String>,
}

/// Reads the marker in an open root, if there is one.
///
/// # Errors
///
/// Where something has its name that is no marker: that must not pass for none.
pub(crate) fn read(root: &Dir) -> io::Result<Option<Marker>> {
    Ok(read_written(root)?.map(|written| Marker {
        role: written.role,
        plan: written.plan,
        other: written.other,
        since_s: written.since_s,
    }))
}

/// Reads a root's marker, also where the root has been moved out of the way.
pub(super) fn find(root: &str) -> Result<Option<Marker>> {
    let path = super::root::absolute(root)?;
    for path in [path.to_path_buf(), moved(path)] {
        match Dir::open_root(&path) {
            Ok(dir) => return read(&dir).map_err(|err| failed("read", &path, err)),
            Err(err) if fs::is_gone(&err) => {}
            Err(err) => return Err(Error::io("open", path.as_os_str().as_bytes(), err)),
        }
    }
    Ok(None)
}

/// Writes or removes a root's marker.
pub(super) fn set(root: &str, marker: Option<&Marker>) -> Result<()> {
    set_in(&opened(root)?, marker)
}

fn set_in(root: &Root, marker: Option<&Marker>) -> Result<()> {
    root.keeping_mtime(|| match marker {
        Some(marker) => {
            // Of what is no marker nothing needs to be kept.
            let before = read_written(&root.dir).ok().flatten();
            write(
                root,
                &Written {
                    role: marker.role,
                    plan: marker.plan.clone(),
                    other: marker.other.clone(),
                    since_s: marker.since_s,
                    mode_before: before.and_then(|before| before.mode_before),
                },
            )
        }
        None => match root.dir.unlink(&fs::marker_name()) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed
                .and_then(|()| root.dir.sync())
                .map_err(|err| failed("remove", &root.path, err)),
        },
    })
}

/// Writes the marker of an open root.
pub(crate) fn put(dir: &Dir, path: &Path, marker: &Marker) -> Result<()> {
    set_in(&pinned(dir, path)?, Some(marker))
}

/// Removes the marker of an open root.
pub(crate) fn take_off(dir: &Dir, path: &Path) -> Result<()> {
    set_in(&pinned(dir, path)?, None)
}

fn pinned(dir: &Dir, path: &Path) -> Result<Root> {
    let dir = dir.try_clone().map_err(|err| failed("open", path, err))?;
    Ok(Root {
        dir,
        path: path.to_path_buf(),
    })
}

/// Puts up the fence, or takes it down. Doing it again does nothing.
pub(super) fn fence(root: &str, how: FenceMeans, on: bool) -> Result<()> {
    match (how, on) {
        (FenceMeans::ReadOnly, true) => take_write_bits(&opened(root)?),
        (FenceMeans::ReadOnly, false) => give_write_bits(&opened(root)?),
        (FenceMeans::Rename, true) => {
            let path = super::root::absolute(root)?;
            rename(path, &moved(path))
        }
        (FenceMeans::Rename, false) => {
            let path = super::root::absolute(root)?;
            rename(&moved(path), path)
        }
    }
}

/// Takes the write bits of a root's directory. Its mode is in the marker before it changes.
fn take_write_bits(root: &Root) -> Result<()> {
    let mode = root.stat()?.meta.mode;
    let written = read_written(&root.dir).map_err(|err| failed("read", &root.path, err))?;
    let Some(mut written) = written else {
        return Err(Error::Refused(format!(
            "{} has no marker, which is where its mode would be kept; set one first",
            root.shown()
        )));
    };
    if written.mode_before.is_none() {
        written.mode_before = Some(format!("{mode:04o}"));
        root.keeping_mtime(|| write(root, &written))?;
    }
    root.set_mode(mode & !WRITE_BITS)
}

/// Gives back the mode that the marker tells of, and forgets it only then.
fn give_write_bits(root: &Root) -> Result<()> {
    let written = read_written(&root.dir).map_err(|err| failed("read", &root.path, err))?;
    let Some(mut written) = written else {
        return Ok(());
    };
    let Some(mode) = written.mode_before.take() else {
        return Ok(());
    };
    let mode = u16::from_str_radix(&mode, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| {
            let why = io::Error::new(io::ErrorKind::InvalidData, "its mode_before is no mode");
            failed("use", &root.path, why)
        })?;
    root.set_mode(mode)?;
    root.keeping_mtime(|| write(root, &written))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    let is_there = |path: &Path| path.symlink_metadata().is_ok();
    match (is_there(from), is_there(to)) {
        (false, true) => return Ok(()),
        (true, true) => {
            return Err(Error::Refused(format!(
                "{} cannot be renamed: {} is there already; look at it and remove it",
                shown(from),
                shown(to)
            )));
        }
        _ => {}
    }
    let renamed = std::fs::rename(from, to).and_then(|()| match to.parent() {
        Some(parent) => Dir::open_root(parent)?.sync(),
        None => Ok(()),
    });
    renamed.map_err(|err| Error::io("rename", from.as_os_str().as_bytes(), err))
}

fn moved(root: &Path) -> PathBuf {
    let mut path: OsString = root.as_os_str().to_owned();
    path.push(MOVED);
    path.into()
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes()).into_owned()
}

fn failed(act: &'static str, root: &Path, err: io::Error) -> Error {
    let path = root.join(fs::marker_name().as_os_str());
    Error::io(act, path.as_os_str().as_bytes(), err)
}

fn read_written(root: &Dir) -> io::Result<Option<Written>> {
    let file = match root.open_file(&fs::marker_name()) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|err| io::Error::new(io::ErrorKind::InvalidData, format!("no marker: {err}")))
}

/// Writes a marker that belongs to whom the root does, so that they can remove it.
fn write(root: &Root, written: &Written) -> Result<()> {
    let name = fs::marker_name();
    let owner = root.stat()?.meta;
    let write = || {
        let mut text = serde_json::to_vec_pretty(written).map_err(io::Error::other)?;
        text.push(b'\n');
        root.dir.replace_file(&name, &text, 0o644)?;
        let target = Target::Entry(&root.dir, &name);
        match fs::set_owner(&target, Some(owner.uid), Some(owner.gid)) {
            // Only root can give it away; another user's marker is read all the same.
            Err(err) if err.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            given => given,
        }
    };
    write().map_err(|err| failed("write", &root.path, err))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    struct Place(TempDir);

    impl Place {
        fn new() -> Place {
            let place = Place(TempDir::new().unwrap());
            std::fs::create_dir(place.root()).unwrap();
            place
        }

        fn root(&self) -> String {
            self.0.path().join("root").to_str().unwrap().to_string()
        }

        fn mode(&self) -> u32 {
            let meta = std::fs::metadata(self.root()).unwrap();
            meta.permissions().mode() & 0o7777
        }
    }

    fn marker() -> Marker {
        Marker {
            role: MarkerRole::Fenced,
            plan: "aipro".to_string(),
            other: "new:/srv/aipro".to_string(),
            since_s: 1_700_000_000,
        }
    }

    #[test]
    fn a_marker_is_read_as_it_was_set_and_leaves_the_roots_time() {
        let place = Place::new();
        let before = std::fs::metadata(place.root()).unwrap().modified().unwrap();
        assert_eq!(find(&place.root()).unwrap(), None);
        set(&place.root(), Some(&marker())).unwrap();
        assert_eq!(find(&place.root()).unwrap(), Some(marker()));
        set(&place.root(), None).unwrap();
        set(&place.root(), None).unwrap();
        assert_eq!(find(&place.root()).unwrap(), None);
        let after = std::fs::metadata(place.root()).unwrap().modified().unwrap();
        assert_eq!(before, after);
    }

    #[test]
    fn what_is_no_marker_does_not_pass_for_none() {
        let place = Place::new();
        let path = Path::new(&place.root()).join(".cutover-marker");
        std::fs::write(&path, "{}").unwrap();
        assert!(find(&place.root()).is_err());
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(find(&place.root()).is_err());
    }

    #[test]
    fn a_read_only_fence_gives_back_the_mode_it_took() {
        let place = Place::new();
        std::fs::set_permissions(place.root(), PermissionsExt::from_mode(0o2775)).unwrap();
        let fence = |on| fence(&place.root(), FenceMeans::ReadOnly, on);
        assert!(fence(true).unwrap_err().to_string().contains("marker"));
        set(&place.root(), Some(&marker())).unwrap();
        for _ in 0..2 {
            fence(true).unwrap();
            assert_eq!(place.mode(), 0o2555);
        }
        // A marker that is set again forgets nothing.
        set(&place.root(), Some(&marker())).unwrap();
        for _ in 0..2 {
            fence(false).unwrap();
            assert_eq!(place.mode(), 0o2775);
        }
        assert_eq!(find(&place.root()).unwrap(), Some(marker()));
    }

    #[test]
    fn a_renamed_root_is_found_by_its_marker_and_comes_back() {
        let place = Place::new();
        set(&place.root(), Some(&marker())).unwrap();
        let fence = |on| fence(&place.root(), FenceMeans::Rename, on);
        for _ in 0..2 {
            fence(true).unwrap();
            assert!(!Path::new(&place.root()).exists());
            assert_eq!(find(&place.root()).unwrap(), Some(marker()));
        }
        for _ in 0..2 {
            fence(false).unwrap();
            assert!(Path::new(&place.root()).is_dir());
        }
    }

    #[test]
    fn nothing_is_renamed_over_what_is_there() {
        let place = Place::new();
        std::fs::create_dir(format!("{}.moved", place.root())).unwrap();
        let err = fence(&place.root(), FenceMeans::Rename, true).unwrap_err();
        assert!(matches!(err, Error::Refused(_)), "{err}");
    }
}
