//! Reading at an offset, apart from everything that reads: the only thing that delta asks of a
//! file, so that it works on descriptors and on memory alike.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::events::Cancel;

/// Bytes that can be read at any offset by several threads at once.
///
/// A read may return fewer bytes than asked for; 0 means the end. The length is not part of the
/// trait: callers say how long they believe the file to be, and a file that turns out shorter is
/// an [`io::ErrorKind::UnexpectedEof`], which a run treats as a change while copying.
pub trait ReadAt: Sync {
    /// Reads into `buf` from `offset` on and returns how many bytes it read.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Fills `buf` from `offset` on.
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    buf = &mut buf[read..];
                    offset += read as u64;
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }
}

/// A file that can be read no further once the run shall stop: reading to the end of a long one, or
/// of a hole in it, takes longer than anybody waits.
#[derive(Clone, Copy, Debug)]
pub struct UntilCancelled<'a, R: ?Sized>(pub &'a R, pub &'a Cancel);

impl<R: ReadAt + ?Sized> ReadAt for UntilCancelled<'_, R> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.check().map_err(io::Error::other)?;
        self.0.read_at(buf, offset)
    }
}

impl ReadAt for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buf, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..))
            .unwrap_or_default();
        let read = rest.len().min(buf.len());
        buf[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.as_slice().read_at(buf, offset)
    }
}

impl<R: ReadAt + ?Sized> ReadAt for &R {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buf, offset)
    }
}
