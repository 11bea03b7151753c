//! The source's role: reads its tree, says what is in it, and sends what the destination asks
//! for. It decides nothing.

mod admit;
mod large;
mod link;
pub(crate) mod listings;
mod owners;
mod send;
mod serving;
mod stream;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::apply::RootLock;
use crate::error::{Error, Result};
use crate::events::{Cancel, Event, Observer, Phase, Side, Summary, Warning};
use crate::filter::Rules;
use crate::fs::{self, Dir, Users};
use crate::host::identify;
use crate::manifest::listing::{Lister, SizeLimits};
use crate::manifest::lost::Lost;
use crate::manifest::recorded::Recorded;
use crate::manifest::scan::{Mark, Scan, ScanOptions};
use crate::manifest::state::{FactBook, State, StateUpdate};
use crate::options::SyncOptions;
use crate::path::Name;
use crate::protocol::conn::{CREDIT, Outbox};
use crate::protocol::message::{
    DestinationHello, Fault, FromSource, Mode, OwnerQuery, RootIdentity, Scanned, SourceHello,
};
use crate::session::fence::refuse_fenced;
use crate::session::modes::ModeRules;
use crate::session::root::SourceRoot;
use crate::session::standing::Standing;
use crate::session::throttle::Throttle;
use crate::session::{open_state, scan_threads, state_notes};
use crate::transport::{LinkReader, LinkWriter};
use owners::{Names, OwnerTable};
use serving::Serving;
use stream::Streamed;

/// What one session of the source is made with.
#[derive(Clone, Copy)]
pub(crate) struct SourceRole<'a> {
    /// The root on this host.
    pub(crate) root: &'a Path,
    /// What is at the root.
    pub(crate) kind: SourceKind,
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
}

/// A session in which both ends have said hello.
struct Greeted<'a> {
    root: &'a SourceRoot,
    owners: &'a OwnerTable<'a>,
    outbox: &'a Outbox,
    shared: &'a link::Incoming,
    filter: Rules,
    modes: ModeRules,
    /// What the destination said.
    hello: DestinationHello,
}

/// What a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// Entries on this host.
    Tree,
    /// A manifest file, which stands for the tree that it was made of.
    Manifest,
}

impl SourceKind {
    /// What is at `root`. Only where nothing is copied can a manifest stand for its tree.
    pub(crate) fn of(root: &Path, mode: Mode) -> SourceKind {
        if mode != Mode::Sync && Recorded::is_one(root) {
            return SourceKind::Manifest;
        }
        SourceKind::Tree
    }
}

impl SourceRole<'_> {
    /// Serves a session of one round, and then ends the stream. Returns what the destination did.
    pub(crate) fn run(&self, mut reader: LinkReader, mut writer: LinkWriter) -> Result<Summary> {
        self.round(&mut reader, &mut writer, &mut Standing::default(), None)
    }

    /// Serves one round. The stream ends with it unless `standing` is of many and all went well.
    /// `mark` is shown each directory before it is listed.
    pub(crate) fn round(
        &self,
        reader: &mut LinkReader,
        writer: &mut LinkWriter,
        standing: &mut Standing,
        mark: Option<Mark<'_>>,
    ) -> Result<Summary> {
        let stays = standing.stays();
        let outbox = Outbox::new(CREDIT);
        let shared = link::Incoming::default();
        let compress = self.options.transfer.compress;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                crate::protocol::conn::run_writer(&outbox, writer, compress, self.cancel);
            });
            let reading = scope.spawn(|| link::read(self, reader, &shared, &outbox));
            let outcome = self.serve(&outbox, &shared, standing, mark);
            standing.asked_to_drain = shared.drain.load(Ordering::Relaxed);
            match &outcome {
                Ok(_) if stays => outbox.pause(),
                Ok(_) => outbox.close(),
                Err(err) => {
                    // The other end learns why; if it is gone, there is nobody to tell.
                    let _ = outbox.say(&FromSource::Failed(err.to_remote()));
                    outbox.close();
                }
            }
            let ended = reading
                .join()
                .unwrap_or_else(|_| Err(Error::protocol("a reading thread panicked")));
            // The reader knows best why a session broke: what others see is its echo.
            match (outcome, ended) {
                (Err(Error::Connection(_)), Err(cause)) => Err(cause),
                (Err(Error::Interrupted), Err(cause)) if self.forwards => Err(cause),
                (outcome, _) => outcome,
            }
        })
    }

    fn serve(
        &self,
        outbox: &Outbox,
        shared: &link::Incoming,
        standing: &mut Standing,
        mark: Option<Mark<'_>>,
    ) -> Result<Summary> {
        // What makes no sense is refused before the destination makes anything.
        let filter = Rules::parse(&self.options.selection.rules)?;
        let modes = ModeRules::parse(&self.options.chmod)?;
        let mut root = SourceRoot::open(self.root)?;
        // Of a single file the root is its parent, which may well be the destination too.
        let is_dir = root.single.is_none();
        if is_dir {
            refuse_fenced(&root.dir, self.root, Side::Source, self.mode)?;
            standing.refuse_another_root(&root.dir, &self.root.display().to_string())?;
            if standing.lock.is_none() {
                standing.lock = Some(RootLock::shared(&root.dir, self.root)?);
            }
        }
        let recorded = match self.kind {
            SourceKind::Tree => None,
            SourceKind::Manifest => Some(Recorded::open(self.root)?),
        };
        let mut state = match self.kind {
            SourceKind::Tree if is_dir => open_state(&root.canonical, Side::Source, &|event| {
                self.tell(outbox, event);
            }),
            SourceKind::Tree | SourceKind::Manifest => None,
        };
        root.moved_device = is_moved(&root.dir, state.as_ref());
        let known_owners = owners::remembered(state.as_ref());
        let hello = self.hello(&root, recorded.as_ref(), known_owners.clone());
        outbox.say(&FromSource::Hello(hello))?;
        let hello = shared.hello.take().ok_or_else(closed)?;
        let recorded_names = recorded.as_ref().map(|recorded| recorded.names.clone());
        let names = match &recorded_names {
            Some(names) => Names::Manifest(names),
            None => Names::Host(Box::new(Users::new())),
        };
        let table = OwnerTable::new(outbox.clone(), &shared.owners, names);
        table.learn(known_owners, &hello.owners)?;
        let greeted = Greeted {
            root: &root,
            owners: &table,
            outbox,
            shared,
            filter,
            modes,
            hello,
        };
        let mut update =
            self.read_and_answer(&greeted, recorded, state.as_ref(), standing, mark)?;
        let summary = shared.done.take().ok_or_else(closed)?;
        if self.mode == Mode::Sync
            && !self.options.dry_run
            && let Some(state) = &mut state
        {
            let mut notes = state_notes(&root.dir);
            notes.push(("owners", owners::to_note(&table)));
            if !summary.is_complete() {
                update.keep_suspects(state);
            }
            if let Err(why) = state.store(update, &notes) {
                let note = format!("source state not stored: {why}");
                self.tell(outbox, Event::Note(note));
            }
        }
        outbox.say(&FromSource::Bye)?;
        Ok(summary)
    }

    fn hello(
        &self,
        root: &SourceRoot,
        recorded: Option<&Recorded>,
        owners: Vec<OwnerQuery>,
    ) -> SourceHello {
        SourceHello {
            single: self.single(root),
            granularity_ns: match recorded {
                Some(recorded) => recorded.header.granularity_ns,
                None => fs::source_granularity(&root.dir),
            },
            owners,
            identity: match self.kind {
                SourceKind::Tree => identify(self.root),
                SourceKind::Manifest => RootIdentity::nowhere(),
            },
        }
    }

    /// The only entry of the root that takes part, where a single file is synced.
    fn single(&self, root: &SourceRoot) -> Option<Name> {
        // A manifest is a file too, but it stands for a tree.
        root.single
            .clone()
            .filter(|_| self.kind == SourceKind::Tree)
    }

    /// Reads what the destination's hello asks for and answers until it is done. Returns what the
    /// state shall learn.
    fn read_and_answer(
        &self,
        greeted: &Greeted<'_>,
        mut recorded: Option<Recorded>,
        state: Option<&State>,
        standing: &mut Standing,
        mark: Option<Mark<'_>>,
    ) -> Result<StateUpdate> {
        let Greeted {
            root,
            hello,
            filter,
            ..
        } = greeted;
        let modes = |kind, mode| greeted.modes.apply(kind, mode);
        if let Some(recorded) = &mut recorded {
            recorded
                .adapt(&hello.rules, filter, greeted.owners, &modes)
                .map_err(|err| {
                    let path = self.root.as_os_str().as_encoded_bytes();
                    Error::io("use manifest", path, err)
                })?;
        }
        let links = standing.links();
        let lost = Lost::new(
            self.options.fidelity,
            hello.rules.fidelity,
            self.options.fake_super,
        );
        let lister = Lister {
            root: &root.dir,
            rules: hello.rules,
            filter,
            sizes: SizeLimits {
                min: self.options.selection.min_size,
                max: self.options.selection.max_size,
            },
            side: Side::Source,
            owners: greeted.owners,
            modes: &modes,
            fake_super: self.options.from_fake_super,
            only: self.single(root),
            links: &links,
            lost: Some(&lost),
            state,
            rehash: self.options.rehash,
            cancel: self.cancel,
        };
        let (update, scan) = self.answer(greeted, &lister, recorded.as_ref(), standing, mark)?;
        if let Some(scan) = scan {
            standing.keep(scan, Arc::clone(&links), hello.rules);
        }
        // A scan has told already, before directories were listed again.
        if hello.empty {
            self.warn_of_unkept(&lost, greeted.owners, greeted.outbox);
        }
        Ok(update)
    }

    /// Scans where the destination has something to compare, then serves until it is done. Returns
    /// what the state shall learn, and what was scanned.
    fn answer(
        &self,
        greeted: &Greeted<'_>,
        lister: &Lister<'_>,
        recorded: Option<&Recorded>,
        standing: &mut Standing,
        mark: Option<Mark<'_>>,
    ) -> Result<(StateUpdate, Option<Scan>)> {
        let Greeted {
            root,
            outbox,
            shared,
            hello,
            ..
        } = greeted;
        self.tell(outbox, Event::Phase(Phase::Scanning));
        let throttle = Throttle::new(self.options.transfer.bandwidth_bytes_per_s);
        let mut scan = match (hello.empty, recorded) {
            (true, _) => None,
            (false, Some(recorded)) => Some(recorded.scan(&hello.rules, lister.links)),
            (false, None) => Some(self.scan(lister, greeted, standing, mark)?),
        };
        let update = scan.as_mut().map(|scan| std::mem::take(&mut scan.update));
        let serving = Serving {
            role: self,
            root: &root.dir,
            lister: lister.clone(),
            recorded,
            scan: scan.as_ref(),
            outbox,
            jobs: &shared.jobs,
            sums: &shared.sums,
            throttle: &throttle,
            facts: FactBook::default(),
            next_id: AtomicU64::new(0),
            root_dev: root.dir.stat_self().map_or(0, |stat| stat.dev),
            renamed: root.single.clone().zip(hello.single.clone()),
            streamed: Streamed::default(),
            led: Mutex::default(),
        };
        if let Some(scan) = &scan {
            outbox.say(&FromSource::Scanned(self.scanned(root, scan)))?;
        } else {
            serving.stream_root(hello.content);
        }
        serving.serve_jobs()?;
        let mut update = update.unwrap_or_default();
        if serving.lister.state.is_some() {
            serving.facts.store_into(&root.dir, &mut update);
        }
        Ok((update, scan))
    }

    fn scan(
        &self,
        lister: &Lister<'_>,
        greeted: &Greeted<'_>,
        standing: &mut Standing,
        mark: Option<Mark<'_>>,
    ) -> Result<Scan> {
        let outbox = greeted.outbox;
        let options = ScanOptions {
            threads: scan_threads(),
            one_file_system: self.options.selection.one_file_system,
            sink: None,
            mark,
        };
        let forward = Forward { role: self, outbox };
        let scan = standing.scan(lister, options, &forward)?;
        for problem in &scan.problems {
            self.tell(outbox, Event::Problem(problem.clone()));
        }
        for path in &scan.vanished {
            outbox.say_paid(&FromSource::Unsent {
                path: path.clone(),
                why: Fault::Vanished,
            })?;
        }
        // Before directories are listed again, and their entries counted twice.
        if let Some(lost) = lister.lost {
            self.warn_of_unkept(lost, greeted.owners, outbox);
        }
        Ok(scan)
    }

    fn scanned(&self, root: &SourceRoot, scan: &Scan) -> Scanned {
        Scanned {
            root: scan.root.clone(),
            deep: scan.tree.node(crate::manifest::tree::NodeId::ROOT).deep,
            links: scan.links,
            entries: scan.entries,
            bytes: scan.bytes,
            problems: scan.problems.len() as u64,
            moved_device: root.moved_device,
        }
    }

    /// Says what the destination does not keep of the entries that were read so far.
    fn warn_of_unkept(&self, lost: &Lost, owners: &OwnerTable<'_>, outbox: &Outbox) {
        let unheld = owners.unheld().into_iter();
        let unheld = unheld.map(|(entries, message)| ("owner", entries, message));
        for (topic, entries, message) in lost.counts().into_iter().chain(unheld) {
            let warning = Warning {
                topic: topic.to_string(),
                entries,
                message,
            };
            self.tell(outbox, Event::Warning(warning));
        }
    }

    /// Tells who watches, here or through the other end.
    pub(super) fn tell(&self, outbox: &Outbox, event: Event) {
        if self.forwards {
            // If the connection broke, the session ends with an error anyway.
            let _ = outbox.say(&FromSource::Event(event));
        } else {
            self.observer.observe(event);
        }
    }
}

/// Passes a scan's events on.
struct Forward<'a> {
    role: &'a SourceRole<'a>,
    outbox: &'a Outbox,
}

impl Observer for Forward<'_> {
    fn observe(&self, event: Event) {
        self.role.tell(self.outbox, event);
    }
}

/// Whether the root is on another device than the last time: perhaps nothing is mounted there.
fn is_moved(root: &Dir, state: Option<&State>) -> bool {
    let Some(state) = state else {
        return false;
    };
    state_notes(root)
        .into_iter()
        .any(|(name, now)| state.note(name).is_some_and(|before| before != now))
}

fn closed() -> Error {
    Error::Connection("the destination ended the session".to_string())
}
