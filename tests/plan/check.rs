//! What would be in the way of a switch, provoked.

use std::fs;
use std::os::unix::fs::symlink;

use crate::common::tree::tree;
use crate::needs;
use crate::stage::{Stage, chmod};

/// A state that nothing is wrong with.
const STATE: &str = "f config.json 0600 '{}'\n d keys 0700\n f keys/a 0600 'secret'\n m . 0700";

#[track_caller]
fn assert_only(trouble: &[String], start: &str) {
    assert!(
        trouble.len() == 1 && trouble[0].starts_with(start),
        "{trouble:#?}"
    );
}

#[test]
fn where_nothing_is_in_the_way_nothing_is_told_and_nothing_changed() {
    needs!(Root);
    let stage = Stage::with_state(STATE);
    let plan = stage.plan_of_app("required = [\"config.json\", \"keys/\"]\n");
    assert_eq!(stage.trouble(&plan), Vec::<String>::new());
    let table = stage.run("check", &plan).ok();
    table
        .says("ok      source")
        .says("0 fails: nothing is in the way");
    assert!(!table.stdout.contains('\x1b'), "no colours in a file");
    assert!(!stage.far_home().join(".app").exists());
}

#[test]
fn a_host_that_is_not_reached_is_a_row_with_advice() {
    let stage = Stage::with_state(STATE);
    let text = "name = \"x\"\n[destination]\nshell = \"/nonexistent/ssh\"\nhost = \"far\"\n\
                [[root]]\nname = \"app\"\npath = \"~/.app\"\n";
    let plan = stage.write("plan.toml", text);
    let outcome = stage.run("check", &plan).code(5);
    outcome
        .says("ok      source")
        .says("FAIL    destination")
        .says("-> ");
}

#[test]
fn a_state_of_which_only_the_configuration_is_there_is_refused() {
    let stage = Stage::with_state("f config.json 0600 '{}'\n f keys 'a file'");
    let plan = stage.plan_of_app("required = [\"config.json\", \"keys/\", \"agents/\"]\n");
    let trouble = stage.trouble(&plan);
    assert_only(
        &trouble,
        "fail root app: 2 of 3 required names are missing in ",
    );
    assert!(trouble[0].ends_with("keys/, agents/"), "{trouble:?}");
}

#[test]
fn a_service_that_runs_on_the_destination_is_in_the_way() {
    needs!(Root);
    let stage = Stage::with_state(STATE);
    stage.far_command("app", "exit 0");
    let plan = stage.plan_of_app("[service]\nsource.status = [\"true\"]\nstatus = [\"app\"]\n");
    assert_only(
        &stage.trouble(&plan),
        "fail service: it runs on the destination already",
    );
    stage.far_command("app", "exit 3");
    assert_eq!(stage.trouble(&plan), Vec::<String>::new());
    fs::remove_file(stage.far_home().join("bin/app")).unwrap();
    assert_only(
        &stage.trouble(&plan),
        "fail service: `status` cannot be run on the destination",
    );
}

#[test]
fn a_process_with_files_open_there_is_in_the_way() {
    needs!(Root);
    let stage = Stage::with_state(STATE);
    let far = stage.far_home().join(".app");
    tree(&far, "f db 'x'");
    let mut held = std::process::Command::new("sleep")
        .arg("60")
        .stdin(fs::File::open(far.join("db")).unwrap())
        .spawn()
        .unwrap();
    let trouble = stage.trouble(&stage.plan_of_app(""));
    held.kill().unwrap();
    held.wait().unwrap();
    assert_only(
        &trouble,
        "fail destination: processes have files open in the roots there",
    );
    assert!(trouble[0].contains("sleep 60"), "{trouble:?}");
}

#[test]
fn configuration_that_contradicts_the_plan_is_in_the_way() {
    needs!(Root);
    let stage = Stage::with_state(STATE);
    let expect = "[[expect]]\nkind = \"value\"\nfile = \"${CUTOVER_ROOT_APP}/config.json\"\n";
    let mode = format!(
        "{expect}pointer = \"/mode\"\nis-not = [\"remote\"]\ntell = \"/url\"\nmessage = \"move that one\"\n"
    );
    let dir = format!("{expect}pointer = \"/dir\"\nis-root = \"app\"\nmessage = \"another\"\n");
    let plan = stage.plan_of_app(&format!("{mode}{dir}"));
    assert_eq!(stage.trouble(&plan), Vec::<String>::new());
    let config = stage.near("home/.app/config.json");
    fs::write(
        &config,
        r#"{"mode": "remote", "url": "wss://elsewhere", "dir": "~/.app/"}"#,
    )
    .unwrap();
    let trouble = stage.trouble(&plan);
    assert_only(&trouble, "fail expected: ");
    assert!(
        trouble[0].ends_with("says /mode is \"remote\" (wss://elsewhere)"),
        "{trouble:?}"
    );
    fs::write(&config, r#"{"dir": "~/.app-work"}"#).unwrap();
    let trouble = stage.trouble(&plan);
    assert_only(&trouble, "fail expected: ");
    assert!(
        trouble[0].ends_with("says /dir is \"~/.app-work\""),
        "{trouble:?}"
    );
}

#[test]
fn a_variable_that_names_another_directory_is_in_the_way() {
    needs!(Root);
    let stage = Stage::with_state(STATE);
    let plan = stage.plan_of_app(
        "[source]\nenv = { APP_DIR = \"/elsewhere\" }\n\
         [[expect]]\nkind = \"variable\"\nname = \"APP_DIR\"\nis-root = \"app\"\nmessage = \"unset it\"\n",
    );
    assert_only(
        &stage.trouble(&plan),
        "fail expected: APP_DIR is \"/elsewhere\" at the source",
    );
}

#[test]
fn other_profiles_are_not_forgotten() {
    needs!(Root);
    let stage = Stage::with_state(STATE);
    fs::create_dir(stage.near("home/.app-work")).unwrap();
    let plan = stage.plan_of_app(
        "[[expect]]\nkind = \"no-others\"\npaths = [\"~/.app*\"]\nmessage = \"several profiles\"\n",
    );
    let trouble = stage.trouble(&plan);
    assert_only(&trouble, "fail expected: not in the plan: ");
    assert!(trouble[0].ends_with("/.app-work"), "{trouble:?}");
}

#[test]
fn paths_in_files_that_would_lead_to_live_data_are_in_the_way() {
    needs!(Root);
    let stage = Stage::with_state(STATE);
    let state = stage.near("home/.app");
    let text = format!("{{\n  \"keys\": \"{}/keys\"\n}}\n", state.display());
    fs::write(state.join("config.json"), text).unwrap();
    chmod(&state.join("config.json"), 0o600);
    // Both hosts are this machine, so that the path leads to the source itself.
    let trouble = stage.trouble(&stage.plan_of_app(""));
    assert_only(
        &trouble,
        "fail root app: text names paths of the source that lead to other data",
    );
    assert!(trouble[0].contains("config.json:2 names "), "{trouble:?}");
}

#[test]
fn roots_that_are_symlinks_are_told() {
    needs!(Root);
    let stage = Stage::with_state(STATE);
    fs::rename(stage.near("home/.app"), stage.near("home/real")).unwrap();
    symlink("real", stage.near("home/.app")).unwrap();
    let trouble = stage.trouble(&stage.plan_of_app(""));
    let state = stage.near("home/.app");
    let expected = format!(
        "warning root app: {} leads through a symlink to ",
        state.display()
    );
    assert_only(&trouble, &expected);
}

#[test]
fn secrets_that_others_can_read_are_told_with_the_command_that_helps() {
    needs!(Root);
    let stage = Stage::with_state(STATE);
    let state = stage.near("home/.app");
    chmod(&state, 0o755);
    chmod(&state.join("keys"), 0o755);
    chmod(&state.join("keys/a"), 0o644);
    let plan = stage.plan_of_app("secrets = [\"keys/\"]\n");
    assert_only(
        &stage.trouble(&plan),
        "warning root app: secrets that others",
    );
    let path = state.join("keys/a");
    stage
        .run("check", &plan)
        .ok()
        .says(&format!("chmod go= {}", path.display()));
}

#[test]
fn users_that_do_not_exist_are_in_the_way() {
    needs!(Root);
    let stage = Stage::with_state(STATE);
    let plan =
        stage.plan_of_app("[owner]\nchown = \"no-such-user\"\n[service]\nuser = \"ghost\"\n");
    let trouble = stage.trouble(&plan);
    assert_eq!(trouble.len(), 2, "{trouble:#?}");
    assert!(
        trouble[0].contains("user ghost, who runs the service, does not exist"),
        "{trouble:#?}"
    );
    assert!(
        trouble[1].contains("user no-such-user, whom [owner]"),
        "{trouble:#?}"
    );
}

#[test]
fn a_root_that_is_not_there_or_would_hold_itself_is_in_the_way() {
    needs!(Root);
    let stage = Stage::new();
    assert_only(
        &stage.trouble(&stage.plan_of_app("")),
        "fail root app: nothing is at ",
    );
    tree(&stage.near("home/.app"), STATE);
    let inside = stage.near("home/.app/inner");
    let plan = stage.plan_of_app(&format!("destination = {inside:?}\n"));
    assert_only(
        &stage.trouble(&plan),
        "fail root app: the destination is inside the source: ",
    );
}
