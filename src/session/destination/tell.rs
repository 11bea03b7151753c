//! What the destination tells those who watch: what it did, what went wrong, how far it is.

use std::sync::atomic::Ordering;

use crate::apply::Failure;
use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::events::{
    Action, Changes, Churn, ChurnKind, Event, Item, Observer, Problem, Side, Summary,
};
use crate::path::RelPath;
use crate::protocol::message::Scanned;
use crate::session::destination::Session;

impl Session<'_> {
    pub(super) fn tell(&self, event: Event) {
        self.role.tell(self.outbox, event);
    }

    pub(in crate::session) fn item(
        &self,
        path: &RelPath,
        kind: EntryKind,
        action: Action,
        changes: Changes,
    ) {
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
            return Err(Error::io(failure.act, path.as_bytes(), failure.source));
        }
        self.problem(Side::Destination, failure.act, path, &failure.source);
        Ok(())
    }

    /// What the run has done so far.
    pub(super) fn summary(&self, scanned: &Scanned) -> Summary {
        let mut summary = self.counts.summary();
        summary.source_entries = scanned.entries;
        summary.source_bytes = scanned.bytes;
        summary.wire_sent_bytes = self.received.load(Ordering::Relaxed);
        summary.wire_received_bytes = self.outbox.sent_bytes();
        summary.differs |= summary.extraneous > 0 || self.counts.has_problems();
        summary
    }
}

/// Passes a scan's events on.
pub(super) struct Teller<'a>(pub(super) &'a Session<'a>);

impl Observer for Teller<'_> {
    fn observe(&self, event: Event) {
        self.0.tell(event);
    }
}
