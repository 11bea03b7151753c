//! What rules mean, one behaviour a test. The exhaustive comparison is `tests/filter_rsync.rs`.

use std::fs;
use std::path::Path;

use super::*;
use crate::events::Side::{Destination, Source};

fn texts(rules: &[&str]) -> Vec<RuleText> {
    rules
        .iter()
        .map(|rule| RuleText(rule.as_bytes().to_vec()))
        .collect()
}

fn rules(rules: &[&str]) -> Rules {
    Rules::parse(&texts(rules)).unwrap()
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

/// The verdict's name for `entry`, a directory when it ends in a slash.
fn verdict(rules: &Rules, entry: &str, side: Side) -> &'static str {
    let (entry, is_dir) = match entry.strip_suffix('/') {
        Some(stem) => (path(stem), true),
        None => (path(entry), false),
    };
    let name = entry.file_name().unwrap();
    match rules.decide(&entry.parent().unwrap(), name.as_bytes(), is_dir, side) {
        Verdict::Include => "include",
        Verdict::Exclude(_) => "exclude",
        Verdict::Protect(_) => "protect",
    }
}

/// Whether the one rule `- PATTERN` excludes `entry`.
fn matches(pattern: &str, entry: &str) -> bool {
    verdict(&rules(&[&format!("- {pattern}")]), entry, Source) == "exclude"
}

fn shown(rules: &[RuleText]) -> Vec<String> {
    rules
        .iter()
        .map(|rule| escape(&rule.0).into_owned())
        .collect()
}

#[test]
fn without_rules_everything_takes_part() {
    assert!(rules(&[]).is_empty() && rules(&[""]).is_empty());
    assert_eq!(verdict(&rules(&[]), "a/b", Source), "include");
}

#[test]
fn the_first_match_decides() {
    let keep_one = rules(&["+ keep.o", "- *.o"]);
    assert_eq!(verdict(&keep_one, "a/keep.o", Source), "include");
    assert_eq!(verdict(&keep_one, "a/b.o", Source), "exclude");
    let too_late = rules(&["- *.o", "+ keep.o"]);
    assert_eq!(verdict(&too_late, "keep.o", Source), "exclude");
}

#[test]
fn a_plain_name_matches_at_any_depth() {
    assert!(matches("foo", "foo") && matches("foo", "a/b/foo") && matches("foo", "foo/"));
    assert!(!matches("foo", "afoo") && !matches("foo", "foo/a"));
}

#[test]
fn a_leading_slash_anchors_at_the_root() {
    assert!(matches("/foo", "foo") && !matches("/foo", "a/foo"));
    assert!(matches("/a/f*", "a/foo") && !matches("/a/f*", "b/a/foo"));
    assert!(!matches("/", "a/") && !matches("//", "a/"));
}

#[test]
fn a_trailing_slash_matches_directories_only() {
    assert!(matches("foo/", "a/foo/") && !matches("foo/", "a/foo"));
    assert!(matches("f*/", "foo/") && !matches("f*/", "foo"));
}

#[test]
fn an_inner_slash_matches_the_end_of_the_path_by_components() {
    assert!(matches("a/b", "a/b") && matches("a/b", "x/a/b"));
    assert!(!matches("a/b", "xa/b") && !matches("a/b", "a/b/c"));
    assert!(matches("a/*/c", "x/a/b/c") && !matches("a/*/c", "a/x/b/c"));
}

#[test]
fn two_stars_see_the_whole_path() {
    assert!(matches("**/b", "b") && matches("**/b", "x/y/b"));
    assert!(!matches("/**/b", "b") && matches("/**/b", "x/b"));
    assert!(matches("a/**/c", "x/a/b/b/c") && !matches("a/**/c", "a/c"));
    assert!(matches("a**c", "x/ab/bc") && !matches("a**c", "xa/c"));
}

#[test]
fn three_stars_also_match_the_directory_itself() {
    assert!(matches("d/***", "x/d/") && matches("d/***", "d/a/b"));
    assert!(!matches("d/***", "d") && !matches("d/**", "d/"));
}

#[test]
fn a_backslash_escapes_only_beside_a_wildcard() {
    assert!(matches(r"a\b", r"a\b") && !matches(r"a\b", "ab"));
    assert!(matches(r"a\b*", "abc") && matches(r"a\\b*", r"a\bc"));
}

#[test]
fn patterns_match_raw_bytes() {
    let rules = Rules::parse(&[exclude(b"\xff*")]).unwrap();
    let hit = rules.decide(&RelPath::root(), b"\xff\xfe", false, Source);
    assert!(hit.is_excluded());
}

#[test]
fn a_negated_rule_holds_for_what_does_not_match() {
    let dirs_only = rules(&["-! */"]);
    assert_eq!(verdict(&dirs_only, "a", Source), "exclude");
    assert_eq!(verdict(&dirs_only, "a/", Source), "include");
}

#[test]
fn a_path_too_long_for_the_stack_is_matched_too() {
    let deep = format!("{}end", "directory/".repeat(200));
    assert!(matches("/directory/**/end", &deep) && !matches("/x/**/end", &deep));
}

#[test]
fn a_clear_forgets_what_came_before() {
    let cleared = rules(&["- a", ": .rules", "!", "- b"]);
    assert_eq!(verdict(&cleared, "a", Source), "include");
    assert_eq!(verdict(&cleared, "b", Source), "exclude");
    assert_eq!(cleared.dir_merge_files().len(), 0);
}

#[test]
fn an_exclude_without_sides_is_for_both() {
    let both = rules(&["- a"]);
    assert_eq!(verdict(&both, "a", Source), "exclude");
    assert_eq!(verdict(&both, "a", Destination), "exclude");
}

#[test]
fn hidden_entries_are_at_risk_and_protected_ones_are_not_hidden() {
    let sided = rules(&["H hidden", "P kept", "-s both", "-r both"]);
    assert_eq!(verdict(&sided, "hidden", Source), "exclude");
    assert_eq!(verdict(&sided, "hidden", Destination), "include");
    assert_eq!(verdict(&sided, "kept", Source), "include");
    assert_eq!(verdict(&sided, "kept", Destination), "protect");
    assert_eq!(verdict(&sided, "both", Destination), "exclude");
}

#[test]
fn show_and_risk_override_a_later_exclude_on_their_side() {
    let sided = rules(&["S *.o", "R *.tmp", "- *"]);
    assert_eq!(verdict(&sided, "a.o", Source), "include");
    assert_eq!(verdict(&sided, "a.o", Destination), "protect");
    assert_eq!(verdict(&sided, "a.tmp", Source), "exclude");
    assert_eq!(verdict(&sided, "a.tmp", Destination), "include");
}

#[test]
fn deleting_excluded_entries_leaves_only_explicit_protection() {
    let rules = rules(&["- a", "-sr b", "P c"]).for_delete_excluded();
    assert_eq!(verdict(&rules, "a", Source), "exclude");
    assert_eq!(verdict(&rules, "a", Destination), "include");
    assert_eq!(verdict(&rules, "b", Destination), "exclude");
    assert_eq!(verdict(&rules, "c", Destination), "protect");
}

#[test]
fn a_perishable_rule_does_not_keep_a_directory_that_goes() {
    let rules = rules(&["-p *.o", "- *.key"]);
    assert_eq!(verdict(&rules, "d/a.o", Destination), "exclude");
    assert!(!rules.keeps_in_deleted_dir(&path("d"), b"a.o", false));
    assert!(rules.keeps_in_deleted_dir(&path("d"), b"a.key", false));
}

#[test]
fn an_explanation_names_the_ancestor_and_the_rule() {
    let rules = rules(&["+ *.c", "- /logs/", "P kept"]);
    let why = |entry, side| rules.explain(&path(entry), false, side).to_string();
    assert_eq!(
        why("logs/x/a.c", Source),
        "excluded: logs matches rule 2 `- /logs/`"
    );
    assert_eq!(
        why("src/a.c", Source),
        "included: src/a.c matches rule 1 `+ *.c`"
    );
    assert_eq!(why("src/a.h", Source), "included: no rule matches");
    assert_eq!(
        why("kept", Destination),
        "included, and protected from deletion: kept matches rule 3 `-r kept`"
    );
    let root = rules.explain(&RelPath::root(), true, Source);
    assert!(root.rule.is_none() && root.decided_at.is_root());
}

#[test]
fn exclude_and_include_options_honour_prefixes_and_clears() {
    assert_eq!(exclude(b"a").0, b"- a");
    assert_eq!(include(b"a").0, b"+ a");
    assert_eq!(exclude(b"+ a").0, b"+ a");
    assert_eq!(include(b"- a").0, b"- a");
    assert_eq!(exclude(b"!").0, b"!");
    assert_eq!(exclude(b"").0, b"");
    for literal in [
        &b"-"[..],
        b"-a",
        b"-_a",
        b"! ",
        b"!a",
        b" a",
        b"#a",
        b"-s a",
    ] {
        assert_eq!(exclude(literal).0, [b"- ", literal].concat());
    }
}

#[test]
fn exclude_files_skip_comments_and_keep_white_space() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f");
    fs::write(&file, "#c\n;d\n\n - lead\r\n+ y\n!\nplain \n-s q\n\r#x").unwrap();
    let read = read_rule_file(&file, Default::Exclude, false).unwrap();
    assert_eq!(
        shown(&read),
        ["-  - lead", "+ y", "!", "- plain ", "- -s q"]
    );
    let read = read_rule_file(&file, Default::Include, false).unwrap();
    assert_eq!(
        shown(&read),
        ["+  - lead", "+ y", "!", "+ plain ", "+ -s q"]
    );
    fs::write(&file, b"- n\0+ m\0#c\0\0k\nl").unwrap();
    let read = read_rule_file(&file, Default::Exclude, true).unwrap();
    assert_eq!(shown(&read), ["- n", "+ m", "- k\\#012l"]);
}

/// What `--filter` makes of `modifiers` and a file with this content.
fn merged(modifiers: &str, content: &str) -> Result<Vec<String>, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f");
    fs::write(&file, content).unwrap();
    parse_filter_arg(format!("{modifiers} {}", file.display()).as_bytes())
        .map(|rules| shown(&rules))
        .map_err(|err| err.to_string())
}

#[test]
fn a_merged_file_stands_in_the_place_of_its_rule() {
    assert_eq!(
        merged(".", "#c\n\n- x\nexclude,s y\nH z\n!\nP_w\n: .r\n"),
        Ok(["- x", "-s y", "-s z", "!", "-r w", ": .r"]
            .map(str::to_owned)
            .into())
    );
}

#[test]
fn merge_modifiers_shape_the_rules_of_the_file() {
    let ok = |rules: &[&str]| Ok(rules.iter().map(ToString::to_string).collect());
    assert_eq!(merged(".-", "- x\n!\n"), ok(&["- - x", "- !"]));
    assert_eq!(merged("merge,+s", "x y\n"), ok(&["+s x y"]));
    assert_eq!(merged(".e", "- x\n"), ok(&["- f", "- x"]));
    assert_eq!(merged(".rp", "+ x\n"), ok(&["+rp x"]));
    assert_eq!(
        merged(".w-", "a  b\tc\nd"),
        ok(&["- a", "- b", "- c", "- d"])
    );
    assert_eq!(
        merged(".w", "- a +_b ! H c"),
        ok(&["- a", "+ b", "!", "-s c"])
    );
    assert_eq!(merged(".C", "a ! - #d"), ok(&["- a", "!", "- -", "- #d"]));
}

#[test]
fn faults_in_files_say_where() {
    let fault = merged(".", "- a\n\nfoo\n").unwrap_err();
    assert!(
        fault.contains("line 3") && fault.contains("`foo`"),
        "{fault}"
    );
    let fault = merged(".s", "- a\nH b\n").unwrap_err();
    assert!(
        fault.contains("line 2") && fault.contains("one side"),
        "{fault}"
    );
    let fault = read_rule_file(Path::new("/nonexistent/f"), Default::Filter, false).unwrap_err();
    assert!(matches!(fault, FilterError::File { .. }));
    assert!(fault.to_string().contains("/nonexistent/f"));
}

#[test]
fn a_file_that_merges_itself_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f");
    fs::write(&file, format!(". {}\n", file.display())).unwrap();
    let fault = read_rule_file(&file, Default::Filter, false).unwrap_err();
    assert!(fault.to_string().contains("merges itself"), "{fault}");
}

#[test]
fn cvs_excludes_are_perishable_rules_and_a_per_directory_file() {
    let rules = shown(&cvs_excludes().unwrap());
    assert_eq!(rules[0], ":Cnw .cvsignore");
    assert!(rules.contains(&"-p *.o".to_owned()) && rules.contains(&"-p .git/".to_owned()));
}

#[test]
fn rules_that_read_files_are_not_compiled() {
    for rule in [". f", "-C"] {
        let fault = Rules::parse(&texts(&[rule])).unwrap_err().to_string();
        assert!(fault.contains("parse_filter_arg"), "{fault}");
    }
    let fault = Rules::parse(&texts(&[": a/b"])).unwrap_err().to_string();
    assert!(fault.contains("`. FILE`"), "{fault}");
}

/// The rules within `dir`, which has a rule file with this content.
fn enter(rules: &Rules, dir: &str, content: Option<&str>) -> Rules {
    let content = content.map(|text| text.as_bytes().to_vec());
    rules.enter(&path(dir), &[content]).unwrap()
}

#[test]
fn a_directorys_rules_hold_beneath_it_and_before_its_parents() {
    let top = rules(&["+ never", ": .r", "- *.bak"]);
    assert_eq!(top.dir_merge_files().collect::<Vec<_>>(), [b".r"]);
    let root = enter(&top, "", Some("- *.o\n- never\n"));
    let sub = enter(&root, "sub", Some("+ keep.o\n+ x.bak\n- /here\n"));
    let below = enter(&sub, "sub/below", None);
    assert_eq!(verdict(&root, "keep.o", Source), "exclude");
    for (entry, expected) in [
        ("sub/keep.o", "include"),
        ("sub/other.o", "exclude"),
        ("sub/x.bak", "include"),
        ("sub/y.bak", "exclude"),
        ("sub/never", "include"),
        ("sub/here", "exclude"),
    ] {
        assert_eq!(verdict(&sub, entry, Source), expected, "{entry}");
    }
    assert_eq!(verdict(&below, "sub/below/keep.o", Source), "include");
    assert_eq!(verdict(&below, "sub/below/here", Source), "include");
}

#[test]
fn an_anchor_in_a_directory_with_wildcards_in_its_name_is_literal() {
    let star = enter(&rules(&[": .r"]), "a*", Some("- /x?\n"));
    assert_eq!(verdict(&star, "a*/xy", Source), "exclude");
    assert_eq!(verdict(&star, "ab/xy", Source), "include");
}

#[test]
fn rules_that_are_not_inherited_end_with_their_directory() {
    let top = rules(&[":n- .r"]);
    let root = enter(&top, "", Some("a\n"));
    assert_eq!(verdict(&root, "a", Source), "exclude");
    assert_eq!(verdict(&enter(&root, "d", None), "d/a", Source), "include");
}

#[test]
fn a_clear_in_a_directory_forgets_its_parents_rules_only() {
    let root = enter(&rules(&[": .r", "- b"]), "", Some("- a\n"));
    let sub = enter(&root, "d", Some("!\n- c\n"));
    assert_eq!(verdict(&sub, "d/a", Source), "include");
    assert_eq!(verdict(&sub, "d/b", Source), "exclude");
    assert_eq!(verdict(&sub, "d/c", Source), "exclude");
}

#[test]
fn a_hiding_dir_merge_excludes_its_file_and_protection_can_stand_in_it() {
    let root = enter(&rules(&[":e .r"]), "d", Some("P keep\n"));
    assert_eq!(verdict(&root, "d/.r", Source), "exclude");
    assert_eq!(verdict(&root, "d/keep", Destination), "protect");
    let why = root.explain(&path("d/keep"), false, Destination);
    assert!(why.to_string().ends_with("d/.r line 1 `-r keep`"), "{why}");
}

#[test]
fn a_rule_file_at_every_level_of_a_deep_tree_does_not_exhaust_the_stack() {
    let mut rules = rules(&[": .r"]);
    for _ in 0..200_000 {
        rules = enter(&rules, "d", Some("- a"));
    }
    drop(rules);
}

#[test]
fn a_file_in_the_tree_cannot_have_others_read() {
    for nested in [". /etc/passwd", ": .other", "-C"] {
        let content = Some(nested.as_bytes().to_vec());
        let fault = rules(&[": .r"]).enter(&path("d"), &[content]).unwrap_err();
        assert!(fault.to_string().contains("d/.r line 1"), "{fault}");
    }
}
