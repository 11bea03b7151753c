//! The filesystems whose limits cannot be found by trying without leaving a trace. Numbers from
//! `linux/magic.h` and the filesystems' own sources.

use std::os::fd::AsFd;

use rustix::fs::FsWord;

pub(super) const VFAT: FsWord = 0x4d44;
pub(super) const EXFAT: FsWord = 0x2011_bab0;
pub(super) const NTFS3: FsWord = 0x7366_746e;
pub(super) const CIFS: FsWord = 0xff53_4d42;
pub(super) const SMB2: FsWord = 0xfe53_4d42;
pub(super) const HFS_PLUS: FsWord = 0x482b;
pub(super) const ISO9660: FsWord = 0x9660;
pub(super) const SQUASHFS: FsWord = 0x7371_7368;
pub(super) const UDF: FsWord = 0x1501_3346;
pub(super) const EXT4: FsWord = 0xef53;
pub(super) const XFS: FsWord = 0x5846_5342;
pub(super) const BTRFS: FsWord = 0x9123_683e;
pub(super) const F2FS: FsWord = 0xf2f5_2010;
pub(super) const TMPFS: FsWord = 0x0102_1994;
pub(super) const OVERLAY: FsWord = 0x794c_7630;

/// The type of the filesystem that a file is on.
pub(super) fn fs_type(file: impl AsFd) -> Option<FsWord> {
    rustix::fs::fstatfs(file).ok().map(|stat| stat.f_type)
}
