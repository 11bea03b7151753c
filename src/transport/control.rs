//! Where the control sockets of our ssh connections live: whoever can reach one can run commands
//! on the far host, so the directory must be ours alone.

use std::ffi::OsString;
use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The longest path that ssh can make a socket of: `sun_path` has 108 bytes with its NUL, and ssh
/// first binds a name with a dot and 16 random characters more.
const SOCKET_PATH_MAX_BYTES: usize = 108 - 1 - 17;

/// Bytes of a socket's name, its slash and its kind included.
const NAME_BYTES: usize = 1 + 2 + KEY_DIGITS;

/// Hexadecimal digits of a key in a name: 64 bits, so that two hosts do not meet by accident.
const KEY_DIGITS: usize = 16;

/// How long a connection lives on, which decides who shares its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// For one run; its name is its own.
    Run,
    /// For later runs too; its name follows from where it leads.
    Persist,
}

/// The directory of control sockets.
#[derive(Debug)]
pub(super) struct ControlDir(PathBuf);

impl ControlDir {
    /// Finds or makes the first directory that is short enough and ours alone: the `chosen` one, or
    /// one that the environment names.
    pub(super) fn open(chosen: Option<&Path>) -> Result<ControlDir> {
        let uid = rustix::process::geteuid().as_raw();
        let candidates = match chosen {
            Some(dir) => vec![dir.to_path_buf()],
            None => candidates(|name| std::env::var_os(name), uid),
        };
        candidates
            .into_iter()
            .filter(|dir| dir.as_os_str().len() + NAME_BYTES <= SOCKET_PATH_MAX_BYTES)
            .find(|dir| is_private(dir, uid).unwrap_or(false))
            .map(ControlDir)
            .ok_or_else(|| {
                Error::Connection(
                    "there is no directory for ssh's control socket that only you can enter: \
                     set XDG_RUNTIME_DIR to one"
                        .into(),
                )
            })
    }

    /// The socket for connections that share `key`.
    pub(super) fn socket(&self, life: Life, key: &[u8]) -> PathBuf {
        let kind = match life {
            Life::Run => "r-",
            Life::Persist => "p-",
        };
        let key = blake3::hash(key).to_hex();
        self.0.join(format!("{kind}{}", &key[..KEY_DIGITS]))
    }
}

/// Where the directory may be, best first. The runtime directory is gone at logout, as a
/// connection should be; a home may be on a filesystem without sockets, or too long.
fn candidates(env: impl Fn(&str) -> Option<OsString>, uid: u32) -> Vec<PathBuf> {
    let absolute = |name| {
        env(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let runtime = absolute("XDG_RUNTIME_DIR");
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    let mut dirs: Vec<PathBuf> = [runtime, state]
        .into_iter()
        .flatten()
        .map(|dir| dir.join("cutover/ssh"))
        .collect();
    dirs.push(PathBuf::from(format!("/tmp/cutover-{uid}")));
    dirs
}

/// Makes `dir` unless it is there, and looks at what is there: in `/tmp` anyone may have been
/// first, with a directory of his own or a symlink.
fn is_private(dir: &Path, uid: u32) -> io::Result<bool> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let found: Metadata = dir.symlink_metadata()?;
    Ok(found.is_dir() && found.uid() == uid && found.mode() & 0o077 == 0)
}

/// A path as ssh's `-S` takes it: it expands `%` sequences.
pub(super) fn as_ssh_argument(socket: &Path) -> OsString {
    use std::os::unix::ffi::OsStringExt;
    let bytes = socket.as_os_str().as_bytes();
    let doubled = bytes.iter().flat_map(|&byte| {
        let times = if byte == b'%' { 2 } else { 1 };
        std::iter::repeat_n(byte, times)
    });
    OsString::from_vec(doubled.collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn runtime_directory_comes_first_and_tmp_last() {
        let env = |name: &str| match name {
            "XDG_RUNTIME_DIR" => Some("/run/user/7".into()),
            "XDG_STATE_HOME" => Some("relative".into()),
            "HOME" => Some("/home/me".into()),
            _ => None,
        };
        let expected = [
            "/run/user/7/cutover/ssh",
            "/home/me/.local/state/cutover/ssh",
            "/tmp/cutover-7",
        ];
        assert_eq!(candidates(env, 7), expected.map(PathBuf::from));
        assert_eq!(candidates(|_| None, 7), [PathBuf::from("/tmp/cutover-7")]);
    }

    #[test]
    fn directory_of_others_is_not_used() {
        let temp = tempfile::tempdir().unwrap();
        let uid = temp.path().metadata().unwrap().uid();
        let dir = temp.path().join("a/b");
        assert!(is_private(&dir, uid).unwrap());
        assert!(!is_private(&dir, uid + 1).unwrap());

        let link = temp.path().join("link");
        symlink(&dir, &link).unwrap();
        assert!(!is_private(&link, uid).unwrap_or(false));

        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o750)).unwrap();
        assert!(!is_private(&dir, uid).unwrap());
    }

    #[test]
    fn socket_fits_and_kinds_do_not_meet() {
        let dir = ControlDir(PathBuf::from("/tmp/cutover-1000"));
        let run = dir.socket(Life::Run, b"key");
        let persist = dir.socket(Life::Persist, b"key");
        assert_ne!(run, persist);
        assert_eq!(run.as_os_str().len(), dir.0.as_os_str().len() + NAME_BYTES);
    }

    #[test]
    fn percent_is_doubled_for_ssh() {
        assert_eq!(as_ssh_argument(Path::new("/a%h/b")), "/a%%h/b");
    }
}
