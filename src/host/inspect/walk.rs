//! Goes over all that is below a root, on several threads: what the questions about a tree's
//! content share.
//!
//! Unlike the scan of `manifest`, nothing is digested or kept: a question looks at an entry and
//! counts, or opens it. What is ours (unfinished files, trash, markers) takes no part, as it takes
//! none in a sync.

use std::fs::File;
use std::io;
use std::panic::resume_unwind;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ScopedJoinHandle;

use crate::entry::EntryKind;
use crate::error::Result;
use crate::events::Cancel;
use crate::fs::{Dir, ListScratch, Stat, is_gone, is_own_name, is_temp};
use crate::path::{Name, RelPath};

/// More threads than this wait for each other at the disk, and there may be other roots and a
/// service on the host.
const MOST_THREADS: usize = 4;

/// What is asked of a tree. Each thread has a visitor of its own, so none needs a lock; the
/// visitors are handed back at the end.
pub(super) trait Visit: Send {
    /// Takes an entry. Those of one directory come one after the other, by name.
    fn entry(&mut self, found: &Found<'_>);

    /// Whether a directory's entries are wanted as well; asked after it was itself taken.
    fn enters(&self, _name: &Name) -> bool {
        true
    }

    /// Takes the names in a directory, sorted, before its entries.
    fn names(&mut self, _dir: &RelPath, _names: &[Listed]) {}

    /// Takes a directory that cannot be listed. One that is gone by now is none.
    fn failed(&mut self, _dir: &RelPath, _err: io::Error) {}
}

/// A name as a directory lists it.
pub(super) struct Listed {
    /// The name.
    pub(super) name: Name,
    /// What it is, where the filesystem tells.
    kind: Option<EntryKind>,
}

/// An entry that a walk has come to.
pub(super) struct Found<'a> {
    /// The directory that holds it.
    pub(super) dir: &'a Dir,
    /// Where that is.
    pub(super) at: &'a RelPath,
    /// Its name there.
    pub(super) name: &'a Name,
    /// What it is.
    pub(super) kind: EntryKind,
}

impl Found<'_> {
    /// Where it is.
    pub(super) fn path(&self) -> RelPath {
        self.at.join(self.name)
    }

    /// Whether it is a regular file.
    pub(super) fn is_file(&self) -> bool {
        self.kind == EntryKind::File
    }

    /// Opens the regular file, and says what it is.
    pub(super) fn open(&self) -> io::Result<(File, Stat)> {
        self.dir.open_listed_file(self.name)
    }
}

/// Walks everything below `root` with visitors that `visitor` makes, one for each thread.
///
/// A directory's names are held while it is visited, and the paths of directories that wait, of
/// which the deepest comes first; nothing else is.
pub(super) fn walk<V: Visit>(
    root: &Dir,
    cancel: &Cancel,
    visitor: impl Fn() -> V,
) -> Result<Vec<V>> {
    let walk = Walk {
        root,
        cancel,
        shared: Mutex::new(Shared {
            stack: vec![RelPath::root()],
            busy: 0,
        }),
        wake: Condvar::new(),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let visitors = std::thread::scope(|scope| {
        let walk = &walk;
        let start = |_| {
            let visitor = visitor();
            scope.spawn(move || walk.work(visitor))
        };
        let workers: Vec<_> = (0..threads.min(MOST_THREADS)).map(start).collect();
        let finish = |worker: ScopedJoinHandle<'_, V>| {
            worker.join().unwrap_or_else(|panic| resume_unwind(panic))
        };
        workers.into_iter().map(finish).collect()
    });
    cancel.check()?;
    Ok(visitors)
}

struct Walk<'a> {
    root: &'a Dir,
    cancel: &'a Cancel,
    shared: Mutex<Shared>,
    wake: Condvar,
}

struct Shared {
    /// Directories that wait.
    stack: Vec<RelPath>,
    /// Threads that may still find some.
    busy: usize,
}

impl Walk<'_> {
    fn work<V: Visit>(&self, mut visitor: V) -> V {
        let mut scratch = ListScratch::new();
        while let Some(path) = self.next() {
            let subdirs = self.visit(&path, &mut scratch, &mut visitor);
            let mut shared = self.lock();
            shared.busy -= 1;
            shared.stack.extend(subdirs);
            self.wake.notify_all();
        }
        visitor
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<RelPath> {
        let mut shared = self.lock();
        loop {
            if self.cancel.is_cancelled() {
                return None;
            }
            if let Some(path) = shared.stack.pop() {
                shared.busy += 1;
                return Some(path);
            }
            if shared.busy == 0 {
                return None;
            }
            let woken = self.wake.wait(shared);
            shared = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Shows a directory's entries to the visitor; returns the directories among them.
    fn visit<V: Visit>(
        &self,
        at: &RelPath,
        scratch: &mut ListScratch,
        visitor: &mut V,
    ) -> Vec<RelPath> {
        let opened = self.root.open_dir(at);
        let listed = opened.and_then(|dir| Ok((list(&dir, at, scratch)?, dir)));
        let (names, dir) = match listed {
            Ok(listed) => listed,
            Err(err) => {
                if !is_gone(&err) {
                    visitor.failed(at, err);
                }
                return Vec::new();
            }
        };
        visitor.names(at, &names);
        let mut subdirs = Vec::new();
        for Listed { name, kind } in &names {
            if self.cancel.is_cancelled() {
                break;
            }
            let kind = kind.or_else(|| dir.stat(name).ok().map(|stat| stat.meta.kind));
            let Some(kind) = kind else { continue };
            let (dir, at) = (&dir, at);
            visitor.entry(&Found {
                dir,
                at,
                name,
                kind,
            });
            if kind == EntryKind::Dir && visitor.enters(name) {
                subdirs.push(at.join(name));
            }
        }
        subdirs
    }
}

fn list(dir: &Dir, at: &RelPath, scratch: &mut ListScratch) -> io::Result<Vec<Listed>> {
    let mut names = Vec::new();
    dir.list(scratch, &mut |name, _, kind| {
        // Nothing but a name from the kernel: it cannot be invalid.
        if !is_ours(at, name)
            && let Ok(name) = Name::new(name)
        {
            names.push(Listed { name, kind });
        }
    })?;
    names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(names)
}

/// Whether an entry is ours, not the user's.
pub(super) fn is_ours(dir: &RelPath, name: &[u8]) -> bool {
    is_temp(name) || (dir.is_root() && is_own_name(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::testing::Tree;
    use super::*;

    #[derive(Default)]
    struct Collect(Vec<String>);

    impl Visit for Collect {
        fn entry(&mut self, found: &Found<'_>) {
            self.0
                .push(format!("{}{}", found.kind.letter(), found.path()));
        }

        fn enters(&self, name: &Name) -> bool {
            name.as_bytes() != b"closed"
        }

        fn failed(&mut self, dir: &RelPath, err: io::Error) {
            self.0.push(format!("{dir}: {err}"));
        }
    }

    fn entries(tree: &Tree) -> Vec<String> {
        let visitors = walk(&tree.dir(), &Cancel::new(), Collect::default).unwrap();
        let mut all: Vec<_> = visitors.into_iter().flat_map(|visitor| visitor.0).collect();
        all.sort();
        all
    }

    #[test]
    fn everything_is_visited_once_and_symlinks_lead_nowhere() {
        let tree = Tree::new();
        tree.file("a/b/file", "");
        tree.file("closed/not seen", "");
        tree.file("top", "");
        symlink("/", tree.path("a/link")).unwrap();
        tree.fifo("fifo");
        let expected = [
            "Sfifo",
            "da",
            "da/b",
            "dclosed",
            "fa/b/file",
            "ftop",
            "La/link",
        ];
        let mut expected = expected.map(str::to_owned);
        expected.sort();
        assert_eq!(entries(&tree), expected);
    }

    #[test]
    fn what_is_ours_takes_no_part() {
        let tree = Tree::new();
        tree.file(".cutover-trash/run/file", "");
        tree.file(".cutover-marker", "");
        tree.file(".cutover-kept/id/file", "");
        tree.file("dir/.file.cutover-0123abcd", "");
        tree.file("dir/.cutover-marker", "");
        assert_eq!(entries(&tree), ["ddir", "fdir/.cutover-marker"]);
    }

    #[test]
    fn many_directories_are_all_found_by_all_threads() {
        let tree = Tree::new();
        for n in 0..300 {
            tree.file(&format!("{}/{}/{n}", n % 7, n % 31), "");
        }
        let files = entries(&tree).iter().filter(|e| e.starts_with('f')).count();
        assert_eq!(files, 300);
    }

    #[test]
    fn a_cancelled_walk_is_an_error() {
        let cancel = Cancel::new();
        cancel.cancel();
        let tree = Tree::new();
        assert!(walk(&tree.dir(), &cancel, Collect::default).is_err());
    }
}
