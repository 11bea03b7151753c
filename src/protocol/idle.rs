//! One end of a connection between two rounds of a session: a single thread that listens, says now
//! and then that it is there, and wakes for whatever else it waits for.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::events::Cancel;
use crate::protocol::conn::{HEARTBEAT, Inbox, STALL, broken};
use crate::protocol::frame::{self, Frame, FrameKind};

/// How soon an idle end notices that it shall stop. Four times a second costs nothing that can be
/// measured.
const TICK: Duration = Duration::from_millis(250);

/// One end while nothing is under way.
pub struct Idle<'a, R, W> {
    reader: &'a mut R,
    writer: &'a mut W,
    cancel: &'a Cancel,
    said: Instant,
    heard: Instant,
}

/// What an idle end woke for.
#[derive(Debug)]
pub enum Woken {
    /// The other end said something.
    Said(Frame),
    /// The other descriptor has something to read.
    Other,
    /// The time has come, or it is worth a look at what else may have changed.
    Time,
}

impl<'a, R: Read + AsFd, W: Write + AsFd> Idle<'a, R, W> {
    /// An end that rests from now on.
    pub fn new(reader: &'a mut R, writer: &'a mut W, cancel: &'a Cancel) -> Idle<'a, R, W> {
        let now = Instant::now();
        Idle {
            reader,
            writer,
            cancel,
            said: now,
            heard: now,
        }
    }

    /// Says something.
    ///
    /// # Errors
    ///
    /// [`Error::Connection`] where the other end is gone, or takes nothing for a minute.
    pub fn say(&mut self, message: &impl Serialize) -> Result<()> {
        self.write(&frame::encode_message(message)?)
    }

    /// Waits until the other end says something, `other` can be read, or `until` has come; for a
    /// quarter of a second at most.
    ///
    /// # Errors
    ///
    /// [`Error::Connection`] where the other end is gone, or silent for too long, and
    /// [`Error::Interrupted`].
    pub fn wait(&mut self, other: Option<BorrowedFd<'_>>, until: Instant) -> Result<Woken> {
        self.beat()?;
        let now = Instant::now();
        let left = until.saturating_duration_since(now).min(TICK);
        let (said, rest) = self.poll(other, left).map_err(broken)?;
        if said {
            return self.receive();
        }
        if self.heard.elapsed() > STALL {
            return Err(Error::Connection(format!(
                "the other end has been silent for {} seconds",
                STALL.as_secs()
            )));
        }
        Ok(if rest { Woken::Other } else { Woken::Time })
    }

    /// Says that this end is there, when it has not said anything for a while. For who has something
    /// to do and cannot listen.
    ///
    /// # Errors
    ///
    /// As for [`Idle::say`], and [`Error::Interrupted`].
    pub fn beat(&mut self) -> Result<()> {
        self.cancel.check()?;
        if self.said.elapsed() >= HEARTBEAT {
            self.write(&frame::encode(FrameKind::Heartbeat, &[]))?;
        }
        Ok(())
    }

    fn poll(&self, other: Option<BorrowedFd<'_>>, left: Duration) -> io::Result<(bool, bool)> {
        let mut fds = vec![PollFd::new(&*self.reader, PollFlags::IN)];
        fds.extend(other.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let left = Timespec {
            tv_sec: 0,
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut fds, Some(&left)) {
            Ok(_) => {
                let ready = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
                Ok((ready(fds.first()), ready(fds.get(1))))
            }
            Err(rustix::io::Errno::INTR) => Ok((false, false)),
            Err(err) => Err(err.into()),
        }
    }

    fn receive(&mut self) -> Result<Woken> {
        let mut inbox = Inbox::new(&mut *self.reader, self.cancel.clone(), Default::default());
        let Some(frame) = inbox.receive_any()? else {
            return Err(Error::Connection(
                "the other end closed the connection".to_string(),
            ));
        };
        self.heard = Instant::now();
        match frame.kind {
            FrameKind::Heartbeat => Ok(Woken::Time),
            FrameKind::Message => Ok(Woken::Said(frame)),
            FrameKind::Data | FrameKind::Batch => {
                Err(Error::protocol("content between two rounds"))
            }
        }
    }

    fn write(&mut self, frame: &[u8]) -> Result<()> {
        rustix::io::ioctl_fionbio(&*self.writer, true).map_err(|err| broken(err.into()))?;
        let began = Instant::now();
        let mut rest = frame;
        while !rest.is_empty() {
            match self.writer.write(rest) {
                Ok(0) => return Err(broken(io::ErrorKind::WriteZero.into())),
                Ok(n) => rest = &rest[n..],
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                    self.cancel.check()?;
                    if began.elapsed() > STALL {
                        return Err(Error::Connection(format!(
                            "the other end has taken nothing for {} seconds",
                            STALL.as_secs()
                        )));
                    }
                    self.wait_to_write().map_err(broken)?;
                }
                Err(err) => return Err(broken(err)),
            }
        }
        self.said = Instant::now();
        Ok(())
    }

    fn wait_to_write(&self) -> io::Result<()> {
        let mut fds = [PollFd::new(&*self.writer, PollFlags::OUT)];
        let tick = Timespec {
            tv_sec: 0,
            tv_nsec: TICK.subsec_nanos().into(),
        };
        match poll(&mut fds, Some(&tick)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }
}
