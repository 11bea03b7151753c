//! Keeps the layers of `doc/design.md`: a module uses only modules of the layers above its own,
//! which is what keeps the engine free of the command line and the writer in one place.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The table of `doc/design.md`, section "Layers".
const LAYERS: [&[&str]; 10] = [
    &[
        "error",
        "events",
        "path",
        "digest",
        "entry",
        "options",
        "retention",
        "units",
    ],
    &["filter", "fs", "delta"],
    &["manifest", "transport", "watch"],
    &["protocol", "apply"],
    &["host"],
    &["session"],
    &["plan", "mirror"],
    &["switch", "bundle"],
    &["ui"],
    &["cli", "main"],
];

/// Words may be made of each other: errors show paths, events carry entries.
const MUTUAL_LAYER: usize = 0;

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// Why `user` must not use `used`; `None` when it may.
fn objection(user: &str, used: &str) -> Option<String> {
    if user == used {
        return None;
    }
    let (Some(from), Some(to)) = (layer_of(user), layer_of(used)) else {
        let unknown = if layer_of(user).is_none() { user } else { used };
        return Some(format!("`{unknown}` has no place in the table of layers"));
    };
    // The program's entry point is a module's only user within its layer.
    let is_entry_point = (user, used) == ("main", "cli");
    if to < from || (from == to && from == MUTUAL_LAYER) || is_entry_point {
        return None;
    }
    let relation = if to == from { "beside it" } else { "below it" };
    Some(format!(
        "`{user}` (layer {from}) uses `{used}` (layer {to}), which is {relation}: \
         a module uses only modules above it"
    ))
}

/// One mention of a module of this crate.
#[derive(Debug, PartialEq, Eq)]
struct Use {
    line: usize,
    module: String,
}

/// Every module that `source` names by `crate::module` or `crate::{module, ...}`, where `krate`
/// is the word for the crate: the program itself knows it by its name.
fn uses(source: &str, krate: &str) -> Vec<Use> {
    let code = without_comments_and_strings(source);
    let root = format!("{krate}::");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&root) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let after = &code[at + root.len()..];
        let modules = match after.strip_prefix('{') {
            Some(group) => heads_of_group(group),
            None => vec![word(after)],
        };
        let modules = modules.into_iter().map(|module| Use { line, module });
        found.extend(modules);
    }
    found
}

/// The first words of a brace group's members, up to its closing brace.
fn heads_of_group(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut heads = Vec::new();
    let mut rest = group;
    let mut is_head = true;
    while let Some(c) = rest.chars().next() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_head = true,
            c if is_head && !c.is_whitespace() => {
                heads.push(word(rest));
                is_head = false;
            }
            _ => {}
        }
        rest = &rest[c.len_utf8()..];
    }
    heads
}

fn word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// The source with comments and the insides of strings blanked; lines stay where they are.
fn without_comments_and_strings(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => string_length(rest),
            'r' if raw_hashes(rest).is_some() => raw_string_length(rest),
            // A quote in a character literal opens no string.
            '\'' if rest.starts_with("'\"'") => 3,
            '\'' if rest.starts_with(r#"'\"'"#) => 4,
            _ => 0,
        };
        if length == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            let newlines = rest[..length].matches('\n').count();
            code.extend(std::iter::repeat_n('\n', newlines));
            rest = &rest[length..];
        }
    }
    code
}

fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// How many `#` open the raw string that `text` starts with, if it does.
fn raw_hashes(text: &str) -> Option<usize> {
    let hashes = text[1..].len() - text[1..].trim_start_matches('#').len();
    text[1 + hashes..].starts_with('"').then_some(hashes)
}

fn raw_string_length(text: &str) -> usize {
    let hashes = raw_hashes(text).unwrap_or(0);
    let close = format!("\"{}", "#".repeat(hashes));
    let body = 2 + hashes;
    text[body..]
        .find(&close)
        .map_or(text.len(), |end| body + end + close.len())
}

/// The source files by path beneath `src`, with the module of the first level that each is in.
fn sources(src: &Path) -> BTreeMap<String, (String, String)> {
    let files = walkdir::WalkDir::new(src)
        .into_iter()
        .filter_map(Result::ok);
    files
        .filter(|entry| entry.path().extension().is_some_and(|ext| ext == "rs"))
        .map(|entry| {
            let below = entry.path().strip_prefix(src).expect("it is beneath");
            let below = below
                .to_str()
                .expect("source files have plain names")
                .to_owned();
            let first = below.split('/').next().expect("a path has a first part");
            let module = first.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(entry.path()).expect("reading a source file");
            (below, (module, text))
        })
        .collect()
}

#[test]
fn a_module_uses_only_modules_above_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut complaints = Vec::new();
    for (file, (module, text)) in sources(&src) {
        // It only says which modules there are.
        if module == "lib" {
            continue;
        }
        let krate = if module == "main" { "cutover" } else { "crate" };
        for Use { line, module: used } in uses(&text, krate) {
            if let Some(rule) = objection(&module, &used) {
                complaints.push(format!("src/{file}:{line}: {rule}"));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Where the engine's blocking threads end: what is in `transport` and the mirror's page.
fn may_be_asynchronous(file: &str) -> bool {
    file.starts_with("transport/") || file.starts_with("mirror/page")
}

#[test]
fn only_transport_and_the_page_know_tokio() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut knowing = Vec::new();
    for (file, (_, text)) in sources(&src) {
        if without_comments_and_strings(&text).contains("tokio::") {
            knowing.push(file);
        }
    }
    assert!(!knowing.is_empty());
    knowing.retain(|file| !may_be_asynchronous(file));
    assert!(knowing.is_empty(), "{knowing:?}");
}

/// The rows of the Markdown table whose first column is a layer's number.
fn layers_of(markdown: &str) -> Vec<Vec<String>> {
    let rows = markdown.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|');
        let number: usize = cells.next()?.trim().parse().ok()?;
        let names = cells
            .next()?
            .split(|c: char| c == '`' || c == ',' || c.is_whitespace());
        let names = names.filter(|name| !name.is_empty()).map(str::to_owned);
        Some((number, names.collect()))
    });
    let (numbers, layers): (Vec<_>, Vec<_>) = rows.unzip();
    assert!(
        numbers.iter().copied().eq(0..numbers.len()),
        "layers are numbered from 0: {numbers:?}"
    );
    layers
}

#[test]
fn the_table_is_the_one_of_the_design() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("doc/design.md");
    let text = fs::read_to_string(path).expect("reading doc/design.md");
    let sorted = |names: Vec<String>| {
        let mut names = names;
        names.sort();
        names
    };
    let written: Vec<_> = layers_of(&text).into_iter().map(sorted).collect();
    let checked = LAYERS.map(|names| sorted(names.iter().map(|name| (*name).into()).collect()));
    assert_eq!(
        written, checked,
        "doc/design.md and tests/layers.rs disagree"
    );
}

#[test]
fn every_way_of_naming_a_module_is_found() {
    let source = r##"
use crate::path::RelPath;
use crate::{
    digest::{Digest, ContentHash}, error,
};
// crate::comment::X
/* crate::block::Y */
fn f() -> crate::fs::File { let s = "crate::string::Z"; r#"crate::raw::"W"#; ('"', '\"'); crate::ui::f() }
pub(in crate::delta) fn g() { mycrate::other::h(); self::crate_::i() }
"##;
    let found: Vec<_> = uses(source, "crate")
        .into_iter()
        .map(|found| (found.line, found.module))
        .collect();
    let expected = [
        (2, "path"),
        (3, "digest"),
        (3, "error"),
        (8, "fs"),
        (8, "ui"),
        (9, "delta"),
    ];
    assert_eq!(
        found,
        expected.map(|(line, module)| (line, module.to_owned()))
    );
}

#[test]
fn only_use_of_the_layers_above_is_allowed() {
    for (user, used) in [
        ("session", "apply"),
        ("error", "path"),
        ("path", "error"),
        ("main", "cli"),
        ("apply", "apply"),
        ("cli", "error"),
    ] {
        assert_eq!(objection(user, used), None, "{user} uses {used}");
    }
    for (user, used) in [
        ("apply", "session"),
        ("fs", "filter"),
        ("protocol", "apply"),
        ("cli", "main"),
        ("error", "fs"),
        ("unheard_of", "fs"),
        ("fs", "unheard_of"),
        ("fs", ""),
    ] {
        assert!(objection(user, used).is_some(), "{user} uses {used}");
    }
}

#[test]
fn the_designs_table_is_read() {
    let markdown = "# x\n| layer | modules | knows |\n|---|---|---|\n\
                    | 0 | `a` `b_c` | words |\n| 1 | `d`, `e` | more |\n";
    assert_eq!(layers_of(markdown), [vec!["a", "b_c"], vec!["d", "e"]]);
}
