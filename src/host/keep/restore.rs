//! Brings a kept state back, in steps of which each can be done again: what is in the root moves
//! away, the state moves up, both by renames. How far it has come is on disk before each step.

use std::io;

use super::super::root::{self, Root};
use super::index::mend;
use super::shelf::{Shelf, State, Step, create_parts, replaced};
use super::{
    absent, apply_options, cloned, entry_of, failed, free_name, names_in, writable_fidelity,
};
use crate::apply::{Applier, ApplyOptions, During, Failure, RootLock};
use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::events::Cancel;
use crate::fs::{self, Dir, ListScratch, Mounts, Target};
use crate::manifest::record::{Entry, RecordRules};
use crate::path::{Name, RelPath};
use crate::protocol::errand::{Answer, KeepMeans};

/// Brings the state `id` back. Doing it again goes on where it was interrupted, or does nothing.
pub(in crate::host) fn restore(root: &str, id: &str, cancel: &Cancel) -> Result<Answer> {
    let id = free_name(id)?;
    let path = root::absolute(root)?;
    let was_absent = absent::is_noted(path, &id)?;
    let Some(root) = root::find(root)? else {
        return match was_absent {
            true => Ok(restored(&absence())),
            false => Err(not_kept(root, &id)),
        };
    };
    let _lock = RootLock::exclusive(&root.dir, &root.path)?;
    let shelf = match Shelf::open(&root)? {
        None if was_absent => Shelf::create(&root)?,
        None => return Err(not_kept(&root.shown(), &id)),
        Some(shelf) => shelf,
    };
    shelf.refuse_interrupted(Some(&id))?;
    let mut state = match shelf.state(&id)? {
        Some(state) => state,
        None if was_absent => shelf.add(&id, |folder| {
            create_parts(folder).map_err(|err| shelf.failed("create", &id, err))?;
            Ok(absence())
        })?,
        None => return Err(not_kept(&root.shown(), &id)),
    };
    bring_back(&root, &shelf, &id, &mut state, cancel)?;
    absent::forget(path, &id)?;
    Ok(restored(&state))
}

/// Moves a state from the shelf into its root, from wherever it has come.
pub(super) fn bring_back(
    root: &Root,
    shelf: &Shelf<'_>,
    id: &str,
    state: &mut State,
    cancel: &Cancel,
) -> Result<()> {
    let options = || {
        let fidelity = writable_fidelity(&root.dir)?;
        Ok(apply_options(fidelity, cancel))
    };
    let options: ApplyOptions = options().map_err(|err| root.failed("write to", err))?;
    let mut restoring = Restoring {
        mounts: Mounts::below(&root.path).map_err(|err| root.failed("look below", err))?,
        rules: options.rules,
        root,
        shelf,
        id,
        cancel,
    };
    restoring.run(state, options)
}

/// The state of a root that was not there.
fn absence() -> State {
    State {
        means: KeepMeans::HardLink,
        entries: 0,
        root: None,
        step: Step::Kept,
        differing: Vec::new(),
    }
}

fn restored(state: &State) -> Answer {
    Answer::Restored {
        entries: state.entries,
        differing: state.differing.clone(),
    }
}

fn not_kept(root: &str, id: &str) -> Error {
    Error::Refused(format!("nothing is kept of {root} as {id}"))
}

struct Restoring<'a> {
    root: &'a Root,
    shelf: &'a Shelf<'a>,
    id: &'a str,
    mounts: Mounts,
    rules: RecordRules,
    cancel: &'a Cancel,
}

impl Restoring<'_> {
    fn run(&mut self, state: &mut State, options: ApplyOptions) -> Result<()> {
        if state.step == Step::Kept {
            self.mend(state, options)?;
            self.make_replaced()?;
            self.note(state, Step::Away)?;
        }
        // From here on nothing is to be interrupted: it would be half a root.
        if state.step == Step::Away {
            let replaced = self.shelf.tree(&replaced(self.id))?;
            self.move_away(&replaced, &RelPath::root())?;
            self.note(state, Step::Up)?;
        }
        if state.step == Step::Up {
            let kept = self.shelf.tree(self.id)?;
            self.move_up(&kept, &RelPath::root())?;
            if let Some(own) = &state.root {
                self.dress(&self.root.dir, own)
                    .map_err(|err| self.root.failed("set the attributes of", err))?;
            }
            self.note(state, Step::Restored)?;
        }
        self.shelf.clear(self.id)
    }

    /// Puts the kept files right while nobody else can reach them.
    fn mend(&self, state: &mut State, options: ApplyOptions) -> Result<()> {
        let tree = Applier::new(self.shelf.tree(self.id)?, options);
        let mended = mend(&tree, self.shelf.index(self.id)?, self.cancel);
        let differing = mended.map_err(|(path, failure)| failed(self.root, &path, failure))?;
        self.cancel.check()?;
        if let Some((path, failure)) = tree.finish_dirs().into_iter().next() {
            return Err(failed(self.root, &path, failure));
        }
        state.entries = state.entries.saturating_sub(differing.count);
        state.differing.extend(differing.told());
        Ok(())
    }

    /// Makes the state that what is there now moves into.
    fn make_replaced(&self) -> Result<()> {
        let id = replaced(self.id);
        if self.shelf.state(&id)?.is_some() {
            let tree = self.shelf.tree(&id)?;
            let names = names_in(&tree, &RelPath::root());
            // An attempt that was interrupted has left it.
            if names.is_ok_and(|names| names.is_empty()) {
                return Ok(());
            }
            return Err(Error::Refused(format!(
                "{} has {id} already, of an earlier restore; forget that first",
                self.root.shown()
            )));
        }
        self.shelf.add(&id, |folder| {
            create_parts(folder).map_err(|err| self.shelf.failed("create", &id, err))?;
            let of_root = |err| self.root.failed("read", err);
            Ok(State {
                means: KeepMeans::HardLink,
                entries: count(&self.root.dir).map_err(of_root)?,
                root: Some(entry_of(&self.root.dir, &self.rules).map_err(of_root)?),
                step: Step::Kept,
                differing: Vec::new(),
            })
        })?;
        Ok(())
    }

    /// Writes down the next step, once all that was moved before it is durable.
    fn note(&self, state: &mut State, step: Step) -> Result<()> {
        if step != Step::Away {
            self.root
                .dir
                .sync_filesystem()
                .map_err(|err| self.root.failed("make durable", err))?;
        }
        state.step = step;
        self.shelf.write(self.id, state)
    }

    /// Moves what is in a directory of the root to the same place in `replaced`. What is mounted
    /// stays where it is, and so do the directories that lead there.
    fn move_away(&self, replaced: &Dir, path: &RelPath) -> Result<()> {
        for (name, at) in self.entries(&self.root.dir, path)? {
            if self.mounts.is_at(&at) {
                continue;
            }
            let moved = if self.mounts.is_below(&at) {
                self.make_like(replaced, path, &name)
                    .map(|()| self.move_away(replaced, &at))
            } else {
                rename(&self.root.dir, replaced, path, &name).map(Ok)
            };
            moved
                .during("move away")
                .map_err(|failure| failed(self.root, &at, failure))??;
        }
        Ok(())
    }

    /// Moves what is in a directory of `kept` to the same place in the root.
    fn move_up(&self, kept: &Dir, path: &RelPath) -> Result<()> {
        for (name, at) in self.entries(kept, path)? {
            if self.mounts.is_at(&at) {
                continue;
            }
            let moved = if self.mounts.is_below(&at) {
                self.move_up(kept, &at)?;
                self.dress_like(kept, &at)
            } else {
                self.move_one_up(kept, path, &name)
            };
            moved
                .during("move back")
                .map_err(|failure| failed(self.root, &at, failure))?;
        }
        Ok(())
    }

    /// Moves one entry up; what came into its place since the root was emptied goes where the rest
    /// went.
    fn move_one_up(&self, kept: &Dir, path: &RelPath, name: &Name) -> io::Result<()> {
        match rename(kept, &self.root.dir, path, name) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
                let replaced = self.shelf.tree(&replaced(self.id));
                let replaced = replaced.map_err(io::Error::other)?;
                rename(&self.root.dir, &replaced, path, name)?;
                rename(kept, &self.root.dir, path, name)
            }
            moved => moved,
        }
    }

    /// The names in a directory below `tree`, with their paths.
    fn entries(&self, tree: &Dir, path: &RelPath) -> Result<Vec<(Name, RelPath)>> {
        let names = tree.open_dir(path).and_then(|dir| names_in(&dir, path));
        let names = names
            .during("read")
            .map_err(|failure: Failure| failed(self.root, path, failure))?;
        let with_path = |name: Name| {
            let at = path.join(&name);
            (name, at)
        };
        Ok(names.into_iter().map(with_path).collect())
    }

    /// Makes in `replaced` the directory that stays in the root.
    fn make_like(&self, replaced: &Dir, path: &RelPath, name: &Name) -> io::Result<()> {
        let place = replaced.open_dir(path)?;
        match place.make_dir(name, 0o700) {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => Err(err),
            _ => {
                let stays = self.root.dir.open_dir(&path.join(name))?;
                let own = entry_of(&stays, &self.rules)?;
                self.dress(&place.open_child(name)?, &own)
            }
        }
    }

    /// Gives a directory that stayed in the root what it was when it was kept.
    fn dress_like(&self, kept: &Dir, path: &RelPath) -> io::Result<()> {
        let own = entry_of(&kept.open_dir(path)?, &self.rules)?;
        self.dress(&self.root.dir.open_dir(path)?, &own)
    }

    fn dress(&self, dir: &Dir, entry: &Entry) -> io::Result<()> {
        let have = entry_of(dir, &self.rules)?;
        let options = apply_options(self.rules.fidelity, self.cancel);
        let applier = Applier::new(cloned(self.root).map_err(io::Error::other)?, options);
        applier
            .redress(&Target::Dir(dir), entry, &have)
            .map_err(|failure| failure.source)
    }
}

/// Moves `name` in the directory `path` from one tree to another, where it must be free.
fn rename(from: &Dir, to: &Dir, path: &RelPath, name: &Name) -> io::Result<()> {
    let (from, to) = (from.open_dir(path)?, to.open_dir(path)?);
    match from.rename_noreplace(name, &to, name) {
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => {}
        moved => return moved,
    }
    // Only root can give a directory another parent without the right to write to it itself.
    let mode = from.stat(name)?.meta.mode;
    fs::set_mode(&Target::Entry(&from, name), mode | 0o200)?;
    let moved = from.rename_noreplace(name, &to, name);
    let at = if moved.is_ok() { &to } else { &from };
    fs::set_mode(&Target::Entry(at, name), mode)?;
    moved
}

/// How many entries a root has.
fn count(root: &Dir) -> io::Result<u64> {
    let mut entries = 0;
    let mut waiting = vec![RelPath::root()];
    while let Some(path) = waiting.pop() {
        let dir = root.open_dir(&path)?;
        dir.list(&mut ListScratch::new(), &mut |bytes, _, kind| {
            if path.is_root() && fs::is_own_name(bytes) {
                return;
            }
            entries += 1;
            if kind == Some(EntryKind::Dir)
                // Nothing but a name from the kernel: it cannot be invalid.
                && let Ok(name) = Name::new(bytes)
            {
                waiting.push(path.join(&name));
            }
        })?;
    }
    Ok(entries)
}
