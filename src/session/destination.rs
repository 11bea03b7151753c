//! The destination's role: compares, decides, asks for what it lacks, and writes it.

mod basis;
mod carry_out;
mod compare;
mod counts;
mod link;
mod moves;
mod owners;
mod pending;
mod plan;
mod receive;
mod tasks;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::apply::{Applier, ApplyOptions, Aside};
use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::events::{
    Action, Cancel, Changes, Churn, ChurnKind, Event, Item, Observer, Phase, Problem, Side, Summary,
};
use crate::filter::Rules;
use crate::fs::{self, Abilities, Dir};
use crate::manifest::links::Links;
use crate::manifest::listing::{KeepOwners, Lister, SizeLimits};
use crate::manifest::record::RecordRules;
use crate::manifest::scan::{Scan, ScanOptions, root_digest, scan};
use crate::manifest::state::{FactBook, State};
use crate::options::{Compare, DeltaMode, Fidelity, SyncOptions};
use crate::path::{Name, RelPath};
use crate::protocol::conn::{CREDIT, Outbox, run_writer};
use crate::protocol::message::{
    DestinationHello, FromDestination, ListingReply, Mode, Scanned, SourceHello,
};
use crate::session::local::LocalSource;
use crate::session::root::{DestinationRoot, RootLock, identify, refuse_nested, trash_name};
use crate::session::throttle::Throttle;
use crate::session::{scan_threads, state_notes};
use crate::transport::{LinkReader, LinkWriter};
use compare::Comparer;
use counts::Counts;
use owners::Resolver;
use pending::Pending;
pub(in crate::session) use plan::FilePlan;
use plan::Plan;

/// How often a file that changes while it is read is tried before it is reported as churn.
pub(super) const ATTEMPTS: u8 = 3;

/// How many local files a thread copies before another may take the next ones.
const FILES_A_TASK: usize = 64;

/// Credit is granted back in steps of this many bytes: often enough to keep the source going,
/// seldom enough to cost nothing.
const CREDIT_STEP: u64 = CREDIT / 32;

/// What one session of the destination is made with.
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
    facts: FactBook,
    owed: Mutex<u64>,
    /// Bytes that have come in.
    received: Arc<AtomicU64>,
    /// What interrupted runs left behind.
    leftovers: OnceLock<Vec<(RelPath, Name)>>,
}

/// Hard links met in streams.
#[derive(Default)]
struct Leaders {
    /// The name that a group's content comes under.
    led: HashMap<u64, RelPath>,
    /// Names to be linked to it.
    followers: Vec<(RelPath, u64)>,
}

impl DestinationRole<'_> {
    /// Runs one session on a pair of descriptors. Returns what was done.
    pub(crate) fn run(&self, reader: LinkReader, writer: LinkWriter) -> Result<Summary> {
        let outbox = Outbox::new(u64::MAX);
        let shared = link::Incoming::default();
        let failure = Mutex::new(None);
        let compress = self.options.transfer.compress;
        std::thread::scope(|scope| {
            scope.spawn(|| run_writer(&outbox, writer, compress, self.cancel));
            scope.spawn(|| link::read(self, reader, &shared, &outbox, &failure));
            let outcome = self.serve(&outbox, &shared, &failure);
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
            if let Err(err) = &outcome {
                // The other end learns why; if it is gone, there is nobody to tell.
                let _ = outbox.say(&FromDestination::Failed(err.to_remote()));
            }
            outbox.close();
            outcome
        })
    }

    fn serve(
        &self,
        outbox: &Outbox,
        shared: &link::Incoming,
        failure: &Mutex<Option<Error>>,
    ) -> Result<Summary> {
        self.refuse_contradictions()?;
        let hello = shared.hello.take().ok_or_else(closed)?;
        let dry_run = self.is_dry();
        let root = DestinationRoot::open(self.root, hello.single.as_ref(), dry_run)?;
        if hello.single.is_none() {
            refuse_nested(&hello.identity, &identify(self.root))?;
        }
        if hello.single.is_some() && self.mode != Mode::Sync && self.root.is_dir() {
            return Err(Error::Usage(format!(
                "the source is neither a directory nor a manifest, but {} is a directory; to \
                 compare a file, give the other file's full name",
                self.root.display()
            )));
        }
        if root.dir.is_none() && self.mode != Mode::Sync {
            return Err(Error::io(
                "open destination",
                self.root.as_os_str().as_encoded_bytes(),
                std::io::Error::from(std::io::ErrorKind::NotFound),
            ));
        }
        let _lock = match &root.dir {
            Some(dir) if dry_run => Some(RootLock::shared(dir, self.root)?),
            Some(dir) => Some(RootLock::exclusive(dir, self.root)?),
            None => None,
        };
        let mut state = match &root.dir {
            Some(_) => crate::session::open_state(&root.canonical, Side::Destination, &|event| {
                self.tell(outbox, event);
            }),
            None => None,
        };
        let abilities = self.abilities(&root, state.as_ref())?;
        if abilities.read_only && self.mode == Mode::Sync {
            return Err(Error::io(
                "write to",
                self.root.as_os_str().as_encoded_bytes(),
                rustix::io::Errno::ROFS,
            ));
        }
        let rules = self.agree(&hello, &abilities);
        let filter = self.filter()?;
        let empty = self.is_empty(&root)?;
        let inline = match self.local_source.is_some() || dry_run {
            true => ContentInline::No,
            false => ContentInline::Yes,
        };
        if empty {
            // The stream may be complete before the first thread here looks.
            shared.pending.expect_stream(RelPath::root());
        }
        self.say_hello(
            &hello, &root, &abilities, rules, empty, inline, outbox, shared,
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
            facts: FactBook::default(),
            owed: Mutex::default(),
            received: Arc::clone(&shared.received),
            leftovers: OnceLock::new(),
        };
        session.run(&root, &filter, empty, state.as_mut())
    }

    fn refuse_contradictions(&self) -> Result<()> {
        let keep = &self.options.keep;
        if self.options.write.inplace && (keep.trash.is_some() || keep.backup_suffix.is_some()) {
            return Err(Error::Usage(
                "--inplace leaves no old version that --trash or --backup could keep; use only \
                 one of them"
                    .to_string(),
            ));
        }
        Ok(())
    }

    fn is_dry(&self) -> bool {
        self.options.dry_run || self.mode != Mode::Sync
    }

    /// What the destination can hold: found out once for a filesystem, then remembered.
    fn abilities(&self, root: &DestinationRoot, state: Option<&State>) -> Result<Abilities> {
        let Some(dir) = &root.dir else {
            // Not there yet, and a dry run makes nothing: its parent's filesystem will have it.
            let parent = self.root.ancestors().find(|path| path.is_dir());
            let dir = Dir::open_root(parent.unwrap_or(Path::new("/")))
                .map_err(|err| Error::io("open", self.root.as_os_str().as_encoded_bytes(), err))?;
            return probe(&dir, self.root);
        };
        let key = state_notes(dir)
            .into_iter()
            .find(|(name, _)| *name == "device");
        let same_device = key
            .is_some_and(|(name, value)| state.and_then(|state| state.note(name)) == Some(value));
        if same_device
            && let Some(note) = state.and_then(|state| state.note("abilities"))
            && let Ok((me, abilities)) = postcard::from_bytes::<(u32, Abilities)>(&note)
            && me == fs::Process::current().uid
        {
            return Ok(abilities);
        }
        probe(dir, self.root)
    }

    /// What both sides compare: what was asked for, less what the destination cannot hold. What
    /// that costs is counted, and said, by the source.
    fn agree(&self, hello: &SourceHello, abilities: &Abilities) -> RecordRules {
        let fake = self.options.fake_super;
        let asked = self.options.fidelity;
        // Nothing can be tried there, and nothing will be written: all of it is compared.
        let fake = fake || abilities.read_only;
        let fidelity = Fidelity {
            perms: asked.perms && (abilities.modes || fake),
            xattrs: asked.xattrs && (abilities.user_xattrs || abilities.read_only),
            acls: asked.acls && (abilities.acls || fake),
            hard_links: asked.hard_links && (abilities.hard_links || abilities.read_only),
            symlinks: asked.symlinks && (abilities.symlinks || fake),
            devices: asked.devices && (abilities.devices || fake),
            ..asked
        };
        let content = match self.options.compare {
            Compare::Checksum | Compare::IgnoreTimes => true,
            // Without times the quick check would have only sizes to go by.
            Compare::Quick => !fidelity.times,
            Compare::SizeOnly => false,
        };
        RecordRules {
            fidelity,
            granularity_ns: hello.granularity_ns.max(abilities.mtime_granularity_ns),
            content: content || self.mode == Mode::Verify,
        }
    }

    fn filter(&self) -> Result<Rules> {
        let selection = &self.options.selection;
        let mut rules = selection.rules.clone();
        if let Some(suffix) = &self.options.keep.backup_suffix {
            // Backups are not of the source, but not to be deleted either.
            let protect = [b"P *".as_slice(), suffix].concat();
            rules.insert(0, crate::options::RuleText(protect));
        }
        let rules = Rules::parse(&rules)?;
        if self.options.delete.is_some_and(|delete| delete.excluded) {
            return Ok(rules.for_delete_excluded());
        }
        Ok(rules)
    }

    /// Whether there is nothing to compare with.
    fn is_empty(&self, root: &DestinationRoot) -> Result<bool> {
        let Some(dir) = &root.dir else {
            return Ok(true);
        };
        let mut empty = true;
        let trash = trash_name();
        dir.list(&mut fs::ListScratch::new(), &mut |name, _, _| {
            let counts = match &root.single {
                Some(single) => single.as_bytes() == name,
                None => name != trash.as_bytes(),
            };
            empty &= !counts;
        })
        .map_err(|err| Error::io("read", self.root.as_os_str().as_encoded_bytes(), err))?;
        Ok(empty)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "all that the first message tells"
    )]
    fn say_hello(
        &self,
        hello: &SourceHello,
        root: &DestinationRoot,
        abilities: &Abilities,
        rules: RecordRules,
        empty: bool,
        inline: ContentInline,
        outbox: &Outbox,
        shared: &link::Incoming,
    ) -> Result<()> {
        let may_give = abilities.owners || self.options.fake_super;
        let resolver = Resolver::new(&self.options.ownership, may_give)?;
        let owners = hello
            .owners
            .iter()
            .map(|query| resolver.resolve(query))
            .collect();
        shared.resolver.put(resolver);
        outbox.say(&FromDestination::Hello(DestinationHello {
            rules,
            single: root.single.clone(),
            empty,
            content: inline == ContentInline::Yes,
            owners,
        }))
    }

    fn applier(
        &self,
        root: &DestinationRoot,
        rules: RecordRules,
        dry_run: bool,
    ) -> Result<Option<Applier>> {
        let Some(dir) = root.dir.as_ref().filter(|_| !dry_run) else {
            return Ok(None);
        };
        let dir = dir
            .try_clone()
            .map_err(|err| Error::io("open", self.root.as_os_str().as_encoded_bytes(), err))?;
        let options = ApplyOptions {
            rules,
            write: self.options.write,
            fake_super: self.options.fake_super,
            aside: Aside::open(&dir, &self.options.keep)?,
            cancel: self.cancel.clone(),
        };
        Ok(Some(Applier::new(dir, options)))
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
    fn run(
        &self,
        root: &DestinationRoot,
        filter: &Rules,
        empty: bool,
        state: Option<&mut State>,
    ) -> Result<Summary> {
        let links = Links::default();
        let summary = std::thread::scope(|scope| {
            for _ in 0..crate::session::write_threads() {
                scope.spawn(|| {
                    if let Err(err) = self.write() {
                        self.fail(err);
                    }
                });
            }
            let outcome = self.lead(root, filter, &links, empty, state);
            if outcome.is_err() {
                self.shared.tasks.abort();
            } else {
                self.shared.tasks.close();
            }
            outcome
        });
        if summary.is_err() {
            self.counts.lanes().iter().for_each(|lane| lane.abandon());
        }
        summary
    }

    /// The leading thread: what is to be done, in its order.
    fn lead(
        &self,
        root: &DestinationRoot,
        filter: &Rules,
        links: &Links,
        empty: bool,
        state: Option<&mut State>,
    ) -> Result<Summary> {
        let lister = root.dir.as_ref().map(|dir| Lister {
            root: dir,
            rules: self.rules,
            filter,
            sizes: SizeLimits {
                min: self.options().selection.min_size,
                max: self.options().selection.max_size,
            },
            side: Side::Destination,
            owners: &KeepOwners,
            modes: &|_, mode| mode,
            fake_super: self.options().fake_super,
            only: root.single.clone(),
            reserved: Some(trash_name()),
            links,
            lost: None,
            state: state.as_deref(),
            rehash: self.options().rehash,
            cancel: self.role.cancel,
        });
        let (scanned, update) = match (&lister, empty) {
            (Some(lister), false) => self.mirror(lister)?,
            _ => (self.receive_all(root)?, Default::default()),
        };
        self.finish(root, &scanned)?;
        self.flush_credit()?;
        let summary = self.summary(&scanned);
        if let Some(state) = state
            && !self.dry_run()
        {
            self.store(root, state, update);
        }
        self.say(&FromDestination::Done(Box::new(summary.clone())))?;
        // The source's last word: its problems and warnings have all come.
        self.shared.bye.take();
        Ok(self.summary(&scanned))
    }

    /// Takes everything: there is nothing to compare with.
    fn receive_all(&self, root: &DestinationRoot) -> Result<Scanned> {
        self.tell(Event::Phase(Phase::Transferring));
        self.pending.wait(self)?;
        let scanned = self.shared.scanned.take().ok_or_else(|| self.broken())?;
        self.counts.source_problems(scanned.problems);
        if let Some(applier) = &self.applier
            && root.single.is_none()
        {
            applier.expect_dir(&RelPath::root(), &scanned.root);
        }
        self.link_followers()?;
        Ok(scanned)
    }

    /// Compares, plans and carries out.
    fn mirror(
        &self,
        lister: &Lister<'_>,
    ) -> Result<(Scanned, crate::manifest::state::StateUpdate)> {
        self.tell(Event::Phase(Phase::Scanning));
        let options = ScanOptions {
            threads: scan_threads(),
            one_file_system: false,
            sink: None,
        };
        let mut ours = scan(lister, options, &Teller(self))?;
        for problem in std::mem::take(&mut ours.problems) {
            self.counts.problem();
            self.tell(Event::Problem(problem));
        }
        counts::add(&self.counts.destination_entries, ours.entries);
        // Set once, by the only thread that leads.
        let _ = self.leftovers.set(ours.leftovers.clone());
        let theirs = self.shared.scanned.take().ok_or_else(|| self.broken())?;
        self.counts.source_problems(theirs.problems);
        let update = std::mem::take(&mut ours.update);
        let single = lister.only.is_some();
        let their_digest = root_digest(&theirs.root, theirs.deep, theirs.links, &self.rules);
        if ours.digest(&self.rules) == their_digest {
            self.sweep(&ours);
            return Ok((theirs, update));
        }
        self.tell(Event::Phase(Phase::Comparing));
        let mut plan = Comparer::new(self, lister, &ours).compare()?;
        if !single && !theirs.root.same_record(&ours.root, &self.rules) {
            self.plan_root(&mut plan, &theirs, &ours);
        }
        if self.options().selection.one_file_system {
            plan.spare_mounts();
        }
        self.find_moves(&mut plan, lister, &ours)?;
        self.plan_links(&mut plan, lister, &ours, theirs.links != ours.links)?;
        self.carry_out(plan, lister, &ours, &theirs)?;
        self.sweep(&ours);
        Ok((theirs, update))
    }

    fn plan_root(&self, plan: &mut Plan, theirs: &Scanned, ours: &Scan) {
        let changes = plan::differences(&theirs.root, &ours.root, &self.rules, false);
        plan.attributes.push(plan::Differing {
            path: RelPath::root(),
            new: theirs.root.clone(),
            old: ours.root.clone(),
            changes,
        });
    }

    fn sweep(&self, ours: &Scan) {
        if let Some(applier) = &self.applier {
            applier.sweep(&ours.leftovers);
        }
    }

    fn store(
        &self,
        root: &DestinationRoot,
        state: &mut State,
        mut update: crate::manifest::state::StateUpdate,
    ) {
        let Some(dir) = &root.dir else {
            return;
        };
        self.facts.store_into(dir, state, &mut update);
        let mut notes = state_notes(dir);
        if let Ok(abilities) = probe(dir, self.role.root) {
            let me = fs::Process::current().uid;
            // Plain values can always be written; without the note the next run probes again.
            notes.push((
                "abilities",
                postcard::to_stdvec(&(me, abilities)).unwrap_or_default(),
            ));
        }
        if let Err(why) = state.store(update, &notes) {
            self.tell(Event::Note(format!("destination state not stored: {why}")));
        }
    }

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

    fn tell(&self, event: Event) {
        self.role.tell(self.outbox, event);
    }

    fn next_listing(&self) -> Result<Reply<ListingReply>> {
        self.shared.listings.pop().ok_or_else(|| self.broken())
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

    pub(super) fn item(&self, path: &RelPath, kind: EntryKind, action: Action, changes: Changes) {
        self.counts.differ();
        if self.options().itemize {
            self.tell(Event::Item(Item {
                path: path.clone(),
                kind,
                action,
                changes,
            }));
        }
    }

    fn problem(&self, side: Side, act: &str, path: &RelPath, err: &std::io::Error) {
        self.counts.problem();
        self.tell(Event::Problem(Problem {
            side,
            act: act.to_string(),
            path: path.clone(),
            reason: err.to_string(),
            os_error: err.raw_os_error(),
        }));
    }

    fn unsettled(&self, path: &RelPath, kind: ChurnKind) -> Result<()> {
        self.counts.churn();
        self.tell(Event::Churn(Churn {
            path: path.clone(),
            kind,
        }));
        Ok(())
    }

    pub(super) fn tell_progress(&self, path: &RelPath) {
        if let Some((files, bytes)) = self.counts.progress() {
            let (planned_files, planned_bytes) = self.pending.planned();
            self.tell(Event::Planned {
                files: planned_files,
                bytes: planned_bytes,
                complete: self.pending.is_planned(),
            });
            self.tell(Event::Done { files, bytes });
            self.tell(Event::Current(path.clone()));
        }
    }

    fn uses_delta(&self) -> bool {
        match self.options().transfer.delta {
            DeltaMode::Auto => self.role.local_source.is_none(),
            DeltaMode::Always => true,
            DeltaMode::Never => false,
        }
    }

    fn remember_lane(&self, lane: &Arc<receive::Lane>) {
        self.counts.remember_lane(lane);
    }
}

/// Passes a scan's events on.
struct Teller<'a>(&'a Session<'a>);

impl Observer for Teller<'_> {
    fn observe(&self, event: Event) {
        self.0.tell(event);
    }
}

fn probe(dir: &Dir, path: &Path) -> Result<Abilities> {
    fs::probe(dir).map_err(|err| Error::io("probe", path.as_os_str().as_encoded_bytes(), err))
}

fn closed() -> Error {
    Error::Connection("the session ended before all was done".to_string())
}

fn delta_threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
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
