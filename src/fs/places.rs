//! Where a user's programs keep what is theirs alone, as the XDG base directory specification has
//! it, and directories that nobody else can enter.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The base directories of a user; none is made by looking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// `$XDG_RUNTIME_DIR`: gone at logout.
    pub runtime: Option<PathBuf>,
    /// `$XDG_STATE_HOME`, else `~/.local/state`: stays.
    pub state: Option<PathBuf>,
}

impl Places {
    /// Those of the user that this process runs as.
    pub fn of_user() -> Places {
        Places::of(|name| std::env::var_os(name))
    }

    /// Those that the variables of `env` name. A relative path is none, as the specification says.
    pub fn of(env: impl Fn(&str) -> Option<OsString>) -> Places {
        let absolute = |name| {
            env(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        Places {
            runtime: absolute("XDG_RUNTIME_DIR"),
            state: absolute("XDG_STATE_HOME")
                .or_else(|| Some(absolute("HOME")?.join(".local/state"))),
        }
    }
}

/// Makes a directory for this user alone unless it is there. Returns whether it is: anyone may have
/// been first, with a directory of his own or a symlink.
pub fn make_private_dir(dir: &Path) -> io::Result<bool> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    is_private_dir(dir)
}

/// Whether only this user can enter a directory.
pub fn is_private_dir(dir: &Path) -> io::Result<bool> {
    is_private_to(dir, rustix::process::geteuid().as_raw())
}

fn is_private_to(dir: &Path, uid: u32) -> io::Result<bool> {
    let found = dir.symlink_metadata()?;
    Ok(found.is_dir() && found.uid() == uid && found.mode() & 0o077 == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn relative_paths_are_no_places() {
        let places = Places::of(|name| match name {
            "XDG_RUNTIME_DIR" => Some("/run/user/7".into()),
            "XDG_STATE_HOME" => Some("relative".into()),
            "HOME" => Some("/home/me".into()),
            _ => None,
        });
        assert_eq!(places.runtime, Some("/run/user/7".into()));
        assert_eq!(places.state, Some("/home/me/.local/state".into()));
        let none = Places::of(|_| None);
        assert_eq!((none.runtime, none.state), (None, None));
    }

    #[test]
    fn directory_of_others_is_not_private() {
        let temp = tempfile::tempdir().unwrap();
        let uid = temp.path().metadata().unwrap().uid();
        let dir = temp.path().join("a/b");
        assert!(make_private_dir(&dir).unwrap());
        assert!(!is_private_to(&dir, uid + 1).unwrap());

        let link = temp.path().join("link");
        symlink(&dir, &link).unwrap();
        assert!(!make_private_dir(&link).unwrap_or(false));

        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o750)).unwrap();
        assert!(!make_private_dir(&dir).unwrap());
    }
}
