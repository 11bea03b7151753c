//! Counts what is below a root: what a copy will need, and what would be missing from it.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use crate::error::Result;
use crate::events::Cancel;
use crate::fs::{Stat, Users, may_read};
use crate::path::{RelPath, escape};
use crate::protocol::errand::Measured;

use super::limits::Bounded;
use super::open_root;
use super::walk::{Found, Listed, Visit, walk};

/// How many case pairs and unreadable entries are named.
const MOST_NAMED: usize = 100;

/// Files with several names whose other names are still to come: how many, by device and inode.
type Awaited = Mutex<HashMap<(u64, u64), u32>>;

/// Counts everything below `root`.
pub(super) fn measure(root: &str, cancel: &Cancel) -> Result<Measured> {
    let awaited = Awaited::default();
    let counts = walk(&open_root(root)?, cancel, || Counts::new(&awaited))?;
    let mut sum = Counts::new(&awaited);
    let (mut case_pairs, mut unreadable) = (Vec::new(), Vec::new());
    for part in counts {
        sum.entries += part.entries;
        sum.bytes += part.bytes;
        sum.longest_name_bytes = sum.longest_name_bytes.max(part.longest_name_bytes);
        case_pairs.push(part.case_pairs);
        unreadable.push(part.unreadable);
    }
    let (case_pairs, _) = Bounded::join(case_pairs, MOST_NAMED).finish();
    let (unreadable, others) = Bounded::join(unreadable, MOST_NAMED).finish();
    Ok(Measured {
        entries: sum.entries,
        bytes: sum.bytes,
        longest_name_bytes: sum.longest_name_bytes as u64,
        case_pairs,
        unreadable_entries: unreadable.len() as u64 + others,
        unreadable,
    })
}

struct Counts<'a> {
    awaited: &'a Awaited,
    /// Nothing is kept from root, so nothing is asked.
    reads_all: bool,
    entries: u64,
    bytes: u64,
    longest_name_bytes: usize,
    case_pairs: Bounded<String>,
    unreadable: Bounded<String>,
}

impl Counts<'_> {
    fn new(awaited: &Awaited) -> Counts<'_> {
        Counts {
            awaited,
            reads_all: Users::is_root(),
            entries: 0,
            bytes: 0,
            longest_name_bytes: 0,
            case_pairs: Bounded::new(MOST_NAMED),
            unreadable: Bounded::new(MOST_NAMED),
        }
    }

    /// Whether a file's content has been counted already by another of its names. It is forgotten
    /// with its last name, so that what is held does not grow with the tree.
    fn is_counted(&self, stat: &Stat) -> bool {
        if stat.nlink < 2 {
            return false;
        }
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        let inode = (stat.dev, stat.ino);
        match awaited.get_mut(&inode) {
            None => {
                awaited.insert(inode, stat.nlink - 1);
                false
            }
            Some(1) => awaited.remove(&inode).is_some(),
            Some(others) => {
                *others -= 1;
                true
            }
        }
    }
}

impl Visit for Counts<'_> {
    fn entry(&mut self, found: &Found<'_>) {
        self.entries += 1;
        let length = found.name.as_bytes().len();
        self.longest_name_bytes = self.longest_name_bytes.max(length);
        match found.dir.stat(found.name) {
            Ok(stat) if found.is_file() => {
                if !self.is_counted(&stat) {
                    self.bytes += stat.meta.size;
                }
                if !self.reads_all && !may_read(found.dir, found.name) {
                    self.unreadable.push(found.path().to_string());
                }
            }
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::NotFound => self.entries -= 1,
            Err(_) => self.unreadable.push(found.path().to_string()),
        }
    }

    fn names(&mut self, dir: &RelPath, names: &[Listed]) {
        let mut folded: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(at, listed)| (fold_hash(listed.name.as_bytes()), at))
            .collect();
        folded.sort_unstable();
        for pair in folded.windows(2) {
            let [(hash, one), (other_hash, other)] = [pair[0], pair[1]];
            let (one, other) = (&names[one].name, &names[other].name);
            if hash == other_hash && fold(one.as_bytes()) == fold(other.as_bytes()) {
                let pair = format!("{} and {}", dir.join(one), escape(other.as_bytes()));
                self.case_pairs.push(pair);
            }
        }
    }

    fn failed(&mut self, dir: &RelPath, _err: io::Error) {
        self.unreadable.push(dir.to_string());
    }
}

/// The name without its case: two names with the same one cannot both be on a filesystem that
/// ignores case.
fn fold(name: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(name) {
        Ok(text) if !text.is_ascii() => text.to_lowercase().into_bytes(),
        _ => name.to_ascii_lowercase(),
    }
}

fn fold_hash(name: &[u8]) -> u64 {
    let hash = blake3::hash(&fold(name));
    let first = hash.as_bytes().first_chunk::<8>().copied();
    u64::from_le_bytes(first.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, has_root};
    use super::*;
    use crate::fs::{Login, as_user};

    fn measured(tree: &Tree) -> Measured {
        measure(tree.root(), &Cancel::new()).unwrap()
    }

    #[test]
    fn entries_and_content_are_counted_each_once() {
        let tree = Tree::new();
        tree.file("a/one", "12345");
        tree.file("a/two", "123");
        std::fs::hard_link(tree.path("a/one"), tree.path("again")).unwrap();
        std::os::unix::fs::symlink("a/one", tree.path("a-long-name")).unwrap();
        let before = tree.snapshot();
        let found = measured(&tree);
        assert_eq!((found.entries, found.bytes), (5, 8));
        assert_eq!(found.longest_name_bytes, 11);
        assert_eq!((found.case_pairs, found.unreadable_entries), (vec![], 0));
        assert_eq!(tree.snapshot(), before);
    }

    #[test]
    fn a_file_with_a_name_elsewhere_is_counted_once() {
        let (tree, elsewhere) = (Tree::new(), Tree::new());
        tree.file("file", "12345");
        std::fs::hard_link(tree.path("file"), elsewhere.path("other")).unwrap();
        assert_eq!(measured(&tree).bytes, 5);
    }

    #[test]
    fn names_that_differ_by_case_alone_are_told() {
        let tree = Tree::new();
        for name in [
            "dir/File",
            "dir/file",
            "dir/other",
            "dir/ÄB",
            "dir/äb",
            "FILE",
        ] {
            tree.file(name, "");
        }
        let found = measured(&tree).case_pairs;
        assert_eq!(found, ["dir/File and file", "dir/ÄB and äb"]);
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        if !has_root() {
            return;
        }
        let tree = Tree::new();
        for file in ["open", "closed", "closed-dir/file", "listed-only/file"] {
            tree.file(file, "");
        }
        tree.chmod("closed", 0o600);
        tree.chmod("closed-dir", 0o700);
        tree.chmod("listed-only", 0o744);
        assert_eq!(measured(&tree).unreadable_entries, 0);
        let nobody = Login::of("nobody").unwrap();
        let found = as_user(&nobody, || measured(&tree)).unwrap();
        assert_eq!(
            found.unreadable,
            ["closed", "closed-dir", "listed-only/file"]
        );
        assert_eq!(found.unreadable_entries, 3);
        assert_eq!(found.entries, 5);
    }
}
