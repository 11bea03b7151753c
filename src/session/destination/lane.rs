//! A large file on its way in: its parts wait in a [`Lane`], which one thread at a time drains, so
//! that they stay in order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::apply::{Failure, Incoming, Keep};
use crate::delta::SignatureSpec;
use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::manifest::record::Entry;
use crate::path::RelPath;
use crate::protocol::frame::{Frame, decode_data};
use crate::protocol::message::{CopyRange, Onto, Outcome};
use crate::session::destination::Session;

/// A part of a large file.
pub(super) enum Part {
    Begin {
        dir: RelPath,
        entry: Entry,
        onto: Onto,
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
pub(super) enum LaneFile {
    #[default]
    NotBegun,
    Open {
        path: RelPath,
        entry: Entry,
        incoming: Box<Incoming>,
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

    pub(super) fn next(&self) -> Option<Part> {
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
    pub(super) fn write_part(&self, lane: &Lane, part: Part) -> Result<()> {
        let mut file = lane.file.lock().unwrap_or_else(PoisonError::into_inner);
        match part {
            Part::Begin {
                dir,
                entry,
                onto,
                cost,
            } => {
                *file = self.begin_file(dir.join(&entry.name), entry, onto)?;
                if onto == Onto::AlikeBasis {
                    self.on_file(&mut file, Incoming::start_as_basis)?;
                }
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

    fn begin_file(&self, path: RelPath, entry: Entry, onto: Onto) -> Result<LaneFile> {
        if entry.meta.kind != EntryKind::File {
            return Err(Error::protocol("content for what is no file"));
        }
        self.pending.begins(&path, &entry);
        let applier = self.applier()?;
        let basis = match onto {
            Onto::Nothing => None,
            Onto::Basis | Onto::AlikeBasis => self.pending.basis(&path),
        };
        let existing = match (basis, self.options().write.inplace) {
            (Some(basis), _) => Some(basis),
            // In place, an old file is written over even where it is no basis.
            (None, true) => applier.existing(&path).ok().map(Arc::new),
            (None, false) => None,
        };
        match applier.begin(&path, entry.meta.size, existing) {
            Ok(incoming) => Ok(LaneFile::Open {
                path,
                entry,
                incoming: Box::new(incoming),
                delta: onto != Onto::Nothing,
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
        act: impl FnOnce(&mut Incoming) -> std::result::Result<(), Failure>,
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
}
