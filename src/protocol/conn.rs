//! One end of a connection: frames in, frames out, on a pair of descriptors.
//!
//! Reading and writing are on threads of their own. Everything that the source sends is paid for
//! with credit that the destination grants as it finishes with frames, so what is under way is
//! bounded, no queue can fill up, and neither reader ever waits for anything but bytes.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::events::Cancel;
use crate::options::Compress;
use crate::protocol::frame::{self, Frame, FrameKind, HEADER};
use crate::transport::LinkWriter;

/// What the source may send before the destination has dealt with any of it, in bytes. Covers
/// 320 Mbit/s at 200 ms, four times what ssh's own window lets through; the destination holds at
/// most this much.
pub const CREDIT: u64 = 8 << 20;

/// An idle end says so this often.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(10);

/// An end that is silent for so long is dead: six heartbeats.
pub(super) const STALL: Duration = Duration::from_secs(60);

/// How many frames may wait to be written when one more is queued in its turn: lines of a
/// command's output, which are short.
const FRAMES_IN_TURN: usize = 64;

/// How soon a blocked end notices that it shall stop.
const TICK: Duration = Duration::from_millis(250);

/// Frames are compressed while the link takes less than this: zstd's level 1 makes 300 to
/// 500 MB/s of input a core, so a faster link would wait for it.
const SLOW_LINK_BYTES_PER_S: f64 = 60e6;

/// Smaller frames are not worth a call.
const COMPRESS_MIN: usize = 512;

/// The sending half; cloned into every thread that has something to say.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<OutQueue>,
    wake: Condvar,
    sent: AtomicU64,
}

#[derive(Debug)]
struct OutQueue {
    frames: VecDeque<Vec<u8>>,
    /// Below zero: the last frame overdrew it, and that is paid back before the next.
    credit: i64,
    /// Somebody waits for it to become shorter.
    is_awaited: bool,
    state: OutState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutState {
    Open,
    /// Write what is queued, then stop; the stream goes on without this outbox.
    Pausing,
    /// Write what is queued, then end the stream.
    Closing,
    /// The other end is gone.
    Broken,
}

impl Outbox {
    /// An outbox whose frames go out once [`run_writer`] runs, with this much credit.
    pub fn new(credit: u64) -> Outbox {
        Outbox(Arc::new(Shared {
            queue: Mutex::new(OutQueue {
                frames: VecDeque::new(),
                credit: signed(credit),
                is_awaited: false,
                state: OutState::Open,
            }),
            wake: Condvar::new(),
            sent: AtomicU64::new(0),
        }))
    }

    /// Queues a message that costs no credit: whatever the destination says, and the source's
    /// few words of order.
    pub fn say(&self, message: &impl Serialize) -> Result<()> {
        self.push(frame::encode_message(message)?)
    }

    /// Queues a message as [`Outbox::say`] does, once little else waits to be written: for who can
    /// say more than a slow link takes and is paid no credit for it.
    pub fn say_in_turn(&self, message: &impl Serialize) -> Result<()> {
        let frame = frame::encode_message(message)?;
        let mut queue = self.lock();
        while queue.frames.len() >= FRAMES_IN_TURN && queue.state == OutState::Open {
            queue.is_awaited = true;
            queue = self.wait(queue);
        }
        drop(queue);
        self.push(frame)
    }

    /// Queues a frame and pays for it, waiting for credit where there is none.
    pub fn send_paid(&self, frame: Vec<u8>) -> Result<()> {
        let cost = frame.len() as u64;
        let mut queue = self.lock();
        while queue.credit <= 0 {
            if queue.state != OutState::Open {
                return Err(gone());
            }
            queue = self.wait(queue);
        }
        // The last frame may overdraw: frames are small against the credit.
        queue.credit = queue.credit.saturating_sub(signed(cost));
        drop(queue);
        self.push(frame)
    }

    /// Queues a message and pays for it.
    pub fn say_paid(&self, message: &impl Serialize) -> Result<()> {
        self.send_paid(frame::encode_message(message)?)
    }

    /// Takes credit that the other end granted.
    pub fn grant(&self, bytes: u64) {
        let mut queue = self.lock();
        queue.credit = queue
            .credit
            .saturating_add(signed(bytes))
            .min(signed(CREDIT));
        self.0.wake.notify_all();
    }

    /// Lets the writer finish what is queued and end the stream.
    pub fn close(&self) {
        self.end(OutState::Closing);
    }

    /// Lets the writer finish what is queued and leave the stream as it is.
    pub fn pause(&self) {
        self.end(OutState::Pausing);
    }

    fn end(&self, how: OutState) {
        let mut queue = self.lock();
        if queue.state == OutState::Open {
            queue.state = how;
        }
        self.0.wake.notify_all();
    }

    /// Drops what is queued and wakes everybody who waits: the other end is gone.
    pub fn break_off(&self) {
        let mut queue = self.lock();
        queue.state = OutState::Broken;
        queue.frames.clear();
        self.0.wake.notify_all();
    }

    /// Bytes written so far.
    pub fn sent_bytes(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    fn push(&self, frame: Vec<u8>) -> Result<()> {
        let mut queue = self.lock();
        if queue.state != OutState::Open {
            return Err(gone());
        }
        queue.frames.push_back(frame);
        self.0.wake.notify_all();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, OutQueue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, guard: MutexGuard<'a, OutQueue>) -> MutexGuard<'a, OutQueue> {
        self.0
            .wake
            .wait(guard)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The next frame, a heartbeat when nothing comes for long, `None` at the end.
    fn next(&self) -> Option<Vec<u8>> {
        let mut queue = self.lock();
        let deadline = Instant::now() + HEARTBEAT;
        loop {
            if queue.state == OutState::Broken {
                return None;
            }
            if let Some(frame) = queue.frames.pop_front() {
                if std::mem::take(&mut queue.is_awaited) {
                    self.0.wake.notify_all();
                }
                return Some(frame);
            }
            if queue.state != OutState::Open {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Some(frame::encode(FrameKind::Heartbeat, &[]));
            }
            queue = self
                .0
                .wake
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// An amount of credit that can also be owed.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn gone() -> Error {
    Error::Connection("the connection to the other end is closed".to_string())
}

/// Writes queued frames until the outbox is closed or the descriptor breaks, and then ends the
/// stream, unless the outbox was only paused. Runs on a thread of its own; whatever ends it breaks
/// the outbox, so nobody waits for it in vain.
pub fn run_writer(outbox: &Outbox, link: &mut LinkWriter, compress: Compress, cancel: &Cancel) {
    let mut writer = Writer {
        stream: link,
        link: LinkSpeed::default(),
        compress,
    };
    let outcome = (|| -> io::Result<()> {
        rustix::io::ioctl_fionbio(&writer.stream, true)?;
        while let Some(frame) = outbox.next() {
            let written = writer.write_frame(&frame, cancel)?;
            outbox.0.sent.fetch_add(written, Ordering::Relaxed);
        }
        Ok(())
    })();
    if outcome.is_err() {
        outbox.break_off();
    }
    if outbox.lock().state != OutState::Pausing {
        writer.stream.end();
    }
}

struct Writer<'a> {
    stream: &'a mut LinkWriter,
    link: LinkSpeed,
    compress: Compress,
}

impl Writer<'_> {
    fn write_frame(&mut self, frame: &[u8], cancel: &Cancel) -> io::Result<u64> {
        let wants = match self.compress {
            Compress::Always => true,
            Compress::Never => false,
            Compress::Auto => self.link.is_slow(),
        };
        let wire = if wants && frame.len() >= COMPRESS_MIN {
            frame::compress(frame)
        } else {
            frame.into()
        };
        let started = Instant::now();
        let mut rest: &[u8] = &wire;
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => rest = &rest[n..],
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                    if cancel.is_cancelled() {
                        return Err(io::ErrorKind::Interrupted.into());
                    }
                    wait_for(&self.stream, PollFlags::OUT)?;
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        self.link.note(wire.len(), started.elapsed());
        Ok(wire.len() as u64)
    }
}

/// How fast the link takes bytes, over the last megabytes.
#[derive(Default)]
struct LinkSpeed {
    bytes: f64,
    seconds: f64,
}

impl LinkSpeed {
    /// Before this much has been sent the speed is mostly the pipe's buffer.
    const SAMPLE_BYTES: f64 = 4e6;

    fn note(&mut self, bytes: usize, elapsed: Duration) {
        self.bytes += bytes as f64;
        self.seconds += elapsed.as_secs_f64();
        if self.bytes > 4.0 * Self::SAMPLE_BYTES {
            self.bytes /= 2.0;
            self.seconds /= 2.0;
        }
    }

    fn is_slow(&self) -> bool {
        self.bytes > Self::SAMPLE_BYTES && self.bytes < self.seconds * SLOW_LINK_BYTES_PER_S
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct Inbox<R> {
    stream: R,
    received: Arc<AtomicU64>,
    cancel: Cancel,
}

impl<R: Read + AsFd> Inbox<R> {
    /// Reads frames from a stream and counts their bytes. Takes no byte more than a frame's: what
    /// follows can be read by another inbox.
    pub fn new(stream: R, cancel: Cancel, received: Arc<AtomicU64>) -> Inbox<R> {
        Inbox {
            stream,
            received,
            cancel,
        }
    }

    /// The next frame that is no heartbeat; `None` when the other end closed between frames.
    pub fn receive(&mut self) -> Result<Option<Frame>> {
        loop {
            match self.receive_any()? {
                Some(frame) if frame.kind == FrameKind::Heartbeat => {}
                frame => return Ok(frame),
            }
        }
    }

    /// The next frame, be it a heartbeat; `None` when the other end closed between frames.
    pub fn receive_any(&mut self) -> Result<Option<Frame>> {
        // Both directions of a link may share one description, and so one mode: neither blocks.
        rustix::io::ioctl_fionbio(&self.stream, true).map_err(|err| broken(err.into()))?;
        let mut header = [0; HEADER];
        if !self.fill(&mut header, true)? {
            return Ok(None);
        }
        let (len, kind) = frame::parse_header(header)?;
        let mut body = vec![0; len];
        self.fill(&mut body, false)?;
        self.received
            .fetch_add((HEADER + len) as u64, Ordering::Relaxed);
        frame::decode(kind, body).map(Some)
    }

    /// Fills `buffer`. `false`: the stream ended before its first byte, where that is allowed.
    fn fill(&mut self, buffer: &mut [u8], may_end: bool) -> Result<bool> {
        let mut filled = 0;
        let mut quiet_since = Instant::now();
        while filled < buffer.len() {
            self.cancel.check()?;
            // Read first: while bytes flow, asking whether there are any is a call for nothing.
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) if filled == 0 && may_end => return Ok(false),
                Ok(0) => return Err(gone()),
                Ok(n) => filled += n,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                    if !wait_for(&self.stream, PollFlags::IN).map_err(broken)?
                        && quiet_since.elapsed() > STALL
                    {
                        return Err(Error::Connection(format!(
                            "the other end has been silent for {} seconds",
                            STALL.as_secs()
                        )));
                    }
                    continue;
                }
                Err(err) => return Err(broken(err)),
            }
            quiet_since = Instant::now();
        }
        Ok(true)
    }
}

pub(super) fn broken(err: io::Error) -> Error {
    Error::Connection(format!("the connection to the other end broke: {err}"))
}

/// Waits one tick at most; `false` when nothing happened.
fn wait_for(fd: &impl AsFd, flags: PollFlags) -> io::Result<bool> {
    let mut fds = [PollFd::new(fd, flags)];
    let tick = Timespec {
        tv_sec: 0,
        tv_nsec: TICK.subsec_nanos().into(),
    };
    match poll(&mut fds, Some(&tick)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(err) => Err(err.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_its_turn_waits_until_others_are_written() {
        let outbox = Outbox::new(0);
        let under_way = |outbox: &Outbox| outbox.lock().frames.len();
        for _ in 0..FRAMES_IN_TURN {
            outbox.say_in_turn(&0_u8).unwrap();
        }
        std::thread::scope(|scope| {
            let next = scope.spawn(|| outbox.say_in_turn(&0_u8));
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(under_way(&outbox), FRAMES_IN_TURN);
            assert!(outbox.next().is_some());
            assert!(next.join().unwrap().is_ok());
            assert_eq!(under_way(&outbox), FRAMES_IN_TURN);
            let never = scope.spawn(|| outbox.say_in_turn(&0_u8));
            std::thread::sleep(Duration::from_millis(20));
            outbox.break_off();
            assert!(never.join().unwrap().is_err());
        });
    }

    #[test]
    fn what_a_frame_overdrew_is_paid_back_before_the_next() {
        let outbox = Outbox::new(1);
        let under_way = |outbox: &Outbox| outbox.lock().frames.len();
        outbox.send_paid(vec![0; 1000]).unwrap();
        std::thread::scope(|scope| {
            let next = scope.spawn(|| outbox.send_paid(vec![0; 1000]));
            outbox.grant(999);
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(under_way(&outbox), 1);
            outbox.grant(1);
            assert!(next.join().unwrap().is_ok());
        });
        assert_eq!(under_way(&outbox), 2);
    }
}
