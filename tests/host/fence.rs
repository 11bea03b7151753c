//! Names of ours in a root, and the fence around one that was switched away from.

use std::fs;

use cutover::protocol::errand::{FenceMeans, KeepMeans, Marker, MarkerRole};

use crate::common::dump::Dump;
use crate::common::lab::{Lab, Route};
use crate::{far, text};

fn marker(role: MarkerRole) -> Marker {
    Marker {
        role,
        plan: "aipro".to_string(),
        other: "new.example:/srv/aipro".to_string(),
        since_s: 1_700_000_000,
    }
}

#[test]
fn names_of_ours_are_not_synced_and_not_deleted() {
    let lab = Lab::with_source("f a 'x'\n f .cutover-trash/t 'x'\n f sub/.cutover-kept 'theirs'");
    lab.destination("f a 'old'\n f gone 'x'\n f .cutover-trash/u 'x'");
    let mut host = far(&lab);
    for root in [&lab.src, &lab.dst] {
        host.keep(text(root), "before", KeepMeans::HardLink)
            .unwrap();
        let theirs = Marker {
            plan: text(root).to_string(),
            ..marker(MarkerRole::Standby)
        };
        host.set_marker(text(root), Some(theirs)).unwrap();
    }
    let ours = |root: &std::path::Path| {
        let dump = Dump::of(root);
        let paths = dump.paths();
        let paths = paths
            .into_iter()
            .filter(|path| path.starts_with(".cutover-"));
        paths.map(str::to_string).collect::<Vec<_>>()
    };
    let before = ours(&lab.dst);
    lab.sync(&["--delete", "--trash"]).ok();
    let after = ours(&lab.dst);
    let untouched = |paths: &[String]| -> Vec<String> {
        let kept = paths.iter().filter(|path| !path.contains("trash"));
        kept.cloned().collect()
    };
    assert_eq!(untouched(&before), untouched(&after));
    assert!(after.iter().any(|path| path.contains(".cutover-trash/u")));
    assert!(!after.iter().any(|path| path.contains(".cutover-trash/t")));
    assert!(
        lab.dst.join("sub/.cutover-kept").is_file(),
        "elsewhere it is a name like any"
    );
    assert!(!lab.dst.join("gone").exists());
    let marker = host.read_marker(text(&lab.dst)).unwrap().unwrap();
    assert_eq!(marker.plan, text(&lab.dst));
    lab.between("diff", &[]).ok();
    lab.between("verify", &[]).ok();
    lab.source("m . @5");
    let manifest = lab.path("manifest");
    lab.cutover(["manifest", "-o", text(&manifest), text(&lab.src)])
        .ok();
    fs::remove_dir_all(lab.src.join(".cutover-kept")).unwrap();
    fs::remove_file(lab.src.join(".cutover-marker")).unwrap();
    lab.source("m . @5");
    lab.cutover(["verify", text(&manifest), text(&lab.src)])
        .ok();
    host.finish().unwrap();
}

#[test]
fn a_fenced_root_is_synced_neither_from_nor_to() {
    let lab = Lab::with_source("f a 'x' @5\n m . @5");
    lab.destination("f a 'x' @5\n m . @5");
    let mut host = far(&lab);
    for fenced in [&lab.src, &lab.dst] {
        host.set_marker(text(fenced), Some(marker(MarkerRole::Fenced)))
            .unwrap();
        for route in Route::ALL {
            let outcome = lab.sync_via(route, &[]).code(5);
            outcome.says("aipro").says("new.example:/srv/aipro");
            outcome.says("cutover rollback").says(".cutover-marker");
        }
        lab.sync(&["-n"]).code(5);
        lab.between("diff", &[]).ok();
        lab.between("verify", &[]).ok();
        host.set_marker(text(fenced), None).unwrap();
        lab.sync(&[]).ok();
    }
    host.finish().unwrap();
}

#[test]
fn what_is_no_marker_is_not_taken_for_none() {
    let lab = Lab::with_source("f a 'x'\n f .cutover-marker 'half a mark'");
    lab.sync(&[]).code(3).says(".cutover-marker");
    lab.source("r .cutover-marker\n d .cutover-marker");
    lab.sync(&[]).code(3).says(".cutover-marker");
}

#[test]
fn a_root_is_fenced_by_its_mode_or_its_name_and_comes_back() {
    let lab = Lab::with_source("f a 'x'\n m . 0750 @5.5");
    let before = Dump::of(&lab.src);
    let mut host = far(&lab);
    for how in [FenceMeans::ReadOnly, FenceMeans::Rename] {
        host.set_marker(text(&lab.src), Some(marker(MarkerRole::Fenced)))
            .unwrap();
        for on in [true, true, false, false] {
            host.fence(text(&lab.src), how, on).unwrap();
            let found = host.read_marker(text(&lab.src)).unwrap();
            assert_eq!(found, Some(marker(MarkerRole::Fenced)), "{how:?} {on}");
        }
        host.set_marker(text(&lab.src), None).unwrap();
        assert_eq!(Dump::of(&lab.src), before, "{how:?}");
    }
    host.finish().unwrap();
}
