//! What a watch hears of a tree that is changed at random suffices to know the tree: somebody who
//! reads only what it says to read ends up with what is there. This is the engine's way of using it,
//! in a hundred lines and without the engine.

use std::collections::BTreeMap;
use std::fs::{Permissions, create_dir, set_permissions, write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cutover::fs::{Dir, ListScratch};
use cutover::path::{Name, RelPath};
use cutover::watch::{Limits, Pending, Reach, Watcher};

use crate::churner::{Bounds, Churner};
use crate::common::lab::Lab;
use crate::common::meanwhile::meanwhile;

/// What is remembered of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    ino: u64,
    mode: u32,
    is_dir: bool,
    /// Size and times of a file that has one name. A change under another name is not heard here.
    content: Option<(u64, i64, i64)>,
}

/// Follows a tree by what its watch says.
struct Follower {
    path: PathBuf,
    root: Dir,
    watcher: Watcher,
    pending: Pending,
    /// The directories that are known, with what was in them when they were listed last.
    dirs: BTreeMap<RelPath, BTreeMap<Name, Seen>>,
    overflows: u64,
    /// Called with each directory between its mark and its listing.
    at_the_mark: fn(&Path),
}

impl Follower {
    /// Marks and lists everything.
    fn new(root: &Path) -> Follower {
        Follower::disturbed(root, |_| ())
    }

    /// The same, and what happens to each directory at the worst moment.
    fn disturbed(root: &Path, at_the_mark: fn(&Path)) -> Follower {
        let mut follower = Follower {
            path: root.into(),
            root: Dir::open_root(root).unwrap(),
            watcher: Watcher::new().unwrap(),
            pending: Pending::new(Duration::from_millis(4), Duration::from_millis(40)),
            dirs: BTreeMap::new(),
            overflows: 0,
            at_the_mark,
        };
        follower.rescan();
        follower
    }

    /// Marks and lists everything, and has no mark left that stands for nothing.
    fn rescan(&mut self) {
        self.watcher.begin_rescan();
        self.scan(&RelPath::root());
        self.watcher.end_rescan();
    }

    /// Marks and lists a directory and all below it.
    fn scan(&mut self, path: &RelPath) {
        self.forget(path);
        let Ok(dir) = self.root.open_dir(path) else {
            return;
        };
        self.watcher.mark(&dir, path).unwrap();
        (self.at_the_mark)(&self.path.join(path.as_os_str()));
        let Some(entries) = list(&dir) else {
            return;
        };
        self.dirs.insert(path.clone(), entries.clone());
        for (name, seen) in entries {
            if seen.is_dir {
                self.scan(&path.join(&name));
            }
        }
    }

    /// Lists a directory again, without what is below it.
    fn list_again(&mut self, path: &RelPath) {
        let Some(before) = self.dirs.get(path).cloned() else {
            return;
        };
        let dir = self.root.open_dir(path).ok();
        let Some(entries) = dir.and_then(|dir| list(&dir)) else {
            return self.forget(path);
        };
        self.dirs.insert(path.clone(), entries.clone());
        let was_dir = |name: &Name| before.get(name).is_some_and(|seen| seen.is_dir);
        let is_dir = |name: &Name| entries.get(name).is_some_and(|seen| seen.is_dir);
        for name in before.keys().filter(|name| !is_dir(name)) {
            self.forget(&path.join(name));
        }
        for name in entries.keys().filter(|name| is_dir(name) && !was_dir(name)) {
            self.scan(&path.join(name));
        }
    }

    fn forget(&mut self, top: &RelPath) {
        self.dirs.retain(|path, _| !path.starts_with(top));
    }

    fn hear(&mut self) {
        let heard = self.watcher.read(&mut self.pending).unwrap();
        self.overflows += u64::from(heard.overflowed);
    }

    /// Reads again what is ready, or everything that waits.
    fn round(&mut self, all: bool) {
        let dirty = match all {
            true => self.pending.take_all(),
            false => self.pending.take_ready(Instant::now()),
        };
        for (path, reach) in dirty.iter() {
            let is_known = path
                .parent()
                .is_none_or(|above| self.dirs.contains_key(&above));
            match reach {
                Reach::Listing => self.list_again(path),
                Reach::Subtree if path.is_root() => self.rescan(),
                Reach::Subtree if is_known => self.scan(path),
                Reach::Subtree => {}
            }
        }
    }

    /// Rounds until nothing is heard any more.
    fn settle(&mut self) {
        loop {
            self.hear();
            if self.pending.is_empty() {
                return;
            }
            self.round(true);
        }
    }

    /// Where what is known is not what is there, one line for each place.
    fn mistakes(&self, root: &Path) -> Vec<String> {
        let truth = Follower::new(root).dirs;
        let mut lines = Vec::new();
        let unheard = self.dirs.keys().filter(|path| !truth.contains_key(path));
        lines.extend(unheard.map(|path| format!("{path}: gone, and still known")));
        for (path, there) in &truth {
            let Some(known) = self.dirs.get(path) else {
                lines.push(format!("{path}: not known"));
                continue;
            };
            let mut names: Vec<_> = there.keys().chain(known.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let (there, known) = (there.get(name), known.get(name));
                if !is_same(there, known) {
                    lines.push(format!("{path}: {name} is {there:?}, known as {known:?}"));
                }
            }
        }
        lines
    }
}

fn is_same(there: Option<&Seen>, known: Option<&Seen>) -> bool {
    let (Some(there), Some(known)) = (there, known) else {
        return there == known;
    };
    let content = there.content.is_none() || known.content.is_none();
    (there.ino, there.is_dir) == (known.ino, known.is_dir)
        && (content || (there.content, there.mode) == (known.content, known.mode))
}

/// What is in a directory; `None` where it has just been deleted.
fn list(dir: &Dir) -> Option<BTreeMap<Name, Seen>> {
    let mut names = Vec::new();
    let mut visit = |name: &[u8], _, _| names.push(Name::new(name).unwrap());
    dir.list(&mut ListScratch::new(), &mut visit).ok()?;
    let stats = names.into_iter().filter_map(|name| {
        let stat = dir.stat(&name).ok()?;
        let is_dir = stat.meta.kind == cutover::entry::EntryKind::Dir;
        let has_one_name = !is_dir && stat.nlink == 1;
        let mtime = stat.meta.mtime;
        let seen = Seen {
            ino: stat.ino,
            mode: stat.meta.mode.into(),
            is_dir,
            content: has_one_name.then(|| (stat.meta.size, mtime.secs, mtime.nanos.into())),
        };
        Some((name, seen))
    });
    Some(stats.collect())
}

/// Fails unless what is known is what is there, and nothing else is marked.
fn assert_known(follower: &mut Follower, churner: &Churner, root: &Path) {
    follower.settle();
    let mistakes = follower.mistakes(root);
    let report = churner.report();
    assert!(mistakes.is_empty(), "{}\n{report}", mistakes.join("\n"));
    follower.rescan();
    let (marks, dirs) = (follower.watcher.directories(), follower.dirs.len());
    assert_eq!(marks, dirs as u64, "{report}");
}

#[test]
fn whoever_reads_what_is_heard_knows_the_tree() {
    for seed in 0..4 {
        let lab = Lab::with_source("d a/b/c\n f a/file 'text'");
        let mut follower = Follower::new(&lab.src);
        let mut churner = Churner::new(&lab.src, seed, Bounds::default());
        let listen = |_| {
            std::thread::sleep(Duration::from_millis(1));
            follower.hear();
            follower.round(false);
        };
        meanwhile(listen, || {
            churner.churn_for(Duration::from_secs(2), Duration::from_micros(400));
        });
        assert_known(&mut follower, &churner, &lab.src);
    }
}

/// Fails when a directory is marked after it is listed.
#[test]
fn changes_between_a_mark_and_the_listing_are_heard() {
    let lab = Lab::with_source("d a/b/c\n f a/file 'text'\n d d");
    let mut follower = Follower::disturbed(&lab.src, |dir| {
        write(dir.join("file"), "another text").unwrap();
        // In that there is none, or it would never end.
        if !dir.ends_with("new") {
            let _ = create_dir(dir.join("new"));
        }
    });
    follower.settle();
    let mistakes = follower.mistakes(&lab.src);
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

#[test]
fn whoever_did_not_listen_in_time_knows_the_tree_by_reading_it_all() {
    let most = Limits::read().unwrap().max_queued_events;
    if most > 1 << 18 {
        eprintln!("skipped: the kernel keeps too many events to force an overflow");
        return;
    }
    let lab = Lab::with_source("d a/b/c\n f a/one 'text'\n f a/two 'text'");
    let mut follower = Follower::new(&lab.src);
    let mut churner = Churner::new(&lab.src, 4, Bounds::default());
    for number in 0..most {
        // In turn, since equal events one after the other are made one.
        let name = ["a/one", "a/two"][number as usize % 2];
        let mode = Permissions::from_mode(0o600 + number as u32 % 3);
        set_permissions(lab.src.join(name), mode).unwrap();
    }
    churner.acts(300);
    assert_known(&mut follower, &churner, &lab.src);
    assert_eq!(follower.overflows, 1);
}
