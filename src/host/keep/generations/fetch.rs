//! Takes entries out of a generation as they were when it was made, whatever the frozen tree or its
//! shared inodes show. The generation stays.

use super::super::copier::{Copier, Put};
use super::super::index::{Differing, Index, Records};
use super::super::shelf::Shelf;
use crate::apply::{Applier, During, Failure};
use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::events::Cancel;
use crate::fs::Dir;
use crate::manifest::record::Entry;
use crate::path::RelPath;
use crate::protocol::errand::KeepMeans;

/// What is taken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    /// All.
    All,
    /// These entries with all beneath them, and directories that lead there where they are missing.
    Below(&'a [RelPath]),
}

/// What was taken.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) entries: u64,
    /// Files of which the content, or the time, is not what it was.
    pub(super) differing: Differing,
}

/// Puts what is wanted of a generation into another tree, by second names where `means` says so.
/// What got one is told to `index`, to be put right by whoever moves it on.
pub(super) fn fetch(
    (shelf, id): (&Shelf<'_>, &str),
    to: &Applier,
    (wanted, means): (Wanted<'_>, KeepMeans),
    index: Option<&mut Index>,
    cancel: &Cancel,
) -> Result<Taken> {
    let mut fetching = Fetching {
        tree: shelf.tree(id)?,
        to,
        copier: Copier::new(means, cancel),
        index,
        taken: Taken::default(),
    };
    for record in Records::open(shelf.index(id)?) {
        let (path, entry) = record.map_err(|err| shelf.failed("read the index of", id, err))?;
        cancel.check()?;
        let took = match wanted.of(&path) {
            Share::Whole => fetching.take(&path, entry),
            Share::OnTheWay => fetching.lead(&path, &entry),
            Share::None => Ok(()),
        };
        took.map_err(|failure| {
            // A copy that was interrupted failed of it; the wish is what counts.
            let of = shelf.path(id).join(path.as_os_str());
            let of = of.as_os_str().as_encoded_bytes();
            let failed = Error::io(failure.act, of, failure.source);
            cancel.check().err().unwrap_or(failed)
        })?;
    }
    Ok(fetching.taken)
}

/// How much of an entry is wanted.
enum Share {
    /// It is.
    Whole,
    /// Something beneath it.
    OnTheWay,
    None,
}

impl Wanted<'_> {
    fn of(self, path: &RelPath) -> Share {
        let Wanted::Below(tops) = self else {
            return Share::Whole;
        };
        if tops.iter().any(|top| path.starts_with(top)) {
            Share::Whole
        } else if tops.iter().any(|top| top.starts_with(path)) {
            Share::OnTheWay
        } else {
            Share::None
        }
    }
}

struct Fetching<'a> {
    tree: Dir,
    to: &'a Applier,
    copier: Copier<'a>,
    index: Option<&'a mut Index>,
    taken: Taken,
}

impl Fetching<'_> {
    fn take(&mut self, path: &RelPath, mut entry: Entry) -> Result<(), Failure> {
        self.taken.entries += 1;
        if entry.meta.kind == EntryKind::Dir {
            return self.to.make_dir(path, &entry);
        }
        let parent = path.parent().unwrap_or_default();
        let from = self.tree.open_dir(&parent).during("open")?;
        let stat = from.stat(&entry.name).during("stat")?;
        let was = entry.clone();
        let is_file = entry.meta.kind == EntryKind::File;
        if is_file {
            // What changed in place keeps its time, so that nobody takes it for what it was.
            entry.meta.size = stat.meta.size;
            entry.meta.mtime = stat.meta.mtime;
        }
        let put = self.copier.put(self.to, path, &entry, (&from, &stat))?;
        match (put, &mut self.index) {
            (Put::Linked, Some(index)) => index.push(path, &was).during("write the index of"),
            _ => {
                if was.meta != entry.meta {
                    self.taken.entries -= 1;
                    self.taken.differing.add(path);
                }
                Ok(())
            }
        }
    }

    /// Makes a directory that something wanted is in, where it is not there.
    fn lead(&self, path: &RelPath, entry: &Entry) -> Result<(), Failure> {
        match self.to.root().open_dir(path) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => self.to.make_dir(path, entry),
            there => there.map(drop).during("open"),
        }
    }
}
