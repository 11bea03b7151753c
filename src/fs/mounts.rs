//! What is mounted below a directory: such a place can be neither renamed nor linked across.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::path::RelPath;

/// The places below one directory where something is mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts(BTreeSet<RelPath>);

impl Mounts {
    /// Those below `root`, as this process sees them now.
    pub fn below(root: &Path) -> io::Result<Mounts> {
        let root = root.canonicalize()?;
        Ok(Mounts::listed(
            &std::fs::read("/proc/self/mountinfo")?,
            &root,
        ))
    }

    fn listed(mountinfo: &[u8], root: &Path) -> Mounts {
        let points = mountinfo
            .split(|&byte| byte == b'\n')
            .filter_map(|line| line.split(|&byte| byte == b' ').nth(4));
        let below = points.filter_map(|point| {
            let point = PathBuf::from(OsStr::from_bytes(&unescape_mountinfo(point)));
            let below = point.strip_prefix(root).ok()?;
            RelPath::new(below.as_os_str().as_bytes()).ok()
        });
        Mounts(below.filter(|path| !path.is_root()).collect())
    }

    /// Whether something is mounted right there.
    pub fn is_at(&self, path: &RelPath) -> bool {
        self.0.contains(path)
    }

    /// Whether something is mounted further below.
    pub fn is_below(&self, path: &RelPath) -> bool {
        let others = self.0.iter().filter(|at| *at != path);
        others.into_iter().any(|at| at.starts_with(path))
    }
}

/// Undoes the kernel's `\ooo` for blanks and backslashes in `/proc/PID/mountinfo` and `maps`.
pub fn unescape_mountinfo(escaped: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| byte == b'\\');
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_are_found_and_no_others() {
        let mountinfo = b"1 0 0:1 / / rw - ext4 x rw\n\
            2 1 0:2 / /r rw - ext4 x rw\n\
            3 1 0:3 / /r/a\\040b/c rw,x shared:1 - tmpfs x rw\n\
            4 1 0:4 / /rest rw - tmpfs x rw\n\
            broken\n";
        let mounts = Mounts::listed(mountinfo, Path::new("/r"));
        let path = |text: &str| RelPath::new(text.as_bytes()).unwrap();
        assert_eq!(mounts.0.len(), 1);
        assert!(mounts.is_at(&path("a b/c")) && !mounts.is_below(&path("a b/c")));
        assert!(mounts.is_below(&path("a b")) && !mounts.is_at(&path("a b")));
        assert!(!mounts.is_below(&path("a")));
        assert!(mounts.is_below(&RelPath::root()));
    }

    #[test]
    fn only_whole_escapes_are_undone() {
        for (escaped, plain) in [
            ("a\\040b", "a b"),
            ("\\134040", "\\040"),
            ("a\\04", "a\\04"),
            ("\\9990", "\\9990"),
        ] {
            assert_eq!(
                unescape_mountinfo(escaped.as_bytes()),
                plain.as_bytes(),
                "{escaped}"
            );
        }
    }

    #[test]
    fn this_host_tells() {
        let mounts = Mounts::below(Path::new("/")).unwrap();
        assert!(mounts.is_at(&RelPath::new(b"proc").unwrap()));
    }
}
