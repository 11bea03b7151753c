//! The JSON Schema of plan files: for editors, and what `read` holds a file against. Made from the
//! types of `model`, so that it cannot say anything else than they do.

use serde_json::Value;

use super::model::Plan;

/// The schema, as `doc/plan.schema.json` has it.
pub fn text() -> String {
    // A tree of strings and numbers always serializes.
    let text = serde_json::to_string_pretty(&value()).unwrap_or_default();
    text + "\n"
}

/// The schema as a value.
pub(super) fn value() -> Value {
    let mut schema = schemars::schema_for!(Plan).to_value();
    remove_null(&mut schema);
    schema
}

/// TOML knows no null: a key is given or it is not. Takes out of a schema what says otherwise of
/// optional keys.
fn remove_null(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = &types[..] {
                    map["type"] = only.clone();
                }
            }
            if let Some(Value::Array(choices)) = map.get_mut("anyOf") {
                choices.retain(|choice| choice["type"] != "null");
                if let [Value::Object(only)] = &choices[..] {
                    let only = only.clone();
                    map.remove("anyOf");
                    // What the key says of itself goes before what its type does.
                    for (key, value) in only {
                        map.entry(key).or_insert(value);
                    }
                }
            }
            map.values_mut().for_each(remove_null);
        }
        Value::Array(values) => values.iter_mut().for_each(remove_null),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_schema_is_the_one_of_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/doc/plan.schema.json");
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(
            committed == text(),
            "write it anew: cutover plan schema > doc/plan.schema.json"
        );
    }

    #[test]
    fn nothing_is_null() {
        assert!(!text().contains("null"), "{}", text());
    }

    #[test]
    fn every_key_is_explained_in_the_schema_and_in_the_manual() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/doc/plan.md");
        let manual = std::fs::read_to_string(path).unwrap();
        let schema = value();
        let mut keys = Vec::new();
        collect_keys(&schema, &mut keys);
        assert!(keys.len() > 60, "{keys:?}");
        for (key, is_explained) in keys {
            assert!(is_explained || key == "kind", "{key} has no description");
            assert!(
                manual.contains(&format!("`{key}`")),
                "{key} is not in doc/plan.md"
            );
        }
    }

    /// The keys of all tables, and whether each has a description.
    fn collect_keys(schema: &Value, keys: &mut Vec<(String, bool)>) {
        match schema {
            Value::Object(map) => {
                if let Some(Value::Object(properties)) = map.get("properties") {
                    for (key, property) in properties {
                        keys.push((key.clone(), property.get("description").is_some()));
                    }
                }
                map.values().for_each(|value| collect_keys(value, keys));
            }
            Value::Array(values) => values.iter().for_each(|value| collect_keys(value, keys)),
            _ => {}
        }
    }
}
