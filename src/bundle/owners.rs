//! Whose a restored bundle's entries become: its manifest has the names that its numbers had, and
//! this host has numbers for names.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;
use crate::events::Warning;
use crate::manifest::owners::OwnerMap;
use crate::manifest::recorded::OwnerNames;
use crate::options::Ownership;
use crate::protocol::message::OwnerQuery;
use crate::session::Resolver;

/// Maps the owners of one manifest.
pub(super) struct Owners {
    names: OwnerNames,
    resolver: Resolver,
    unheld: AtomicU64,
}

impl Owners {
    /// Maps by these rules. Who cannot give entries to others gives them what can be had.
    pub(super) fn new(names: OwnerNames, ownership: &Ownership, can_give: bool) -> Result<Owners> {
        let resolver = Resolver::new(ownership)?;
        Ok(Owners {
            names,
            resolver: match can_give {
                true => resolver,
                false => resolver.confined(),
            },
            unheld: AtomicU64::new(0),
        })
    }

    /// Says how many entries get another owner than theirs.
    pub(super) fn warning(&self) -> Option<Warning> {
        let entries = self.unheld.load(Ordering::Relaxed);
        (entries > 0).then(|| Warning {
            topic: "owner".to_string(),
            entries,
            message: "ownership is not kept: only root can give entries away".to_string(),
        })
    }
}

impl OwnerMap for Owners {
    fn owner(&self, uid: u32, gid: u32) -> io::Result<(u32, u32)> {
        let user = self.resolver.resolve(&OwnerQuery {
            is_group: false,
            id: uid,
            name: self.names.users.get(&uid).cloned(),
        });
        let group = self.resolver.resolve(&OwnerQuery {
            is_group: true,
            id: gid,
            name: self.names.groups.get(&gid).cloned(),
        });
        if !(user.held && group.held) {
            self.count(uid, gid, 1);
        }
        Ok((user.id, group.id))
    }

    fn count(&self, _: u32, _: u32, entries: u64) {
        self.unheld.fetch_add(entries, Ordering::Relaxed);
    }
}
