//! Turns JSON as people write it into JSON as parsers want it: without comments and commas before
//! a closing bracket, with keys and strings in double quotes. That is JSON5 but for its numbers.
//!
//! What is not understood passes unchanged, so that the parser complains about it, and lines stay
//! where they are, so that it names the right one.

use std::iter::Peekable;
use std::str::Chars;

/// The text as JSON, if it can be made such.
pub(super) fn to_json(text: &str) -> String {
    let mut writer = Writer {
        rest: text.chars().peekable(),
        out: String::with_capacity(text.len()),
        owed_newlines: 0,
    };
    while let Some(c) = writer.rest.next() {
        match c {
            '"' | '\'' => writer.string(c),
            '/' if skip_comment(&mut writer.rest, &mut writer.out) => {}
            ',' if matches!(next_significant(&writer.rest), Some(']' | '}')) => {}
            c if is_word(c) => writer.word(c),
            c => writer.out.push(c),
        }
    }
    writer.out
}

struct Writer<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
    /// Line ends within a string that goes on behind them.
    owed_newlines: usize,
}

impl Writer<'_> {
    /// Copies a string whose opening quote has been read.
    fn string(&mut self, quote: char) {
        self.out.push('"');
        while let Some(c) = self.rest.next() {
            match c {
                '\\' => self.escape(),
                '"' if quote == '\'' => self.out.push_str("\\\""),
                c if c == quote => {
                    self.out.push('"');
                    break;
                }
                c => self.out.push(c),
            }
        }
        let newlines = std::iter::repeat_n('\n', self.owed_newlines);
        self.out.extend(newlines);
        self.owed_newlines = 0;
    }

    /// Copies what follows a backslash.
    fn escape(&mut self) {
        match self.rest.next() {
            Some(c @ ('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't' | 'u')) => {
                self.out.extend(['\\', c]);
            }
            Some('\n') => self.owed_newlines += 1,
            Some('x') => self.out.push_str("\\u00"),
            Some('v') => self.out.push_str("\\u000b"),
            Some('0') => self.out.push_str("\\u0000"),
            Some(c) => self.out.push(c),
            None => self.out.push('\\'),
        }
    }

    /// Copies a word that begins with `first`, in quotes where it is a key.
    fn word(&mut self, first: char) {
        let mut word = String::from(first);
        while let Some(c) = self.rest.next_if(|&c| is_word(c)) {
            word.push(c);
        }
        match next_significant(&self.rest) {
            Some(':') => self.out.extend(["\"", &word, "\""]),
            _ => self.out.push_str(&word),
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// Passes over a comment whose first slash has been read, but for its line ends; false where there
/// is none.
fn skip_comment(rest: &mut Peekable<Chars<'_>>, out: &mut String) -> bool {
    match rest.peek() {
        Some('/') => while rest.next_if(|&c| c != '\n').is_some() {},
        Some('*') => {
            rest.next();
            let mut before = ' ';
            for c in rest.by_ref() {
                if before == '*' && c == '/' {
                    break;
                }
                if c == '\n' {
                    out.push(c);
                }
                before = c;
            }
        }
        _ => return false,
    }
    out.push(' ');
    true
}

/// The next character that is neither space nor part of a comment.
fn next_significant(rest: &Peekable<Chars<'_>>) -> Option<char> {
    let mut rest = rest.clone();
    let mut ignored = String::new();
    while let Some(c) = rest.next() {
        match c {
            '/' if skip_comment(&mut rest, &mut ignored) => {}
            c if c.is_whitespace() => {}
            c => return Some(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(text: &str) -> Result<Value, serde_json::Error> {
        serde_json::from_str(&to_json(text))
    }

    #[test]
    fn json_stays_what_it_is() {
        for text in [
            r#"{"a": [1, -2.5e3, true, null], "b//c": "/* d */ , ]"}"#,
            r#"["\"\\\/\b\f\n\r\té", ",}"]"#,
            "[]",
        ] {
            let strict: Value = serde_json::from_str(text).unwrap();
            assert_eq!(parse(text).unwrap(), strict, "{text}");
        }
    }

    #[test]
    fn what_people_add_is_understood() {
        let text = r#"
            // a comment, with "quotes" and ] }
            {
                key: 'it\'s "so"', /* , } */ $other_1: [1, 2, /* last */ ],
                "url": "http://x//y", // end
                'single': "a\
b", hex: "\x41", nul: '\0',
            }
        "#;
        let expected = json!({
            "key": "it's \"so\"", "$other_1": [1, 2], "url": "http://x//y",
            "single": "ab", "hex": "A", "nul": "\0",
        });
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn a_fault_is_on_its_own_line() {
        for text in [
            "{ /* 1\n2\n*/ a: 1,\n b: ? }",
            "{ // 1\n\na: 1,\n b: ? }",
            "[ 'a\\\nb\\\nc',\n ? ]",
        ] {
            let lines = text.lines().count();
            assert_eq!(parse(text).unwrap_err().line(), lines, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_stays_none() {
        for text in ["", "{a}", "[1,,]", "'", "\"\\", "/* ", "{a: b}", "[1 2]"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
