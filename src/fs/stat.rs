//! What the kernel says of an entry in one `statx`, turned into the words of `entry`.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxAttributes, StatxFlags, StatxTimestamp};

use crate::entry::{EntryKind, Metadata, Timestamp};

/// An entry's metadata with what only this machine can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What both ends understand.
    pub meta: Metadata,
    /// The device that holds the entry (not the one that it is: that is `meta.rdev`).
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// How many names the inode has.
    pub nlink: u32,
    /// Time of the last change of the inode.
    pub ctime: Timestamp,
    /// Space in use, in units of 512 bytes.
    pub blocks: u64,
    /// Whether something is mounted here; false also where the kernel (before 5.8) cannot say.
    pub mount_root: bool,
}

impl Stat {
    /// Whether both describe the same inode.
    pub fn is_same_inode(&self, other: &Stat) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    /// Whether nothing that a write or a rename over it leaves behind has happened to this file
    /// since `before`.
    pub fn is_unchanged_since(&self, before: &Stat) -> bool {
        self.is_same_inode(before)
            && self.meta.kind == before.meta.kind
            && self.meta.size == before.meta.size
            && self.meta.mtime == before.meta.mtime
            && self.ctime == before.ctime
    }

    /// Whether some of the content may be holes: less space is in use than it takes. Below a page
    /// there is nothing to gain, and some filesystems keep such files in the inode.
    pub fn may_have_holes(&self) -> bool {
        self.meta.size >= 4096 && self.blocks.saturating_mul(512) < self.meta.size
    }

    fn from_statx(raw: &Statx) -> io::Result<Stat> {
        let kind = kind_of(FileType::from_raw_mode(u32::from(raw.stx_mode)))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unknown kind of entry"))?;
        let meta = Metadata {
            kind,
            mode: raw.stx_mode & 0o7777,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            mtime: timestamp(&raw.stx_mtime),
            size: match kind {
                EntryKind::File | EntryKind::Symlink => raw.stx_size,
                _ => 0,
            },
            rdev: match kind.is_device() {
                true => (raw.stx_rdev_major, raw.stx_rdev_minor),
                false => (0, 0),
            },
        };
        Ok(Stat {
            meta,
            dev: rustix::fs::makedev(raw.stx_dev_major, raw.stx_dev_minor),
            ino: raw.stx_ino,
            nlink: raw.stx_nlink,
            ctime: timestamp(&raw.stx_ctime),
            blocks: raw.stx_blocks,
            mount_root: raw.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        })
    }
}

/// Describes an open file.
pub fn stat_file(file: &File) -> io::Result<Stat> {
    statx(file, "", AtFlags::EMPTY_PATH)
}

/// Describes what the user's own `path` leads to: symlinks are followed.
pub fn stat_path(path: &Path) -> io::Result<Stat> {
    statx(CWD, path, AtFlags::empty())
}

/// One `statx` of everything a [`Stat`] holds; never triggers an automount.
pub(super) fn statx<P: rustix::path::Arg>(
    dir: impl AsFd,
    path: P,
    flags: AtFlags,
) -> io::Result<Stat> {
    let flags = flags | AtFlags::NO_AUTOMOUNT;
    let raw = rustix::fs::statx(dir, path, flags, StatxFlags::BASIC_STATS)?;
    Stat::from_statx(&raw)
}

/// The kind as `entry` names it; `None` where the kernel or the filesystem does not say.
pub(super) fn kind_of(file_type: FileType) -> Option<EntryKind> {
    Some(match file_type {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Dir,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        FileType::CharacterDevice => EntryKind::CharDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::Unknown => return None,
    })
}

fn timestamp(raw: &StatxTimestamp) -> Timestamp {
    Timestamp {
        secs: raw.tv_sec,
        nanos: raw.tv_nsec,
    }
}
