//! Regular files: small ones written at once, large ones as their parts come in, local ones
//! copied by the kernel. All end the same way: dressed under the temporary name, then renamed.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::apply::{Applier, During, Failure, Place};
use crate::delta::hash_zeros;
use crate::digest::ContentHash;
use crate::entry::EntryKind;
use crate::events::Cancel;
use crate::fs::{self, Sparse, Stat, Target};
use crate::manifest::record::Entry;
use crate::options::Fsync;
use crate::path::{Name, RelPath};

/// How much is copied, hashed or zeroed at a time, in bytes: within the second-level cache.
const CHUNK: usize = 256 << 10;

/// Unfinished files with at least so much in them are worth keeping for the next run, in bytes.
const WORTH_KEEPING: u64 = 1 << 20;

/// A file that has its name now.
#[derive(Debug)]
pub struct Landed {
    /// Content bytes that came as they are.
    pub literal_bytes: u64,
    /// Content bytes taken from a file that was there.
    pub matched_bytes: u64,
    /// The file as it is now.
    pub stat: Stat,
}

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
    place: Arc<Place>,
    path: RelPath,
    name: Name,
    /// `None` where the file is changed in place.
    temp: Option<Name>,
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

impl Applier {
    /// Writes a file whose whole content is at hand.
    pub fn write_small(
        &self,
        path: &RelPath,
        entry: &Entry,
        content: &[u8],
        hash: ContentHash,
    ) -> Result<Landed, Failure> {
        if ContentHash::of(content) != hash {
            return Err(Failure::new("verify", mismatch()));
        }
        let (place, name) = self.new_parent(path)?;
        if self.options.write.inplace
            && let Ok(file) = place.dir.open_file_rw(&name)
        {
            return self.overwrite(file, entry, content);
        }
        let (temp, mut file) = create_temp(&place, &name)?;
        let written = file.write_all(content).during("write");
        self.land(&place, path, &temp, &name, &file, entry, written)?;
        Ok(Landed {
            literal_bytes: content.len() as u64,
            matched_bytes: 0,
            stat: fs::stat_file(&file).during("stat")?,
        })
    }

    fn overwrite(&self, file: File, entry: &Entry, content: &[u8]) -> Result<Landed, Failure> {
        file.write_all_at(content, 0).during("write")?;
        fs::set_len(&file, content.len() as u64).during("set the length of")?;
        self.dress_in_place(&file, entry)?;
        Ok(Landed {
            literal_bytes: content.len() as u64,
            matched_bytes: 0,
            stat: fs::stat_file(&file).during("stat")?,
        })
    }

    /// Copies a file of this machine, with holes, by the cheapest way the filesystem has.
    /// `progress` hears of the bytes and may stop the copy.
    pub fn copy_file(
        &self,
        path: &RelPath,
        entry: &Entry,
        from: &File,
        progress: &mut dyn FnMut(u64) -> io::Result<()>,
    ) -> Result<Landed, Failure> {
        let (place, name) = self.new_parent(path)?;
        let size = entry.meta.size;
        if self.options.write.inplace
            && let Ok(file) = place.dir.open_file_rw(&name)
        {
            fs::set_len(&file, 0).during("truncate")?;
            fs::copy_content(from, &file, size, self.sparse(), progress).during("copy")?;
            self.dress_in_place(&file, entry)?;
            let stat = fs::stat_file(&file).during("stat")?;
            return Ok(copied(stat, size));
        }
        self.copy_to_new_file(path, entry, from, progress)
    }

    /// Copies as [`Applier::copy_file`] does, but never over what stands at `path`: that may be
    /// another name of `from` itself.
    pub fn copy_to_new_file(
        &self,
        path: &RelPath,
        entry: &Entry,
        from: &File,
        progress: &mut dyn FnMut(u64) -> io::Result<()>,
    ) -> Result<Landed, Failure> {
        let (place, name) = self.new_parent(path)?;
        let size = entry.meta.size;
        let (temp, mut file) = create_temp(&place, &name)?;
        let is_small = size <= CHUNK as u64;
        let written = match is_small && is_dense(from, size).during("stat")? {
            true => copy_small(from, &mut file, size, progress),
            false => fs::copy_content(from, &file, size, self.sparse(), progress).map(|_| ()),
        }
        .during("copy");
        self.land(&place, path, &temp, &name, &file, entry, written)?;
        let stat = fs::stat_file(&file).during("stat")?;
        Ok(copied(stat, size))
    }

    fn sparse(&self) -> Sparse {
        if self.options.rules.fidelity.sparse {
            Sparse::Keep
        } else {
            Sparse::Fill
        }
    }

    /// Dresses a written temporary and gives it its name.
    #[expect(
        clippy::too_many_arguments,
        reason = "the whole of one rename, used thrice"
    )]
    fn land(
        &self,
        place: &Place,
        path: &RelPath,
        temp: &Name,
        name: &Name,
        file: &File,
        entry: &Entry,
        written: Result<(), Failure>,
    ) -> Result<(), Failure> {
        let dressed = written
            .and_then(|()| self.dress(&Target::File(file), entry, place, EntryKind::File))
            .and_then(|()| self.sync_each(file));
        self.publish(place, path, temp, name, dressed)
    }

    fn sync_each(&self, file: &File) -> Result<(), Failure> {
        match self.options.write.fsync {
            Fsync::Each => file.sync_data().during("make durable"),
            Fsync::End | Fsync::None => Ok(()),
        }
    }

    fn dress_in_place(&self, file: &File, entry: &Entry) -> Result<(), Failure> {
        let target = Target::File(file);
        let stat = fs::stat_file(file).during("stat")?;
        let mut have = Entry {
            meta: stat.meta,
            xattrs: Vec::new(),
            ..entry.clone()
        };
        if self.options.rules.reads_xattrs() {
            have.xattrs =
                fs::read_xattrs(&target, self.xattr_select()).during("read attributes of")?;
        }
        self.redress(&target, entry, &have)?;
        // Writing has moved the mtime, whatever it was before.
        self.give_mtime(&target, entry)?;
        self.sync_each(file)
    }

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
        let (temp, file, basis) = match existing {
            Some(old) if old.in_place => {
                let basis = Basis {
                    file: old.file.try_clone().during("open")?,
                    len: old.len,
                    shared: true,
                };
                (None, old.file, Some(basis))
            }
            Some(old) => {
                let (temp, file) = create_temp(&place, &name)?;
                let shared = fs::clone_file(&old.file, &file).during("clone")?;
                let basis = Basis {
                    file: old.file,
                    len: old.len,
                    shared,
                };
                (Some(temp), file, Some(basis))
            }
            None => {
                let (temp, file) = create_temp(&place, &name)?;
                (Some(temp), file, None)
            }
        };
        Ok(Incoming {
            place,
            path: path.clone(),
            name,
            temp,
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
        if self.temp.is_none() && !stays {
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
        if let Some(temp) = &self.temp
            && !worth
        {
            // What stays is swept by the next run.
            let _ = self.place.dir.unlink(temp);
        }
    }
}

/// Copies a file that fits into one buffer: one read and one write, where the kernel's own copy
/// takes four times as long on ext4 and every other preparation costs a journal entry.
fn copy_small(
    from: &File,
    to: &mut File,
    size: u64,
    progress: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(CHUNK, 0);
        let content = &mut buffer[..size as usize];
        from.read_exact_at(content, 0)?;
        to.write_all(content)?;
        progress(size)
    })
}

/// Whether a file has no holes that would be lost by writing all of it.
fn is_dense(file: &File, size: u64) -> io::Result<bool> {
    Ok(size < 4096 || fs::stat_file(file)?.blocks.saturating_mul(512) >= size)
}

/// What happens to the part of a file that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The session ended early: the next one goes on with it.
    Partial,
    /// It is of no use.
    Nothing,
}

fn create_temp(place: &Place, name: &Name) -> Result<(Name, File), Failure> {
    let temp = fs::temp_name(name);
    let file = place.dir.create_new(&temp).during("create")?;
    Ok((temp, file))
}

fn copied(stat: Stat, size: u64) -> Landed {
    Landed {
        literal_bytes: size,
        matched_bytes: 0,
        stat,
    }
}

fn mismatch() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the content that arrived does not have the sender's hash",
    )
}

fn bad_range(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the sender's instructions make no sense: {why}"),
    )
}
