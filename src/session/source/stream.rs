//! Trees that the destination does not have: they are sent whole, directory by directory, without
//! a comparison.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use crate::digest::Digest;
use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::fs::ListScratch;
use crate::manifest::listing::{Listing, Row};
use crate::manifest::record::Entry;
use crate::path::{Name, RelPath};
use crate::protocol::frame::encode_message;
use crate::protocol::message::{FromSource, Scanned, StreamedDir};
use crate::session::source::listings::{ENTRIES_A_MESSAGE, split};
use crate::session::source::send::{FilesJob, Sender};
use crate::session::source::serving::{Job, Serving};

/// How many files one thread sends before another may take the next ones of the directory.
const FILES_A_JOB: usize = 256;

/// A directory of a tree that is streamed whole.
pub(super) struct StreamJob {
    pub(super) dir: RelPath,
    pub(super) content: bool,
    pub(super) ticket: Arc<Ticket>,
}

/// Counts what is left of a streamed tree, so that its end can be told.
pub(super) struct Ticket {
    top: RelPath,
    pending: AtomicUsize,
}

impl Ticket {
    pub(super) fn new(top: RelPath) -> Arc<Ticket> {
        Arc::new(Ticket {
            top,
            pending: AtomicUsize::new(1),
        })
    }

    /// Announces more parts; before the part that found them is settled.
    fn add(&self, parts: usize) {
        self.pending.fetch_add(parts, Ordering::Relaxed);
    }

    /// Settles one part, and after the last one tells the destination.
    pub(super) fn settle(&self, serving: &Serving<'_>) -> Result<()> {
        if self.pending.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(());
        }
        if serving.scan.is_none() {
            serving
                .outbox
                .say(&FromSource::Scanned(serving.streamed_totals()?))?;
        }
        serving.outbox.say(&FromSource::Streamed(self.top.clone()))
    }
}

/// What streams have met, where no scan counted it.
#[derive(Default)]
pub(super) struct Streamed {
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl Serving<'_> {
    pub(super) fn stream_root(&self, content: bool) {
        self.jobs.push(Job::Stream(StreamJob {
            dir: RelPath::root(),
            content,
            ticket: Ticket::new(RelPath::root()),
        }));
    }

    /// Sends one directory of a tree that the destination does not have, and queues what is
    /// beneath it.
    pub(super) fn stream(
        &self,
        job: StreamJob,
        scratch: &mut ListScratch,
        sender: &mut Sender<'_>,
    ) -> Result<()> {
        // Only the top was named by the destination; the rest was found beneath it.
        let admitted = match job.dir == job.ticket.top {
            true => self.admit_dir(&job.dir),
            false => Ok(()),
        };
        let listing = match admitted.and_then(|()| self.list(&job.dir, scratch)) {
            Ok(listing) => listing,
            Err(err) => {
                self.tell_unlisted(&job.dir, &err)?;
                return job.ticket.settle(self);
            }
        };
        for problem in &listing.problems {
            self.tell_new(problem.clone())?;
        }
        self.count_listing(&listing);
        let subdirs = self.subdirs_to_enter(&listing);
        let (files, listed) = self.split_content(listing, &job);
        self.say_dir(&job.dir, listed)?;
        let batches = split(files, FILES_A_JOB);
        job.ticket.add(subdirs.len() + batches.len());
        for dir in subdirs.into_iter().rev() {
            self.jobs.push_front(Job::Stream(StreamJob {
                dir: job.dir.join(&dir),
                content: job.content,
                ticket: job.ticket.clone(),
            }));
        }
        let mut batches = batches.into_iter().map(|rows| FilesJob {
            dir: job.dir.clone(),
            rows,
            ticket: job.ticket.clone(),
        });
        // The first batch is this thread's: its directory is at hand. Others may help with the
        // rest.
        let mine = batches.next();
        batches.for_each(|files| self.jobs.push_front(Job::SendFiles(files)));
        if let Some(files) = mine {
            sender.send_files(files)?;
        }
        job.ticket.settle(self)
    }

    fn count_listing(&self, listing: &Listing) {
        let files = listing
            .rows
            .iter()
            .filter(|row| row.entry.meta.kind == EntryKind::File);
        let bytes = files.map(|row| row.entry.meta.size).sum();
        let entries = listing.rows.len() as u64;
        self.streamed.entries.fetch_add(entries, Ordering::Relaxed);
        self.streamed.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn subdirs_to_enter(&self, listing: &Listing) -> Vec<Name> {
        let one_file_system = self.role.options.selection.one_file_system;
        listing
            .rows
            .iter()
            .filter(|row| row.entry.meta.kind == EntryKind::Dir)
            .filter(|row| !one_file_system || row.stat.dev == self.root_dev)
            .map(|row| row.entry.name.clone())
            .collect()
    }

    /// Splits a listing into files whose content shall be sent and entries that are complete as
    /// they are. Of a linked file only the first name has content.
    fn split_content(&self, listing: Listing, job: &StreamJob) -> (Vec<Row>, Vec<Entry>) {
        let mut files = Vec::new();
        let mut listed = Vec::new();
        for row in listing.rows {
            let path = job.dir.join(&row.entry.name);
            let is_file = row.entry.meta.kind == EntryKind::File;
            if job.content && is_file && self.leads(row.entry.link, path) {
                files.push(row);
            } else {
                listed.push(self.outward(row.entry));
            }
        }
        (files, listed)
    }

    fn leads(&self, link: Option<u64>, path: RelPath) -> bool {
        let Some(link) = link else {
            return true;
        };
        let mut led = self.led.lock().unwrap_or_else(PoisonError::into_inner);
        *led.entry(link).or_insert_with(|| path.clone()) == path
    }

    fn say_dir(&self, dir: &RelPath, entries: Vec<Entry>) -> Result<()> {
        for entries in split(entries, ENTRIES_A_MESSAGE) {
            let frame = encode_message(&FromSource::Dir(StreamedDir {
                dir: dir.clone(),
                entries,
            }))?;
            self.outbox.send_paid(frame)?;
        }
        Ok(())
    }

    /// What a streamed source amounts to; its digests were never needed.
    pub(super) fn streamed_totals(&self) -> Result<Scanned> {
        let root = match self.recorded {
            Some(recorded) => recorded.header.root.clone(),
            None => {
                let row = self.lister.root_entry();
                row.map_err(|err| Error::io("read", b"the root directory", err))?
                    .entry
            }
        };
        Ok(Scanned {
            root,
            deep: Digest::default(),
            links: self.lister.links.digest(),
            entries: self.streamed.entries.load(Ordering::Relaxed),
            bytes: self.streamed.bytes.load(Ordering::Relaxed),
            // Each has been told of where it was met.
            problems: 0,
            moved_device: false,
        })
    }
}
