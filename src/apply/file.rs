//! Regular files that are made in one go: small ones written at once, local ones copied by the
//! kernel. They end as the large ones of `incoming` do: dressed under the temporary name, then
//! renamed.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::apply::{Applier, During, Failure, Place};
use crate::delta::Subtrees;
use crate::digest::ContentHash;
use crate::entry::EntryKind;
use crate::fs::{self, Sparse, Stat, Target};
use crate::manifest::record::Entry;
use crate::options::Fsync;
use crate::path::{Name, RelPath};

/// How much is copied at a time, in bytes: within the second-level cache.
const CHUNK: usize = 256 << 10;

/// A file that has its name now.
#[derive(Debug)]
pub struct Landed {
    /// Content bytes that came as they are; holes are none.
    pub literal_bytes: u64,
    /// Content bytes taken from a file that was there.
    pub matched_bytes: u64,
    /// The file itself.
    pub file: File,
    /// The values of a large file's blocks, where its content passed through.
    pub blocks: Option<Subtrees>,
    /// The old file that it was built on.
    pub replaced: Option<Stat>,
}

/// A file of this machine to copy.
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    /// The file, open for reading.
    pub file: &'a File,
    /// What it was when it was opened.
    pub stat: &'a Stat,
}

/// A temporary name, and the one that its file takes when it is finished.
#[derive(Debug)]
pub(super) struct Beside {
    pub(super) place: Arc<Place>,
    name: Name,
    pub(super) temp: Name,
}

impl Beside {
    pub(super) fn create(place: Arc<Place>, name: Name) -> Result<(Beside, File), Failure> {
        let temp = fs::temp_name(&name);
        let file = place.dir.create_new(&temp).during("create")?;
        Ok((Beside { place, name, temp }, file))
    }
}

/// What a new file may be written over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// The file that has its name, where files are changed in place.
    Existing,
    /// Nothing, ever.
    Nothing,
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
        self.place_file(path, entry, Over::Existing, |file| {
            file.write_all_at(content, 0).during("write")?;
            Ok(content.len() as u64)
        })
    }

    /// Copies a file of this machine, with holes, by the cheapest way the filesystem has.
    /// `progress` hears of the bytes and may stop the copy.
    pub fn copy_file(
        &self,
        path: &RelPath,
        entry: &Entry,
        from: Original<'_>,
        progress: &mut dyn FnMut(u64) -> io::Result<()>,
    ) -> Result<Landed, Failure> {
        self.place_file(path, entry, Over::Existing, |file| {
            self.copy_content(from, file, entry.meta.size, progress)
        })
    }

    /// Copies as [`Applier::copy_file`] does, but never over what stands at `path`: that may be
    /// another name of `from` itself.
    pub fn copy_to_new_file(
        &self,
        path: &RelPath,
        entry: &Entry,
        from: Original<'_>,
        progress: &mut dyn FnMut(u64) -> io::Result<()>,
    ) -> Result<Landed, Failure> {
        self.place_file(path, entry, Over::Nothing, |file| {
            self.copy_content(from, file, entry.meta.size, progress)
        })
    }

    /// Copies a file as [`Applier::copy_to_new_file`] does, but with shared blocks wherever that is
    /// possible, however small it is: for copies that shall take no space.
    pub fn clone_to_new_file(
        &self,
        path: &RelPath,
        entry: &Entry,
        from: Original<'_>,
        progress: &mut dyn FnMut(u64) -> io::Result<()>,
    ) -> Result<Landed, Failure> {
        self.place_file(path, entry, Over::Nothing, |file| {
            fs::copy_content(from.file, file, entry.meta.size, self.sparse(), progress)
                .map(|copied| copied.bytes)
                .during("copy")
        })
    }

    /// Makes a file whose content `fill` writes from the start, saying how many bytes it wrote:
    /// beside its name, which it then takes, or over the file that has the name where that is
    /// wanted.
    fn place_file(
        &self,
        path: &RelPath,
        entry: &Entry,
        over: Over,
        fill: impl FnOnce(&File) -> Result<u64, Failure>,
    ) -> Result<Landed, Failure> {
        let (place, name) = self.new_parent(path)?;
        let size = entry.meta.size;
        let landed = |file, literal_bytes| Landed {
            literal_bytes,
            matched_bytes: 0,
            file,
            blocks: None,
            replaced: None,
        };
        if over == Over::Existing
            && self.options.write.inplace
            && let Ok(file) = place.dir.open_file_rw(&name)
        {
            let written = fill(&file)?;
            fs::set_len(&file, size).during("set the length of")?;
            self.dress_in_place(&file, entry)?;
            return Ok(landed(file, written));
        }
        let (beside, file) = Beside::create(place, name)?;
        let mut written = 0;
        let filled = fill(&file).map(|bytes| written = bytes);
        self.land(path, &beside, &file, entry, filled)?;
        Ok(landed(file, written))
    }

    fn copy_content(
        &self,
        from: Original<'_>,
        to: &File,
        size: u64,
        progress: &mut dyn FnMut(u64) -> io::Result<()>,
    ) -> Result<u64, Failure> {
        let is_small = size <= CHUNK as u64;
        match is_small && !from.stat.may_have_holes() {
            true => copy_small(from.file, to, size, progress).map(|()| size),
            false => fs::copy_content(from.file, to, size, self.sparse(), progress)
                .map(|copied| copied.bytes),
        }
        .during("copy")
    }

    fn sparse(&self) -> Sparse {
        if self.options.rules.fidelity.sparse {
            Sparse::Keep
        } else {
            Sparse::Fill
        }
    }

    /// Dresses a written temporary and gives it its name.
    pub(super) fn land(
        &self,
        path: &RelPath,
        beside: &Beside,
        file: &File,
        entry: &Entry,
        written: Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Beside { place, name, temp } = beside;
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
            have.xattrs = fs::read_xattrs(&target, self.options.rules.xattrs())
                .during("read attributes of")?;
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
    to: &File,
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
        to.write_all_at(content, 0)?;
        progress(size)
    })
}

pub(super) fn mismatch() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the content that arrived does not have the sender's hash",
    )
}
