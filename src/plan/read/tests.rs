use super::*;

/// A plan that is right, for tests to make wrong.
const RIGHT: &str = r#"name = "move"

[source]
env = { STATE = "/srv/state" }

[destination]
host = "root@newhost"

[[root]]
name = "state"
path = "${STATE:-~/.state}"
required = ["config.json", "keys/"]

[[root]]
name = "work"
path = "~/work"
destination = "/srv/work"
filters = ["- *.tmp"]

[sync]
max-delete = "30%"
bwlimit = "20M"

[owner]
chown = "app:app"
chmod = ["D750", "F640"]

[service]
user = "app"
stop = ["app", "stop"]
status = { command = "app status | grep -q running", shell = true, timeout = "10s" }

[[hook]]
when = "after-stop"
on = "source"
run = ["sync"]

[[expect]]
kind = "value"
file = "~/.state/config.json"
pointer = "/dir"
is-root = "state"
message = "another directory"

[[check]]
kind = "tcp"
name = "listens"
address = "localhost:80"
"#;

fn said(text: &str) -> String {
    load_bytes(Path::new("move.toml"), text.as_bytes())
        .unwrap_err()
        .to_string()
}

/// What is said of the plan with `from` replaced.
fn said_of(from: &str, to: &str) -> String {
    assert!(RIGHT.contains(from), "{from}");
    said(&RIGHT.replacen(from, to, 1))
}

#[test]
fn a_right_plan_is_read() {
    let loaded = load_bytes(Path::new("move.toml"), RIGHT.as_bytes()).unwrap();
    assert_eq!(loaded.plan.roots.len(), 2);
    assert_eq!(loaded.digest, Digest::of(RIGHT.as_bytes()));
    assert!(loaded.plan.sync.delete && loaded.plan.sync.trash);
}

#[test]
fn an_unknown_key_is_told_with_its_place_and_what_was_meant() {
    for (from, to, line) in [
        (
            "[destination]",
            "[desination]",
            "move.toml:6:2: unknown key `desination` in the plan; did you mean `destination`?",
        ),
        (
            "host =",
            "hots =",
            "move.toml:7:1: unknown key `hots` in [destination]; did you mean `host`?",
        ),
        (
            "required = [",
            "requird = [",
            "move.toml:12:1: unknown key `requird` in [[root]]; did you mean `required`?",
        ),
        (
            "shell = true, timeout",
            "shell = true, timout",
            "unknown key `timout` in [service.status]; did you mean `timeout`?",
        ),
        (
            "is-root =",
            "is_root =",
            "unknown key `is_root` in [[expect]]; did you mean `is-root`?",
        ),
        (
            "bwlimit =",
            "speed =",
            "unknown key `speed` in [sync]; there are bwlimit, checksum, delete,",
        ),
    ] {
        let said = said_of(from, to);
        assert!(said.contains(line), "{to}: {said}");
    }
}

#[test]
fn a_key_that_is_missing_is_told_with_its_table() {
    let said = said_of("name = \"work\"\n", "");
    assert_eq!(said, "move.toml:14:1: [[root]] has no `name`");
    // One that is misspelt is not missing as well.
    let said = said_of("name = \"work\"", "nam = \"work\"");
    assert!(
        said.contains("did you mean `name`?") && !said.contains("has no"),
        "{said}"
    );
    let said = said_of("kind = \"tcp\"\n", "");
    assert!(
        said.contains("[[check]] has no `kind`, which is one of command, http, tcp"),
        "{said}"
    );
}

#[test]
fn a_value_of_another_type_is_told() {
    for (from, to, words) in [
        (
            "[\"app\", \"stop\"]",
            "\"app stop\"",
            "`stop` is a text; it must be a list in [ ] or a table",
        ),
        (
            "path = \"~/work\"",
            "path = 7",
            "`path` is a whole number; it must be a text in quotes",
        ),
        (
            "\"30%\"",
            "true",
            "`max-delete` is true or false; it must be a whole number or a text",
        ),
        ("\"30%\"", "-1", "`max-delete` cannot be -1"),
        (
            "[\"- *.tmp\"]",
            "[1]",
            "an item of `filters` is a whole number",
        ),
        (
            "env = { STATE = \"/srv/state\" }",
            "env = { STATE = 1 }",
            "`STATE` is a whole number",
        ),
    ] {
        let said = said_of(from, to);
        assert!(said.contains(words), "{to}: {said}");
    }
}

#[test]
fn a_word_that_is_none_of_those_there_are_is_told() {
    for (from, to, words) in [
        (
            "after-stop",
            "afterstop",
            "`when` cannot be \"afterstop\"; did you mean `after-stop`?",
        ),
        (
            "on = \"source\"",
            "on = \"here\"",
            "there are source, destination",
        ),
        ("kind = \"tcp\"", "kind = \"tpc\"", "did you mean `tcp`?"),
        (
            "\"10s\"",
            "\"10w\"",
            "`timeout` cannot be \"10w\": \"w\" is no unit",
        ),
        ("\"20M\"", "\"fast\"", "`bwlimit` cannot be \"fast\""),
    ] {
        let said = said_of(from, to);
        assert!(said.contains(words), "{to}: {said}");
    }
}

#[test]
fn what_makes_no_sense_is_told() {
    for (from, to, words) in [
        (
            "name = \"move\"",
            "name = \"a move\"",
            "1:8: a name has letters",
        ),
        (
            "root@newhost",
            "newhost:/srv",
            "is no host: write [USER@]HOST",
        ),
        ("root@newhost", "-oProxyCommand=x", "host"),
        (
            "env = {",
            "sudo = true\nenv = {",
            "`sudo` is for another host",
        ),
        (
            "name = \"work\"",
            "name = \"state\"",
            "two roots are called `state`",
        ),
        (
            "\"/srv/work\"",
            "\"srv/work\"",
            "17:15: \"srv/work\" is not absolute: begin it with /",
        ),
        ("\"~/work\"", "\"~/../work\"", "has `..` in it"),
        ("\"keys/\"", "\"/keys\"", "is no name below the root"),
        ("\"- *.tmp\"", "\"nonsense\"", "18:12: "),
        ("\"30%\"", "\"130%\"", "is no share"),
        ("[sync]", "[sync]\ndelete = false", "does not delete"),
        ("app:app", ":", "is no owner: give USER"),
        (
            "chmod = [",
            "usermap = [\"a:b\"]\nchmod = [",
            "take the maps out",
        ),
        (
            "chown = \"app:app\"",
            "usermap = [\"nobody\"]",
            "write FROM:TO",
        ),
        ("\"F640\"", "\"F888\"", "\"F888\" is no mode"),
        ("shell = true", "shell = false", "add `shell = true`"),
        ("[\"sync\"]", "[]", "it names no program"),
        (
            "is-root = \"state\"",
            "is-root = \"stat\"",
            "no root \"stat\"; did you mean `state`?",
        ),
        ("is-root = \"state\"\n", "", "it expects nothing"),
        ("pointer = \"/dir\"", "pointer = \"dir\"", "write /KEY/KEY"),
        ("localhost:80", "localhost", "write HOST:PORT"),
    ] {
        let said = said_of(from, to);
        assert!(said.contains(words), "{to}: {said}");
    }
}

#[test]
fn checks_are_looked_at_one_by_one() {
    let with = |check: &str| said(&format!("{RIGHT}\n[[check]]\nname = \"x\"\n{check}"));
    for (check, words) in [
        ("kind = \"file\"\npath = \"/x\"\nmode = \"rw\"", "in octal"),
        (
            "kind = \"file\"\npath = \"/x\"\nexists = false\nowner = \"a\"",
            "nothing else to check",
        ),
        (
            "kind = \"http\"\nurl = \"localhost\"",
            "does not begin with http://",
        ),
        (
            "kind = \"http\"\nurl = \"http://x\"\nstatus = 70000",
            "`status` cannot be 70000",
        ),
        (
            "kind = \"readable-as\"\nroot = \"wrk\"",
            "did you mean `work`?",
        ),
    ] {
        let said = with(check);
        assert!(said.contains(words), "{check}: {said}");
    }
}

#[test]
fn all_faults_are_told_in_the_order_of_the_file() {
    let text = RIGHT.replace("root@newhost", "a b").replace("F640", "F999");
    let said = said(&text);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], "move.toml has 2 faults");
    assert!(lines[1].starts_with("move.toml:7:8: "), "{said}");
    assert!(lines[2].starts_with("move.toml:26:18: "), "{said}");
}

#[test]
fn a_plan_without_roots_moves_nothing() {
    assert!(said("name = \"x\"").contains("the plan has no root: add [[root]]"));
}

#[test]
fn what_is_no_toml_is_told_with_its_place() {
    let said = said("name = \"x\"\nname = [");
    assert!(said.starts_with("move.toml:2:"), "{said}");
    let err = load_bytes(Path::new("p"), b"name = \"\xff\"")
        .unwrap_err()
        .to_string();
    assert_eq!(err, "p:1:9: this is not UTF-8, as TOML is");
}

#[test]
fn a_plan_that_is_not_there_is_named() {
    let said = load(Path::new("/nonexistent/plan.toml"))
        .unwrap_err()
        .to_string();
    assert!(
        said.starts_with("cannot read the plan /nonexistent/plan.toml: No such file"),
        "{said}"
    );
}

#[test]
fn words_are_near_when_a_third_of_them_is_right() {
    assert_eq!(nearest("delte", ["delete", "fsync"]), Some("delete"));
    assert_eq!(nearest("speed", ["delete", "fsync"]), None);
}
