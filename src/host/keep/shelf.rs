//! The directory `.cutover-kept` of a root, with a folder for each kept state: its entries in
//! `tree`, what they were in `index`, and in `state` how far keeping and restoring have come.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::root::Root;
use super::checked;
use super::remove::remove_tree;
use crate::error::{Error, Result};
use crate::fs::{self, Dir, Target, Users};
use crate::manifest::record::Entry;
use crate::path::{Name, RelPath, escape};
use crate::protocol::errand::KeepMeans;

/// How a state file begins; the number is its layout's.
const MAGIC: &[u8] = b"cutover kept 1\n";

/// Far more than a state file takes.
const LONGEST: u64 = 8 << 20;

/// At the end of the name of a state that is not whole: not yet, or no more.
const PARTIAL: &str = ".partial";

/// At the end of the name of what was replaced by restoring a state.
pub(super) const REPLACED: &str = "-replaced";

/// At the end of the name of a generation's copy that is about to be moved into the root.
pub(super) const BACK: &str = "-back";

/// The mode of a folder of ours that shall stay as it is: its owner can look into it.
pub(super) const FROZEN: u16 = 0o500;

/// The same of a file in it.
const FROZEN_FILE: u16 = 0o400;

/// The shelf of a root.
pub(super) struct Shelf<'a> {
    root: &'a Root,
    dir: Dir,
}

/// A state on the shelf.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    /// How it was kept.
    pub(super) means: KeepMeans,
    /// How many entries it has.
    pub(super) entries: u64,
    /// The root's own entry; `None`: there was no root.
    pub(super) root: Option<Entry>,
    /// How far it has come.
    pub(super) step: Step,
    /// Once it is being restored: files whose content changed since it was kept.
    pub(super) differing: Vec<String>,
}

/// What has been done with a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    /// It is kept, whole.
    Kept,
    /// What is in the root is being moved away.
    Away,
    /// The root is empty, and the state is being moved up into it.
    Up,
    /// It is in the root.
    Restored,
}

impl<'a> Shelf<'a> {
    /// The root's shelf, if it has one.
    pub(super) fn open(root: &'a Root) -> Result<Option<Shelf<'a>>> {
        let dir = match root.dir.open_child(&fs::kept_name()) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            dir => dir.map_err(|err| failed(root, "open", None, err))?,
        };
        let stat = dir
            .stat_self()
            .map_err(|err| failed(root, "stat", None, err))?;
        // What is in it decides who owns files: it must be nobody else's.
        if stat.meta.uid != Users::effective_uid() || stat.meta.mode & 0o022 != 0 {
            return Err(Error::Refused(format!(
                "{} can be written to by others than this user; look at it, and remove it",
                escape(place(root).as_os_str().as_encoded_bytes())
            )));
        }
        Ok(Some(Shelf { root, dir }))
    }

    /// The root's shelf, made if need be.
    pub(super) fn create(root: &'a Root) -> Result<Shelf<'a>> {
        root.keeping_mtime(|| match root.dir.make_dir(&fs::kept_name(), 0o700) {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => {
                Err(failed(root, "create", None, err))
            }
            _ => Ok(()),
        })?;
        let gone = || failed(root, "open", None, io::ErrorKind::NotFound.into());
        Shelf::open(root)?.ok_or_else(gone)
    }

    /// What is known of a state; `None` where there is none of this id, or something else.
    pub(super) fn state(&self, id: &str) -> Result<Option<State>> {
        let read = self
            .dir
            .open_child(&named(id, ""))
            .and_then(|folder| read_state(&folder));
        match read {
            Err(err) if fs::is_gone(&err) => Ok(None),
            read => read.map(Some).map_err(|err| self.failed("read", id, err)),
        }
    }

    /// The names on the shelf that can be ids, whole or not.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let names = super::names_in(&self.dir, &RelPath::root());
        let names = names.map_err(|err| failed(self.root, "read", None, err))?;
        let texts = names
            .iter()
            .filter_map(|name| std::str::from_utf8(name.as_bytes()).ok());
        let ids = texts.filter(|text| checked(text.strip_suffix(PARTIAL).unwrap_or(text)).is_ok());
        Ok(ids.map(str::to_string).collect())
    }

    /// Removes what is left of states that `is_ours` knows by their ids and that are not whole.
    pub(super) fn sweep(&self, is_ours: impl Fn(&str) -> bool) -> Result<()> {
        for name in self.names()? {
            let Some(id) = name.strip_suffix(PARTIAL).filter(|id| is_ours(id)) else {
                continue;
            };
            remove_tree(&self.dir, &named(id, PARTIAL))
                .map_err(|err| self.failed("remove what is left of", id, err))?;
        }
        Ok(())
    }

    /// Adds a state that `make` fills a folder with, and makes durable. It has its name once it is
    /// whole.
    pub(super) fn add(&self, id: &str, make: impl FnOnce(&Dir) -> Result<State>) -> Result<State> {
        let partial = named(id, PARTIAL);
        let failed = |act| move |err| self.failed(act, id, err);
        remove_tree(&self.dir, &partial).map_err(failed("remove what is left of"))?;
        self.dir
            .make_dir(&partial, 0o700)
            .map_err(failed("create"))?;
        let folder = self.dir.open_child(&partial).map_err(failed("open"))?;
        let made = make(&folder).and_then(|state| {
            write_state(&folder, &state)
                .and_then(|()| {
                    self.dir
                        .rename_noreplace(&partial, &self.dir, &named(id, ""))
                })
                .and_then(|()| self.dir.sync())
                .map_err(failed("keep"))?;
            Ok(state)
        });
        if made.is_err() {
            // The failure is what counts; what stays is removed before the next attempt.
            let _ = remove_tree(&self.dir, &partial);
        }
        made
    }

    /// Removes a state, and the shelf with the last one. Half a state has not its name any more.
    pub(super) fn remove(&self, id: &str) -> Result<()> {
        let (name, partial) = (named(id, ""), named(id, PARTIAL));
        let remove = || {
            remove_tree(&self.dir, &partial)?;
            match self.dir.rename(&name, &self.dir, &partial) {
                Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
                renamed => renamed?,
            }
            self.dir.sync()?;
            remove_tree(&self.dir, &partial)
        };
        remove().map_err(|err| self.failed("remove", id, err))?;
        self.root
            .keeping_mtime(|| match self.root.dir.remove_dir(&fs::kept_name()) {
                Err(err) if err.kind() != io::ErrorKind::DirectoryNotEmpty => {
                    Err(failed(self.root, "remove", None, err))
                }
                _ => Ok(()),
            })
    }

    /// Refuses to go on while a state other than `but` is half restored: parts of the root are in
    /// its folders.
    pub(super) fn refuse_interrupted(&self, but: Option<&str>) -> Result<()> {
        for id in &self.names()? {
            if Some(id.as_str()) == but || id.ends_with(PARTIAL) {
                continue;
            }
            let step = self.state(id)?.map(|state| state.step);
            if matches!(step, Some(Step::Away | Step::Up)) {
                let id = id.strip_suffix(BACK).unwrap_or(id);
                return Err(Error::Refused(format!(
                    "restoring {id} in {} was interrupted; restore it again, which goes on with it",
                    self.root.shown()
                )));
            }
        }
        Ok(())
    }

    /// Writes down how far a state has come; returns once that is durable.
    pub(super) fn write(&self, id: &str, state: &State) -> Result<()> {
        self.dir
            .open_child(&named(id, ""))
            .and_then(|folder| write_state(&folder, state))
            .map_err(|err| self.failed("write", id, err))
    }

    /// Gives a state another id, which must be free.
    pub(super) fn rename(&self, id: &str, to: &str) -> Result<()> {
        self.dir
            .rename_noreplace(&named(id, ""), &self.dir, &named(to, ""))
            .and_then(|()| self.dir.sync())
            .map_err(|err| self.failed("rename", id, err))
    }

    /// Takes the right to write to what tells of a state. Its tree has been frozen by its maker.
    pub(super) fn freeze(&self, id: &str) -> Result<()> {
        let freeze = |folder: &Dir| {
            for name in [state_name(), index_name()] {
                fs::set_mode(&Target::Entry(folder, &name), FROZEN_FILE)?;
            }
            fs::set_mode(&Target::Dir(folder), FROZEN)
        };
        freeze(&self.folder(id)?).map_err(|err| self.failed("set the mode of", id, err))
    }

    /// Where a state is.
    pub(super) fn path(&self, id: &str) -> PathBuf {
        place(self.root).join(id)
    }

    /// The folder of a state.
    pub(super) fn folder(&self, id: &str) -> Result<Dir> {
        self.dir
            .open_child(&named(id, ""))
            .map_err(|err| self.failed("open", id, err))
    }

    /// The entries of a state.
    pub(super) fn tree(&self, id: &str) -> Result<Dir> {
        self.dir
            .open_child(&named(id, ""))
            .and_then(|folder| folder.open_child(&tree_name()))
            .map_err(|err| self.failed("open", id, err))
    }

    /// What the entries of a state were.
    pub(super) fn index(&self, id: &str) -> Result<File> {
        self.dir
            .open_child(&named(id, ""))
            .and_then(|folder| folder.open_file(&index_name()))
            .map_err(|err| self.failed("open the index of", id, err))
    }

    /// Lets go of what a restored state is not any more: only `state` still tells of it.
    pub(super) fn clear(&self, id: &str) -> Result<()> {
        self.dir
            .open_child(&named(id, ""))
            .and_then(|folder| remove_tree(&folder, &tree_name()))
            .map_err(|err| self.failed("clear", id, err))
    }

    pub(super) fn failed(&self, act: &'static str, id: &str, err: io::Error) -> Error {
        failed(self.root, act, Some(id), err)
    }
}

/// What is replaced by restoring this state.
pub(super) fn replaced(id: &str) -> String {
    format!("{id}{REPLACED}")
}

/// Makes the two parts of a new state: its empty tree, and its empty index.
pub(super) fn create_parts(folder: &Dir) -> io::Result<(Dir, File)> {
    folder.make_dir(&tree_name(), 0o700)?;
    let tree = folder.open_child(&tree_name())?;
    Ok((tree, folder.create_new(&index_name())?))
}

fn place(root: &Root) -> PathBuf {
    root.path.join(fs::kept_name().as_os_str())
}

fn failed(root: &Root, act: &'static str, id: Option<&str>, err: io::Error) -> Error {
    let mut path = place(root);
    path.extend(id);
    Error::io(act, path.as_os_str().as_encoded_bytes(), err)
}

fn read_state(folder: &Dir) -> io::Result<State> {
    let mut bytes = Vec::new();
    let file = folder.open_file(&state_name())?;
    file.take(LONGEST).read_to_end(&mut bytes)?;
    let damaged = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let body = bytes.strip_prefix(MAGIC);
    let body = body.ok_or_else(|| damaged("another version of cutover kept it".to_string()))?;
    postcard::from_bytes(body).map_err(|err| damaged(err.to_string()))
}

fn write_state(folder: &Dir, state: &State) -> io::Result<()> {
    let bytes = postcard::to_extend(state, MAGIC.to_vec()).map_err(io::Error::other)?;
    folder.replace_file(&state_name(), &bytes, 0o600)
}

fn state_name() -> Name {
    named("state", "")
}

fn tree_name() -> Name {
    named("tree", "")
}

fn index_name() -> Name {
    named("index", "")
}

/// The name of an id with something at its end.
fn named(id: &str, end: &str) -> Name {
    Name::new(format!("{id}{end}").as_bytes()).expect("a short word of letters and digits")
}
