//! The command line from outside: what it prints, where, and with which exit code.

// Helpers of tests unwrap as tests do.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output, Stdio};

fn cutover(args: &[&str]) -> Output {
    let state = tempfile::tempdir().expect("a state directory of its own");
    Command::new(env!("CARGO_BIN_EXE_cutover"))
        .args(args)
        .env("XDG_STATE_HOME", state.path())
        .stdin(Stdio::null())
        .output()
        .expect("the built binary starts")
}

/// Runs a command that must succeed and say nothing on standard error; returns what it printed.
fn printed(args: &[&str]) -> String {
    let output = cutover(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    String::from_utf8(output.stdout).expect("output is UTF-8")
}

/// Runs a command that must be refused as usage; returns what it said on standard error.
fn refused(args: &[&str]) -> String {
    let output = cutover(args);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args:?}");
    String::from_utf8(output.stderr).expect("errors are UTF-8")
}

#[test]
fn usage_errors_exit_with_2_and_say_what_to_do() {
    let cases: [(&[&str], &str); 15] = [
        (&[], "Usage: cutover"),
        (&["sinc"], "'sync'"),
        (&["sync"], "<SRC>"),
        (&["sync", "--delte", "a", "b"], "'--delete'"),
        (
            &["sync", "--max-size=1x", "a", "b"],
            "use B, K, M, G, T or P",
        ),
        (&["sync", "--max-delete=9", "a", "b"], "--delete"),
        (
            &["sync", "--max-delete=x", "--delete", "a", "b"],
            "0% to 100%",
        ),
        (
            &["sync", "-B", "3K", "a", "b"],
            "power of two from 2K to 256K",
        ),
        (&["sync", "--fsync=often", "a", "b"], "end, each, none"),
        (&["sync", "--persist=1w", "a", "b"], "use s, m, h or d"),
        (&["sync", "--usermap=x", "a", "b"], "write FROM:TO"),
        (&["sync", "--chmod=u+q", "a", "b"], "as chmod does"),
        (&["sync", "--rehash", "a", "b"], "--checksum"),
        (&["sync", "--sudo", "a", "b"], "run `sudo cutover` instead"),
        (
            &["verify", "--size-only", "a", "b"],
            "Usage: cutover verify",
        ),
    ];
    for (args, hint) in cases {
        let said = refused(args);
        assert!(said.contains(hint), "{args:?} lacks {hint:?}:\n{said}");
    }
}

#[test]
fn a_rule_file_that_is_not_there_is_a_usage_error() {
    let said = refused(&["sync", "--exclude-from=/nonexistent/rules", "a", "b"]);
    assert!(said.contains("--exclude-from /nonexistent/rules"), "{said}");
    assert!(said.contains("cutover help"), "{said}");
}

#[test]
fn the_long_help_is_a_manual() {
    let help = printed(&["sync", "--help"]);
    for part in [
        "Selection:",
        "Deletion:",
        "Comparison:",
        "Fidelity",
        "Ownership:",
        "Transfer:",
        "Remote host:",
        "Output:",
        "[default: auto]",
        "[default: end]",
        "more than half of the destination's entries",
        "YXcstpoguax",
    ] {
        assert!(help.contains(part), "{part:?} is missing:\n{help}");
    }
    let short = printed(&["sync", "-h"]);
    assert!(short.lines().count() < help.lines().count() / 2);
}

#[test]
fn the_help_lists_commands_and_exit_codes_but_not_the_agent() {
    let help = printed(&["--help"]);
    for part in [
        "sync", "diff", "verify", "manifest", "bundle", "explain", "130",
    ] {
        assert!(help.contains(part), "{part:?} is missing:\n{help}");
    }
    assert!(!help.contains("agent"), "{help}");
}

#[test]
fn the_version_is_printed() {
    let version = format!("cutover {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(printed(&["--version"]), version);
}

#[test]
fn completions_know_the_flags() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        assert!(script.contains("itemize-changes"), "{shell}");
    }
    assert!(refused(&["completions", "tcsh"]).contains("bash"));
}

#[test]
fn every_command_has_a_manual_page() {
    for (args, title) in [
        (&["man"][..], ".TH cutover 1"),
        (&["man", "sync"], ".TH cutover-sync 1"),
        (&["man", "verify"], ".TH cutover-verify 1"),
        (&["man", "plan", "init"], ".TH cutover-plan-init 1"),
    ] {
        let page = printed(args);
        assert!(page.contains(title), "{args:?}:\n{page}");
    }
    assert!(refused(&["man", "no-such"]).contains("sync, diff, verify"));
    assert!(refused(&["man", "plan", "no-such"]).contains("init, show, check"));
    assert!(refused(&["man", "sync", "no-such"]).contains("sync has no commands"));
}

#[test]
fn options_that_name_defaults_are_refused_with_a_tip() {
    let is = |options: &str| format!("tip: {options} is the default here: leave it out");
    let are = |options: &str| format!("tip: {options} are the default here: leave them out");
    for letter in "aAXHrlptgoDSP".chars() {
        let option = format!("-{letter}");
        let said = refused(&["sync", &option, "a", "b"]);
        assert!(said.contains(&is(&option)), "{said}");
    }
    for (args, tip) in [
        (&["sync", "-aHAX", "a", "b"][..], are("-a, -H, -A, -X")),
        (&["sync", "-avzP", "--delete", "a", "b"], are("-a, -P")),
        (&["sync", "a", "b", "-rt", "-va", "-t"], are("-r, -t, -a")),
        (&["sync", "--partial", "a", "b"], is("--partial")),
        (&["sync", "--archive", "a", "b"], is("--archive")),
        (&["verify", "-az", "a", "b"], are("-a, -z")),
        // What follows is -e's value.
        (&["sync", "-ae", "ssh", "a", "b"], is("-a")),
        (&["sync", "-a", "--", "-H", "b"], is("-a")),
    ] {
        let said = refused(args);
        assert!(said.contains(&tip), "{args:?}: {said}");
        assert!(!said.contains("as a value"), "{args:?}: {said}");
    }
    for args in [["sync", "-aw", "a", "b"], ["sync", "-wa", "a", "b"]] {
        let said = refused(&args);
        assert!(said.contains("unexpected argument"), "{args:?}: {said}");
    }
    assert!(!refused(&["sync", "-w", "a", "b"]).contains("default"));
    assert!(!refused(&["man", "-a"]).contains("default"));
}

#[test]
fn explain_names_the_rule_that_decides() {
    let rules = ["--include=keep.o", "--exclude=*.o"];
    let with = |path| [&["explain", path][..], &rules].concat();
    let said = printed(&with("lib/a.o"));
    assert!(said.starts_with("source: excluded"), "{said}");
    assert!(said.contains("*.o"), "{said}");
    assert!(said.contains("\ndestination: "), "{said}");
    let said = printed(&with("lib/keep.o"));
    assert!(said.starts_with("source: included"), "{said}");
    assert!(said.contains("keep.o"), "{said}");
    let said = printed(&with("lib/a.c"));
    assert!(said.contains("no rule matches"), "{said}");
}

#[test]
fn explain_knows_directories_by_their_slash_or_from_the_root() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("build")).unwrap();
    let root = root.path().to_str().unwrap();
    let rule = "--exclude=build/";
    let outcome = |args: &[&str]| printed(args).starts_with("source: excluded");
    assert!(outcome(&["explain", rule, "build/"]));
    assert!(!outcome(&["explain", rule, "build"]));
    assert!(outcome(&["explain", rule, "build", "--root", root]));
    assert!(outcome(&["sync", rule, "--explain=build", root, "dst"]));
}

#[test]
fn explain_takes_paths_within_the_tree_only() {
    for path in ["/etc/passwd", "a/../b", "", "."] {
        let said = refused(&["explain", path]);
        assert!(said.contains("give a path"), "{path:?}: {said}");
    }
}

#[test]
fn a_manifest_is_not_written_into_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("m");
    let said = refused(&[
        "manifest",
        dir.path().to_str().unwrap(),
        "-o",
        inside.to_str().unwrap(),
    ]);
    assert!(said.contains("put it elsewhere with -o FILE"), "{said}");
    assert!(!inside.exists());
}

#[test]
fn a_manifest_is_of_a_directory() {
    let said = refused(&["manifest", "Cargo.toml"]);
    assert!(said.contains("Cargo.toml is no directory"), "{said}");
    let said = refused(&["manifest", "host:/srv"]);
    assert!(said.contains("run cutover manifest there"), "{said}");
}

#[test]
fn a_root_that_is_not_there_is_told_in_the_systems_words() {
    let output = cutover(&["generations", "list", "/nonexistent/root"]);
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    let words = "cannot open /nonexistent/root: No such file or directory";
    assert!(said.contains(words), "{said}");
}

#[test]
fn a_dry_run_of_a_switch_takes_no_option_that_it_would_not_heed() {
    for option in [
        "--until=keep",
        "--done=doctor",
        "--redo=doctor",
        "--report=x",
    ] {
        let said = refused(&["switch", "-n", option, "plan.toml"]);
        assert!(said.contains("cannot be used with"), "{option}: {said}");
    }
}

#[test]
fn a_mirror_that_is_refused_its_page_was_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir(path("src")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cutover"))
        .arg("mirror")
        .args([path("src"), path("dst")])
        .arg("--listen=0.0.0.0:0")
        .env("XDG_STATE_HOME", path("state"))
        .env("XDG_RUNTIME_DIR", path("run"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(!path("run").exists() && !path("state").exists());
}

#[test]
fn a_reader_that_leaves_is_no_fault() {
    for args in [&["man", "sync"][..], &["completions", "bash"], &["--help"]] {
        assert_eq!(without_a_reader(args), (String::new(), Some(0)), "{args:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let (src, dst) = (dir.path().join("src"), dir.path().join("dst"));
    std::fs::create_dir(&src).unwrap();
    std::fs::create_dir(&dst).unwrap();
    for n in 0..100 {
        std::fs::write(src.join(n.to_string()), "x").unwrap();
    }
    let ends = [src.to_str().unwrap(), dst.to_str().unwrap()];
    for (args, code) in [
        (&["sync", "-n", "-i"][..], 0),
        (&["diff"], 1),
        (&["verify"], 1),
    ] {
        let told = without_a_reader(&[args, &ends].concat());
        assert_eq!(told, (String::new(), Some(code)), "{args:?}");
    }
}

/// What a command says on standard error, and its exit code, when its standard output is closed.
fn without_a_reader(args: &[&str]) -> (String, Option<i32>) {
    let state = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_cutover"))
        .args(args)
        .env("XDG_STATE_HOME", state.path())
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(|child| child.wait_with_output())
        .unwrap();
    (
        String::from_utf8_lossy(&output.stderr).into_owned(),
        output.status.code(),
    )
}
