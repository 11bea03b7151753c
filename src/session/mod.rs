//! One root, both roles: joins reading, comparing and writing into a sync.
//!
//! [`run`] is where a library's user starts; a [`Host`] does what else a plan asks of one. It brings up a source and a destination, each in this
//! process or as an agent on another host, lets them talk, and returns what was done. `source` and
//! `destination` are the roles; which of them is here only decides who is told of events.

mod agent;
mod destination;
mod errands;
mod export;
mod fence;
mod host;
mod local;
mod modes;
mod relay;
pub(crate) mod root;
mod rounds;
mod source;
mod standing;
mod throttle;

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crate::error::{Error, ErrorClass, Result};
use crate::events::{Both, Event, Observer, Phase, Side, Summary, Warning};
use crate::fs::Dir;
use crate::manifest::state::State;
use crate::options::SyncOptions;
use crate::protocol::message::{Open, OpenSession};
use crate::transport::{Link, Location, RemoteOptions, open_agent, pair};
use destination::DestinationRole;
use local::LocalSource;
use source::{SourceKind, SourceRole};

pub use crate::events::Cancel;
pub use crate::protocol::message::Mode;
pub use agent::serve_agent;
pub(crate) use destination::{Resolver, kept};
pub use export::export_manifest;
pub(crate) use export::write_manifest;
pub(crate) use fence::refuse_fenced;
pub use host::Host;
pub(crate) use modes::ModeRules;
pub use rounds::{Keeper, Wishes, run_rounds};

/// One sync, diff or verify.
#[derive(Clone, Debug)]
pub struct Job {
    /// Where entries are read. For diff and verify also a manifest file.
    pub source: Location,
    /// Where entries are written.
    pub destination: Location,
    /// What to do.
    pub options: SyncOptions,
    /// How to reach an end that is on another host.
    pub remote: Both<RemoteOptions>,
    /// What for.
    pub mode: Mode,
}

/// Runs a job to its end. What concerns single entries comes as events and in the summary's
/// counts; an error means that the run ended early.
pub fn run(job: &Job, observer: Arc<dyn Observer>, cancel: &Cancel) -> Result<Summary> {
    let started = Instant::now();
    let summary = run_between(job, observer.as_ref(), cancel).map_err(|err| match err.class() {
        // Whichever end heard of it first: a connection that was cut, an end that gave up.
        ErrorClass::Connection if cancel.is_cancelled() => Error::Interrupted,
        ErrorClass::Interrupted => Error::Interrupted,
        _ => err,
    })?;
    Ok(Summary {
        elapsed: started.elapsed(),
        ..summary
    })
}

fn run_between(job: &Job, observer: &dyn Observer, cancel: &Cancel) -> Result<Summary> {
    match (&job.source, &job.destination) {
        (Location::Local(source), Location::Local(destination)) => {
            run_local(job, source, destination, observer, cancel)
        }
        (Location::Local(source), Location::Remote(_)) => {
            observer.observe(Event::Phase(Phase::Connecting));
            let role = source_role(job, source, observer, cancel);
            let link = reach(job, Side::Destination, observer, cancel, one_session)?;
            with_link(link, cancel, |link| role.run(link.reader, link.writer))
        }
        (Location::Remote(_), Location::Local(destination)) => {
            observer.observe(Event::Phase(Phase::Connecting));
            let role = destination_role(job, destination, None, observer, cancel);
            let link = reach(job, Side::Source, observer, cancel, one_session)?;
            with_link(link, cancel, |link| role.run(link.reader, link.writer))
        }
        (Location::Remote(_), Location::Remote(_)) => {
            observer.observe(Event::Phase(Phase::Connecting));
            relay::run(
                reach(job, Side::Source, observer, cancel, one_session)?,
                reach(job, Side::Destination, observer, cancel, one_session)?,
                observer,
                cancel,
            )
        }
    }
}

fn source_role<'a>(
    job: &'a Job,
    root: &'a Path,
    observer: &'a dyn Observer,
    cancel: &'a Cancel,
) -> SourceRole<'a> {
    SourceRole {
        root,
        kind: SourceKind::of(root, job.mode),
        options: &job.options,
        mode: job.mode,
        observer,
        cancel,
        forwards: false,
    }
}

fn destination_role<'a>(
    job: &'a Job,
    root: &'a Path,
    local_source: Option<&'a LocalSource>,
    observer: &'a dyn Observer,
    cancel: &'a Cancel,
) -> DestinationRole<'a> {
    DestinationRole {
        root,
        options: &job.options,
        mode: job.mode,
        observer,
        cancel,
        forwards: false,
        local_source,
    }
}

/// Both roles in this process.
fn run_local(
    job: &Job,
    source: &Path,
    destination: &Path,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Summary> {
    let sending = source_role(job, source, observer, cancel);
    let local = match &sending.kind {
        SourceKind::Tree => Some(LocalSource::open(source)?),
        SourceKind::Manifest => None,
    };
    let receiving = destination_role(job, destination, local.as_ref(), observer, cancel);
    let (near, far) = pair().map_err(|err| Error::io("connect", b"both ends", err))?;
    let (near_guard, far_guard) = (near.guard, far.guard);
    let outcome = thread::scope(|scope| {
        let sent = scope.spawn(|| sending.run(near.reader, near.writer));
        let received = receiving.run(far.reader, far.writer);
        let sent = sent
            .join()
            .unwrap_or_else(|_| Err(Error::protocol("the source panicked")));
        match (sent, received) {
            // Each end reports the other's error as it heard it; the first-hand one is better.
            (Err(err), Err(Error::Remote(_) | Error::Connection(_))) => Err(err),
            (_, received) => received,
        }
    });
    near_guard.finish()?;
    far_guard.finish()?;
    outcome
}

/// Reaches the agent at one end of a job and tells it what it shall be.
fn reach(
    job: &Job,
    side: Side,
    observer: &dyn Observer,
    cancel: &Cancel,
    open: impl FnOnce(OpenSession) -> Open,
) -> Result<Link> {
    let location = match side {
        Side::Source => &job.source,
        Side::Destination => &job.destination,
    };
    let Location::Remote(remote) = location else {
        return Err(Error::Usage(format!("the {} is not remote", side.noun())));
    };
    let options = job.remote.of(side);
    let mut link = open_agent(remote, options, observer, cancel)?;
    let what = OpenSession {
        side,
        root: remote.path.clone(),
        sudo: options.sudo,
        options: job.options.clone(),
        mode: job.mode,
    };
    agent::send_open(&mut link, &open(what))?;
    Ok(link)
}

fn one_session(open: OpenSession) -> Open {
    Open::Session(Box::new(open))
}

/// Runs a role over a link, and ends the link as the role ended.
fn with_link(
    link: Link,
    cancel: &Cancel,
    role: impl FnOnce(Ends) -> Result<Summary>,
) -> Result<Summary> {
    let Link {
        reader,
        writer,
        mut guard,
    } = link;
    match role(Ends { reader, writer }) {
        Ok(summary) => {
            guard.finish()?;
            Ok(summary)
        }
        Err(err) if cancel.is_cancelled() => {
            guard.abort();
            Err(err)
        }
        // The far end's own last words say more than a broken pipe.
        Err(Error::Connection(message)) => match guard.finish() {
            Err(cause @ Error::Connection(_)) => Err(cause),
            _ => Err(Error::Connection(message)),
        },
        Err(err) => {
            guard.abort();
            Err(err)
        }
    }
}

/// The two directions of a link.
struct Ends {
    reader: crate::transport::LinkReader,
    writer: crate::transport::LinkWriter,
}

/// How many threads read a tree. `statx` is bound by the CPU when the cache is warm and by the
/// disk's queue when it is not: a few more than two help then, on machines that have them.
pub(crate) fn scan_threads() -> usize {
    thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, 8)
}

/// How many threads read and send files.
fn send_threads() -> usize {
    thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, 8)
}

/// How many threads write files: they wait for the filesystem's journal as much as they work.
fn write_threads() -> usize {
    thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, 8)
}

/// Opens a root's state; without it the run is right too, and says so once.
fn open_state(root: &Path, side: Side, tell: &dyn Fn(Event)) -> Option<State> {
    match State::open(root) {
        Ok(state) => Some(state),
        Err(why) => {
            tell(Event::Warning(Warning {
                topic: "state".to_string(),
                entries: 0,
                message: format!(
                    "the {}'s state is not used ({why}): this run is slower, not less right",
                    side.noun()
                ),
            }));
            None
        }
    }
}

/// What every run notes of its root.
fn state_notes(root: &Dir) -> Vec<(&'static str, Vec<u8>)> {
    match root.stat_self() {
        Ok(stat) => vec![("device", stat.dev.to_le_bytes().to_vec())],
        Err(_) => Vec::new(),
    }
}
