//! Former states of a root, so that it can be brought back whole: each is kept in the root itself,
//! as `.cutover-kept/ID`, since only there it is on the root's filesystem for certain.
//! `doc/format.md` has the layout, `doc/crash-safety.md` what is on disk when the power goes.

mod absent;
mod copier;
mod earlier;
pub(crate) mod generations;
mod index;
mod make;
mod remove;
mod restore;
mod shelf;
mod walk;

use std::io;

use super::root::{self, Root};
use crate::apply::{Applier, ApplyOptions, Aside, Failure, Removed, RootLock};
use crate::error::{Error, Result};
use crate::events::Cancel;
use crate::fs::{self, Dir};
use crate::manifest::listing::Listing;
use crate::manifest::record::{Entry, RecordRules};
use crate::options::{self, Fidelity, Trash};
use crate::path::{Name, RelPath, escape};
use crate::protocol::errand::{Answer, KeepMeans};
use make::Form;
use shelf::{Shelf, Step};

pub(super) use restore::restore;

/// The longest name of a kept state: with what is put at its end it is a file's name.
const ID_MAX: usize = 100;

/// Keeps a root's present state. A state that is kept already stays as it is.
pub(super) fn keep(root: &str, id: &str, means: KeepMeans, cancel: &Cancel) -> Result<Answer> {
    let id = free_name(id)?;
    let path = root::absolute(root)?;
    let nothing = || {
        let means = match means {
            KeepMeans::Auto => KeepMeans::HardLink,
            means => means,
        };
        Ok(Answer::Kept { means, entries: 0 })
    };
    if absent::is_noted(path, &id)? {
        return nothing();
    }
    let Some(root) = root::find(root)? else {
        absent::note(path, &id)?;
        return nothing();
    };
    let _lock = RootLock::exclusive(&root.dir, &root.path)?;
    let shelf = Shelf::create(&root)?;
    shelf.refuse_interrupted(None)?;
    let state = match shelf.state(&id)? {
        Some(state) if state.step == Step::Kept => state,
        Some(_) => {
            return Err(Error::Refused(format!(
                "what {} was under {id} has been restored; forget that first, or keep it as \
                 something else",
                root.shown()
            )));
        }
        None => shelf.add(&id, |partial| {
            make::make(&root, partial, (means, Form::Whole), None, cancel)
        })?,
    };
    Ok(Answer::Kept {
        means: state.means,
        entries: state.entries,
    })
}

/// Removes a kept state. What is not there is removed already.
pub(super) fn forget(root: &str, id: &str) -> Result<()> {
    let id = checked(id)?;
    absent::forget(root::absolute(root)?, &id)?;
    let Some(root) = root::find(root)? else {
        return Ok(());
    };
    let _lock = RootLock::exclusive(&root.dir, &root.path)?;
    match Shelf::open(&root)? {
        Some(shelf) => {
            shelf.refuse_interrupted(None)?;
            shelf.remove(&id)
        }
        None => Ok(()),
    }
}

/// Moves entries of a root to its trash. What is not there is there no more.
pub(super) fn discard(root: &str, names: &[String], cancel: &Cancel) -> Result<()> {
    let root = root::opened(root)?;
    let paths = names.iter().map(|name| below(name));
    let paths = paths.collect::<Result<Vec<_>>>()?;
    let _lock = RootLock::exclusive(&root.dir, &root.path)?;
    let options = ApplyOptions {
        aside: in_root_trash(&root.dir)?,
        ..apply_options(Fidelity::default(), cancel)
    };
    let applier = Applier::new(cloned(&root)?, options);
    discard_all(&root, &applier, &paths)?;
    if let Some((path, failure)) = applier.finish_dirs().into_iter().next() {
        return Err(failed(&root, &path, failure));
    }
    applier
        .sync()
        .map_err(|err| root.failed("make durable", err))
}

/// Moves entries aside that are there.
fn discard_all(root: &Root, applier: &Applier, paths: &[RelPath]) -> Result<()> {
    let mut removed = Removed::default();
    for path in paths {
        let Some(kind) = kind_at(root, path)? else {
            continue;
        };
        // With a trash, a directory of which all goes moves as one: nothing is listed.
        let whole = Some(0);
        applier.remove(path, kind, whole, &|_| Ok(Listing::default()), &mut removed);
    }
    match removed.failed.into_iter().next() {
        Some((path, failure)) => Err(failed(root, &path, failure)),
        None => Ok(()),
    }
}

/// The trash in a root.
fn in_root_trash(root: &Dir) -> Result<Aside> {
    let trash = options::Keep {
        trash: Some(Trash::InRoot),
        backup_suffix: None,
    };
    Aside::open(root, &trash)
}

/// A path below a root, of one of its own entries.
fn below(text: &str) -> Result<RelPath> {
    let shown = || escape(text.as_bytes()).into_owned();
    let path = RelPath::new(text.as_bytes())
        .map_err(|err| Error::Usage(format!("{} is no path below a root: {err}", shown())))?;
    let is_entry = path
        .components()
        .next()
        .is_some_and(|first| !fs::is_own_name(first));
    match is_entry {
        true => Ok(path),
        false => Err(Error::Usage(format!("{} is no entry of a root", shown()))),
    }
}

fn kind_at(root: &Root, path: &RelPath) -> Result<Option<crate::entry::EntryKind>> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(None);
    };
    match root.dir.open_dir(&parent).and_then(|dir| dir.stat(&name)) {
        Ok(stat) => Ok(Some(stat.meta.kind)),
        Err(err) if fs::is_gone(&err) => Ok(None),
        Err(err) => Err(failed(root, path, Failure::new("stat", err))),
    }
}

/// An id that can be a part of a name.
fn checked(id: &str) -> Result<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if id.is_empty() || id.len() > ID_MAX || !id.chars().all(is_plain) {
        return Err(Error::Usage(format!(
            "{} cannot name a kept state: up to {ID_MAX} letters, digits, `-` and `_` can",
            escape(id.as_bytes())
        )));
    }
    Ok(id.to_string())
}

/// The same where it is no name that generations have.
fn free_name(id: &str) -> Result<String> {
    match generations::is_ours(id) {
        false => checked(id),
        true => Err(Error::Usage(format!(
            "{id} is the name of a generation, which is neither made nor restored as other states"
        ))),
    }
}

fn cloned(root: &Root) -> Result<Dir> {
    root.dir.try_clone().map_err(|err| root.failed("open", err))
}

/// How whatever is kept or brought back is written: whole, and durable at the end.
fn apply_options(fidelity: Fidelity, cancel: &Cancel) -> ApplyOptions {
    ApplyOptions {
        rules: RecordRules {
            fidelity,
            granularity_ns: 1,
            content: false,
        },
        write: options::Write::default(),
        fake_super: false,
        aside: Aside::default(),
        cancel: cancel.clone(),
    }
}

/// Finishes the directories of a tree that was written. What could not be given all that it had is
/// not what it was.
fn finish(root: &Root, tree: &Applier) -> Result<()> {
    if let Some((path, failure)) = tree.finish_dirs().into_iter().next() {
        return Err(failed(root, &path, failure));
    }
    match tree.refusals().warnings().into_iter().next() {
        None => Ok(()),
        Some(refused) => Err(Error::Refused(format!(
            "{} cannot be kept whole: this user may not give {} of its entries their {}; do it as \
             root",
            root.shown(),
            refused.entries,
            refused.topic,
        ))),
    }
}

/// What of entries this process can write here: the rest cannot have come by it.
fn writable_fidelity(dir: &Dir) -> io::Result<Fidelity> {
    fs::probe(dir).map(fidelity_of)
}

fn fidelity_of(abilities: fs::Abilities) -> Fidelity {
    Fidelity {
        xattrs: abilities.user_xattrs,
        trusted_xattrs: abilities.trusted_xattrs,
        security_xattrs: abilities.security_xattrs,
        capabilities: abilities.capabilities,
        acls: abilities.acls,
        ..Fidelity::default()
    }
}

/// What an entry of a directory is now.
fn entry_in(dir: &Dir, name: &Name, rules: &RecordRules) -> io::Result<(Entry, fs::Stat)> {
    let stat = dir.stat(name)?;
    let target = match stat.meta.kind {
        crate::entry::EntryKind::Symlink => dir.read_link(name)?,
        _ => Vec::new(),
    };
    let xattrs = fs::read_xattrs(&fs::Target::Entry(dir, name), rules.xattrs())?;
    let entry = Entry {
        name: name.clone(),
        meta: stat.meta,
        target,
        xattrs,
        content: None,
        link: None,
    };
    Ok((entry, stat))
}

/// What a directory itself is now. A root has no name of its own: any will do.
fn entry_of(dir: &Dir, rules: &RecordRules) -> io::Result<Entry> {
    Ok(Entry {
        name: fs::kept_name(),
        meta: dir.stat_self()?.meta,
        target: Vec::new(),
        xattrs: fs::read_xattrs(&fs::Target::Dir(dir), rules.xattrs())?,
        content: None,
        link: None,
    })
}

/// The names in a directory, sorted; in a root without ours.
fn names_in(dir: &Dir, path: &RelPath) -> io::Result<Vec<Name>> {
    let mut names = Vec::new();
    dir.list(&mut fs::ListScratch::new(), &mut |bytes, _, _| {
        if !(path.is_root() && fs::is_own_name(bytes)) {
            // Nothing but a name from the kernel: it cannot be invalid.
            names.extend(Name::new(bytes));
        }
    })?;
    names.sort_unstable();
    Ok(names)
}

/// The failure of an act on an entry of a root.
fn failed(root: &Root, path: &RelPath, failure: Failure) -> Error {
    let path = root.path.join(path.as_os_str());
    Error::io(
        failure.act,
        path.as_os_str().as_encoded_bytes(),
        failure.source,
    )
}

#[cfg(test)]
mod tests;
