//! One file's content on its way into an archive: read as it is now, and hashed as it is packed.
//! What was announced of it is what is packed, whatever the file does meanwhile.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::slice;

use super::sparse;
use crate::delta::zeros;
use crate::digest::ContentHash;
use crate::entry::Metadata;
use crate::error::Result;
use crate::events::Cancel;
use crate::fs::{self, Dir, Stat};
use crate::path::Name;

use super::pack::written;

/// Files up to this size, in bytes, are read before they are packed, so that one that changes
/// meanwhile can be read again. Larger ones pass through.
const SMALL: u64 = 1 << 20;

/// How often a small file is read.
const ATTEMPTS: u8 = 3;

/// How much of a large file is read at a time, in bytes: within the second-level cache.
const CHUNK: usize = 256 << 10;

/// How a file that was packed would hold still.
#[derive(Debug)]
pub(super) enum Fate {
    /// It did.
    Whole,
    /// It changed: what was packed may be a mixture.
    Changed,
    /// It could not be read to its end: zeros were packed for the rest.
    Torn(io::Error),
}

/// A file that is about to be packed.
pub(super) enum FileContent {
    /// All of it.
    Small {
        /// What it is.
        meta: Metadata,
        /// Its bytes.
        bytes: Vec<u8>,
        /// Whether it kept changing.
        is_settled: bool,
    },
    /// The file, to be read.
    Large {
        /// The open file.
        file: File,
        /// What it was when it was opened.
        stat: Stat,
        /// Where its data lies; `None` where all of it is data.
        extents: Option<Vec<Range<u64>>>,
    },
}

impl FileContent {
    /// Opens the file `name`, which was listed as one.
    pub(super) fn open(dir: &Dir, name: &Name) -> io::Result<FileContent> {
        let mut attempts = ATTEMPTS;
        loop {
            let (file, stat) = dir.open_listed_file(name)?;
            if stat.may_have_holes() || stat.meta.size > SMALL {
                return FileContent::large(file, stat);
            }
            attempts -= 1;
            let bytes = read_small(&file, stat.meta.size)?;
            let after = fs::stat_file(&file)?;
            let is_settled =
                after.is_unchanged_since(&stat) && bytes.len() as u64 == stat.meta.size;
            if is_settled || attempts == 0 {
                let mut meta = stat.meta;
                meta.size = bytes.len() as u64;
                return Ok(FileContent::Small {
                    meta,
                    bytes,
                    is_settled,
                });
            }
        }
    }

    fn large(file: File, stat: Stat) -> io::Result<FileContent> {
        let size = stat.meta.size;
        let extents = match stat.may_have_holes() {
            true => Some(sparse::bounded(fs::data_ranges(&file, size)?)),
            false => None,
        };
        let whole = 0..size;
        let has_holes = |extents: &Vec<Range<u64>>| *extents != slice::from_ref(&whole);
        Ok(FileContent::Large {
            file,
            stat,
            extents: extents.filter(has_holes),
        })
    }

    /// What the file is, as it is packed.
    pub(super) fn meta(&self) -> Metadata {
        match self {
            FileContent::Small { meta, .. } => *meta,
            FileContent::Large { stat, .. } => stat.meta,
        }
    }

    /// Where its data lies; `None` where all of it is data.
    pub(super) fn extents(&self) -> Option<Vec<Range<u64>>> {
        match self {
            FileContent::Small { .. } => None,
            FileContent::Large { extents, .. } => extents.clone(),
        }
    }

    /// Hands all data to `put`. Returns the hash of what the archive then holds.
    pub(super) fn pack(
        self,
        put: &mut dyn FnMut(&[u8]) -> io::Result<()>,
        cancel: &Cancel,
    ) -> Result<(ContentHash, Fate)> {
        match self {
            FileContent::Small {
                bytes, is_settled, ..
            } => {
                put(&bytes).map_err(written)?;
                let fate = match is_settled {
                    true => Fate::Whole,
                    false => Fate::Changed,
                };
                Ok((ContentHash::of(&bytes), fate))
            }
            FileContent::Large {
                file,
                stat,
                extents,
            } => pack_large(&file, &stat, extents, put, cancel),
        }
    }
}

fn read_small(file: &File, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size as usize];
    let mut at = 0;
    while at < bytes.len() {
        match file.read_at(&mut bytes[at..], at as u64) {
            Ok(0) => break,
            Ok(read) => at += read,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    bytes.truncate(at);
    Ok(bytes)
}

fn pack_large(
    file: &File,
    stat: &Stat,
    extents: Option<Vec<Range<u64>>>,
    put: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    cancel: &Cancel,
) -> Result<(ContentHash, Fate)> {
    let size = stat.meta.size;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK];
    // Everything before this offset is in the hash.
    let mut at = 0;
    let mut torn = None;
    let whole = 0..size;
    'reading: for extent in extents.unwrap_or_else(|| vec![whole]) {
        zeros(extent.start - at, cancel, |part| {
            hasher.update(part);
        })?;
        at = extent.start;
        while at < extent.end {
            cancel.check()?;
            let part = usize::try_from(extent.end - at).map_or(CHUNK, |left| left.min(CHUNK));
            if let Err(err) = file.read_exact_at(&mut buffer[..part], at) {
                torn = Some(err);
                break 'reading;
            }
            hasher.update(&buffer[..part]);
            put(&buffer[..part]).map_err(written)?;
            at += part as u64;
        }
    }
    // Holes, and what the archive is filled up with where the file could not be read.
    zeros(size - at, cancel, |part| {
        hasher.update(part);
    })?;
    let is_unchanged = fs::stat_file(file).is_ok_and(|after| after.is_unchanged_since(stat));
    let fate = match torn {
        Some(err) if err.kind() != io::ErrorKind::UnexpectedEof => Fate::Torn(err),
        // It became shorter.
        Some(_) => Fate::Changed,
        None if !is_unchanged => Fate::Changed,
        None => Fate::Whole,
    };
    Ok((hasher.finalize().into(), fate))
}
