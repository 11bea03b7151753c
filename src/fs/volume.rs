//! What a filesystem as a whole says of itself: room, limits, whether case counts. Nothing here
//! writes.

use std::io;
use std::path::Path;

use rustix::fs::StatVfsMountFlags;

use super::dir::{Dir, ListScratch};
use super::magic::{self, fs_type};
use crate::path::Name;

/// `FS_CASEFOLD_FL` of `linux/fs.h`: names in this directory are found whatever their case.
const CASEFOLD: u32 = 0x4000_0000;

/// How many names are looked up by another case before the filesystem's type has to do: the first
/// nearly always tells.
const CASE_TRIES: usize = 16;

/// What a filesystem has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Bytes that who is not root can still write; all there are where the filesystem has no size
    /// of its own.
    pub free_bytes: u64,
    /// Inodes that can still be made; `None` where the filesystem does not count them.
    pub free_inodes: Option<u64>,
    /// Whether it is mounted for reading only where the path is.
    pub read_only: bool,
    /// The longest name, in bytes.
    pub name_bytes: u64,
}

/// Describes the filesystem that the user's own `path` is on.
pub fn volume(path: &Path) -> io::Result<Volume> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(Volume {
        // Filesystems without a size of their own, such as an unlimited tmpfs, say 0 of 0.
        free_bytes: match stat.f_blocks {
            0 => u64::MAX,
            _ => stat.f_bavail.saturating_mul(stat.f_frsize),
        },
        free_inodes: (stat.f_files > 0).then_some(stat.f_favail),
        read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
        name_bytes: stat.f_namemax,
    })
}

/// Whether `a` and `A` are two names in `dir`; `None` where only a write would tell.
///
/// Asks for the directory's own flag, then for names that are there in the other case. A directory
/// without names is judged by its filesystem's type, so that an XFS made with `ascii-ci` is not
/// recognised by it.
pub fn is_case_sensitive(dir: &Dir) -> io::Result<Option<bool>> {
    let folds = rustix::fs::ioctl_getflags(dir).is_ok_and(|flags| flags.bits() & CASEFOLD != 0);
    if folds {
        return Ok(Some(false));
    }
    let mut names = Vec::new();
    dir.list(&mut ListScratch::new(), &mut |name, _, _| {
        if names.len() < CASE_TRIES && name.iter().any(u8::is_ascii_alphabetic) {
            names.extend(Name::new(name));
        }
    })?;
    if let Some(answer) = names.iter().find_map(|name| tells_case(dir, name)) {
        return Ok(Some(answer));
    }
    Ok(match fs_type(dir) {
        Some(magic::VFAT | magic::EXFAT) => Some(false),
        Some(
            magic::EXT4 | magic::XFS | magic::BTRFS | magic::F2FS | magic::TMPFS | magic::OVERLAY,
        ) => Some(true),
        _ => None,
    })
}

/// Looks a name up by its other case: not found, or another inode, case counts.
fn tells_case(dir: &Dir, name: &Name) -> Option<bool> {
    let swapped: Vec<u8> = name.as_bytes().iter().map(swap_case).collect();
    let swapped = Name::new(&swapped).ok()?;
    let (here, there) = (dir.stat(name).ok()?, dir.stat(&swapped));
    match there {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Some(true),
        Err(_) => None,
        Ok(there) if !there.is_same_inode(&here) => Some(true),
        // A second name of the file looks the same.
        Ok(_) if here.nlink > 1 => None,
        Ok(_) => Some(false),
    }
}

fn swap_case(byte: &u8) -> u8 {
    match byte.is_ascii_alphabetic() {
        true => byte ^ 0x20,
        false => *byte,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Mounted, Place, places};
    use super::*;

    #[test]
    fn room_and_limits_are_told() {
        for place in places() {
            let found = volume(place.path()).unwrap();
            assert!(found.free_bytes > 0);
            assert_eq!(found.name_bytes, 255);
            assert!(!found.read_only);
        }
    }

    #[test]
    fn a_filesystem_that_may_only_be_read_is_told() {
        if let Some(mounted) = Mounted::new("ext4", 16 << 20) {
            assert!(!volume(&mounted.path()).unwrap().read_only);
            mounted.remount_read_only();
            assert!(volume(&mounted.path()).unwrap().read_only);
        }
    }

    #[test]
    fn case_counts_on_common_filesystems() {
        let place = Place::new();
        assert_eq!(is_case_sensitive(&place.dir).unwrap(), Some(true));
        place.write("Name", "");
        assert_eq!(is_case_sensitive(&place.dir).unwrap(), Some(true));
        std::fs::hard_link(place.path().join("Name"), place.path().join("nAME")).unwrap();
        assert_eq!(is_case_sensitive(&place.dir).unwrap(), Some(true));
    }

    #[test]
    fn a_directory_that_folds_case_is_told_by_its_flag() {
        let options = ["-O", "casefold", "-E", "encoding=utf8"];
        let Some(mounted) = Mounted::with_options("ext4", 16 << 20, &options) else {
            return;
        };
        assert_eq!(is_case_sensitive(&mounted.dir).unwrap(), Some(true));
        let folding = mounted.path().join("folding");
        std::fs::create_dir(&folding).unwrap();
        let mut chattr = std::process::Command::new("chattr");
        super::super::testing::run(chattr.arg("+F").arg(&folding)).unwrap();
        let dir = Dir::open_root(&folding).unwrap();
        assert_eq!(is_case_sensitive(&dir).unwrap(), Some(false));
    }

    #[test]
    fn a_name_tells_whether_case_counts() {
        let place = Place::new();
        place.write("Name", "");
        let name = Name::new(b"Name").unwrap();
        assert_eq!(tells_case(&place.dir, &name), Some(true));
        if let Some(mounted) = Mounted::new("vfat", 1 << 20) {
            std::fs::write(mounted.path().join("Name"), "").unwrap();
            assert_eq!(tells_case(&mounted.dir, &name), Some(false));
        }
    }
}
