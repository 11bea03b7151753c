//! The source's ear: reads what the destination says and puts it where it is waited for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::delta::Signature;
use crate::error::{Error, Result};
use crate::events::Summary;
use crate::protocol::conn::{Inbox, Outbox};
use crate::protocol::frame::{FrameKind, decode_message};
use crate::protocol::message::{DestinationHello, FromDestination, OwnerReply};
use crate::protocol::queue::{Queue, Slot};
use crate::session::source::SourceRole;
use crate::session::source::serving::Job;
use crate::session::source::stream::{StreamJob, Ticket};
use crate::transport::LinkReader;

/// Requests that wait to be served are bounded like this, in number. The destination keeps to
/// far less; more means that it is hostile or broken.
const MAX_JOBS_IN_ONE_MESSAGE: usize = 1 << 20;

/// What the destination says, by who waits for it.
#[derive(Default)]
pub(super) struct Incoming {
    pub(super) hello: Slot<DestinationHello>,
    pub(super) owners: Queue<Vec<OwnerReply>>,
    pub(super) jobs: Queue<Job>,
    pub(super) sums: SumsSlots,
    pub(super) done: Slot<Summary>,
    /// Whether no more rounds are wanted than it takes to bring over what changed.
    pub(super) drain: AtomicBool,
}

/// Threads that wait for finer sums of the file they are sending.
#[derive(Default)]
pub(super) struct SumsSlots(Mutex<HashMap<u64, Arc<Slot<Signature>>>>);

impl SumsSlots {
    /// Opens a slot for a file's sums.
    pub(super) fn open(&self, id: u64) -> Arc<Slot<Signature>> {
        let slot = Arc::new(Slot::default());
        self.lock().insert(id, Arc::clone(&slot));
        slot
    }

    fn put(&self, id: u64, signature: Option<Signature>) -> Result<()> {
        let slot = self.lock().remove(&id);
        let slot = slot.ok_or_else(|| Error::protocol("sums that nobody asked for"))?;
        match signature {
            Some(signature) => slot.put(signature),
            None => slot.abort(),
        }
        Ok(())
    }

    fn abort(&self) {
        self.lock().drain().for_each(|(_, slot)| slot.abort());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Slot<Signature>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Incoming {
    fn abort(&self) {
        self.hello.abort();
        self.owners.abort();
        self.jobs.abort();
        self.sums.abort();
        self.done.abort();
    }
}

/// Reads until the destination is done or gone. However it ends, nobody is left waiting.
pub(super) fn read(
    role: &SourceRole<'_>,
    reader: &mut LinkReader,
    shared: &Incoming,
    outbox: &Outbox,
) -> Result<()> {
    let outcome = read_all(role, reader, shared, outbox);
    if outcome.is_err() {
        outbox.break_off();
        if role.forwards {
            // Who watches was at the other end: nobody wants the work that is under way.
            role.cancel.cancel();
        }
    }
    shared.abort_unless_done(&outcome);
    outcome
}

impl Incoming {
    fn abort_unless_done(&self, outcome: &Result<()>) {
        if outcome.is_err() {
            self.abort();
        } else {
            self.jobs.close();
        }
    }
}

fn read_all(
    role: &SourceRole<'_>,
    reader: &mut LinkReader,
    shared: &Incoming,
    outbox: &Outbox,
) -> Result<()> {
    let mut inbox = Inbox::new(reader, role.cancel.clone(), Default::default());
    while let Some(frame) = inbox.receive()? {
        if frame.kind != FrameKind::Message {
            return Err(Error::protocol("content from a destination"));
        }
        match decode_message(&frame.body)? {
            FromDestination::Hello(hello) => shared.hello.put(hello),
            FromDestination::Owners(replies) => shared.owners.push(replies),
            FromDestination::Credit(bytes) => outbox.grant(bytes),
            FromDestination::Sums { id, signature } => shared.sums.put(id, signature)?,
            FromDestination::Event(event) => role.observer.observe(event),
            FromDestination::Failed(error) => return Err(Error::Remote(error)),
            FromDestination::Drain => shared.drain.store(true, Ordering::Relaxed),
            FromDestination::Done(summary) => {
                shared.done.put(*summary);
                return Ok(());
            }
            request => queue_request(request, shared)?,
        }
    }
    Err(Error::Connection(
        "the destination closed the connection before it was done".to_string(),
    ))
}

fn queue_request(request: FromDestination, shared: &Incoming) -> Result<()> {
    match request {
        FromDestination::Expand(requests) => {
            check_count(requests.len())?;
            requests
                .into_iter()
                .for_each(|request| shared.jobs.push(Job::Expand(request)));
        }
        FromDestination::ListLinks => shared.jobs.push(Job::ListLinks),
        FromDestination::Stream { dirs, content } => {
            check_count(dirs.len())?;
            for dir in dirs {
                let ticket = Ticket::new(dir.clone());
                shared.jobs.push(Job::Stream(StreamJob {
                    dir,
                    content,
                    ticket,
                }));
            }
        }
        FromDestination::Want(want) => shared.jobs.push(Job::Want(want)),
        FromDestination::Hash(paths) => {
            check_count(paths.len())?;
            paths
                .into_iter()
                .for_each(|path| shared.jobs.push(Job::Hash(path)));
        }
        _ => return Err(Error::protocol("a message out of place")),
    }
    Ok(())
}

fn check_count(count: usize) -> Result<()> {
    if count > MAX_JOBS_IN_ONE_MESSAGE {
        return Err(Error::protocol(format!("{count} requests in one message")));
    }
    Ok(())
}
