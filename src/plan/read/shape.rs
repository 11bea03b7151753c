//! The shape of a plan: its text held against the schema. Apart from reading it into types because
//! that stops at the first fault, and loses the place of whatever can be written in two ways.

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Fault, hint, nearest};
use crate::plan::schema;
use crate::plan::units::{RATE, SPAN};
use crate::units::{parse_duration, parse_rate};

/// All faults of a document.
pub(super) fn faults(document: &DeValue<'_>) -> Vec<Fault> {
    let schema = schema::value();
    let mut walk = Walk {
        definitions: &schema["$defs"],
        faults: Vec::new(),
    };
    walk.value(document, &schema, &Spot::top());
    walk.faults
}

/// Texts with a NUL in them: no path, word or variable of a system can have one, so each would fail
/// where it is used, a switch in its midst.
pub(super) fn nuls(value: &DeValue<'_>) -> Vec<Fault> {
    let within = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
        DeValue::String(text) if text.contains('\0') => {
            vec![Fault::new(value.span().start, "a text cannot hold NUL")]
        }
        other => nuls(other),
    };
    match value {
        DeValue::Array(values) => values.iter().flat_map(within).collect(),
        DeValue::Table(table) => table.values().flat_map(within).collect(),
        _ => Vec::new(),
    }
}

struct Walk<'a> {
    definitions: &'a Value,
    faults: Vec<Fault>,
}

/// Where the walk is.
#[derive(Clone)]
struct Spot {
    /// In the text.
    at: usize,
    /// The keys that lead there.
    keys: Vec<String>,
    /// It is one of several tables of this name.
    is_item: bool,
}

impl Spot {
    fn top() -> Spot {
        Spot {
            at: 0,
            keys: Vec::new(),
            is_item: false,
        }
    }

    fn key(&self, key: &str, at: usize) -> Spot {
        let mut keys = self.keys.clone();
        keys.push(key.to_owned());
        Spot {
            at,
            keys,
            is_item: false,
        }
    }

    fn item(&self, at: usize) -> Spot {
        Spot {
            at,
            keys: self.keys.clone(),
            is_item: true,
        }
    }

    /// What the table here is called in messages.
    fn table(&self) -> String {
        match (self.keys.join("."), self.is_item) {
            (keys, _) if keys.is_empty() => "the plan".to_owned(),
            (keys, true) => format!("[[{keys}]]"),
            (keys, false) => format!("[{keys}]"),
        }
    }

    /// What the value here is called.
    fn value(&self) -> String {
        match self.keys.last() {
            Some(key) if self.is_item => format!("an item of `{key}`"),
            Some(key) => format!("`{key}`"),
            None => "the plan".to_owned(),
        }
    }
}

impl<'a> Walk<'a> {
    fn fault(&mut self, at: usize, what: String) {
        self.faults.push(Fault::new(at, what));
    }

    fn value(&mut self, value: &DeValue<'_>, schema: &'a Value, spot: &Spot) {
        let schema = self.resolved(schema);
        let choices = schema.get("oneOf").or_else(|| schema.get("anyOf"));
        if let Some(Value::Array(choices)) = choices {
            let choices: Vec<_> = choices.iter().map(|choice| self.resolved(choice)).collect();
            return self.choice(value, &choices, spot);
        }
        if !fits(value, schema) {
            let (is, shall) = (noun(value), wanted(&[schema]));
            return self.fault(
                spot.at,
                format!("{} is {is}; it must be {shall}", spot.value()),
            );
        }
        match value {
            DeValue::Table(table) => self.table(table, schema, spot),
            DeValue::Array(items) => {
                for item in items.iter() {
                    let spot = spot.item(item.span().start);
                    self.value(item.get_ref(), &schema["items"], &spot);
                }
            }
            DeValue::Integer(number) => self.number(&number.to_string(), schema, spot),
            DeValue::String(text) => self.text(text, schema, spot),
            DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
        }
    }

    /// A schema, or the one that it refers to.
    fn resolved(&self, schema: &'a Value) -> &'a Value {
        let name = schema["$ref"].as_str();
        match name.and_then(|name| name.strip_prefix("#/$defs/")) {
            Some(name) => &self.definitions[name],
            None => schema,
        }
    }

    /// A value that can be written in several ways.
    fn choice(&mut self, value: &DeValue<'_>, choices: &[&'a Value], spot: &Spot) {
        let words: Vec<_> = choices
            .iter()
            .filter_map(|choice| choice["const"].as_str())
            .collect();
        if words.len() == choices.len() {
            return self.word(value, &words, spot);
        }
        if let (Some(tag), DeValue::Table(table)) = (tag_of(choices), value) {
            return self.variant(table, tag, choices, spot);
        }
        match choices.iter().find(|choice| fits(value, choice)) {
            Some(choice) => self.value(value, choice, spot),
            None => {
                let (is, shall) = (noun(value), wanted(choices));
                self.fault(
                    spot.at,
                    format!("{} is {is}; it must be {shall}", spot.value()),
                );
            }
        }
    }

    /// A value that is one of some words.
    fn word(&mut self, value: &DeValue<'_>, words: &[&str], spot: &Spot) {
        let name = spot.value();
        match value {
            DeValue::String(word) if words.contains(&word.as_ref()) => {}
            DeValue::String(word) => {
                let hint = hint(word, words);
                self.fault(spot.at, format!("{name} cannot be {word:?}{hint}"));
            }
            other => {
                let (is, words) = (noun(other), words.join(", "));
                self.fault(
                    spot.at,
                    format!("{name} is {is}; it must be one of {words}"),
                );
            }
        }
    }

    /// A table of which one key says what the others are.
    fn variant(&mut self, table: &DeTable<'_>, tag: &str, choices: &[&'a Value], spot: &Spot) {
        let word_of = |choice: &'a Value| choice["properties"][tag]["const"].as_str();
        let words: Vec<_> = choices
            .iter()
            .filter_map(|choice| word_of(choice))
            .collect();
        let Some(found) = lookup(table, tag) else {
            let what = format!(
                "{} has no `{tag}`, which is one of {}",
                spot.table(),
                words.join(", ")
            );
            return self.fault(spot.at, what);
        };
        let chosen = found.get_ref().as_str();
        match choices
            .iter()
            .find(|choice| chosen.is_some() && word_of(choice) == chosen)
        {
            Some(choice) => self.table(table, choice, spot),
            None => self.word(found.get_ref(), &words, &spot.key(tag, found.span().start)),
        }
    }

    fn table(&mut self, table: &DeTable<'_>, schema: &'a Value, spot: &Spot) {
        let empty = Map::new();
        let known = schema["properties"].as_object().unwrap_or(&empty);
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        let is_closed = schema["additionalProperties"] == Value::Bool(false);
        // A key that is misspelt is not missing as well.
        let mut meant = Vec::new();
        for (key, value) in table.iter() {
            let name: &str = key.get_ref();
            if let Some(property) = schema["properties"].get(name) {
                let at = place_of(key, value);
                self.value(value.get_ref(), property, &spot.key(name, at));
            } else if is_closed {
                meant.extend(nearest(name, names.iter().copied()));
                let what = format!(
                    "unknown key `{name}` in {}{}",
                    spot.table(),
                    hint(name, &names)
                );
                self.fault(key.span().start, what);
            } else {
                let spot = spot.key(name, value.span().start);
                self.value(value.get_ref(), &schema["additionalProperties"], &spot);
            }
        }
        let required = schema["required"].as_array().into_iter().flatten();
        for name in required.filter_map(Value::as_str) {
            if lookup(table, name).is_none() && !meant.contains(&name) {
                self.fault(spot.at, format!("{} has no `{name}`", spot.table()));
            }
        }
    }

    fn number(&mut self, text: &str, schema: &Value, spot: &Spot) {
        let number: Option<i128> = text.parse().ok();
        let bound = |name: &str| schema[name].as_i64().map(i128::from);
        let is_low = bound("minimum").is_some_and(|least| number.is_some_and(|n| n < least));
        let is_high = bound("maximum").is_some_and(|most| number.is_some_and(|n| n > most));
        if is_low || is_high {
            self.fault(spot.at, format!("{} cannot be {text}", spot.value()));
        }
    }

    fn text(&mut self, text: &str, schema: &Value, spot: &Spot) {
        let why = match schema["format"].as_str() {
            Some(SPAN) => parse_duration(text).err(),
            Some(RATE) => parse_rate(text).err(),
            _ => None,
        };
        if let Some(why) = why {
            self.fault(
                spot.at,
                format!("{} cannot be {text:?}: {why}", spot.value()),
            );
        }
    }
}

/// Where to point for a key's value: a table is found by its header, all else by itself.
fn place_of(key: &Spanned<impl AsRef<str>>, value: &Spanned<DeValue<'_>>) -> usize {
    match value.get_ref() {
        DeValue::Table(_) => key.span().start,
        _ => value.span().start,
    }
}

fn lookup<'t, 'i>(table: &'t DeTable<'i>, key: &str) -> Option<&'t Spanned<DeValue<'i>>> {
    let mut entries = table.iter();
    entries
        .find(|(name, _)| name.get_ref() == key)
        .map(|(_, value)| value)
}

/// The key by whose value alternatives are told apart.
fn tag_of<'a>(choices: &[&'a Value]) -> Option<&'a str> {
    let properties = choices.first()?["properties"].as_object()?;
    let mut tags = properties
        .iter()
        .filter(|(_, property)| property.get("const").is_some());
    tags.next().map(|(name, _)| name.as_str())
}

/// Whether a value is of the type that a schema wants.
fn fits(value: &DeValue<'_>, schema: &Value) -> bool {
    let is = match value {
        DeValue::String(_) => "string",
        DeValue::Integer(_) => "integer",
        DeValue::Float(_) => "number",
        DeValue::Boolean(_) => "boolean",
        DeValue::Datetime(_) => "datetime",
        DeValue::Array(_) => "array",
        DeValue::Table(_) => "object",
    };
    schema["type"].as_str().is_none_or(|wanted| wanted == is)
}

fn noun(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// What a value of one of these types is called.
fn wanted(choices: &[&Value]) -> String {
    let nouns: Vec<_> = choices
        .iter()
        .map(|choice| match choice["type"].as_str() {
            Some("string") => "a text in quotes",
            Some("integer") => "a whole number",
            Some("boolean") => "true or false",
            Some("array") => "a list in [ ]",
            _ => "a table",
        })
        .collect();
    nouns.join(" or ")
}
