//! Plans that are wrong: every fault with its place.

use crate::common::lab::Lab;

#[test]
fn faults_are_told_with_line_column_and_what_was_meant() {
    let lab = Lab::new();
    let plan = lab.path("plan.toml");
    let text =
        "name = \"x\"\n\n[[root]]\nname = \"r\"\npth = \"/srv\"\n\n[sync]\nfsync = \"ech\"\n";
    std::fs::write(&plan, text).unwrap();
    for command in [
        &["plan", "show"][..],
        &["plan", "check"],
        &["sync", "--plan"],
    ] {
        let outcome = lab.cutover(command).args(["plan.toml"]);
        let outcome = outcome.current_dir(&lab.path(".")).code(2);
        outcome
            .says("plan.toml has 2 faults")
            .says("plan.toml:5:1: unknown key `pth` in [[root]]; did you mean `path`?")
            .says("plan.toml:8:9: `fsync` cannot be \"ech\"; did you mean `each`?");
    }
}

#[test]
fn a_plan_that_is_not_there_is_told() {
    let lab = Lab::new();
    let outcome = lab.cutover(["sync", "--plan", "/nonexistent.toml"]).code(2);
    outcome.says("cannot read the plan /nonexistent.toml: No such file");
}

#[test]
fn what_a_plan_says_is_not_said_beside_it() {
    let lab = Lab::new();
    for args in [
        &["sync", "--plan=p", "a", "b"][..],
        &["sync", "--plan=p", "--delete"],
        &["sync", "--plan=p", "--bwlimit=1M"],
        &["verify", "--plan=p", "--exclude=x"],
        &["diff", "--plan=p", "--no-acls"],
        &["diff", "--plan=p", "--sudo"],
    ] {
        let outcome = lab.cutover(args).code(2);
        outcome.says("cannot be used with");
    }
    lab.cutover(["sync", "--plan"]).code(2);
    lab.cutover(["sync", "a"]).code(2).says("<DST>");
}
