//! The lock of a root, which keeps two runs apart.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::fs::Dir;
use crate::path::{RelPath, escape};

/// The lock of a root: `flock` on the directory itself, so that it holds against other users as
/// well, needs no file of ours, and ends with its holder however that ends.
#[derive(Debug)]
pub(crate) struct RootLock(#[expect(dead_code, reason = "held, not used")] File);

impl RootLock {
    /// Of a source: others may read it too, nobody may sync into it.
    pub(crate) fn shared(dir: &Dir, path: &Path) -> Result<RootLock> {
        RootLock::take(dir, path, FlockOperation::NonBlockingLockShared)
    }

    /// Of a destination: nobody else may read or write it.
    pub(crate) fn exclusive(dir: &Dir, path: &Path) -> Result<RootLock> {
        RootLock::take(dir, path, FlockOperation::NonBlockingLockExclusive)
    }

    fn take(dir: &Dir, path: &Path, how: FlockOperation) -> Result<RootLock> {
        // A descriptor of its own: a clone would share the lock with the one it was made from.
        let own = dir
            .open_dir(&RelPath::root())
            .map_err(|err| Error::io("open", path.as_os_str().as_bytes(), err))?;
        let file = File::from(
            own.as_fd()
                .try_clone_to_owned()
                .map_err(|err| Error::io("lock", path.as_os_str().as_bytes(), err))?,
        );
        match rustix::fs::flock(&file, how) {
            Ok(()) => Ok(RootLock(file)),
            Err(Errno::WOULDBLOCK) => Err(Error::Locked(format!(
                "{} is locked by another run{}; wait for it, or stop it",
                path.display(),
                holder(&file).unwrap_or_default()
            ))),
            // Some network filesystems have no locks: then there is none to break either.
            Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(RootLock(file)),
            Err(err) => Err(Error::io("lock", path.as_os_str().as_bytes(), err)),
        }
    }
}

/// Who holds the lock on this directory, from the kernel's list: `: process 123 (cutover sync
/// ...)`. `None` where the list does not say, as from within a container.
fn holder(file: &File) -> Option<String> {
    let inode = file.metadata().ok()?.ino().to_string();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let pid = locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let at = fields.iter().position(|field| *field == "FLOCK")?;
        let place = fields.get(at + 4)?;
        (place.rsplit(':').next()? == inode).then(|| fields[at + 3].to_string())
    })?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = command
        .split(|&byte| byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| escape(word).into_owned())
        .collect();
    if words.is_empty() {
        return Some(format!(": process {pid}"));
    }
    Some(format!(": process {pid} ({})", words.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_is_told_who_holds_the_root() {
        let base = tempfile::tempdir().unwrap();
        let dir = Dir::open_root(base.path()).unwrap();
        let _first = RootLock::exclusive(&dir, base.path()).unwrap();
        let err = RootLock::shared(&dir, base.path()).unwrap_err().to_string();
        let me = std::process::id().to_string();
        assert!(err.contains(&format!("process {me}")), "{err}");
    }

    #[test]
    fn two_runs_may_read_one_source() {
        let base = tempfile::tempdir().unwrap();
        let dir = Dir::open_root(base.path()).unwrap();
        let _first = RootLock::shared(&dir, base.path()).unwrap();
        RootLock::shared(&dir, base.path()).unwrap();
    }
}
