//! A scan that is kept and renewed is the scan that would be made anew.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::super::scanner::RACY_WINDOW_NS;
use super::super::tests::rules;
use super::*;
use crate::events::{Cancel, Side, Silent};
use crate::filter::Rules;
use crate::fs::Dir;
use crate::manifest::links::Links;
use crate::manifest::listing::SizeLimits;
use crate::manifest::owners::KeepOwners;

/// A root, and what was known of it last.
struct Kept {
    root: tempfile::TempDir,
    links: Links,
    scan: Option<Scan>,
}

impl Kept {
    fn new() -> Kept {
        Kept {
            root: tempfile::tempdir().unwrap(),
            links: Links::tracked(),
            scan: None,
        }
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join(name)
    }

    fn dir(&self, name: &str) {
        fs::create_dir_all(self.at(name)).unwrap();
    }

    fn file(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    /// Reads what is said to be stale, and holds it against what is read anew. Returns whether
    /// both are the same, and how many directories are known.
    fn renew(&mut self, dirs: &[&str]) -> (bool, usize) {
        let mut scan = self.scan.take();
        with_lister(self.root.path(), &self.links, |lister, options| {
            let stale = Stale {
                dirs: dirs
                    .iter()
                    .map(|dir| RelPath::new(dir.as_bytes()).unwrap())
                    .collect(),
                trees: BTreeSet::new(),
            };
            match &mut scan {
                Some(scan) => scan.renew(lister, options, &stale, &Silent).unwrap(),
                None => scan = Some(super::super::scan(lister, options, &Silent).unwrap()),
            }
        });
        let fresh = with_lister(self.root.path(), &Links::default(), |lister, options| {
            super::super::scan(lister, options, &Silent).unwrap()
        });
        let known = scan.unwrap();
        let digest = |scan: &Scan| (scan.digest(&rules(false)), scan.entries, scan.bytes);
        let same = digest(&known) == digest(&fresh);
        let dirs = known.tree.len();
        self.scan = Some(known);
        (same, dirs)
    }
}

fn with_lister<T>(
    root: &Path,
    links: &Links,
    act: impl FnOnce(&Lister<'_>, ScanOptions<'_>) -> T,
) -> T {
    let dir = Dir::open_root(root).unwrap();
    let lister = Lister {
        root: &dir,
        rules: rules(false),
        filter: &Rules::parse(&[]).unwrap(),
        sizes: SizeLimits::default(),
        side: Side::Source,
        owners: &KeepOwners,
        modes: &|_, mode| mode,
        fake_super: false,
        only: None,
        links,
        lost: None,
        state: None,
        rehash: false,
        cancel: &Cancel::new(),
    };
    let options = ScanOptions {
        threads: 2,
        one_file_system: false,
        sink: None,
        mark: None,
    };
    act(&lister, options)
}

#[test]
fn what_is_not_said_to_be_stale_is_not_read() {
    let mut kept = Kept::new();
    kept.dir("a");
    kept.dir("b");
    kept.renew(&[]);
    kept.file("a/1", "heard");
    kept.file("b/1", "not heard");
    assert!(!kept.renew(&["a"]).0);
    assert!(kept.renew(&["b"]).0);
}

#[test]
fn directories_that_come_go_and_move_are_known_as_they_are() {
    let mut kept = Kept::new();
    kept.dir("a/deep/er");
    kept.file("a/deep/er/1", "one");
    kept.dir("b");
    kept.renew(&[]);
    fs::rename(kept.at("a/deep"), kept.at("b/deep")).unwrap();
    assert_eq!(kept.renew(&["a", "b"]), (true, 5));
    fs::remove_dir_all(kept.at("b")).unwrap();
    kept.dir("b/new");
    // Said of both: the new one may have got the former's inode.
    assert_eq!(kept.renew(&["", "b"]), (true, 4));
    fs::remove_dir_all(kept.at("a")).unwrap();
    kept.file("a", "no directory any more");
    assert_eq!(kept.renew(&["a", ""]), (true, 3));
}

#[test]
fn a_change_through_one_name_of_a_file_is_seen_at_its_other_names() {
    let mut kept = Kept::new();
    kept.dir("a");
    kept.dir("b");
    kept.file("a/1", "one");
    fs::hard_link(kept.at("a/1"), kept.at("b/2")).unwrap();
    kept.renew(&[]);
    kept.file("b/2", "written through the other name");
    assert!(kept.renew(&["b"]).0);
    fs::set_permissions(kept.at("a/1"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(kept.renew(&["a"]).0);
}

#[test]
fn a_new_name_of_a_file_makes_its_old_one_a_link_too() {
    let mut kept = Kept::new();
    kept.dir("a");
    kept.dir("b");
    kept.file("a/1", "one");
    kept.renew(&[]);
    fs::hard_link(kept.at("a/1"), kept.at("b/2")).unwrap();
    assert!(kept.renew(&["b"]).0);
    fs::remove_file(kept.at("a/1")).unwrap();
    assert!(kept.renew(&["a"]).0);
    fs::hard_link(kept.at("b/2"), kept.at("b/3")).unwrap();
    assert!(kept.renew(&["b"]).0);
    fs::remove_dir_all(kept.at("b")).unwrap();
    assert!(kept.renew(&[""]).0);
}

#[test]
fn a_file_with_names_outside_has_all_read_once_and_not_again() {
    let mut kept = Kept::new();
    kept.dir("a");
    kept.dir("b");
    kept.file("a/1", "one");
    let outside = tempfile::tempdir_in(kept.root.path().parent().unwrap()).unwrap();
    fs::hard_link(kept.at("a/1"), outside.path().join("1")).unwrap();
    // What has just changed may change while it is read.
    thread::sleep(Duration::from_nanos(2 * RACY_WINDOW_NS));
    kept.renew(&[]);
    kept.file("b/unheard", "of");
    kept.file("a/2", "two");
    assert!(
        !kept.renew(&["a"]).0,
        "what nobody told of is not looked for"
    );
}

#[test]
fn a_name_that_comes_in_from_outside_makes_a_file_a_link() {
    let mut kept = Kept::new();
    kept.dir("a");
    kept.file("a/1", "one");
    let outside = tempfile::tempdir_in(kept.root.path().parent().unwrap()).unwrap();
    let away = outside.path().join("away");
    fs::create_dir(&away).unwrap();
    fs::hard_link(kept.at("a/1"), away.join("1")).unwrap();
    kept.renew(&[]);
    fs::rename(&away, kept.at("b")).unwrap();
    assert!(kept.renew(&[""]).0, "moved in");
    fs::rename(kept.at("b"), &away).unwrap();
    assert!(kept.renew(&[""]).0, "moved out");
    fs::rename(&away, kept.at("c")).unwrap();
    assert!(kept.renew(&[""]).0, "moved in again");
}

#[test]
fn a_name_that_comes_where_all_has_been_read_is_found_the_next_time() {
    let mut kept = Kept::new();
    for dir in ["a", "b"] {
        kept.dir(dir);
        kept.file(&format!("{dir}/1"), dir);
    }
    let first = Mutex::new(None);
    // The one that is marked second is listed when the first has been.
    let link_back = |_: &Dir, path: &RelPath| {
        let Some(name) = path.file_name() else {
            return;
        };
        let mut first = first.lock().unwrap();
        match first.take() {
            None => *first = Some(kept.root.path().join(name.as_os_str())),
            Some(read) => {
                let new = kept.root.path().join(name.as_os_str()).join("2");
                fs::hard_link(read.join("1"), new).unwrap();
            }
        }
    };
    let scan = with_lister(kept.root.path(), &kept.links, |lister, options| {
        let options = ScanOptions {
            threads: 1,
            mark: Some(&link_back),
            ..options
        };
        scan(lister, options, &Silent).unwrap()
    });
    let outdated = scan.outdated.clone();
    kept.scan = Some(scan);
    let outdated: Vec<_> = outdated
        .iter()
        .map(|dir| dir.as_os_str().to_str().unwrap())
        .collect();
    assert!(kept.renew(&outdated).0, "read again: {outdated:?}");
}

#[test]
fn a_directory_that_can_be_read_again_is_known_again() {
    let mut kept = Kept::new();
    kept.dir("a/locked");
    kept.file("a/locked/1", "one");
    // Without these even root may not read what its mode forbids; the rights are this thread's.
    let rights = capabilities(None).unwrap();
    let mut fewer = rights;
    fewer.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    let locked = kept.at("a/locked");
    let set_mode = |mode| fs::set_permissions(&locked, fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o000);
    set_capabilities(None, fewer).unwrap();
    kept.renew(&[]);
    set_capabilities(None, rights).unwrap();
    set_mode(0o700);
    assert!(kept.renew(&["a"]).0);
}

#[test]
fn a_tree_that_is_stale_is_read_whole() {
    let mut kept = Kept::new();
    kept.dir("a/b/c");
    kept.renew(&[]);
    kept.file("a/b/c/1", "one");
    let mut scan = kept.scan.take().unwrap();
    with_lister(kept.root.path(), &kept.links, |lister, options| {
        let stale = Stale {
            dirs: BTreeSet::new(),
            trees: BTreeSet::from([RelPath::new(b"a").unwrap()]),
        };
        scan.renew(lister, options, &stale, &Silent).unwrap();
    });
    kept.scan = Some(scan);
    assert!(kept.renew(&[]).0);
}
