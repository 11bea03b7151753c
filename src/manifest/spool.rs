//! Directories' entries, kept on disk in the order in which a scan finds them and given back in
//! the order of their paths: a manifest is sorted, and a tree may not fit into memory.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::manifest::record::Entry;
use crate::path::RelPath;

/// Takes entries from many threads.
#[derive(Debug)]
pub struct Spool(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    out: BufWriter<File>,
    index: Vec<Place>,
    end: u64,
    /// The first failure; nothing is kept after it.
    failure: Option<io::Error>,
}

/// Where one directory's entries are.
#[derive(Debug)]
struct Place {
    path: RelPath,
    offset: u64,
    len: usize,
}

impl Spool {
    /// Keeps what comes in `file`, which is empty.
    pub fn create(file: File) -> Spool {
        Spool(Mutex::new(Inner {
            out: BufWriter::new(file),
            index: Vec::new(),
            end: 0,
            failure: None,
        }))
    }

    /// Keeps a directory's entries. A failure is told when they are asked for.
    pub fn put(&self, path: &RelPath, entries: &[&Entry]) {
        let bytes = postcard::to_stdvec(entries).map_err(io::Error::other);
        let mut inner = self.lock();
        if inner.failure.is_some() {
            return;
        }
        let written = bytes.and_then(|bytes| inner.out.write_all(&bytes).map(|()| bytes.len()));
        match written {
            Ok(len) => {
                let offset = inner.end;
                inner.end += len as u64;
                inner.index.push(Place {
                    path: path.clone(),
                    offset,
                    len,
                });
            }
            Err(err) => inner.failure = Some(err),
        }
    }

    /// Gives all directories back, sorted by the bytes of their paths.
    ///
    /// # Errors
    ///
    /// Of the file, now or as they were kept, and of `take`.
    pub fn finish(
        self,
        mut take: impl FnMut(&RelPath, Vec<Entry>) -> io::Result<()>,
    ) -> io::Result<()> {
        let inner = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(err) = inner.failure {
            return Err(err);
        }
        let file = inner.out.into_inner().map_err(|err| err.into_error())?;
        let mut index = inner.index;
        index.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let mut bytes = Vec::new();
        for place in index {
            bytes.resize(place.len, 0);
            file.read_exact_at(&mut bytes, place.offset)?;
            let entries = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
            take(&place.path, entries)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{EntryKind, Metadata};
    use crate::path::Name;

    fn entry(name: &str) -> Entry {
        Entry {
            name: Name::new(name.as_bytes()).unwrap(),
            meta: Metadata {
                kind: EntryKind::File,
                mode: 0o644,
                uid: 1,
                gid: 2,
                mtime: Default::default(),
                size: 3,
                rdev: (0, 0),
            },
            target: Vec::new(),
            xattrs: Vec::new(),
            content: None,
            link: Some(4),
        }
    }

    #[test]
    fn directories_come_back_sorted_and_whole() {
        let spool = Spool::create(tempfile::tempfile().unwrap());
        let path = |text: &str| RelPath::new(text.as_bytes()).unwrap();
        for dir in ["b", "", "a/z", "a"] {
            let entries = [entry(&format!("in-{}", dir.len())), entry("x")];
            spool.put(&path(dir), &entries.each_ref());
        }
        let mut found = Vec::new();
        let take = |path: &RelPath, entries| {
            found.push((path.clone(), entries));
            Ok(())
        };
        spool.finish(take).unwrap();
        let expected = ["", "a", "a/z", "b"].map(|dir| {
            (
                path(dir),
                vec![entry(&format!("in-{}", dir.len())), entry("x")],
            )
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_file_that_takes_nothing_is_an_error_at_the_end() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let spool = Spool::create(full);
        let entries = vec![entry("x"); 1000];
        spool.put(&RelPath::root(), &entries.iter().collect::<Vec<_>>());
        let err = spool.finish(|_, _| Ok(())).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::StorageFull);
    }
}
