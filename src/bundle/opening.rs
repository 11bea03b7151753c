//! A bundle that is read: its file, what opens it, and how far it has been read.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::read::Reader;
use super::seal::{Keys, open_file, unseal};
use crate::error::{Error, Result};

/// A bundle to read.
pub struct Opening {
    /// The file.
    pub path: PathBuf,
    /// What there is to open it with.
    pub keys: Keys,
    /// The most content that it may hold, holes counted, in bytes.
    pub max_bytes: Option<u64>,
}

/// A bundle's open file, which can be read more than once.
pub(super) struct Bundle<'a> {
    opening: &'a Opening,
    file: File,
    /// Bytes of the file that have been read, in all readings together.
    read_bytes: Arc<AtomicU64>,
}

impl<'a> Bundle<'a> {
    /// Opens the file.
    pub(super) fn open(opening: &'a Opening) -> Result<Bundle<'a>> {
        let file = open_file(&opening.path)
            .map_err(|err| Error::io("open bundle", opening.path.as_os_str().as_bytes(), err))?;
        Ok(Bundle {
            opening,
            file,
            read_bytes: Arc::default(),
        })
    }

    /// Its length in bytes.
    pub(super) fn byte_len(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.len())
    }

    /// Reads it from its start.
    pub(super) fn reader(&mut self) -> Result<Reader<Box<dyn Read + '_>>> {
        let shown = self.opening.path.as_os_str().as_bytes();
        let failed = |err| Error::io("open bundle", shown, err);
        let progress = Arc::clone(&self.read_bytes);
        let input = unseal(&mut self.file, &self.opening.keys, progress).map_err(failed)?;
        Ok(Reader::new(input))
    }

    /// What to look at while it is read: how many bytes of the file have been.
    pub(super) fn read_bytes(&self) -> impl Fn() -> u64 + use<> {
        let read = Arc::clone(&self.read_bytes);
        move || read.load(Ordering::Relaxed)
    }
}

impl Opening {
    /// What an error of reading is called.
    pub(super) fn failed(&self, err: io::Error) -> Error {
        Error::io("read bundle", self.path.as_os_str().as_bytes(), err)
    }
}
