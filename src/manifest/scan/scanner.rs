//! The workers of a scan: who takes which directory, how one is read and digested, and how it is
//! entered into the tree.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Scan, ScanOptions};
use crate::digest::Digest;
use crate::entry::{EntryKind, Timestamp};
use crate::error::{Error, Result};
use crate::events::{Event, Observer, Problem};
use crate::fs::{ListScratch, Stat, XattrSelect, is_gone};
use crate::manifest::compact::Compact;
use crate::manifest::listing::{Lister, Listing, Row};
use crate::manifest::lost::Lost;
use crate::manifest::record::{RecordRules, ShallowDigester};
use crate::manifest::state::{DirFact, StateUpdate};
use crate::manifest::tree::{NodeFlags, NodeId, Tree};
use crate::path::{Name, RelPath};

/// Within this time before it is read, a change may share its timestamp with the reading: kernels
/// stamp files by a clock that ticks every 1 to 10 ms, and two ticks are safe.
pub(super) const RACY_WINDOW_NS: u64 = 20_000_000;

/// How often the observer hears of the entries found so far: about ten times a second, so that it
/// costs next to nothing on the wire either.
const REPORT_EVERY: u64 = 1 << 16;

/// How much of what the state shall learn is held in memory; the hashes of a million files take
/// ten times as much.
const MOST_HELD_BYTES: usize = 8 << 20;

/// All that the workers share.
pub(super) struct Scanner<'a> {
    pub(super) lister: &'a Lister<'a>,
    options: ScanOptions<'a>,
    observer: &'a dyn Observer,
    rules_key: u64,
    root_dev: u64,
    shared: Mutex<Shared>,
    wake: Condvar,
}

#[derive(Default)]
pub(super) struct Shared {
    pub(super) stack: Vec<Job>,
    pub(super) busy: usize,
    /// Workers that wait for a directory.
    pub(super) waiting: usize,
    pub(super) tree: Tree,
    pub(super) problems: Vec<Problem>,
    pub(super) vanished: Vec<RelPath>,
    pub(super) leftovers: Vec<(RelPath, Name)>,
    pub(super) outdated: BTreeSet<RelPath>,
    pub(super) update: StateUpdate,
    pub(super) found: u64,
    pub(super) failure: Option<Error>,
}

pub(super) struct Job {
    pub(super) node: NodeId,
    pub(super) path: RelPath,
    pub(super) stat: Stat,
}

/// One directory, read and digested.
pub(super) struct Digested {
    listing: Listing,
    shallow: Digest,
    buckets: Box<[u64]>,
    fact: Option<DirFact>,
    /// The directory's own, once it had been marked.
    ctime: Option<Timestamp>,
}

impl Shared {
    pub(super) fn into_scan(self, root: Row, lister: &Lister<'_>) -> Scan {
        let top = self.tree.node(NodeId::ROOT);
        Scan {
            root: root.entry,
            root_stat: root.stat,
            links: lister.links.digest(),
            entries: top.total_entries,
            bytes: top.total_bytes,
            problems: self.problems,
            vanished: self.vanished,
            leftovers: self.leftovers,
            outdated: self.outdated,
            update: self.update,
            tree: self.tree,
        }
    }
}

impl<'a> Scanner<'a> {
    pub(super) fn new(
        lister: &'a Lister<'a>,
        options: ScanOptions<'a>,
        observer: &'a dyn Observer,
        root: &Row,
        shared: Shared,
    ) -> Scanner<'a> {
        Scanner {
            lister,
            options,
            observer,
            rules_key: rules_key(
                &lister.rules,
                lister.fake_super,
                lister.lost.map(Lost::attributes).unwrap_or_default(),
            ),
            root_dev: root.stat.dev,
            shared: Mutex::new(shared),
            wake: Condvar::new(),
        }
    }

    /// Reads all directories on the stack and beneath.
    pub(super) fn read_all(&self) {
        std::thread::scope(|scope| {
            for _ in 1..self.options.threads.max(1) {
                scope.spawn(|| self.work());
            }
            self.work();
        });
    }

    pub(super) fn finish(self) -> Result<Shared> {
        let shared = self.shared.into_inner();
        let shared = shared.unwrap_or_else(PoisonError::into_inner);
        self.lister.cancel.check()?;
        match shared.failure {
            Some(err) => Err(err),
            None => Ok(shared),
        }
    }

    pub(super) fn work(&self) {
        let mut scratch = ListScratch::new();
        while let Some(job) = self.next() {
            let outcome = self.digest_dir(&job, &mut scratch);
            let mut shared = self.lock();
            shared.busy -= 1;
            match outcome {
                Ok(digested) => self.enter(&mut shared, job, digested),
                Err(err) => self.fail(&mut shared, job.node, job.path, err),
            }
            // Most directories have no subdirectories: waking the others for each would cost more
            // than it finds.
            let over = shared.stack.is_empty() && shared.busy == 0;
            if shared.waiting > 0 && (over || !shared.stack.is_empty()) {
                self.wake.notify_all();
            }
            if let Some(state) = self.lister.state
                && shared.update.held_bytes() > MOST_HELD_BYTES
            {
                let update = std::mem::take(&mut shared.update);
                drop(shared);
                state.spill(update);
            }
        }
        self.wake.notify_all();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Job> {
        let mut shared = self.lock();
        loop {
            if shared.failure.is_some() || self.lister.cancel.is_cancelled() {
                return None;
            }
            if let Some(job) = shared.stack.pop() {
                shared.busy += 1;
                return Some(job);
            }
            if shared.busy == 0 {
                return None;
            }
            shared.waiting += 1;
            shared = self
                .wake
                .wait(shared)
                .unwrap_or_else(PoisonError::into_inner);
            shared.waiting -= 1;
        }
    }

    pub(super) fn digest_dir(&self, job: &Job, scratch: &mut ListScratch) -> io::Result<Digested> {
        let lister = self.lister;
        let started = now();
        let dir = lister.root.open_dir(&job.path)?;
        let mut ctime = None;
        if let Some(mark) = self.options.mark {
            mark(&dir, &job.path);
            ctime = Some(dir.stat_self()?.ctime);
        }
        let mut listing = lister.stats(&dir, &job.path, scratch)?;
        let stats = stat_digest(&listing.rows);
        let known = lister
            .state
            .filter(|_| !lister.rehash && self.options.sink.is_none())
            .filter(|_| listing.problems.is_empty())
            .and_then(|state| state.dir(self.rules_key, &job.stat))
            .filter(|fact| fact.stats == stats);
        if let Some(fact) = known {
            return Ok(Digested {
                listing,
                shallow: fact.shallow,
                buckets: fact.buckets,
                fact: None,
                ctime,
            });
        }
        lister.complete(&dir, &job.path, &mut listing)?;
        if let Some(sink) = self.options.sink {
            sink(&job.path, &listing);
        }
        let (shallow, buckets) = shallow_of(&listing.rows, &lister.rules);
        let settled = listing.problems.is_empty()
            && !listing.loses
            && !listing
                .rows
                .iter()
                .any(|row| row.stat.ctime.is_within(RACY_WINDOW_NS, started));
        listing
            .facts
            .retain(|fact| !fact.ctime.is_within(RACY_WINDOW_NS, started));
        // A suspect's hash is in the record only until both sides agree again.
        let plain =
            lister.rules.content || listing.rows.iter().all(|row| row.entry.content.is_none());
        let fact = (settled && plain).then(|| DirFact {
            stats,
            shallow,
            buckets: buckets.clone(),
        });
        Ok(Digested {
            listing,
            shallow,
            buckets,
            fact,
            ctime,
        })
    }

    /// Enters a directory's digest into the tree and puts its new subdirectories on the stack.
    pub(super) fn enter(&self, shared: &mut Shared, job: Job, digested: Digested) {
        let Digested {
            listing,
            shallow,
            buckets,
            fact,
            ctime,
        } = digested;
        // Its parent has it as it was before. What changes in a directory is told to nobody but
        // itself, though its own times change with it.
        if ctime.is_some_and(|ctime| ctime != shared.tree.node(job.node).recorded) {
            shared.outdated.extend(job.path.parent());
        }
        let mut bytes = 0;
        let mut links = false;
        let mut subdirs = Vec::new();
        for row in &listing.rows {
            match row.entry.meta.kind {
                EntryKind::File => bytes += row.entry.meta.size,
                EntryKind::Dir => subdirs.push((row.entry.name.clone(), row.stat)),
                _ => {}
            }
            if row.entry.link.is_some() {
                links = true;
                self.lister
                    .links
                    .add(&row.stat, &job.path.join(&row.entry.name));
            }
        }
        let unreadable = listing.problems.iter().any(|p| p.path == job.path);
        self.enter_subdirs(shared, &job, &subdirs);
        shared.tree.set_buckets(job.node, buckets);
        let node = shared.tree.node_mut(job.node);
        node.shallow = shallow;
        node.entries = listing.rows.len() as u32;
        node.bytes = bytes;
        node.flags = NodeFlags {
            unreadable,
            hides_here: listing.hides,
            links,
            ..NodeFlags::default()
        };
        if let Some(fact) = fact {
            shared.update.dir(self.rules_key, &job.stat, fact);
        }
        if !listing.facts.is_empty() {
            shared.update.files(&job.stat, listing.facts);
        }
        shared.problems.extend(listing.problems);
        shared.leftovers.extend(
            listing
                .leftovers
                .into_iter()
                .map(|name| (job.path.clone(), name)),
        );
        self.report(shared, listing.rows.len() as u64);
    }

    /// Subdirectories that are known as what they are keep what is known of them.
    fn enter_subdirs(&self, shared: &mut Shared, job: &Job, subdirs: &[(Name, Stat)]) {
        let found: Vec<_> = subdirs
            .iter()
            .map(|(name, stat)| (name, (stat.dev, stat.ino)))
            .collect();
        for (node, offset) in shared.tree.replace_children(job.node, &found) {
            let (name, stat) = &subdirs[offset];
            if self.options.one_file_system && stat.dev != self.root_dev {
                let node = shared.tree.node_mut(node);
                node.shallow = shallow_of(&Compact::default(), &self.lister.rules).0;
                node.flags.elsewhere = true;
                continue;
            }
            shared.stack.push(Job {
                node,
                path: job.path.join(name),
                stat: *stat,
            });
        }
        let children = shared.tree.children(job.node).collect::<Vec<_>>();
        for (child, (_, stat)) in children.into_iter().zip(subdirs) {
            shared.tree.node_mut(child).recorded = stat.ctime;
        }
    }

    fn report(&self, shared: &mut Shared, found: u64) {
        let before = shared.found;
        shared.found += found;
        if before / REPORT_EVERY != shared.found / REPORT_EVERY {
            self.observer.observe(Event::Scanned {
                side: self.lister.side,
                entries: shared.found,
            });
        }
    }

    /// A directory that cannot be read is a problem, and its content unknown. One that vanished
    /// since its parent was listed is none: the next run will see.
    pub(super) fn fail(&self, shared: &mut Shared, node: NodeId, path: RelPath, err: io::Error) {
        // An interrupt is no fault of the directory.
        if self.lister.cancel.is_cancelled() {
            return;
        }
        if node == NodeId::ROOT {
            shared.failure = Some(Error::io("read", b"the root directory", err));
            return;
        }
        let node = shared.tree.node_mut(node);
        node.flags.unreadable = true;
        node.shallow = Digest::of(format!("unreadable {:?}", self.lister.side).as_bytes());
        if is_gone(&err) {
            shared.vanished.push(path);
            return;
        }
        shared.problems.push(Problem {
            side: self.lister.side,
            act: "read directory".to_string(),
            path,
            reason: err.to_string(),
            os_error: err.raw_os_error(),
        });
    }
}

fn shallow_of(rows: &Compact<Row>, rules: &RecordRules) -> (Digest, Box<[u64]>) {
    let mut digester = ShallowDigester::new(rows.len(), rules);
    for row in rows {
        digester.add(&row.entry);
    }
    digester.finish_with_buckets()
}

/// The local stat digest: all that `statx` says and that an edit moves, and the owners' numbers
/// at the destination, which can change without the files.
fn stat_digest(rows: &Compact<Row>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = Vec::with_capacity(STAT_CHUNK + 512);
    for row in rows {
        let Row { entry, stat, .. } = row.as_ref();
        let meta = &stat.meta;
        bytes.extend_from_slice(entry.name.as_bytes());
        bytes.extend_from_slice(&[0, meta.kind as u8]);
        bytes.extend_from_slice(&meta.mode.to_le_bytes());
        bytes.extend_from_slice(&entry.meta.mode.to_le_bytes());
        for id in [meta.uid, meta.gid, entry.meta.uid, entry.meta.gid] {
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        for time in [meta.mtime, stat.ctime] {
            bytes.extend_from_slice(&time.secs.to_le_bytes());
            bytes.extend_from_slice(&time.nanos.to_le_bytes());
        }
        bytes.extend_from_slice(&meta.size.to_le_bytes());
        bytes.extend_from_slice(&stat.ino.to_le_bytes());
        bytes.extend_from_slice(&stat.nlink.to_le_bytes());
        bytes.extend_from_slice(&meta.rdev.0.to_le_bytes());
        bytes.extend_from_slice(&meta.rdev.1.to_le_bytes());
        if bytes.len() >= STAT_CHUNK {
            hasher.update(&bytes);
            bytes.clear();
        }
    }
    hasher.update(&bytes);
    hasher.finalize().into()
}

/// BLAKE3 reaches its full speed at 16 KiB and more at a time.
const STAT_CHUNK: usize = 32 << 10;

/// Digests made under other rules are other digests; and what is lost is counted, so that what was
/// not looked for is not known.
pub(super) fn rules_key(rules: &RecordRules, fake_super: bool, counted: XattrSelect) -> u64 {
    let text = format!("{rules:?} {fake_super} {counted:?}");
    let hash = blake3::hash(text.as_bytes());
    hash.as_bytes()[..8]
        .iter()
        .fold(0, |key, &byte| key << 8 | u64::from(byte))
}

pub(super) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp {
        secs: since.as_secs() as i64,
        nanos: since.subsec_nanos(),
    }
}
