//! A large file as its parts come in: built beside the old one, out of it where that helps, and
//! given the name only when its content hash is the sender's.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::apply::file::{CHUNK, Landed, create_temp, mismatch};
use crate::apply::{Applier, During, Failure, Place};
use crate::delta::{self, BlockSize, Subtrees, SumBuilder};
use crate::digest::ContentHash;
use crate::fs::{self, Stat};
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
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.stat.meta.size
    }

    fn of(file: File, in_place: bool) -> io::Result<Existing> {
        Ok(Existing {
            stat: fs::stat_file(&file)?,
            file,
            in_place,
            blocks: None,
        })
    }
}

/// A large file whose content is coming in, in the order of its offsets. What no part covers is a
/// hole.
#[derive(Debug)]
pub struct Incoming {
    place: Arc<Place>,
    path: RelPath,
    name: Name,
    /// `None` where the file is changed in place.
    temp: Option<Name>,
    file: File,
    basis: Option<Basis>,
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
    /// Blocks were taken by their known values: the file must still be what had them.
    trusted: bool,
}

impl Basis {
    /// Takes the blocks at `at`, at most `len` bytes, by their known values; returns how many
    /// bytes they are.
    fn take_known(&mut self, at: u64, len: u64, sums: &mut SumBuilder) -> u64 {
        // A file that is changed in place is its own basis, and not what it was.
        let blocks = self.old.blocks.as_ref().filter(|_| !self.old.in_place);
        let Some(blocks) = blocks.filter(|blocks| blocks.block() == sums.block()) else {
            return 0;
        };
        let block = blocks.block().bytes();
        let mut run = 0;
        while run + block <= len
            && blocks
                .whole_block(at + run)
                .is_some_and(|value| sums.push_known(value))
        {
            run += block;
        }
        self.trusted |= run > 0;
        run
    }

    /// Whether what was taken on trust is still so.
    fn is_as_known(&self) -> io::Result<bool> {
        Ok(!self.trusted || fs::stat_file(&self.old.file)?.is_unchanged(&self.old.stat))
    }
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
        Existing::of(file, in_place)
    }

    /// Opens an unfinished file of an earlier run to build on.
    pub fn leftover(&self, dir: &RelPath, temp: &Name) -> io::Result<Existing> {
        let place = self.place(dir)?;
        let file = place.dir.open_file(temp)?;
        Existing::of(file, false)
    }

    /// Starts a large file of `size` bytes. With `existing`, parts of it can be copied.
    pub fn begin(
        &self,
        path: &RelPath,
        size: u64,
        existing: Option<Arc<Existing>>,
    ) -> Result<Incoming, Failure> {
        let (place, name) = self.new_parent(path)?;
        let (temp, file) = match &existing {
            Some(old) if old.in_place => (None, old.file.try_clone().during("open")?),
            _ => {
                let (temp, file) = create_temp(&place, &name)?;
                (Some(temp), file)
            }
        };
        let basis = match existing {
            Some(old) => Some(Basis {
                shared: old.in_place || fs::clone_file(&old.file, &file).during("clone")?,
                old,
                trusted: false,
            }),
            None => None,
        };
        let known = basis.as_ref().and_then(|basis| basis.old.blocks.as_ref());
        let block = known.map_or_else(|| BlockSize::for_len(size), Subtrees::block);
        Ok(Incoming {
            place,
            path: path.clone(),
            name,
            temp,
            file,
            basis,
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

    /// Writes a part that came as it is.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.skip_to(offset)?;
        self.file.write_all_at(bytes, offset).during("write")?;
        self.sums.push(bytes);
        self.at += bytes.len() as u64;
        self.written = self.at;
        self.literal_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Takes a part from the basis. `progress` hears of the bytes and may stop the copy.
    pub fn copy(
        &mut self,
        to: u64,
        from: u64,
        len: u64,
        progress: &mut dyn FnMut(u64) -> io::Result<()>,
    ) -> Result<(), Failure> {
        self.skip_to(to)?;
        let Some(basis) = &mut self.basis else {
            return Err(Failure::new("patch", bad_range("there is no basis")));
        };
        if from
            .checked_add(len)
            .is_none_or(|end| end > basis.old.len())
        {
            return Err(Failure::new("patch", bad_range("beyond the basis")));
        }
        let stays = basis.shared && from == to;
        if self.temp.is_none() && !stays {
            return Err(Failure::new("patch", bad_range("a move within one file")));
        }
        let old = Arc::clone(&basis.old);
        let mut buffer = Vec::new();
        let mut done = 0;
        while done < len {
            let (from, to, left) = (from + done, to + done, len - done);
            let known = match from == to {
                true => basis.take_known(from, left, &mut self.sums),
                false => 0,
            };
            if known > 0 {
                if !stays {
                    fs::copy_range(&old.file, from, &self.file, to, known, progress)
                        .during("copy")?;
                }
                done += known;
                continue;
            }
            let part = match &old.blocks {
                // No further than to where the next block may be known.
                Some(_) if from == to => self.sums.room(),
                _ => CHUNK as u64,
            };
            let part = part.min(left);
            buffer.resize(part as usize, 0);
            old.file.read_exact_at(&mut buffer, from).during("read")?;
            self.sums.push(&buffer);
            if !stays {
                self.file.write_all_at(&buffer, to).during("write")?;
            }
            progress(part).during("copy")?;
            done += part;
        }
        self.at += len;
        self.matched_bytes += len;
        if !stays {
            self.written = self.at;
        }
        Ok(())
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
            && self.at < basis.old.len()
        {
            fs::punch_hole(&self.file, self.at..offset).during("punch a hole into")?;
        }
        push_zeros(&mut self.sums, gap);
        self.at = offset;
        Ok(())
    }

    /// Checks the content against the sender's hash, dresses the file and gives it its name.
    pub fn finish(
        mut self,
        applier: &Applier,
        entry: &Entry,
        len: u64,
        hash: ContentHash,
    ) -> Result<Landed, Failure> {
        let shares = self.basis.as_ref().is_some_and(|basis| basis.shared);
        let mut blocks = None;
        let checked = self.skip_to(len).and_then(|()| {
            let (found, values) = self.sums.finish();
            let trusted = match &self.basis {
                Some(basis) => basis.is_as_known().during("stat")?,
                None => true,
            };
            if self.at != len || found != hash || !trusted {
                return Err(Failure::new("verify", mismatch()));
            }
            blocks = values;
            // Setting a length costs a journal entry even where it is the length already.
            match self.written == len && !shares {
                true => Ok(()),
                false => fs::set_len(&self.file, len).during("set the length of"),
            }
        });
        match &self.temp {
            Some(temp) => applier.land(
                &self.place,
                &self.path,
                temp,
                &self.name,
                &self.file,
                entry,
                checked,
            )?,
            None => {
                checked?;
                applier.dress_in_place(&self.file, entry)?;
            }
        }
        Ok(Landed {
            literal_bytes: self.literal_bytes,
            matched_bytes: self.matched_bytes,
            stat: fs::stat_file(&self.file).during("stat")?,
            blocks: blocks.filter(|_| len > delta::Mode::SEARCH_MAX_LEN),
            replaced: self.basis.map(|basis| basis.old.stat),
        })
    }

    /// Gives the file up. What has come stays under the temporary name, to be built on by the
    /// next run, where that is worth it.
    pub fn abandon(self, keep: Keep) {
        let worth = keep == Keep::Partial && self.at >= WORTH_KEEPING;
        if let Some(temp) = &self.temp
            && !worth
        {
            // What stays is swept by the next run.
            let _ = self.place.dir.unlink(temp);
        }
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

fn push_zeros(sums: &mut SumBuilder, mut len: u64) {
    let zeros = vec![0; CHUNK.min(len as usize)];
    while len > 0 {
        let part = zeros.len().min(len as usize);
        sums.push(&zeros[..part]);
        len -= part as u64;
    }
}

fn bad_range(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the sender's instructions make no sense: {why}"),
    )
}
