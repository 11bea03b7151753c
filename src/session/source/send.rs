//! Sends files: small ones many to a frame, large ones each on its own. Each file is looked at
//! before and after it is read: one that changed in between is not claimed to be complete.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use crate::digest::ContentHash;
use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::fs::{self, Dir, Stat};
use crate::manifest::listing::Row;
use crate::manifest::state::FileFact;
use crate::path::RelPath;
use crate::protocol::frame::{DATA_BYTES, empty_batch, encode_batch};
use crate::protocol::message::{Basis, Batch, Fault, FromSource, Outcome, Want};
use crate::session::source::large::Large;
use crate::session::source::serving::{Job, Serving};
use crate::session::source::stream::Ticket;

/// Files up to this size travel many to a frame, in bytes. Half a frame: a batch is full after
/// two of the largest, and holds dozens of usual ones.
const SMALL_MAX: u64 = (DATA_BYTES / 2) as u64;

/// How many wanted files of one directory are taken together.
const WANTS_AT_ONCE: usize = 64;

/// Files of a streamed directory, to be sent with their content.
pub(in crate::session) struct FilesJob {
    pub(in crate::session) dir: RelPath,
    pub(in crate::session) rows: Vec<Row>,
    pub(in crate::session) ticket: Arc<Ticket>,
}

/// What one sending thread works with.
pub(super) struct Sender<'a> {
    serving: &'a Serving<'a>,
    open: Option<(RelPath, Dir)>,
    batch: Batch,
    /// Holds the contents of the batch's files one after the other, or a piece of a large one.
    buffer: Vec<u8>,
    /// How much of the buffer the batch takes.
    filled: usize,
}

/// How a file's reading ended, where the connection holds.
type Sent<T> = std::result::Result<T, Fault>;

impl<'a> Sender<'a> {
    pub(super) fn new(serving: &'a Serving<'a>) -> Sender<'a> {
        Sender {
            serving,
            open: None,
            batch: empty_batch(&RelPath::root()),
            buffer: vec![0; DATA_BYTES],
            filled: 0,
        }
    }

    /// Sends files of one directory.
    pub(super) fn send_files(&mut self, job: FilesJob) -> Result<()> {
        for row in job.rows {
            self.serving.role.cancel.check()?;
            self.send_row(&job.dir, row, None)?;
        }
        self.flush()?;
        job.ticket.settle(self.serving)
    }

    /// Sends a wanted file, and the next ones of the same directory with it.
    pub(super) fn send_wanted(&mut self, want: Want) -> Result<()> {
        let parent = want.path.parent().unwrap_or_default();
        self.send_want(&parent, want)?;
        for _ in 1..WANTS_AT_ONCE {
            let next = self.serving.jobs.pop_if(
                |job| matches!(job, Job::Want(want) if want.path.parent().as_ref() == Some(&parent)),
            );
            let Some(Job::Want(want)) = next else {
                break;
            };
            self.send_want(&parent, want)?;
        }
        self.flush()
    }

    fn send_want(&mut self, parent: &RelPath, want: Want) -> Result<()> {
        let path = self.serving.inward(want.path.clone());
        let Some(name) = path.file_name() else {
            return Err(Error::protocol("the root wanted as a file"));
        };
        // The filter that hid names from the listing hides them from being asked for.
        let looked = self
            .serving
            .admit_dir(parent)
            .and_then(|()| self.dir(parent).map(|_| ()))
            .and_then(|()| {
                let dir = self.open_dir()?;
                self.serving.lister.entry(dir, parent, &name)
            });
        match looked {
            Ok(Some(row)) if row.entry.meta.kind == EntryKind::File => {
                self.send_row(parent, row, want.basis)
            }
            // It is no longer what it was when it was listed.
            Ok(_) => self.serving.unsent(want.path, Fault::Changed),
            Err(err) => {
                let fault = self.fault(&want.path, &err);
                self.serving.unsent(want.path, fault)
            }
        }
    }

    fn dir(&mut self, path: &RelPath) -> io::Result<&Dir> {
        if self.open.as_ref().is_none_or(|(open, _)| open != path) {
            self.open = Some((path.clone(), self.serving.root.open_dir(path)?));
        }
        self.open_dir()
    }

    fn open_dir(&self) -> io::Result<&Dir> {
        let open = self.open.as_ref().map(|(_, dir)| dir);
        open.ok_or_else(|| Errno::NOENT.into())
    }

    fn send_row(&mut self, dir: &RelPath, row: Row, basis: Option<Basis>) -> Result<()> {
        let size = row.entry.meta.size;
        let path = dir.join(&row.entry.name);
        // Only pieces can leave out a hole.
        let outcome = if size <= SMALL_MAX && !row.stat.may_have_holes() && basis.is_none() {
            self.add_small(dir, row)?
        } else {
            self.flush()?;
            self.send_large(dir, row, basis)?
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(fault) => {
                let path = match &self.serving.renamed {
                    Some((_, there)) => RelPath::root().join(there),
                    None => path,
                };
                self.serving.unsent(path, fault)
            }
        }
    }

    fn fault(&self, path: &RelPath, err: &io::Error) -> Fault {
        match err.kind() {
            _ if fs::is_gone(err) => Fault::Vanished,
            // Shorter than it was a moment ago, or no file any more.
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::IsADirectory => Fault::Changed,
            _ => Fault::Problem(self.serving.problem(path, "read", err)),
        }
    }

    /// Reads a small file into the batch: one open, one read, and a look at it before and after.
    fn add_small(&mut self, dir: &RelPath, row: Row) -> Result<Sent<()>> {
        let len = row.entry.meta.size as usize;
        if self.batch.dir != *dir || self.filled + len > DATA_BYTES {
            self.flush()?;
            self.batch = empty_batch(dir);
        }
        let content = self.filled..self.filled + len;
        let read = self.open_listed(dir, &row).and_then(|file| {
            file.read_exact_at(&mut self.buffer[content.clone()], 0)?;
            require_unchanged(&file, &row.stat)
        });
        if let Err(err) = read {
            let path = dir.join(&row.entry.name);
            return Ok(Err(self.fault(&path, &err)));
        }
        let hash = ContentHash::of(&self.buffer[content.clone()]);
        self.filled = content.end;
        self.serving.facts.note(dir, FileFact::new(&row.stat, hash));
        self.batch
            .files
            .push((self.serving.outward(row.entry), hash));
        Ok(Ok(()))
    }

    /// Opens a file that is still what it was when it was listed.
    fn open_listed(&mut self, dir: &RelPath, row: &Row) -> io::Result<File> {
        let (file, stat) = self.dir(dir)?.open_listed_file(&row.entry.name)?;
        match stat.is_unchanged_since(&row.stat) {
            true => Ok(file),
            false => Err(changed()),
        }
    }

    /// Sends the batch.
    fn flush(&mut self) -> Result<()> {
        if self.batch.files.is_empty() {
            return Ok(());
        }
        let dir = self.batch.dir.clone();
        let batch = std::mem::replace(&mut self.batch, empty_batch(&dir));
        let contents = &self.buffer[..std::mem::take(&mut self.filled)];
        let frame = encode_batch(&batch, contents)?;
        self.serving
            .throttle
            .spend(contents.len(), self.serving.role.cancel)?;
        self.serving.outbox.send_paid(frame)
    }

    fn send_large(&mut self, dir: &RelPath, row: Row, basis: Option<Basis>) -> Result<Sent<()>> {
        let path = dir.join(&row.entry.name);
        let file = match self.open_listed(dir, &row) {
            Ok(file) => file,
            Err(err) => return Ok(Err(self.fault(&path, &err))),
        };
        let id = self.serving.next_id.fetch_add(1, Ordering::Relaxed);
        let large = Large {
            serving: self.serving,
            id,
            file,
            stat: row.stat,
            buffer: &mut self.buffer,
        };
        let onto = large.onto(basis.as_ref())?;
        self.serving.outbox.say_paid(&FromSource::Begin {
            id,
            dir: dir.clone(),
            entry: self.serving.outward(row.entry),
            onto,
        })?;
        let sent = large.send(basis)?;
        // An interrupt is no fault of the file.
        self.serving.role.cancel.check()?;
        let outcome = match sent {
            Ok(hash) => {
                self.serving.facts.note(dir, FileFact::new(&row.stat, hash));
                Outcome::Complete(hash)
            }
            Err(err) => Outcome::Fault(self.fault(&path, &err)),
        };
        self.serving
            .outbox
            .say_paid(&FromSource::End { id, outcome })?;
        Ok(Ok(()))
    }
}

/// Fails, as [`changed`] does, unless a file is what it was before.
pub(super) fn require_unchanged(file: &File, before: &Stat) -> io::Result<()> {
    match fs::stat_file(file)?.is_unchanged_since(before) {
        true => Ok(()),
        false => Err(changed()),
    }
}

/// What a file that would not hold still fails with.
fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "changed while it was read")
}
