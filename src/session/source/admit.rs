//! What a destination may ask about: only what takes part. What filters hide is hidden from
//! somebody who knows its name, too.

use std::io;

use rustix::io::Errno;

use crate::entry::EntryKind;
use crate::path::{Name, RelPath};
use crate::session::source::serving::Serving;

impl Serving<'_> {
    /// Fails, as if it were not there, for a directory that does not take part.
    pub(super) fn admit_dir(&self, dir: &RelPath) -> io::Result<()> {
        let takes_part = match self.scan {
            Some(scan) => scan.tree.find(dir).is_some(),
            // A manifest holds nothing else.
            None => self.recorded.is_some() || self.leads_to(dir)?,
        };
        if takes_part {
            return Ok(());
        }
        Err(Errno::NOENT.into())
    }

    /// Fails, as if it were not there, for a file that does not take part.
    pub(super) fn admit_file(&self, path: &RelPath) -> io::Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::NOENT.into());
        };
        self.admit_dir(&parent)?;
        let open = self.root.open_dir(&parent)?;
        match self.lister.entry(&open, &parent, &name)? {
            Some(row) if row.entry.meta.kind == EntryKind::File => Ok(()),
            _ => Err(Errno::NOENT.into()),
        }
    }

    /// Whether every step down to `dir` is a directory that takes part.
    fn leads_to(&self, dir: &RelPath) -> io::Result<bool> {
        let one_file_system = self.role.options.selection.one_file_system;
        let mut at = RelPath::root();
        for component in dir.components() {
            let name = Name::new(component).map_err(io::Error::other)?;
            let open = self.root.open_dir(&at)?;
            let takes_part = self.lister.entry(&open, &at, &name)?.is_some_and(|row| {
                row.entry.meta.kind == EntryKind::Dir
                    && (!one_file_system || row.stat.dev == self.root_dev)
            });
            if !takes_part {
                return Ok(false);
            }
            at = at.join(&name);
        }
        Ok(true)
    }
}
