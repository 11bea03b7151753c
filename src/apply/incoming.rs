//! Large files whose content comes in parts: each is built beside its name, on the old file where
//! there is one, and takes the name once its content has the sender's hash.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::apply::file::{Beside, Landed, mismatch};
use crate::apply::{Applier, During, Failure};
use crate::delta::{self, BlockSize, Subtrees, SumBuilder, UntilCancelled, zeros};
use crate::digest::ContentHash;
use crate::events::Cancel;
use crate::fs::{self, Sparse, Stat};
use crate::manifest::record::Entry;
use crate::path::{Name, RelPath};

/// Unfinished files with at least so much in them are worth keeping for the next run, in bytes.
const WORTH_KEEPING: u64 = 1 << 20;

/// An old file to build a new one on.
#[derive(Debug)]
pub struct Existing {
    /// The file, open for reading (and for writing where it is changed in place).
    pub file: File,
    /// What it was when it was opened.
    pub stat: Stat,
    /// Change it where it is, instead of replacing it.
    pub in_place: bool,
    /// The values of its blocks, where they are known: those that keep their place are then not
    /// read to be hashed again.
    pub blocks: Option<Subtrees>,
}

impl Existing {
    fn new(file: File, in_place: bool) -> io::Result<Existing> {
        Ok(Existing {
            stat: fs::stat_file(&file)?,
            file,
            in_place,
            blocks: None,
        })
    }

    /// Its length in bytes.
    pub fn byte_len(&self) -> u64 {
        self.stat.meta.size
    }
}

/// A large file whose content is coming in, in the order of its offsets. What no part covers is a
/// hole.
#[derive(Debug)]
pub struct Incoming {
    path: RelPath,
    /// `None` where the file is changed in place.
    beside: Option<Beside>,
    file: File,
    basis: Option<Basis>,
    cancel: Cancel,
    /// How long the file becomes, as it was announced.
    len: u64,
    /// Everything before this offset is settled.
    at: u64,
    /// The end of the last part that was written.
    written: u64,
    sums: SumBuilder,
    literal_bytes: u64,
    matched_bytes: u64,
}

#[derive(Debug)]
struct Basis {
    old: Arc<Existing>,
    /// The new file starts as a copy of the basis: what stays where it was is there already.
    shared: bool,
    /// Blocks were taken by their known values: the file must not have changed since it was opened.
    trusted: bool,
}

impl Basis {
    /// Takes the whole blocks at `at`, at most `len` bytes, by their known values; returns how
    /// many bytes they are.
    fn take_known(&mut self, at: u64, len: u64, sums: &mut SumBuilder) -> u64 {
        // A file that is changed in place is its own basis, and not what it was.
        let blocks = self.old.blocks.as_ref().filter(|_| !self.old.in_place);
        let Some(blocks) = blocks.filter(|blocks| blocks.block() == sums.block()) else {
            return 0;
        };
        let block = blocks.block().bytes();
        let mut taken = 0;
        while taken + block <= len
            && blocks
                .whole_block(at + taken)
                .is_some_and(|value| sums.push_known(value))
        {
            taken += block;
        }
        self.trusted |= taken > 0;
        taken
    }

    /// Whether what was taken on trust is still so.
    fn is_as_known(&self) -> io::Result<bool> {
        Ok(!self.trusted || fs::stat_file(&self.old.file)?.is_unchanged_since(&self.old.stat))
    }
}

/// What happens to the part of a file that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The session ended early: the next one goes on with it.
    Partial,
    /// It is of no use.
    Nothing,
}

impl Applier {
    /// Opens the file at `path` to build its successor on.
    pub fn existing(&self, path: &RelPath) -> io::Result<Existing> {
        let (place, name) = self.parent(path).map_err(|failure| failure.source)?;
        let in_place = self.options.write.inplace;
        let file = if in_place {
            place.dir.open_file_rw(&name)?
        } else {
            place.dir.open_file(&name)?
        };
        Existing::new(file, in_place)
    }

    /// Opens an unfinished file of an earlier run to build on.
    pub fn leftover(&self, dir: &RelPath, temp: &Name) -> io::Result<Existing> {
        let place = self.place(dir)?;
        Existing::new(place.dir.open_file(temp)?, false)
    }

    /// Starts a large file of `len` bytes. With `existing`, parts of it can be copied.
    pub fn begin(
        &self,
        path: &RelPath,
        len: u64,
        existing: Option<Arc<Existing>>,
    ) -> Result<Incoming, Failure> {
        let (place, name) = self.new_parent(path)?;
        let (beside, file) = match &existing {
            Some(old) if old.in_place => (None, old.file.try_clone().during("open")?),
            _ => {
                let (beside, file) = Beside::create(place, name)?;
                (Some(beside), file)
            }
        };
        let basis = existing.map(|old| Basis {
            // What cannot be cloned is copied, and that fails if the disk is at fault.
            shared: old.in_place || fs::clone_file(&old.file, &file).unwrap_or(false),
            old,
            trusted: false,
        });
        let known = basis.as_ref().and_then(|basis| basis.old.blocks.as_ref());
        let block = known.map_or_else(|| BlockSize::for_len(len), Subtrees::block);
        Ok(Incoming {
            path: path.clone(),
            beside,
            file,
            basis,
            cancel: self.options.cancel.clone(),
            len,
            at: 0,
            written: 0,
            sums: SumBuilder::new(block),
            literal_bytes: 0,
            matched_bytes: 0,
        })
    }
}

impl Incoming {
    /// The file's path.
    pub fn path(&self) -> &RelPath {
        &self.path
    }

    /// How much of the file is settled, in bytes.
    pub fn settled_bytes(&self) -> u64 {
        self.at
    }

    /// Makes the file a copy of what it is built on, before it is known which parts stay: for one
    /// that will keep nearly all of it, while the sender still finds out.
    pub fn start_as_basis(&mut self) -> Result<(), Failure> {
        let Some(basis) = self.basis.as_mut().filter(|basis| !basis.shared) else {
            return Ok(());
        };
        let len = basis.old.byte_len().min(self.len);
        let mut go_on = |_| self.cancel.check().map_err(io::Error::other);
        fs::copy_content(&basis.old.file, &self.file, len, Sparse::Keep, &mut go_on)
            .during("copy")?;
        basis.shared = true;
        Ok(())
    }

    /// Writes a part that came as it is. An empty one tells that there is a hole before it.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.expect(offset, bytes.len() as u64)?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(bytes, offset).during("write")?;
        self.sums.push(bytes);
        self.at += bytes.len() as u64;
        self.written = self.at;
        self.literal_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Takes a part from the basis.
    pub fn copy(&mut self, to: u64, from: u64, len: u64) -> Result<(), Failure> {
        self.expect(to, len)?;
        let Some(basis) = &mut self.basis else {
            return Err(Failure::new("patch", bad_range("there is no basis")));
        };
        let old = Arc::clone(&basis.old);
        if from.checked_add(len).is_none_or(|end| end > old.byte_len()) {
            return Err(Failure::new("patch", bad_range("beyond the basis")));
        }
        let stays = basis.shared && from == to;
        if self.beside.is_none() && !stays {
            return Err(Failure::new("patch", bad_range("a move within one file")));
        }
        let mut done = 0;
        while done < len {
            let (from, to, left) = (from + done, to + done, len - done);
            let known = match from == to {
                true => basis.take_known(from, left, &mut self.sums),
                false => 0,
            };
            let part = match (known, &old.blocks) {
                (1.., _) => known,
                // No further than to where the next block may be known.
                (0, Some(_)) if from == to => left.min(self.sums.room()),
                (0, _) => left,
            };
            if !stays {
                let mut go_on = |_| self.cancel.check().map_err(io::Error::other);
                fs::copy_range(&old.file, from, &self.file, to, part, &mut go_on).during("copy")?;
            }
            if known == 0 {
                // The new file, which nobody else can change, and not what it was copied from.
                let file = UntilCancelled(&self.file, &self.cancel);
                self.sums
                    .push_file(&file, to..to + part, delta::threads())
                    .during("read")?;
            }
            done += part;
        }
        self.at += len;
        self.matched_bytes += len;
        if !stays {
            self.written = self.at;
        }
        Ok(())
    }

    /// Takes up the next part, after a hole where there is one before it.
    fn expect(&mut self, offset: u64, len: u64) -> Result<(), Failure> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Failure::new("patch", bad_range("beyond the announced end")));
        }
        self.skip_to(offset)
    }

    /// Makes what lies between the settled part and `offset` a hole.
    fn skip_to(&mut self, offset: u64) -> Result<(), Failure> {
        let Some(gap) = offset.checked_sub(self.at) else {
            return Err(Failure::new("patch", bad_range("out of order")));
        };
        if gap == 0 {
            return Ok(());
        }
        if let Some(basis) = &self.basis
            && basis.shared
            && self.at < basis.old.byte_len()
        {
            self.clear(self.at..offset.min(basis.old.byte_len()))?;
        }
        zeros(gap, &self.cancel, |part| self.sums.push(part))
            .map_err(io::Error::other)
            .during("hash")?;
        self.at = offset;
        Ok(())
    }

    /// Makes a part that shows the old content zeros: a hole, where the filesystem can.
    fn clear(&self, range: Range<u64>) -> Result<(), Failure> {
        if fs::punch_hole(&self.file, range.clone()).during("punch a hole into")? {
            return Ok(());
        }
        let mut at = range.start;
        let mut written = Ok(());
        zeros(range.end - range.start, &self.cancel, |part| {
            if written.is_ok() {
                written = self.file.write_all_at(part, at);
                at += part.len() as u64;
            }
        })
        .map_err(io::Error::other)
        .during("write")?;
        written.during("write")
    }

    /// Checks the content against the sender's hash, dresses the file and gives it its name.
    pub fn finish(
        mut self,
        applier: &Applier,
        entry: &Entry,
        hash: ContentHash,
    ) -> Result<Landed, Failure> {
        if let Err(failure) = self.skip_to(self.len) {
            // An interrupt finds nothing wrong with what has come.
            let keep = match self.cancel.is_cancelled() {
                true => Keep::Partial,
                false => Keep::Nothing,
            };
            self.abandon(keep);
            return Err(failure);
        }
        let (found, blocks) = self.sums.finish();
        let checked = match found == hash {
            true => complete(&self.file, self.len, self.written, self.basis.as_ref()),
            false => Err(Failure::new("verify", mismatch())),
        };
        match &self.beside {
            Some(beside) => applier.land(&self.path, beside, &self.file, entry, checked)?,
            None => {
                checked?;
                applier.dress_in_place(&self.file, entry)?;
            }
        }
        Ok(Landed {
            literal_bytes: self.literal_bytes,
            matched_bytes: self.matched_bytes,
            file: self.file,
            blocks: blocks.filter(|_| self.len > delta::Mode::SEARCH_MAX_LEN),
            replaced: self.basis.map(|basis| basis.old.stat),
        })
    }

    /// Gives the file up. What has come stays under the temporary name, to be built on by the
    /// next run, where that is worth it.
    pub fn abandon(self, keep: Keep) {
        let worth = keep == Keep::Partial && self.at >= WORTH_KEEPING;
        if let Some(beside) = &self.beside
            && !worth
        {
            // What stays is swept by the next run.
            let _ = beside.place.dir.unlink(&beside.temp);
        }
    }
}

/// Gives a file whose content has the sender's hash its length, unless that content was taken on
/// trust in an old file that has changed since.
fn complete(file: &File, len: u64, written: u64, basis: Option<&Basis>) -> Result<(), Failure> {
    if let Some(basis) = basis
        && !basis.is_as_known().during("stat")?
    {
        return Err(Failure::new("verify", mismatch()));
    }
    // Setting a length costs a journal entry even where it is the length already.
    let shares = basis.is_some_and(|basis| basis.shared);
    match written == len && !shares {
        true => Ok(()),
        false => fs::set_len(file, len).during("set the length of"),
    }
}

fn bad_range(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the sender's instructions make no sense: {why}"),
    )
}
