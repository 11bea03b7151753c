//! An agent or a connection is lost at every step of the journal: the switch says which side is
//! live, goes on when it is told to, and afterwards exactly one side serves.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use crate::common::sshd::Sshd;
use crate::deaths::{STEPS, has, one_side_serves};
use crate::site::Site;

/// Kills every agent that runs on a machine.
fn kill_agents(machine: &Sshd) {
    let home = [b"HOME=", machine.home().as_os_str().as_bytes()].concat();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let has_word = |file: &str, word: &[u8]| {
            let text = fs::read(entry.path().join(file)).unwrap_or_default();
            text.split(|byte| *byte == 0).any(|found| found == word)
        };
        if has_word("cmdline", b"agent") && has_word("environ", &home) {
            // It may just have ended.
            let pid = entry.file_name();
            let _ = Command::new("kill").arg("-9").arg(pid).output();
        }
    }
}

fn goes_on_after(step: &str, lose: impl Fn(&Site)) {
    let site = Site::with_gateway();
    let plan = site.plan("");
    let mut run = site.cutover("switch", &plan).spawn();
    run.wait_until(step, || has(&site.lab, step, "began"));
    lose(&site);
    let outcome = run.wait();
    if !outcome.status.success() {
        outcome
            .says("At this moment")
            .says("To go on: cutover switch --resume");
        resume(&site, &plan);
    }
    one_side_serves(&site);
    assert!(site.runs_on(&site.new), "{step}: {outcome}");
}

/// Goes on, with a person's word where one is asked for.
fn resume(site: &Site, plan: &Path) {
    let resumed = site.cutover("switch --resume", plan).run();
    if resumed.stderr.contains("--redo") {
        site.cutover("switch --resume --redo doctor", plan).ok();
    } else {
        assert!(resumed.status.success(), "{resumed}");
    }
}

#[test]
fn a_switch_goes_on_after_the_destinations_agents_were_killed() {
    for step in STEPS {
        goes_on_after(step, |site| kill_agents(&site.new));
    }
}

#[test]
fn a_switch_goes_on_after_the_sources_agents_were_killed() {
    for step in STEPS {
        goes_on_after(step, |site| kill_agents(&site.old));
    }
}

#[test]
fn a_switch_goes_on_after_all_connections_were_cut() {
    for step in STEPS {
        goes_on_after(step, |site| {
            site.old.cut_connections();
            site.new.cut_connections();
        });
    }
}
