//! What the rule makes and removes as time goes by, and what is on disk when something stops halfway.
//! What generations keep is for `tests/generations.rs` to show.

use std::fs as std_fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::host::keep;
use crate::protocol::errand::{Answer, Recovered};

struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(TempDir::new().unwrap());
        std_fs::write(place.at("a"), "old").unwrap();
        std_fs::create_dir(place.at("d")).unwrap();
        std_fs::write(place.at("d/b"), "old").unwrap();
        place
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn root(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn kept(&self, path: &str) -> PathBuf {
        self.at(".cutover-kept").join(path)
    }

    /// What the mirror does, at some second.
    fn make(&self, rule: &str, now_s: u64) -> Result<Option<Made>> {
        let dir = Dir::open_root(self.0.path()).unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(now_s);
        make_if_due(
            &dir,
            self.0.path(),
            &rule.parse().unwrap(),
            now,
            &Cancel::new(),
        )
    }

    fn made(&self, now_s: u64) -> String {
        self.make("1000d:1d", now_s).unwrap().unwrap().generation.id
    }

    fn ids(&self) -> Vec<String> {
        let dir = Dir::open_root(self.0.path()).unwrap();
        let shelved = list(&dir, self.0.path()).unwrap();
        shelved
            .generations
            .into_iter()
            .map(|made| made.id)
            .collect()
    }

    fn restore(&self, id: &str) -> Result<Recovered> {
        restore::whole(&root::opened(self.root()).unwrap(), id, &Cancel::new())
    }
}

const DAY: u64 = 86_400;

#[test]
fn a_name_tells_its_time_and_no_other_name_does() {
    let at = UNIX_EPOCH + Duration::from_secs(1_795_398_300);
    let id = id_at(MADE, at);
    assert_eq!(id, "gen-20261123-014500");
    assert_eq!(time_of(MADE, &id), Some(at));
    for other in [
        "gen-20261123T014500Z",
        "gen-20261123-014500-replaced",
        "gen-20261323-014500",
        "gen-2026112é-014500",
        "gen-20261123-0145000",
        "gen-",
        "replaced-20261123-014500",
        "",
    ] {
        assert_eq!(time_of(MADE, other), None, "{other}");
    }
    for ours in ["", "-back", "-replaced", "-back-replaced"] {
        assert!(is_ours(&format!("{id}{ours}")), "{ours}");
    }
    assert!(!is_ours("gen-20261123T014500Z"));
}

#[test]
fn generations_come_and_go_by_the_rule() {
    let place = Place::new();
    let rule = "3h:1h,3d:1d";
    let mut made = 0;
    for minute in 0..10 * 24 * 2 {
        made += u64::from(
            place
                .make(rule, 100 * DAY + minute * 1800)
                .unwrap()
                .is_some(),
        );
    }
    assert_eq!(made, 240, "one an hour");
    let expected = [
        "gen-19700420-230000",
        "gen-19700420-220000",
        "gen-19700420-210000",
        "gen-19700420-200000",
        "gen-19700419-230000",
        "gen-19700418-230000",
        "gen-19700417-230000",
    ];
    assert_eq!(place.ids(), expected);
}

#[test]
fn what_is_no_generation_is_left_alone() {
    let place = Place::new();
    let made = place.made(DAY);
    let kept = keep::keep(
        place.root(),
        "gen-19700102T000000Z",
        KeepMeans::Auto,
        &Cancel::new(),
    );
    assert!(matches!(kept, Ok(Answer::Kept { .. })), "{kept:?}");
    std_fs::create_dir(place.kept("gen-19700103-000000")).unwrap();
    std_fs::write(place.kept("gen-19700104-000000"), "x").unwrap();
    std_fs::create_dir(place.kept("their own.partial")).unwrap();
    std_fs::create_dir(place.kept("theirs.partial")).unwrap();
    std_fs::create_dir(place.kept("gen-19700105-000000.partial")).unwrap();
    std_fs::write(place.kept("a \u{1b} name"), "x").unwrap();
    assert_eq!(place.ids(), [made]);
    let new = place.make("2d:1d", 500 * DAY).unwrap().unwrap();
    assert_eq!(new.pruned, ["gen-19700102-000000"]);
    assert_eq!(place.ids(), [new.generation.id]);
    for theirs in [
        "gen-19700102T000000Z/tree/d/b",
        "gen-19700103-000000",
        "gen-19700104-000000",
        "their own.partial",
        "theirs.partial",
        "a \u{1b} name",
    ] {
        assert!(place.kept(theirs).exists(), "{theirs}");
    }
    assert!(!place.kept("gen-19700105-000000.partial").exists());
}

#[test]
fn other_errands_neither_make_nor_move_generations() {
    let place = Place::new();
    let id = place.made(DAY);
    let kept = keep::keep(place.root(), &id, KeepMeans::Auto, &Cancel::new());
    let restored = keep::restore(place.root(), &id, &Cancel::new());
    for refused in [kept, restored] {
        assert!(matches!(refused, Err(Error::Usage(_))), "{refused:?}");
    }
}

#[test]
fn a_making_that_fails_prunes_nothing() {
    let place = Place::new();
    let old = place.made(DAY);
    let dir = Dir::open_root(place.0.path()).unwrap();
    let cancel = Cancel::new();
    cancel.cancel();
    let now = UNIX_EPOCH + Duration::from_secs(900 * DAY);
    let made = make_if_due(
        &dir,
        place.0.path(),
        &"2d:1d".parse().unwrap(),
        now,
        &cancel,
    );
    assert!(matches!(made, Err(Error::Interrupted)), "{made:?}");
    assert_eq!(place.ids(), [old]);
    assert_eq!(std_fs::read_dir(place.kept("")).unwrap().count(), 1);
}

#[test]
fn a_generation_that_is_being_read_is_pruned_the_next_time() {
    let place = Place::new();
    let old = place.made(DAY);
    let folder = Dir::open_root(&place.kept(&old)).unwrap();
    let reading = RootLock::shared(&folder, &place.kept(&old)).unwrap();
    let made = place.make("2d:1d", 500 * DAY).unwrap().unwrap();
    assert!(made.pruned.is_empty() && place.ids().contains(&old));
    drop(reading);
    let made = place.make("2d:1d", 501 * DAY).unwrap().unwrap();
    assert_eq!(made.pruned, [old]);
}

#[test]
fn nothing_in_a_generation_can_be_written_to_but_files_that_are_shared() {
    let place = Place::new();
    let id = place.made(DAY);
    for folder in ["", "/tree", "/tree/d"] {
        let meta = std_fs::metadata(place.kept(&format!("{id}{folder}"))).unwrap();
        assert_eq!(meta.permissions().mode() & 0o222, 0, "{folder}");
    }
}

#[test]
fn a_restore_leaves_the_generation_and_can_be_undone() {
    let place = Place::new();
    let id = place.made(DAY);
    std_fs::remove_dir_all(place.at("d")).unwrap();
    std_fs::write(place.at("new"), "new").unwrap();
    for _ in 0..2 {
        let done = place.restore(&id).unwrap();
        assert_eq!((done.entries, done.differing), (3, vec![]));
        assert!(place.at("d/b").exists() && !place.at("new").exists());
        assert_eq!(place.ids(), [id.as_str()]);
        let undone = place.restore(&done.replaced.unwrap()).unwrap();
        assert!(!place.at("d").exists() && place.at("new").exists());
        assert!(undone.replaced.is_some());
    }
}

/// Does with the shelf what a restore does before it stops.
fn leave_at(place: &Place, id: &str, step: Step) {
    let root = root::opened(place.root()).unwrap();
    let shelf = Shelf::open(&root).unwrap().unwrap();
    let moved = format!("{id}{BACK}");
    let empty = |folder: &Dir, step| {
        shelf::create_parts(folder).unwrap();
        Ok(shelf::State {
            means: KeepMeans::HardLink,
            entries: 0,
            root: None,
            step,
            differing: Vec::new(),
        })
    };
    shelf.add(&moved, |folder| empty(folder, step)).unwrap();
    shelf
        .add(&shelf::replaced(&moved), |folder| empty(folder, Step::Kept))
        .unwrap();
}

#[test]
fn a_restore_that_stopped_before_it_moved_or_after_it_begins_again() {
    for step in [Step::Kept, Step::Restored] {
        let place = Place::new();
        let id = place.made(DAY);
        std_fs::write(place.at("new"), "new").unwrap();
        leave_at(&place, &id, step);
        assert_eq!(place.restore(&id).unwrap().entries, 3);
        assert!(!place.at("new").exists() && place.at("d/b").exists());
        let left = std_fs::read_dir(place.kept("")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        let is_settled = |name: &&std::ffi::OsString| {
            let name = name.to_str().unwrap();
            name == id || time_of(REPLACED, name).is_some()
        };
        assert!(left.iter().all(|name| is_settled(&name)), "{left:?}");
    }
}

#[test]
fn nothing_is_made_while_a_restore_is_halfway_and_it_goes_on() {
    let place = Place::new();
    let id = place.made(DAY);
    leave_at(&place, &id, Step::Away);
    let err = place.make("2d:1d", 500 * DAY).unwrap_err();
    assert!(
        err.to_string().contains(&format!("restoring {id} in")),
        "{err}"
    );
    assert!(place.restore("gen-19700103-000000").is_err());
    // The copy was empty, and it is what was being restored.
    assert_eq!(place.restore(&id).unwrap().entries, 0);
    assert!(!place.at("a").exists());
    assert_eq!(place.restore(&id).unwrap().entries, 3);
}

#[test]
fn an_unknown_generation_is_told_with_those_that_there_are() {
    let place = Place::new();
    let root = root::opened(place.root()).unwrap();
    let ask = |id: &str| {
        let compared = compare::compare(&root, id, None, &Cancel::new()).unwrap_err();
        assert!(matches!(compared, Error::Usage(_)), "{compared:?}");
        compared.to_string()
    };
    assert!(ask("gen-1").contains("it has none"));
    for day in 1..=14 {
        place.made(day * DAY);
    }
    let said = ask("../x");
    assert!(
        said.contains("gen-19700115-000000, gen-19700114-000000"),
        "{said}"
    );
    assert!(said.ends_with("and 2 older ones"), "{said}");
    let said = place.restore("x").unwrap_err().to_string();
    assert!(said.contains("gen-19700115"), "{said}");
}
