//! The writing threads: take what the source sends and hand it to the applier, file by file.
//!
//! A thread that is done with a frame grants its cost back, so what waits here is bounded by the
//! credit. Small files come many to a frame; a large file's parts are queued in its [`Lane`], which
//! one thread at a time drains.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use crate::apply::{Existing, Failure, Incoming as IncomingFile, Keep, Landed, Original};
use crate::delta::{Signature, SignatureSpec, UntilCancelled};
use crate::digest::ContentHash;
use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::events::{Action, Problem, Side};
use crate::fs;
use crate::manifest::record::Entry;
use crate::manifest::state::FileFact;
use crate::path::{Name, RelPath};
use crate::protocol::frame::{Frame, MAX_BODY, decode_batch, decode_data};
use crate::protocol::message::{CopyRange, Fault, FromDestination, Outcome, StreamedDir, Want};
use crate::session::destination::Session;
use crate::session::destination::pending::Arrival;
use crate::session::destination::plan::{Differing, FilePlan, Relocation};

/// Work for a writing thread.
pub(super) enum Task {
    /// A frame of small files.
    Batch(Frame),
    /// Parts of a large file wait in its lane.
    Lane(Arc<Lane>),
    /// A directory of a stream, with its cost.
    Dir(StreamedDir, u64),
    /// A stream is complete.
    Streamed(RelPath),
    /// A file that did not come, with its cost.
    Unsent(RelPath, Fault, u64),
    /// A file to ask for.
    Ask(RelPath),
    /// Files of this machine to copy, with what listing them cost.
    CopyLocal(Vec<FilePlan>, u64),
    /// Metadata to set.
    Attributes(Vec<Differing>),
    /// Files to copy from others of the destination.
    CopyOwn(Relocation),
}

/// A part of a large file.
pub(super) enum Part {
    Begin {
        dir: RelPath,
        entry: Entry,
        delta: bool,
        cost: u64,
    },
    Data {
        offset: u64,
        frame: Frame,
    },
    Copies {
        ops: Vec<CopyRange>,
        cost: u64,
    },
    WantSums {
        id: u64,
        spec: SignatureSpec,
    },
    End {
        outcome: Outcome,
        cost: u64,
    },
}

/// A large file on its way in.
#[derive(Default)]
pub(super) struct Lane {
    parts: Mutex<LaneParts>,
    file: Mutex<LaneFile>,
}

#[derive(Default)]
struct LaneParts {
    waiting: VecDeque<Part>,
    /// A thread is working on the lane, or will be: it is queued.
    taken: bool,
}

/// What has been made of the file so far.
#[derive(Default)]
enum LaneFile {
    #[default]
    NotBegun,
    Open {
        path: RelPath,
        entry: Entry,
        incoming: Box<IncomingFile>,
        delta: bool,
    },
    /// It failed here; the parts that are still coming are dropped.
    Failed { path: RelPath },
}

impl Lane {
    /// Adds a part; `true` when the lane must be queued.
    pub(super) fn push(&self, part: Part) -> bool {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.waiting.push_back(part);
        !std::mem::replace(&mut parts.taken, true)
    }

    fn next(&self) -> Option<Part> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let part = parts.waiting.pop_front();
        parts.taken = part.is_some();
        part
    }

    /// Gives up what was begun: the session is over.
    pub(super) fn abandon(&self) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let LaneFile::Open { incoming, .. } = std::mem::take(&mut *file) {
            incoming.abandon(Keep::Partial);
        }
    }
}

impl Session<'_> {
    /// Works until the queue is closed.
    pub(super) fn write(&self) -> Result<()> {
        self.shared.tasks.run(|task| {
            self.role.cancel.check()?;
            self.work_on(task)
        })
    }

    fn work_on(&self, task: Task) -> Result<()> {
        let mut settled = 1;
        match task {
            Task::Batch(frame) => self.write_batch(&frame)?,
            Task::Lane(lane) => {
                self.remember_lane(&lane);
                while let Some(part) = lane.next() {
                    self.write_part(&lane, part)?;
                }
            }
            Task::Dir(dir, cost) => self.write_streamed_dir(dir, cost)?,
            Task::Streamed(top) => self.pending.streamed(&top)?,
            Task::Unsent(path, why, cost) => {
                self.pending.fault(self, &path, why)?;
                self.give_credit(cost)?;
            }
            // Settled when the file has come.
            Task::Ask(path) => {
                settled = 0;
                self.ask(path)?;
            }
            Task::CopyLocal(files, cost) => {
                settled = files.len();
                files
                    .into_iter()
                    .try_for_each(|file| self.copy_local(file))?;
                self.give_credit(cost)?;
            }
            Task::Attributes(items) => {
                settled = items.len();
                items
                    .iter()
                    .try_for_each(|item| self.set_attributes(item))?;
            }
            Task::CopyOwn(relocation) => self.copy_own(&relocation)?,
        }
        self.pending.settle(settled);
        Ok(())
    }

    /// Asks for a file's content, with what there is of its old version.
    fn ask(&self, path: RelPath) -> Result<()> {
        let basis = match self.uses_delta() && self.pending.may_use_basis(&path) {
            true => self.open_basis(&path),
            false => None,
        };
        let told = basis.as_ref().and_then(|basis| {
            // An old version that cannot be read is none.
            super::basis::describe(basis, &self.options().transfer, self.role.cancel).ok()
        });
        if let (Some(basis), Some(_)) = (basis, &told) {
            self.pending.keep_basis(&path, basis);
        }
        self.say(&FromDestination::Want(Want { path, basis: told }))
    }

    /// The old version of a file, or what an interrupted run left of the new one if that is more.
    fn open_basis(&self, path: &RelPath) -> Option<Existing> {
        let applier = self.applier().ok()?;
        let existing = applier.existing(path).ok();
        let leftover = self
            .leftovers_of(path)
            .filter_map(|(dir, temp)| applier.leftover(dir, temp).ok())
            .max_by_key(|leftover| leftover.len);
        match (existing, leftover) {
            (Some(existing), Some(left)) if !existing.in_place && left.len > existing.len / 2 => {
                Some(left)
            }
            (None, left) => left,
            (existing, _) => existing,
        }
    }

    /// The unfinished files that earlier runs left of this one.
    pub(super) fn leftovers_of<'b>(
        &'b self,
        path: &'b RelPath,
    ) -> impl Iterator<Item = &'b (RelPath, Name)> {
        let place = path.parent().zip(path.file_name());
        let all = self.leftovers.get().map_or(&[][..], Vec::as_slice);
        all.iter().filter(move |(at, temp)| {
            place
                .as_ref()
                .is_some_and(|(dir, name)| at == dir && fs::temp_belongs_to(temp.as_bytes(), name))
        })
    }

    fn write_batch(&self, frame: &Frame) -> Result<()> {
        let (batch, mut contents) = decode_batch(&frame.body)?;
        for (entry, hash) in &batch.files {
            let (content, rest) = contents.split_at(entry.meta.size as usize);
            contents = rest;
            let path = batch.dir.join(&entry.name);
            if entry.meta.kind != EntryKind::File {
                return Err(Error::protocol("content for what is no file"));
            }
            self.pending.begins(&path, entry);
            let arrival = self.pending.arrives(&path);
            let written = self.applier()?.write_small(&path, entry, content, *hash);
            self.landed(path, entry, arrival, written, *hash, false)?;
        }
        self.give_credit(frame.credit_bytes)
    }

    /// Reports a file that has landed, or not.
    fn landed(
        &self,
        path: RelPath,
        entry: &Entry,
        arrival: Arrival,
        written: std::result::Result<Landed, Failure>,
        hash: ContentHash,
        patched: bool,
    ) -> Result<()> {
        match written {
            Ok(landed) => {
                self.counts.landed(&landed, entry.meta.size, patched);
                self.remember_hash(&path, &landed, hash);
                self.remember_leader(&path, entry);
                self.item(&path, entry.meta.kind, Action::Transfer, arrival.changes);
                self.pending.arrived(self, &path);
                self.tell_progress(&path);
                Ok(())
            }
            // What arrived is not what was sent: once more, whole.
            Err(failure) if failure.source.kind() == std::io::ErrorKind::InvalidData => {
                self.pending.fault(self, &path, Fault::Changed)
            }
            Err(failure) => {
                self.pending.arrived(self, &path);
                self.failed(&path, failure)
            }
        }
    }

    fn write_part(&self, lane: &Lane, part: Part) -> Result<()> {
        let mut file = lane.file.lock().unwrap_or_else(PoisonError::into_inner);
        match part {
            Part::Begin {
                dir,
                entry,
                delta,
                cost,
            } => {
                *file = self.begin_file(dir.join(&entry.name), entry, delta)?;
                self.give_credit(cost)
            }
            Part::Data { offset, frame } => {
                let (_, _, bytes) = decode_data(&frame.body)?;
                self.on_file(&mut file, |incoming| incoming.write(offset, bytes))?;
                self.give_credit(frame.credit_bytes)
            }
            Part::Copies { ops, cost } => {
                self.on_file(&mut file, |incoming| {
                    ops.iter()
                        .try_for_each(|op| incoming.copy(op.to, op.from, op.len))
                })?;
                self.give_credit(cost)
            }
            Part::WantSums { id, spec } => self.answer_sums(&file, id, spec),
            Part::End { outcome, cost } => {
                self.end_file(std::mem::take(&mut file), outcome)?;
                self.give_credit(cost)
            }
        }
    }

    fn begin_file(&self, path: RelPath, entry: Entry, delta: bool) -> Result<LaneFile> {
        if entry.meta.kind != EntryKind::File {
            return Err(Error::protocol("content for what is no file"));
        }
        self.pending.begins(&path, &entry);
        let applier = self.applier()?;
        let basis = if delta {
            self.pending.basis(&path)
        } else {
            None
        };
        let existing = match (basis, self.options().write.inplace) {
            (Some(basis), _) => Some(basis),
            // In place, an old file is written over even where it is no basis.
            (None, true) => applier.existing(&path).ok(),
            (None, false) => None,
        };
        match applier.begin(&path, entry.meta.size, existing) {
            Ok(incoming) => Ok(LaneFile::Open {
                path,
                entry,
                incoming: Box::new(incoming),
                delta,
            }),
            Err(failure) => {
                self.failed(&path, failure)?;
                Ok(LaneFile::Failed { path })
            }
        }
    }

    /// Does something to an open file; where that fails, the file is given up and the run goes on.
    fn on_file(
        &self,
        file: &mut LaneFile,
        act: impl FnOnce(&mut IncomingFile) -> std::result::Result<(), Failure>,
    ) -> Result<()> {
        let LaneFile::Open { path, incoming, .. } = file else {
            return Ok(());
        };
        let before = incoming.settled_bytes();
        let outcome = act(incoming);
        self.counts.flow(incoming.settled_bytes() - before);
        let Err(failure) = outcome else {
            self.tell_progress(path);
            return Ok(());
        };
        // What an interrupt finds half done is not given up: the next run goes on with it.
        self.role.cancel.check()?;
        self.counts.ebb(incoming.settled_bytes());
        let path = path.clone();
        let failed = LaneFile::Failed { path: path.clone() };
        if let LaneFile::Open { incoming, .. } = std::mem::replace(file, failed) {
            incoming.abandon(Keep::Nothing);
        }
        if failure.source.kind() == std::io::ErrorKind::InvalidData {
            self.pending.mistrust(&path);
            return Ok(());
        }
        self.failed(&path, failure)
    }

    fn answer_sums(&self, file: &LaneFile, id: u64, spec: SignatureSpec) -> Result<()> {
        let signature = match file {
            LaneFile::Open { path, .. } => self.pending.basis(path).and_then(|basis| {
                (basis.len == spec.basis_len() && spec.wire_bytes() <= MAX_BODY as u64 / 2).then(
                    || {
                        Signature::of_basis(
                            &UntilCancelled(&basis.file, self.role.cancel),
                            spec,
                            super::delta_threads(),
                        )
                        .ok()
                    },
                )?
            }),
            LaneFile::NotBegun | LaneFile::Failed { .. } => None,
        };
        self.say(&FromDestination::Sums { id, signature })
    }

    fn end_file(&self, file: LaneFile, outcome: Outcome) -> Result<()> {
        match (file, outcome) {
            (
                LaneFile::Open {
                    path,
                    entry,
                    incoming,
                    delta,
                },
                Outcome::Complete(hash),
            ) => {
                let arrival = self.pending.arrives(&path);
                self.counts.ebb(incoming.settled_bytes());
                let written = incoming.finish(self.applier()?, &entry, hash);
                self.landed(path, &entry, arrival, written, hash, delta)
            }
            (LaneFile::Open { path, incoming, .. }, Outcome::Fault(why)) => {
                self.counts.ebb(incoming.settled_bytes());
                incoming.abandon(Keep::Nothing);
                self.pending.fault(self, &path, why)
            }
            (LaneFile::Failed { path }, _) => self.pending.given_up(self, &path),
            (LaneFile::NotBegun, _) => Err(Error::protocol("the end of a file that never began")),
        }
    }

    /// Makes what a streamed directory lists; in a dry run only says so.
    fn write_streamed_dir(&self, streamed: StreamedDir, cost: u64) -> Result<()> {
        let StreamedDir { dir, entries } = streamed;
        self.counts
            .streamed_entries
            .fetch_add(entries.len() as u64, Ordering::Relaxed);
        let mut files = Vec::new();
        for entry in entries {
            let path = dir.join(&entry.name);
            let plan = FilePlan {
                path,
                basis_len: None,
                changes: super::plan::all_new(),
                entry,
            };
            match plan.entry.meta.kind {
                _ if self.is_linked_later(&plan) => {}
                EntryKind::Dir => self.make_dir(&plan.path, &plan.entry, plan.changes)?,
                EntryKind::File => files.push(plan),
                _ => self.make_special(&plan)?,
            }
        }
        self.pending.plan_more(&files);
        if self.dry_run() {
            for file in files {
                self.counts.would_land(&file);
                self.item(&file.path, EntryKind::File, Action::Transfer, file.changes);
            }
            return self.give_credit(cost);
        }
        if files.is_empty() {
            return self.give_credit(cost);
        }
        // The cost comes back as the files are done: so listing does not run far ahead.
        self.pending.add(files.len());
        let chunks = super::chunks(files, super::FILES_A_TASK);
        let share = cost / chunks.len() as u64;
        self.give_credit(cost - share * chunks.len() as u64)?;
        for chunk in chunks {
            self.shared
                .tasks
                .push_into(&dir, Task::CopyLocal(chunk, share));
        }
        Ok(())
    }

    /// Whether the entry is another name of a file that is on its way: it is linked at the end.
    fn is_linked_later(&self, plan: &FilePlan) -> bool {
        let Some(link) = plan.entry.link else {
            return false;
        };
        let mut leaders = self.leaders.lock().unwrap_or_else(PoisonError::into_inner);
        // With content inline the source lists only the followers of a file; without it, and of
        // what has no content, all names.
        let may_lead = self.content_inline == super::ContentInline::No
            || plan.entry.meta.kind != EntryKind::File;
        let leads =
            may_lead && *leaders.led.entry(link).or_insert_with(|| plan.path.clone()) == plan.path;
        if !leads {
            leaders.followers.push((plan.path.clone(), link));
        }
        !leads
    }

    /// Copies a file of this machine from the source's tree.
    fn copy_local(&self, plan: FilePlan) -> Result<()> {
        let Some(source) = self.role.local_source else {
            return Err(Error::protocol("a listing without content"));
        };
        for attempt in 1..=super::ATTEMPTS {
            match source.copy(self, &plan) {
                Ok(None) => return Ok(()),
                Ok(Some(why)) if attempt == super::ATTEMPTS => {
                    return self.unsettled(&plan.path, why);
                }
                Ok(Some(_)) => {}
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }

    fn set_attributes(&self, item: &Differing) -> Result<()> {
        match self
            .applier()?
            .set_attributes(&item.path, &item.new, &item.old)
        {
            Ok(()) => {
                self.counts.attributes_set.fetch_add(1, Ordering::Relaxed);
                let kind = item.new.meta.kind;
                self.item(&item.path, kind, Action::Attributes, item.changes);
                Ok(())
            }
            Err(failure) => self.failed(&item.path, failure),
        }
    }

    /// Copies a file from another name of the destination.
    fn copy_own(&self, relocation: &Relocation) -> Result<()> {
        let applier = self.applier()?;
        let copied = applier
            .existing(&relocation.from)
            .map_err(|err| Failure::new("open", err))
            .and_then(|old| {
                let stat = fs::stat_file(&old.file).map_err(|err| Failure::new("stat", err))?;
                let original = Original {
                    file: &old.file,
                    stat: &stat,
                };
                let cancel = self.role.cancel;
                let mut progress = |_| cancel.check().map_err(std::io::Error::other);
                let Relocation { to, entry, .. } = relocation;
                applier.copy_to_new_file(to, entry, original, &mut progress)
            });
        match copied {
            Ok(_) => {
                self.counts.copied_locally.fetch_add(1, Ordering::Relaxed);
                let from = relocation.from.clone();
                let action = Action::CopyLocal { from };
                self.item(
                    &relocation.to,
                    EntryKind::File,
                    action,
                    super::plan::all_new(),
                );
                Ok(())
            }
            Err(failure) => self.failed(&relocation.to, failure),
        }
    }

    /// Writes a local file's copy.
    pub(in crate::session) fn copy_from(
        &self,
        path: &RelPath,
        entry: &Entry,
        original: Original<'_>,
    ) -> std::result::Result<Landed, Failure> {
        let applier = self
            .applier()
            .map_err(|err| Failure::new("write", std::io::Error::other(err)))?;
        applier.copy_file(path, entry, original, &mut |bytes| {
            self.throttle
                .spend(bytes as usize, self.role.cancel)
                .map_err(std::io::Error::other)
        })
    }

    /// Counts a file that was copied locally.
    pub(in crate::session) fn count_landed(&self, landed: &Landed, entry: &Entry) {
        self.counts.landed(landed, entry.meta.size, false);
    }

    /// Reports what could not be read at the source.
    pub(in crate::session) fn report(&self, problem: Problem) {
        self.counts.problem();
        self.counts.unread();
        self.tell(crate::events::Event::Problem(problem));
    }

    /// A fault at the destination: the run goes on, unless no other file could be written either.
    pub(in crate::session) fn failed(&self, path: &RelPath, failure: Failure) -> Result<()> {
        self.role.cancel.check()?;
        if failure.is_fatal() {
            return Err(Error::io(failure.act, path.as_bytes(), failure.source));
        }
        self.problem(Side::Destination, failure.act, path, &failure.source);
        Ok(())
    }

    /// Keeps the name that a linked file's content came under.
    fn remember_leader(&self, path: &RelPath, entry: &Entry) {
        if let Some(link) = entry.link {
            let mut leaders = self.leaders.lock().unwrap_or_else(PoisonError::into_inner);
            leaders.led.entry(link).or_insert_with(|| path.clone());
        }
    }

    /// Keeps a written file's hash for the state.
    fn remember_hash(&self, path: &RelPath, landed: &Landed, hash: ContentHash) {
        // Without the fact, a later run reads the file again.
        if let (Some(dir), Ok(stat)) = (path.parent(), fs::stat_file(&landed.file)) {
            self.facts.note(&dir, FileFact::new(&stat, hash));
        }
    }
}
