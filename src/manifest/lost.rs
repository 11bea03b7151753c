//! Counts what a destination cannot hold, so that it is said once and with a number.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::entry::{EntryKind, Xattr};
use crate::fs::{Stat, XattrSelect, fake_super};
use crate::manifest::record::{Entry, RecordRules};
use crate::options::Fidelity;

/// Entries of the source that lose something, by what they lose.
#[derive(Debug)]
pub struct Lost {
    asked: Fidelity,
    kept: Fidelity,
    symlinks: AtomicU64,
    devices: AtomicU64,
    specials: AtomicU64,
    hard_links: AtomicU64,
    modes: AtomicU64,
    xattrs: AtomicU64,
    acls: AtomicU64,
    privileged: AtomicU64,
    /// Whether the destination stores owners in the attributes where the source's may be.
    fake_super: bool,
    stored: AtomicU64,
}

impl Lost {
    /// Nothing yet, of what was `asked` for and is not `kept`. With `fake_super` the destination
    /// stores owners in attributes of its own.
    pub fn new(asked: Fidelity, kept: Fidelity, fake_super: bool) -> Lost {
        let zero = || AtomicU64::new(0);
        Lost {
            asked,
            kept,
            symlinks: zero(),
            devices: zero(),
            specials: zero(),
            hard_links: zero(),
            modes: zero(),
            xattrs: zero(),
            acls: zero(),
            privileged: zero(),
            fake_super,
            stored: zero(),
        }
    }

    /// Which attributes must be looked for though they are not kept.
    pub fn attributes(&self) -> XattrSelect {
        XattrSelect::of(&self.asked).less(XattrSelect::of(&self.kept))
    }

    /// Counts an entry that does not take part because of its kind.
    pub fn kind(&self, kind: EntryKind) {
        let (total, asked) = match kind {
            EntryKind::Symlink => (&self.symlinks, self.asked.symlinks),
            EntryKind::Fifo | EntryKind::Socket => (&self.specials, self.asked.specials),
            EntryKind::CharDevice | EntryKind::BlockDevice => (&self.devices, self.asked.devices),
            EntryKind::File | EntryKind::Dir => return,
        };
        total.fetch_add(u64::from(asked), Ordering::Relaxed);
    }

    /// Counts what an entry that takes part loses of what `statx` tells.
    pub fn entry(&self, stat: &Stat) {
        self.plain(stat.nlink > 1 && stat.meta.kind != EntryKind::Dir);
    }

    /// Counts all that an entry of a manifest loses.
    pub fn recorded(&self, entry: &Entry, kept: &RecordRules) {
        if !kept.takes(entry.meta.kind) {
            return self.kind(entry.meta.kind);
        }
        self.plain(entry.link.is_some());
        let select = kept.xattrs();
        let lost = entry
            .xattrs
            .iter()
            .filter(|xattr| !select.takes(&xattr.name));
        self.attributes_of(&lost.cloned().collect::<Vec<_>>());
    }

    fn plain(&self, is_linked: bool) {
        if is_linked && self.asked.hard_links && !self.kept.hard_links {
            self.hard_links.fetch_add(1, Ordering::Relaxed);
        }
        if self.asked.perms && !self.kept.perms {
            self.modes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an entry by the attributes that it loses; `false` where it loses none that count.
    pub fn attributes_of(&self, lost: &[Xattr]) -> bool {
        // Labels are each host's own: what is made there gets one.
        let counted = lost.iter().filter(|xattr| xattr.name != Xattr::SELINUX);
        let (mut acls, mut xattrs, mut privileged) = (false, false, false);
        for xattr in counted {
            match xattr.name.split(|&byte| byte == b'.').next() {
                _ if xattr.is_acl() => acls = true,
                Some(b"security" | b"trusted") if self.kept.xattrs => privileged = true,
                _ => xattrs = true,
            }
        }
        for (total, loses) in [
            (&self.acls, acls),
            (&self.xattrs, xattrs),
            (&self.privileged, privileged),
        ] {
            total.fetch_add(loses.into(), Ordering::Relaxed);
        }
        acls || xattrs || privileged
    }

    /// Counts an entry whose owner and mode an earlier run stored in an attribute: the destination
    /// has those of the entry as it is in the same place.
    pub fn stored_in(&self, xattrs: &[Xattr]) -> bool {
        let is_one = self.fake_super && xattrs.iter().any(|xattr| xattr.name == fake_super::STAT);
        self.stored.fetch_add(is_one.into(), Ordering::Relaxed);
        is_one
    }

    /// What was lost so far: a fixed word, how many entries, and what for people.
    pub fn counts(&self) -> Vec<(&'static str, u64, String)> {
        let stored = (
            "fake-super",
            self.stored.load(Ordering::Relaxed),
            "the owners and modes that are stored in the source's attributes are not carried on: \
             --from-fake-super does that"
                .to_owned(),
        );
        let privileged = (
            "privileged-xattrs",
            self.privileged.load(Ordering::Relaxed),
            "attributes of the security and trusted namespaces are not kept: the receiver is not \
             root; run it as root, with --sudo, or store them with --fake-super"
                .to_owned(),
        );
        let unheld = [
            ("symlinks", &self.symlinks, "symlinks are left out"),
            ("devices", &self.devices, "device nodes are left out"),
            ("specials", &self.specials, "FIFOs and sockets are left out"),
            (
                "hard-links",
                &self.hard_links,
                "names that share a file become files of their own",
            ),
            ("modes", &self.modes, "entries do not keep their modes"),
            (
                "xattrs",
                &self.xattrs,
                "entries do not keep their extended attributes",
            ),
            ("acls", &self.acls, "entries do not keep their ACLs"),
        ]
        .map(|(topic, total, what)| {
            let message = format!("{what}: the destination cannot hold them");
            (topic, total.load(Ordering::Relaxed), message)
        });
        unheld
            .into_iter()
            .chain([privileged, stored])
            .filter(|(_, entries, _)| *entries > 0)
            .collect()
    }
}
