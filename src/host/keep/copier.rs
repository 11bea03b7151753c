//! Puts single entries into another tree: with a second name where that is wanted and possible, else
//! as a copy. Files of several names stay one file.

use std::collections::HashMap;
use std::fs::File;
use std::io;

use rustix::io::Errno;

use crate::apply::{Applier, During, Failure, Original};
use crate::entry::EntryKind;
use crate::events::Cancel;
use crate::fs::{self, Dir, Stat};
use crate::manifest::record::Entry;
use crate::path::RelPath;
use crate::protocol::errand::KeepMeans;

/// Puts entries that are no directories.
pub(super) struct Copier<'a> {
    means: KeepMeans,
    /// The first names of copied files that have several, by inode.
    leaders: HashMap<(u64, u64), RelPath>,
    cancel: &'a Cancel,
}

/// What an entry in the other tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// A second name of the same file, which has the properties that it had.
    Linked,
    /// A copy with the properties that were asked for.
    Copied,
}

impl<'a> Copier<'a> {
    pub(super) fn new(means: KeepMeans, cancel: &'a Cancel) -> Copier<'a> {
        Copier {
            means,
            leaders: HashMap::new(),
            cancel,
        }
    }

    /// Puts what has `entry`'s name in `from` to `path`, as `entry`. `stat` is what is there.
    pub(super) fn put(
        &mut self,
        to: &Applier,
        path: &RelPath,
        entry: &Entry,
        (from, stat): (&Dir, &Stat),
    ) -> Result<Put, Failure> {
        if self.means == KeepMeans::HardLink {
            match to.adopt(path, from, &entry.name) {
                Ok(()) => return Ok(Put::Linked),
                Err(failure) if may_not_link(&failure) => {}
                Err(failure) => return Err(failure),
            }
        }
        self.copy(to, path, entry, (from, stat))?;
        Ok(Put::Copied)
    }

    fn copy(
        &mut self,
        to: &Applier,
        path: &RelPath,
        entry: &Entry,
        (from, stat): (&Dir, &Stat),
    ) -> Result<(), Failure> {
        if stat.nlink > 1 {
            let inode = (stat.dev, stat.ino);
            if let Some(leader) = self.leaders.get(&inode) {
                return to.link(path, leader).map(drop);
            }
            self.leaders.insert(inode, path.clone());
        }
        if entry.meta.kind != EntryKind::File {
            return to.make_special(path, entry);
        }
        let (file, stat) = from.open_listed_file(&entry.name).during("open")?;
        let original = Original {
            file: &file,
            stat: &stat,
        };
        let cancel = self.cancel;
        let mut progress = |_| match cancel.is_cancelled() {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        };
        match self.means {
            KeepMeans::Copy => to.copy_to_new_file(path, entry, original, &mut progress),
            _ => to.clone_to_new_file(path, entry, original, &mut progress),
        }?;
        unchanged(&file, entry, &stat).during("keep")
    }
}

/// Fails for a file that was written to while it was copied.
fn unchanged(file: &File, entry: &Entry, before: &Stat) -> io::Result<()> {
    let is_listed = (before.meta.size, before.meta.mtime) == (entry.meta.size, entry.meta.mtime);
    if is_listed && fs::stat_file(file)?.is_unchanged_since(before) {
        return Ok(());
    }
    Err(io::Error::other("it is being written to; stop what writes"))
}

/// Whether this one file cannot get another name: it has as many as it can, belongs to somebody
/// else, or is in a subvolume.
fn may_not_link(failure: &Failure) -> bool {
    let errno = failure.source.raw_os_error();
    [Errno::MLINK, Errno::PERM, Errno::XDEV]
        .iter()
        .any(|refusal| errno == Some(refusal.raw_os_error()))
}
