//! What the destination still waits for: wanted files, streamed trees, its own tasks. Decides what
//! is asked for next, what is asked for again, and when everything is there.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::apply::Existing;
use crate::error::{Error, Result};
use crate::events::{Changes, ChurnKind};
use crate::manifest::record::Entry;
use crate::path::RelPath;
use crate::protocol::message::Fault;
use crate::session::destination::plan::{FilePlan, all_new};
use crate::session::destination::receive::Task;
use crate::session::destination::{ATTEMPTS, Session};

/// Files asked for that have not come yet, at most. Enough to keep the source reading through a
/// round trip of 200 ms on small files, little enough to bound its queue.
const MAX_ASKED: usize = 2048;

/// Of these, files with a basis: each holds a descriptor and its sums.
const MAX_ASKED_WITH_BASIS: usize = 32;

/// How long a file that changed is left alone before it is asked for again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// How often the waiting thread looks whether it shall stop.
const TICK: Duration = Duration::from_millis(200);

/// What is still to come.
#[derive(Default)]
pub(super) struct Pending {
    inner: Mutex<Inner>,
    wake: Condvar,
}

#[derive(Default)]
struct Inner {
    /// Files that were planned or went wrong, until they are there.
    files: HashMap<RelPath, Wanted>,
    /// Files to ask for, in order.
    waiting: VecDeque<RelPath>,
    asked: usize,
    asked_with_basis: usize,
    /// Files to ask for again once nothing else is to come.
    again: Vec<RelPath>,
    streams: HashSet<RelPath>,
    tasks: usize,
    planned_files: u64,
    planned_bytes: u64,
}

/// A file that is wanted.
struct Wanted {
    changes: Changes,
    has_basis: bool,
    basis: Option<Arc<Existing>>,
    attempts: u8,
    asked: bool,
    mistrusted: bool,
}

impl Wanted {
    /// A file of a stream, which was in no plan.
    fn unplanned() -> Wanted {
        Wanted {
            changes: all_new(),
            has_basis: false,
            basis: None,
            attempts: 0,
            asked: false,
            mistrusted: false,
        }
    }
}

/// What is known of a file that has come.
pub(super) struct Arrival {
    /// What differed.
    pub(super) changes: Changes,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans files to be asked for.
    pub(super) fn want(&self, files: Vec<FilePlan>) {
        self.plan_more(&files);
        let mut inner = self.lock();
        for file in files {
            let wanted = Wanted {
                changes: file.changes,
                has_basis: file.basis_len.is_some(),
                basis: None,
                attempts: 0,
                asked: false,
                mistrusted: false,
            };
            inner.files.insert(file.path.clone(), wanted);
            inner.waiting.push_back(file.path);
        }
    }

    /// Adds files to the totals that progress is measured against.
    pub(super) fn plan_more(&self, files: &[FilePlan]) {
        let mut inner = self.lock();
        inner.planned_files += files.len() as u64;
        inner.planned_bytes += files.iter().map(|file| file.entry.meta.size).sum::<u64>();
    }

    /// The totals so far: files and bytes.
    pub(super) fn planned(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.planned_files, inner.planned_bytes)
    }

    /// Whether the totals can still grow.
    pub(super) fn is_planned(&self) -> bool {
        self.lock().streams.is_empty()
    }

    /// Expects a streamed tree.
    pub(super) fn expect_stream(&self, top: RelPath) {
        self.lock().streams.insert(top);
    }

    /// Adds tasks of our own.
    pub(super) fn add(&self, tasks: usize) {
        self.lock().tasks += tasks;
    }

    /// Settles tasks of our own.
    pub(super) fn settle(&self, tasks: usize) {
        let mut inner = self.lock();
        inner.tasks -= tasks;
        self.wake_if_quiet(&inner);
    }

    /// A streamed tree is complete.
    pub(super) fn streamed(&self, top: &RelPath) -> Result<()> {
        if !self.lock().streams.remove(top) {
            return Err(Error::protocol("the end of a stream that nobody asked for"));
        }
        self.wake.notify_all();
        Ok(())
    }

    /// The file's next step is asking for it: how many more may be asked for now.
    fn next_to_ask(&self) -> Option<RelPath> {
        let mut inner = self.lock();
        if inner.asked >= MAX_ASKED {
            return None;
        }
        // A hostile source may have sent what nobody had asked for yet: that is settled.
        while inner
            .waiting
            .front()
            .is_some_and(|path| !inner.files.contains_key(path))
        {
            inner.waiting.pop_front();
        }
        let path = inner.waiting.front()?.clone();
        let has_basis = inner.files.get(&path).is_some_and(|file| file.has_basis);
        if has_basis && inner.asked_with_basis >= MAX_ASKED_WITH_BASIS {
            return None;
        }
        inner.waiting.pop_front();
        inner.asked += 1;
        inner.asked_with_basis += usize::from(has_basis);
        if let Some(file) = inner.files.get_mut(&path) {
            file.asked = true;
        }
        Some(path)
    }

    /// Queues the asking for as many files as may be under way.
    pub(super) fn ask_more(&self, session: &Session<'_>) {
        while let Some(path) = self.next_to_ask() {
            session.shared.tasks.push(Task::Ask(path));
        }
    }

    /// Whether a file that is about to be asked for may be built on its old version.
    pub(super) fn may_use_basis(&self, path: &RelPath) -> bool {
        let inner = self.lock();
        let file = inner.files.get(path);
        file.is_some_and(|file| file.has_basis && !file.mistrusted)
    }

    /// Keeps the old version that a file was asked for against.
    pub(super) fn keep_basis(&self, path: &RelPath, basis: Existing) {
        if let Some(file) = self.lock().files.get_mut(path) {
            file.basis = Some(Arc::new(basis));
        }
    }

    /// The old version that a file was asked for against.
    pub(super) fn basis(&self, path: &RelPath) -> Option<Arc<Existing>> {
        self.lock().files.get(path)?.basis.clone()
    }

    /// A file begins to come. One of a stream was in no plan until now.
    pub(super) fn begins(&self, path: &RelPath, entry: &Entry) {
        let mut inner = self.lock();
        if !inner.files.contains_key(path) {
            inner.planned_files += 1;
            inner.planned_bytes += entry.meta.size;
        }
    }

    /// What was planned for a file that has come.
    pub(super) fn arrives(&self, path: &RelPath) -> Arrival {
        let changes = self.lock().files.get(path).map(|file| file.changes);
        Arrival {
            changes: changes.unwrap_or_else(all_new),
        }
    }

    /// Wakes the thread that waits for the end, at the end: waking it for each file took a
    /// twentieth of a first copy.
    fn wake_if_quiet(&self, inner: &Inner) {
        if inner.is_quiet() {
            self.wake.notify_all();
        }
    }

    /// A file is settled: it landed, or failed for good.
    pub(super) fn arrived(&self, session: &Session<'_>, path: &RelPath) {
        let mut inner = self.lock();
        if let Some(file) = inner.files.remove(path) {
            inner.unask(&file);
        }
        self.wake_if_quiet(&inner);
        drop(inner);
        self.ask_more(session);
    }

    /// What was copied into a file makes no sense: it is asked for again, whole.
    pub(super) fn mistrust(&self, path: &RelPath) {
        let mut inner = self.lock();
        let file = inner
            .files
            .entry(path.clone())
            .or_insert_with(Wanted::unplanned);
        file.mistrusted = true;
    }

    /// The end of a file that failed while it was coming in.
    pub(super) fn given_up(&self, session: &Session<'_>, path: &RelPath) -> Result<()> {
        let mistrusted = self
            .lock()
            .files
            .get(path)
            .is_some_and(|file| file.mistrusted);
        if mistrusted {
            return self.fault(session, path, Fault::Changed);
        }
        self.arrived(session, path);
        Ok(())
    }

    /// A file that did not come: asked for again where it changed, else reported.
    pub(super) fn fault(&self, session: &Session<'_>, path: &RelPath, why: Fault) -> Result<()> {
        match why {
            Fault::Problem(problem) => session.report(problem),
            Fault::Vanished => session.unsettled(path, ChurnKind::Vanished)?,
            Fault::Changed => {
                if self.try_again(path) {
                    self.wake.notify_all();
                    self.ask_more(session);
                    return Ok(());
                }
                session.unsettled(path, ChurnKind::Changed)?;
            }
        }
        self.arrived(session, path);
        Ok(())
    }

    /// Notes a file for the end of the run; `false` when it has been tried often enough.
    fn try_again(&self, path: &RelPath) -> bool {
        let mut inner = self.lock();
        let removed = inner.files.remove(path);
        let mut file = removed.unwrap_or_else(Wanted::unplanned);
        inner.unask(&file);
        file.asked = false;
        file.basis = None;
        file.mistrusted = true;
        file.has_basis = false;
        file.attempts += 1;
        let more = file.attempts < ATTEMPTS;
        inner.files.insert(path.clone(), file);
        if more {
            inner.again.push(path.clone());
        }
        more
    }

    /// Waits until nothing more is to come. Fails when the session does.
    pub(super) fn wait(&self, session: &Session<'_>) -> Result<()> {
        self.ask_more(session);
        let mut inner = self.lock();
        loop {
            session.check()?;
            let quiet = inner.is_quiet();
            if quiet && inner.again.is_empty() {
                return Ok(());
            }
            if quiet {
                let again = std::mem::take(&mut inner.again);
                inner.waiting.extend(again);
                drop(inner);
                std::thread::sleep(RETRY_AFTER);
                self.ask_more(session);
                inner = self.lock();
                continue;
            }
            inner = self
                .wake
                .wait_timeout(inner, TICK)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Inner {
    /// Whether nothing is to come, unless it is asked for again.
    fn is_quiet(&self) -> bool {
        self.asked == 0 && self.waiting.is_empty() && self.streams.is_empty() && self.tasks == 0
    }

    fn unask(&mut self, file: &Wanted) {
        if file.asked {
            self.asked -= 1;
            self.asked_with_basis -= usize::from(file.has_basis);
        }
    }
}
