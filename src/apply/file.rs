//! Regular files whose content is at hand: small ones, and those of this machine, which the
//! kernel copies. All end the same way: dressed under the temporary name, then renamed.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use crate::apply::{Applier, During, Failure, Place};
use crate::delta::Subtrees;
use crate::digest::ContentHash;
use crate::entry::EntryKind;
use crate::fs::{self, Sparse, Stat, Target};
use crate::manifest::record::Entry;
use crate::options::Fsync;
use crate::path::{Name, RelPath};

/// How much is copied, hashed or zeroed at a time, in bytes: within the second-level cache.
pub(super) const CHUNK: usize = 256 << 10;

/// A file that has its name now.
#[derive(Debug)]
pub struct Landed {
    /// Content bytes that came as they are.
    pub literal_bytes: u64,
    /// Content bytes taken from a file that was there.
    pub matched_bytes: u64,
    /// The file as it is now.
    pub stat: Stat,
    /// The values of a large file's blocks, where its content passed through.
    pub blocks: Option<Subtrees>,
    /// The old file that it was built on.
    pub replaced: Option<Stat>,
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
            blocks: None,
            replaced: None,
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
            blocks: None,
            replaced: None,
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
    pub(super) fn land(
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

    pub(super) fn dress_in_place(&self, file: &File, entry: &Entry) -> Result<(), Failure> {
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

pub(super) fn create_temp(place: &Place, name: &Name) -> Result<(Name, File), Failure> {
    let temp = fs::temp_name(name);
    let file = place.dir.create_new(&temp).during("create")?;
    Ok((temp, file))
}

fn copied(stat: Stat, size: u64) -> Landed {
    Landed {
        literal_bytes: size,
        matched_bytes: 0,
        stat,
        blocks: None,
        replaced: None,
    }
}

pub(super) fn mismatch() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the content that arrived does not have the sender's hash",
    )
}
