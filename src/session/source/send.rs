//! Sends files: small ones many to a frame, large ones each on its own. Each file is looked at
//! before and after it is read: one that changed in between is not claimed to be complete.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
    contents: Vec<u8>,
    buffer: Vec<u8>,
}

/// How a file's reading ended, where the connection holds.
type Sent<T> = std::result::Result<T, Fault>;

impl<'a> Sender<'a> {
    pub(super) fn new(serving: &'a Serving<'a>) -> Sender<'a> {
        Sender {
            serving,
            open: None,
            batch: empty_batch(&RelPath::root()),
            contents: Vec::with_capacity(DATA_BYTES),
            buffer: vec![0; DATA_BYTES],
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
        open.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn send_row(&mut self, dir: &RelPath, row: Row, basis: Option<Basis>) -> Result<()> {
        let size = row.entry.meta.size;
        let path = dir.join(&row.entry.name);
        // Each 512-byte block less than the size may be a hole, which only pieces can leave out.
        let dense = row.stat.blocks.saturating_mul(512) >= size || size < 4096;
        let outcome = if size <= SMALL_MAX && dense && basis.is_none() {
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
            io::ErrorKind::NotFound => Fault::Vanished,
            // Shorter than it was a moment ago, or no file any more.
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory => Fault::Changed,
            _ => Fault::Problem(self.serving.problem(path, "read", err)),
        }
    }

    /// Reads a small file into the batch: one open, one read, one look at it afterwards.
    fn add_small(&mut self, dir: &RelPath, row: Row) -> Result<Sent<()>> {
        let path = dir.join(&row.entry.name);
        if self.batch.dir != *dir || self.contents.len() + row.entry.meta.size as usize > DATA_BYTES
        {
            self.flush()?;
            self.batch = empty_batch(dir);
        }
        let start = self.contents.len();
        let read = self
            .dir(dir)
            .and_then(|open| open.open_file(&row.entry.name))
            .and_then(|file| self.read_small(&file, &row.stat));
        match read {
            Ok(true) => {}
            Ok(false) => {
                self.contents.truncate(start);
                return Ok(Err(Fault::Changed));
            }
            Err(err) => {
                self.contents.truncate(start);
                return Ok(Err(self.fault(&path, &err)));
            }
        }
        let hash = ContentHash::of(&self.contents[start..]);
        self.serving.facts.note(dir, FileFact::new(&row.stat, hash));
        self.batch
            .files
            .push((self.serving.outward(row.entry), hash));
        Ok(Ok(()))
    }

    /// Whether the file was read as it was listed.
    fn read_small(&mut self, mut file: &File, listed: &Stat) -> io::Result<bool> {
        // One byte more than there should be shows a file that has grown.
        let want = listed.meta.size as usize + 1;
        let mut filled = 0;
        while filled < want {
            match file.read(&mut self.buffer[filled..want]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => return Err(err),
            }
            if filled as u64 == listed.meta.size {
                // The look below tells whether there was more.
                break;
            }
        }
        self.contents.extend_from_slice(&self.buffer[..filled]);
        Ok(filled as u64 == listed.meta.size && is_unchanged(file, listed)?)
    }

    /// Sends the batch.
    fn flush(&mut self) -> Result<()> {
        if self.batch.files.is_empty() {
            return Ok(());
        }
        let dir = self.batch.dir.clone();
        let batch = std::mem::replace(&mut self.batch, empty_batch(&dir));
        let frame = encode_batch(&batch, &self.contents)?;
        self.serving
            .throttle
            .spend(self.contents.len(), self.serving.role.cancel)?;
        self.contents.clear();
        self.serving.outbox.send_paid(frame)
    }

    fn send_large(&mut self, dir: &RelPath, row: Row, basis: Option<Basis>) -> Result<Sent<()>> {
        let path = dir.join(&row.entry.name);
        let file = match self
            .dir(dir)
            .and_then(|open| open.open_file(&row.entry.name))
        {
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
        self.serving.outbox.say_paid(&FromSource::Begin {
            id,
            dir: dir.clone(),
            entry: self.serving.outward(row.entry),
            delta: basis.is_some(),
        })?;
        let sent = large.send(basis)?;
        // An interrupt is no fault of the file.
        self.serving.role.cancel.check()?;
        let outcome = match sent {
            Ok(hash) => {
                self.serving.facts.note(dir, FileFact::new(&row.stat, hash));
                Outcome::Complete(hash)
            }
            Err(err) if err.kind() == io::ErrorKind::ResourceBusy => Outcome::Fault(Fault::Changed),
            Err(err) => Outcome::Fault(self.fault(&path, &err)),
        };
        self.serving
            .outbox
            .say_paid(&FromSource::End { id, outcome })?;
        Ok(Ok(()))
    }
}

pub(super) fn is_unchanged(file: &File, before: &Stat) -> io::Result<bool> {
    let now = fs::stat_file(file)?;
    Ok(now.meta.size == before.meta.size
        && now.meta.mtime == before.meta.mtime
        && now.ctime == before.ctime
        && now.is_same_inode(before))
}
