//! Setting owners, modes and times, of what is open or of a name that is never followed.
//!
//! Order is the caller's business: changing the owner clears setuid, setgid and
//! `security.capability`, so modes and attributes come after it, and times last.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::dir::{Dir, mode_bits};
use super::stat::statx;
use super::sys;
use crate::entry::{EntryKind, Timestamp};
use crate::path::Name;

/// Whose metadata or attributes a call is about.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// An open file.
    File(&'a File),
    /// A directory itself.
    Dir(&'a Dir),
    /// A name in a directory: what it stands for itself, never what it may point to.
    Entry(&'a Dir, &'a Name),
}

impl Target<'_> {
    /// The descriptor, and beneath it the name if the target is not open itself.
    pub(super) fn place(&self) -> (BorrowedFd<'_>, Option<&Name>) {
        match self {
            Target::File(file) => (file.as_fd(), None),
            Target::Dir(dir) => (dir.as_fd(), None),
            Target::Entry(dir, name) => (dir.as_fd(), Some(name)),
        }
    }
}

/// Sets owner and group, each if given. The kernel clears setuid and setgid along with it.
pub fn set_owner(target: &Target, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    match target.place() {
        (fd, None) => rustix::fs::fchown(fd, uid, gid)?,
        (fd, Some(name)) => {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(fd, name.as_bytes(), uid, gid, flags)?;
        }
    }
    Ok(())
}

/// Sets the permission bits with setuid, setgid and sticky. Does nothing to a symlink: Linux
/// gives them no mode of their own.
pub fn set_mode(target: &Target, mode: u16) -> io::Result<()> {
    match target.place() {
        (fd, None) => Ok(rustix::fs::fchmod(fd, mode_bits(mode))?),
        (fd, Some(name)) => set_entry_mode(fd, name, mode & 0o7777),
    }
}

/// Sets the time of last change; the time of last access stays.
pub fn set_mtime(target: &Target, mtime: Timestamp) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.secs,
            tv_nsec: mtime.nanos.into(),
        },
    };
    match target.place() {
        (fd, None) => rustix::fs::futimens(fd, &times)?,
        (fd, Some(name)) => {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(fd, name.as_bytes(), &times, flags)?;
        }
    }
    Ok(())
}

fn set_entry_mode(dir: BorrowedFd<'_>, name: &Name, mode: u16) -> io::Result<()> {
    match sys::chmod_at(dir, name, mode) {
        // Linux before 6.6, and sandboxes that answer EPERM to a call they do not know.
        Err(Errno::NOSYS | Errno::PERM) => set_entry_mode_by_proc(dir, name, mode),
        Err(Errno::OPNOTSUPP) if is_symlink(dir, name)? => Ok(()),
        result => Ok(result?),
    }
}

/// Pins the entry without opening it, so that neither a FIFO nor a device notices, and changes
/// the mode of what is pinned.
fn set_entry_mode_by_proc(dir: BorrowedFd<'_>, name: &Name, mode: u16) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let pinned = rustix::fs::openat(dir, name.as_bytes(), flags, Mode::empty())?;
    if statx(&pinned, "", AtFlags::EMPTY_PATH)?.meta.kind == EntryKind::Symlink {
        return Ok(());
    }
    let path = format!("/proc/self/fd/{}", pinned.as_raw_fd());
    Ok(rustix::fs::chmod(path, mode_bits(mode))?)
}

fn is_symlink(dir: BorrowedFd<'_>, name: &Name) -> io::Result<bool> {
    let stat = statx(dir, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(stat.meta.kind == EntryKind::Symlink)
}

#[cfg(test)]
mod tests;
