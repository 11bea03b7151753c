//! What a plan means on its hosts.

use crate::common::tree::tree;
use crate::stage::Stage;

/// Two roots, one within the other, a variable that is something else on each side, and commands.
fn moving() -> (Stage, std::path::PathBuf) {
    let stage = Stage::with_state("f config.json '{}'\n f work/notes 'x'");
    let far = stage.far_home();
    let plan = stage.plan(&format!(
        "env = {{ STATE = \"{}/moved\" }}\n\
         [[root]]\nname = \"state\"\npath = \"${{STATE:-~/.app}}\"\nrequired = [\"config.json\"]\n\
         [[root]]\nname = \"work\"\npath = \"${{STATE:-~/.app}}/work\"\n\
         [owner]\nchown = \"root:root\"\n\
         [service]\nstop = [\"app\", \"stop\"]\nstart = [\"app\", \"start\"]\n\
         [[hook]]\nwhen = \"after-stop\"\non = \"source\"\n\
         run = {{ command = \"echo done\", shell = true, timeout = \"7s\" }}\n\
         [[check]]\nkind = \"file\"\nname = \"there\"\npath = \"${{CUTOVER_ROOT_WORK}}/notes\"\n",
        far.display()
    ));
    (stage, plan)
}

#[test]
fn a_plan_is_shown_as_it_is_on_its_hosts() {
    let (stage, plan) = moving();
    tree(&stage.far_home().join("moved"), "f old 'abc'");
    let outcome = stage.run("show", &plan).ok();
    let near = stage.near_home();
    let far = stage.far_home();
    outcome
        .says(&format!(
            "root              state: {}/.app -> {}/moved",
            near.display(),
            far.display()
        ))
        .says(&format!(
            "work: {}/.app/work -> {}/moved/work",
            near.display(),
            far.display()
        ))
        .says("lies within root state and is synced with it")
        .says("must have config.json")
        .says("all entries become root:root's")
        .says("at the source, this machine, as root, at most 120 s: app stop")
        .says("at most 7 s: sh -c \"echo done\"")
        .says(&format!(
            "there: {}/moved/work/notes is there",
            far.display()
        ));
}

#[test]
fn a_program_gets_the_same_in_one_line() {
    let (stage, plan) = moving();
    let outcome = stage.run("show", &plan).args(["--json"]).ok();
    let lines = outcome.json_lines();
    let [shown] = &lines[..] else {
        panic!("one line: {outcome}");
    };
    assert_eq!(shown["event"], "plan");
    assert_eq!(shown["roots"][1]["within"], "state");
    assert_eq!(
        shown["roots"][0]["destination_size"],
        serde_json::Value::Null
    );
    assert_eq!(shown["roots"][0]["source_size"]["bytes"], 3);
    assert_eq!(
        shown["commands"][0]["words"],
        serde_json::json!(["app", "stop"])
    );
    assert_eq!(shown["commands"][0]["side"], "source");
    assert!(
        !stage.far_home().join("moved").exists(),
        "it was only shown"
    );
}

#[test]
fn roots_that_lie_within_each_other_on_one_side_only_are_refused() {
    let stage = Stage::with_state("f work/a 'x'");
    let plan = stage.plan_of_app(
        "[[root]]\nname = \"work\"\npath = \"~/.app/work\"\ndestination = \"~/elsewhere\"\n",
    );
    let outcome = stage.run("show", &plan).code(2);
    outcome.says("root work lies within root app at the source");
}

#[test]
fn a_variable_that_the_far_host_does_not_have_is_told() {
    let stage = Stage::with_state("f a 'x'");
    let plan =
        stage.plan("[[root]]\nname = \"r\"\npath = \"~/.app\"\ndestination = \"${NOWHERE}/x\"\n");
    let outcome = stage.run("show", &plan).code(2);
    outcome.says("cannot expand ${NOWHERE}/x on cutover-test: the variable NOWHERE is not set");
}
