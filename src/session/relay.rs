//! Remote to remote: passes frames between two agents, keeps their events, and notices the end.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Error, Result};
use crate::events::{Cancel, Observer, Summary};
use crate::protocol::frame::{
    FrameKind, HEADER, decode, decode_message, encode_message, parse_header,
};
use crate::protocol::message::{FromDestination, FromSource};
use crate::transport::{Aborter, Link, LinkReader, LinkWriter};

/// How soon an interrupt, or the end of one side, is noticed.
const TICK: Duration = Duration::from_millis(50);

/// How long one direction may go on after the other has ended.
const HALF: Duration = Duration::from_secs(15);

/// What becomes of a message.
#[derive(PartialEq, Eq)]
enum Pass {
    /// It goes on to the other agent.
    On,
    /// It was for us.
    Keep,
}

/// Relays a session of one round. Returns what the destination did.
pub(super) fn run(
    source: Link,
    destination: Link,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Summary> {
    let summary = Mutex::new(None);
    let ends = Ends {
        observer,
        done: &|done| *lock(&summary) = Some(done),
        has_parted: &AtomicBool::new(false),
        wish: &|| false,
    };
    relay(source, destination, &ends, cancel, || {
        lock(&summary).is_some()
    })?;
    let done = lock(&summary).take();
    done.ok_or_else(|| Error::protocol("a session that was over had no outcome"))
}

/// Relays a session of many rounds until the two ends part. `wish` says whether they shall.
pub(super) fn run_rounds(
    source: Link,
    destination: Link,
    observer: &dyn Observer,
    wish: &(dyn Fn() -> bool + Sync),
    cancel: &Cancel,
) -> Result<()> {
    let has_parted = AtomicBool::new(false);
    let ends = Ends {
        observer,
        done: &|_| {},
        has_parted: &has_parted,
        wish,
    };
    relay(source, destination, &ends, cancel, || {
        has_parted.load(Ordering::Relaxed)
    })
}

/// What is seen of a session in passing, and put into it.
struct Ends<'a> {
    observer: &'a dyn Observer,
    /// Takes what the destination did.
    done: &'a (dyn Fn(Summary) + Sync),
    /// Set when the source says that there will be no other round.
    has_parted: &'a AtomicBool,
    /// Whether the source shall be asked for that.
    wish: &'a (dyn Fn() -> bool + Sync),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes frames in both directions until both end. `is_over` says whether that was meant.
fn relay(
    source: Link,
    destination: Link,
    ends: &Ends<'_>,
    cancel: &Cancel,
    is_over: impl Fn() -> bool,
) -> Result<()> {
    let lost = |err| Error::io("watch", b"the connections", err);
    let aborters = [
        source.aborter().map_err(lost)?,
        destination.aborter().map_err(lost)?,
    ];
    let outcome = thread::scope(|scope| {
        let down = scope.spawn(|| {
            let look = |body: &[u8]| from_source(decode_message(body)?, ends);
            pass(source.reader, destination.writer, look, || Ok(None))
        });
        let up = scope.spawn(|| {
            let mut has_asked = false;
            let look = |body: &[u8]| from_destination(decode_message(body)?, ends);
            pass(destination.reader, source.writer, look, || {
                if has_asked || !(ends.wish)() {
                    return Ok(None);
                }
                has_asked = true;
                encode_message(&FromDestination::Drain).map(Some)
            })
        });
        watch(&aborters, cancel, || [down.is_finished(), up.is_finished()]);
        let join = |end: thread::ScopedJoinHandle<'_, Result<()>>| {
            end.join()
                .unwrap_or_else(|_| Err(Error::protocol("the relay panicked")))
        };
        (join(down), join(up))
    });
    cancel.check()?;
    match (is_over(), outcome) {
        (true, _) => {
            source.guard.finish()?;
            destination.guard.finish()?;
            Ok(())
        }
        // What an agent said itself is the reason; a broken stream is its echo.
        (false, (Err(err @ Error::Remote(_)), _) | (_, Err(err @ Error::Remote(_)))) => Err(err),
        (false, _) => {
            source.guard.finish()?;
            destination.guard.finish()?;
            Err(Error::Connection(
                "an agent ended before all was done".to_string(),
            ))
        }
    }
}

/// Waits for both directions to end. When one fails to, or the run is interrupted, cuts both.
fn watch(aborters: &[Aborter; 2], cancel: &Cancel, finished: impl Fn() -> [bool; 2]) {
    let mut half_since = None;
    loop {
        match finished() {
            [true, true] => return,
            [false, false] => half_since = None,
            _ => {
                half_since.get_or_insert_with(Instant::now);
            }
        }
        let is_stuck = half_since.is_some_and(|since: Instant| since.elapsed() > HALF);
        if cancel.is_cancelled() || is_stuck {
            aborters.iter().for_each(Aborter::abort);
        }
        thread::sleep(TICK);
    }
}

fn from_source(message: FromSource, ends: &Ends<'_>) -> Result<Pass> {
    match message {
        FromSource::Event(event) => {
            ends.observer.observe(event);
            Ok(Pass::Keep)
        }
        FromSource::Failed(error) => Err(Error::Remote(error)),
        FromSource::Part => {
            ends.has_parted.store(true, Ordering::Relaxed);
            Ok(Pass::On)
        }
        _ => Ok(Pass::On),
    }
}

fn from_destination(message: FromDestination, ends: &Ends<'_>) -> Result<Pass> {
    match message {
        FromDestination::Event(event) => {
            ends.observer.observe(event);
            return Ok(Pass::Keep);
        }
        FromDestination::Failed(error) => return Err(Error::Remote(error)),
        FromDestination::Done(done) => (ends.done)(*done),
        _ => {}
    }
    Ok(Pass::On)
}

/// Passes frames on until the reader ends, and what `add` gives between them. Dropping the two ends
/// tells both agents.
fn pass(
    mut reader: LinkReader,
    mut writer: LinkWriter,
    mut look: impl FnMut(&[u8]) -> Result<Pass>,
    mut add: impl FnMut() -> Result<Option<Vec<u8>>>,
) -> Result<()> {
    let broken = |err: io::Error| Error::Connection(format!("an agent's connection broke: {err}"));
    loop {
        // Between any two frames: where they never cease there is no pause to wait for.
        loop {
            if let Some(frame) = add()? {
                writer.write_all(&frame).map_err(broken)?;
            }
            if has_more(&reader).map_err(broken)? {
                break;
            }
        }
        let mut header = [0; HEADER];
        match reader.read_exact(&mut header) {
            Ok(()) => {}
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(err) => return Err(broken(err)),
        }
        let (len, kind) = parse_header(header)?;
        let mut body = vec![0; len];
        reader.read_exact(&mut body).map_err(broken)?;
        let is_message = kind & 0x7f == FrameKind::Message as u8;
        if is_message && look(&decode(kind, body.clone())?.body)? == Pass::Keep {
            continue;
        }
        writer.write_all(&header).map_err(broken)?;
        writer.write_all(&body).map_err(broken)?;
    }
}

/// Waits a while for something to read, or the end of it.
fn has_more(reader: &LinkReader) -> io::Result<bool> {
    let mut fds = [PollFd::new(reader, PollFlags::IN)];
    let a_while = Timespec {
        tv_sec: 0,
        tv_nsec: 250_000_000,
    };
    match poll(&mut fds, Some(&a_while)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(err) => Err(err.into()),
    }
}
