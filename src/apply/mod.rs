//! The only writer: everything that changes the destination goes through an [`Applier`], beneath
//! its root's descriptor.
//!
//! New content is made under a temporary name beside its target, gets its owner, mode, attributes
//! and times there, and then takes the name in one rename: a reader sees the old entry or the new
//! one. What a write into a directory does to that directory's own times is put right at the end,
//! by [`Applier::finish_dirs`]. `doc/crash-safety.md` lists each step and what is on disk if it
//! stops there.

mod aside;
mod dress;
mod failure;
mod file;
mod finish;
mod incoming;
mod lock;
mod remove;

pub use aside::{Aside, TrashDir};
pub use dress::Refusals;
pub use failure::{During, Failure};
pub use file::{Landed, Original};
pub use incoming::{Existing, Incoming, Keep};
pub(crate) use lock::RootLock;
pub use remove::Removed;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::entry::{EntryKind, Metadata, Xattr};
use crate::events::Cancel;
use crate::fs::{self, Dir, Target};
use crate::manifest::record::{Entry, RecordRules};
use crate::options;
use crate::path::{Name, RelPath};
use finish::Finishing;

/// How many directories stay open between writes. Neighbouring files come together, so a small
/// number serves; each costs a descriptor.
const OPEN_PLACES: usize = 128;

/// What an [`Applier`] needs to know of the run.
#[derive(Debug)]
pub struct ApplyOptions {
    /// What is preserved.
    pub rules: RecordRules,
    /// How content is written.
    pub write: options::Write,
    /// Ownership, devices and ACLs go into rsync's fake-super attributes.
    pub fake_super: bool,
    /// Where replaced and deleted entries go.
    pub aside: Aside,
    /// Asked while large content is made.
    pub cancel: Cancel,
}

/// Changes one destination. Shared by all writing threads.
#[derive(Debug)]
pub struct Applier {
    root: Dir,
    options: ApplyOptions,
    who: fs::Process,
    places: Mutex<HashMap<RelPath, Arc<Place>>>,
    finishing: Mutex<HashMap<RelPath, Finishing>>,
    /// Directories that were written to and are finished.
    touched: Mutex<BTreeSet<RelPath>>,
    refusals: Refusals,
}

/// A directory that is being written to.
#[derive(Debug)]
pub(crate) struct Place {
    dir: Dir,
    /// The group that new entries get: the directory's, where it is setgid.
    group: u32,
    /// New entries inherit an ACL that must be taken off again.
    default_acl: bool,
}

impl Applier {
    /// An applier for the tree at `root`, whose own entry shall become `root_entry` in the end.
    pub fn new(root: Dir, options: ApplyOptions) -> Applier {
        Applier {
            root,
            options,
            who: fs::Process::current(),
            places: Mutex::default(),
            finishing: Mutex::default(),
            touched: Mutex::default(),
            refusals: Refusals::default(),
        }
    }

    /// The root's descriptor, for reading.
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// The directories in which anything was changed: they themselves, or what is in them.
    pub fn touched(&self) -> BTreeSet<RelPath> {
        let mut touched = lock(&self.touched).clone();
        touched.extend(lock(&self.finishing).keys().cloned());
        let parents: Vec<_> = touched.iter().filter_map(RelPath::parent).collect();
        touched.extend(parents);
        touched
    }

    /// What the destination would not hold, counted so far.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Opens a directory for writing and remembers what its times were before.
    fn place(&self, path: &RelPath) -> io::Result<Arc<Place>> {
        if let Some(place) = lock(&self.places).get(path) {
            return Ok(Arc::clone(place));
        }
        let dir = self.root.open_dir(path)?;
        let stat = dir.stat_self()?;
        self.note_times(path, &stat);
        self.unlock_dir(path, &dir, &stat)?;
        let setgid = stat.meta.mode & 0o2000 != 0;
        let acls = self.options.rules.fidelity.acls;
        let place = Arc::new(Place {
            group: if setgid { stat.meta.gid } else { self.who.gid },
            default_acl: acls
                && fs::get_xattr(&Target::Dir(&dir), Xattr::ACL_DEFAULT)
                    .ok()
                    .flatten()
                    .is_some(),
            dir,
        });
        let mut places = lock(&self.places);
        if places.len() >= OPEN_PLACES {
            places.clear();
        }
        places.insert(path.clone(), Arc::clone(&place));
        Ok(place)
    }

    /// The pinned parent of an entry that is to be made, and its name in it. A parent that is not
    /// there yet is made: in a stream, one thread can have a file before another has its
    /// directory.
    fn new_parent(&self, path: &RelPath) -> Result<(Arc<Place>, Name), Failure> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Failure::new("replace", Errno::INVAL.into()));
        };
        if parent.is_root() && fs::is_own_name(name.as_bytes()) {
            let why = "the name is one that cutover uses itself";
            return Err(Failure::new("replace", io::Error::other(why)));
        }
        let place = match self.place(&parent) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                self.make_parents(&parent)
                    .during("create the directory of")?;
                self.place(&parent)
            }
            place => place,
        };
        Ok((place.during("open the directory of")?, name))
    }

    /// The pinned parent of an entry that is there, and its name in it.
    fn parent(&self, path: &RelPath) -> Result<(Arc<Place>, Name), Failure> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Failure::new("open", Errno::INVAL.into()));
        };
        let place = self.place(&parent).during("open the directory of")?;
        Ok((place, name))
    }

    fn make_parents(&self, path: &RelPath) -> io::Result<()> {
        let mut at = RelPath::root();
        for component in path.components() {
            let name = Name::new(component).map_err(io::Error::other)?;
            match self.place(&at)?.dir.make_dir(&name, 0o700) {
                Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(err),
                _ => at = at.join(&name),
            }
        }
        Ok(())
    }

    /// What stands at `path` now, in the terms of the entry that it shall be.
    pub fn entry_at(&self, path: &RelPath, entry: &Entry) -> Result<Entry, Failure> {
        let (place, name) = self.parent(path)?;
        let target = Target::Entry(&place.dir, &name);
        let mut stat = place.dir.stat(&name).during("stat")?;
        if self.options.fake_super {
            fs::overlay_fake_stat(&target, &mut stat).during("stat")?;
        }
        let xattrs = if !self.options.rules.reads_xattrs() {
            Ok(Vec::new())
        } else if self.options.fake_super {
            fs::read_fake_xattrs(&target, stat.meta.mode, self.options.rules.xattrs())
        } else {
            fs::read_xattrs(&target, self.options.rules.xattrs())
        };
        Ok(Entry {
            meta: stat.meta,
            xattrs: xattrs.during("read attributes of")?,
            ..entry.clone()
        })
    }

    /// Forgets open directories beneath `path`: it is about to be renamed or removed.
    fn forget(&self, path: &RelPath) {
        lock(&self.places).retain(|open, _| !open.starts_with(path));
        let mut touched = lock(&self.touched);
        lock(&self.finishing).retain(|noted, _| {
            let stays = !noted.starts_with(path);
            if !stays {
                // Some of it may stay after all.
                touched.insert(noted.clone());
            }
            stays
        });
    }

    /// Makes a directory, or takes the one that is there, which shall become `entry` at the end.
    /// Its parent must be there.
    pub fn make_dir(&self, path: &RelPath, entry: &Entry) -> Result<(), Failure> {
        let (place, name) = self.new_parent(path)?;
        match place.dir.make_dir(&name, 0o700) {
            Ok(()) => {}
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
                let stat = place.dir.stat(&name).during("stat")?;
                if stat.meta.kind != EntryKind::Dir {
                    self.set_aside(&place, path, &name).during("set aside")?;
                    self.unlink_if_there(&place, &name).during("replace")?;
                    place
                        .dir
                        .make_dir(&name, 0o700)
                        .during("create directory")?;
                }
            }
            Err(err) => return Err(Failure::new("create directory", err)),
        }
        self.expect_dir(path, entry);
        Ok(())
    }

    /// Makes a symlink, FIFO, socket or device under a temporary name and renames it into place.
    pub fn make_special(&self, path: &RelPath, entry: &Entry) -> Result<(), Failure> {
        let (place, name) = self.new_parent(path)?;
        let temp = fs::temp_name(&name);
        self.make_node(&place.dir, &temp, entry).during("create")?;
        let target = Target::Entry(&place.dir, &temp);
        let dressed = self.dress(&target, entry, &place, self.real_kind(entry.meta.kind));
        self.publish(&place, path, &temp, &name, dressed)
    }

    fn make_node(&self, dir: &Dir, temp: &Name, entry: &Entry) -> io::Result<()> {
        let kind = entry.meta.kind;
        if self.real_kind(kind) != kind {
            // rsync's fake-super stores what a user cannot make as a file; a symlink's content
            // is its target.
            let mut file = dir.create_new(temp)?;
            return io::Write::write_all(&mut file, &entry.target);
        }
        match kind {
            EntryKind::Symlink => dir.make_symlink(temp, &entry.target),
            _ => dir.make_node(temp, kind, 0o600, entry.meta.rdev),
        }
    }

    /// What an entry really is on disk: with fake-super, specials and symlinks are files.
    fn real_kind(&self, kind: EntryKind) -> EntryKind {
        match kind {
            EntryKind::Dir | EntryKind::File => kind,
            _ if self.options.fake_super => EntryKind::File,
            _ => kind,
        }
    }

    /// Gives a finished temporary its name, or takes it away where finishing it failed.
    fn publish(
        &self,
        place: &Place,
        path: &RelPath,
        temp: &Name,
        name: &Name,
        dressed: Result<(), Failure>,
    ) -> Result<(), Failure> {
        let published = dressed.and_then(|()| {
            self.set_aside(place, path, name).during("set aside")?;
            place
                .dir
                .rename(temp, &place.dir, name)
                .during("rename into place")
        });
        if published.is_err() {
            // The failure is what counts; a temporary that stays is swept by the next run.
            let _ = place.dir.unlink(temp);
        }
        published
    }

    /// Sets what differs between an entry and what it shall be. For directories the mode and
    /// times wait until the end.
    pub fn set_attributes(
        &self,
        path: &RelPath,
        entry: &Entry,
        have: &Entry,
    ) -> Result<(), Failure> {
        if entry.meta.kind == EntryKind::Dir {
            self.place(path).during("open")?;
            self.expect_dir(path, entry);
            return Ok(());
        }
        let (place, name) = self.parent(path)?;
        self.redress(&Target::Entry(&place.dir, &name), entry, have)
    }

    /// Makes `path` another name of the file at `leader`; `false` where it is one already.
    pub fn link(&self, path: &RelPath, leader: &RelPath) -> Result<bool, Failure> {
        let (to_place, to) = self.parent(leader)?;
        let (place, name) = self.new_parent(path)?;
        let leading = to_place.dir.stat(&to).during("stat")?;
        if place
            .dir
            .stat(&name)
            .is_ok_and(|stat| stat.is_same_inode(&leading))
        {
            return Ok(false);
        }
        let temp = fs::temp_name(&name);
        place
            .dir
            .make_link(&temp, &to_place.dir, &to)
            .during("link")?;
        self.publish(&place, path, &temp, &name, Ok(()))
            .map(|()| true)
    }

    /// Makes `path`, which must be free, another name of what `name` stands for in a directory
    /// outside of the tree, itself and not what it may point to.
    pub fn adopt(&self, path: &RelPath, from: &Dir, name: &Name) -> Result<(), Failure> {
        let (place, own) = self.new_parent(path)?;
        place.dir.make_link(&own, from, name).during("link")
    }

    /// Renames an entry. What is no directory at `to` is replaced; a directory there is a failure.
    pub fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), Failure> {
        let (from_place, from_name) = self.parent(from)?;
        let (to_place, to_name) = self.new_parent(to)?;
        self.forget(from);
        let renamed = from_place
            .dir
            .rename_noreplace(&from_name, &to_place.dir, &to_name);
        match renamed {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
                let standing = to_place.dir.stat(&to_name).during("stat")?;
                if standing.meta.kind == EntryKind::Dir {
                    return Err(Failure::new("rename", err));
                }
                self.set_aside(&to_place, to, &to_name)
                    .during("set aside")?;
                if from_place.dir.stat(&from_name).during("stat")?.meta.kind == EntryKind::Dir {
                    to_place.dir.unlink(&to_name).during("replace")?;
                }
                from_place
                    .dir
                    .rename(&from_name, &to_place.dir, &to_name)
                    .during("rename")
            }
            renamed => renamed.during("rename"),
        }
    }

    fn unlink_if_there(&self, place: &Place, name: &Name) -> io::Result<()> {
        match place.dir.unlink(name) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
            _ => Ok(()),
        }
    }

    /// Removes unfinished files of earlier runs. Those that went meanwhile are no fault.
    pub fn sweep(&self, leftovers: &[(RelPath, Name)]) -> u64 {
        let mut swept = 0;
        for (dir, name) in leftovers {
            debug_assert!(fs::is_temp(name.as_bytes()));
            if let Ok(place) = self.place(dir)
                && place.dir.unlink(name).is_ok()
            {
                swept += 1;
            }
        }
        swept
    }

    /// What mode an entry gets: its own where modes are preserved; else what the old entry had,
    /// or what a new one would have under the umask.
    fn mode_for(&self, meta: &Metadata, old: Option<u16>) -> u16 {
        if self.options.rules.fidelity.perms {
            return meta.mode;
        }
        old.unwrap_or(meta.mode & 0o777 & !self.who.umask)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The maps behind these locks are changed in single steps: a panic cannot tear them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
