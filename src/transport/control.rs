//! Where the control sockets of our ssh connections live: whoever can reach one can run commands
//! on the far host, so the directory must be ours alone.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fs::{Places, make_private_dir};

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
            None => candidates(Places::of_user(), uid),
        };
        candidates
            .into_iter()
            .filter(|dir| dir.as_os_str().len() + NAME_BYTES <= SOCKET_PATH_MAX_BYTES)
            .find(|dir| make_private_dir(dir).unwrap_or(false))
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
fn candidates(places: Places, uid: u32) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = [places.runtime, places.state]
        .into_iter()
        .flatten()
        .map(|dir| dir.join("cutover/ssh"))
        .collect();
    dirs.push(PathBuf::from(format!("/tmp/cutover-{uid}")));
    dirs
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
    use super::*;

    #[test]
    fn runtime_directory_comes_first_and_tmp_last() {
        let places = Places {
            runtime: Some("/run/user/7".into()),
            state: Some("/home/me/.local/state".into()),
        };
        let expected = [
            "/run/user/7/cutover/ssh",
            "/home/me/.local/state/cutover/ssh",
            "/tmp/cutover-7",
        ];
        assert_eq!(candidates(places, 7), expected.map(PathBuf::from));
        let nowhere = Places::of(|_| None);
        assert_eq!(candidates(nowhere, 7), [PathBuf::from("/tmp/cutover-7")]);
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
