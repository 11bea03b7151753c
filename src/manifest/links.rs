//! The hard-link table: which names of a tree share one file.
//!
//! Memory is per shared file, not per name: a group keeps the sum of its members' path hashes, so
//! two trees with the same groups have the same digest whatever the order of the scan. Who the
//! members are is found by listing again the directories that are marked as holding links.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::digest::Digest;
use crate::fs::Stat;
use crate::path::RelPath;

/// Groups of names that share a file.
#[derive(Debug, Default)]
pub struct Links {
    groups: Mutex<HashMap<(u64, u64), Group>>,
}

#[derive(Debug, Clone, Copy)]
struct Group {
    id: u64,
    members: u32,
    sum: [u64; 4],
}

impl Links {
    /// The group of a file with several names; the same number for the same file.
    pub fn id(&self, stat: &Stat) -> u64 {
        let mut groups = self.lock();
        let next = groups.len() as u64;
        groups
            .entry((stat.dev, stat.ino))
            .or_insert(Group {
                id: next,
                members: 0,
                sum: [0; 4],
            })
            .id
    }

    /// Counts `path` as a member of its file's group. Call once for each name.
    pub fn add(&self, stat: &Stat, path: &RelPath) {
        let hash = blake3::hash(path.as_bytes());
        let mut groups = self.lock();
        let next = groups.len() as u64;
        let group = groups.entry((stat.dev, stat.ino)).or_insert(Group {
            id: next,
            members: 0,
            sum: [0; 4],
        });
        group.members += 1;
        for (limb, bytes) in group.sum.iter_mut().zip(hash.as_bytes().chunks_exact(8)) {
            *limb = limb.wrapping_add(le_u64(bytes));
        }
    }

    /// The digest of all groups of two and more: the sum of their hashes, so that their order
    /// does not matter. A file whose other names lie outside the tree is no group.
    pub fn digest(&self) -> Digest {
        let mut total = [0_u64; 4];
        for group in self.lock().values().filter(|group| group.members > 1) {
            let mut bytes = [0; 36];
            for (chunk, limb) in bytes.chunks_exact_mut(8).zip(group.sum) {
                chunk.copy_from_slice(&limb.to_le_bytes());
            }
            bytes[32..].copy_from_slice(&group.members.to_le_bytes());
            let hash = blake3::hash(&bytes);
            for (limb, chunk) in total.iter_mut().zip(hash.as_bytes().chunks_exact(8)) {
                *limb = limb.wrapping_add(le_u64(chunk));
            }
        }
        let mut digest = Digest::default();
        for (chunk, limb) in digest.0.chunks_exact_mut(8).zip(total) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        digest
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(u64, u64), Group>> {
        // A thread that panicked cannot have left a map half changed.
        self.groups
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn le_u64(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, &byte| value << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    fn two_files() -> (Stat, Stat) {
        let dir = tempfile::tempdir().unwrap();
        let stat = |name: &str| {
            let file = dir.path().join(name);
            std::fs::write(&file, name).unwrap();
            fs::stat_path(&file).unwrap()
        };
        (stat("1"), stat("2"))
    }

    #[test]
    fn the_order_of_the_scan_does_not_matter() {
        let (one, two) = two_files();
        let (forward, backward) = (Links::default(), Links::default());
        for (stat, name) in [(&one, "a"), (&one, "b"), (&two, "c"), (&two, "d")] {
            forward.add(stat, &path(name));
        }
        for (stat, name) in [(&two, "d"), (&one, "b"), (&two, "c"), (&one, "a")] {
            backward.add(stat, &path(name));
        }
        assert_eq!(forward.digest(), backward.digest());
    }

    #[test]
    fn other_members_make_another_digest() {
        let (one, two) = two_files();
        let digest = |pairs: &[(&Stat, &str)]| {
            let links = Links::default();
            for (stat, name) in pairs {
                links.add(stat, &path(name));
            }
            links.digest()
        };
        let base = digest(&[(&one, "a"), (&one, "b"), (&two, "c"), (&two, "d")]);
        let swapped = digest(&[(&one, "a"), (&one, "c"), (&two, "b"), (&two, "d")]);
        assert_ne!(base, swapped);
        assert_eq!(digest(&[(&one, "a")]), digest(&[]), "one name is no group");
    }
}
