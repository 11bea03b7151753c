//! What a scan digests, what it takes from the state, and what it refuses to conclude.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::scanner::{RACY_WINDOW_NS, rules_key};
use super::*;
use crate::events::{Cancel, Side, Silent};
use crate::filter::Rules;
use crate::fs::{Dir, XattrSelect, stat_path};
use crate::manifest::links::Links;
use crate::manifest::listing::SizeLimits;
use crate::manifest::owners::KeepOwners;
use crate::manifest::state::tests::state_in;
use crate::manifest::state::{DirFact, State};
use crate::options::{Fidelity, RuleText};

/// Longer than any change is racy.
const SETTLED: Duration = Duration::from_nanos(3 * RACY_WINDOW_NS);

pub(super) fn rules(content: bool) -> RecordRules {
    RecordRules {
        fidelity: Fidelity::default(),
        granularity_ns: 1,
        content,
    }
}

/// A scan of `root` on this thread alone.
fn scan_with(root: &Path, rules: RecordRules, filter: &Rules, state: Option<&State>) -> Scan {
    let dir = Dir::open_root(root).unwrap();
    let links = Links::default();
    let lister = Lister {
        root: &dir,
        rules,
        filter,
        sizes: SizeLimits::default(),
        side: Side::Source,
        owners: &KeepOwners,
        modes: &|_, mode| mode,
        fake_super: false,
        only: None,
        links: &links,
        lost: None,
        state,
        rehash: false,
        cancel: &Cancel::new(),
    };
    let options = ScanOptions {
        threads: 1,
        one_file_system: false,
        sink: None,
        mark: None,
    };
    scan(&lister, options, &Silent).unwrap()
}

fn scan_of(root: &Path, content: bool, state: Option<&State>) -> Scan {
    scan_with(root, rules(content), &Rules::parse(&[]).unwrap(), state)
}

fn set_mtime(path: &Path, secs: u64) {
    let time = UNIX_EPOCH + Duration::from_secs(secs);
    let file = std::fs::File::open(path).unwrap();
    file.set_modified(time).unwrap();
}

/// Makes a tree with a hard link in it; the names are made in this order.
fn plant(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    std::fs::create_dir(root.join("d")).unwrap();
    for name in names {
        std::fs::write(root.join(name), name).unwrap();
        set_mtime(&root.join(name), 1_000_000_000);
    }
    std::fs::hard_link(root.join("d/a"), root.join("linked")).unwrap();
    set_mtime(&root.join("d"), 1_000_000_001);
    set_mtime(root, 1_000_000_002);
    dir
}

#[test]
fn copies_have_equal_digests_whatever_the_order_they_were_made_in() {
    let one = plant(&["b", "d/a", "d/c"]);
    let other = plant(&["d/c", "d/a", "b"]);
    let digest = |dir: &tempfile::TempDir| scan_of(dir.path(), true, None).digest(&rules(true));
    assert_eq!(digest(&one), digest(&other));

    let mode = std::fs::Permissions::from_mode(0o4711);
    std::fs::set_permissions(other.path().join("d/c"), mode).unwrap();
    assert_ne!(digest(&one), digest(&other));
}

#[test]
fn names_that_share_a_file_are_part_of_the_digest() {
    let one = plant(&["b", "d/a"]);
    let other = plant(&["b", "d/a"]);
    std::fs::remove_file(other.path().join("linked")).unwrap();
    std::fs::write(other.path().join("linked"), "d/a").unwrap();
    set_mtime(&other.path().join("linked"), 1_000_000_000);
    set_mtime(other.path(), 1_000_000_002);
    let (one, other) = (
        scan_of(one.path(), false, None),
        scan_of(other.path(), false, None),
    );
    let deep = |scan: &Scan| scan.tree.node(NodeId::ROOT).deep;
    assert_eq!(deep(&one), deep(&other), "the records are the same");
    assert_ne!(one.digest(&rules(false)), other.digest(&rules(false)));
}

#[test]
fn an_unchanged_directory_is_taken_from_the_state() {
    let (dir, state_dir) = (plant(&["b", "d/a"]), tempfile::tempdir().unwrap());
    std::thread::sleep(SETTLED);
    let state = state_in(state_dir.path());
    let first = scan_of(dir.path(), false, Some(&state));
    state.store(first.update, &[]).unwrap();

    // A digest that no reading could give shows whether the directory was read.
    let key = rules_key(&rules(false), false, XattrSelect::default());
    let stat = stat_path(&dir.path().join("d")).unwrap();
    let known = state.dir(key, &stat).unwrap();
    let planted = DirFact {
        buckets: Box::default(),
        shallow: Digest::of(b"planted"),
        ..known
    };
    let mut update = StateUpdate::default();
    update.dir(key, &stat, planted.clone());
    state.store(update, &[]).unwrap();
    let shallow = |state: &State| {
        let scan = scan_of(dir.path(), false, Some(state));
        let id = scan.tree.find(&RelPath::new(b"d").unwrap()).unwrap();
        scan.tree.node(id).shallow
    };
    assert_eq!(shallow(&state), planted.shallow);

    let mode = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(dir.path().join("d/a"), mode).unwrap();
    assert_ne!(shallow(&state), planted.shallow);
}

#[test]
fn a_directory_with_a_change_of_this_moment_is_not_remembered() {
    let dir = tempfile::tempdir().unwrap();
    for attempt in 0.. {
        let written = Instant::now();
        std::fs::write(dir.path().join("f"), attempt.to_string()).unwrap();
        let scan = scan_of(dir.path(), true, None);
        // On a busy machine the moment can be over before the scan begins.
        if written.elapsed() < Duration::from_nanos(RACY_WINDOW_NS / 2) {
            assert!(scan.update.is_empty());
            break;
        }
        assert!(attempt < 1000, "this machine never was fast enough");
    }
    std::thread::sleep(SETTLED);
    assert!(!scan_of(dir.path(), true, None).update.is_empty());
}

#[test]
fn a_change_behind_an_old_time_is_found_by_its_hash() {
    let (dir, state_dir) = (plant(&["b", "d/a"]), tempfile::tempdir().unwrap());
    std::thread::sleep(SETTLED);
    let state = state_in(state_dir.path());
    let first = scan_of(dir.path(), true, Some(&state));
    state.store(first.update, &[]).unwrap();
    let before = scan_of(dir.path(), false, Some(&state)).digest(&rules(false));

    std::fs::write(dir.path().join("b"), "B").unwrap();
    set_mtime(&dir.path().join("b"), 1_000_000_000);
    let digest = |state| scan_of(dir.path(), false, state).digest(&rules(false));
    assert_eq!(digest(None), before, "size and time are as they were");
    assert_ne!(digest(Some(&state)), before);
}

#[test]
fn an_unreadable_directory_is_a_problem_and_flagged() {
    let dir = plant(&["b", "d/a"]);
    // Without these even root may not read what its mode forbids; the rights are this thread's.
    let mut rights = capabilities(None).unwrap();
    rights.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    set_capabilities(None, rights).unwrap();
    let locked = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(dir.path().join("d"), locked).unwrap();
    let scan = scan_of(dir.path(), false, None);
    let open = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(dir.path().join("d"), open).unwrap();

    let path = RelPath::new(b"d").unwrap();
    let id = scan.tree.find(&path).unwrap();
    assert!(scan.tree.node(id).flags.unreadable);
    assert!(!scan.tree.node(NodeId::ROOT).flags.unreadable);
    assert_eq!(scan.problems.len(), 1);
    assert_eq!(scan.problems[0].path, path);
    assert_eq!(scan.problems[0].act, "read directory");
}

#[test]
fn what_a_rule_excludes_is_not_digested_and_marks_its_directory() {
    let (one, other) = (plant(&["b", "d/a"]), plant(&["b", "d/a", "d/x.o"]));
    let filter = Rules::parse(&[RuleText(b"- *.o".to_vec())]).unwrap();
    let scan = |dir: &tempfile::TempDir| scan_with(dir.path(), rules(false), &filter, None);
    let (one, other) = (scan(&one), scan(&other));
    assert_eq!(one.digest(&rules(false)), other.digest(&rules(false)));
    let hides = |scan: &Scan, path: &str| {
        let id = scan.tree.find(&RelPath::new(path.as_bytes()).unwrap());
        scan.tree.node(id.unwrap()).flags.hides
    };
    assert!(!hides(&one, "d"));
    assert!(hides(&other, "d"));
    assert!(hides(&other, ""), "a directory hides what is hidden in it");
}

#[test]
fn an_unfinished_file_of_ours_is_listed_apart() {
    let dir = plant(&["b", "d/a"]);
    std::fs::write(dir.path().join("d/.a.cutover-01234567"), "half").unwrap();
    let scan = scan_of(dir.path(), false, None);
    let name = Name::new(b".a.cutover-01234567").unwrap();
    assert_eq!(scan.leftovers, [(RelPath::new(b"d").unwrap(), name)]);
    assert_eq!(scan.entries, 4, "b, d, d/a and linked");
}

#[test]
fn many_threads_find_what_one_finds() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..200 {
        let sub = dir.path().join(format!("d{}/e{i}", i % 7));
        std::fs::create_dir_all(&sub).unwrap();
        std::fs::write(sub.join("f"), i.to_string()).unwrap();
    }
    let one = scan_of(dir.path(), true, None);
    let root = Dir::open_root(dir.path()).unwrap();
    let links = Links::default();
    let lister = Lister {
        root: &root,
        rules: rules(true),
        filter: &Rules::parse(&[]).unwrap(),
        sizes: SizeLimits::default(),
        side: Side::Source,
        owners: &KeepOwners,
        modes: &|_, mode| mode,
        fake_super: false,
        only: None,
        links: &links,
        lost: None,
        state: None,
        rehash: false,
        cancel: &Cancel::new(),
    };
    let options = ScanOptions {
        threads: 8,
        one_file_system: false,
        sink: None,
        mark: None,
    };
    let many = scan(&lister, options, &Silent).unwrap();
    assert_eq!(one.entries, many.entries);
    assert_eq!(one.digest(&rules(true)), many.digest(&rules(true)));
}
