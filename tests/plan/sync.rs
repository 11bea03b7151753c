//! The roots of a plan, synced and compared.

use std::fs;
use std::process::Command;

use crate::common::dump::assert_same;
use crate::common::lab::text_of;
use crate::common::prerequisites::need;
use crate::common::tree::tree;
use crate::stage::Stage;

#[test]
fn all_roots_are_synced_over_one_connection_and_one_within_another_once() {
    let stage = Stage::with_state("f config '{}'\n f work/notes 'x'");
    tree(&stage.near("home/logs"), "f today 'line'");
    let plan = stage.plan_of_app(
        "[[root]]\nname = \"work\"\npath = \"~/.app/work\"\n\
         [[root]]\nname = \"logs\"\npath = \"~/logs\"\ndestination = \"~/old-logs\"\n\
         [sync]\ntrash = false\n",
    );
    let sync = || stage.lab.cutover(["sync", "--plan"]).args([&plan]);
    let outcome = sync().ok();
    assert_same(&stage.near("home/.app"), &stage.far_home().join(".app"));
    assert_same(&stage.near("home/logs"), &stage.far_home().join("old-logs"));
    let rows: Vec<_> = outcome
        .stdout
        .lines()
        .filter(|line| line.starts_with("root"))
        .collect();
    assert_eq!(rows.len(), 2, "{outcome}");
    assert!(rows[0].starts_with("root      app: 2 sent, "), "{outcome}");
    assert!(rows[1].starts_with("root      logs: 1 sent"), "{outcome}");
    assert_eq!(stage.logins(), 1, "{outcome}");
    sync().args(["--json"]).ok().assert_sent_nothing();
    assert_eq!(stage.logins(), 1, "the connection was there still");
}

#[test]
fn the_lines_of_each_root_are_told_apart() {
    let stage = Stage::with_state("f a 'x'");
    tree(&stage.near("home/b"), "f a 'y'");
    let plan = stage.plan_of_app("[[root]]\nname = \"b\"\npath = \"~/b\"\n");
    let sync = || stage.lab.cutover(["sync", "-n", "--plan"]).args([&plan]);
    let outcome = sync().ok();
    let heads: Vec<_> = outcome
        .stdout
        .lines()
        .filter(|line| line.contains(" -> "))
        .collect();
    assert_eq!(heads.len(), 2, "{outcome}");
    assert!(heads[0].starts_with("root app: "), "{outcome}");
    let lines = sync().args(["--json"]).ok().json_lines();
    let events: Vec<_> = lines
        .iter()
        .map(|line| line["event"].as_str().unwrap())
        .collect();
    let roots = events.iter().filter(|event| **event == "root").count();
    let summaries = events
        .iter()
        .filter(|event| **event == "root_summary")
        .count();
    assert_eq!(
        (roots, summaries, *events.last().unwrap()),
        (2, 2, "summary")
    );
    assert_eq!(lines.last().unwrap()["files_sent"], 2, "of both together");
    assert!(!stage.far_home().join(".app").exists(), "it was a dry run");
}

#[test]
fn a_comparison_of_a_plan_is_of_all_roots() {
    let stage = Stage::with_state("f a 'x'");
    tree(&stage.near("home/b"), "f a 'y'");
    let plan = stage.plan_of_app("[[root]]\nname = \"b\"\npath = \"~/b\"\n");
    let run = |verb: &str| stage.lab.cutover([verb, "--plan"]).args([&plan]);
    run("sync").ok();
    run("diff").ok();
    run("verify")
        .ok()
        .says("root      app: identical")
        .says("root      b: identical");
    fs::write(stage.far_home().join("b/a"), "other").unwrap();
    run("diff").code(1).says("root      b: different");
    run("verify")
        .code(1)
        .says("root      app: identical")
        .says("root      b: different");
}

#[test]
fn a_root_that_cannot_be_synced_is_named_and_ends_the_run() {
    let stage = Stage::with_state("f a 'x'");
    fs::create_dir(stage.near("home/empty")).unwrap();
    tree(&stage.far_home().join("empty"), "f precious 'y'");
    let plan = stage.plan_of_app("[[root]]\nname = \"empty\"\npath = \"~/empty\"\n");
    let outcome = stage.lab.cutover(["sync", "--plan"]).args([&plan]).code(5);
    outcome.says("root empty: ");
    assert_eq!(text_of(&stage.far_home().join("empty/precious")), "y");
    assert!(
        stage.far_home().join(".app/a").exists(),
        "what was done stays done"
    );
}

#[test]
fn an_optional_root_that_is_missing_is_left_out() {
    let stage = Stage::with_state("f a 'x'");
    let plan = stage.plan_of_app("[[root]]\nname = \"x\"\npath = \"~/x\"\noptional = true\n");
    stage.lab.cutover(["sync", "--plan"]).args([&plan]).ok();
    assert!(!stage.far_home().join("x").exists());
}

#[test]
fn what_is_deleted_goes_to_the_trash() {
    let stage = Stage::with_state("f a 'x'");
    tree(&stage.far_home().join(".app"), "f old 'y'");
    let plan = stage.plan_of_app("");
    stage.lab.cutover(["sync", "--plan"]).args([&plan]).ok();
    let root = stage.far_home().join(".app");
    assert!(!root.join("old").exists());
    assert!(root.join(".cutover-trash").exists());
}

#[test]
fn a_database_that_is_written_to_meanwhile_is_told() {
    need("sqlite3");
    let stage = Stage::with_state("f big random(64M)");
    let database = stage.near("home/.app/app.db");
    let made = Command::new("sqlite3")
        .arg(&database)
        .arg("create table t(x)")
        .status();
    assert!(made.unwrap().success());
    let plan = stage.plan_of_app("[sync]\nbwlimit = \"32M\"\n");
    let sync = || {
        stage
            .lab
            .cutover(["sync", "--json", "--plan"])
            .args([&plan])
    };
    let mut running = sync().spawn();
    let far = stage.far_home().join(".app");
    running.wait_until("something arrives", || far.exists());
    let wrote = Command::new("sqlite3")
        .arg(&database)
        .arg("insert into t values(1)")
        .status();
    assert!(wrote.unwrap().success());
    let outcome = running.wait();
    let lines = outcome.json_lines();
    let warning = lines.iter().find(|line| line["topic"] == "database");
    let warning = warning.unwrap_or_else(|| panic!("no warning: {outcome}"));
    let message = warning["message"].as_str().unwrap();
    assert!(
        message.contains("the copy of app.db is not consistent"),
        "{message}"
    );
    // And nothing of the kind once it holds still.
    let outcome = sync().run();
    assert!(
        outcome
            .json_lines()
            .iter()
            .all(|line| line["topic"] != "database"),
        "{outcome}"
    );
}
