//! What the source tells of its directories: level by level where the destination compares, whole
//! where it has nothing.

use std::collections::HashMap;
use std::io;
use std::sync::PoisonError;

use crate::digest::Digest;
use crate::entry::EntryKind;
use crate::error::Result;
use crate::events::{Event, Problem, Side};
use crate::fs::ListScratch;
use crate::manifest::listing::{Listing, Row};
use crate::manifest::record::{Entry, MAX_BUCKET_BITS, bucket_bits, bucket_digests, bucket_of};
use crate::manifest::tree::{NodeId, Tree};
use crate::path::{Name, RelPath};
use crate::protocol::frame::encode_message;
use crate::protocol::message::{
    Buckets, ExpandRequest, Fault, FromSource, LinkGroup, ListingBody, ListingReply, StreamedDir,
};
use crate::session::source::send::{FilesJob, Sender};
use crate::session::source::{Job, Serving, StreamJob};

/// How many entries one message lists at most: about 64 KiB.
const ENTRIES_A_MESSAGE: usize = 1024;

/// How many files one thread sends before another may take the next ones of the directory.
const FILES_A_JOB: usize = 256;

impl Serving<'_> {
    /// Answers a request for a directory's listing.
    pub(super) fn expand(&self, request: ExpandRequest, scratch: &mut ListScratch) -> Result<()> {
        let dir = request.dir;
        let Some((tree, id)) = self
            .scan
            .and_then(|scan| Some((&scan.tree, scan.tree.find(&dir)?)))
        else {
            return self.reply(dir, ListingBody::Unreadable, Vec::new());
        };
        let node = tree.node(id);
        // What another filesystem hides at a mount point is not known either.
        if node.flags.unreadable || node.flags.elsewhere {
            return self.reply(dir, ListingBody::Unreadable, Vec::new());
        }
        let subdirs = subdir_digests(tree, id);
        if node.shallow == request.shallow && request.buckets.is_none() {
            return self.reply(dir, ListingBody::Same, subdirs);
        }
        let listing = match self.list(&dir, scratch) {
            Ok(listing) => listing,
            Err(err) => {
                self.report(&dir, "read directory", &err);
                return self.reply(dir, ListingBody::Unreadable, Vec::new());
            }
        };
        let mut withheld = listing.withheld.clone();
        for problem in &listing.problems {
            // What cannot be read is not gone: the destination leaves its own alone.
            withheld.extend(problem.path.file_name());
            self.tell_new(problem)?;
        }
        // A directory younger than the scan has no digest yet: the next run sees it.
        let mut entries = listing.into_entries();
        entries.retain(|entry| {
            entry.meta.kind != EntryKind::Dir || tree.child(id, entry.name.as_bytes()).is_some()
        });
        match request.buckets {
            None if bucket_bits(entries.len()) > 0 => self.reply_buckets(dir, &entries, subdirs),
            None => self.reply_entries(dir, entries, withheld, subdirs),
            Some(buckets) => {
                keep_buckets(&mut entries, &buckets);
                self.reply_entries(dir, entries, withheld, subdirs)
            }
        }
    }

    /// Reports an entry that cannot be read, unless the scan has done so.
    fn tell_new(&self, problem: &Problem) -> Result<()> {
        let known = self.scan.map_or(&[][..], |scan| &scan.problems);
        if known.iter().any(|known| known.path == problem.path) {
            return Ok(());
        }
        self.outbox.say_paid(&FromSource::Unsent {
            path: problem.path.clone(),
            why: Fault::Problem(problem.clone()),
        })
    }

    fn reply(&self, dir: RelPath, body: ListingBody, subdirs: Vec<(Name, Digest)>) -> Result<()> {
        self.outbox.say_paid(&FromSource::Listing(ListingReply {
            dir,
            body,
            subdirs,
            last: true,
        }))
    }

    fn reply_buckets(
        &self,
        dir: RelPath,
        entries: &[Entry],
        subdirs: Vec<(Name, Digest)>,
    ) -> Result<()> {
        let bits = bucket_bits(entries.len());
        let entries: Vec<&Entry> = entries.iter().collect();
        let digests = bucket_digests(&entries, bits, &self.lister.rules)
            .iter()
            .map(cut_digest)
            .collect();
        self.reply(dir, ListingBody::Buckets { bits, digests }, subdirs)
    }

    fn reply_entries(
        &self,
        dir: RelPath,
        entries: Vec<Entry>,
        mut withheld: Vec<Name>,
        mut subdirs: Vec<(Name, Digest)>,
    ) -> Result<()> {
        let mut parts = split(entries, ENTRIES_A_MESSAGE);
        let final_part = parts.pop().unwrap_or_default();
        for part in parts {
            let part = part.into_iter().map(|entry| self.outward(entry)).collect();
            self.outbox.say_paid(&FromSource::Listing(ListingReply {
                dir: dir.clone(),
                body: ListingBody::Entries {
                    entries: part,
                    withheld: Vec::new(),
                },
                subdirs: Vec::new(),
                last: false,
            }))?;
        }
        let entries = final_part
            .into_iter()
            .map(|entry| self.outward(entry))
            .collect();
        let body = ListingBody::Entries {
            entries,
            withheld: std::mem::take(&mut withheld),
        };
        self.reply(dir, body, std::mem::take(&mut subdirs))
    }

    /// An entry as the destination knows it: a single file can have another name there.
    pub(super) fn outward(&self, mut entry: Entry) -> Entry {
        if let Some((_, there)) = &self.renamed {
            entry.name = there.clone();
        }
        entry
    }

    /// A path as it is here.
    pub(super) fn inward(&self, path: RelPath) -> RelPath {
        match &self.renamed {
            Some((here, _)) => RelPath::root().join(here),
            None => path,
        }
    }

    /// Sends all hard-link groups, found by listing the directories that hold linked files.
    pub(super) fn list_links(&self, scratch: &mut ListScratch) -> Result<()> {
        let mut groups: HashMap<u64, Vec<RelPath>> = HashMap::new();
        if let Some(scan) = self.scan {
            let marked = scan.tree.ids().filter(|&id| scan.tree.node(id).flags.links);
            for id in marked {
                let dir = scan.tree.path(id);
                let listing = match self.recorded {
                    Some(recorded) => Ok(recorded.list(&dir)),
                    None => self
                        .root
                        .open_dir(&dir)
                        .and_then(|open| self.lister.stats(&open, &dir, scratch)),
                };
                // What cannot be read now has been a problem of the scan, or vanished.
                for Row { entry, .. } in listing.map(|l| l.rows).unwrap_or_default() {
                    if let Some(link) = entry.link {
                        groups.entry(link).or_default().push(dir.join(&entry.name));
                    }
                }
            }
        }
        let mut groups: Vec<LinkGroup> = groups
            .into_iter()
            .filter(|(_, members)| members.len() > 1)
            .map(|(id, members)| LinkGroup { id, members })
            .collect();
        groups.sort_unstable_by(|a, b| a.members.cmp(&b.members));
        let mut parts = split(groups, ENTRIES_A_MESSAGE);
        let final_part = parts.pop().unwrap_or_default();
        for groups in parts {
            self.outbox.say_paid(&FromSource::Links {
                groups,
                last: false,
            })?;
        }
        self.outbox.say_paid(&FromSource::Links {
            groups: final_part,
            last: true,
        })
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
                self.report(&job.dir, "read directory", &err);
                self.count_streamed(0, 0, 1);
                self.outbox.say_paid(&FromSource::Dir(StreamedDir {
                    dir: job.dir.clone(),
                    entries: Vec::new(),
                    readable: false,
                }))?;
                return job.ticket.settle(self);
            }
        };
        for problem in &listing.problems {
            self.tell(Event::Problem(problem.clone()));
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
        self.count_streamed(
            listing.rows.len() as u64,
            files.map(|row| row.entry.meta.size).sum(),
            listing.problems.len() as u64,
        );
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
        let mut parts = split(entries, ENTRIES_A_MESSAGE);
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        for entries in parts {
            let frame = encode_message(&FromSource::Dir(StreamedDir {
                dir: dir.clone(),
                entries,
                readable: true,
            }))?;
            self.outbox.send_paid(frame)?;
        }
        Ok(())
    }

    pub(super) fn report(&self, path: &RelPath, act: &str, err: &io::Error) {
        self.tell(Event::Problem(self.problem(path, act, err)));
    }

    pub(super) fn problem(&self, path: &RelPath, act: &str, err: &io::Error) -> Problem {
        Problem {
            side: Side::Source,
            act: act.to_string(),
            path: path.clone(),
            reason: err.to_string(),
            os_error: err.raw_os_error(),
        }
    }
}

/// A digest cut to what is compared bucket by bucket.
pub(crate) fn cut_digest(digest: &Digest) -> u64 {
    digest.0[..8]
        .iter()
        .fold(0, |cut, &byte| cut << 8 | u64::from(byte))
}

fn subdir_digests(tree: &Tree, id: NodeId) -> Vec<(Name, Digest)> {
    tree.children(id)
        .filter_map(|child| Some((Name::new(tree.name(child)).ok()?, tree.node(child).deep)))
        .collect()
}

fn keep_buckets(entries: &mut Vec<Entry>, buckets: &Buckets) {
    let bits = buckets.bits.min(MAX_BUCKET_BITS);
    entries.retain(|entry| {
        let bucket = bucket_of(&entry.name, bits) as u32;
        buckets.wanted.binary_search(&bucket).is_ok()
    });
}

/// Cuts a vector into parts of at most `most`.
fn split<T>(items: Vec<T>, most: usize) -> Vec<Vec<T>> {
    let mut parts = Vec::with_capacity(items.len().div_ceil(most));
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        parts.push(items.by_ref().take(most).collect());
    }
    parts
}
