//! Reads values from configuration files, where services say which directories and hosts they
//! use.

mod lenient;

use std::collections::HashMap;
use std::io::{self, Read};

use serde_json::Value;

use crate::error::Result;
use crate::events::Cancel;
use crate::path::escape;
use crate::protocol::errand::ValueQuery;

use super::open_file;

/// Larger files are no configuration.
const MOST_BYTES: u64 = 4 << 20;

/// Longer values are no names of directories or hosts.
const MOST_VALUE_BYTES: usize = 4 << 10;

/// A file's content, or why it has none; `None` where there is no file.
type Content = Result<Option<Value>, String>;

/// The values, in the order of the questions: `None` where the file, the key or its value is
/// missing; a sentence where the file cannot be read or the value is not a single one.
///
/// A file whose name ends in `.toml` is TOML. Others are JSON, with what people add to it:
/// comments, commas at the end, keys without quotes and strings in single ones (JSON5).
pub(super) fn read(
    queries: &[ValueQuery],
    cancel: &Cancel,
) -> Result<Vec<Result<Option<String>, String>>> {
    let mut files: HashMap<&str, Content> = HashMap::new();
    let mut values = Vec::with_capacity(queries.len());
    for query in queries {
        cancel.check()?;
        let content = files
            .entry(&query.file)
            .or_insert_with(|| parse_file(&query.file));
        values.push(match content {
            Ok(None) => Ok(None),
            Ok(Some(value)) => text_at(value, query),
            Err(why) => Err(why.clone()),
        });
    }
    Ok(values)
}

fn parse_file(path: &str) -> Content {
    let shown = escape(path.as_bytes());
    let failed = |err: io::Error| format!("cannot read {shown}: {err}");
    let file = match open_file(path) {
        Err(err) if is_missing(&err) => return Ok(None),
        file => file.map_err(failed)?,
    };
    let mut text = String::new();
    let mut file = file.take(MOST_BYTES + 1);
    file.read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(format!("cannot read {shown}: it is larger than 4 MiB"));
    }
    let text = text.trim_start_matches('\u{feff}');
    let parsed = match path.ends_with(".toml") {
        true => parse_toml(text),
        false => parse_json(text),
    };
    parsed.map(Some).map_err(|Fault { line, why }| {
        let why = escape(why.as_bytes());
        format!("cannot read {shown}, line {line}: {why}")
    })
}

fn is_missing(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// What is wrong with a file.
struct Fault {
    line: usize,
    why: String,
}

fn parse_json(text: &str) -> Result<Value, Fault> {
    let strict = serde_json::from_str(text);
    let parsed = strict.or_else(|_| serde_json::from_str(&lenient::to_json(text)));
    parsed.map_err(|err| {
        let why = err.to_string();
        let why = why.split(" at line ").next().unwrap_or_default().to_owned();
        Fault {
            line: err.line(),
            why,
        }
    })
}

fn parse_toml(text: &str) -> Result<Value, Fault> {
    let table: toml::Table = text.parse().map_err(|err: toml::de::Error| {
        let at = err.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..at]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count()
            + 1;
        let why = err.message().to_owned();
        Fault { line, why }
    })?;
    Ok(from_toml(toml::Value::Table(table)))
}

fn from_toml(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(value) => value.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(values) => values.into_iter().map(from_toml).collect(),
        toml::Value::Table(table) => {
            let entries = table
                .into_iter()
                .map(|(key, value)| (key, from_toml(value)));
            Value::Object(entries.collect())
        }
    }
}

fn text_at(content: &Value, query: &ValueQuery) -> Result<Option<String>, String> {
    let what = || {
        let pointer = escape(query.pointer.as_bytes());
        format!("{pointer} in {}", escape(query.file.as_bytes()))
    };
    if !query.pointer.is_empty() && !query.pointer.starts_with('/') {
        return Err(format!(
            "{} is not a JSON pointer: begin it with `/`",
            what()
        ));
    }
    let text = match content.pointer(&query.pointer) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.clone(),
        Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
        Some(Value::Array(_)) => return Err(format!("{} is a list, not one value", what())),
        Some(Value::Object(_)) => return Err(format!("{} is a table, not one value", what())),
    };
    match text.len() > MOST_VALUE_BYTES {
        true => Err(format!("{} is longer than 4 KiB", what())),
        false => Ok(Some(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    fn value(tree: &Tree, file: &str, pointer: &str) -> Result<Option<String>, String> {
        let query = ValueQuery {
            file: tree.text(file),
            pointer: pointer.to_owned(),
        };
        let mut values = read(&[query], &Cancel::new()).unwrap();
        values.remove(0)
    }

    fn some(text: &str) -> Result<Option<String>, String> {
        Ok(Some(text.to_owned()))
    }

    #[test]
    fn values_of_json_are_texts() {
        let tree = Tree::new();
        tree.file(
            "a.json",
            r#"{"g": {"mode": "remote", "n": 8, "b": true, "z": null, "l": [1]}, "a/b": 1.5}"#,
        );
        assert_eq!(value(&tree, "a.json", "/g/mode"), some("remote"));
        assert_eq!(value(&tree, "a.json", "/g/n"), some("8"));
        assert_eq!(value(&tree, "a.json", "/g/b"), some("true"));
        assert_eq!(value(&tree, "a.json", "/g/l/0"), some("1"));
        assert_eq!(value(&tree, "a.json", "/a~1b"), some("1.5"));
        for missing in ["/g/z", "/g/x", "/g/mode/x", "/g/l/7"] {
            assert_eq!(value(&tree, "a.json", missing), Ok(None), "{missing}");
        }
        assert_eq!(value(&tree, "missing.json", "/a"), Ok(None));
        assert_eq!(value(&tree, "a.json/b", "/a"), Ok(None));
    }

    #[test]
    fn json_as_people_write_it_is_read() {
        let tree = Tree::new();
        let text = "\u{feff}// where\n{\n  gateway: { mode: 'remote', /* x */ },\n}\n";
        tree.file("a.json", text);
        assert_eq!(value(&tree, "a.json", "/gateway/mode"), some("remote"));
    }

    #[test]
    fn values_of_toml_are_texts() {
        let tree = Tree::new();
        tree.file("a.toml", "[g]\nmode = 'local'\nat = 2020-01-02\nl = [7]\n");
        assert_eq!(value(&tree, "a.toml", "/g/mode"), some("local"));
        assert_eq!(value(&tree, "a.toml", "/g/at"), some("2020-01-02"));
        assert_eq!(value(&tree, "a.toml", "/g/l/0"), some("7"));
        assert_eq!(value(&tree, "a.toml", "/h"), Ok(None));
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_line() {
        let tree = Tree::new();
        tree.file("a.json", "{\n\"a\": 1\n\"b\": 2}\n");
        tree.file("a.toml", "a = 1\n\nb = = 2\n");
        tree.file("deep.json", "[".repeat(100_000));
        tree.file("bytes.json", b"\"\xff\"");
        tree.fifo("fifo.json");
        for (file, part) in [
            ("a.json", "a.json, line 3: expected"),
            ("a.toml", "a.toml, line 3: "),
            ("deep.json", "recursion"),
            ("bytes.json", "UTF-8"),
            ("fifo.json", "not a regular file"),
        ] {
            let why = value(&tree, file, "/a").unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn what_is_not_one_value_is_said() {
        let tree = Tree::new();
        tree.file("a.json", r#"{"t": {}, "l": []}"#);
        assert!(value(&tree, "a.json", "/t").unwrap_err().contains("/t in "));
        assert!(value(&tree, "a.json", "/l").is_err());
        assert!(
            value(&tree, "a.json", "l")
                .unwrap_err()
                .contains("begin it")
        );
    }
}
