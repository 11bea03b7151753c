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
fn what_cannot_be_a_plan_is_not_read_into_memory() {
    let lab = Lab::new();
    let outcome = lab.cutover(["plan", "show", "/dev/zero"]).code(2);
    outcome.says("/dev/zero is longer than 1 MiB");
}

#[test]
fn of_very_many_faults_the_first_are_told() {
    let lab = Lab::new();
    let plan = lab.path("plan.toml");
    let keys: String = (0..1000).map(|n| format!("key{n} = 1\n")).collect();
    std::fs::write(&plan, keys).unwrap();
    let outcome = lab.cutover(["plan", "show"]).args([&plan]).code(2);
    outcome.says("has 1001 faults").says("and 951 more");
}

#[test]
fn a_nul_is_refused_before_it_reaches_a_system() {
    let lab = Lab::new();
    let plan = lab.path("plan.toml");
    let root = "[[root]]\nname = \"r\"\npath = \"/srv\"\n";
    for text in [
        "[source.env]\nA = \"b\\u0000\"",
        "[service]\nstop = [\"a\", \"\\u0000\"]",
    ] {
        std::fs::write(&plan, format!("name = \"x\"\n{root}{text}\n")).unwrap();
        let outcome = lab.cutover(["plan", "show"]).args([&plan]).code(2);
        outcome.says("a text cannot hold NUL");
    }
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
