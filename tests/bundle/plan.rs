//! Bundles of plans: all roots, from this host alone.

use std::fs;
use std::path::{Path, PathBuf};

use cutover::protocol::errand::{Marker, MarkerRole};
use cutover::session::Host;

use crate::common::dump::assert_same;
use crate::common::lab::Lab;
use crate::common::run::Invocation;
use crate::common::tree::tree;
use crate::kit::{bundle, plain, restore, verify};

/// A plan's file, with what comes before its roots, and its roots.
fn plan(lab: &Lab, start: &str, roots: &[(&str, &Path, &str)]) -> PathBuf {
    let mut text = format!("name = 'test'\n{start}\n");
    for (name, path, more) in roots {
        let path = path.display();
        text += &format!("[[root]]\nname = '{name}'\npath = '{path}'\n{more}\n");
    }
    let file = lab.path("plan.toml");
    fs::write(&file, text).unwrap();
    file
}

/// `cutover bundle create PLAN -o FILE`, with the file.
fn create(lab: &Lab, plan: &Path) -> (Invocation, PathBuf) {
    let file = lab.path("bundle");
    let run = bundle(lab, ["create", "--force"])
        .args([plan])
        .args(["-o"])
        .args([&file]);
    (run, file)
}

/// A destination that nobody can reach, and that nobody has to.
const NOWHERE: &str = "[destination]\nhost = 'nobody@nowhere.invalid'\n";

#[test]
fn all_roots_of_a_plan_are_bundled_and_restored_by_name() {
    let lab = Lab::with_source("f state.json 'x' @5\n f sessions/one 'x'");
    let work = lab.path("work");
    tree(&work, "f MEMORY.md 'x' @7\n f cache/big 'x'\n m . @8");
    let roots = [
        ("state", lab.src.as_path(), ""),
        ("workspace", &work, "filters = ['- cache/']"),
    ];
    let (run, file) = create(&lab, &plan(&lab, NOWHERE, &roots));
    run.ok();
    verify(&lab, &file).ok();
    restore(&lab, &file).ok();
    assert_same(&lab.src, &lab.dst.join("state"));
    tree(&work, "r cache\n m . @8");
    assert_same(&work, &lab.dst.join("workspace"));
    let alone = lab.path("alone");
    bundle(&lab, ["restore", "--root", "workspace"])
        .args([&file, &alone])
        .ok();
    assert_same(&work, &alone);
}

#[test]
fn a_root_within_another_is_bundled_once() {
    let lab = Lab::with_source("f state.json 'x'\n f workspace/MEMORY.md 'x'");
    let inner = lab.src.join("workspace");
    let roots = [("state", lab.src.as_path(), ""), ("workspace", &inner, "")];
    let (run, file) = create(&lab, &plan(&lab, NOWHERE, &roots));
    run.ok();
    restore(&lab, &file).ok();
    assert_same(&lab.src, &lab.dst.join("state"));
    assert!(!lab.dst.join("workspace").exists());
}

#[test]
fn an_optional_root_may_be_missing_and_a_required_name_may_not() {
    let lab = Lab::with_source("f state.json 'x'");
    let none = lab.path("none");
    let roots = [
        ("state", lab.src.as_path(), "required = ['state.json']"),
        ("extra", &none, "optional = true"),
    ];
    create(&lab, &plan(&lab, NOWHERE, &roots)).0.ok();
    let roots = [("state", lab.src.as_path(), "required = ['keys/main']")];
    create(&lab, &plan(&lab, NOWHERE, &roots))
        .0
        .code(5)
        .says("keys/main is missing");
    create(&lab, &plan(&lab, NOWHERE, &[("none", &none, "")]))
        .0
        .code(3)
        .says("none");
}

#[test]
fn what_a_plan_calls_secret_is_not_written_in_plain() {
    let lab = Lab::with_source("f state.json 'x'\n f inner/chat.log 'x'");
    let inner = lab.src.join("inner");
    let roots = [
        ("state", lab.src.as_path(), ""),
        ("inner", &inner, "secrets = ['chat.log']"),
    ];
    create(&lab, &plan(&lab, NOWHERE, &roots))
        .0
        .code(5)
        .says("inner/chat.log");
}

#[test]
fn a_source_on_another_host_is_a_usage_error_that_says_what_to_do() {
    let lab = Lab::with_source("f a 'x'");
    let start = "[source]\nhost = 'me@there'\n";
    let file = plan(&lab, start, &[("state", &lab.src, "")]);
    create(&lab, &file)
        .0
        .code(2)
        .says("me@there")
        .says("run cutover bundle there");
}

#[test]
fn a_plan_takes_no_filters_beside_it() {
    let lab = Lab::with_source("f a 'x'");
    let file = plan(&lab, "", &[("state", &lab.src, "")]);
    create(&lab, &file)
        .0
        .args(["--exclude", "x"])
        .code(2)
        .says("no filters beside it");
}

#[test]
fn a_root_that_was_switched_away_from_is_not_restored_over() {
    let lab = Lab::with_source("f a 'x'");
    let file = plain(&lab);
    lab.destination("f src/a 'old'");
    let marker = Marker {
        role: MarkerRole::Fenced,
        plan: "test".into(),
        other: "host:/srv".into(),
        since_s: 1,
    };
    let root = lab.dst.join("src");
    let mut host = Host::here();
    host.set_marker(root.to_str().unwrap(), Some(marker))
        .unwrap();
    restore(&lab, &file)
        .code(5)
        .says("was switched to host:/srv");
    assert_eq!(fs::read(root.join("a")).unwrap(), b"old");
}
