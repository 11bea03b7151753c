//! The destination's ear: reads what the source says, answers what can be answered at once, and
//! hands the rest to the thread that compares and to the threads that write.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::path::RelPath;
use crate::protocol::conn::{CREDIT, Inbox, Outbox};
use crate::protocol::frame::{
    Frame, FrameKind, MAX_BODY, decode_batch_dir, decode_data, decode_message,
};
use crate::protocol::message::{
    Bulky, FromDestination, FromSource, LinkGroup, OwnerQuery, Scanned, SourceHello,
};
use crate::protocol::queue::{Queue, Slot};
use crate::session::destination::lane::{Lane, Part};
use crate::session::destination::owners::Resolver;
use crate::session::destination::pending::Pending;
use crate::session::destination::receive::Task;
use crate::session::destination::tasks::Tasks;
use crate::session::destination::{DestinationRole, Reply};
use crate::transport::LinkReader;

/// Large files that may be under way at once; a source sends a few, one for each of its threads.
const MAX_LANES: usize = 256;

/// Each of a source's threads may overdraw its credit by the frame at hand, of 8 MiB at most;
/// there are eight of them.
const OVERDRAFT: u64 = 8 * MAX_BODY as u64;

/// What the source says, by who waits for it.
#[derive(Default)]
pub(super) struct Incoming {
    pub(super) hello: Slot<SourceHello>,
    pub(super) resolver: Slot<Resolver>,
    pub(super) scanned: Slot<Scanned>,
    pub(super) listings: Queue<Frame>,
    pub(super) links: Queue<Reply<(Vec<LinkGroup>, bool)>>,
    pub(super) hashes: Queue<(RelPath, Option<crate::digest::Digest>)>,
    pub(super) tasks: Tasks,
    pub(super) bye: Slot<()>,
    pub(super) pending: Pending,
    /// Bytes that have come in.
    pub(super) received: Arc<AtomicU64>,
    /// Bytes that were paid for and are not done with.
    pub(super) under_way: AtomicU64,
}

impl Incoming {
    fn abort(&self) {
        self.hello.abort();
        self.resolver.abort();
        self.scanned.abort();
        self.listings.abort();
        self.links.abort();
        self.hashes.abort();
        self.tasks.abort();
        self.bye.abort();
    }
}

/// Reads until the source says good-bye or is gone. However it ends badly, nobody is left
/// waiting.
pub(super) fn read(
    role: &DestinationRole<'_>,
    reader: &mut LinkReader,
    shared: &Incoming,
    outbox: &Outbox,
    failure: &Mutex<Option<Error>>,
) {
    let mut ear = Ear {
        role,
        shared,
        outbox,
        resolver: None,
        lanes: HashMap::new(),
    };
    if let Err(err) = ear.listen(reader) {
        let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(err);
        outbox.break_off();
        if role.forwards {
            // Who watches was at the other end: nobody wants the work that is under way.
            role.cancel.cancel();
        }
        shared.abort();
    }
}

struct Ear<'a> {
    role: &'a DestinationRole<'a>,
    shared: &'a Incoming,
    outbox: &'a Outbox,
    resolver: Option<Resolver>,
    /// Large files under way, by the source's number.
    lanes: HashMap<u64, Arc<Lane>>,
}

impl Ear<'_> {
    fn listen(&mut self, reader: &mut LinkReader) -> Result<()> {
        let received = Arc::clone(&self.shared.received);
        let mut inbox = Inbox::new(reader, self.role.cancel.clone(), received);
        while let Some(frame) = inbox.receive()? {
            match frame.kind {
                FrameKind::Message => match Bulky::of(&frame.body)? {
                    Some(kind) => self.keep(kind, frame)?,
                    None => {
                        let cost = frame.credit_bytes;
                        let message: FromSource = decode_message(&frame.body)?;
                        if message.is_paid() {
                            self.charge(cost)?;
                        }
                        if !self.take(message, cost)? {
                            return Ok(());
                        }
                    }
                },
                FrameKind::Data => {
                    self.charge(frame.credit_bytes)?;
                    let (id, offset, _) = decode_data(&frame.body)?;
                    self.append(id, Part::Data { offset, frame })?;
                }
                FrameKind::Batch => {
                    self.charge(frame.credit_bytes)?;
                    let dir = decode_batch_dir(&frame.body)?;
                    self.queue_into(&dir, Task::Batch(frame));
                }
                FrameKind::Heartbeat => {}
            }
        }
        Err(Error::Connection(
            "the source closed the connection before all was done".to_string(),
        ))
    }

    /// Hands on a message that is read by whoever takes it.
    fn keep(&self, kind: Bulky, frame: Frame) -> Result<()> {
        self.charge(frame.credit_bytes)?;
        match kind {
            Bulky::Listing => self.shared.listings.push(frame),
            Bulky::Dir(dir) => self.queue_into(&dir, Task::Dir(frame)),
        }
        Ok(())
    }

    /// Takes one message; `false` after the last.
    fn take(&mut self, message: FromSource, cost: u64) -> Result<bool> {
        let shared = self.shared;
        match message {
            FromSource::Hello(hello) => shared.hello.put(hello),
            FromSource::Owners(queries) => self.answer_owners(&queries)?,
            FromSource::Scanned(scanned) => shared.scanned.put(scanned),
            FromSource::Links { groups, last } => shared.links.push(Reply {
                message: (groups, last),
                cost,
            }),
            FromSource::Listing(_) | FromSource::Dir(_) => {
                return Err(Error::protocol("a listing in disguise"));
            }
            FromSource::Streamed(dir) => self.queue(Task::Streamed(dir)),
            FromSource::Begin {
                id,
                dir,
                entry,
                onto,
            } => self.begin(
                id,
                Part::Begin {
                    dir,
                    entry,
                    onto,
                    cost,
                },
            )?,
            FromSource::Copies { id, ops } => self.append(id, Part::Copies { ops, cost })?,
            FromSource::End { id, outcome } => {
                self.append(id, Part::End { outcome, cost })?;
                self.lanes.remove(&id);
            }
            FromSource::Unsent { path, why } => self.queue(Task::Unsent(path, why, cost)),
            FromSource::Hash { path, hash } => shared.hashes.push((path, hash)),
            FromSource::WantSums { id, spec } => self.append(id, Part::WantSums { id, spec })?,
            FromSource::Event(event) => self.role.observer.observe(event),
            FromSource::Failed(error) => return Err(Error::Remote(error)),
            FromSource::Bye => {
                shared.bye.put(());
                return Ok(false);
            }
            FromSource::Round { .. } | FromSource::Part => {
                return Err(Error::protocol("a round begun or left within a round"));
            }
        }
        Ok(true)
    }

    /// Holds the source to its credit: what has come and is not done with stays bounded.
    fn charge(&self, cost: u64) -> Result<()> {
        let before = self.shared.under_way.fetch_add(cost, Ordering::Relaxed);
        if before > CREDIT + OVERDRAFT {
            return Err(Error::protocol("more content than there was credit for"));
        }
        Ok(())
    }

    /// Hands work to the writing threads; the run is not done before it is.
    fn queue(&self, task: Task) {
        self.shared.pending.add(1);
        self.shared.tasks.push(task);
    }

    /// The same for work in one directory.
    fn queue_into(&self, dir: &RelPath, task: Task) {
        self.shared.pending.add(1);
        self.shared.tasks.push_into(dir, task);
    }

    fn answer_owners(&mut self, queries: &[OwnerQuery]) -> Result<()> {
        if self.resolver.is_none() {
            // The source asks only after our hello, which comes after the resolver.
            self.resolver = self.shared.resolver.take();
        }
        let Some(resolver) = &self.resolver else {
            return Err(Error::Interrupted);
        };
        let replies = queries
            .iter()
            .map(|query| resolver.resolve(query))
            .collect();
        self.outbox.say(&FromDestination::Owners(replies))
    }

    fn begin(&mut self, id: u64, part: Part) -> Result<()> {
        if self.lanes.len() >= MAX_LANES || self.lanes.contains_key(&id) {
            return Err(Error::protocol(format!("file {id} begun out of place")));
        }
        self.lanes.insert(id, Arc::new(Lane::default()));
        self.append(id, part)
    }

    /// Adds a part to a large file. One thread at a time works on a file, so that its parts stay
    /// in order.
    fn append(&mut self, id: u64, part: Part) -> Result<()> {
        let Some(lane) = self.lanes.get(&id) else {
            return Err(Error::protocol(format!(
                "a part of file {id}, which never began"
            )));
        };
        if lane.push(part) {
            self.queue(Task::Lane(Arc::clone(lane)));
        }
        Ok(())
    }
}
