//! Makes the tree of a state that is being kept: directories anew, what is in them with a second
//! name or as a copy.

use super::super::root::Root;
use super::copier::{Copier, Put};
use super::earlier::Earlier;
use super::index::Index;
use super::shelf::{FROZEN, State, Step, create_parts};
use super::walk::{Folder, Walk};
use super::{apply_options, entry_in, entry_of, failed, finish, writable_fidelity};
use crate::apply::{Applier, During, Failure};
use crate::entry::{EntryKind, Xattr};
use crate::error::{Error, Result};
use crate::events::Cancel;
use crate::fs::{self, Dir, Target};
use crate::manifest::record::{Entry, RecordRules};
use crate::path::{Name, RelPath};
use crate::protocol::errand::KeepMeans;

/// What the entries of a state are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// All that they are: the state is moved back as it is. What has a second name is in the index.
    Whole,
    /// The same without the right to write, for whomever: directories take no new names, copies no
    /// new content. What they were is in the index, all of it.
    Frozen,
}

/// Fills a new folder with the state of a root. Copies that an earlier state of the same form has
/// are taken over from that.
pub(super) fn make(
    root: &Root,
    folder: &Dir,
    (means, form): (KeepMeans, Form),
    earlier: Option<Earlier>,
    cancel: &Cancel,
) -> Result<State> {
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
        tree: Applier::new(tree, options),
        rules,
        index: Index::create(index),
        copier: Copier::new(means, cancel),
        linker: Copier::new(KeepMeans::HardLink, cancel),
        earlier: earlier.filter(|_| means != KeepMeans::HardLink),
        form,
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
    tree: Applier,
    rules: RecordRules,
    index: Index,
    copier: Copier<'a>,
    /// Takes over what the earlier state has.
    linker: Copier<'a>,
    earlier: Option<Earlier>,
    form: Form,
    entries: u64,
    cancel: &'a Cancel,
}

impl Maker<'_> {
    fn fill(&mut self) -> Result<()> {
        let mut walk = Walk::of(self.root)?;
        while let Some(folder) = walk.next()? {
            let mut below = Vec::new();
            if let Some(earlier) = &mut self.earlier {
                earlier.enter(&folder.path);
            }
            for name in &folder.names {
                self.cancel.check()?;
                let path = folder.path.join(name);
                let kept = self.keep(&folder, name, &path);
                let kind = kept.map_err(|failure| failed(self.root, &path, failure))?;
                if kind == Some(EntryKind::Dir) {
                    below.push(path);
                }
            }
            walk.descend(below);
        }
        Ok(())
    }

    /// Keeps one entry, of a directory its name alone. `None`: it has gone.
    fn keep(
        &mut self,
        folder: &Folder,
        name: &Name,
        path: &RelPath,
    ) -> Result<Option<EntryKind>, Failure> {
        let (entry, stat) = match entry_in(&folder.dir, name, &self.rules) {
            Err(err) if fs::is_gone(&err) => return Ok(None),
            found => found.during("read")?,
        };
        self.entries += 1;
        let kind = entry.meta.kind;
        let given = self.form.of(&entry);
        let taken_over = self
            .earlier
            .as_ref()
            .and_then(|at| at.holder(&entry, &stat));
        let put = match (kind, taken_over) {
            (EntryKind::Dir, _) => self.tree.make_dir(path, &given).map(|()| Put::Copied)?,
            (_, Some(dir)) => self.linker.put(&self.tree, path, &given, (dir, &stat))?,
            (_, None) => self
                .copier
                .put(&self.tree, path, &given, (&folder.dir, &stat))?,
        };
        if put == Put::Linked || self.form == Form::Frozen {
            self.index.push(path, &entry).during("write the index of")?;
        }
        Ok(Some(kind))
    }

    /// Finishes directories and index. What could not be kept as it was makes no state.
    fn finish(self) -> Result<u64> {
        // A copy that was interrupted failed of it; the wish is what counts.
        self.cancel.check()?;
        finish(self.root, &self.tree)?;
        if self.form == Form::Frozen {
            fs::set_mode(&Target::Dir(self.tree.root()), FROZEN)
                .map_err(|err| self.root.failed("keep", err))?;
        }
        self.index
            .finish()
            .map_err(|err| self.root.failed("write the index of", err))?;
        Ok(self.entries)
    }
}

impl Form {
    /// What an entry is given in a state of this form.
    fn of(self, entry: &Entry) -> Entry {
        const WRITE: u16 = 0o222;
        let mut given = entry.clone();
        if self == Form::Frozen {
            given.meta.mode &= !WRITE;
            // It would give back what the mode takes away.
            given.xattrs.retain(|xattr| xattr.name != Xattr::ACL_ACCESS);
        }
        given
    }
}
