//! Goes through a root, a directory at a time and always in the same order, so that what was
//! written down of one walk can be laid beside another.

use std::cmp::Ordering;

use super::super::root::Root;
use super::{failed, names_in};
use crate::apply::During;
use crate::error::Result;
use crate::fs::{self, Dir, Mounts};
use crate::path::{Name, RelPath};

/// The order of directories: each before those below it, and these by their names.
pub(super) fn order(a: &RelPath, b: &RelPath) -> Ordering {
    a.components().cmp(b.components())
}

/// A walk through a root, led by whoever looks at what each directory holds.
pub(super) struct Walk<'a> {
    root: &'a Root,
    mounts: Mounts,
    /// The next one last.
    waiting: Vec<RelPath>,
}

/// A directory that the walk has come to.
pub(super) struct Folder {
    pub(super) path: RelPath,
    pub(super) dir: Dir,
    /// What is in it, sorted; of the root without names of ours.
    pub(super) names: Vec<Name>,
}

impl<'a> Walk<'a> {
    pub(super) fn of(root: &'a Root) -> Result<Walk<'a>> {
        Ok(Walk {
            root,
            mounts: Mounts::below(&root.path).map_err(|err| root.failed("look below", err))?,
            waiting: vec![RelPath::root()],
        })
    }

    /// The next directory that is still there.
    pub(super) fn next(&mut self) -> Result<Option<Folder>> {
        while let Some(path) = self.waiting.pop() {
            let dir = match self.root.dir.open_dir(&path) {
                Err(err) if fs::is_gone(&err) => continue,
                dir => dir.during("open"),
            };
            let dir = dir.map_err(|failure| failed(self.root, &path, failure))?;
            let names = names_in(&dir, &path).during("read");
            let names = names.map_err(|failure| failed(self.root, &path, failure))?;
            return Ok(Some(Folder { path, dir, names }));
        }
        Ok(None)
    }

    /// Goes into these directories next: those in the one that [`Walk::next`] gave last, sorted.
    /// What is mounted somewhere is no part of the root: its place is taken for empty.
    pub(super) fn descend(&mut self, below: Vec<RelPath>) {
        let own = below.into_iter().rev();
        self.waiting
            .extend(own.filter(|path| !self.mounts.is_at(path)));
    }
}
