//! Switches that go astray: someone meddles, a command lies or is gone, a disk is full, and what
//! the plan asks for is not there. Exactly one side serves afterwards, and the words say which.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::common::sshd::Sshd;
use crate::deaths::has;
use crate::site::Site;

/// Replaces a line of the plan that begins with `key` by `with`.
fn rewrite(plan: &Path, key: &str, with: &str) {
    let text = fs::read_to_string(plan).unwrap();
    let replaced: Vec<&str> = text
        .lines()
        .map(|line| if line.starts_with(key) { with } else { line })
        .collect();
    assert!(replaced.contains(&with), "no line begins with {key}");
    fs::write(plan, replaced.join("\n") + "\n").unwrap();
}

/// Two machines with a directory `data` of which `text` is in a file, and a plan without a
/// service.
fn plain(text: &str, more: &str) -> (Site, PathBuf) {
    let site = Site::bare();
    let data = site.old.home().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), text).unwrap();
    let plan = format!(
        "name = \"plain\"\n[source]\n[destination]\n[[root]]\nname = \"data\"\npath = \"~/data\"\n\
         {more}"
    );
    let plan = site.write_plan(&site.addressed(&plan));
    (site, plan)
}

/// The names of what is kept of a root.
fn kept(root: &Path) -> Vec<String> {
    let names = fs::read_dir(root.join(".cutover-kept"));
    let names = names.into_iter().flatten().flatten();
    names
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_rehearsal_until_a_step_that_the_plan_lacks_goes_no_further() {
    let site = Site::with_gateway();
    let plan = site.plan("");
    site.cutover("switch --until before-stop", &plan).ok();
    assert!(site.runs_on(&site.old) && !site.runs_on(&site.new));
    let stopped = site
        .cutover("switch --resume --until after-stop", &plan)
        .ok();
    assert!(!site.runs_on(&site.old) && !site.runs_on(&site.new));
    stopped.says("Neither side is live");
    stopped.says("cutover switch --resume");
    site.cutover("rollback", &plan).ok();
    assert!(site.runs_on(&site.old) && !site.runs_on(&site.new));
}

#[test]
fn a_word_that_would_change_nothing_is_refused() {
    let site = Site::with_gateway();
    let plan = site.plan("");
    site.cutover("switch --done stop", &plan)
        .code(2)
        .says("it goes with --resume");
    site.cutover("rollback", &plan).code(2);
    site.cutover("switch --until keep", &plan).ok();
    for (words, why) in [
        ("--done stop", "`stop` was not begun"),
        ("--redo keep", "`keep` has ended"),
        ("--done unfence", "`unfence` was not begun"),
    ] {
        let said = site.cutover(&format!("switch --resume {words}"), &plan);
        said.code(2).says(why);
    }
    assert!(site.runs_on(&site.old) && !site.runs_on(&site.new));
}

#[test]
fn a_source_that_ran_again_before_the_switch_goes_on_is_copied_again() {
    for last in ["final-sync", "fence"] {
        let site = Site::with_gateway();
        let plan = site.plan("");
        site.cutover(&format!("switch --until {last}"), &plan).ok();
        let heard = site.heard(&site.old);
        // Not even running by now: what it wrote counts all the same.
        site.on_old(&["gateway", "start"]);
        std::thread::sleep(Duration::from_millis(500));
        site.on_old(&["gateway", "stop"]);
        let since = site.heard(&site.old);
        assert!(since > heard, "{last}");
        site.cutover("switch --resume", &plan).ok();
        assert!(site.runs_on(&site.new) && !site.runs_on(&site.old));
        assert!(site.heard(&site.new) >= since, "{last}");
    }
}

#[test]
fn a_source_that_runs_again_is_stopped_again_when_the_switch_goes_on() {
    let site = Site::with_gateway();
    let plan = site.plan("\n[switch]\nfence = \"read-only\"\n");
    let text = fs::read_to_string(&plan).unwrap();
    let once = text.replacen("[switch]\non-failure = \"rollback\"\n", "", 1);
    fs::write(&plan, once).unwrap();
    site.cutover("switch --until fence", &plan).ok();
    site.on_old(&["gateway", "start"]);
    std::thread::sleep(Duration::from_millis(300));
    site.cutover("switch --resume", &plan).ok();
    let (old, new) = (site.heard(&site.old), site.heard(&site.new));
    assert!(site.runs_on(&site.new) && !site.runs_on(&site.old));
    assert!(new >= old, "{old:?} {new:?}");
}

#[test]
fn a_source_that_is_started_behind_the_switchs_back_keeps_the_destination_asleep() {
    let hook = "\n[[hook]]\nwhen = \"before-start\"\non = \"source\"\n\
                run = [\"aipro\", \"gateway\", \"start\"]\n";
    let site = Site::with_gateway();
    let plan = site.plan(hook);
    let outcome = site.cutover("switch", &plan).code(3);
    outcome.says("the source may be in use again");
    outcome.says("rolled back");
    outcome.says("the source is the live side");
    assert!(site.runs_on(&site.old) && !site.runs_on(&site.new));

    let site = Site::with_gateway();
    let plan = site.plan(hook);
    rewrite(&plan, "on-failure", "on-failure = \"stop\"");
    let outcome = site.cutover("switch", &plan).run();
    assert!(!outcome.status.success(), "{outcome}");
    assert!(!outcome.stderr.contains("neither side"), "{outcome}");
    assert!(site.runs_on(&site.old) && !site.runs_on(&site.new));
    // What it writes from now on is not in the copy: there is no way on, only back.
    site.on_old(&["gateway", "stop"]);
    let resumed = site.cutover("switch --resume", &plan).code(5);
    resumed.says("cutover rollback");
    assert!(!site.runs_on(&site.new));
    site.cutover("rollback", &plan).ok();
    assert!(site.runs_on(&site.old) && !site.runs_on(&site.new));
}

#[test]
fn a_root_that_another_run_holds_is_told_with_the_side_that_is_live() {
    let (site, plan) = plain("x", "");
    site.cutover("switch --until prove-stopped", &plan).ok();
    let root = fs::File::open(site.new.home().join("data")).unwrap();
    rustix::fs::flock(&root, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let outcome = site.cutover("switch --resume", &plan).code(7);
    outcome.says("At this moment the source is the live side");
    drop(root);
    site.cutover("switch --resume", &plan).ok();
}

#[test]
fn two_that_run_in_the_end_are_no_success() {
    let (site, plan) = plain(
        "x",
        "[service]\nstatus = { command = \"test -e ~/up\", shell = true }\n\
         start = { command = \"touch ~/up\", shell = true }\n\
         stop = { command = \"rm ~/up\", shell = true }\n\
         [[hook]]\nwhen = \"after-switch\"\non = \"source\"\n\
         run = { command = \"touch ~/up\", shell = true }\n",
    );
    let up = |machine: &Sshd| machine.home().join("up").exists();
    fs::write(site.old.home().join("up"), "").unwrap();
    let outcome = site.cutover("switch", &plan).code(5);
    outcome.says("on the source again, and on the destination too");
    outcome.says("both sides are live: stop one of them at once");
    assert!(!outcome.stderr.contains("refused: refused"), "{outcome}");
    assert!(up(&site.old) && up(&site.new));
    // What it wrote there is lost if the switch goes on: a person has to say that it may be.
    let again = site.cutover("switch --resume", &plan).code(5);
    again
        .says("--redo prove-stopped")
        .says("both sides are live");
    site.cutover("rollback", &plan).ok();
    assert!(up(&site.old) && !up(&site.new));
}

#[test]
fn a_destination_that_does_not_stop_keeps_the_source_asleep() {
    let (site, plan) = plain(
        "x",
        "[service]\nstatus = { command = \"test -e ~/up\", shell = true }\n\
         start = { command = \"touch ~/up\", shell = true }\n\
         stop = { command = \"rm ~/up\", shell = true }\n\
         destination.stop = { command = \"echo it hangs; exit 9\", shell = true }\n",
    );
    let up = |machine: &Sshd| machine.home().join("up");
    fs::write(up(&site.old), "").unwrap();
    site.cutover("switch", &plan).ok();
    let failed = site.cutover("rollback", &plan).code(3);
    failed.says("destination | it hangs").says("exited with 9");
    failed.says("the source is not live; whether the destination is, is not known");
    assert!(!up(&site.old).exists());
    fs::remove_file(up(&site.new)).unwrap();
    site.cutover("rollback", &plan).ok();
    assert!(up(&site.old).exists() && !up(&site.new).exists());
}

#[test]
fn a_state_is_kept_by_the_means_of_the_plan_or_the_switch_ends_before_the_stop() {
    let means = ["copy", "hard-link", "reflink"];
    for keep in means {
        let (site, plan) = plain("x", &format!("[switch]\nkeep = \"{keep}\"\n"));
        let outcome = site.cutover("switch", &plan).run();
        if !outcome.status.success() {
            assert_eq!(keep, "reflink", "{outcome}");
            outcome.says("the source is the live side").says("reflink");
            assert!(!site.old.home().join("data/.cutover-marker").exists());
            continue;
        }
        let file = site.new.home().join("data/file");
        fs::write(&file, "changed in place").unwrap();
        site.cutover("rollback", &plan).ok();
        assert_eq!(fs::read_to_string(file).unwrap(), "x", "{keep}");
    }
}

#[test]
fn a_status_command_that_cannot_be_run_proves_nothing() {
    let site = Site::with_gateway();
    let plan = site.plan(
        "\n[[hook]]\nwhen = \"before-stop\"\non = \"source\"\n\
         run = { command = \"mv ~/bin/aipro ~/bin/gone\", shell = true }\n",
    );
    rewrite(
        &plan,
        "status = ",
        "status = { command = \"aipro status\", shell = true }",
    );
    rewrite(
        &plan,
        "stop = ",
        "stop = { command = \"~/bin/gone gateway stop\", shell = true }",
    );
    rewrite(&plan, "on-failure", "on-failure = \"stop\"");
    let outcome = site.cutover("switch", &plan).run();
    let bin = site.old.home().join("bin");
    fs::rename(bin.join("gone"), bin.join("aipro")).unwrap();
    assert_eq!(outcome.status.code(), Some(3), "{outcome}");
    outcome.says("does not tell whether the service runs");
    assert!(!site.runs_on(&site.new));
    assert!(site.runs_on(&site.old));
}

#[test]
fn what_a_preflight_refused_can_be_mended_and_begun_anew() {
    let (site, plan) = plain("x", "required = [\"missing\"]\n");
    site.cutover("switch", &plan).code(5);
    let text = fs::read_to_string(&plan).unwrap();
    fs::write(&plan, text.replace("required = [\"missing\"]\n", "")).unwrap();
    site.cutover("switch", &plan).ok();
}

#[test]
fn a_plan_without_a_service_says_which_side_counts() {
    let (site, plan) = plain("x", "");
    let switched = site.cutover("switch", &plan).ok();
    switched.says("The destination is the live side");
    // Nor does a switch that is turned away say otherwise.
    let again = site.cutover("switch", &plan).code(5);
    assert!(!again.stdout.contains("source is the live"), "{again}");
    let back = site.cutover("rollback", &plan).ok();
    back.says("The source is the live side");
    assert!(!site.old.home().join("data/.cutover-marker").exists());
}

#[test]
fn a_plan_without_a_service_goes_on_behind_its_fence_and_back_by_itself() {
    let check = "[[check]]\nkind = \"file\"\nname = \"more\"\npath = \"/nonexistent\"\n";
    let (site, plan) = plain("x", &format!("{check}[switch]\nfence = \"rename\"\n"));
    site.cutover("switch", &plan).code(3);
    let failing = fs::read_to_string(&plan).unwrap();
    fs::write(&plan, failing.replace(check, "")).unwrap();
    site.cutover("switch --resume", &plan).ok();
    site.cutover("rollback", &plan).ok();

    let back = format!("{failing}on-failure = \"rollback\"\n");
    fs::write(&plan, back).unwrap();
    let failed = site.cutover("switch", &plan).code(3);
    failed
        .says("rolled back")
        .says("the source is the live side");
    let old = site.old.home();
    assert!(old.join("data/file").exists() && !old.join("data/.cutover-marker").exists());
}

#[test]
fn a_fence_is_taken_down_as_it_was_put_up_whatever_the_plan_says_by_then() {
    let (site, plan) = plain(
        "x",
        "[[root]]\nname = \"more\"\npath = \"~/more\"\noptional = true\n\
         [switch]\nfence = \"rename\"\n",
    );
    let more = site.old.home().join("more");
    fs::create_dir(&more).unwrap();
    fs::write(more.join("file"), "y").unwrap();
    site.cutover("switch", &plan).ok();
    let old = site.old.home();
    assert!(!old.join("data").exists() && !more.exists());
    let text = fs::read_to_string(&plan).unwrap();
    fs::write(&plan, text.replace("fence = \"rename\"\n", "")).unwrap();
    site.cutover("rollback", &plan).ok();
    for root in ["data", "more"] {
        assert!(old.join(root).join("file").exists(), "{root}");
        assert!(!old.join(root).join(".cutover-marker").exists(), "{root}");
        assert!(!old.join(format!("{root}.moved")).exists(), "{root}");
    }
}

#[test]
fn a_status_command_within_the_roots_need_not_tell_once_they_are_away() {
    let (site, plan) = plain(
        "x",
        "[service]\nstatus = { command = [\"./up\"], dir = \"${CUTOVER_ROOT}/bin\" }\n\
         [switch]\nfence = \"rename\"\n",
    );
    let bin = site.old.home().join("data/bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("up"), "#!/bin/sh\nexit 3\n").unwrap();
    fs::set_permissions(bin.join("up"), PermissionsExt::from_mode(0o755)).unwrap();
    // There is nothing to tell on the destination yet.
    fs::create_dir_all(site.new.home().join("data/bin")).unwrap();
    fs::copy(bin.join("up"), site.new.home().join("data/bin/up")).unwrap();
    let text = fs::read_to_string(&plan).unwrap();
    let starting = text.replace(
        "[service]",
        "[service]\nstart = { command = \"sed -i s/3/0/ up\", shell = true, \
         dir = \"${CUTOVER_ROOT}/bin\" }\n\
         stop = { command = \"sed -i s/0/3/ up\", shell = true, dir = \"${CUTOVER_ROOT}/bin\" }",
    );
    fs::write(&plan, starting).unwrap();
    site.cutover("switch", &plan).ok();
    site.cutover("rollback", &plan).ok();
    assert!(bin.join("up").exists());
}

#[test]
fn a_rollback_goes_on_without_a_kept_state_that_someone_removed() {
    let site = Site::with_gateway();
    let plan = site.plan("");
    site.cutover("switch", &plan).ok();
    fs::remove_dir_all(site.state(&site.new).join(".cutover-kept")).unwrap();
    let failed = site.cutover("rollback", &plan).code(5);
    failed.says("--done restore");
    failed.says("neither side is live");
    // Meanwhile its supervisor starts it there.
    crate::site::succeeding(site.aipro(&site.new, &["gateway", "start"]));
    site.cutover("rollback --done restore", &plan).ok();
    assert!(site.runs_on(&site.old) && !site.runs_on(&site.new));
}

#[test]
fn a_start_that_fails_half_way_is_stopped_before_the_way_back() {
    let site = Site::with_gateway();
    let plan = site.plan("");
    rewrite(
        &plan,
        "start = ",
        "destination.start = { command = \"sleep 300 <$CUTOVER_ROOT/aipro.json >/dev/null 2>&1 & \
         echo $! >~/holder; exit 1\", shell = true }\n\
         destination.stop = { command = \"kill $(cat ~/holder)\", shell = true }\n\
         start = [\"aipro\", \"gateway\", \"restart\"]",
    );
    let outcome = site.cutover("switch", &plan).code(3);
    outcome.says("rolled back");
    assert!(site.runs_on(&site.old) && !site.runs_on(&site.new));
}

#[test]
fn what_was_kept_for_an_earlier_switch_goes_with_the_next() {
    let (site, plan) = plain("x", "");
    let data = site.new.home().join("data");
    fs::create_dir(&data).unwrap();
    site.cutover("switch", &plan).ok();
    site.cutover("rollback", &plan).ok();
    assert!(kept(&data).iter().any(|name| name.ends_with("-replaced")));
    std::thread::sleep(Duration::from_millis(1100));
    site.cutover("switch", &plan).ok();
    assert_eq!(kept(&data).len(), 1, "{:?}", kept(&data));
}

#[test]
fn a_file_of_any_name_that_was_written_to_in_place_comes_from_the_source_again() {
    let (site, plan) = plain("x", "[switch]\nkeep = \"hard-link\"\n");
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9 \\#1");
    fs::write(site.old.home().join("data").join(name), "as it was").unwrap();
    site.cutover("switch", &plan).ok();
    let copy = site.new.home().join("data").join(name);
    fs::write(&copy, "written to in place").unwrap();
    site.cutover("rollback", &plan).ok();
    assert_eq!(fs::read_to_string(copy).unwrap(), "as it was");
}

#[test]
fn a_report_tells_what_an_earlier_run_found() {
    let (site, plan) = plain("x", "");
    site.cutover("switch --until databases", &plan).ok();
    let resumed = site.cutover("switch --resume --json", &plan).ok();
    let lines = resumed.json_lines();
    let report = lines.iter().find(|line| line["event"] == "report").unwrap();
    let report = &report["report"];
    assert_eq!(report["roots"][0]["digest"].as_str().unwrap().len(), 64);
    assert!(!report["findings"].as_array().unwrap().is_empty());
    let back = site.cutover("rollback --json", &plan).ok();
    let lines = back.json_lines();
    let report = lines.iter().find(|line| line["event"] == "report").unwrap();
    assert!(!report["report"]["roots"][0]["digest"].is_null());
}

#[test]
fn what_a_plan_that_deletes_nothing_leaves_there_is_no_difference() {
    let (site, plan) = plain("x", "[sync]\ndelete = false\n");
    let there = site.new.home().join("data");
    fs::create_dir(&there).unwrap();
    fs::write(there.join("own"), "of the new home").unwrap();
    site.cutover("switch", &plan).ok();
    assert_eq!(fs::read_to_string(there.join("file")).unwrap(), "x");
    assert!(there.join("own").exists());
}

#[test]
fn a_switch_does_not_go_on_by_another_way_to_its_hosts() {
    let (site, plan) = plain("x", "");
    site.cutover("switch --until keep", &plan).ok();
    let words = format!("ssh = [\"-F\", {:?}]", site.new.ssh_config());
    let text = fs::read_to_string(&plan).unwrap();
    assert!(text.contains(&words), "{text}");
    let another = format!("shell = {:?}", site.new.shell());
    fs::write(&plan, text.replace(&words, &another)).unwrap();
    let refused = site.cutover("switch --resume", &plan).code(5);
    refused.says("give the plan back");
    fs::write(&plan, text).unwrap();
    site.cutover("switch --resume", &plan).ok();
}

#[test]
fn programs_are_told_of_a_host_that_is_not_reached() {
    let (site, plan) = plain("x", "");
    let text = fs::read_to_string(&plan).unwrap();
    let nowhere = text.replace(crate::common::sshd::HOST, "nowhere.invalid");
    fs::write(&plan, nowhere).unwrap();
    let outcome = site.cutover("switch --json", &plan).code(6);
    let lines = outcome.json_lines();
    assert_eq!(lines[0]["event"], "error");
    assert_eq!(lines[0]["class"], "connection");
}

#[test]
fn programs_are_told_the_steps_of_a_dry_run() {
    let service = "[service]\nstop = [\"true\"]\n";
    let (site, plan) = plain("x", service);
    let outcome = site.cutover("switch --dry-run --json", &plan).ok();
    let lines = outcome.json_lines();
    assert!(lines.iter().all(|line| line["state"] == "ahead"));
    let stop = lines.iter().find(|line| line["step"] == "stop").unwrap();
    assert_eq!(stop["commands"][0]["side"], "source");
    assert_eq!(stop["commands"][0]["words"][0], "true");
}

#[test]
fn a_report_that_cannot_be_written_hides_nothing() {
    let (site, plan) = plain(
        "x",
        "[[check]]\nkind = \"file\"\nname = \"nothing\"\npath = \"/nonexistent\"\n",
    );
    let outcome = site.cutover("switch --report /nonexistent/report.html", &plan);
    let outcome = outcome.code(3);
    outcome.says("nothing");
    outcome.says("To go back: cutover rollback");
    outcome.says("/nonexistent/report.html");
}

#[test]
fn an_interrupt_ends_with_its_code_and_the_side_that_is_live() {
    for (step, side) in [
        ("warm-sync", "the source is the live side"),
        ("prove-stopped", "neither side is live"),
    ] {
        let site = Site::with_gateway();
        let plan = site.plan("");
        let mut run = site.cutover("switch", &plan).spawn();
        run.wait_until(step, || has(&site.lab, step, "ended"));
        run.signal(Signal::INT);
        let outcome = run.wait();
        assert_eq!(outcome.status.code(), Some(130), "{outcome}");
        outcome.says(side).says("To go on: cutover switch --resume");
        site.cutover("switch --resume", &plan).ok();
    }
}

#[test]
fn a_second_switch_at_once_is_turned_away() {
    let site = Site::with_gateway();
    let plan = site.plan("");
    let mut run = site.cutover("switch", &plan).spawn();
    run.wait_until("keep", || has(&site.lab, "warm-sync", "began"));
    site.cutover("switch", &plan).code(7).says("under way");
    site.cutover("rollback", &plan).code(7);
    assert!(run.wait().status.success());
    assert!(site.runs_on(&site.new) && !site.runs_on(&site.old));
}

fn journal_of(site: &Site) -> PathBuf {
    let state = site.lab.home("near");
    let state = state
        .into_iter()
        .find(|(name, _)| *name == "XDG_STATE_HOME")
        .map(|(_, dir)| dir.join("cutover/switch"));
    let files = fs::read_dir(state.unwrap()).unwrap().flatten();
    let mut files = files.map(|entry| entry.path());
    files
        .find(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .unwrap()
}

#[test]
fn a_journal_that_was_cut_short_goes_on_and_a_damaged_one_is_not_guessed_at() {
    let (site, plan) = plain("x", "");
    site.cutover("switch --until verify", &plan).ok();
    let journal = journal_of(&site);
    let text = fs::read_to_string(&journal).unwrap();
    // In the middle of the line that a step had ended.
    fs::write(&journal, &text[..text.len() - 9]).unwrap();
    site.cutover("switch --resume", &plan).ok();
    site.cutover("rollback", &plan).ok();

    let text = fs::read_to_string(&journal).unwrap();
    let damaged = text.replacen("\"step\":\"warm-sync\"", "\"step\":\"warm-", 1);
    assert_ne!(damaged, text);
    fs::write(&journal, damaged).unwrap();
    for verb in ["switch", "switch --resume", "rollback"] {
        let refused = site.cutover(verb, &plan).code(3);
        refused.says(journal.to_str().unwrap()).says("line ");
    }
    fs::remove_file(&journal).unwrap();
    site.cutover("rollback", &plan).code(2).says("no switch of");
}

#[test]
fn a_full_disk_under_the_journal_stops_the_switch_before_the_step_and_leaves_whole_lines() {
    let (site, plan) = plain("x", "");
    site.cutover("switch --until verify", &plan).ok();
    let journal = journal_of(&site);
    let dir = journal.parent().unwrap();
    let small = Mounted::tmpfs(dir, "size=64k");
    fs::write(
        dir.join(journal.file_name().unwrap()),
        small.before(&journal),
    )
    .unwrap();
    let filler = dir.join("filler");
    let _ = fs::write(&filler, vec![0; 1 << 20]);
    let failed = site.cutover("switch --resume", &plan).run();
    assert_eq!(failed.status.code(), Some(3), "{failed}");
    failed.says("journal");
    assert!(fs::read_to_string(&journal).unwrap().ends_with('\n'));
    fs::remove_file(&filler).unwrap();
    site.cutover("switch --resume", &plan).ok();
    site.cutover("rollback", &plan).ok();
}

/// A small filesystem over a directory, as long as it lives.
struct Mounted {
    dir: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Mounted {
    fn tmpfs(dir: &Path, options: &str) -> Mounted {
        let files = fs::read_dir(dir).unwrap().flatten();
        let files = files
            .map(|entry| (entry.path(), fs::read(entry.path()).unwrap()))
            .collect();
        let mount = ["-t", "tmpfs", "-o", options, "none"];
        let mut mount = std::process::Command::new("mount")
            .args(mount)
            .arg(dir)
            .spawn();
        assert!(mount.as_mut().unwrap().wait().unwrap().success());
        Mounted {
            dir: dir.into(),
            files,
        }
    }

    /// What a file held that is below the mount now.
    fn before(&self, path: &Path) -> &[u8] {
        &self.files.iter().find(|(name, _)| name == path).unwrap().1
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let umount = std::process::Command::new("umount").arg(&self.dir).status();
        assert!(umount.is_ok());
    }
}
