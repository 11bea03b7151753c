//! What the destination tells those who watch: what it did, what went wrong, how far it is.

use std::collections::HashSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::apply::Failure;
use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::events::{
    Action, Changes, Churn, ChurnKind, Event, Item, Observer, Problem, Side, Summary,
};
use crate::manifest::scan::root_digest;
use crate::path::RelPath;
use crate::protocol::message::Scanned;
use crate::session::destination::Session;
use crate::session::destination::plan::{FilePlan, all_new};

impl Session<'_> {
    pub(super) fn tell(&self, event: Event) {
        self.role.tell(self.outbox, event);
    }

    /// Tells what was done to an entry, after the new directories that it lies in: one thread can
    /// have a file of a stream before another has its directory.
    pub(in crate::session) fn item(
        &self,
        path: &RelPath,
        kind: EntryKind,
        action: Action,
        changes: Changes,
    ) {
        self.counts.differ();
        if !self.options().itemize {
            return;
        }
        // Held while telling: nobody else may come between.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for dir in told.untold_above(path) {
            self.tell(Event::Item(new_dir(dir)));
        }
        let is_new_dir = kind == EntryKind::Dir && action == Action::Create;
        if !is_new_dir || told.0.insert(path.clone()) {
            self.tell(Event::Item(Item {
                path: path.clone(),
                kind,
                action,
                changes,
            }));
        }
    }

    /// Counts and tells a file that would land if this were no dry run.
    pub(super) fn say_would_land(&self, file: &FilePlan) {
        self.counts.would_land(file);
        self.item(&file.path, EntryKind::File, Action::Transfer, file.changes);
    }

    pub(super) fn problem(&self, side: Side, act: &str, path: &RelPath, err: &std::io::Error) {
        self.counts.problem();
        self.tell(Event::Problem(Problem {
            side,
            act: act.to_string(),
            path: path.clone(),
            reason: err.to_string(),
            os_error: err.raw_os_error(),
        }));
    }

    pub(super) fn unsettled(&self, path: &RelPath, kind: ChurnKind) -> Result<()> {
        self.counts.churn();
        self.tell(Event::Churn(Churn {
            path: path.clone(),
            kind,
        }));
        Ok(())
    }

    pub(in crate::session) fn tell_progress(&self, path: &RelPath) {
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

    /// Reports what could not be read at the source.
    pub(in crate::session) fn report(&self, problem: Problem) {
        self.counts.problem();
        self.counts.unread();
        self.tell(Event::Problem(problem));
    }

    /// A fault at the destination: the run goes on, unless no other file could be written either.
    pub(in crate::session) fn failed(&self, path: &RelPath, failure: Failure) -> Result<()> {
        self.role.cancel.check()?;
        if failure.is_fatal() {
            return Err(Error::Failed(format!(
                "cannot {} {path} at the {}: {}",
                failure.act,
                Side::Destination.noun(),
                failure.source
            )));
        }
        self.problem(Side::Destination, failure.act, path, &failure.source);
        Ok(())
    }

    /// What the run has done so far.
    pub(super) fn summary(&self, scanned: &Scanned) -> Summary {
        let mut summary = self.counts.summary();
        summary.source_entries = scanned.entries;
        summary.source_bytes = scanned.bytes;
        summary.digest = Some(root_digest(
            &scanned.root,
            scanned.deep,
            scanned.links,
            &self.rules,
        ));
        summary.wire_sent_bytes = self.received.load(Ordering::Relaxed);
        summary.wire_received_bytes = self.outbox.sent_bytes();
        summary.differs |= summary.extraneous > 0 || self.counts.has_problems();
        summary
    }
}

/// New directories that have been told, and the root where all beneath it is new.
pub(super) struct ToldDirs(HashSet<RelPath>);

impl ToldDirs {
    /// At the start: with `empty` all that will be beneath the root is new.
    pub(super) fn at_start(empty: bool) -> ToldDirs {
        ToldDirs(empty.then(RelPath::root).into_iter().collect())
    }

    /// Notes the new directories above a path that have not been told, and returns them from the
    /// uppermost down.
    fn untold_above(&mut self, path: &RelPath) -> Vec<RelPath> {
        let mut untold = Vec::new();
        for dir in path.ancestors().skip(1) {
            if self.0.contains(&dir) {
                self.0.extend(untold.iter().cloned());
                untold.reverse();
                return untold;
            }
            untold.push(dir);
        }
        // None of them is new.
        Vec::new()
    }
}

fn new_dir(path: RelPath) -> Item {
    Item {
        path,
        kind: EntryKind::Dir,
        action: Action::Create,
        changes: all_new(),
    }
}

/// Passes a scan's events on.
pub(super) struct Teller<'a>(pub(super) &'a Session<'a>);

impl Observer for Teller<'_> {
    fn observe(&self, event: Event) {
        self.0.tell(event);
    }
}
