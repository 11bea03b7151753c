//! The gateway moves, and comes back.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::common::dump::Dump;
use crate::site::Site;

#[test]
fn a_gateway_moves_with_all_it_remembers_and_comes_back() {
    let site = Site::with_gateway();
    let plan = site.plan("");
    std::thread::sleep(std::time::Duration::from_millis(300));

    let switched = site.cutover("switch", &plan).ok();
    switched.says("The destination is the live side");
    switched.says("ok    the gateway runs");
    assert!(site.runs_on(&site.new) && !site.runs_on(&site.old));
    // What the old one had heard is there, and the new one goes on hearing.
    let (old, _) = site.heard(&site.old);
    let (new, lines) = site.heard(&site.new);
    assert!(new >= old && lines >= old, "{old} {new} {lines}");
    let token = fs::metadata(site.state(&site.new).join("credentials/token")).unwrap();
    assert_eq!(token.mode() & 0o7777, 0o600);

    let back = site.cutover("rollback", &plan).ok();
    back.says("The source is the live side");
    let stale = "the gateway runs";
    assert!(!back.stdout.contains(stale), "{back}");
    assert!(site.runs_on(&site.old) && !site.runs_on(&site.new));
}

#[test]
fn a_rollback_gives_the_destination_back_what_it_had() {
    let site = Site::with_gateway();
    let plan = site.plan("");
    site.cutover("switch --until keep", &plan).ok();
    let before = Dump::of(&site.state(&site.new));
    std::thread::sleep(std::time::Duration::from_millis(300));
    site.cutover("switch --resume", &plan).ok();
    site.cutover("rollback", &plan).ok();
    let after = Dump::of(&site.state(&site.new));
    let ours = |line: &String| {
        !line.contains(".cutover-") && !line.starts_with(". ") && !line.starts_with(".:")
    };
    let differences: Vec<String> = before
        .differences(&after)
        .into_iter()
        .filter(ours)
        .collect();
    assert_eq!(differences, Vec::<String>::new());
}

#[test]
fn after_a_switch_nothing_is_synced_from_the_old_machine_any_more() {
    let site = Site::with_gateway();
    let plan = site.plan("");
    site.cutover("switch", &plan).ok();
    let again = site.cutover("switch", &plan).code(5);
    again.says("the destination is the live side");
    let synced = site
        .lab
        .cutover(["sync", "--no-progress", "--plan"])
        .args([&plan])
        .code(5);
    synced.says("nothing is synced from it any more");
    // Nor back over it.
    let over = site.lab.cutover(["sync", "--no-progress"]);
    over.args([site.lab.path("."), site.state(&site.old)])
        .code(5);
}

#[test]
fn a_dry_run_prints_the_steps_and_does_none() {
    let site = Site::with_gateway();
    let plan = site.plan("");
    let shown = site.cutover("switch -n", &plan).ok();
    for text in ["preflight", "final-sync", "gateway stop", "doctor", "fence"] {
        shown.says(text);
    }
    assert!(!site.state(&site.new).exists());
    assert!(site.runs_on(&site.old));
}

#[test]
fn a_rehearsal_stops_early_and_goes_on_later() {
    let site = Site::with_gateway();
    let plan = site.plan("");
    site.cutover("switch --until keep", &plan).ok();
    assert!(site.runs_on(&site.old));
    site.cutover("switch", &plan).code(5).says("--resume");
    site.cutover("switch --resume", &plan).ok();
    assert!(site.runs_on(&site.new) && !site.runs_on(&site.old));
}

#[test]
fn a_check_that_fails_leads_back_where_the_plan_says_so() {
    let site = Site::with_gateway();
    let plan = site.plan(
        "\n[[check]]\nkind = \"file\"\n\
         name = \"what is not there\"\npath = \"/nonexistent/file\"\n",
    );
    let failed = site.cutover("switch", &plan).code(3);
    failed.says("what is not there");
    failed.says("The switch goes back.").says("rolled back");
    failed.says("the source is the live side");
    assert!(site.runs_on(&site.old) && !site.runs_on(&site.new));
}

#[test]
fn the_report_says_what_was_done_and_names_equal_digests() {
    let site = Site::with_gateway();
    let plan = site.plan("");
    let html = site.lab.path("report.html");
    let run = site.cutover("switch --json", &plan);
    let run = run.args(["--report".as_ref(), html.as_os_str()]).ok();
    let text = fs::read_to_string(&html).unwrap();
    assert!(text.contains("switched") && !text.contains("http://") && !text.contains("src="));
    let lines = run.json_lines();
    let report = lines.iter().find(|line| line["event"] == "report").unwrap();
    let root = &report["report"]["roots"][0];
    assert_eq!(root["digest"].as_str().unwrap().len(), 64, "{root}");
    assert_eq!(report["report"]["live"], "destination");
}
