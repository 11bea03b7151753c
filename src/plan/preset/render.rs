//! The text of a preset with its values put in.

use std::collections::BTreeMap;

/// Puts values into `text`. A line that is nothing but the beginning or end of an optional part is
/// left out whole.
pub(super) fn render(text: &str, values: &BTreeMap<&str, &str>) -> Result<String, String> {
    let mut renderer = Renderer {
        values,
        out: String::new(),
        open: Vec::new(),
    };
    for line in text.split_inclusive('\n') {
        renderer.line(line)?;
    }
    match renderer.open.pop() {
        Some((name, _)) => Err(format!("the part of {name} is not closed")),
        None => Ok(renderer.out),
    }
}

struct Renderer<'a> {
    values: &'a BTreeMap<&'a str, &'a str>,
    out: String,
    /// The optional parts that are open, and whether each is shown.
    open: Vec<(String, bool)>,
}

impl Renderer<'_> {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let tag = line
            .trim()
            .strip_prefix("{{")
            .and_then(|rest| rest.strip_suffix("}}"));
        if let Some(tag) = tag.filter(|tag| tag.starts_with(['#', '^', '/']) && !tag.contains("{{"))
        {
            return self.tag(tag);
        }
        let mut rest = line;
        while let Some((before, tagged)) = rest.split_once("{{") {
            let (tag, after) = tagged.split_once("}}").ok_or("a {{ is not closed")?;
            self.write(before);
            self.tag(tag)?;
            rest = after;
        }
        self.write(rest);
        Ok(())
    }

    fn write(&mut self, text: &str) {
        if self.open.iter().all(|(_, is_shown)| *is_shown) {
            self.out.push_str(text);
        }
    }

    fn tag(&mut self, tag: &str) -> Result<(), String> {
        let (kind, name) = match tag.chars().next() {
            Some(kind @ ('#' | '^' | '/')) => (kind, &tag[1..]),
            _ => ('=', tag),
        };
        let value = self
            .values
            .get(name)
            .ok_or_else(|| format!("it has no variable {name}"))?;
        match kind {
            '#' => self.open.push((name.to_owned(), !value.is_empty())),
            '^' => self.open.push((name.to_owned(), value.is_empty())),
            '/' => match self.open.pop() {
                Some((open, _)) if open == name => {}
                _ => return Err(format!("the part of {name} was not open")),
            },
            _ => self.write(&quoted(value)),
        }
        Ok(())
    }
}

/// A value as it can stand in a TOML string. Control characters have been refused.
fn quoted(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> Result<String, String> {
        let values = [("full", "x"), ("empty", "")];
        render(text, &values.into_iter().collect())
    }

    #[test]
    fn values_stand_where_they_are_named() {
        assert_eq!(rendered("a {{full}}{{full}} b\n").unwrap(), "a xx b\n");
        assert_eq!(rendered("no end").unwrap(), "no end");
    }

    #[test]
    fn optional_parts_are_shown_by_the_value() {
        let both =
            "{{#full}}1{{/full}}{{^full}}2{{/full}}{{#empty}}3{{/empty}}{{^empty}}4{{/empty}}";
        assert_eq!(rendered(both).unwrap(), "14");
        let lines =
            "{{#full}}\na\n{{^empty}}\nb\n{{/empty}}\n{{/full}}\n{{#empty}}\nc\n{{/empty}}\nd\n";
        assert_eq!(rendered(lines).unwrap(), "a\nb\nd\n");
    }

    #[test]
    fn a_template_that_makes_no_sense_is_refused() {
        for bad in [
            "{{other}}",
            "{{full",
            "{{#full}}",
            "{{/full}}",
            "{{#full}}{{#empty}}{{/full}}",
        ] {
            assert!(rendered(bad).is_err(), "{bad}");
        }
    }
}
