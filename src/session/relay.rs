//! Remote to remote: passes frames between two agents, keeps their events, and notices the end.

use std::io::{self, Read, Write};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::events::{Cancel, Observer, Summary};
use crate::protocol::frame::{FrameKind, HEADER, decode, decode_message, parse_header};
use crate::protocol::message::{FromDestination, FromSource};
use crate::transport::{Aborter, Link, LinkReader, LinkWriter};

/// How soon an interrupt, or the end of one side, is noticed.
const TICK: Duration = Duration::from_millis(50);

/// What becomes of a message.
#[derive(PartialEq, Eq)]
enum Pass {
    /// It goes on to the other agent.
    On,
    /// It was for us.
    Keep,
}

/// Relays one session.
pub(super) fn run(
    source: Link,
    destination: Link,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Summary> {
    let lost = |err| Error::io("watch", b"the connections", err);
    let aborters = [
        source.aborter().map_err(lost)?,
        destination.aborter().map_err(lost)?,
    ];
    let summary = Mutex::new(None);
    let outcome = thread::scope(|scope| {
        let down = scope.spawn(|| {
            pass(source.reader, destination.writer, |body| {
                from_source(decode_message(body)?, observer)
            })
        });
        let up = scope.spawn(|| {
            pass(destination.reader, source.writer, |body| {
                from_destination(decode_message(body)?, observer, &summary)
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
    let done = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    match (done, outcome) {
        (Some(summary), _) => {
            source.guard.finish()?;
            destination.guard.finish()?;
            Ok(summary)
        }
        // What an agent said itself is the reason; a broken stream is its echo.
        (None, (Err(err @ Error::Remote(_)), _) | (_, Err(err @ Error::Remote(_)))) => Err(err),
        (None, _) => {
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
    loop {
        match finished() {
            [true, true] => return,
            _ if cancel.is_cancelled() => aborters.iter().for_each(Aborter::abort),
            _ => {}
        }
        thread::sleep(TICK);
    }
}

fn from_source(message: FromSource, observer: &dyn Observer) -> Result<Pass> {
    match message {
        FromSource::Event(event) => {
            observer.observe(event);
            Ok(Pass::Keep)
        }
        FromSource::Failed(error) => Err(Error::Remote(error)),
        _ => Ok(Pass::On),
    }
}

fn from_destination(
    message: FromDestination,
    observer: &dyn Observer,
    summary: &Mutex<Option<Summary>>,
) -> Result<Pass> {
    match message {
        FromDestination::Event(event) => {
            observer.observe(event);
            return Ok(Pass::Keep);
        }
        FromDestination::Failed(error) => return Err(Error::Remote(error)),
        FromDestination::Done(done) => {
            *summary.lock().unwrap_or_else(PoisonError::into_inner) = Some(*done);
        }
        _ => {}
    }
    Ok(Pass::On)
}

/// Passes frames on until the reader ends. Dropping the two ends tells both agents.
fn pass(
    mut reader: LinkReader,
    mut writer: LinkWriter,
    mut look: impl FnMut(&[u8]) -> Result<Pass>,
) -> Result<()> {
    let broken = |err: io::Error| Error::Connection(format!("an agent's connection broke: {err}"));
    loop {
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
