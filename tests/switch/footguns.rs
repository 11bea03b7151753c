//! What people do wrong when they move a service, each provoked once and caught.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::site::{Site, succeeding};

/// The check before the switch refuses, says `texts`, and the old machine still serves.
#[track_caller]
fn refused(site: &Site, plan: &std::path::Path, texts: &[&str]) {
    let checked = site.lab.cutover(["plan", "check"]).args([plan]).code(5);
    for text in texts {
        checked.says(text);
    }
    site.cutover("switch", plan).code(5);
    assert!(!site.runs_on(&site.new), "the new machine must not serve");
}

#[test]
fn a_state_directory_that_the_config_does_not_mean_is_refused() {
    let site = Site::with_gateway();
    let config = site.state(&site.old).join("aipro.json");
    let text = fs::read_to_string(&config).unwrap();
    let elsewhere = text.replacen('{', "{\n  \"stateDir\": \"/srv/elsewhere\",", 1);
    fs::write(&config, elsewhere).unwrap();
    refused(&site, &site.plan(""), &["/srv/elsewhere"]);
}

#[test]
fn a_profile_that_the_plan_forgets_is_refused() {
    let site = Site::with_gateway();
    succeeding(site.aipro(&site.old, &["--profile", "work", "onboard"]));
    refused(&site, &site.plan(""), &[".aipro-work"]);
}

#[test]
fn a_config_without_credentials_is_refused() {
    let site = Site::bare();
    site.on_old(&["onboard"]);
    fs::remove_dir_all(site.state(&site.old).join("credentials")).unwrap();
    refused(&site, &site.plan(""), &["credentials"]);
}

#[test]
fn sessions_on_another_host_are_refused_and_the_host_is_named() {
    let site = Site::with_gateway();
    let config = site.state(&site.old).join("aipro.json");
    let text = fs::read_to_string(&config).unwrap();
    let remote = text.replace(
        "\"mode\": \"local\"",
        "\"mode\": \"remote\", \"remote\": { \"url\": \"wss://gateway.example\" }",
    );
    fs::write(&config, remote).unwrap();
    refused(&site, &site.plan(""), &["wss://gateway.example"]);
}

#[test]
fn a_path_in_the_config_that_leads_to_live_data_over_there_is_refused() {
    let site = Site::with_gateway();
    let live = site.lab.path("workspace-of-the-source");
    fs::create_dir_all(&live).unwrap();
    let config = site.state(&site.old).join("aipro.json");
    let text = fs::read_to_string(&config).unwrap();
    let inside = site.state(&site.old).join("workspace");
    let named = text.replacen('{', &format!("{{\n  \"workspace\": {inside:?},"), 1);
    fs::write(&config, named).unwrap();
    // Both machines are one here, so the old one's path exists on the new one too.
    refused(
        &site,
        &site.plan(""),
        &["aipro.json:2", inside.to_str().unwrap()],
    );
    assert!(!inside.join(".doctor").exists());
}

#[test]
fn secrets_that_anyone_can_read_are_a_warning_with_the_remedy() {
    let site = Site::with_gateway();
    let state = site.state(&site.old);
    for open in [state.clone(), state.join("credentials")] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let token = state.join("credentials/telegram.json");
    fs::set_permissions(token, fs::Permissions::from_mode(0o644)).unwrap();
    let checked = site
        .lab
        .cutover(["plan", "check"])
        .args([site.plan("")])
        .ok();
    checked.says("credentials/telegram.json");
    checked.says("chmod");
}

#[test]
fn an_owner_that_the_service_is_not_is_found_by_the_checks() {
    let site = Site::with_gateway();
    // As a copy made by root leaves it: whose service it is, is in the plan, but no owner.
    let check = "\n[[check]]\nkind = \"readable-as\"\nname = \"its own state\"\n";
    let plan = site.plan(check);
    let text = fs::read_to_string(&plan).unwrap();
    fs::write(
        &plan,
        text.replacen("[service]", "[service]\nuser = \"nobody\"", 1),
    )
    .unwrap();
    let outcome = site.cutover("switch", &plan).run();
    assert!(!outcome.status.success(), "{outcome}");
    outcome.says("nobody");
    assert!(!site.runs_on(&site.new));
}

#[test]
fn a_gateway_that_runs_on_the_new_machine_already_is_refused() {
    let site = Site::with_gateway();
    let here = site.aipro(&site.new, &["onboard"]);
    succeeding(here);
    let config = site.state(&site.new).join("aipro.json");
    let text = fs::read_to_string(&config).unwrap();
    let other = crate::site::port().to_string();
    fs::write(&config, text.replace(&site.port.to_string(), &other)).unwrap();
    succeeding(site.aipro(&site.new, &["gateway", "start"]));
    let checked = site
        .lab
        .cutover(["plan", "check"])
        .args([site.plan("")])
        .code(5);
    checked.says("run");
    let outcome = site.cutover("switch", &site.plan("")).code(5);
    outcome.says("the source is the live side");
    assert!(site.runs_on(&site.old));
}

#[test]
fn a_stop_that_stops_nothing_is_found_out() {
    let site = Site::with_gateway();
    let plan = site.plan("");
    let text = fs::read_to_string(&plan).unwrap();
    let lying = text
        .lines()
        .map(|line| match line.starts_with("stop") {
            true => "stop = [\"true\"]",
            false => line,
        })
        .collect::<Vec<_>>()
        .join("\n");
    fs::write(&plan, lying).unwrap();
    let outcome = site.cutover("switch", &plan).code(3);
    outcome.says("still runs on the source");
    assert!(site.runs_on(&site.old) && !site.runs_on(&site.new));
}

#[test]
fn a_process_that_keeps_a_file_open_is_named() {
    let site = Site::with_gateway();
    let plan = site.plan("");
    let file = fs::File::open(site.state(&site.old).join("aipro.json")).unwrap();
    let mut holder = std::process::Command::new("sleep")
        .arg("300")
        .stdin(file)
        .spawn()
        .unwrap();
    let outcome = site.cutover("switch", &plan).code(3);
    holder.kill().unwrap();
    holder.wait().unwrap();
    outcome.says("sleep");
    outcome.says("aipro.json");
    assert!(!site.runs_on(&site.new));
}
