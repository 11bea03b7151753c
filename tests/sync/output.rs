//! What a run says: dry runs, itemised lines, JSON, silence, usage errors.

use std::fs;
use std::process::{Command, Stdio};

use crate::common::dump::{Dump, stamps};
use crate::common::lab::{Lab, Route};
use crate::common::prerequisites::need;
use crate::common::run::{BINARY, Outcome};

/// A source and a destination that differ in every way that a sync can settle.
fn everything_differs() -> Lab {
    let lab = Lab::with_source(
        r"
        f new 'x' @5
        f edited 'after' @6
        f mode 0600 'x' @5
        f time 'when' @6
        f grown 'longer content' @6
        f same 'x' @5
        d new-dir
        f new-dir/inside 'x' @5
        l link -> after @5
        l new-link -> x @5
        h linked = same
        p fifo
        f attributed 'x' user.a=2 @5
        f conflict/inside 'x' @5
    ",
    );
    lab.destination(
        r"
        f edited 'before' @5
        f mode 0644 'x' @5
        f time 'when' @5
        f grown 'short' @5
        f same 'x' @5
        l link -> before @5
        f attributed 'x' user.a=1 @5
        f old 'y' @4
        f old-dir/inside 'y' @4
        f conflict 'a file' @5
    ",
    );
    lab
}

#[test]
fn a_dry_run_predicts_the_real_one() {
    for route in Route::ALL {
        let lab = everything_differs();
        let predicted = lab.sync_via(route, &["-n", "-i", "--delete"]).ok();
        let done = lab.sync_via(route, &["-i", "--delete"]).ok();
        lab.assert_synced();
        assert!(predicted.items().len() > 12, "{predicted}");
        assert_eq!(predicted.items(), done.items(), "by {route:?}");
    }
}

#[test]
fn a_dry_run_touches_nothing() {
    let lab = everything_differs();
    let before = (stamps(&lab.src), stamps(&lab.dst));
    lab.sync(&["-n", "-i", "--delete"]).ok();
    assert_eq!(before, (stamps(&lab.src), stamps(&lab.dst)));
}

#[test]
fn a_dry_run_does_not_make_the_destination() {
    let mut lab = Lab::with_source("f a 'x'");
    lab.dst = lab.path("not/there");
    let outcome = lab.sync(&["-n", "-i"]).ok();
    assert!(
        outcome.items().iter().any(|line| line.ends_with(" a")),
        "{outcome}"
    );
    assert!(!lab.path("not").exists());
}

#[test]
fn items_read_like_rsyncs() {
    let lab = everything_differs();
    let outcome = lab.sync(&["-i", "--delete"]).ok();
    for expected in [
        ">f+++++++++ new",
        ">f.st...... grown",
        ".f...p..... mode",
        "cd+++++++++ new-dir/",
        "cL+++++++++ new-link",
        "*deleting   old",
        "*deleting   old-dir/",
    ] {
        assert!(
            outcome.items().contains(&expected),
            "{expected:?} is not in:\n{outcome}"
        );
    }
    assert!(
        !outcome
            .items()
            .iter()
            .any(|line| line.ends_with(" same") && !line.contains("=>")),
        "{outcome}"
    );
}

#[test]
fn a_name_cannot_forge_a_line() {
    let lab = Lab::with_source(r"f a\n*deleting\s\s\sb 'x'");
    let outcome = lab.sync(&["-i"]).ok();
    assert!(!outcome.stdout.contains("\n*deleting"), "{outcome}");
    outcome.says(r"a\#012*deleting");
}

#[test]
fn json_is_one_value_a_line_and_ends_with_the_summary() {
    let lab = everything_differs();
    let outcome = lab.sync(&["--json", "-i", "--delete"]).ok();
    assert!(outcome.json_lines().len() > 1, "{outcome}");
    assert_eq!(outcome.count("problems"), 0, "{outcome}");
    assert!(outcome.count("deleted") >= 3, "{outcome}");
}

#[test]
fn the_json_summary_has_the_fields_that_its_page_names() {
    let lab = everything_differs();
    let lines = lab.sync(&["--json"]).ok().json_lines();
    let Some(serde_json::Value::Object(summary)) = lines.last() else {
        panic!("{lines:?}");
    };
    let page = include_str!("../../doc/json.md");
    let (_, section) = page.split_once("### `summary`").unwrap();
    let (section, _) = section.split_once("\n### ").unwrap();
    for field in summary
        .keys()
        .filter(|key| !["v", "event"].contains(&key.as_str()))
    {
        assert!(section.contains(&format!("`{field}`")), "{field}");
    }
}

#[test]
fn nothing_is_drawn_over_a_prompt_of_the_remote_shell() {
    need("script");
    let lab = Lab::with_source("f a 'x'");
    let mut command = Command::new("script");
    let line = format!(
        "'{BINARY}' sync -e 'sh -c \"printf Password: >/dev/tty; sleep 6\"' '{}' far:x",
        lab.src.display()
    );
    command.args(["-qec", &line]).arg(lab.path("typescript"));
    lab.isolate(&mut command, "near");
    let output = command.stdin(Stdio::null()).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = shown.lines().collect();
    let [waiting, failed] = lines[..] else {
        panic!("{shown:?}");
    };
    assert!(
        waiting.starts_with("Password:cutover: still waiting"),
        "{shown:?}"
    );
    assert!(failed.starts_with("cutover: no agent"), "{shown:?}");
}

#[test]
fn quiet_is_silent_on_success() {
    let lab = everything_differs();
    let outcome = lab.sync(&["-q"]).ok();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
}

#[test]
fn quiet_still_says_what_failed() {
    let lab = Lab::new();
    let outcome = lab.sync(&["-q"]).code(3);
    assert!(!outcome.stderr.is_empty());
}

#[test]
fn an_unknown_option_is_a_usage_error_and_changes_nothing() {
    let lab = Lab::with_source("f a 'x'");
    lab.sync(&["--no-such-option"])
        .code(2)
        .says("--no-such-option");
    assert!(!lab.dst.exists());
}

#[test]
fn missing_operands_are_a_usage_error() {
    let lab = Lab::new();
    lab.cutover(["sync"]).code(2);
    lab.cutover(["sync", "only-one"]).code(2);
    lab.cutover(["no-such-command"]).code(2);
}

#[test]
fn a_bad_filter_is_a_usage_error() {
    let lab = Lab::with_source("f a 'x'");
    lab.sync(&["--filter", "nonsense rule"]).code(2);
    assert!(!lab.dst.exists());
}

#[test]
fn an_option_says_what_it_does() {
    let lab = Lab::new();
    let help = lab.cutover(["sync", "--help"]).ok();
    for option in [
        "--delete",
        "--max-delete",
        "--trash",
        "--checksum",
        "--json",
    ] {
        help.says(option);
    }
}

#[test]
fn a_far_run_shows_the_same_items_as_a_local_one() {
    let items = |route| {
        let lab = everything_differs();
        let outcome = lab.sync_via(route, &["-i", "--delete"]).ok();
        outcome
            .items()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let local = items(Route::Local);
    assert_eq!(local, items(Route::Pull));
    // The one difference: what goes to another host is sent, not received.
    let mut relayed: Vec<_> = items(Route::Relay)
        .iter()
        .map(|line| line.replacen('<', ">", usize::from(line.starts_with('<'))))
        .collect();
    relayed.sort_unstable();
    assert_eq!(local, relayed);
}

#[test]
fn nothing_is_written_beside_the_trees() {
    let lab = everything_differs();
    lab.sync(&[]).ok();
    let mut names: Vec<_> = fs::read_dir(lab.path("."))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("log-"))
        .collect();
    names.sort();
    assert_eq!(names, ["dst", "home-near", "src"]);
    assert!(
        !Dump::of(&lab.dst)
            .paths()
            .iter()
            .any(|path| path.contains("cutover"))
    );
}

/// Directories within directories, with entries of several kinds in them.
fn nested(at: i64) -> String {
    let mut text = String::new();
    for top in 0..8 {
        for deep in 0..6 {
            let dir = format!("t{top}/a{}/b/c{deep}", deep % 2);
            text += &format!("f {dir}/small 'x' @5\n f {dir}/other 'y' @5\n");
            text += &format!("l {dir}/link -> x @5\n d {dir}/e/f @{at}\n m {dir} @{at}\n");
        }
        text += &format!("f t{top}/large random(200K) @5\n m t{top} @{at}\n");
    }
    text
}

/// The paths of the itemised lines as they came, directories without their slash.
fn told_paths(outcome: &Outcome) -> Vec<String> {
    let items = outcome.items();
    let lines = outcome.stdout.lines().filter(|line| items.contains(line));
    lines
        .map(|line| line[12..].trim_end_matches('/').to_string())
        .collect()
}

#[test]
fn a_directory_is_told_before_what_is_in_it() {
    for route in [Route::Local, Route::Push] {
        for before in [
            "",
            "d elsewhere",
            "d t3/a0\n d t5\n f t7/a1/b/c1/small 'old'",
        ] {
            let lab = Lab::with_source(&nested(7));
            lab.destination(before);
            let predicted = lab.sync_via(route, &["-n", "-i"]).ok();
            let done = lab.sync_via(route, &["-i"]).ok();
            assert_eq!(predicted.items(), done.items(), "{before:?} by {route:?}");
            for outcome in [predicted, done] {
                let paths = told_paths(&outcome);
                assert!(paths.len() > 8 * 6 * 6, "{outcome}");
                for (at, path) in paths.iter().enumerate() {
                    let inside = format!("{path}/");
                    let early = paths[..at].iter().find(|told| told.starts_with(&inside));
                    assert_eq!(early, None, "before {path}, {before:?} by {route:?}");
                }
            }
        }
    }
}

#[test]
fn a_hole_counts_as_progress_while_it_is_passed() {
    const SIZE: u64 = 8 << 30;
    let lab = Lab::with_source("f huge 'start' hole(8191M)");
    let outcome = lab.sync_via(Route::Push, &["--json"]).ok();
    let lines = outcome.json_lines();
    let mut on_the_way = lines.iter().filter(|line| {
        let number = |field: &str| line[field].as_u64().unwrap_or_default();
        let is_planned = number("planned_bytes") > SIZE / 2;
        is_planned && (SIZE / 100..SIZE / 10 * 9).contains(&number("done_bytes"))
    });
    assert!(on_the_way.next().is_some(), "{outcome}");
}

#[test]
fn holes_are_named_where_the_bytes_of_changed_files_are_added_up() {
    for route in [Route::Local, Route::Push] {
        let lab = Lab::with_source("f sparse random(1M) hole(199M)");
        lab.sync_via(route, &[])
            .ok()
            .says("200.00 MiB in changed files: 1.00 MiB copied")
            .says("199.00 MiB in holes");
        // With an old version the holes are passed just so.
        lab.source("f sparse random(1M) hole(199M) 'end'");
        lab.sync_via(route, &[]).ok().says("199.00 MiB in holes");
        lab.assert_synced();
    }
}
