//! Texts with `~`, `$VAR`, `${VAR}` and `${VAR:-default}` as a shell on this host would read them,
//! but for two things: a variable that is not set is an error, since an empty path is none; and
//! `$$` is a dollar sign, which a shell would want a backslash for.

use crate::fs::Users;
use crate::protocol::errand::Expand;
use crate::transport::{Whose, expand_home};

/// How deep defaults may hold variables with defaults.
const DEEPEST: usize = 16;

/// The longest result, in bytes: longer than any path, and little enough that a few bytes of text
/// cannot be made into much memory.
const LONGEST: usize = 64 << 10;

/// Answers each text, in order.
pub(super) fn expand(question: &Expand, whose: Whose) -> Vec<Result<String, String>> {
    let here = Here {
        env: &question.env,
        user: question.user.as_deref(),
        whose,
        users: Users::new(),
    };
    let texts = question.texts.iter();
    texts.map(|text| here.write(&parse(text)?)).collect()
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// As it stands.
    Text(String),
    /// `~`, or `~user`.
    Home(Option<String>),
    /// `${name}`, or `${name:-default}`.
    Variable {
        name: String,
        default: Option<Vec<Part>>,
    },
}

fn parse(text: &str) -> Result<Vec<Part>, String> {
    let mut reader = Reader { rest: text };
    reader.parts(0)
}

/// What is left of a text.
struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    /// Reads up to the end of the text; within braces, up to the closing one.
    fn parts(&mut self, depth: usize) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        if self.take("~") {
            parts.push(self.tilde(depth));
        }
        loop {
            let text = self.take_while(|c| c != '$' && (depth == 0 || c != '}'));
            if !text.is_empty() {
                parts.push(Part::Text(text));
            }
            if self.rest.is_empty() {
                return match depth {
                    0 => Ok(parts),
                    _ => Err("a `${` is not closed by `}`".to_string()),
                };
            }
            if depth > 0 && self.take("}") {
                return Ok(parts);
            }
            parts.push(self.dollar(depth)?);
        }
    }

    /// Reads what a tilde begins: one that a whole name does not end is only a tilde.
    fn tilde(&mut self, depth: usize) -> Part {
        let user = self.take_while(|c| c.is_alphanumeric() || "._-+@".contains(c));
        match self.rest.chars().next() {
            None | Some('/') => {}
            Some('}') if depth > 0 => {}
            Some(_) => return Part::Text(format!("~{user}")),
        }
        Part::Home((!user.is_empty()).then_some(user))
    }

    /// Reads what a dollar sign begins.
    fn dollar(&mut self, depth: usize) -> Result<Part, String> {
        if self.take("$$") {
            return Ok(Part::Text("$".to_string()));
        }
        if self.take("${") {
            return self.braces(depth + 1);
        }
        self.take("$");
        let name = self.name();
        Ok(match name.is_empty() {
            true => Part::Text("$".to_string()),
            false => Part::Variable {
                name,
                default: None,
            },
        })
    }

    fn braces(&mut self, depth: usize) -> Result<Part, String> {
        if depth > DEEPEST {
            return Err(format!("more than {DEEPEST} `${{` within each other"));
        }
        let name = self.name();
        if name.is_empty() {
            return Err("a `${` without the name of a variable".to_string());
        }
        let default = if self.take("}") {
            None
        } else if self.take(":-") {
            Some(self.parts(depth)?)
        } else {
            return Err(format!(
                "`${{{name}` goes on with neither `}}` nor `:-`, the only two that are understood"
            ));
        };
        Ok(Part::Variable { name, default })
    }

    fn name(&mut self) -> String {
        if self.rest.starts_with(|c: char| c.is_ascii_digit()) {
            return String::new();
        }
        self.take_while(|c| c.is_ascii_alphanumeric() || c == '_')
    }

    fn take(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken.to_string()
    }
}

/// Where texts are read: what variables there are, and whose `~` it is.
struct Here<'a> {
    env: &'a [(String, String)],
    user: Option<&'a str>,
    whose: Whose,
    users: Users,
}

impl Here<'_> {
    fn write(&self, parts: &[Part]) -> Result<String, String> {
        let mut out = String::new();
        for part in parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Home(None) => out.push_str(&self.home()?),
                Part::Home(Some(user)) => out.push_str(&self.home_of(user)?),
                Part::Variable { name, default } => {
                    out.push_str(&self.variable(name, default.as_deref())?);
                }
            }
            if out.len() > LONGEST {
                return Err(format!("it becomes longer than {LONGEST} bytes"));
            }
        }
        Ok(out)
    }

    fn variable(&self, name: &str, default: Option<&[Part]>) -> Result<String, String> {
        match (self.value(name)?, default) {
            (Some(value), None) => Ok(value),
            (Some(value), Some(_)) if !value.is_empty() => Ok(value),
            (_, Some(default)) => self.write(default),
            (None, None) => Err(format!(
                "the variable {name} is not set; set it in `env`, or write ${{{name}:-DEFAULT}}"
            )),
        }
    }

    fn value(&self, name: &str) -> Result<Option<String>, String> {
        if let Some(value) = self.given(name) {
            return Ok(Some(value.to_string()));
        }
        match (name, self.user) {
            ("HOME", _) => return self.home().map(Some),
            ("USER" | "LOGNAME", Some(user)) => return Ok(Some(user.to_string())),
            _ => {}
        }
        let value = std::env::var_os(name).map(|value| value.into_string());
        value
            .transpose()
            .map_err(|_| format!("the value of {name} is not UTF-8"))
    }

    fn given(&self, name: &str) -> Option<&str> {
        let given = self.env.iter().find(|(given, _)| given == name)?;
        Some(&given.1)
    }

    /// What `~` is: a `HOME` that was given, else that of the user.
    fn home(&self) -> Result<String, String> {
        match (self.given("HOME"), self.user) {
            (Some(home), _) => Ok(home.to_string()),
            (None, Some(user)) => self.home_of(user),
            (None, None) => text(expand_home(b"~", self.whose)),
        }
    }

    fn home_of(&self, user: &str) -> Result<String, String> {
        let home = self.users.home_of(Some(user));
        let home = home.ok_or_else(|| format!("there is no user {user}"))?;
        text(home.into_os_string().into_encoded_bytes())
    }
}

fn text(path: Vec<u8>) -> Result<String, String> {
    String::from_utf8(path).map_err(|_| "the home directory's path is not UTF-8".to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expanded(text: &str, env: &[(&str, &str)], user: Option<&str>) -> Result<String, String> {
        let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        let question = Expand {
            texts: vec![text.to_string()],
            env: env.iter().map(owned).collect(),
            user: user.map(str::to_string),
        };
        expand(&question, Whose::Own).remove(0)
    }

    #[test]
    fn what_a_shell_would_make_of_it() {
        let env = [("HOME", "/h"), ("A", "a"), ("EMPTY", ""), ("B_2", "b")];
        for (text, expected) in [
            ("/plain", "/plain"),
            ("~", "/h"),
            ("~/x", "/h/x"),
            ("/x/~", "/x/~"),
            ("~x y", "~x y"),
            ("~root/x", "/root/x"),
            ("$A/${A}x/$B_2.d", "a/ax/b.d"),
            ("${EMPTY}", ""),
            ("${EMPTY:-d}", "d"),
            ("${NONE_SUCH:-~/.x}/y", "/h/.x/y"),
            ("${NONE_SUCH:-/a~}", "/a~"),
            ("${A:-${NONE_SUCH}}", "a"),
            ("${NONE_SUCH:-${EMPTY:-${A}}-}b", "a-b"),
            ("${NONE_SUCH:-}", ""),
            ("a$$A", "a$A"),
            ("1$ $1 $", "1$ $1 $"),
            ("a}b", "a}b"),
            ("${HOME}", "/h"),
        ] {
            assert_eq!(
                expanded(text, &env, None).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        for (text, said) in [
            ("${NONE_SUCH}/x", "NONE_SUCH"),
            ("$NONE_SUCH", "NONE_SUCH"),
            ("${A", "neither"),
            ("${A:-b", "not closed"),
            ("${A:-${B:-}", "not closed"),
            ("${}", "without the name"),
            ("${1}", "without the name"),
            ("${A:?b}", "only two"),
            ("~no-such-user/x", "no-such-user"),
        ] {
            let err = expanded(text, &[("A", "a")], None).unwrap_err();
            assert!(err.contains(said), "{text}: {err}");
        }
    }

    #[test]
    fn a_user_brings_a_home_and_a_name() {
        let all = "~/ ${HOME} $USER $LOGNAME";
        let expected = "/root/ /root root root";
        assert_eq!(expanded(all, &[], Some("root")).as_deref(), Ok(expected));
        assert!(expanded("~", &[], Some("no-such-user")).is_err());
    }

    #[test]
    fn variables_come_from_the_environment_too() {
        let path = std::env::var("PATH").unwrap();
        assert_eq!(expanded("$PATH", &[], None), Ok(path));
        assert_eq!(
            expanded("$PATH", &[("PATH", "x")], None).as_deref(),
            Ok("x")
        );
    }

    #[test]
    fn nothing_grows_without_bound() {
        let nested = "${X_:-".repeat(1_000_000);
        assert!(expanded(&nested, &[], None).is_err());
        let many = "$A".repeat(1_000_000);
        let long = "a".repeat(1000);
        assert!(expanded(&many, &[("A", &long)], None).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_expanded_or_refused(text in "[~$A{}:/é -]{0,40}|.{0,40}") {
            let _ = expanded(&text, &[("A", "a"), ("HOME", "/h")], None);
        }

        #[test]
        fn a_text_without_signs_stays(text in "[^~$]{0,40}") {
            prop_assert_eq!(expanded(&text, &[], None), Ok(text));
        }
    }
}
