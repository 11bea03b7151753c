//! Gives an entry its owner, mode, attributes and times, in the one order that works: a change of
//! owner clears setuid and capabilities, and every other change moves times.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use crate::apply::{Applier, During, Failure, Place};
use crate::entry::{EntryKind, Metadata, Xattr};
use crate::events::Warning;
use crate::fs::{self, Target};
use crate::manifest::record::Entry;

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
        let owner_now = (self.who.uid, place.group);
        self.give_owner(target, entry, owner_now)?;
        if kind != EntryKind::Symlink {
            let mode = self.mode_for(&entry.meta, None);
            self.give_mode(target, entry, mode)?;
        }
        if self.options.rules.reads_xattrs() {
            let have = if place.default_acl {
                fs::read_xattrs(target, self.options.rules.xattrs()).during("read attributes of")?
            } else {
                Vec::new()
            };
            self.give_xattrs(target, entry, &have)?;
        }
        self.give_fake_stat(target, entry, kind)?;
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
        let owner_moves = (new.uid, new.gid) != (old.uid, old.gid);
        if owner_moves {
            self.give_owner(target, entry, (have.meta.uid, have.meta.gid))?;
        }
        // A change of owner has cleared setuid and setgid: set the mode again.
        if (new.mode != old.mode || owner_moves) && entry.meta.kind != EntryKind::Symlink {
            let mode = self.mode_for(&entry.meta, Some(have.meta.mode));
            self.give_mode(target, entry, mode)?;
        }
        if entry.xattrs != have.xattrs || owner_moves {
            // A change of owner has dropped file capabilities: what is there is asked again.
            let have = if owner_moves && rules.reads_xattrs() && !self.options.fake_super {
                fs::read_xattrs(target, self.options.rules.xattrs()).during("read attributes of")?
            } else {
                have.xattrs.clone()
            };
            self.give_xattrs(target, entry, &have)?;
        }
        self.give_fake_stat(target, entry, self.real_kind(entry.meta.kind))?;
        if new.mtime != old.mtime {
            self.give_mtime(target, entry)?;
        }
        Ok(())
    }

    fn give_owner(
        &self,
        target: &Target<'_>,
        entry: &Entry,
        now: (u32, u32),
    ) -> Result<(), Failure> {
        if self.options.fake_super {
            return Ok(());
        }
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

    fn give_mode(&self, target: &Target<'_>, entry: &Entry, mode: u16) -> Result<(), Failure> {
        let mode = if self.options.fake_super {
            fs::fake_super::real_mode(&Metadata { mode, ..entry.meta })
        } else {
            mode
        };
        match fs::set_mode(target, mode) {
            Err(err) if is_refusal(&err) => {
                self.refusals.modes.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            result => result.during("set the mode of"),
        }
    }

    fn give_xattrs(
        &self,
        target: &Target<'_>,
        entry: &Entry,
        have: &[Xattr],
    ) -> Result<(), Failure> {
        let refused = if self.options.fake_super {
            fs::write_fake_xattrs(target, entry.meta.mode, &entry.xattrs)
                .during("read attributes of")?
        } else {
            fs::write_xattrs(target, &entry.xattrs, have)
        };
        let (acls, xattrs): (Vec<_>, Vec<_>) = refused
            .iter()
            .partition(|(name, _)| name == Xattr::ACL_ACCESS || name == Xattr::ACL_DEFAULT);
        // Counted by entry, not by attribute.
        self.refusals
            .acls
            .fetch_add(u64::from(!acls.is_empty()), Ordering::Relaxed);
        self.refusals
            .xattrs
            .fetch_add(u64::from(!xattrs.is_empty()), Ordering::Relaxed);
        Ok(())
    }

    fn give_fake_stat(
        &self,
        target: &Target<'_>,
        entry: &Entry,
        kind: EntryKind,
    ) -> Result<(), Failure> {
        if !self.options.fake_super {
            return Ok(());
        }
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
