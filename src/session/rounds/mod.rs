//! A session of many rounds: the same two roles over a link that stays, so that a round costs what
//! changed since the last.
//!
//! The source hears of changes and begins rounds; the destination answers, and looks after the
//! standby: its marker, what others change in it, its former states. Between rounds both rest, a
//! thread each. A round is an ordinary sync of two trees of which both ends know most already.

mod bandwidth;
mod destination;
mod rest;
mod source;
mod torn;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::error::{Error, Result};
use crate::events::{Cancel, Event, Observer, Phase, Side};
use crate::options::Mirroring;
use crate::protocol::message::{Open, OpenSession};
use crate::session::local::LocalSource;
use crate::session::source::SourceKind;
use crate::session::{Job, agent, destination_role, reach, relay, source_role};
use crate::transport::{Aborter, Link, LinkReader, LinkWriter, Location, pair};
use destination::DestinationRounds;
pub(crate) use source::SourceRounds;

/// What is wished of rounds that are under way.
#[derive(Clone, Debug, Default)]
pub struct Wishes(Arc<AtomicBool>);

impl Wishes {
    /// Wishes, or no longer wishes, that all that changed is brought over, and then no more: the
    /// rounds end well.
    pub fn drain(&self, wished: bool) {
        self.0.store(wished, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What outlives a connection: the watch over a source on this host, and what it heard of that did
/// not arrive.
#[derive(Default)]
pub struct Keeper {
    source: Option<SourceRounds>,
}

impl Keeper {
    /// Hears what changed while there is no connection, and tells how far the standby is behind.
    pub fn listen(&mut self, observer: &dyn Observer) {
        if let Some(source) = &mut self.source {
            source.listen(&|event| observer.observe(Event::Round(event)));
        }
    }
}

/// Runs rounds until a wish or an error ends them. `Ok`: all that changed has arrived, and the two
/// ends have parted.
///
/// # Errors
///
/// [`Error::Interrupted`] once `cancel` says so; those of a sync, of which the same call can go on
/// from where this one ended.
pub fn run_rounds(
    job: &Job,
    mirroring: &Mirroring,
    keeper: &mut Keeper,
    wishes: &Wishes,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<()> {
    let outcome = match (&job.source, &job.destination) {
        (Location::Local(source), Location::Local(destination)) => {
            let ends = (source.as_path(), destination.as_path());
            run_here(job, mirroring, ends, keeper, wishes, observer, cancel)
        }
        (Location::Local(source), Location::Remote(_)) => {
            observer.observe(Event::Phase(Phase::Connecting));
            let role = source_role(job, source, observer, cancel);
            let link = reach_for_rounds(job, Side::Destination, mirroring, observer, cancel)?;
            let rounds = keeper
                .source
                .get_or_insert_with(|| SourceRounds::new(mirroring));
            with_link(link, cancel, |reader, writer| {
                rounds.run(&role, mirroring, reader, writer, wishes)
            })
        }
        (Location::Remote(_), Location::Local(destination)) => {
            observer.observe(Event::Phase(Phase::Connecting));
            let role = destination_role(job, destination, None, observer, cancel);
            let link = reach_for_rounds(job, Side::Source, mirroring, observer, cancel)?;
            with_link(link, cancel, |reader, writer| {
                DestinationRounds::new(&role, mirroring).run(reader, writer, wishes)
            })
        }
        (Location::Remote(_), Location::Remote(_)) => {
            observer.observe(Event::Phase(Phase::Connecting));
            let source = reach_for_rounds(job, Side::Source, mirroring, observer, cancel)?;
            let destination =
                reach_for_rounds(job, Side::Destination, mirroring, observer, cancel)?;
            let wish = || wishes.is_draining();
            relay::run_rounds(source, destination, observer, &wish, cancel)
        }
    };
    outcome.map_err(|err| match err {
        // Whichever end heard of it first: a connection that was cut, an end that gave up.
        Error::Connection(_) | Error::Remote(_) if cancel.is_cancelled() => Error::Interrupted,
        err => err,
    })
}

/// Serves rounds as an agent.
pub(super) fn serve(
    open: &OpenSession,
    mirroring: &Mirroring,
    root: PathBuf,
    link: Link,
    cancel: &Cancel,
) -> Result<()> {
    let Link {
        mut reader,
        mut writer,
        ..
    } = link;
    let wishes = Wishes::default();
    match open.side {
        Side::Source => {
            let role = agent::source_role(open, &root, cancel);
            let mut rounds = SourceRounds::new(mirroring);
            rounds.run(&role, mirroring, &mut reader, &mut writer, &wishes)
        }
        Side::Destination => {
            let role = agent::destination_role(open, &root, cancel);
            DestinationRounds::new(&role, mirroring).run(&mut reader, &mut writer, &wishes)
        }
    }
}

/// Both roles in this process.
fn run_here(
    job: &Job,
    mirroring: &Mirroring,
    (source, destination): (&Path, &Path),
    keeper: &mut Keeper,
    wishes: &Wishes,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<()> {
    let sending = source_role(job, source, observer, cancel);
    let local = match &sending.kind {
        SourceKind::Tree => LocalSource::open(source)?,
        SourceKind::Manifest => return Err(no_tree(source)),
    };
    let receiving = destination_role(job, destination, Some(&local), observer, cancel);
    let rounds = keeper
        .source
        .get_or_insert_with(|| SourceRounds::new(mirroring));
    let (near, far) = pair().map_err(|err| Error::io("connect", b"both ends", err))?;
    let (near_guard, far_guard) = (near.guard, far.guard);
    let outcome = thread::scope(|scope| {
        let sent = scope.spawn(|| {
            let (mut reader, mut writer) = (near.reader, near.writer);
            rounds.run(&sending, mirroring, &mut reader, &mut writer, wishes)
        });
        let received = scope.spawn(|| {
            let (mut reader, mut writer) = (far.reader, far.writer);
            let mut rounds = DestinationRounds::new(&receiving, mirroring);
            rounds.run(&mut reader, &mut writer, &Wishes::default())
        });
        let join = |end: thread::ScopedJoinHandle<'_, Result<()>>| {
            end.join()
                .unwrap_or_else(|_| Err(Error::protocol("a role panicked")))
        };
        // Each end reports the other's error as it heard it; the first-hand one is better.
        match (join(sent), join(received)) {
            (Err(Error::Remote(_) | Error::Connection(_)), Err(err)) => Err(err),
            (Err(err), _) | (Ok(()), Err(err)) => Err(err),
            (Ok(()), Ok(())) => Ok(()),
        }
    });
    near_guard.finish()?;
    far_guard.finish()?;
    outcome
}

fn no_tree(source: &Path) -> Error {
    Error::Usage(format!(
        "{} is a manifest, not a tree: it cannot be mirrored",
        source.display()
    ))
}

fn reach_for_rounds(
    job: &Job,
    side: Side,
    mirroring: &Mirroring,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Link> {
    reach(job, side, observer, cancel, |open| {
        Open::Rounds(Box::new(open), Box::new(mirroring.clone()))
    })
}

/// Runs one end over a link, and ends the link as that ended.
fn with_link(
    link: Link,
    cancel: &Cancel,
    role: impl FnOnce(&mut LinkReader, &mut LinkWriter) -> Result<()>,
) -> Result<()> {
    let aborter = link.aborter();
    let aborter = aborter.map_err(|err| Error::io("watch", b"the connection", err))?;
    let Link {
        mut reader,
        mut writer,
        mut guard,
    } = link;
    match role(&mut reader, &mut writer) {
        Ok(()) => guard.finish(),
        Err(err) if cancel.is_cancelled() => {
            guard.abort();
            Err(err)
        }
        // The far end's own last words say more than a broken pipe.
        Err(Error::Connection(message)) => {
            Aborter::abort(&aborter);
            match guard.finish() {
                Err(cause @ Error::Connection(_)) => Err(cause),
                _ => Err(Error::Connection(message)),
            }
        }
        Err(err) => {
            guard.abort();
            Err(err)
        }
    }
}
