//! Deletion: only of what it is told entry by entry, never across a filesystem boundary, and
//! never of what a filter protects.

use std::io;

use crate::apply::{Applier, Aside, During, Failure, Place};
use crate::entry::EntryKind;
use crate::manifest::listing::Listing;
use crate::path::{Name, RelPath};

/// What a deletion did.
#[derive(Debug, Default)]
pub struct Removed {
    /// Entries that are gone, or in the trash.
    pub entries: u64,
    /// Directories that stay because something in them does not take part.
    pub kept: Vec<RelPath>,
    /// Entries that could not be deleted.
    pub failed: Vec<(RelPath, Failure)>,
}

/// Lists a directory as a scan sees it, without what filters hide.
pub(crate) type ListDir<'a> = &'a dyn Fn(&RelPath) -> io::Result<Listing>;

impl Applier {
    /// Deletes an entry and all beneath it that takes part, or moves it aside.
    ///
    /// `whole` says that everything beneath takes part: then a directory that is kept aside moves
    /// in one rename, with its `entries`.
    pub fn remove(
        &self,
        path: &RelPath,
        kind: EntryKind,
        whole: Option<u64>,
        list: ListDir<'_>,
        removed: &mut Removed,
    ) {
        let outcome = self.parent(path).and_then(|(place, name)| {
            self.forget(path);
            if kind != EntryKind::Dir {
                return self.remove_entry(&place, path, &name).map(|()| 1);
            }
            match whole {
                Some(entries) if self.options.aside.trash.is_some() => self
                    .move_aside(&place, path, &name)
                    .during("move to the trash")
                    .map(|_| entries),
                _ => self.remove_dir(&place, path, &name, list, removed),
            }
        });
        match outcome {
            Ok(entries) => removed.entries += entries,
            Err(failure) if failure.source.kind() == io::ErrorKind::NotFound => {}
            Err(failure) => removed.failed.push((path.clone(), failure)),
        }
    }

    fn remove_entry(&self, place: &Place, path: &RelPath, name: &Name) -> Result<(), Failure> {
        if self
            .move_aside(place, path, name)
            .during("move to the trash")?
        {
            return Ok(());
        }
        place.dir.unlink(name).during("delete")
    }

    fn remove_dir(
        &self,
        place: &Place,
        path: &RelPath,
        name: &Name,
        list: ListDir<'_>,
        removed: &mut Removed,
    ) -> Result<u64, Failure> {
        let parent_dev = place.dir.stat_self().during("stat")?.dev;
        let stat = place.dir.stat(name).during("stat")?;
        if stat.dev != parent_dev || stat.mount_root {
            return Err(Failure::new(
                "delete",
                io::Error::new(
                    io::ErrorKind::CrossesDevices,
                    "another filesystem is mounted there",
                ),
            ));
        }
        let listing = list(path).during("read directory")?;
        for row in &listing.rows {
            let child = path.join(&row.entry.name);
            self.remove(&child, row.entry.meta.kind, None, list, removed);
        }
        for leftover in &listing.leftovers {
            self.sweep(&[(path.clone(), leftover.clone())]);
        }
        self.forget(path);
        match place.dir.remove_dir(name) {
            Ok(()) => Ok(1),
            Err(err) if err.kind() == io::ErrorKind::DirectoryNotEmpty => {
                removed.kept.push(path.clone());
                Ok(0)
            }
            Err(err) => Err(Failure::new("delete directory", err)),
        }
    }

    /// Where deleted entries go.
    pub fn aside(&self) -> &Aside {
        &self.options.aside
    }
}
