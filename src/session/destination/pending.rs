//! What the destination still waits for: wanted files, streamed trees, its own tasks. Decides what
//! is asked for next, what is asked for again, and when everything is there.

use std::collections::{HashMap, HashSet, VecDeque};
use std::iter::Peekable;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::apply::Existing;
use crate::error::{Error, Result};
use crate::events::{Changes, ChurnKind};
use crate::manifest::compact::{Compact, IntoIter};
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
    /// Files that were asked for or went wrong, until they are there.
    files: HashMap<RelPath, Wanted>,
    /// Files to ask for, in order.
    waiting: Waiting,
    asked: usize,
    asked_with_basis: usize,
    /// Files to ask for again once nothing else is to come.
    again: Vec<RelPath>,
    streams: HashSet<RelPath>,
    tasks: usize,
    planned_files: u64,
    planned_bytes: u64,
}

/// Files that are to be asked for.
#[derive(Default)]
struct Waiting {
    planned: Option<Peekable<IntoIter<FilePlan>>>,
    /// Those to ask for again.
    again: VecDeque<RelPath>,
}

impl Waiting {
    fn is_empty(&mut self) -> bool {
        let planned = self.planned.as_mut();
        self.again.is_empty() && planned.is_none_or(|files| files.peek().is_none())
    }

    /// The next file, with what is planned for it unless it was asked for before.
    fn next(
        &mut self,
        session: &Session<'_>,
        may_have_basis: bool,
    ) -> Option<(RelPath, Option<Wanted>)> {
        if let Some(path) = self.again.pop_front() {
            return Some((path, None));
        }
        let planned = self.planned.as_mut()?;
        let file = planned.peek()?;
        // What an interrupted run left of a new file is its old version.
        let has_basis =
            file.basis_len.is_some() || session.leftovers_of(&file.path).next().is_some();
        if has_basis && !may_have_basis {
            return None;
        }
        let file = planned.next()?;
        let wanted = Wanted {
            changes: file.changes,
            has_basis,
            ..Wanted::unplanned()
        };
        Some((file.path, Some(wanted)))
    }
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

    /// Has files asked for. Called once.
    pub(super) fn want(&self, files: Compact<FilePlan>) {
        self.lock().waiting.planned = Some(files.into_iter().peekable());
    }

    /// Adds files to the totals that progress is measured against.
    pub(super) fn plan_more(&self, files: usize, bytes: u64) {
        let mut inner = self.lock();
        inner.planned_files += files as u64;
        inner.planned_bytes += bytes;
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
        self.wake_if_quiet(&mut inner);
    }

    /// A streamed tree is complete.
    pub(super) fn streamed(&self, top: &RelPath) -> Result<()> {
        if !self.lock().streams.remove(top) {
            return Err(Error::protocol("the end of a stream that nobody asked for"));
        }
        self.wake.notify_all();
        Ok(())
    }

    /// The next file to ask for, if one may be asked for now.
    fn next_to_ask(&self, session: &Session<'_>) -> Option<RelPath> {
        let mut inner = self.lock();
        if inner.asked >= MAX_ASKED {
            return None;
        }
        let may_have_basis = inner.asked_with_basis < MAX_ASKED_WITH_BASIS;
        let (path, planned) = inner.waiting.next(session, may_have_basis)?;
        let file = match planned {
            Some(wanted) => inner
                .files
                .entry(path.clone())
                .insert_entry(wanted)
                .into_mut(),
            None => inner
                .files
                .entry(path.clone())
                .or_insert_with(Wanted::unplanned),
        };
        file.asked = true;
        let has_basis = file.has_basis;
        inner.asked += 1;
        inner.asked_with_basis += usize::from(has_basis);
        Some(path)
    }

    /// Queues the asking for as many files as may be under way.
    pub(super) fn ask_more(&self, session: &Session<'_>) {
        while let Some(path) = self.next_to_ask(session) {
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
    fn wake_if_quiet(&self, inner: &mut Inner) {
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
        self.wake_if_quiet(&mut inner);
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
        // A file that only would not hold still has most of what it had: a log, a database.
        file.has_basis &= !file.mistrusted;
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
                inner.waiting.again.extend(again);
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
    fn is_quiet(&mut self) -> bool {
        self.asked == 0 && self.waiting.is_empty() && self.streams.is_empty() && self.tasks == 0
    }

    fn unask(&mut self, file: &Wanted) {
        if file.asked {
            self.asked -= 1;
            self.asked_with_basis -= usize::from(file.has_basis);
        }
    }
}
