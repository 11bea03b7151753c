//! When changes become ready, by clocks that stand still, and that none of them is lost.

use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;

const SETTLE: Duration = Duration::from_millis(500);
const MAX_DELAY: Duration = Duration::from_secs(10);

/// Clocks that are set by hand, and what waits by them.
struct Desk {
    start: Instant,
    pending: Pending,
}

impl Desk {
    fn new() -> Desk {
        Desk {
            start: Instant::now(),
            pending: Pending::new(SETTLE, MAX_DELAY),
        }
    }

    fn at(&self, ms: u64) -> Now {
        Now {
            monotonic: self.start + Duration::from_millis(ms),
            wall: UNIX_EPOCH + Duration::from_millis(ms),
        }
    }

    fn note(&mut self, dir: &str, name: &str, ms: u64) {
        let now = self.at(ms);
        self.pending.note(&path(dir), Some(&self::name(name)), now);
    }

    fn note_subtree(&mut self, dir: &str, ms: u64) {
        let now = self.at(ms);
        self.pending.note_subtree(&path(dir), now);
    }

    fn take_ready(&mut self, ms: u64) -> Vec<String> {
        let now = self.at(ms).monotonic;
        shown(&self.pending.take_ready(now))
    }

    fn due_ms(&self) -> Option<u128> {
        let due = self.pending.due()?;
        Some(due.duration_since(self.start).as_millis())
    }

    fn oldest_ms(&self) -> Option<u128> {
        let oldest = self.pending.oldest()?;
        Some(oldest.duration_since(UNIX_EPOCH).unwrap().as_millis())
    }
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// Directories as they are, subtrees with `/**`.
fn shown(dirty: &Dirty) -> Vec<String> {
    let text = |(path, reach): (&RelPath, Reach)| match reach {
        Reach::Listing => path.to_string(),
        Reach::Subtree => format!("{path}/**"),
    };
    dirty.iter().map(text).collect()
}

#[test]
fn a_directory_is_ready_when_one_of_its_files_has_settled() {
    let mut desk = Desk::new();
    desk.note("d", "a", 0);
    desk.note("d", "b", 300);
    desk.note("e", "c", 400);
    assert_eq!(desk.due_ms(), Some(500));
    assert!(desk.take_ready(499).is_empty());
    assert_eq!(desk.take_ready(500), ["d"]);
    assert_eq!(desk.due_ms(), Some(900));
    assert_eq!(desk.take_ready(900), ["e"]);
    assert!(desk.pending.is_empty());
    assert_eq!(desk.due_ms(), None);
}

#[test]
fn a_file_that_is_always_written_is_ready_after_the_longest_delay() {
    let mut desk = Desk::new();
    for ms in (0..25_000).step_by(100) {
        desk.note("d", "log", ms);
        let ready = desk.take_ready(ms);
        assert_eq!(!ready.is_empty(), ms == 10_000 || ms == 20_100, "{ms}");
    }
}

#[test]
fn a_file_that_is_always_written_does_not_hold_up_its_neighbours() {
    let mut desk = Desk::new();
    for ms in (0..=700).step_by(100) {
        desk.note("d", "log", ms);
        if ms == 200 {
            desk.note("d", "page", ms);
        }
    }
    assert!(desk.take_ready(699).is_empty());
    assert_eq!(desk.take_ready(700), ["d"]);
}

#[test]
fn the_oldest_change_is_the_first_of_those_that_wait() {
    let mut desk = Desk::new();
    desk.note("d", "a", 10);
    desk.note("d", "a", 400);
    desk.note("e", "b", 200);
    assert_eq!(desk.oldest_ms(), Some(10));
    assert_eq!(desk.take_ready(700), ["e"]);
    assert_eq!(desk.oldest_ms(), Some(10));
    let taken = desk.pending.take_all();
    let ten = UNIX_EPOCH + Duration::from_millis(10);
    assert_eq!(taken.oldest(), Some(ten));
    assert_eq!(desk.oldest_ms(), None);
}

#[test]
fn what_is_put_back_keeps_its_times_and_is_ready_at_once() {
    let mut desk = Desk::new();
    desk.note("d", "a", 10);
    desk.note_subtree("e/f", 20);
    let now = desk.at(600).monotonic;
    let dirty = desk.pending.take_ready(now);
    assert_eq!(shown(&dirty), ["d", "e", "e/f/**"]);
    desk.note("d", "a", 700);
    desk.pending.put_back(dirty);
    assert_eq!(desk.oldest_ms(), Some(10));
    assert_eq!(desk.due_ms(), Some(510));
    assert_eq!(desk.take_ready(700), ["d", "e", "e/f/**"]);
    assert!(desk.pending.is_empty());
}

#[test]
fn what_waits_below_a_subtree_is_taken_with_it() {
    let mut desk = Desk::new();
    desk.note("d/new/deep", "a", 0);
    desk.note_subtree("d/new", 0);
    desk.note("d/new/deep", "a", 400);
    desk.note("d/newer", "b", 400);
    assert_eq!(desk.take_ready(500), ["d", "d/new/**"]);
    assert_eq!(desk.take_ready(900), ["d/newer"]);
    assert!(desk.pending.is_empty());
}

#[test]
fn a_new_directory_is_taken_with_the_one_that_it_is_in() {
    let mut desk = Desk::new();
    desk.note("d", "a", 0);
    desk.note_subtree("d/new", 400);
    assert_eq!(desk.take_ready(500), ["d", "d/new/**"]);
}

#[test]
fn the_whole_tree_covers_all_that_waits() {
    let mut desk = Desk::new();
    desk.note("d", "a", 100);
    desk.note_subtree("", 200);
    desk.note("e", "b", 300);
    assert_eq!(desk.oldest_ms(), Some(100));
    assert_eq!(desk.take_ready(600), ["./**"]);
    assert!(desk.pending.is_empty());
}

#[test]
fn very_many_names_are_kept_as_their_directory() {
    let mut desk = Desk::new();
    for number in 0..=MOST_NAMES_IN_ONE {
        desk.note("d", &number.to_string(), number as u64 / 100);
    }
    assert_eq!(desk.pending.names, 0);
    assert_eq!(desk.due_ms(), Some(500));
    assert_eq!(desk.take_ready(500), ["d"]);

    for number in 0..MOST_NAMES + 100 {
        let dir = format!("d{}", number / 100);
        desk.note(&dir, &number.to_string(), 1000);
    }
    assert!(desk.pending.names <= MOST_NAMES);
    let dirs = (MOST_NAMES + 100).div_ceil(100);
    assert_eq!(desk.take_ready(1500).len(), dirs);
    assert_eq!(desk.pending.names, 0);
}

#[test]
fn very_many_directories_are_kept_as_the_whole_tree() {
    let mut desk = Desk::new();
    for number in 0..=MOST_DIRECTORIES {
        desk.note(&format!("d{number}"), "a", 7);
    }
    assert!(desk.pending.dirs.is_empty());
    assert_eq!(desk.oldest_ms(), Some(7));
    assert_eq!(desk.take_ready(507), ["./**"]);
}

#[test]
fn putting_back_joins_what_lies_below_a_subtree() {
    let mut desk = Desk::new();
    desk.note("a/b/c", "x", 5);
    desk.note("a-b", "x", 6);
    let dirty = desk.pending.take_all();
    desk.note_subtree("a/b", 10);
    desk.pending.put_back(dirty);
    let dirty = desk.pending.take_all();
    assert_eq!(shown(&dirty), ["a", "a-b", "a/b/**"]);
    let five = UNIX_EPOCH + Duration::from_millis(5);
    assert_eq!(dirty.oldest(), Some(five));
    assert_eq!(dirty.len(), 3);
}

#[test]
fn an_endless_wait_is_no_fault() {
    let mut pending = Pending::new(Duration::MAX, Duration::MAX);
    pending.note(&RelPath::root(), None, Now::by_clocks());
    assert!(pending.due().is_some());
}

proptest! {
    /// Whatever is noted, taken and put back in whatever order: each place is read again after its
    /// last change.
    #[test]
    fn nothing_that_was_noted_is_lost(
        acts in prop::collection::vec((0..6u8, "[ab](/[ab]){0,3}", 0..2000u64), 1..60),
    ) {
        let mut desk = Desk::new();
        let mut unread: Vec<(RelPath, Reach)> = Vec::new();
        let mut at = 0;
        for (act, dir, ms) in acts {
            at += ms;
            let dir = path(&dir);
            let now = desk.at(at);
            match act {
                0..=2 => {
                    desk.pending.note(&dir, Some(&name("x")), now);
                    unread.push((dir, Reach::Listing));
                }
                3 => {
                    desk.pending.note_subtree(&dir, now);
                    unread.push((dir, Reach::Subtree));
                }
                4 => {
                    let dirty = desk.pending.take_ready(now.monotonic);
                    unread.retain(|place| !is_read(&dirty, place));
                }
                _ => {
                    let dirty = desk.pending.take_ready(now.monotonic);
                    desk.pending.put_back(dirty);
                }
            }
            prop_assert_eq!(desk.pending.is_empty(), desk.pending.due().is_none());
        }
        let rest = desk.pending.take_all();
        unread.retain(|place| !is_read(&rest, place));
        prop_assert!(unread.is_empty(), "{:?}", unread);
    }
}

fn is_read(dirty: &Dirty, (dir, reach): &(RelPath, Reach)) -> bool {
    dirty.iter().any(|(read, how)| {
        (read == dir && how >= *reach) || (how == Reach::Subtree && dir.starts_with(read))
    })
}
