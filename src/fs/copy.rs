//! Content within one machine: cloning, copying with its holes, reserving and freeing space.
//!
//! Offsets are explicit throughout, but looking for holes moves a file's own position: nothing
//! here leaves that where it was.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, FallocateFlags, SeekFrom};
use rustix::io::Errno;

use super::dir::is;
use super::stat::stat_file;

/// The most that is copied between two calls of `progress`, so that a caller can stop or slow a
/// copy within some tens of milliseconds on a slow disk.
const PROGRESS_BYTES: u64 = 8 << 20;

/// One read of the plain loop. From 256 KiB up the size no longer mattered.
const BUFFER_BYTES: usize = 256 << 10;

/// What becomes of holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sparse {
    /// Holes stay holes.
    Keep,
    /// Zeros are written in their place, so that the space is there.
    Fill,
}

/// By which means content was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyMeans {
    /// Both files share the blocks until one is changed.
    Reflink,
    /// The kernel copied.
    CopyFileRange,
    /// Through this process, at least in part.
    ReadWrite,
}

/// What [`copy_content`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Bytes that were copied or cloned; holes do not count.
    pub bytes: u64,
    /// How.
    pub how: CopyMeans,
}

/// Makes the content of `to` that of the first `size` bytes of `from`.
///
/// Calls `progress` with the bytes done since it was last called, holes included; they add up to
/// `size`. Its error ends the copy and is returned. A source that is or becomes shorter than
/// `size` is [`io::ErrorKind::UnexpectedEof`]. After an error the content of `to` is undefined.
pub fn copy_content(
    from: &File,
    to: &File,
    size: u64,
    sparse: Sparse,
    progress: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<Copied> {
    // Truncating an empty file is not free: ext4 then writes it out when it is closed.
    if to.metadata()?.len() > 0 {
        set_len(to, 0)?;
    }
    let mut copy = Copy {
        from,
        to,
        shift: 0,
        // The kernel copies a hole as a hole wherever it can share blocks.
        how: match sparse {
            Sparse::Keep => CopyMeans::CopyFileRange,
            Sparse::Fill => CopyMeans::ReadWrite,
        },
        buffer: Vec::new(),
        progress,
    };
    if sparse == Sparse::Fill {
        copy.range(0..size)?;
        return Ok(Copied {
            bytes: size,
            how: copy.how,
        });
    }
    if from.metadata()?.len() >= size && clone_file(from, to)? {
        set_len(to, size)?;
        (copy.progress)(size)?;
        return Ok(Copied {
            bytes: size,
            how: CopyMeans::Reflink,
        });
    }
    let (mut at, mut bytes) = (0, 0);
    while let Some(data) = next_data_range(from, at, size)? {
        if data.start > at {
            (copy.progress)(data.start - at)?;
        }
        at = data.end;
        bytes += data.end - data.start;
        copy.range(data)?;
    }
    if at < size {
        set_len(to, size)?;
        (copy.progress)(size - at)?;
    }
    let how = copy.how;
    // A hole looks no different from what was cut off.
    if from.metadata()?.len() < size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Copied { bytes, how })
}

/// Copies `len` bytes at `from_at` of one file to `to_at` of another, zeros of holes included.
///
/// Calls `progress` as [`copy_content`] does. A source that is shorter is
/// [`io::ErrorKind::UnexpectedEof`].
pub fn copy_range(
    from: &File,
    from_at: u64,
    to: &File,
    to_at: u64,
    len: u64,
    progress: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    let mut copy = Copy {
        from,
        to,
        shift: to_at.wrapping_sub(from_at),
        how: CopyMeans::CopyFileRange,
        buffer: Vec::new(),
        progress,
    };
    copy.range(from_at..from_at + len)
}

/// A copy under way.
struct Copy<'a> {
    from: &'a File,
    to: &'a File,
    /// What is added to an offset of the one to make it the other's, wrapping.
    shift: u64,
    how: CopyMeans,
    buffer: Vec<u8>,
    progress: &'a mut dyn FnMut(u64) -> io::Result<()>,
}

impl Copy<'_> {
    fn range(&mut self, range: Range<u64>) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end {
            let length = (range.end - at).min(PROGRESS_BYTES);
            self.piece(at, length)?;
            at += length;
            (self.progress)(length)?;
        }
        Ok(())
    }

    /// Copies a piece whole, turning to the plain loop for good once the kernel will not copy.
    fn piece(&mut self, mut at: u64, length: u64) -> io::Result<()> {
        let end = at + length;
        while at < end && self.how == CopyMeans::CopyFileRange {
            let (mut from_at, mut to_at) = (at, at.wrapping_add(self.shift));
            match rustix::fs::copy_file_range(
                self.from,
                Some(&mut from_at),
                self.to,
                Some(&mut to_at),
                (end - at) as usize,
            ) {
                Err(Errno::INTR) => {}
                // The end of the file, or a filesystem that makes its content up as it is read.
                Ok(0) => self.how = CopyMeans::ReadWrite,
                Ok(copied) => at += copied as u64,
                Err(err) if is_refusal(err) => self.how = CopyMeans::ReadWrite,
                Err(err) => return Err(err.into()),
            }
        }
        if at < end {
            self.buffer.resize(BUFFER_BYTES, 0);
        }
        while at < end {
            let length = self.buffer.len().min((end - at) as usize);
            let buffer = &mut self.buffer[..length];
            self.from.read_exact_at(buffer, at)?;
            self.to.write_all_at(buffer, at.wrapping_add(self.shift))?;
            at += length as u64;
        }
        Ok(())
    }
}

/// Makes `to` share the blocks of all of `from`; false where the filesystem cannot, or the two
/// are on different ones. What `to` had beyond the length of `from` stays.
pub fn clone_file(from: &File, to: &File) -> io::Result<bool> {
    match rustix::fs::ioctl_ficlone(to, from) {
        Ok(()) => Ok(true),
        Err(err) if is_refusal(err) => Ok(false),
        Err(err) => Err(err.into()),
    }
}

/// The ranges of the first `size` bytes that are not holes; all of them where the filesystem
/// does not tell.
pub fn data_ranges(file: &File, size: u64) -> io::Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(range) = next_data_range(file, at, size)? {
        at = range.end;
        ranges.push(range);
    }
    Ok(ranges)
}

/// The first of the [`data_ranges`] from `at` on, cut to begin there: for files with more ranges
/// than one wants to hold.
pub fn next_data_range(file: &File, at: u64, size: u64) -> io::Result<Option<Range<u64>>> {
    if at >= size {
        return Ok(None);
    }
    let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) if start < size => start,
        Ok(_) | Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(at..size)),
        Err(err) => return Err(err.into()),
    };
    match rustix::fs::seek(file, SeekFrom::Hole(start)) {
        Ok(end) => Ok(Some(start..end.min(size))),
        // Cut short since: what is missing shows when it is read.
        Err(Errno::NXIO) => Ok(Some(start..size)),
        Err(err) => Err(err.into()),
    }
}

/// Turns a range into a hole; false where the filesystem cannot. The length stays.
pub fn punch_hole(file: &File, range: Range<u64>) -> io::Result<bool> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(file, flags, range)
}

/// Reserves space for the first `len` bytes without changing the length; false where the
/// filesystem cannot. Too little space is an error, and then none is taken.
pub fn allocate(file: &File, len: u64) -> io::Result<bool> {
    // Asked for more than there is, ext4 takes all there is before it says no, and meanwhile
    // everybody else on the disk has none.
    let volume = rustix::fs::fstatvfs(file)?;
    let free = volume.f_bfree.saturating_mul(volume.f_frsize);
    let held = stat_file(file)?.blocks.saturating_mul(512);
    // Filesystems without a size of their own, such as an unlimited tmpfs, say 0 of 0.
    if volume.f_blocks > 0 && len > free.saturating_add(held) {
        return Err(Errno::NOSPC.into());
    }
    let result = fallocate(file, FallocateFlags::KEEP_SIZE, 0..len);
    if matches!(&result, Err(err) if is(err, Errno::NOSPC) || is(err, Errno::DQUOT)) {
        // Cutting a file to the length that it has frees what lies beyond.
        set_len(file, file.metadata()?.len())?;
    }
    result
}

fn fallocate(file: &File, flags: FallocateFlags, range: Range<u64>) -> io::Result<bool> {
    if range.is_empty() {
        return Ok(true);
    }
    loop {
        match rustix::fs::fallocate(file, flags, range.start, range.end - range.start) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
            result => return Ok(result.map(|()| true)?),
        }
    }
}

/// Cuts or extends a file, the latter by a hole.
pub fn set_len(file: &File, len: u64) -> io::Result<()> {
    Ok(rustix::fs::ftruncate(file, len)?)
}

/// Tells the kernel that a range will be read from front to back.
pub fn advise_sequential(file: &File, range: Range<u64>) -> io::Result<()> {
    advise(file, range, Advice::Sequential)
}

/// Tells the kernel that a range need not stay in memory. Unwritten changes do regardless.
pub fn advise_dont_need(file: &File, range: Range<u64>) -> io::Result<()> {
    advise(file, range, Advice::DontNeed)
}

fn advise(file: &File, range: Range<u64>, advice: Advice) -> io::Result<()> {
    match NonZeroU64::new(range.end.saturating_sub(range.start)) {
        // The kernel would take no length for "up to the end".
        None => Ok(()),
        length => Ok(rustix::fs::fadvise(file, range.start, length, advice)?),
    }
}

/// Whether the kernel will never do this between these two files, though plain reading and
/// writing may work.
fn is_refusal(err: Errno) -> bool {
    matches!(
        err,
        Errno::XDEV
            | Errno::INVAL
            | Errno::NOSYS
            | Errno::OPNOTSUPP
            | Errno::NOTTY
            | Errno::PERM
            | Errno::ACCESS
            | Errno::TXTBSY
    )
}

#[cfg(test)]
mod tests;
