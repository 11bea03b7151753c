//! The writing threads: take what the source sends and hand it to the applier, file by file.
//!
//! A thread that is done with a frame grants its cost back, so what waits here is bounded by the
//! credit. Small files come many to a frame; for large ones see [`lane`](super::lane).

use std::sync::{Arc, Mutex, PoisonError};

use crate::apply::{Failure, Landed, Original};
use crate::digest::ContentHash;
use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::events::Action;
use crate::fs;
use crate::manifest::compact::{IntoIter, Pack};
use crate::manifest::record::Entry;
use crate::manifest::state::FileFact;
use crate::path::RelPath;
use crate::protocol::frame::{Frame, decode_batch};
use crate::protocol::message::Fault;
use crate::session::destination::counts::add;
use crate::session::destination::lane::Lane;
use crate::session::destination::pending::Arrival;
use crate::session::destination::plan::{Differing, FilePlan, Relocation};
use crate::session::destination::{FILES_A_TASK, Session};

/// Work for a writing thread.
pub(super) enum Task {
    /// A frame of small files.
    Batch(Frame),
    /// Parts of a large file wait in its lane.
    Lane(Arc<Lane>),
    /// A directory of a stream.
    Dir(Frame),
    /// A stream is complete.
    Streamed(RelPath),
    /// A file that did not come, with its cost.
    Unsent(RelPath, Fault, u64),
    /// A file to ask for.
    Ask(RelPath),
    /// The next part of a backlog.
    Backlog(Arc<Backlog>),
    /// Files to copy from others of the destination.
    CopyOwn(Relocation),
}

/// Work that is planned, in order. Each task of a backlog does some of it and queues itself again,
/// so that what comes meanwhile has its turn.
pub(super) enum Backlog {
    /// Metadata to set.
    Attributes(Mutex<IntoIter<Differing>>),
    /// Files of this machine to copy.
    Copies(Mutex<IntoIter<FilePlan>>),
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
                self.counts.remember_lane(&lane);
                while let Some(part) = lane.next() {
                    self.write_part(&lane, part)?;
                }
            }
            Task::Dir(frame) => self.write_streamed_dir(&frame)?,
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
            Task::Backlog(backlog) => {
                settled = self.work_off(&backlog)?;
                if settled > 0 {
                    self.shared.tasks.push(Task::Backlog(backlog));
                }
            }
            Task::CopyOwn(relocation) => self.copy_own(&relocation)?,
        }
        self.pending.settle(settled);
        Ok(())
    }

    /// Does the next part of a backlog; returns how much that was.
    fn work_off(&self, backlog: &Backlog) -> Result<usize> {
        match backlog {
            Backlog::Attributes(items) => {
                let part = next_part(items);
                part.iter().try_for_each(|item| self.set_attributes(item))?;
                Ok(part.len())
            }
            Backlog::Copies(files) => {
                let part = next_part(files);
                let count = part.len();
                part.into_iter()
                    .try_for_each(|file| self.copy_local(file))?;
                Ok(count)
            }
        }
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
    pub(super) fn landed(
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
                self.pending.mistrust(&path);
                self.pending.fault(self, &path, Fault::Changed)
            }
            Err(failure) => {
                self.pending.arrived(self, &path);
                self.failed(&path, failure)
            }
        }
    }

    /// Copies a file of this machine from the source's tree.
    pub(super) fn copy_local(&self, plan: FilePlan) -> Result<()> {
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

    /// Sets what differs of an entry; in a dry run only says so.
    pub(super) fn set_attributes(&self, item: &Differing) -> Result<()> {
        if let Some(applier) = &self.applier
            && let Err(failure) = applier.set_attributes(&item.path, &item.new, &item.old)
        {
            return self.failed(&item.path, failure);
        }
        add(&self.counts.attributes_set, 1);
        let kind = item.new.meta.kind;
        self.item(&item.path, kind, Action::Attributes, item.changes);
        Ok(())
    }

    /// Copies a file from another name of the destination.
    fn copy_own(&self, relocation: &Relocation) -> Result<()> {
        let applier = self.applier()?;
        let copied = applier
            .existing(&relocation.from)
            .map_err(|err| Failure::new("open", err))
            .and_then(|old| {
                let original = Original {
                    file: &old.file,
                    stat: &old.stat,
                };
                let cancel = self.role.cancel;
                let mut progress = |_| cancel.check().map_err(std::io::Error::other);
                let Relocation { to, entry, .. } = relocation;
                applier.copy_to_new_file(to, entry, original, &mut progress)
            });
        match copied {
            Ok(_) => {
                add(&self.counts.copied_locally, 1);
                let from = relocation.from.clone();
                let action = Action::CopyLocal { from };
                self.item(&relocation.to, EntryKind::File, action, relocation.changes);
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
        let mut settled = 0;
        let copied = applier.copy_file(path, entry, original, &mut |bytes| {
            settled += bytes;
            self.counts.flow(bytes);
            self.tell_progress(path);
            self.throttle
                .spend(bytes as usize, self.role.cancel)
                .map_err(std::io::Error::other)
        });
        self.counts.ebb(settled);
        copied
    }

    /// Counts a file that was copied locally.
    pub(in crate::session) fn count_landed(&self, landed: &Landed, entry: &Entry) {
        self.counts.landed(landed, entry.meta.size, false);
    }

    /// Keeps a written file's hash for the state.
    fn remember_hash(&self, path: &RelPath, landed: &Landed, hash: ContentHash) {
        // Without the fact, a later run reads the file again.
        let (Some(dir), Ok(stat)) = (path.parent(), fs::stat_file(&landed.file)) else {
            return;
        };
        self.facts.note(&dir, FileFact::new(&stat, hash));
        if let Some(blocks) = &landed.blocks {
            let replaced = landed.replaced.as_ref();
            self.blocks.note(&stat, hash, blocks, replaced);
        }
    }
}

fn next_part<T: Pack>(items: &Mutex<IntoIter<T>>) -> Vec<T> {
    let mut items = items.lock().unwrap_or_else(PoisonError::into_inner);
    items.by_ref().take(FILES_A_TASK).collect()
}
