//! The controlling side dies at every step of the journal: afterwards the switch goes on or back,
//! exactly one side serves, and nothing that was heard is lost.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::common::lab::Lab;
use crate::site::Site;

/// The steps of a switch of the preset, as the journal names them.
const STEPS: [&str; 13] = [
    "preflight",
    "warm-sync",
    "keep",
    "stop",
    "prove-stopped",
    "final-sync",
    "verify",
    "databases",
    "fence",
    "doctor",
    "start",
    "status",
    "checks",
];

fn journal(lab: &Lab) -> String {
    let state = lab
        .home("near")
        .into_iter()
        .find(|(name, _)| *name == "XDG_STATE_HOME")
        .map(|(_, dir)| dir.join("cutover/switch"))
        .unwrap();
    let files = fs::read_dir(state).into_iter().flatten().flatten();
    let file: Option<PathBuf> = files
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "jsonl"));
    file.and_then(|file| fs::read_to_string(file).ok())
        .unwrap_or_default()
}

pub fn has(lab: &Lab, step: &str, what: &str) -> bool {
    let journal = journal(lab);
    let wanted = [
        format!("\"step\":\"{step}\""),
        format!("\"what\":\"{what}\""),
    ];
    journal
        .lines()
        .any(|line| wanted.iter().all(|text| line.contains(text)))
}

/// Starts a switch and kills the controlling side as soon as a step is in the journal.
fn die_at(site: &Site, plan: &std::path::Path, step: &str, what: &str) {
    let mut run = site.cutover("switch", plan).spawn();
    run.wait_until(step, || has(&site.lab, step, what));
    run.kill_alone();
    // What it had started on the other machines hears of its end.
    std::thread::sleep(Duration::from_millis(300));
}

#[track_caller]
fn one_side_serves(site: &Site) {
    let (old, new) = (site.runs_on(&site.old), site.runs_on(&site.new));
    assert!(old != new, "the old one runs: {old}, the new one: {new}");
}

fn resumes_after_death_at(step: &str, what: &str) {
    let site = Site::with_gateway();
    let plan = site.plan("");
    die_at(&site, &plan, step, what);
    assert!(!(site.runs_on(&site.old) && site.runs_on(&site.new)));
    let mut resumed = site.cutover("switch --resume", &plan).run();
    if resumed.stderr.contains("--redo") {
        resumed = site
            .cutover(&format!("switch --resume --redo {step}"), &plan)
            .run();
    }
    assert!(resumed.status.success(), "{step} {what}: {resumed}");
    one_side_serves(&site);
    assert!(site.runs_on(&site.new));
    let (old, _) = site.heard(&site.old);
    let (new, lines) = site.heard(&site.new);
    assert!(new >= old && lines >= old, "{step}: {old} {new} {lines}");
}

fn rolls_back_after_death_at(step: &str, what: &str) {
    let site = Site::with_gateway();
    let plan = site.plan("");
    die_at(&site, &plan, step, what);
    let back = site.cutover("rollback", &plan).run();
    assert!(back.status.success(), "{step} {what}: {back}");
    one_side_serves(&site);
    assert!(site.runs_on(&site.old));
}

#[test]
fn a_switch_goes_on_after_a_death_when_a_step_began() {
    for step in STEPS {
        resumes_after_death_at(step, "began");
    }
}

#[test]
fn a_switch_goes_on_after_a_death_when_a_step_had_ended() {
    for step in &STEPS[..STEPS.len() - 1] {
        resumes_after_death_at(step, "ended");
    }
}

#[test]
fn a_switch_goes_back_after_a_death_at_any_step() {
    for step in STEPS {
        rolls_back_after_death_at(step, "began");
    }
}

#[test]
fn a_rollback_that_died_goes_on() {
    for step in [
        "stop-destination",
        "prove-destination-stopped",
        "unfence",
        "restore",
        "start-source",
    ] {
        let site = Site::with_gateway();
        let plan = site.plan("");
        site.cutover("switch", &plan).ok();
        let mut run = site.cutover("rollback", &plan).spawn();
        run.wait_until(step, || has(&site.lab, step, "began"));
        run.kill_alone();
        std::thread::sleep(Duration::from_millis(300));
        site.cutover("rollback", &plan).ok();
        one_side_serves(&site);
        assert!(site.runs_on(&site.old), "{step}");
    }
}

#[test]
fn a_cut_connection_leaves_a_switch_that_goes_on() {
    for step in ["warm-sync", "final-sync", "verify"] {
        let site = Site::with_gateway();
        let plan = site.plan("");
        let mut run = site.cutover("switch", &plan).spawn();
        run.wait_until(step, || has(&site.lab, step, "began"));
        site.new.cut_connections();
        let outcome = run.wait();
        if !outcome.status.success() {
            outcome.says("To go on: cutover switch --resume");
            site.cutover("switch --resume", &plan).ok();
        }
        one_side_serves(&site);
        assert!(site.runs_on(&site.new), "{step}");
    }
}
