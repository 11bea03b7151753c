//! What a plan means on its hosts.

use crate::common::lab::Lab;
use crate::common::run::Outcome;
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

/// What `plan show` says of a plan on this machine with these two roots.
fn shown_of(lab: &Lab, roots: [(&str, &str); 2], code: i32) -> Outcome {
    let mut text = "name = \"x\"\n".to_owned();
    for (n, (path, destination)) in roots.iter().enumerate() {
        let [path, destination] = [path, destination].map(|name| lab.path(name));
        text +=
            &format!("[[root]]\nname = \"r{n}\"\npath = {path:?}\ndestination = {destination:?}\n");
    }
    let plan = lab.path("plan.toml");
    std::fs::write(&plan, text).unwrap();
    lab.cutover(["plan", "show"]).args([plan]).code(code)
}

#[test]
fn roots_that_would_lie_within_each_other_through_a_symlink_are_refused() {
    let lab = Lab::new();
    tree(&lab.path("."), "f a/x\n f b/x\n d real\n l link -> real");
    let outcome = shown_of(&lab, [("a", "real"), ("b", "link/new")], 2);
    outcome.says("root r1 lies within root r0 at the destination");
    shown_of(&lab, [("a", "other"), ("b", "link/new")], 0);
}

#[test]
fn the_root_of_a_filesystem_is_no_root() {
    let lab = Lab::new();
    let plan = lab.path("plan.toml");
    let text = "name = \"x\"\n[[root]]\nname = \"r\"\npath = \"/srv\"\ndestination = \"/./\"\n";
    std::fs::write(&plan, text).unwrap();
    let outcome = lab.cutover(["sync", "-n", "--plan"]).args([plan]).code(2);
    outcome.says("the root of the filesystem is no root of a plan");
}

#[test]
fn a_text_of_several_lines_makes_no_row_of_its_own() {
    let lab = Lab::new();
    let plan = lab.path("plan.toml");
    let text = "name = \"x\"\n[[root]]\nname = \"r\"\npath = \"/srv/a\\nswitch  nothing\"\n\
                destination = \"/srv/b\"\n";
    std::fs::write(&plan, text).unwrap();
    let shown = lab.cutover(["plan", "show"]).args([plan]).ok().stdout;
    assert!(!shown.contains("\nswitch  nothing"), "{shown}");
}

#[test]
fn a_variable_that_the_far_host_does_not_have_is_told() {
    let stage = Stage::with_state("f a 'x'");
    let plan =
        stage.plan("[[root]]\nname = \"r\"\npath = \"~/.app\"\ndestination = \"${NOWHERE}/x\"\n");
    let outcome = stage.run("show", &plan).code(2);
    outcome.says("cannot expand ${NOWHERE}/x on cutover-test: the variable NOWHERE is not set");
}
