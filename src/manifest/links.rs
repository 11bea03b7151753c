//! The hard-link table: which names of a tree share one file.
//!
//! Memory is per shared file, not per name: a group keeps the sum of its members' path hashes, so
//! two trees with the same groups have the same digest whatever the order of the scan. Who the
//! members are is found by listing again the directories that are marked as holding links.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::digest::Digest;
use crate::entry::Timestamp;
use crate::fs::Stat;
use crate::path::RelPath;

/// A device and a number on it.
type Inode = (u64, u64);

/// Groups of names that share a file.
#[derive(Debug, Default)]
pub struct Links(Mutex<Groups>);

#[derive(Debug, Default)]
struct Groups {
    by_inode: HashMap<Inode, Group>,
    next_id: u64,
    /// Where directories are read again: whose members are where.
    tracked: Option<Tracked>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Group {
    id: u64,
    members: u32,
    sum: [u64; 4],
}

/// What it takes to keep the table true while directories are read again, one at a time.
#[derive(Debug, Default)]
struct Tracked {
    /// The members in each directory.
    dirs: BTreeMap<RelPath, Vec<Member>>,
    /// What each shared file was when a name of it was read last.
    seen: HashMap<Inode, Seen>,
    /// Shared files of which a name was read since the last look.
    touched: HashSet<Inode>,
    /// Of them, those that had changed meanwhile: their other names have to be read as well.
    moved: HashSet<Inode>,
    /// Files that have other names outside of the tree.
    elsewhere: HashMap<Inode, Elsewhere>,
}

/// A file with names outside of the tree, as it was when all of the tree had been read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Elsewhere {
    /// How many names it had.
    names: u32,
    /// Which of them lie within, as a part of their sum: of a single one nothing else is kept, and
    /// a second that comes in must not pass for it.
    within: u64,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    inode: Inode,
    hash: [u64; 4],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    ctime: Timestamp,
    nlink: u32,
}

impl Links {
    /// A table of a tree whose directories are read again as they change.
    pub fn tracked() -> Links {
        Links(Mutex::new(Groups {
            tracked: Some(Tracked::default()),
            ..Groups::default()
        }))
    }

    /// The group of a file with several names; the same number for the same file.
    pub fn id(&self, stat: &Stat) -> u64 {
        self.lock().group((stat.dev, stat.ino)).id
    }

    /// Counts `path` as a member of its file's group. Call once for each name.
    pub fn add(&self, stat: &Stat, path: &RelPath) {
        let inode = (stat.dev, stat.ino);
        let hash = limbs(blake3::hash(path.as_bytes()).as_bytes());
        let mut groups = self.lock();
        let group = groups.group(inode);
        group.members += 1;
        add(&mut group.sum, &hash);
        if let Some(tracked) = &mut groups.tracked {
            let dir = path.parent().unwrap_or_default();
            let members = tracked.dirs.entry(dir).or_default();
            members.push(Member { inode, hash });
            tracked.touched.insert(inode);
            let now = Seen {
                ctime: stat.ctime,
                nlink: stat.nlink,
            };
            if tracked
                .seen
                .insert(inode, now)
                .is_some_and(|was| was != now)
            {
                tracked.moved.insert(inode);
            }
        }
    }

    /// Forgets everything but which files have names outside of the tree.
    pub fn clear(&self) {
        let mut groups = self.lock();
        let elsewhere = groups.tracked.take().map(|tracked| tracked.elsewhere);
        *groups = Groups {
            tracked: elsewhere.map(|elsewhere| Tracked {
                elsewhere,
                ..Tracked::default()
            }),
            ..Groups::default()
        };
    }

    /// Forgets the names in a directory: it is read again.
    pub fn forget_dir(&self, dir: &RelPath) {
        let mut groups = self.lock();
        let tracked = groups.tracked.as_mut();
        let gone = tracked.and_then(|tracked| tracked.dirs.remove(dir));
        gone.into_iter()
            .for_each(|members| groups.take_off(&members));
    }

    /// Forgets the names in a directory and in all beneath it.
    pub fn forget_below(&self, dir: &RelPath) {
        let mut groups = self.lock();
        let Some(tracked) = &mut groups.tracked else {
            return;
        };
        let below = tracked.dirs.range(dir.clone()..).map(|(path, _)| path);
        let below = below.take_while(|path| path.as_bytes().starts_with(dir.as_bytes()));
        let below: Vec<_> = below
            .filter(|path| path.starts_with(dir))
            .cloned()
            .collect();
        for path in below {
            let tracked = groups.tracked.as_mut();
            let gone = tracked.and_then(|tracked| tracked.dirs.remove(&path));
            gone.into_iter()
                .for_each(|members| groups.take_off(&members));
        }
    }

    /// The directories that hold other names of files which had changed when one of their names
    /// was read.
    pub fn dirs_of_changed(&self) -> Vec<RelPath> {
        let mut groups = self.lock();
        let Some(tracked) = &mut groups.tracked else {
            return Vec::new();
        };
        let moved = std::mem::take(&mut tracked.moved);
        tracked.dirs_of(&moved)
    }

    /// Whether a file was read that has more names than are known: the others may be in directories
    /// that heard nothing of it. Asks once for each such file and its names in the tree; when all of
    /// the tree has been read, the others are outside of it.
    pub fn has_unknown_names(&self) -> bool {
        let mut groups = self.lock();
        let Groups {
            by_inode, tracked, ..
        } = &mut *groups;
        let Some(tracked) = tracked else {
            return false;
        };
        let mut unknown = false;
        for inode in std::mem::take(&mut tracked.touched) {
            let now = tracked.elsewhere_now(by_inode, inode);
            unknown |= now.is_some() && tracked.elsewhere.get(&inode) != now.as_ref();
            tracked.note_elsewhere(inode, now);
        }
        unknown
    }

    /// Takes note that all of the tree has been read: what names are not known are outside of it. That
    /// holds for files that have not changed since before it was read, which is asked of their ctime;
    /// returns the directories with names of the others, as one may have come where all had been read.
    pub fn all_was_read(&self, has_rested: impl Fn(Timestamp) -> bool) -> Vec<RelPath> {
        let mut groups = self.lock();
        let Groups {
            by_inode, tracked, ..
        } = &mut *groups;
        let Some(tracked) = tracked else {
            return Vec::new();
        };
        let mut late = HashSet::new();
        for inode in std::mem::take(&mut tracked.touched) {
            let mut now = tracked.elsewhere_now(by_inode, inode);
            let changed = tracked.seen.get(&inode).map(|seen| seen.ctime);
            if now.is_some() && !changed.is_some_and(&has_rested) {
                late.insert(inode);
                now = None;
            }
            tracked.note_elsewhere(inode, now);
        }
        tracked.dirs_of(&late)
    }

    /// Asks for no other names of what was read.
    pub fn forget_touched(&self) {
        if let Some(tracked) = &mut self.lock().tracked {
            tracked.touched.clear();
        }
    }

    /// Forgets files of which all of the tree, just read, has only one name. That they have others
    /// elsewhere, as in generations of a standby, is nothing to hold in memory.
    pub fn forget_single(&self) {
        let mut groups = self.lock();
        let Groups {
            by_inode, tracked, ..
        } = &mut *groups;
        let Some(tracked) = tracked else {
            return;
        };
        tracked
            .elsewhere
            .retain(|inode, _| by_inode.contains_key(inode));
        by_inode.retain(|_, group| group.members > 1);
        tracked.seen.retain(|inode, _| by_inode.contains_key(inode));
        tracked.dirs.retain(|_, members| {
            members.retain(|member| by_inode.contains_key(&member.inode));
            !members.is_empty()
        });
    }

    /// The digest of all groups of two and more: the sum of their hashes, so that their order
    /// does not matter. A file whose other names lie outside the tree is no group.
    pub fn digest(&self) -> Digest {
        let mut total = [0_u64; 4];
        let groups = self.lock();
        for group in groups.by_inode.values().filter(|group| group.members > 1) {
            let mut bytes = [0; 36];
            for (chunk, limb) in bytes.chunks_exact_mut(8).zip(group.sum) {
                chunk.copy_from_slice(&limb.to_le_bytes());
            }
            bytes[32..].copy_from_slice(&group.members.to_le_bytes());
            add(&mut total, &limbs(blake3::hash(&bytes).as_bytes()));
        }
        let mut digest = Digest::default();
        for (chunk, limb) in digest.0.chunks_exact_mut(8).zip(total) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        digest
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        // A thread that panicked cannot have left a map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracked {
    /// A file with more names than are known of it.
    fn elsewhere_now(&self, by_inode: &HashMap<Inode, Group>, inode: Inode) -> Option<Elsewhere> {
        let names = self.seen.get(&inode)?.nlink;
        let group = by_inode.get(&inode)?;
        let within = group.sum[0];
        (group.members < names).then_some(Elsewhere { names, within })
    }

    fn note_elsewhere(&mut self, inode: Inode, now: Option<Elsewhere>) {
        match now {
            Some(now) => self.elsewhere.insert(inode, now),
            None => self.elsewhere.remove(&inode),
        };
    }

    /// The directories that hold names of these files.
    fn dirs_of(&self, inodes: &HashSet<Inode>) -> Vec<RelPath> {
        if inodes.is_empty() {
            return Vec::new();
        }
        let holds = |members: &Vec<Member>| members.iter().any(|m| inodes.contains(&m.inode));
        let dirs = self.dirs.iter();
        dirs.filter(|(_, members)| holds(members))
            .map(|(dir, _)| dir.clone())
            .collect()
    }
}

impl Groups {
    fn group(&mut self, inode: Inode) -> &mut Group {
        let next_id = &mut self.next_id;
        self.by_inode.entry(inode).or_insert_with(|| {
            *next_id += 1;
            Group {
                id: *next_id - 1,
                ..Group::default()
            }
        })
    }

    fn take_off(&mut self, members: &[Member]) {
        for member in members {
            let Some(group) = self.by_inode.get_mut(&member.inode) else {
                continue;
            };
            group.members -= 1;
            for (limb, less) in group.sum.iter_mut().zip(member.hash) {
                *limb = limb.wrapping_sub(less);
            }
            if group.members == 0 {
                self.by_inode.remove(&member.inode);
                if let Some(tracked) = &mut self.tracked {
                    tracked.seen.remove(&member.inode);
                }
            }
        }
    }
}

fn limbs(hash: &[u8; 32]) -> [u64; 4] {
    let mut limbs = [0; 4];
    for (limb, bytes) in limbs.iter_mut().zip(hash.chunks_exact(8)) {
        *limb = le_u64(bytes);
    }
    limbs
}

fn add(sum: &mut [u64; 4], more: &[u64; 4]) {
    for (limb, more) in sum.iter_mut().zip(more) {
        *limb = limb.wrapping_add(*more);
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

    #[test]
    fn nothing_is_kept_of_a_file_that_is_gone() {
        let links = Links::tracked();
        let (one, two) = two_files();
        links.add(&one, &path("a/1"));
        links.add(&two, &path("a/2"));
        links.add(&two, &path("b/2"));
        links.forget_touched();
        links.forget_dir(&path("a"));
        let groups = links.lock();
        let known = groups.tracked.as_ref().unwrap().seen.len();
        assert_eq!((groups.by_inode.len(), known), (1, 1));
    }
}
