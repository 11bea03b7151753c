//! Makes the tree of a state that is being kept: directories anew, what is in them with a second
//! name or as a copy.

use std::collections::HashMap;
use std::fs::File;
use std::io;

use rustix::io::Errno;

use super::super::root::Root;
use super::index::Index;
use super::shelf::{State, Step, create_parts};
use super::{apply_options, entry_in, entry_of, failed, names_in, writable_fidelity};
use crate::apply::{Applier, During, Failure, Original};
use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::events::Cancel;
use crate::fs::{self, Dir, Mounts, Stat};
use crate::manifest::record::{Entry, RecordRules};
use crate::path::{Name, RelPath};
use crate::protocol::errand::KeepMeans;

/// Fills a new folder with the state of a root.
pub(super) fn make(root: &Root, folder: &Dir, means: KeepMeans, cancel: &Cancel) -> Result<State> {
    let probed = fs::probe(&root.dir).map_err(|err| root.failed("write to", err))?;
    let means = match means {
        KeepMeans::Auto if probed.reflink => KeepMeans::Reflink,
        KeepMeans::Auto => KeepMeans::HardLink,
        KeepMeans::Reflink if !probed.reflink => {
            return Err(Error::Refused(format!(
                "the filesystem of {} has no reflinks; keep it by hard links or by copies",
                root.shown()
            )));
        }
        means => means,
    };
    let fidelity = writable_fidelity(&root.dir).map_err(|err| root.failed("write to", err))?;
    let options = apply_options(fidelity, cancel);
    let rules = options.rules;
    let (tree, index) = create_parts(folder).map_err(|err| root.failed("keep", err))?;
    let mut maker = Maker {
        root,
        mounts: Mounts::below(&root.path).map_err(|err| root.failed("look below", err))?,
        tree: Applier::new(tree, options),
        rules,
        index: Index::create(index),
        means,
        leaders: HashMap::new(),
        entries: 0,
        cancel,
    };
    let own = entry_of(&root.dir, &rules).map_err(|err| root.failed("read", err))?;
    maker.fill()?;
    let entries = maker.finish()?;
    folder
        .sync_filesystem()
        .map_err(|err| root.failed("make durable what is kept of", err))?;
    Ok(State {
        means,
        entries,
        root: Some(own),
        step: Step::Kept,
        differing: Vec::new(),
    })
}

struct Maker<'a> {
    root: &'a Root,
    mounts: Mounts,
    tree: Applier,
    rules: RecordRules,
    index: Index,
    means: KeepMeans,
    /// The first names of copied files that have several, by inode.
    leaders: HashMap<(u64, u64), RelPath>,
    entries: u64,
    cancel: &'a Cancel,
}

impl Maker<'_> {
    fn fill(&mut self) -> Result<()> {
        let mut waiting = vec![RelPath::root()];
        while let Some(path) = waiting.pop() {
            let dir = match self.root.dir.open_dir(&path) {
                Err(err) if fs::is_gone(&err) => continue,
                dir => dir.during("open"),
            };
            let dir = dir.map_err(|failure| failed(self.root, &path, failure))?;
            let names = names_in(&dir, &path).during("read");
            for name in names.map_err(|failure| failed(self.root, &path, failure))? {
                self.cancel.check()?;
                let path = path.join(&name);
                let kept = self.keep(&dir, &name, &path);
                let kind = kept.map_err(|failure| failed(self.root, &path, failure))?;
                // What is mounted somewhere is no part of the root: its place is kept empty.
                if kind == Some(EntryKind::Dir) && !self.mounts.is_at(&path) {
                    waiting.push(path);
                }
            }
        }
        Ok(())
    }

    /// Keeps one entry, of a directory its name alone. `None`: it has gone.
    fn keep(
        &mut self,
        dir: &Dir,
        name: &Name,
        path: &RelPath,
    ) -> Result<Option<EntryKind>, Failure> {
        let (entry, stat) = match entry_in(dir, name, &self.rules) {
            Err(err) if fs::is_gone(&err) => return Ok(None),
            found => found.during("read")?,
        };
        self.entries += 1;
        let kind = entry.meta.kind;
        match (kind, self.means) {
            (EntryKind::Dir, _) => self.tree.make_dir(path, &entry)?,
            (_, KeepMeans::HardLink) => match self.tree.adopt(path, dir, name) {
                Ok(()) => self.index.push(path, &entry).during("write the index of")?,
                Err(failure) if may_not_link(&failure) => self.copy(dir, path, &entry, &stat)?,
                Err(failure) => return Err(failure),
            },
            _ => self.copy(dir, path, &entry, &stat)?,
        }
        Ok(Some(kind))
    }

    fn copy(
        &mut self,
        dir: &Dir,
        path: &RelPath,
        entry: &Entry,
        stat: &Stat,
    ) -> Result<(), Failure> {
        if stat.nlink > 1 {
            let inode = (stat.dev, stat.ino);
            if let Some(leader) = self.leaders.get(&inode) {
                return self.tree.link(path, leader).map(drop);
            }
            self.leaders.insert(inode, path.clone());
        }
        if entry.meta.kind != EntryKind::File {
            return self.tree.make_special(path, entry);
        }
        let (file, stat) = dir.open_listed_file(&entry.name).during("open")?;
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
            KeepMeans::Copy => self
                .tree
                .copy_to_new_file(path, entry, original, &mut progress),
            _ => self
                .tree
                .clone_to_new_file(path, entry, original, &mut progress),
        }?;
        unchanged(&file, entry, &stat).during("keep")
    }

    /// Finishes directories and index. What could not be kept as it was makes no state.
    fn finish(self) -> Result<u64> {
        // A copy that was interrupted failed of it; the wish is what counts.
        self.cancel.check()?;
        if let Some((path, failure)) = self.tree.finish_dirs().into_iter().next() {
            return Err(failed(self.root, &path, failure));
        }
        if let Some(refused) = self.tree.refusals().warnings().into_iter().next() {
            let (topic, entries) = (refused.topic, refused.entries);
            return Err(Error::Refused(format!(
                "{} cannot be kept whole: this user may not give {entries} of its entries their \
                 {topic}; do it as root",
                self.root.shown()
            )));
        }
        self.index
            .finish()
            .map_err(|err| self.root.failed("write the index of", err))?;
        Ok(self.entries)
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
