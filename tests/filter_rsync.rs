//! The filter rules against the rsync that is installed: random trees and random rules, and the
//! names that pass must be the same.

// What fails here is the test.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::Command;

use cutover::events::Side;
use cutover::filter::{self, Rules, Verdict};
use cutover::options::RuleText;
use cutover::path::{Name, RelPath};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};

/// Trees and rule lists for each test; one costs about 15 ms, nearly all of it rsync's.
const CASES: u32 = 60;

/// Names that patterns made of the same bytes can hit; the first ones have no wildcards.
const NAMES: [&[u8]; 12] = [
    b"a", b"b", b"ab", b"a.o", b"b.o", b"-", b"a b", b"\xff", b"*", b"[a]", b"a*", b"\\",
];

/// How many of `NAMES` are without wildcards.
const PLAIN_NAMES: usize = 8;

/// What patterns are made of.
#[rustfmt::skip]
const PIECES: [&str; 22] = [
    "a", "b", "a", ".o", "/", "/", "/", "*", "*", "**", "***", "?", "[ab]", "[!a]", "[^.-]",
    "[[:alpha:]]", "[", "]", "\\", "\\*", " ", "-",
];

/// What rules begin with; plain ones more often.
#[rustfmt::skip]
const PREFIXES: [&str; 20] = [
    "- ", "- ", "- ", "-_", "exclude ", "+ ", "+ ", "+_", "include_", "-! ", "+! ", "H ", "show ",
    "P ", "risk_", "-s ", "+r ", "-p ", "exclude,rp ", "Pp ",
];

#[derive(Debug, Clone)]
struct Case {
    paths: Vec<Vec<usize>>,
    rules: Vec<RuleParts>,
}

type RuleParts = (&'static str, String);

fn a_rule() -> impl Strategy<Value = RuleParts> {
    let pattern = prop::collection::vec(prop::sample::select(&PIECES[..]), 1..6);
    prop_oneof![
        30 => (prop::sample::select(&PREFIXES[..]), pattern.prop_map(|pieces| pieces.concat())),
        1 => Just(("!", String::new())),
    ]
}

fn cases(names: usize) -> impl Strategy<Value = Case> {
    let path = prop::collection::vec(0..names, 1..4);
    (
        prop::collection::vec(path, 1..16),
        prop::collection::vec(a_rule(), 1..6),
    )
        .prop_map(|(paths, rules)| Case { paths, rules })
}

impl Case {
    /// Makes the tree: each path's last name a file, unless it is a directory by now.
    fn build(&self, root: &Path) {
        for path in &self.paths {
            let names: Vec<&[u8]> = path.iter().map(|&index| NAMES[index]).collect();
            let at = root.join(OsStr::from_bytes(&names.join(&b'/')));
            // A file may stand where this path needs a directory; then the path is left out.
            if fs::create_dir_all(at.parent().unwrap()).is_ok() && !at.exists() {
                fs::write(at, "").unwrap();
            }
        }
    }

    fn filter_args(&self) -> Vec<String> {
        self.rules.iter().map(|(a, b)| format!("{a}{b}")).collect()
    }

    fn rules(&self) -> Rules {
        let texts: Vec<RuleText> = self
            .filter_args()
            .iter()
            .flat_map(|arg| filter::parse_filter_arg(arg.as_bytes()).unwrap())
            .collect();
        Rules::parse(&texts).unwrap()
    }
}

/// Runs rsync from `source` to `destination` and gives the lines that it prints.
fn rsync(source: &Path, destination: &Path, args: &[String]) -> BTreeSet<Vec<u8>> {
    let output = Command::new("rsync")
        .args(["-r", "--8-bit-output"])
        .args(args)
        .args([source.join(""), destination.join("")])
        .output()
        .expect("rsync does not start: install the package `rsync`, which this test compares with");
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
        .stdout
        .split(|&b| b == b'\n')
        .filter(|line| !line.is_empty() && line != b"./")
        .map(<[u8]>::to_vec)
        .collect()
}

/// The entries of a directory: path, name, whether it is a directory.
fn list(root: &Path, dir: &RelPath) -> Vec<(RelPath, Name, bool)> {
    fs::read_dir(root.join(dir.as_os_str()))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = Name::new(&entry.file_name().into_vec()).unwrap();
            (dir.join(&name), name, entry.file_type().unwrap().is_dir())
        })
        .collect()
}

fn shown(path: &RelPath, is_dir: bool) -> Vec<u8> {
    let mut line = path.as_bytes().to_vec();
    line.extend(is_dir.then_some(b'/'));
    line
}

/// What a scan with `rules` lists, as rsync would print it.
fn scan(root: &Path, dir: &RelPath, above: &Rules, found: &mut BTreeSet<Vec<u8>>) {
    let contents: Vec<Option<Vec<u8>>> = above
        .dir_merge_files()
        .map(|file| fs::read(root.join(dir.as_os_str()).join(OsStr::from_bytes(file))).ok())
        .collect();
    let rules = above.enter(dir, &contents).unwrap();
    for (path, name, is_dir) in list(root, dir) {
        let verdict = rules.decide(dir, name.as_bytes(), is_dir, Side::Source);
        if contents.is_empty() {
            let explanation = rules.explain(&path, is_dir, Side::Source);
            assert_eq!(explanation.verdict.is_excluded(), verdict.is_excluded());
        }
        if !verdict.is_excluded() {
            found.insert(shown(&path, is_dir));
            if is_dir {
                scan(root, &path, &rules, found);
            }
        }
    }
}

/// What deleting with `rules` removes from a copy of the source tree at `root`: what the rules
/// hide at the source and do not protect at the destination.
fn sweep(root: &Path, dir: &RelPath, rules: &Rules, gone: &mut BTreeSet<Vec<u8>>) {
    for (path, name, is_dir) in list(root, dir) {
        if !rules
            .decide(dir, name.as_bytes(), is_dir, Side::Source)
            .is_excluded()
        {
            if is_dir {
                sweep(root, &path, rules, gone);
            }
        } else if let Verdict::Include =
            rules.decide(dir, name.as_bytes(), is_dir, Side::Destination)
        {
            delete(root, &path, is_dir, rules, gone);
        }
    }
}

/// Deletes an entry and what is in it; tells whether all of it went.
fn delete(
    root: &Path,
    path: &RelPath,
    is_dir: bool,
    rules: &Rules,
    gone: &mut BTreeSet<Vec<u8>>,
) -> bool {
    let mut empty = true;
    if is_dir {
        for (child, name, child_is_dir) in list(root, path) {
            empty &= !rules.keeps_in_deleted_dir(path, name.as_bytes(), child_is_dir)
                && delete(root, &child, child_is_dir, rules, gone);
        }
    }
    if empty {
        gone.insert(shown(path, is_dir));
    }
    empty
}

/// Tries the same cases in each run, so that a failure is a change of ours or of rsync.
fn run<S: Strategy>(strategy: S, check: impl Fn(S::Value)) {
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(CASES)
    };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    TestRunner::new_with_rng(config, rng)
        .run(&strategy, |value| {
            check(value);
            Ok(())
        })
        .unwrap();
}

fn filters(case: &Case) -> Vec<String> {
    case.filter_args()
        .iter()
        .map(|rule| format!("--filter={rule}"))
        .collect()
}

fn same_names_are_sent(case: &Case, source: &Path) {
    let destination = tempfile::tempdir().unwrap();
    let mut args = filters(case);
    args.extend(["--dry-run".into(), "--out-format=%n".into()]);
    let theirs = rsync(source, destination.path(), &args);
    let mut ours = BTreeSet::new();
    scan(source, &RelPath::root(), &case.rules(), &mut ours);
    assert_eq!(ours, theirs, "{:?}", case.filter_args());
}

#[test]
fn the_same_names_are_sent() {
    run(cases(NAMES.len()), |case| {
        let source = tempfile::tempdir().unwrap();
        case.build(source.path());
        same_names_are_sent(&case, source.path());
    });
}

/// Directories whose names hold wildcards are left out: rsync takes them as part of an anchored
/// pattern of a file in them, and that is not worth following.
#[test]
fn the_same_names_are_sent_with_rules_in_the_tree() {
    let files = prop::collection::vec((0..8_usize, prop::collection::vec(a_rule(), 1..4)), 1..4);
    let merge = prop::sample::select(vec![": .r", ":n .r", ":e /.r", ":n- .r", "dir-merge,p .r"]);
    let strategy = (cases(PLAIN_NAMES), files, merge, 0..6_usize);
    run(strategy, |(mut case, files, merge, at)| {
        let source = tempfile::tempdir().unwrap();
        case.build(source.path());
        let mut dirs: Vec<_> = walkdir::WalkDir::new(source.path())
            .sort_by_file_name()
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_dir())
            .collect();
        dirs.truncate(8);
        for (index, rules) in &files {
            let lines: Vec<String> = rules.iter().map(|(a, b)| format!("{a}{b}\n")).collect();
            let dir = dirs[index % dirs.len()].path();
            fs::write(dir.join(".r"), lines.concat()).unwrap();
        }
        let at = at.min(case.rules.len());
        case.rules.insert(at, (merge, String::new()));
        same_names_are_sent(&case, source.path());
    });
}

fn same_names_are_deleted(option: &str, adapt: impl Fn(Rules) -> Rules) {
    run(cases(NAMES.len()), |case| {
        let (source, destination) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        case.build(source.path());
        case.build(destination.path());
        let mut args = filters(&case);
        args.extend([option.into(), "--size-only".into()]);
        let (everything, rules) = (Rules::parse(&[]).unwrap(), adapt(case.rules()));
        let (mut before, mut gone, mut after) = <_>::default();
        let root = RelPath::root();
        scan(destination.path(), &root, &everything, &mut before);
        sweep(destination.path(), &root, &rules, &mut gone);
        // Not a dry run: that one reports directories as deleted which a protected entry keeps.
        rsync(source.path(), destination.path(), &args);
        scan(destination.path(), &root, &everything, &mut after);

        assert_eq!(&before - &gone, after, "{:?}", case.filter_args());
    });
}

#[test]
fn the_same_names_are_deleted() {
    same_names_are_deleted("--delete", |rules| rules);
}

#[test]
fn the_same_names_are_deleted_when_excluded_ones_go_too() {
    same_names_are_deleted("--delete-excluded", Rules::for_delete_excluded);
}
