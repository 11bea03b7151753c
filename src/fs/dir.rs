//! A pinned directory: the only way to reach the entries of a tree. Every call is relative to
//! its descriptor and takes one [`Name`], so a symlink swapped into a parent leads nowhere.

use std::fs::File;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, SeekFrom,
};
use rustix::io::Errno;

use super::meta::{Target, set_mode};
use super::stat::{Stat, kind_of, stat_file, statx};
use super::temp::temp_name;
use crate::entry::EntryKind;
use crate::path::{Name, RelPath};

/// The longest path that one system call takes, without the closing NUL (`PATH_MAX` - 1).
const CALL_PATH_MAX: usize = 4095;

/// Bytes of directory entries that one `getdents64` may return: some 2000 names. More did not
/// make listing 100,000 names faster.
const LIST_BUFFER_BYTES: usize = 64 * 1024;

const DIR_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Flags of every open of an existing file: a symlink is an error, and what turns out to be a
/// FIFO, swapped in after it was looked at, does not block.
const FILE_FLAGS: OFlags = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

/// The buffer that [`Dir::list`] reads into, kept between listings.
#[derive(Debug, Default)]
pub struct ListScratch {
    buffer: Vec<MaybeUninit<u8>>,
}

/// What [`Dir::list`] calls with each entry's name, inode number and, where the filesystem tells,
/// kind.
pub type VisitEntry<'a> = dyn FnMut(&[u8], u64, Option<EntryKind>) + 'a;

impl ListScratch {
    /// An empty buffer; the first listing fills it.
    pub fn new() -> ListScratch {
        ListScratch::default()
    }
}

/// Opening.
impl Dir {
    /// Opens the user's own `path`, following symlinks.
    pub fn open_root(path: &Path) -> io::Result<Dir> {
        let fd = rustix::fs::openat(CWD, path, DIR_FLAGS, Mode::empty())?;
        Ok(Dir { fd })
    }

    /// Opens the directory at `path` beneath this one, of whatever length; the root path opens
    /// this one again, with a listing position of its own. A symlink on the way is an error.
    pub fn open_dir(&self, path: &RelPath) -> io::Result<Dir> {
        let mut rest = path.as_bytes();
        let mut at: Option<OwnedFd> = None;
        while rest.len() > CALL_PATH_MAX {
            // A name has at most 255 bytes, so a slash is near.
            let cut = rest[..=CALL_PATH_MAX].iter().rposition(|&b| b == b'/');
            let cut = cut.ok_or(Errno::NAMETOOLONG)?;
            let from = at.as_ref().map_or(self.fd.as_fd(), |fd| fd.as_fd());
            at = Some(open_beneath(from, &rest[..cut], OFlags::PATH)?);
            rest = &rest[cut + 1..];
        }
        let from = at.as_ref().map_or(self.fd.as_fd(), |fd| fd.as_fd());
        let last = if rest.is_empty() { b"." } else { rest };
        let fd = open_beneath(from, last, OFlags::RDONLY)?;
        Ok(Dir { fd })
    }

    /// Opens the directory `name`; a symlink to one is an error.
    pub fn open_child(&self, name: &Name) -> io::Result<Dir> {
        let flags = DIR_FLAGS | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&self.fd, name.as_bytes(), flags, Mode::empty())?;
        Ok(Dir { fd })
    }

    /// Opens the regular file `name` for reading, without touching its access time where that is
    /// permitted. Anything but a regular file is [`io::ErrorKind::InvalidInput`].
    ///
    /// Looks before it opens, since opening alone wakes a FIFO's writer or a device's driver.
    pub fn open_file(&self, name: &Name) -> io::Result<File> {
        require_file(&self.stat(name)?)?;
        Ok(self.open_listed_file(name)?.0)
    }

    /// Opens a file as [`Dir::open_file`] does, and says what it is. The name has just been listed
    /// as a regular file's: that was the look before the open.
    pub fn open_listed_file(&self, name: &Name) -> io::Result<(File, Stat)> {
        let flags = OFlags::RDONLY | FILE_FLAGS;
        match self.open_regular(name, flags | OFlags::NOATIME) {
            // Only the owner and root may leave the access time alone.
            Err(err) if is(&err, Errno::PERM) => self.open_regular(name, flags),
            result => result,
        }
    }

    /// Opens the existing regular file `name` for reading and writing in place.
    pub fn open_file_rw(&self, name: &Name) -> io::Result<File> {
        require_file(&self.stat(name)?)?;
        Ok(self.open_regular(name, OFlags::RDWR | FILE_FLAGS)?.0)
    }

    /// Looks at what it got before anybody reads it: the name may have been given to a FIFO or a
    /// device since it was looked at.
    fn open_regular(&self, name: &Name, flags: OFlags) -> io::Result<(File, Stat)> {
        let file = match rustix::fs::openat(&self.fd, name.as_bytes(), flags, Mode::empty()) {
            // A symlink, a socket.
            Err(Errno::LOOP | Errno::NXIO) => return Err(not_a_file()),
            fd => File::from(fd?),
        };
        let stat = stat_file(&file)?;
        require_file(&stat)?;
        Ok((file, stat))
    }

    /// Another descriptor of the same open directory. Both share one listing position: to list
    /// in two threads at once, use [`Dir::open_dir`] with the root path.
    pub fn try_clone(&self) -> io::Result<Dir> {
        let fd = self.fd.try_clone()?;
        Ok(Dir { fd })
    }
}

/// Looking.
impl Dir {
    /// Describes `name` itself, be it a symlink or not.
    pub fn stat(&self, name: &Name) -> io::Result<Stat> {
        statx(&self.fd, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Describes this directory.
    pub fn stat_self(&self) -> io::Result<Stat> {
        statx(&self.fd, "", AtFlags::EMPTY_PATH)
    }

    /// Reads where the symlink `name` points.
    pub fn read_link(&self, name: &Name) -> io::Result<Vec<u8>> {
        let target = rustix::fs::readlinkat(&self.fd, name.as_bytes(), Vec::new())?;
        Ok(target.into_bytes())
    }

    /// Calls `visit` with every entry but `.` and `..`, in the filesystem's order. Starts over at
    /// each call.
    pub fn list(&self, scratch: &mut ListScratch, visit: &mut VisitEntry<'_>) -> io::Result<()> {
        rustix::fs::seek(&self.fd, SeekFrom::Start(0))?;
        let buffer = &mut scratch.buffer;
        buffer.resize(LIST_BUFFER_BYTES, MaybeUninit::uninit());
        let mut entries = RawDir::new(&self.fd, buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Err(Errno::INTR) => continue,
                entry => entry?,
            };
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                visit(name, entry.ino(), kind_of(entry.file_type()));
            }
        }
        Ok(())
    }
}

/// Making, moving and removing names.
impl Dir {
    /// Makes a directory; the process's umask is taken off `mode`.
    pub fn make_dir(&self, name: &Name, mode: u16) -> io::Result<()> {
        rustix::fs::mkdirat(&self.fd, name.as_bytes(), mode_bits(mode))?;
        Ok(())
    }

    /// Makes a symlink that holds `target`, whatever that is.
    pub fn make_symlink(&self, name: &Name, target: &[u8]) -> io::Result<()> {
        rustix::fs::symlinkat(target, &self.fd, name.as_bytes())?;
        Ok(())
    }

    /// Makes a FIFO, a socket's name or a device; the process's umask is taken off `mode`.
    pub fn make_node(
        &self,
        name: &Name,
        kind: EntryKind,
        mode: u16,
        rdev: (u32, u32),
    ) -> io::Result<()> {
        let file_type = match kind {
            EntryKind::Fifo => FileType::Fifo,
            EntryKind::Socket => FileType::Socket,
            EntryKind::CharDevice => FileType::CharacterDevice,
            EntryKind::BlockDevice => FileType::BlockDevice,
            EntryKind::File | EntryKind::Dir | EntryKind::Symlink => {
                return Err(Errno::INVAL.into());
            }
        };
        let device = rustix::fs::makedev(rdev.0, rdev.1);
        rustix::fs::mknodat(
            &self.fd,
            name.as_bytes(),
            file_type,
            mode_bits(mode),
            device,
        )?;
        Ok(())
    }

    /// Makes `name` another name of `to` in `to_dir`, itself and not what it may point to.
    pub fn make_link(&self, name: &Name, to_dir: &Dir, to: &Name) -> io::Result<()> {
        let (old, new) = (to.as_bytes(), name.as_bytes());
        rustix::fs::linkat(&to_dir.fd, old, &self.fd, new, AtFlags::empty())?;
        Ok(())
    }

    /// Gives `from` the name `to` in `to_dir`, replacing what had it.
    pub fn rename(&self, from: &Name, to_dir: &Dir, to: &Name) -> io::Result<()> {
        rustix::fs::renameat(&self.fd, from.as_bytes(), &to_dir.fd, to.as_bytes())?;
        Ok(())
    }

    /// Gives `from` the name `to` in `to_dir` unless that is taken
    /// ([`io::ErrorKind::AlreadyExists`]).
    ///
    /// Where the filesystem cannot do both in one step, the name is looked up first, and one
    /// given away between the two steps is lost.
    pub fn rename_noreplace(&self, from: &Name, to_dir: &Dir, to: &Name) -> io::Result<()> {
        let (old, new) = (from.as_bytes(), to.as_bytes());
        match rustix::fs::renameat_with(&self.fd, old, &to_dir.fd, new, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) => {}
            result => return Ok(result?),
        }
        match to_dir.stat(to) {
            Ok(_) => Err(Errno::EXIST.into()),
            Err(err) if err.kind() == io::ErrorKind::NotFound => self.rename(from, to_dir, to),
            Err(err) => Err(err),
        }
    }

    /// Removes any name but a directory's.
    pub fn unlink(&self, name: &Name) -> io::Result<()> {
        rustix::fs::unlinkat(&self.fd, name.as_bytes(), AtFlags::empty())?;
        Ok(())
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, name: &Name) -> io::Result<()> {
        rustix::fs::unlinkat(&self.fd, name.as_bytes(), AtFlags::REMOVEDIR)?;
        Ok(())
    }

    /// Makes a file that only the owner may read, open for reading and writing; the name must be
    /// free.
    pub fn create_new(&self, name: &Name) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | FILE_FLAGS;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::openat(&self.fd, name.as_bytes(), flags, mode)?;
        Ok(File::from(fd))
    }

    /// Makes a file without a name on this directory's filesystem; it is gone once closed.
    pub fn create_unnamed(&self) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, ".", flags, Mode::RUSR | Mode::WUSR)?;
        Ok(File::from(fd))
    }
}

/// Making durable.
impl Dir {
    /// Gives the name `name` to a file with this content and mode: whatever happens meanwhile, the
    /// name has the old content or all of the new, and the new once this returns.
    pub fn replace_file(&self, name: &Name, content: &[u8], mode: u16) -> io::Result<()> {
        let temp = temp_name(name);
        let mut file = self.create_new(&temp)?;
        let written = file
            .write_all(content)
            .and_then(|()| set_mode(&Target::File(&file), mode))
            .and_then(|()| file.sync_all())
            .and_then(|()| self.rename(&temp, self, name));
        if written.is_err() {
            // The failure is what counts; what stays is recognised as ours.
            let _ = self.unlink(&temp);
        }
        written?;
        self.sync()
    }

    /// Makes the directory's own entries durable.
    pub fn sync(&self) -> io::Result<()> {
        rustix::fs::fsync(&self.fd)?;
        Ok(())
    }

    /// Makes everything on the directory's filesystem durable.
    pub fn sync_filesystem(&self) -> io::Result<()> {
        rustix::fs::syncfs(&self.fd)?;
        Ok(())
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Makes `path` with its missing parents and opens it, following symlinks: it is the user's own.
pub fn create_dir_all(path: &Path) -> io::Result<Dir> {
    std::fs::create_dir_all(path)?;
    Dir::open_root(path)
}

/// Opens the directory at `path`, or where it is not there, the nearest one above it that is.
pub fn open_nearest(path: &Path) -> io::Result<Dir> {
    let path = std::path::absolute(path)?;
    let there = path.ancestors().find(|at| at.is_dir());
    Dir::open_root(there.unwrap_or(Path::new("/")))
}

/// Opens a directory beneath `from` by a path that fits one call, following no symlink.
fn open_beneath(from: BorrowedFd<'_>, path: &[u8], access: OFlags) -> io::Result<OwnedFd> {
    let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(from, path, flags, Mode::empty(), resolve) {
        // Linux before 5.6, and sandboxes that answer EPERM to a call they do not know.
        Err(Errno::NOSYS | Errno::PERM) => open_by_component(from, path, access),
        result => Ok(result?),
    }
}

/// Does what `openat2` does for [`open_beneath`], a component at a time.
fn open_by_component(from: BorrowedFd<'_>, path: &[u8], access: OFlags) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (parents, last) = match path.iter().rposition(|&b| b == b'/') {
        Some(cut) => (Some(&path[..cut]), &path[cut + 1..]),
        None => (None, path),
    };
    let mut at: Option<OwnedFd> = None;
    for name in parents.into_iter().flat_map(|p| p.split(|&b| b == b'/')) {
        let from = at.as_ref().map_or(from, |fd| fd.as_fd());
        at = Some(rustix::fs::openat(
            from,
            name,
            OFlags::PATH | flags,
            Mode::empty(),
        )?);
    }
    let from = at.as_ref().map_or(from, |fd| fd.as_fd());
    Ok(rustix::fs::openat(
        from,
        last,
        access | flags,
        Mode::empty(),
    )?)
}

/// Whether a directory that has been there is none any more: its name, or one above it, is gone or
/// stands for something else.
pub fn is_gone(err: &io::Error) -> bool {
    let errnos = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
    errnos.into_iter().any(|errno| is(err, errno))
}

fn require_file(stat: &Stat) -> io::Result<()> {
    match stat.meta.kind {
        EntryKind::File => Ok(()),
        _ => Err(not_a_file()),
    }
}

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

/// Whether `err` is the system's `errno`.
pub(super) fn is(err: &io::Error, errno: Errno) -> bool {
    err.raw_os_error() == Some(errno.raw_os_error())
}

pub(super) fn mode_bits(mode: u16) -> Mode {
    Mode::from_raw_mode(u32::from(mode) & 0o7777)
}

#[cfg(test)]
mod tests;
