//! Sends files: small ones many to a frame, large ones in pieces, changed ones as what is new in
//! them. Each file is looked at before and after it is read: one that changed in between is not
//! claimed to be complete.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::delta::{BlockSums, Draft, Op, SignatureSpec, WindowSize, hash_file, sum_file};
use crate::digest::ContentHash;
use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::fs::{self, Dir, Stat};
use crate::manifest::listing::Row;
use crate::manifest::state::FileFact;
use crate::path::RelPath;
use crate::protocol::frame::{DATA_BYTES, empty_batch, encode_batch, encode_data};
use crate::protocol::message::{
    Basis, BasisSums, Batch, CopyRange, Fault, FromSource, Outcome, Want,
};
use crate::session::source::{Job, Serving, Ticket};

/// Files up to this size travel many to a frame, in bytes. Half a frame: a batch is full after
/// two of the largest, and holds dozens of usual ones.
const SMALL_MAX: u64 = (DATA_BYTES / 2) as u64;

/// How many wanted files of one directory are taken together.
const WANTS_AT_ONCE: usize = 64;

/// Copies a message names at most.
const COPIES_A_MESSAGE: usize = 4096;

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
            Ok(_) => self.unsent(want.path, Fault::Changed),
            Err(err) => {
                let fault = self.fault(&want.path, &err);
                self.unsent(want.path, fault)
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
                self.unsent(path, fault)
            }
        }
    }

    fn unsent(&mut self, path: RelPath, why: Fault) -> Result<()> {
        self.serving
            .outbox
            .say_paid(&FromSource::Unsent { path, why })
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
        let outcome = match large.send(basis)? {
            Ok(hash) => {
                self.serving.facts.note(dir, FileFact::new(&row.stat, hash));
                Outcome::Complete {
                    len: row.stat.meta.size,
                    hash,
                }
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

/// One large file on its way.
struct Large<'a> {
    serving: &'a Serving<'a>,
    id: u64,
    file: File,
    stat: Stat,
    buffer: &'a mut [u8],
}

impl Large<'_> {
    /// Sends the content; the inner error is the file's, `ResourceBusy` where it changed.
    fn send(mut self, basis: Option<Basis>) -> Result<io::Result<ContentHash>> {
        let len = self.stat.meta.size;
        let data = match self.data_ranges() {
            Ok(data) => data,
            Err(err) => return Ok(Err(err)),
        };
        let sent = match basis {
            None => self.send_whole(len, &data)?,
            Some(basis) => match self.draft(len, basis)? {
                Ok((hash, ops)) => self.send_ops(&ops, &data)?.map(|()| hash),
                Err(err) => Err(err),
            },
        };
        Ok(
            sent.and_then(|hash| match is_unchanged(&self.file, &self.stat)? {
                true => Ok(hash),
                false => Err(io::ErrorKind::ResourceBusy.into()),
            }),
        )
    }

    fn data_ranges(&self) -> io::Result<Vec<Range<u64>>> {
        let len = self.stat.meta.size;
        let whole = std::iter::once(0..len)
            .filter(|all| !all.is_empty())
            .collect();
        let sparse = self.serving.lister.rules.fidelity.sparse;
        if !sparse || self.stat.blocks.saturating_mul(512) >= len {
            return Ok(whole);
        }
        fs::data_ranges(&self.file, len)
    }

    fn send_whole(&mut self, len: u64, data: &[Range<u64>]) -> Result<io::Result<ContentHash>> {
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        for range in data {
            hash_zeros(&mut hasher, range.start - at);
            let sent = self.send_range(range.clone(), |bytes| {
                hasher.update(bytes);
            })?;
            if let Err(err) = sent {
                return Ok(Err(err));
            }
            at = range.end;
        }
        hash_zeros(&mut hasher, len.saturating_sub(at));
        Ok(Ok(hasher.finalize().into()))
    }

    fn send_range(
        &mut self,
        range: Range<u64>,
        mut each: impl FnMut(&[u8]),
    ) -> Result<io::Result<()>> {
        let mut at = range.start;
        while at < range.end {
            self.serving.role.cancel.check()?;
            let want = (range.end - at).min(DATA_BYTES as u64) as usize;
            if let Err(err) = self.file.read_exact_at(&mut self.buffer[..want], at) {
                return Ok(Err(err));
            }
            let bytes = &self.buffer[..want];
            each(bytes);
            self.serving
                .throttle
                .spend(want, self.serving.role.cancel)?;
            self.serving
                .outbox
                .send_paid(encode_data(self.id, at, bytes))?;
            at += want as u64;
        }
        Ok(Ok(()))
    }

    /// Finds what the destination has already.
    fn draft(&self, len: u64, basis: Basis) -> Result<io::Result<(ContentHash, Vec<Op>)>> {
        let threads = delta_threads();
        match basis.sums {
            BasisSums::Same(old) => Ok((|| {
                let hash = hash_file(&self.file, len)?;
                let op = match hash == old && len == basis.len {
                    true => Op::Copy {
                        basis_offset: 0,
                        len,
                    },
                    false => Op::Literal { len },
                };
                Ok((hash, vec![op]))
            })()),
            BasisSums::Search(signature) => {
                if signature.spec().basis_len() != basis.len {
                    return Err(Error::protocol("a signature of another basis"));
                }
                Ok((|| {
                    let hash = hash_file(&self.file, len)?;
                    let mut draft = Draft::blank(basis.len, len);
                    draft.search(&signature, &self.file, threads)?;
                    Ok((hash, draft.into_ops()))
                })())
            }
            BasisSums::Staged { block, sums } => {
                let old = BlockSums::from_bytes(block, basis.len, &sums)?;
                let started = sum_file(&self.file, len, block, threads).and_then(|(hash, new)| {
                    let draft = match new {
                        Some(new) => Draft::aligned(&old, &new.sums(), &self.file)?,
                        None => Draft::blank(basis.len, len),
                    };
                    Ok((hash, draft))
                });
                match started {
                    Ok((hash, draft)) => self.refine(hash, draft),
                    Err(err) => Ok(Err(err)),
                }
            }
        }
    }

    /// Asks for what may close the draft further, as long as there is something.
    fn refine(
        &self,
        hash: ContentHash,
        mut draft: Draft,
    ) -> Result<io::Result<(ContentHash, Vec<Op>)>> {
        while let Some(spec) = self.next_spec(&mut draft) {
            let slot = self.serving.sums.open(self.id);
            self.serving.outbox.say(&FromSource::WantSums {
                id: self.id,
                spec: spec.clone(),
            })?;
            // No answer means that the basis went away: what is known serves.
            let Some(signature) = slot.take() else {
                self.serving.role.cancel.check()?;
                break;
            };
            if *signature.spec() != spec {
                return Err(Error::protocol("another signature than was asked for"));
            }
            if let Err(err) = draft.search(&signature, &self.file, delta_threads()) {
                return Ok(Err(err));
            }
        }
        Ok(Ok((hash, draft.into_ops())))
    }

    /// What else to ask for.
    fn next_spec(&self, draft: &mut Draft) -> Option<SignatureSpec> {
        let options = self.serving.role.options;
        // In place nothing can move: a search would find nothing of use.
        let spec = draft.request().filter(|_| !options.write.inplace)?;
        let Some(block) = options.transfer.block_bytes else {
            return Some(spec);
        };
        // The user chose the size of a block, also of those that may have moved.
        let window = WindowSize::new(block).ok()?;
        let open: u64 = draft
            .open_regions()
            .iter()
            .map(|open| open.end - open.start)
            .sum();
        SignatureSpec::whole_in(spec.basis_len(), window)
            .ok()
            .filter(|spec| spec.wire_bytes() < open)
    }

    /// Sends copies and literals in the order of the new file, less what is a hole in it.
    fn send_ops(&mut self, ops: &[Op], data: &[Range<u64>]) -> Result<io::Result<()>> {
        let mut copies = Vec::new();
        let mut at = 0;
        for op in ops {
            let len = match *op {
                Op::Copy { len, .. } | Op::Literal { len } => len,
            };
            for range in overlaps(data, at..at + len) {
                match *op {
                    Op::Copy { basis_offset, .. } => copies.push(CopyRange {
                        to: range.start,
                        from: basis_offset + (range.start - at),
                        len: range.end - range.start,
                    }),
                    Op::Literal { .. } => {
                        self.send_copies(&mut copies)?;
                        if let Err(err) = self.send_range(range, |_| {})? {
                            return Ok(Err(err));
                        }
                    }
                }
                if copies.len() >= COPIES_A_MESSAGE {
                    self.send_copies(&mut copies)?;
                }
            }
            at += len;
        }
        self.send_copies(&mut copies)?;
        Ok(Ok(()))
    }

    fn send_copies(&self, copies: &mut Vec<CopyRange>) -> Result<()> {
        if copies.is_empty() {
            return Ok(());
        }
        let ops = std::mem::take(copies);
        self.serving
            .outbox
            .say_paid(&FromSource::Copies { id: self.id, ops })
    }
}

/// The parts of sorted `ranges` that lie in `within`.
fn overlaps(ranges: &[Range<u64>], within: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let first = ranges.partition_point(|range| range.end <= within.start);
    ranges[first..]
        .iter()
        .take_while(move |range| range.start < within.end)
        .map(move |range| range.start.max(within.start)..range.end.min(within.end))
        .filter(|range| !range.is_empty())
}

fn is_unchanged(file: &File, before: &Stat) -> io::Result<bool> {
    let now = fs::stat_file(file)?;
    Ok(now.meta.size == before.meta.size
        && now.meta.mtime == before.meta.mtime
        && now.ctime == before.ctime
        && now.is_same_inode(before))
}

fn hash_zeros(hasher: &mut blake3::Hasher, mut len: u64) {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while len > 0 {
        let part = ZEROS.len().min(len as usize);
        hasher.update(&ZEROS[..part]);
        len -= part as u64;
    }
}

fn delta_threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
