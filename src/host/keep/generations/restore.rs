//! Brings generations back: whole, by way of a copy that is moved into the root as other kept states
//! are; or single entries, as copies. The generation itself stays as it is.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::super::index::Index;
use super::super::restore::bring_back;
use super::super::shelf::{BACK, Shelf, State, Step, create_parts, replaced};
use super::super::{
    apply_options, cloned, discard_all, finish, in_root_trash, kind_at, writable_fidelity,
};
use super::fetch::{Wanted, fetch};
use super::{MADE, REPLACED, id_at, is_ours, listed, shelf_with, time_of, unknown};
use crate::apply::{Applier, ApplyOptions, RootLock};
use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::events::Cancel;
use crate::fs::{self, Dir, ListScratch};
use crate::host::root::Root;
use crate::path::{RelPath, escape};
use crate::protocol::errand::{KeepMeans, Recovered};

/// Brings back all of a generation, or of what an earlier restore replaced. Doing it again goes on
/// where it was interrupted.
pub(super) fn whole(root: &Root, id: &str, cancel: &Cancel) -> Result<Recovered> {
    let _lock = locked(root)?;
    let Some(shelf) = Shelf::open(root)? else {
        return Err(unknown(root, id, &Default::default()));
    };
    let is_generation = time_of(MADE, id).is_some();
    let state = match is_generation || time_of(REPLACED, id).is_some() {
        true => shelf.state(id)?,
        false => None,
    };
    let Some(state) = state else {
        return Err(unknown(root, id, &listed(&shelf)?));
    };
    let moved = match is_generation {
        true => format!("{id}{BACK}"),
        false => id.to_string(),
    };
    shelf.refuse_interrupted(Some(&moved))?;
    shelf.sweep(is_ours)?;
    let mut state = match is_generation {
        true => staged(root, (&shelf, id), &moved, cancel)?,
        false => state,
    };
    bring_back(root, &shelf, &moved, &mut state, cancel)?;
    Ok(Recovered {
        entries: state.entries,
        replaced: settle(&shelf, &moved)?,
        differing: state.differing,
    })
}

/// The copy of a generation that is moved into the root: a new one, or the one of which the move
/// was interrupted.
fn staged(
    root: &Root,
    (shelf, id): (&Shelf<'_>, &str),
    moved: &str,
    cancel: &Cancel,
) -> Result<State> {
    match shelf.state(moved)? {
        Some(state) if matches!(state.step, Step::Away | Step::Up) => return Ok(state),
        // What is in the root now may be another than what it was brought to.
        Some(state) if state.step == Step::Restored => drop(settle(shelf, moved)?),
        // Nothing was moved yet.
        Some(_) => {
            shelf.remove(&replaced(moved))?;
            shelf.remove(moved)?;
        }
        None => {}
    }
    let Some(kept) = shelf.state(id)? else {
        return Err(unknown(root, id, &listed(shelf)?));
    };
    shelf.add(moved, |folder| {
        let of_copy = |err| shelf.failed("copy", id, err);
        let (tree, index) = create_parts(folder).map_err(of_copy)?;
        let to = Applier::new(tree, options(&root.dir, cancel).map_err(of_copy)?);
        let mut index = Index::create(index);
        let wanted = (Wanted::All, kept.means);
        let taken = fetch((shelf, id), &to, wanted, Some(&mut index), cancel)?;
        finish(root, &to)?;
        index
            .finish()
            .and_then(|()| folder.sync_filesystem())
            .map_err(of_copy)?;
        Ok(State {
            means: kept.means,
            entries: taken.entries,
            root: kept.root,
            step: Step::Kept,
            differing: taken.differing.told(),
        })
    })
}

/// Gives what was replaced a name of its own, and lets go of what the moved state was. Returns the
/// name.
fn settle(shelf: &Shelf<'_>, moved: &str) -> Result<Option<String>> {
    let mut name = None;
    if shelf.state(&replaced(moved))?.is_some() {
        let mut at = SystemTime::now();
        let free = loop {
            let id = id_at(REPLACED, at);
            if shelf.state(&id)?.is_none() {
                break id;
            }
            at += Duration::from_secs(1);
        };
        shelf.rename(&replaced(moved), &free)?;
        name = Some(free);
    }
    shelf.remove(moved)?;
    Ok(name)
}

/// Brings entries of a generation back to their place; what is there goes to the root's trash.
pub(super) fn in_place(
    root: &Root,
    id: &str,
    paths: &[RelPath],
    cancel: &Cancel,
) -> Result<Recovered> {
    let _lock = locked(root)?;
    let shelf = shelf_with(root, id)?;
    shelf.refuse_interrupted(None)?;
    let means = check_wanted((&shelf, id), paths)?;
    for path in paths {
        check_way(root, path)?;
    }
    let options = ApplyOptions {
        aside: in_root_trash(&root.dir)?,
        ..options(&root.dir, cancel).map_err(|err| root.failed("write to", err))?
    };
    let to = Applier::new(cloned(root)?, options);
    discard_all(root, &to, paths)?;
    let wanted = (Wanted::Below(paths), means);
    let taken = fetch((&shelf, id), &to, wanted, None, cancel)?;
    finish(root, &to)?;
    to.sync().map_err(|err| root.failed("make durable", err))?;
    Ok(Recovered {
        entries: taken.entries,
        differing: taken.differing.told(),
        replaced: None,
    })
}

/// Copies entries of a generation, or all of it, to a directory outside of the root. That needs no
/// lock of the root.
pub(super) fn elsewhere(
    root: &Root,
    id: &str,
    paths: &[RelPath],
    to: &str,
    cancel: &Cancel,
) -> Result<Recovered> {
    let shelf = shelf_with(root, id)?;
    // So that it is not pruned meanwhile.
    let _read = RootLock::shared(&shelf.folder(id)?, &shelf.path(id))?;
    let means = check_wanted((&shelf, id), paths)?;
    let target = target(root, to)?;
    let wanted = match paths {
        [] => {
            check_empty(&target)?;
            Wanted::All
        }
        paths => {
            for path in paths {
                check_free(&target, path)?;
            }
            Wanted::Below(paths)
        }
    };
    let options = options(&target.dir, cancel).map_err(|err| target.failed("write to", err))?;
    let to = Applier::new(cloned(&target)?, options);
    if let (Wanted::All, Some(own)) = (wanted, shelf.state(id)?.and_then(|state| state.root)) {
        to.expect_dir(&RelPath::root(), &own);
    }
    let taken = fetch((&shelf, id), &to, (wanted, means), None, cancel)?;
    finish(&target, &to)?;
    to.sync()
        .map_err(|err| target.failed("make durable", err))?;
    Ok(Recovered {
        entries: taken.entries,
        differing: taken.differing.told(),
        replaced: None,
    })
}

/// The root's lock, for a change of what is in it.
fn locked(root: &Root) -> Result<RootLock> {
    RootLock::exclusive(&root.dir, &root.path).map_err(|err| match err {
        Error::Locked(why) => Error::Locked(format!(
            "{why}. A mirror must be stopped before anything is restored to its place: it would \
             undo that; --to DIR restores elsewhere"
        )),
        err => err,
    })
}

fn options(dir: &Dir, cancel: &Cancel) -> std::io::Result<ApplyOptions> {
    Ok(apply_options(writable_fidelity(dir)?, cancel))
}

/// Refuses entries that the generation does not have. Returns how the others are copied.
fn check_wanted((shelf, id): (&Shelf<'_>, &str), paths: &[RelPath]) -> Result<KeepMeans> {
    if time_of(MADE, id).is_none() {
        let tree = shelf.path(id).join("tree");
        return Err(Error::Usage(format!(
            "{id} is no generation and can only be restored whole; its files are in {}",
            shown(&tree)
        )));
    }
    let tree = shelf.tree(id)?;
    for path in paths {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::Usage("give no path to restore all".to_string()));
        };
        match tree.open_dir(&parent).and_then(|dir| dir.stat(&name)) {
            Err(err) if fs::is_gone(&err) => {
                return Err(Error::Usage(format!("{id} has no {path}")));
            }
            found => found.map_err(|err| shelf.failed("read", id, err))?,
        };
    }
    Ok(match shelf.state(id)? {
        // Whoever writes to what was restored shall not write to the generation.
        Some(state) if state.means == KeepMeans::HardLink => KeepMeans::Copy,
        Some(state) => state.means,
        None => KeepMeans::Copy,
    })
}

/// Refuses a place that something else than a directory leads to.
fn check_way(root: &Root, path: &RelPath) -> Result<()> {
    let mut above = path.parent();
    while let Some(dir) = above.filter(|dir| !dir.is_root()) {
        match kind_at(root, &dir)? {
            None | Some(EntryKind::Dir) => above = dir.parent(),
            Some(other) => {
                let other = other.noun();
                return Err(Error::Refused(format!(
                    "{dir} is a {other} now, so that {path} has no place; restore {dir}"
                )));
            }
        }
    }
    Ok(())
}

/// Opens the directory that entries are copied to, and makes it where it is not there.
fn target(root: &Root, to: &str) -> Result<Root> {
    let path = Path::new(to);
    if !path.is_absolute() {
        let to = escape(to.as_bytes());
        return Err(Error::Usage(format!("{to} is not an absolute path")));
    }
    let failed = |err| Error::io("open", to, err);
    let there = path.ancestors().find(|at| at.exists());
    let there = there.unwrap_or(path).canonicalize().map_err(failed)?;
    let own = root.path.canonicalize();
    if there.starts_with(own.map_err(|err| root.failed("find", err))?) {
        return Err(Error::Refused(format!(
            "{} is in the root: without --to, entries go back to their place in it",
            shown(path)
        )));
    }
    Ok(Root {
        dir: fs::create_dir_all(path).map_err(failed)?,
        path: path.to_path_buf(),
    })
}

fn check_empty(target: &Root) -> Result<()> {
    let mut is_empty = true;
    let listed = target
        .dir
        .list(&mut ListScratch::new(), &mut |_, _, _| is_empty = false);
    listed.map_err(|err| target.failed("read", err))?;
    match is_empty {
        true => Ok(()),
        false => Err(Error::Refused(format!(
            "{} is not empty: nothing is written over what is there",
            target.shown()
        ))),
    }
}

fn check_free(target: &Root, path: &RelPath) -> Result<()> {
    check_way(target, path)?;
    match kind_at(target, path)? {
        None => Ok(()),
        Some(_) => Err(Error::Refused(format!(
            "{} has {path} already: nothing is written over what is there",
            target.shown()
        ))),
    }
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes()).into_owned()
}
