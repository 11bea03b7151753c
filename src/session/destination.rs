//! The destination's role: compares, decides, asks for what it lacks, and writes it.
//!
//! Three kinds of threads share a [`Session`]. One hears the source (`link`) and hands on what it
//! says. One leads (`lead`): it greets (`greeting`), compares (`compare`) into a `plan`, improves
//! it (`moves`, `hard_links`) and carries it out (`carry_out`). The others write (`receive`, `lane`,
//! `streamed`), and ask for the next file (`pending`, `ask`) as they are done with one.

mod abilities;
mod ask;
mod carry_out;
mod compare;
mod counts;
mod greeting;
mod hard_links;
mod lane;
mod lead;
mod link;
mod moved;
mod moves;
mod owners;
mod pending;
mod plan;
mod receive;
mod shifts;
mod streamed;
mod tasks;
mod tell;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::apply::{Applier, RootLock};
use crate::error::{Error, Result};
use crate::events::{Cancel, Event, Observer, Side, Summary};
use crate::manifest::record::RecordRules;
use crate::manifest::state::{BlockBook, FactBook, State};
use crate::options::SyncOptions;
use crate::path::{Name, RelPath};
use crate::protocol::conn::{CREDIT, Outbox, run_writer};
use crate::protocol::frame::decode_message;
use crate::protocol::message::{FromDestination, FromSource, ListingReply, Mode};
use crate::session::local::LocalSource;
use crate::session::standing::Standing;
use crate::session::throttle::Throttle;
use crate::transport::{LinkReader, LinkWriter};
use counts::Counts;
pub(crate) use greeting::kept;
pub(crate) use owners::Resolver;
use pending::Pending;
pub(in crate::session) use plan::FilePlan;
use streamed::Leaders;
use tell::ToldDirs;

/// How often a file that changes while it is read is tried before it is reported as churn.
pub(super) const ATTEMPTS: u8 = 3;

/// How many local files a thread copies before another may take the next ones.
const FILES_A_TASK: usize = 64;

/// Credit is granted back in steps of this many bytes: often enough to keep the source going,
/// seldom enough to cost nothing.
const CREDIT_STEP: u64 = CREDIT / 32;

/// What one session of the destination is made with.
#[derive(Clone, Copy)]
pub(crate) struct DestinationRole<'a> {
    /// The root on this host.
    pub(crate) root: &'a Path,
    /// What the run was asked to do.
    pub(crate) options: &'a SyncOptions,
    /// What the run is for.
    pub(crate) mode: Mode,
    /// Who watches.
    pub(crate) observer: &'a dyn Observer,
    /// Who may stop it.
    pub(crate) cancel: &'a Cancel,
    /// Whether events go to the other end: it is nearer to who watches.
    pub(crate) forwards: bool,
    /// The source's tree, where it is on this host and its files are copied directly.
    pub(crate) local_source: Option<&'a LocalSource>,
}

/// Something that the source said, with what it cost.
pub(super) struct Reply<T> {
    message: T,
    cost: u64,
}

/// Whether streams carry content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContentInline {
    Yes,
    No,
}

/// What all threads of the destination share.
pub(super) struct Session<'a> {
    role: &'a DestinationRole<'a>,
    shared: &'a link::Incoming,
    outbox: &'a Outbox,
    failure: &'a Mutex<Option<Error>>,
    applier: Option<Applier>,
    rules: RecordRules,
    content_inline: ContentInline,
    pending: &'a Pending,
    counts: Counts,
    throttle: Throttle,
    leaders: Mutex<Leaders>,
    state: Option<&'a State>,
    told: Mutex<ToldDirs>,
    facts: FactBook,
    blocks: BlockBook,
    owed: Mutex<u64>,
    /// Bytes that have come in.
    received: Arc<AtomicU64>,
    /// What interrupted runs left behind.
    leftovers: OnceLock<Vec<(RelPath, Name)>>,
}

impl DestinationRole<'_> {
    /// Runs a session of one round, and then ends the stream. Returns what was done.
    pub(crate) fn run(&self, mut reader: LinkReader, mut writer: LinkWriter) -> Result<Summary> {
        self.round(&mut reader, &mut writer, &mut Standing::default())
    }

    /// Runs one round. The stream ends with it unless `standing` is of many and all went well.
    pub(crate) fn round(
        &self,
        reader: &mut LinkReader,
        writer: &mut LinkWriter,
        standing: &mut Standing,
    ) -> Result<Summary> {
        let stays = standing.stays();
        let outbox = Outbox::new(u64::MAX);
        let shared = link::Incoming::default();
        let failure = Mutex::new(None);
        let compress = self.options.transfer.compress;
        std::thread::scope(|scope| {
            scope.spawn(|| run_writer(&outbox, writer, compress, self.cancel));
            scope.spawn(|| link::read(self, reader, &shared, &outbox, &failure));
            let outcome = self.serve(&outbox, &shared, &failure, standing);
            let cause = failure
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            // The thread that failed knows best why: what the leading one sees is its echo.
            let outcome = match (outcome, cause) {
                (Err(Error::Connection(_)), Some(cause)) => Err(cause),
                (Err(Error::Interrupted), Some(cause)) if self.forwards => Err(cause),
                (outcome, _) => outcome,
            };
            standing.has_met |= outcome.is_ok();
            match &outcome {
                Ok(_) if stays => outbox.pause(),
                Ok(_) => outbox.close(),
                Err(err) => {
                    // The other end learns why; if it is gone, there is nobody to tell.
                    let _ = outbox.say(&FromDestination::Failed(err.to_remote()));
                    outbox.close();
                }
            }
            outcome
        })
    }

    fn serve(
        &self,
        outbox: &Outbox,
        shared: &link::Incoming,
        failure: &Mutex<Option<Error>>,
        standing: &mut Standing,
    ) -> Result<Summary> {
        self.refuse_contradictions()?;
        let hello = shared.hello.take().ok_or_else(closed)?;
        let dry_run = self.is_dry();
        // All that can refuse the run comes before the root is made.
        let mut root = self.find_root(&hello)?;
        let filter = self.filter()?;
        let resolver = Resolver::new(&self.options.ownership)?;
        if !dry_run {
            root.create()?;
        }
        if let Some(dir) = &root.dir {
            standing.refuse_another_root(dir, &self.root.display().to_string())?;
            standing.lock = match standing.lock.take() {
                Some(lock) => Some(lock),
                None if dry_run => Some(RootLock::shared(dir, self.root)?),
                None => Some(RootLock::exclusive(dir, self.root)?),
            };
        }
        let state = match &root.dir {
            Some(_) => crate::session::open_state(&root.canonical, Side::Destination, &|event| {
                self.tell(outbox, event);
            }),
            None => None,
        };
        let abilities = self.abilities(&root, state.as_ref())?;
        self.refuse_read_only(&abilities)?;
        let rules = self.agree(&hello, &abilities);
        let resolver = match abilities.owners || self.options.fake_super {
            true => resolver,
            false => resolver.confined(),
        };
        // A source that there is nothing to take of shall be scanned, and watched, all the same.
        let empty = self.is_empty(&root)? && !standing.has_met;
        let inline = match self.local_source.is_some() || dry_run {
            true => ContentInline::No,
            false => ContentInline::Yes,
        };
        if empty {
            // The stream may be complete before the first thread here looks.
            shared.pending.expect_stream(RelPath::root());
        }
        self.say_hello(
            &hello, &root, resolver, rules, empty, inline, outbox, shared,
        )?;
        let session = Session {
            role: self,
            shared,
            outbox,
            failure,
            applier: self.applier(&root, rules, dry_run)?,
            rules,
            content_inline: inline,
            pending: &shared.pending,
            counts: Counts::default(),
            throttle: Throttle::new(self.options.transfer.bandwidth_bytes_per_s),
            leaders: Mutex::default(),
            state: state.as_ref(),
            told: Mutex::new(ToldDirs::at_start(empty)),
            facts: FactBook::default(),
            blocks: BlockBook::default(),
            owed: Mutex::default(),
            received: Arc::clone(&shared.received),
            leftovers: OnceLock::new(),
        };
        session.run(&root, &filter, empty, standing)
    }

    fn is_dry(&self) -> bool {
        self.options.dry_run || self.mode != Mode::Sync
    }

    /// Tells who watches, here or through the other end.
    fn tell(&self, outbox: &Outbox, event: Event) {
        if self.forwards {
            // If the connection broke, the session ends with an error anyway.
            let _ = outbox.say(&FromDestination::Event(event));
        } else {
            self.observer.observe(event);
        }
    }
}

impl Session<'_> {
    pub(super) fn options(&self) -> &SyncOptions {
        self.role.options
    }

    fn dry_run(&self) -> bool {
        self.applier.is_none()
    }

    fn applier(&self) -> Result<&Applier> {
        // Only a dry run has none, and it asks for no content.
        self.applier
            .as_ref()
            .ok_or_else(|| Error::protocol("content in a dry run"))
    }

    fn say(&self, message: &FromDestination) -> Result<()> {
        self.outbox.say(message)
    }

    fn next_listing(&self) -> Result<Reply<ListingReply>> {
        let frame = self.shared.listings.pop().ok_or_else(|| self.broken())?;
        match decode_message(&frame.body)? {
            FromSource::Listing(message) => Ok(Reply {
                message,
                cost: frame.credit_bytes,
            }),
            _ => Err(Error::protocol("another message where a listing was meant")),
        }
    }

    fn listings_idle(&self) -> bool {
        self.shared.listings.is_empty()
    }

    /// Grants back what a frame cost, a good deal at a time.
    fn give_credit(&self, cost: u64) -> Result<()> {
        self.shared.under_way.fetch_sub(cost, Ordering::Relaxed);
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        *owed += cost;
        if *owed < CREDIT_STEP {
            return Ok(());
        }
        let bytes = std::mem::take(&mut *owed);
        drop(owed);
        self.say(&FromDestination::Credit(bytes))
    }

    fn flush_credit(&self) -> Result<()> {
        let bytes = std::mem::take(&mut *self.owed.lock().unwrap_or_else(PoisonError::into_inner));
        self.say(&FromDestination::Credit(bytes))
    }

    /// Ends the session with an error from any thread.
    fn fail(&self, err: Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(err);
        drop(failure);
        self.shared.tasks.abort();
        self.shared.listings.abort();
        self.shared.links.abort();
        self.shared.hashes.abort();
        self.shared.scanned.abort();
    }

    /// Fails once another thread has.
    fn check(&self) -> Result<()> {
        self.role.cancel.check()?;
        let failed = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        if failed { Err(self.broken()) } else { Ok(()) }
    }

    /// What is returned where another thread's failure is the reason.
    fn broken(&self) -> Error {
        match self.role.cancel.check() {
            Err(err) => err,
            Ok(()) => closed(),
        }
    }
}

fn closed() -> Error {
    Error::Connection("the session ended before all was done".to_string())
}

/// Cuts work into portions for several threads.
fn chunks<T>(items: Vec<T>, most: usize) -> Vec<Vec<T>> {
    let mut parts = Vec::with_capacity(items.len().div_ceil(most));
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        parts.push(items.by_ref().take(most).collect());
    }
    parts
}
