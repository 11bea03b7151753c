//! What is on disk when keeping or restoring stops halfway, step by step, and that the next
//! attempt finishes it. What whole states keep is for `tests/host` to show.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::shelf::{State, create_parts, replaced};
use super::*;

struct Place(TempDir);

impl Place {
    /// A root with two old entries that are kept, and two others that are there now.
    fn with_state() -> Place {
        let place = Place(TempDir::new().unwrap());
        std::fs::write(place.at("a"), "old").unwrap();
        std::fs::create_dir(place.at("d")).unwrap();
        std::fs::write(place.at("d/b"), "old").unwrap();
        place.keep().unwrap();
        std::fs::remove_dir_all(place.at("d")).unwrap();
        std::fs::remove_file(place.at("a")).unwrap();
        std::fs::write(place.at("a"), "new").unwrap();
        std::fs::write(place.at("c"), "new").unwrap();
        place
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn kept(&self, path: &str) -> PathBuf {
        self.at(".cutover-kept").join(path)
    }

    fn root(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn keep(&self) -> Result<Answer> {
        keep(self.root(), "s", KeepMeans::HardLink, &Cancel::new())
    }

    fn restore(&self) -> Result<Answer> {
        restore(self.root(), "s", &Cancel::new())
    }

    /// Does with the shelf what a restore does before it stops.
    fn leave_at(&self, step: Step, moves: &[(&str, &str)]) {
        let root = root::opened(self.root()).unwrap();
        let shelf = Shelf::open(&root).unwrap().unwrap();
        let mut state = shelf.state("s").unwrap().unwrap();
        let empty = |folder: &Dir| {
            create_parts(folder).unwrap();
            Ok(State {
                means: KeepMeans::HardLink,
                entries: 2,
                root: state.root.clone(),
                step: Step::Kept,
                differing: Vec::new(),
            })
        };
        shelf.add(&replaced("s"), empty).unwrap();
        state.step = step;
        shelf.write("s", &state).unwrap();
        for (from, to) in moves {
            std::fs::rename(self.at(from), self.at(to)).unwrap();
        }
    }

    fn assert_restored(&self) {
        let expected = Answer::Restored {
            entries: 3,
            differing: Vec::new(),
        };
        assert_eq!(self.restore().unwrap(), expected);
        let text = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        assert_eq!(text(self.at("a")), "old");
        assert_eq!(text(self.at("d/b")), "old");
        assert!(!self.at("c").exists());
        assert_eq!(text(self.kept("s-replaced/tree/a")), "new");
        assert_eq!(text(self.kept("s-replaced/tree/c")), "new");
        assert_eq!(self.restore().unwrap(), expected);
    }
}

const OLD: &str = ".cutover-kept/s/tree";
const NEW: &str = ".cutover-kept/s-replaced/tree";

#[test]
fn a_restore_that_stopped_before_anything_moved_goes_on() {
    let place = Place::with_state();
    place.leave_at(Step::Kept, &[]);
    place.assert_restored();
}

#[test]
fn a_restore_that_stopped_while_emptying_the_root_goes_on() {
    let place = Place::with_state();
    place.leave_at(Step::Away, &[("a", &format!("{NEW}/a"))]);
    place.assert_restored();
}

#[test]
fn a_restore_that_stopped_while_filling_the_root_goes_on() {
    for moved_up in [&[][..], &["a"], &["a", "d"]] {
        let place = Place::with_state();
        let mut moves: Vec<_> = ["a", "c"]
            .map(|name| (name.to_string(), format!("{NEW}/{name}")))
            .into();
        moves.extend(
            moved_up
                .iter()
                .map(|name| (format!("{OLD}/{name}"), name.to_string())),
        );
        let moves: Vec<_> = moves
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        place.leave_at(Step::Up, &moves);
        place.assert_restored();
    }
}

#[test]
fn what_comes_into_the_way_of_a_restore_is_moved_away_too() {
    let place = Place::with_state();
    let moves = ["a", "c"].map(|name| (name.to_string(), format!("{NEW}/{name}")));
    let moves = moves.each_ref().map(|(a, b)| (a.as_str(), b.as_str()));
    place.leave_at(Step::Up, &moves);
    std::fs::write(place.at("d"), "written meanwhile").unwrap();
    place.assert_restored();
    assert!(place.kept("s-replaced/tree/d").is_file());
}

#[test]
fn nothing_else_is_done_while_a_restore_is_halfway() {
    let place = Place::with_state();
    place.leave_at(Step::Away, &[("a", &format!("{NEW}/a"))]);
    let refused = |outcome: Result<()>| {
        let err = outcome.unwrap_err();
        assert!(matches!(err, Error::Refused(_)), "{err}");
        assert!(err.to_string().contains("restore it again"), "{err}");
    };
    refused(place.keep().map(drop));
    refused(keep(place.root(), "t", KeepMeans::Auto, &Cancel::new()).map(drop));
    refused(restore(place.root(), "s-replaced", &Cancel::new()).map(drop));
    refused(forget(place.root(), "s"));
    refused(forget(place.root(), "s-replaced"));
    place.assert_restored();
}

#[test]
fn half_a_state_is_none() {
    let place = Place(TempDir::new().unwrap());
    std::fs::write(place.at("a"), "old").unwrap();
    std::fs::create_dir_all(place.kept("s.partial/tree/x")).unwrap();
    let mode = |path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode));
    mode(place.at(".cutover-kept"), 0o700).unwrap();
    assert!(place.restore().is_err());
    place.keep().unwrap();
    assert!(!place.kept("s.partial").exists());
    assert!(place.kept("s/tree/a").exists() && !place.kept("s/tree/x").exists());
    place.restore().unwrap();
}

#[test]
fn a_damaged_state_is_not_used() {
    for damage in [&b""[..], b"cutover kept 2\n", b"cutover kept 1\n\xff\xff"] {
        let place = Place::with_state();
        std::fs::write(place.kept("s/state"), damage).unwrap();
        assert!(place.restore().is_err(), "{damage:?}");
    }
    let place = Place::with_state();
    std::fs::write(place.kept("s/index"), b"\xff\xff\xff\xff").unwrap();
    assert!(place.restore().is_err());
    assert!(place.at("c").exists(), "nothing has moved");
}

#[test]
fn an_interrupted_keep_leaves_nothing() {
    let place = Place(TempDir::new().unwrap());
    std::fs::write(place.at("a"), "old").unwrap();
    let cancel = Cancel::new();
    cancel.cancel();
    let kept = keep(place.root(), "s", KeepMeans::Copy, &cancel);
    assert!(matches!(kept, Err(Error::Interrupted)), "{kept:?}");
    let left = std::fs::read_dir(place.at(".cutover-kept")).unwrap();
    assert_eq!(left.count(), 0);
}
