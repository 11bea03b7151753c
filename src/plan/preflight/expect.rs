//! What the plan expects of configuration and environment: that they name the directories of the
//! plan, that the state is not on a third host, that nothing is forgotten.

use super::gather::Asked;
use super::roots::is_below;
use super::{Findings, View, asked, some};
use crate::error::{Error, Result};
use crate::events::Side;
use crate::plan::model::Expect;
use crate::plan::resolve::texts::{self, normal};
use crate::plan::resolve::{Resolved, ResolvedRoot};
use crate::protocol::errand::ValueQuery;
use crate::session::Host;

/// What was found where something is expected.
pub(super) struct Answered {
    /// The value, as it is written.
    value: Option<String>,
    /// The value as a path on that host, where a path is expected.
    path: Option<String>,
    /// What is told with it.
    told: Option<String>,
    /// Paths that match.
    others: Vec<String>,
}

/// Asks one side for what is expected there.
pub(super) fn ask(
    resolved: &Resolved,
    side: Side,
    host: &mut Host,
) -> Result<Vec<Option<Asked<Answered>>>> {
    let mut answers = Vec::new();
    for expect in &resolved.plan.expects {
        let is_here = match expect {
            Expect::Value { on, .. } | Expect::Variable { on, .. } => Side::from(*on) == side,
            Expect::NoOthers { .. } => side == Side::Source,
        };
        answers.push(match is_here {
            true => Some(asked(answer(resolved, expect, side, host))?),
            false => None,
        });
    }
    Ok(answers)
}

fn answer(resolved: &Resolved, expect: &Expect, side: Side, host: &mut Host) -> Result<Answered> {
    let texts = resolved.texts.of(side);
    let mut answered = Answered {
        value: None,
        path: None,
        told: None,
        others: Vec::new(),
    };
    match expect {
        Expect::Value {
            file,
            pointer,
            is_root,
            tell,
            ..
        } => {
            let query = |pointer: &String| ValueQuery {
                file: texts.get(file).to_owned(),
                pointer: pointer.clone(),
            };
            let queries = [Some(pointer), tell.as_ref()]
                .into_iter()
                .flatten()
                .map(query);
            let mut found = host.values(queries.collect())?.into_iter();
            let mut next = || match found.next() {
                Some(Ok(value)) => Ok(value),
                Some(Err(why)) => Err(Error::Usage(why)),
                None => Ok(None),
            };
            answered.value = next()?;
            answered.told = next()?;
            if let (Some(value), true) = (&answered.value, is_root.is_some()) {
                let written = [value.clone()];
                let expanded = texts::expand(host, &written, resolved.environment(side))?;
                answered.path = expanded.into_iter().next();
            }
        }
        Expect::Variable { name, .. } => {
            let variable = texts::variable(name);
            let value = texts.get(&variable).to_owned();
            answered.path = Some(value.clone()).filter(|value| !value.is_empty());
            answered.value = answered.path.clone();
        }
        Expect::NoOthers { paths, .. } => {
            let patterns: Vec<_> = paths
                .iter()
                .map(|path| texts.get(path).to_owned())
                .collect();
            answered.others = host.glob(&patterns)?;
        }
    }
    Ok(answered)
}

pub(super) fn judge(view: &View<'_>, findings: &mut Findings) {
    let before = findings.0.len();
    let (here, there) = (&view.seen.source.expected, &view.seen.destination.expected);
    for (n, expect) in view.resolved.plan.expects.iter().enumerate() {
        let answers = [(Side::Source, here), (Side::Destination, there)];
        for (side, answers) in answers {
            match answers.get(n) {
                Some(Some(Ok(answered))) => judge_one(view, expect, side, answered, findings),
                Some(Some(Err(why))) => findings.unknown("expected", "a configuration", why),
                _ => {}
            }
        }
    }
    if findings.0.len() == before && !view.resolved.plan.expects.is_empty() {
        findings.ok(
            "expected",
            "configuration and environment name what the plan does",
        );
    }
}

fn judge_one(
    view: &View<'_>,
    expect: &Expect,
    side: Side,
    answered: &Answered,
    findings: &mut Findings,
) {
    match expect {
        Expect::Value {
            file,
            pointer,
            is_root,
            is,
            is_not,
            message,
            ..
        } => {
            let Some(value) = &answered.value else {
                return;
            };
            let is_met = is.as_ref().is_none_or(|is| is == value)
                && !is_not.contains(value)
                && names_root(view, is_root.as_deref(), side, answered);
            if !is_met {
                let told = answered.told.as_ref().map(|told| format!(" ({told})"));
                let file = view.resolved.texts.of(side).get(file);
                let found = format!(
                    "{file} says {pointer} is {value:?}{}",
                    told.unwrap_or_default()
                );
                findings.fail("expected", found, message);
            }
        }
        Expect::Variable {
            name,
            is_root,
            message,
            ..
        } => {
            if !names_root(view, Some(is_root), side, answered) {
                let value = answered.value.as_deref().unwrap_or_default();
                let wanted = view
                    .resolved
                    .root(is_root)
                    .map_or("", |root| root.path(side));
                let found = format!(
                    "{name} is {value:?} at the {}, and root {is_root} is {wanted}",
                    side.noun()
                );
                findings.fail("expected", found, message);
            }
        }
        Expect::NoOthers { message, .. } => {
            let others = others(view, &answered.others);
            if !others.is_empty() {
                let named = some(&others, others.len() as u64, ", ");
                findings.fail("expected", format!("not in the plan: {named}"), message);
            }
        }
    }
}

/// Whether the path that was found is the root's; where none was, nothing contradicts.
fn names_root(view: &View<'_>, name: Option<&str>, side: Side, answered: &Answered) -> bool {
    let root = name.and_then(|name| view.resolved.root(name));
    let (Some(root), Some(path)) = (root, &answered.path) else {
        return true;
    };
    let path = normal(path);
    path == root.path(side) || path == root.facts.of(side).canonical
}

/// Those paths that are in no root of the source.
fn others<'a>(view: &View<'_>, paths: &'a [String]) -> Vec<&'a str> {
    let holds = |root: &ResolvedRoot, path: &str| {
        is_below(&root.source, path) || is_below(&root.facts.source.canonical, path)
    };
    let is_other = |path: &&str| !view.resolved.roots.iter().any(|root| holds(root, path));
    paths.iter().map(String::as_str).filter(is_other).collect()
}
