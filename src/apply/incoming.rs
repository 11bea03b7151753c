//! Large files whose content comes in parts: each is built beside its name, on the old file where
//! there is one, and takes the name once its content has the sender's hash.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::apply::file::{Beside, CHUNK, Landed, mismatch};
use crate::apply::{Applier, During, Failure};
use crate::delta::hash_zeros;
use crate::digest::ContentHash;
use crate::events::Cancel;
use crate::fs;
use crate::manifest::record::Entry;
use crate::path::{Name, RelPath};

/// Unfinished files with at least so much in them are worth keeping for the next run, in bytes.
const WORTH_KEEPING: u64 = 1 << 20;

/// An old file to build a new one on.
#[derive(Debug)]
pub struct Existing {
    /// The file, open for reading (and for writing where it is changed in place).
    pub file: File,
    /// Its length in bytes.
    pub len: u64,
    /// Change it where it is, instead of replacing it.
    pub in_place: bool,
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
    hasher: blake3::Hasher,
    literal_bytes: u64,
    matched_bytes: u64,
}

#[derive(Debug)]
struct Basis {
    file: File,
    len: u64,
    /// The new file starts as a copy of the basis: what stays where it was is there already.
    shared: bool,
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
        let len = fs::stat_file(&file)?.meta.size;
        Ok(Existing {
            file,
            len,
            in_place,
        })
    }

    /// Opens an unfinished file of an earlier run to build on.
    pub fn leftover(&self, dir: &RelPath, temp: &Name) -> io::Result<Existing> {
        let place = self.place(dir)?;
        let file = place.dir.open_file(temp)?;
        let len = fs::stat_file(&file)?.meta.size;
        Ok(Existing {
            file,
            len,
            in_place: false,
        })
    }

    /// Starts a large file of `len` bytes. With `existing`, parts of it can be copied.
    pub fn begin(
        &self,
        path: &RelPath,
        len: u64,
        existing: Option<Existing>,
    ) -> Result<Incoming, Failure> {
        let (place, name) = self.new_parent(path)?;
        let (beside, file, basis) = match existing {
            Some(old) if old.in_place => {
                let basis = Basis {
                    file: old.file.try_clone().during("open")?,
                    len: old.len,
                    shared: true,
                };
                (None, old.file, Some(basis))
            }
            Some(old) => {
                let (beside, file) = Beside::create(place, name)?;
                let shared = fs::clone_file(&old.file, &file).during("clone")?;
                let basis = Basis {
                    file: old.file,
                    len: old.len,
                    shared,
                };
                (Some(beside), file, Some(basis))
            }
            None => {
                let (beside, file) = Beside::create(place, name)?;
                (Some(beside), file, None)
            }
        };
        Ok(Incoming {
            path: path.clone(),
            beside,
            file,
            basis,
            cancel: self.options.cancel.clone(),
            len,
            at: 0,
            written: 0,
            hasher: blake3::Hasher::new(),
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
        self.expect(offset, bytes.len() as u64)?;
        self.file.write_all_at(bytes, offset).during("write")?;
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        self.written = self.at;
        self.literal_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Takes a part from the basis.
    pub fn copy(&mut self, to: u64, from: u64, len: u64) -> Result<(), Failure> {
        self.expect(to, len)?;
        let Some(basis) = &self.basis else {
            return Err(Failure::new("patch", bad_range("there is no basis")));
        };
        if from.checked_add(len).is_none_or(|end| end > basis.len) {
            return Err(Failure::new("patch", bad_range("beyond the basis")));
        }
        let stays = basis.shared && from == to;
        if self.beside.is_none() && !stays {
            return Err(Failure::new("patch", bad_range("a move within one file")));
        }
        let mut buffer = vec![0; CHUNK.min(len as usize)];
        let mut done = 0;
        while done < len {
            self.cancel
                .check()
                .map_err(io::Error::other)
                .during("read")?;
            let part = &mut buffer[..CHUNK.min((len - done) as usize)];
            basis.file.read_exact_at(part, from + done).during("read")?;
            self.hasher.update(part);
            if !stays {
                self.file.write_all_at(part, to + done).during("write")?;
                self.written = to + done + part.len() as u64;
            }
            done += part.len() as u64;
        }
        self.at += len;
        self.matched_bytes += len;
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
            && self.at < basis.len
        {
            fs::punch_hole(&self.file, self.at..offset).during("punch a hole into")?;
        }
        hash_zeros(&mut self.hasher, gap, &self.cancel)
            .map_err(io::Error::other)
            .during("hash")?;
        self.at = offset;
        Ok(())
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
        let checked = self.check(hash);
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
            stat: fs::stat_file(&self.file).during("stat")?,
        })
    }

    /// Compares the content with the sender's hash, and gives the file its length.
    fn check(&self, hash: ContentHash) -> Result<(), Failure> {
        if ContentHash::from(self.hasher.finalize()) != hash {
            return Err(Failure::new("verify", mismatch()));
        }
        // Setting a length costs a journal entry even where it is the length already.
        let shares = self.basis.as_ref().is_some_and(|basis| basis.shared);
        match self.written == self.len && !shares {
            true => Ok(()),
            false => fs::set_len(&self.file, self.len).during("set the length of"),
        }
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

fn bad_range(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the sender's instructions make no sense: {why}"),
    )
}
