//! Whose entries become: a side's owner numbers as the other end has them.

use std::io;

/// Turns this host's owner numbers into the destination's.
///
/// Called from all scanning threads; may block while the other end is asked. An error ends the
/// scan.
pub trait OwnerMap: Sync {
    /// The destination's numbers for a user and a group. Asked once for each pair in a directory.
    fn owner(&self, uid: u32, gid: u32) -> io::Result<(u32, u32)>;

    /// Notes that so many entries of a listing have this user and group.
    fn count(&self, uid: u32, gid: u32, entries: u64);
}

/// The map of a side whose numbers count as they are.
#[derive(Clone, Copy, Debug)]
pub struct KeepOwners;

impl OwnerMap for KeepOwners {
    fn owner(&self, uid: u32, gid: u32) -> io::Result<(u32, u32)> {
        Ok((uid, gid))
    }

    fn count(&self, _: u32, _: u32, _: u64) {}
}

/// The owners met in one directory: so few that a list is faster than any table, and that the
/// shared one behind it is seldom asked.
#[derive(Default)]
pub(super) struct OwnersHere(Vec<OwnerHere>);

struct OwnerHere {
    here: (u32, u32),
    there: (u32, u32),
    entries: u64,
}

impl OwnersHere {
    pub(super) fn map(
        &mut self,
        owners: &dyn OwnerMap,
        here: (u32, u32),
    ) -> io::Result<(u32, u32)> {
        if let Some(known) = self.0.iter_mut().find(|known| known.here == here) {
            known.entries += 1;
            return Ok(known.there);
        }
        let there = owners.owner(here.0, here.1)?;
        self.0.push(OwnerHere {
            here,
            there,
            entries: 1,
        });
        Ok(there)
    }

    pub(super) fn count(&self, owners: &dyn OwnerMap) {
        for known in &self.0 {
            owners.count(known.here.0, known.here.1, known.entries);
        }
    }
}
