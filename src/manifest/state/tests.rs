//! When the state is believed, and what becomes of a database that cannot be.

use std::process::Command;
use std::time::Duration;

use super::*;
use crate::delta::{BlockSize, SumBuilder};
use crate::digest::ContentHash;
use crate::entry::Timestamp;
use crate::fs::{self, Dir};
use crate::path::RelPath;

/// Set in the process that runs a test with a state directory of its own.
const INSIDE: &str = "CUTOVER_TEST_STATE_INSIDE";

/// A database in a directory of the caller's.
pub(in crate::manifest) fn state_in(dir: &Path) -> State {
    State::of(open_database(&dir.join("state.redb")).unwrap())
}

/// Runs a test once more in a process whose state directory is new; `true` in that process.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let home = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--quiet"])
        .arg(format!("manifest::state::tests::{test}"))
        .env("XDG_STATE_HOME", home.path())
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success());
    false
}

fn stat_of(path: &Path) -> Stat {
    fs::stat_path(path).unwrap()
}

/// A file's stat with another inode number, for facts of files that need not be there.
fn fact(ino: u64) -> FileFact {
    FileFact {
        ino,
        size: ino * 10,
        mtime: Timestamp { secs: -1, nanos: 7 },
        ctime: Timestamp { secs: 5, nanos: 9 },
        hash: ContentHash::of(&ino.to_le_bytes()),
    }
}

fn facts_in(state: &State, dir: &Stat) -> Vec<FileFact> {
    state.facts(dir).iter().collect()
}

fn dir_fact(text: &str) -> DirFact {
    DirFact {
        buckets: Box::new([7, u64::MAX]),
        stats: Digest::of(text.as_bytes()),
        shallow: Digest::of(b"shallow"),
    }
}

#[test]
fn a_fact_is_believed_only_of_a_file_that_is_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    std::fs::write(&path, "one").unwrap();
    let before = stat_of(&path);
    let fact = FileFact::new(&before, ContentHash::of(b"one"));
    assert!(fact.matches(&stat_of(&path)));

    // Longer than the kernel's clock takes for a tick.
    std::thread::sleep(Duration::from_millis(30));
    let mtime = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, "two").unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(mtime).unwrap();
    let after = stat_of(&path);
    assert!(fact.same_size_and_mtime(&after), "a quick check is fooled");
    assert!(!fact.matches(&after), "the time of change is not");
}

#[test]
fn facts_come_back_whole_and_in_the_order_of_inodes() {
    let dir = tempfile::tempdir().unwrap();
    let state = state_in(dir.path());
    let stat = stat_of(dir.path());
    let mut update = StateUpdate::default();
    update.files(&stat, vec![fact(9), fact(2), fact(5), fact(2)]);
    state.store(update, &[]).unwrap();
    assert_eq!(facts_in(&state, &stat), [fact(2), fact(5), fact(9)]);
}

/// The values of a new file of `len` bytes, with its stat.
fn summed(path: &Path, len: usize) -> (Stat, ContentHash, Subtrees) {
    let content = vec![7; len];
    std::fs::write(path, &content).unwrap();
    let mut builder = SumBuilder::new(BlockSize::MIN);
    builder.push(&content);
    let (hash, blocks) = builder.finish();
    (stat_of(path), hash, blocks.unwrap())
}

#[test]
fn blocks_are_known_as_long_as_their_file_is_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let state = state_in(dir.path());
    let path = dir.path().join("file");
    let (stat, hash, blocks) = summed(&path, 10_000);
    let book = BlockBook::default();
    book.note(&stat, hash, &blocks, None);
    let mut update = StateUpdate::default();
    update.blocks(&book);
    state.store(update, &[]).unwrap();
    assert_eq!(state.blocks(&stat), Some(blocks));

    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(state.blocks(&stat_of(&path)), None, "its ctime moved");
    let longer = summed(&path, 20_000).0;
    assert_eq!(state.blocks(&longer), None);
}

#[test]
fn blocks_of_a_replaced_file_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let state = state_in(dir.path());
    let store = |book: &BlockBook| {
        let mut update = StateUpdate::default();
        update.blocks(book);
        state.store(update, &[]).unwrap();
    };
    let (old, old_hash, old_blocks) = summed(&dir.path().join("old"), 3000);
    let (new, new_hash, new_blocks) = summed(&dir.path().join("new"), 5000);
    let book = BlockBook::default();
    book.note(&old, old_hash, &old_blocks, None);
    store(&book);
    book.note(&new, new_hash, &new_blocks, Some(&old));
    store(&book);
    assert_eq!(state.blocks(&old), None);
    assert_eq!(state.blocks(&new), Some(new_blocks));
}

#[test]
fn what_was_spilled_is_known_once_the_run_has_stored() {
    let dir = tempfile::tempdir().unwrap();
    let state = state_in(dir.path());
    let stat = stat_of(dir.path());
    let mut update = StateUpdate::default();
    update.files(&stat, vec![fact(3)]);
    assert!(update.held_bytes() > 0);
    state.spill(update);
    state.store(StateUpdate::default(), &[]).unwrap();
    assert_eq!(facts_in(&state, &stat), [fact(3)]);
    drop(state);
    assert_eq!(facts_in(&state_in(dir.path()), &stat), [fact(3)]);
}

/// The fact of the same file, changed without a trace in size and mtime.
fn changed_in_secret(fact: &FileFact) -> FileFact {
    FileFact {
        ctime: Timestamp { secs: 6, nanos: 0 },
        hash: ContentHash::of(b"other"),
        ..fact.clone()
    }
}

#[test]
fn what_a_run_sent_or_wrote_joins_what_its_scan_found_and_what_was_known() {
    let dir = tempfile::tempdir().unwrap();
    let state = state_in(dir.path());
    let stat = stat_of(dir.path());
    let root = Dir::open_root(dir.path()).unwrap();
    let book = FactBook::default();
    let mut first = StateUpdate::default();
    first.files(&stat, vec![fact(1), fact(3)]);
    book.note(&RelPath::root(), fact(2));
    book.store_into(&root, &mut first);
    state.store(first, &[]).unwrap();
    assert_eq!(facts_in(&state, &stat), [fact(1), fact(2), fact(3)]);
    // A scan that found the directory as it was says nothing of it.
    let mut second = StateUpdate::default();
    book.note(&RelPath::root(), changed_in_secret(&fact(3)));
    book.store_into(&root, &mut second);
    state.store(second, &[]).unwrap();
    assert_eq!(
        facts_in(&state, &stat),
        [fact(1), fact(2), changed_in_secret(&fact(3))]
    );
}

#[test]
fn a_suspect_is_still_known_as_it_was_after_a_run_that_did_not_get_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = state_in(dir.path());
    let stat = stat_of(dir.path());
    let store = |facts| {
        let mut update = StateUpdate::default();
        update.files(&stat, facts);
        update
    };
    state.store(store(vec![fact(1), fact(2)]), &[]).unwrap();
    let found = || store(vec![changed_in_secret(&fact(1)), fact(2), fact(3)]);
    let known = [fact(1), fact(2), fact(3)];
    // Ended early: what was stored while it scanned may be all that remains of it.
    state.spill(found());
    state.store(StateUpdate::default(), &[]).unwrap();
    assert_eq!(facts_in(&state, &stat), known);
    // Came to its end, but not all of it was done.
    let mut update = found();
    update.keep_suspects(&state);
    state.store(update, &[]).unwrap();
    assert_eq!(facts_in(&state, &stat), known);
    state.store(found(), &[]).unwrap();
    assert_eq!(
        facts_in(&state, &stat),
        [changed_in_secret(&fact(1)), fact(2), fact(3)]
    );
}

#[test]
fn what_is_known_of_a_directory_survives_its_renaming() {
    let dir = tempfile::tempdir().unwrap();
    let state = state_in(dir.path());
    std::fs::create_dir(dir.path().join("old")).unwrap();
    let mut update = StateUpdate::default();
    update.dir(1, &stat_of(&dir.path().join("old")), dir_fact("a"));
    state.store(update, &[]).unwrap();
    std::fs::rename(dir.path().join("old"), dir.path().join("new")).unwrap();
    let now = stat_of(&dir.path().join("new"));
    assert_eq!(state.dir(1, &now), Some(dir_fact("a")));
    assert_eq!(state.dir(2, &now), None, "other rules, other digests");
}

#[test]
fn the_rules_that_were_not_used_for_longest_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let state = state_in(dir.path());
    let stat = stat_of(dir.path());
    for rules in [1, 2, 3, 1, 4] {
        let mut update = StateUpdate::default();
        update.dir(rules, &stat, dir_fact("a"));
        state.store(update, &[]).unwrap();
    }
    let known = [1, 2, 3, 4].map(|rules| state.dir(rules, &stat).is_some());
    assert_eq!(known, [true, false, true, true]);
}

#[test]
fn what_was_stored_is_there_after_the_database_was_closed() {
    let dir = tempfile::tempdir().unwrap();
    let state = state_in(dir.path());
    let notes = [("device", vec![1, 2, 3])];
    state.store(StateUpdate::default(), &notes).unwrap();
    drop(state);
    assert_eq!(state_in(dir.path()).note("device"), Some(vec![1, 2, 3]));
    assert_eq!(state_in(dir.path()).note("other"), None);
}

#[test]
fn hashes_of_a_run_join_those_of_earlier_ones() {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = tempfile::tempdir().unwrap();
    let state = state_in(state_dir.path());
    let stat = stat_of(dir.path());
    let mut update = StateUpdate::default();
    update.files(&stat, vec![fact(2), fact(5)]);
    state.store(update, &[]).unwrap();

    let newer = FileFact {
        hash: ContentHash::of(b"newer"),
        ..fact(5)
    };
    let book = FactBook::default();
    for of_run in [fact(7), fact(5), fact(3), newer.clone()] {
        book.note(&RelPath::root(), of_run);
    }
    book.note(&RelPath::new(b"gone").unwrap(), fact(1));
    let mut update = StateUpdate::default();
    let root = Dir::open_root(dir.path()).unwrap();
    book.store_into(&root, &mut update);
    state.store(update, &[]).unwrap();
    let expected = [fact(2), fact(3), newer, fact(7)];
    assert_eq!(facts_in(&state, &stat), expected);
}

#[test]
fn a_damaged_database_is_replaced() {
    if !is_inside("a_damaged_database_is_replaced") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let state = State::open(root.path()).unwrap();
    let notes = [("device", vec![1])];
    state.store(StateUpdate::default(), &notes).unwrap();
    drop(state);
    std::fs::write(state_path(root.path()).unwrap(), "no database at all").unwrap();
    let state = State::open(root.path()).unwrap();
    assert_eq!(state.note("device"), None);
    state.store(StateUpdate::default(), &notes).unwrap();
    assert_eq!(state.note("device"), Some(vec![1]));
}

#[test]
fn who_comes_second_is_told_that_the_state_is_in_use() {
    if !is_inside("who_comes_second_is_told_that_the_state_is_in_use") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let _first = State::open(root.path()).unwrap();
    let err = State::open(root.path()).unwrap_err();
    assert_eq!(err, "another run is using it");
}

#[test]
fn nobody_else_may_read_the_state() {
    use std::os::unix::fs::PermissionsExt;
    if !is_inside("nobody_else_may_read_the_state") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let _state = State::open(root.path()).unwrap();
    let path = state_path(root.path()).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
}
