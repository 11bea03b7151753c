//! The texts of a plan that hosts expand: which there are, and what became of them.

use std::collections::{BTreeMap, BTreeSet};

use super::Resolved;
use crate::error::{Error, Result};
use crate::events::Side;
use crate::plan::model::{Check, Expect, Plan};
use crate::protocol::errand::Expand;
use crate::session::Host;

/// Texts and what they are on one host.
#[derive(Clone, Debug, Default)]
pub(in crate::plan) struct Texts(BTreeMap<String, String>);

impl Texts {
    /// Has a host expand them.
    pub(super) fn expand(
        host: &mut Host,
        texts: BTreeSet<String>,
        env: BTreeMap<String, String>,
    ) -> Result<Texts> {
        let texts: Vec<_> = texts.into_iter().collect();
        let expanded = expand(host, &texts, env)?;
        Ok(Texts(texts.into_iter().zip(expanded).collect()))
    }

    /// What a text of the plan is; one that was not asked for is what it is.
    pub(in crate::plan) fn get<'a>(&'a self, text: &'a str) -> &'a str {
        self.0.get(text).map_or(text, String::as_str)
    }
}

/// The paths of the roots on one side.
pub(super) fn of_roots(plan: &Plan, side: Side) -> Vec<String> {
    let roots = plan.roots.iter();
    let paths = roots.map(|root| match (side, &root.destination) {
        (Side::Destination, Some(path)) => path.clone(),
        _ => root.path.clone(),
    });
    paths.collect()
}

/// All other texts for one side.
pub(super) fn of_plan(resolved: &Resolved, side: Side) -> BTreeSet<String> {
    let plan = &resolved.plan;
    let mut texts = BTreeSet::new();
    for action in super::actions(plan, side) {
        texts.extend(action.command().dir);
    }
    for expect in &plan.expects {
        match expect {
            Expect::Value { file, on, .. } if Side::from(*on) == side => {
                texts.insert(file.clone());
            }
            Expect::Variable { name, on, .. } if Side::from(*on) == side => {
                texts.insert(variable(name));
            }
            Expect::NoOthers { paths, .. } if side == Side::Source => {
                texts.extend(paths.iter().cloned());
            }
            _ => {}
        }
    }
    for check in &plan.checks {
        if let (Check::File { path, .. }, Side::Destination) = (check, side) {
            texts.insert(path.clone());
        }
    }
    texts
}

/// The text that a variable's value is asked for by; empty where it is not set.
pub(in crate::plan) fn variable(name: &str) -> String {
    format!("${{{name}:-}}")
}

/// Has a host expand texts; each becomes what stands in its place.
pub(in crate::plan) fn expand(
    host: &mut Host,
    texts: &[String],
    env: BTreeMap<String, String>,
) -> Result<Vec<String>> {
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let answers = host.expand(Expand {
        texts: texts.to_vec(),
        env: env.into_iter().collect(),
        user: None,
    })?;
    let told = texts.iter().zip(answers).map(|(text, answer)| {
        answer
            .map_err(|why| Error::Usage(format!("cannot expand {text} on {}: {why}", host.name())))
    });
    told.collect()
}

/// A root's path as it is compared with others: absolute, with single slashes and none at its end.
pub(super) fn absolute(text: &str, path: &str, host: &str) -> Result<String> {
    let is_bad = !path.starts_with('/') || path.split('/').any(|name| name == "..");
    if is_bad || path.contains('\0') {
        return Err(Error::Usage(format!(
            "{text} is {path:?} on {host}: a root needs an absolute path without `..`"
        )));
    }
    match normal(path) {
        path if path == "/" => Err(Error::Usage(format!(
            "{text} is / on {host}: the root of the filesystem is no root of a plan"
        ))),
        path => Ok(path),
    }
}

/// An absolute path with single slashes and none at its end.
pub(in crate::plan) fn normal(path: &str) -> String {
    let names = path
        .split('/')
        .filter(|name| !name.is_empty() && *name != ".");
    let path: String = names.map(|name| format!("/{name}")).collect();
    match path.is_empty() {
        true => "/".to_owned(),
        false => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_in_one_way() {
        let absolute = |path| absolute("x", path, "host");
        assert_eq!(absolute("//a/./b//").unwrap(), "/a/b");
        let err = absolute("//./").unwrap_err().to_string();
        assert!(err.contains("is / on host"), "{err}");
        for bad in ["", "a", "/a/../b"] {
            let err = absolute(bad).unwrap_err().to_string();
            assert!(
                err.contains("on host: a root needs an absolute path"),
                "{err}"
            );
        }
    }
}
