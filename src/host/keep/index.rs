//! What the files of a hard-linked state were when it was kept. Their inodes are those of the root,
//! so what is changed there in place changes here: this is where it is put right, or told.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};

use crate::apply::{Applier, Failure};
use crate::entry::EntryKind;
use crate::events::Cancel;
use crate::manifest::record::Entry;
use crate::path::RelPath;

/// Longer than any record: a path of 1 MiB, and the largest attributes that Linux allows.
const LONGEST: u32 = 8 << 20;

/// How much is told of contents that changed: names beyond either are counted.
const TOLD_NAMES: usize = 1000;
const TOLD_BYTES: usize = 1 << 20;

/// An index that is being written.
#[derive(Debug)]
pub(super) struct Index(BufWriter<File>);

impl Index {
    pub(super) fn create(file: File) -> Index {
        Index(BufWriter::new(file))
    }

    pub(super) fn push(&mut self, path: &RelPath, entry: &Entry) -> io::Result<()> {
        let bytes = postcard::to_stdvec(&(path, entry)).map_err(io::Error::other)?;
        self.0.write_all(&(bytes.len() as u32).to_le_bytes())?;
        self.0.write_all(&bytes)
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.0.flush()?;
        self.0.get_ref().sync_all()
    }
}

/// Reads an index.
pub(super) struct Records {
    file: BufReader<File>,
    /// The first record of the next block, where one has been read.
    ahead: Option<(RelPath, Entry)>,
}

/// A directory that has entries, and these, sorted by their names.
pub(super) struct Block {
    pub(super) dir: RelPath,
    pub(super) entries: Vec<Entry>,
}

impl Records {
    pub(super) fn open(file: File) -> Records {
        Records {
            file: BufReader::new(file),
            ahead: None,
        }
    }

    /// The next directory, where the index has all entries.
    pub(super) fn next_block(&mut self) -> io::Result<Option<Block>> {
        let Some((path, entry)) = self.next().transpose()? else {
            return Ok(None);
        };
        let dir = path.parent().unwrap_or_default();
        let mut entries = vec![entry];
        for record in &mut *self {
            let (path, entry) = record?;
            if path.parent().as_ref() != Some(&dir) {
                self.ahead = Some((path, entry));
                break;
            }
            entries.push(entry);
        }
        Ok(Some(Block { dir, entries }))
    }
}

impl Iterator for Records {
    type Item = io::Result<(RelPath, Entry)>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.ahead.take() {
            Some(record) => Some(Ok(record)),
            None => next(&mut self.file).transpose(),
        }
    }
}

/// The next record; `None` at the end.
fn next(file: &mut impl Read) -> io::Result<Option<(RelPath, Entry)>> {
    let mut len = [0; 4];
    match file.read_exact(&mut len) {
        Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let len = u32::from_le_bytes(len);
    let damaged = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    if len > LONGEST {
        return Err(damaged("a record of impossible length".to_string()));
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact(&mut bytes)?;
    let record = postcard::from_bytes(&bytes).map_err(|err| damaged(err.to_string()))?;
    Ok(Some(record))
}

/// The names of files whose content is not what it was.
#[derive(Debug, Default)]
pub(super) struct Differing {
    pub(super) names: Vec<String>,
    pub(super) count: u64,
    bytes: usize,
}

impl Differing {
    pub(super) fn add(&mut self, path: &RelPath) {
        self.count += 1;
        let name = path.to_string();
        if self.names.len() < TOLD_NAMES && self.bytes + name.len() <= TOLD_BYTES {
            self.bytes += name.len();
            self.names.push(name);
        }
    }

    /// The names, and how many are not among them.
    pub(super) fn told(self) -> Vec<String> {
        let mut names = self.names;
        let more = self.count - names.len() as u64;
        if more > 0 {
            names.push(format!("and {more} more"));
        }
        names
    }
}

/// Gives what is kept in `tree` the metadata that it had. Content that changed meanwhile keeps its
/// time, so that nobody takes it for what it was.
pub(super) fn mend(
    tree: &Applier,
    index: File,
    cancel: &Cancel,
) -> Result<Differing, (RelPath, Failure)> {
    let mut differing = Differing::default();
    let of_index = |err| (RelPath::root(), Failure::new("read the index of", err));
    for record in Records::open(index) {
        let (path, mut entry) = record.map_err(of_index)?;
        if cancel.is_cancelled() {
            break;
        }
        let mended = tree.entry_at(&path, &entry).and_then(|have| {
            let is_changed = entry.meta.kind == EntryKind::File
                && (have.meta.size, have.meta.mtime) != (entry.meta.size, entry.meta.mtime);
            if is_changed {
                differing.add(&path);
                entry.meta.size = have.meta.size;
                entry.meta.mtime = have.meta.mtime;
            }
            match have == entry {
                true => Ok(()),
                false => tree.set_attributes(&path, &entry, &have),
            }
        });
        mended.map_err(|failure| (path, failure))?;
    }
    Ok(differing)
}
