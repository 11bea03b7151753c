//! Gives an entry its owner, attributes, mode, ACLs and times, in the one order that works: a change
//! of owner clears setuid and capabilities, a mode may take the right to set attributes and changes
//! the mask of ACLs, and everything moves times.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use crate::apply::{Applier, During, Failure, Place};
use crate::entry::{EntryKind, Metadata, Xattr};
use crate::events::Warning;
use crate::fs::{self, Target};
use crate::manifest::record::Entry;

/// What its maker may do with a new entry: all that matters until it has its own mode.
const USABLE: u16 = 0o700;

/// What the destination would not hold: counted, so that it is said once and not for each file.
#[derive(Debug, Default)]
pub struct Refusals {
    owners: AtomicU64,
    xattrs: AtomicU64,
    acls: AtomicU64,
    modes: AtomicU64,
}

impl Refusals {
    /// What was refused, a warning for each kind of it.
    pub fn warnings(&self) -> Vec<Warning> {
        [
            ("owner", &self.owners, "the owner"),
            ("xattrs", &self.xattrs, "extended attributes"),
            ("acls", &self.acls, "the ACL"),
            ("modes", &self.modes, "the mode"),
        ]
        .into_iter()
        .map(|(topic, count, what)| Warning {
            topic: topic.to_string(),
            entries: count.load(Ordering::Relaxed),
            message: format!("{what} could not be set: the destination does not allow it"),
        })
        .filter(|warning| warning.entries > 0)
        .collect()
    }
}

impl Applier {
    /// Dresses an entry that was just made with mode 0600 or 0700 by this process.
    pub(crate) fn dress(
        &self,
        target: &Target<'_>,
        entry: &Entry,
        place: &Place,
        kind: EntryKind,
    ) -> Result<(), Failure> {
        let mode = self.mode_for(&entry.meta, None);
        if self.options.fake_super {
            self.dress_stand_in(target, entry, mode, kind)?;
            return self.give_mtime(target, entry);
        }
        let owner_now = (self.who.uid, place.group);
        self.give_owner(target, entry, owner_now)?;
        let have = if place.default_acl && self.options.rules.reads_xattrs() {
            fs::read_xattrs(target, self.options.rules.xattrs()).during("read attributes of")?
        } else {
            Vec::new()
        };
        self.give_xattrs(target, entry, &have, USABLE);
        if kind != EntryKind::Symlink {
            self.give_mode(target, mode)?;
        }
        self.give_acls(target, entry, &have);
        self.give_mtime(target, entry)
    }

    /// Brings an entry that is there from `have` to `entry`.
    pub(crate) fn redress(
        &self,
        target: &Target<'_>,
        entry: &Entry,
        have: &Entry,
    ) -> Result<(), Failure> {
        let rules = &self.options.rules;
        let (new, old) = (rules.normalize(entry.meta), rules.normalize(have.meta));
        let mode = self.mode_for(&entry.meta, Some(have.meta.mode));
        if self.options.fake_super {
            self.dress_stand_in(target, entry, mode, self.real_kind(entry.meta.kind))?;
        } else {
            let owner_moves = (new.uid, new.gid) != (old.uid, old.gid);
            if owner_moves {
                self.give_owner(target, entry, (have.meta.uid, have.meta.gid))?;
            }
            // A change of owner has dropped file capabilities: what is there is asked again.
            let asked_again = if owner_moves && rules.reads_xattrs() {
                Some(fs::read_xattrs(target, rules.xattrs()).during("read attributes of")?)
            } else {
                None
            };
            let have_xattrs = asked_again.as_ref().unwrap_or(&have.xattrs);
            let opened = self.give_xattrs(target, entry, have_xattrs, have.meta.mode);
            // A change of owner has cleared setuid and setgid: set the mode again.
            let mode_moves = new.mode != old.mode || owner_moves || opened;
            if mode_moves && entry.meta.kind != EntryKind::Symlink {
                self.give_mode(target, mode)?;
            }
            self.give_acls(target, entry, have_xattrs);
        }
        if new.mtime != old.mtime {
            self.give_mtime(target, entry)?;
        }
        Ok(())
    }

    /// Dresses what stands for an entry under fake-super. Its mode comes first: it always lets its
    /// owner write, which storing the rest needs.
    fn dress_stand_in(
        &self,
        target: &Target<'_>,
        entry: &Entry,
        mode: u16,
        kind: EntryKind,
    ) -> Result<(), Failure> {
        self.give_mode(
            target,
            fs::fake_super::real_mode(&Metadata { mode, ..entry.meta }),
        )?;
        if self.options.rules.reads_xattrs() {
            let refused = fs::write_fake_xattrs(target, entry.meta.mode, &entry.xattrs)
                .during("read attributes of")?;
            count(&self.refusals.xattrs, &refused);
        }
        self.store_stat(target, entry, kind)
    }

    fn give_owner(
        &self,
        target: &Target<'_>,
        entry: &Entry,
        now: (u32, u32),
    ) -> Result<(), Failure> {
        let fidelity = &self.options.rules.fidelity;
        let uid = (fidelity.owner && entry.meta.uid != now.0).then_some(entry.meta.uid);
        let gid = (fidelity.group && entry.meta.gid != now.1).then_some(entry.meta.gid);
        if uid.is_none() && gid.is_none() {
            return Ok(());
        }
        match fs::set_owner(target, uid, gid) {
            Err(err) if is_refusal(&err) => {
                self.refusals.owners.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            result => result.during("set the owner of"),
        }
    }

    fn give_mode(&self, target: &Target<'_>, mode: u16) -> Result<(), Failure> {
        match fs::set_mode(target, mode) {
            Err(err) if is_refusal(&err) => {
                self.refusals.modes.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            result => result.during("set the mode of"),
        }
    }

    /// Sets all attributes but ACLs. Before the mode, since without privilege those of users need
    /// one that lets their owner write; where that of now does not, it is made to.
    ///
    /// Returns whether it was, and is to be set again.
    fn give_xattrs(
        &self,
        target: &Target<'_>,
        entry: &Entry,
        have: &[Xattr],
        mode_now: u16,
    ) -> bool {
        const OWNER_WRITES: u16 = 0o200;
        if entry.xattrs == have || !self.options.rules.reads_xattrs() {
            return false;
        }
        let [want, have] =
            [&entry.xattrs, have].map(|xattrs| only(xattrs, |xattr| !xattr.is_acl()));
        let mut refused = fs::write_xattrs(target, &want, &have);
        // Without setuid and setgid: the owner may be another than before.
        let opened = refused.iter().any(needs_right_to_write)
            && fs::set_mode(target, mode_now & 0o777 | OWNER_WRITES).is_ok();
        if opened {
            refused = fs::write_xattrs(target, &want, &have);
        }
        count(&self.refusals.xattrs, &refused);
        opened
    }

    /// Sets the ACLs: after the mode, a change of which changes their mask.
    fn give_acls(&self, target: &Target<'_>, entry: &Entry, have: &[Xattr]) {
        if entry.xattrs == have || !self.options.rules.reads_xattrs() {
            return;
        }
        let [want, have] = [&entry.xattrs, have].map(|xattrs| only(xattrs, Xattr::is_acl));
        count(&self.refusals.acls, &fs::write_xattrs(target, &want, &have));
    }

    /// Stores in an attribute what the entry is meant to be.
    fn store_stat(
        &self,
        target: &Target<'_>,
        entry: &Entry,
        kind: EntryKind,
    ) -> Result<(), Failure> {
        let real = Metadata {
            kind,
            mode: fs::fake_super::real_mode(&entry.meta),
            uid: self.who.uid,
            gid: self.who.gid,
            rdev: (0, 0),
            ..entry.meta
        };
        fs::write_fake_stat(target, &entry.meta, &real).during("store ownership of")
    }

    pub(crate) fn give_mtime(&self, target: &Target<'_>, entry: &Entry) -> Result<(), Failure> {
        let fidelity = &self.options.rules.fidelity;
        let keeps = match entry.meta.kind {
            EntryKind::Dir => fidelity.dir_times,
            EntryKind::Symlink => fidelity.link_times,
            _ => fidelity.times,
        };
        if !keeps {
            return Ok(());
        }
        match fs::set_mtime(target, entry.meta.mtime) {
            // A filesystem without times of symlinks says so for each: the record cannot hold.
            Err(err) if entry.meta.kind == EntryKind::Symlink && is_refusal(&err) => Ok(()),
            result => result.during("set the times of"),
        }
    }
}

/// Whether the system will never allow this here, as against a passing fault.
fn is_refusal(err: &io::Error) -> bool {
    let errno = err.raw_os_error();
    [Errno::PERM, Errno::OPNOTSUPP, Errno::INVAL]
        .iter()
        .any(|refusal| errno == Some(refusal.raw_os_error()))
}

/// Whether an attribute was refused for want of the right to write to its entry.
fn needs_right_to_write((name, err): &(Vec<u8>, io::Error)) -> bool {
    name.starts_with(b"user.") && err.raw_os_error() == Some(Errno::ACCESS.raw_os_error())
}

fn only(xattrs: &[Xattr], belongs: impl Fn(&Xattr) -> bool) -> Vec<Xattr> {
    let xattrs = xattrs.iter().filter(|xattr| belongs(xattr));
    xattrs.cloned().collect()
}

/// Counts an entry, not each of its attributes.
fn count(refusals: &AtomicU64, refused: &[(Vec<u8>, io::Error)]) {
    refusals.fetch_add(u64::from(!refused.is_empty()), Ordering::Relaxed);
}
