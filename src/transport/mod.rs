//! How bytes travel between the two roles; what they mean is `protocol`'s. A [`Link`] is a
//! duplex byte stream, made in this process ([`pair`]), to an agent on another host or in a
//! container ([`open_agent`]), or in that agent itself ([`accept`]).
//!
//! The engine reads and writes blocking descriptors. Of `tokio`, which `openssh`
//! needs, nothing leaves this module, and it runs only while an agent is started or ended.

mod agent;
mod cache;
mod control;
mod explain;
mod far;
mod location;
mod master;
mod opening;
mod patience;
mod remote;
mod shell;
mod stderr;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::net::{Shutdown, shutdown};

use crate::error::Result;

pub use agent::{PROTOCOL, agent_preamble, self_hash};
pub use cache::sweep_agents;
pub use location::{Location, RemotePath, Whose, expand_home};
pub use remote::{RemoteOptions, open_agent};

/// One end of a duplex byte stream.
pub struct Link {
    /// What the other end says.
    pub reader: LinkReader,
    /// What this end says.
    pub writer: LinkWriter,
    /// What keeps the other end going.
    pub guard: Box<dyn LinkGuard>,
}

impl Link {
    /// A handle that any thread may use to stop the others.
    ///
    /// # Errors
    ///
    /// When no descriptors are left.
    pub fn aborter(&self) -> io::Result<Aborter> {
        let reader = self.reader.as_fd().try_clone_to_owned()?;
        let writer = self.writer.as_fd().try_clone_to_owned()?;
        Ok(Aborter(Arc::new([reader, writer])))
    }
}

/// Ends what a link depends on: a far command, a shared connection.
///
/// The reader and the writer belong to the threads that use them; the guard belongs to the one
/// that runs the session. Of the two ways out exactly one is taken: `finish` after the two ends
/// have said goodbye, `abort` at any time before. A guard that is merely dropped leaves the far
/// command to notice the end of its input, and the connection to its idle limit.
pub trait LinkGuard: Send {
    /// Ends the stream to the other end, waits for the far command to exit and closes the shared
    /// connection unless it is to persist. Returns within half a minute, whatever the far end
    /// does; afterwards nothing of the link is left on this machine.
    ///
    /// # Errors
    ///
    /// [`Error::Connection`](crate::error::Error::Connection) when the far command failed, was
    /// killed or does not end, with the last lines of its stderr.
    fn finish(self: Box<Self>) -> Result<()>;

    /// Stops at once: readers see the end of the stream, writers an error, a local command is
    /// terminated. What was under way is lost. Returns within seconds; a second call does nothing.
    fn abort(&mut self);
}

/// Cuts a link's stream from any thread: blocked reads return the end, blocked writes an error.
///
/// It leaves the far command to [`LinkGuard::abort`], which the session calls when it unwinds.
#[derive(Clone, Debug)]
pub struct Aborter(Arc<[OwnedFd; 2]>);

impl Aborter {
    /// Cuts the stream. Cutting it again does nothing.
    pub fn abort(&self) {
        for end in self.0.iter() {
            hang_up(end, Shutdown::Both);
        }
    }

    /// Tells the other end that nothing more will come.
    fn end_writing(&self) {
        hang_up(&self.0[1], Shutdown::Write);
    }
}

/// The receiving direction of a [`Link`]; dropping it makes the other end's writes fail.
#[derive(Debug)]
pub struct LinkReader(File);

/// The sending direction of a [`Link`]; dropping it is the end of the stream to the other end.
#[derive(Debug)]
pub struct LinkWriter(File);

impl LinkWriter {
    /// Tells the other end that nothing more will come.
    pub fn end(&mut self) {
        hang_up(&self.0, Shutdown::Write);
    }
}

impl Read for LinkReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for LinkWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for LinkReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for LinkWriter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

// Closing alone would not do: an `Aborter` may hold the same socket open.
impl Drop for LinkReader {
    fn drop(&mut self) {
        hang_up(&self.0, Shutdown::Read);
    }
}

impl Drop for LinkWriter {
    fn drop(&mut self) {
        hang_up(&self.0, Shutdown::Write);
    }
}

/// Shuts one direction of a socket. It fails only where there is nothing to shut: on a pipe, as
/// an agent's stdin may be, and on a socket whose other end is gone.
fn hang_up(end: impl AsFd, how: Shutdown) {
    let _ = shutdown(end, how);
}

/// A one-way stream: a socket, not a pipe, so that it can be cut from another thread, and
/// because it is faster: 4.5 GB/s from thread to thread in 64 KiB writes, where a pipe reached
/// 1.0 and one enlarged to 1 MiB 2.4.
fn one_way() -> io::Result<(LinkReader, LinkWriter)> {
    let (reader, writer) = UnixStream::pair()?;
    let file = |end: UnixStream| File::from(OwnedFd::from(end));
    Ok((LinkReader(file(reader)), LinkWriter(file(writer))))
}

/// Makes the two ends of a link within this process.
///
/// # Errors
///
/// When no descriptors are left.
pub fn pair() -> io::Result<(Link, Link)> {
    let (left_reader, right_writer) = one_way()?;
    let (right_reader, left_writer) = one_way()?;
    Ok((
        guarded_by_itself(left_reader, left_writer)?,
        guarded_by_itself(right_reader, right_writer)?,
    ))
}

/// Takes over this process's stdin and stdout as the far end of a link, and says the preamble
/// that the near end waits for. Nothing else may use either from then on.
///
/// # Errors
///
/// When stdout is closed already.
pub fn accept() -> io::Result<Link> {
    let reader = io::stdin().as_fd().try_clone_to_owned()?;
    let writer = io::stdout().as_fd().try_clone_to_owned()?;
    let mut writer = LinkWriter(File::from(writer));
    writer.write_all(agent_preamble().as_bytes())?;
    guarded_by_itself(LinkReader(File::from(reader)), writer)
}

/// A link with nothing behind it: cutting the stream is all that can be done.
fn guarded_by_itself(reader: LinkReader, writer: LinkWriter) -> io::Result<Link> {
    let mut link = Link {
        reader,
        writer,
        guard: Box::new(Unguarded),
    };
    link.guard = Box::new(link.aborter()?);
    Ok(link)
}

/// Stands in until a link's own guard is made from it.
struct Unguarded;

impl LinkGuard for Unguarded {
    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }

    fn abort(&mut self) {}
}

impl LinkGuard for Aborter {
    fn finish(self: Box<Self>) -> Result<()> {
        self.end_writing();
        Ok(())
    }

    fn abort(&mut self) {
        Aborter::abort(self);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn pair_carries_bytes_both_ways_until_the_writer_is_dropped() {
        let (mut left, mut right) = pair().unwrap();
        left.writer.write_all(b"there").unwrap();
        right.writer.write_all(b"back").unwrap();
        drop((left.writer, right.writer));
        let (mut there, mut back) = (String::new(), String::new());
        right.reader.read_to_string(&mut there).unwrap();
        left.reader.read_to_string(&mut back).unwrap();
        assert_eq!((there.as_str(), back.as_str()), ("there", "back"));
        left.guard.finish().unwrap();
        right.guard.finish().unwrap();
    }

    #[test]
    fn dropped_reader_fails_the_writer_though_an_aborter_is_held() {
        let (mut left, right) = pair().unwrap();
        let _held = right.aborter().unwrap();
        drop(right.reader);
        let err = left.writer.write_all(&[0; 1024]).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn abort_from_another_thread_frees_blocked_reader_and_writer() {
        let (left, _right) = pair().unwrap();
        let aborter = left.aborter().unwrap();
        let Link {
            mut reader,
            mut writer,
            ..
        } = left;
        let read = thread::spawn(move || reader.read(&mut [0; 16]).unwrap());
        let write = thread::spawn(move || {
            loop {
                if let Err(err) = writer.write_all(&[0; 1 << 16]) {
                    return err.kind();
                }
            }
        });
        thread::sleep(std::time::Duration::from_millis(50));
        aborter.abort();
        assert_eq!(read.join().unwrap(), 0);
        assert_eq!(write.join().unwrap(), io::ErrorKind::BrokenPipe);
    }
}
