//! Presets: plans for kinds of services, with variables. Each is a file in `presets`, so that this
//! program knows no service by name, and one more needs no code but its line here.
//!
//! A file begins with a TOML table `[preset]`: `name`, `summary` and a `[[preset.variable]]` for
//! each variable, with `name`, `description` and, as it needs, `default`, `required` and `pattern`
//! (one class of characters, as in `[a-z0-9-]*`, or `+` where it must not be empty). The plan
//! follows a line `# --- plan ---`. In it `{{name}}` stands for a value, made safe to stand in a
//! text in quotes; what is between `{{#name}}` and `{{/name}}` is left out where the value is empty,
//! and what is between `{{^name}}` and `{{/name}}` where it is not.

mod render;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::read::{load_bytes, nearest};
use crate::error::{Error, Result};

/// The files.
const FILES: [&str; 5] = [
    include_str!("presets/generic.toml"),
    include_str!("presets/aipro.toml"),
    include_str!("presets/systemd-service.toml"),
    include_str!("presets/postgres.toml"),
    include_str!("presets/home.toml"),
];

/// What is taken where none is named.
pub const GENERIC: &str = "generic";

/// The line that the plan follows.
const PLAN: &str = "# --- plan ---\n";

/// A plan with variables.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub summary: String,
    /// What can be set.
    #[serde(rename = "variable", default)]
    pub variables: Vec<Variable>,
    #[serde(skip)]
    plan: &'static str,
}

/// Something that can be set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// What it is called.
    pub name: String,
    /// What it is.
    pub description: String,
    /// What it is unless set.
    #[serde(default)]
    pub default: String,
    /// It must be set.
    #[serde(default)]
    pub required: bool,
    /// The characters that it may have.
    pub pattern: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    preset: Preset,
}

/// All presets.
///
/// # Errors
///
/// [`Error::Usage`] for a file that is none.
pub fn all() -> Result<Vec<Preset>> {
    FILES.into_iter().map(parse).collect()
}

/// The preset of this name.
///
/// # Errors
///
/// [`Error::Usage`] for a name that none has.
pub fn find(name: &str) -> Result<Preset> {
    let presets = all()?;
    let names: Vec<_> = presets.iter().map(|preset| preset.name.clone()).collect();
    presets
        .into_iter()
        .find(|preset| preset.name == name)
        .ok_or_else(|| {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let hint = match nearest(name, names.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("there are {}", names.join(", ")),
            };
            Error::Usage(format!("there is no preset {name:?}; {hint}"))
        })
}

fn parse(file: &'static str) -> Result<Preset> {
    let broken = |why: String| Error::Usage(format!("a preset cannot be read: {why}"));
    let (head, plan) = file
        .split_once(PLAN)
        .ok_or_else(|| broken(format!("it has no line {PLAN:?}")))?;
    let Head { preset } = toml::from_str(head).map_err(|err| broken(err.to_string()))?;
    Ok(Preset { plan, ..preset })
}

impl Preset {
    /// The plan with these values; checked to be one that loads.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a variable that is not there, one that must be set and is not, and a
    /// value that does not fit.
    pub fn fill(&self, values: &BTreeMap<String, String>) -> Result<String> {
        for name in values.keys() {
            if !self.variables.iter().any(|variable| variable.name == *name) {
                return Err(Error::Usage(self.no_variable(name)));
            }
        }
        let mut all = BTreeMap::new();
        for variable in &self.variables {
            let value = match values.get(&variable.name) {
                Some(value) => value,
                None if variable.required => return Err(Error::Usage(self.must_be_set(variable))),
                None => &variable.default,
            };
            variable.check(value)?;
            all.insert(variable.name.as_str(), value.as_str());
        }
        let plan = render::render(self.plan, &all)
            .map_err(|why| Error::Usage(format!("preset {}: {why}", self.name)))?;
        let name = format!("preset {}", self.name);
        load_bytes(Path::new(&name), plan.as_bytes())?;
        Ok(plan)
    }

    fn no_variable(&self, name: &str) -> String {
        let names: Vec<_> = self
            .variables
            .iter()
            .map(|known| known.name.as_str())
            .collect();
        let hint = match nearest(name, names.iter().copied()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("it has {}", names.join(", ")),
        };
        format!("preset {} has no variable {name:?}; {hint}", self.name)
    }

    fn must_be_set(&self, variable: &Variable) -> String {
        let Variable {
            name, description, ..
        } = variable;
        format!("preset {} needs --set {name}=...: {description}", self.name)
    }
}

impl Variable {
    fn check(&self, value: &str) -> Result<()> {
        let fits = match &self.pattern {
            Some(pattern) => fits(value, pattern),
            None => !value.contains(char::is_control),
        };
        if fits {
            return Ok(());
        }
        let form = match &self.pattern {
            Some(pattern) => format!("only {pattern} fits"),
            None => "it has control characters".to_owned(),
        };
        Err(Error::Usage(format!(
            "{} cannot be {value:?}: {form}",
            self.name
        )))
    }
}

/// Whether a value is made of one class of characters, written `[a-z_]*`, or `+` for at least one.
fn fits(value: &str, pattern: &str) -> bool {
    let (class, is_empty_fine) = match pattern.strip_suffix('*') {
        Some(class) => (class, true),
        None => (pattern.trim_end_matches('+'), false),
    };
    let class: Vec<char> = class
        .trim_start_matches('[')
        .trim_end_matches(']')
        .chars()
        .collect();
    let is_in = |c: char| {
        let mut rest = &class[..];
        loop {
            rest = match rest {
                [from, '-', to, ..] if (*from..=*to).contains(&c) => return true,
                [_, '-', _, rest @ ..] => rest,
                [only, ..] if *only == c => return true,
                [_, rest @ ..] => rest,
                [] => return false,
            }
        }
    };
    (is_empty_fine || !value.is_empty()) && value.chars().all(is_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    /// Values for all variables that must be set.
    fn needed(preset: &Preset) -> BTreeMap<String, String> {
        let needed = preset.variables.iter().filter(|variable| variable.required);
        needed
            .map(|variable| (variable.name.clone(), fitting(variable).to_owned()))
            .collect()
    }

    /// A value that a variable can have.
    fn fitting(variable: &Variable) -> &'static str {
        match (&variable.pattern, variable.name.as_str()) {
            (Some(pattern), _) if fits("x", pattern) => "x",
            (Some(_), _) => "7",
            (None, "source" | "destination") => "me@there",
            (None, _) => "/srv/x",
        }
    }

    #[test]
    fn every_preset_makes_a_plan_with_and_without_its_variables() {
        let presets = all().unwrap();
        assert_eq!(presets.len(), FILES.len());
        for preset in presets {
            preset.fill(&needed(&preset)).unwrap();
            let every = preset
                .variables
                .iter()
                .map(|variable| (variable.name.clone(), fitting(variable).to_owned()));
            let filled = preset.fill(&every.collect()).unwrap();
            assert!(!filled.contains("{{"), "{}: {filled}", preset.name);
        }
    }

    #[test]
    fn every_variable_of_a_preset_is_used_and_explained() {
        for preset in all().unwrap() {
            for variable in &preset.variables {
                let name = format!("{}}}}}", variable.name);
                assert!(
                    preset.plan.contains(&name),
                    "{}: {}",
                    preset.name,
                    variable.name
                );
                assert!(!variable.description.is_empty());
            }
        }
    }

    #[test]
    fn wrong_values_are_told() {
        let aipro = find("aipro").unwrap();
        for (values, words) in [
            (&[("profil", "x")][..], "did you mean profile?"),
            (&[("profile", "a b")], "profile cannot be \"a b\": only ["),
            (&[("destination", "no host")], "preset aipro:"),
        ] {
            let err = aipro.fill(&set(values)).unwrap_err().to_string();
            assert!(err.contains(words), "{err}");
        }
        let err = find("systemd-service")
            .unwrap()
            .fill(&set(&[]))
            .unwrap_err()
            .to_string();
        assert!(err.contains("needs --set unit=...: "), "{err}");
        let err = find("postgress").unwrap_err().to_string();
        assert!(err.contains("did you mean postgres?"), "{err}");
    }

    #[test]
    fn a_value_cannot_break_out_of_its_quotes() {
        let generic = find(GENERIC).unwrap();
        let filled = generic.fill(&set(&[("path", "/a\"b\\c")])).unwrap();
        assert!(filled.contains(r#"path = "/a\"b\\c""#), "{filled}");
    }

    #[test]
    fn a_profile_has_its_own_directory() {
        let aipro = find("aipro").unwrap();
        let plain = aipro.fill(&set(&[])).unwrap();
        assert!(
            plain.contains("path = \"${AIPRO_STATE_DIR:-~/.aipro}\""),
            "{plain}"
        );
        assert!(!plain.contains("--profile"), "{plain}");
        let work = aipro.fill(&set(&[("profile", "work")])).unwrap();
        assert!(
            work.contains("path = \"${AIPRO_STATE_DIR:-~/.aipro-work}\""),
            "{work}"
        );
        assert!(
            work.contains(r#"["aipro", "--profile", "work", "status"]"#),
            "{work}"
        );
    }

    #[test]
    fn patterns_are_one_class_of_characters() {
        assert!(fits("", "[a-z]*") && !fits("", "[a-z]+"));
        assert!(fits("ab-9_", "[a-z0-9_-]+"));
        assert!(!fits("a b", "[a-z]*") && !fits("A", "[a-z]*"));
        assert!(!fits("-", "[a-z0-9]+") && fits("-", "[a-z-]+"));
    }
}
