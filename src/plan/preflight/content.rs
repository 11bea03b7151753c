//! What files say: secrets that anyone can read, and text that names paths which will mean
//! something else on the destination. Whatever repairs a copy there and follows such a path
//! changes data that is not the copy.

use std::collections::BTreeSet;

use super::gather::{RootSeen, Seen};
use super::roots::is_below;
use super::{Findings, View, of_root, some};
use crate::error::Result;
use crate::plan::preflight::asked;
use crate::plan::resolve::ResolvedRoot;
use crate::protocol::errand::Mention;
use crate::session::Host;

/// Paths that the source's files name and that are there at the destination.
#[derive(Default)]
pub(super) struct There(BTreeSet<String>);

#[cfg(test)]
impl There {
    pub(super) fn of(paths: impl IntoIterator<Item = String>) -> There {
        There(paths.into_iter().collect())
    }
}

/// Asks the destination for the paths that the source's files name.
pub(super) fn paths_there(source: &Seen, destination: &mut Host) -> Result<There> {
    let mentions = source.roots.iter().filter_map(|root| match &root.mentions {
        Some(Ok(mentions)) => Some(mentions),
        _ => None,
    });
    let paths: BTreeSet<_> = mentions
        .flatten()
        .map(|mention| mention.path.clone())
        .collect();
    if paths.is_empty() {
        return Ok(There::default());
    }
    let paths: Vec<_> = paths.into_iter().collect();
    let found = asked(destination.glob(&paths))?;
    Ok(There(found.unwrap_or_default().into_iter().collect()))
}

pub(super) fn judge(view: &View<'_>, there: &There, findings: &mut Findings) {
    let before = findings.0.len();
    for (root, seen) in view.resolved.roots.iter().zip(&view.seen.source.roots) {
        exposed(root, seen, findings);
        mentions(view, root, seen, there, findings);
    }
    let is_any = view.resolved.roots.iter().any(|root| root.present);
    if findings.0.len() == before && is_any {
        findings.ok(
            "content",
            "no secret is open to all, and no text names a path that will change",
        );
    }
}

fn exposed(root: &ResolvedRoot, seen: &RootSeen, findings: &mut Findings) {
    let subject = of_root(&root.name);
    match &seen.exposed {
        Some(Ok(paths)) if !paths.is_empty() => {
            let message = format!(
                "secrets that others than their owner can read: {}",
                some(paths, paths.len() as u64, ", ")
            );
            let first = paths.first().map_or("", String::as_str);
            let advice = format!(
                "take the right from others before copies have it too: chmod go= {}/{first}",
                root.source
            );
            findings.warning(&subject, message, advice);
        }
        Some(Err(why)) => findings.unknown(&subject, "who can read its secrets", why),
        _ => {}
    }
}

fn mentions(
    view: &View<'_>,
    root: &ResolvedRoot,
    seen: &RootSeen,
    there: &There,
    findings: &mut Findings,
) {
    let subject = of_root(&root.name);
    let mentions = match &seen.mentions {
        Some(Ok(mentions)) => mentions,
        Some(Err(why)) => return findings.unknown(&subject, "the paths in its files", why),
        None => return,
    };
    let (mut live, mut dead) = (Vec::new(), Vec::new());
    for mention in mentions {
        match meaning(view, mention, there) {
            Meaning::Same => {}
            Meaning::Live => live.push(line(mention)),
            Meaning::Dead => dead.push(line(mention)),
        }
    }
    if !live.is_empty() {
        let message = format!(
            "text names paths of the source that lead to other data on the destination:\n{}",
            some(&live, live.len() as u64, "\n")
        );
        let advice = "whatever follows them there changes what is not the copy: write them relative, \
                      or with ~, or use the same paths on both sides";
        findings.fail(&subject, message, advice);
    }
    if !dead.is_empty() {
        let message = format!(
            "text names paths of the source that are not there on the destination:\n{}",
            some(&dead, dead.len() as u64, "\n")
        );
        let advice = "correct them on the destination before the service starts, or write them \
                      relative or with ~";
        findings.warning(&subject, message, advice);
    }
}

fn line(mention: &Mention) -> String {
    format!("{}:{} names {}", mention.file, mention.line, mention.path)
}

/// What a path that the source's files name means on the destination.
enum Meaning {
    /// What it means on the source.
    Same,
    /// Something else that is there.
    Live,
    /// Nothing.
    Dead,
}

fn meaning(view: &View<'_>, mention: &Mention, there: &There) -> Meaning {
    let path = &mention.path;
    let holds = |root: &&ResolvedRoot| {
        is_below(&root.source, path) || is_below(&root.facts.source.canonical, path)
    };
    let root = view
        .resolved
        .roots
        .iter()
        .filter(|root| root.present)
        .find(holds);
    let homes = (&view.seen.source.home, &view.seen.destination.home);
    let is_there = there.0.contains(path);
    match root {
        Some(root) if root.source == root.destination && is_below(&root.source, path) => {
            Meaning::Same
        }
        // Not one of the plan's, and of no meaning on the source either.
        None if !mention.exists => Meaning::Same,
        None if homes.0 == homes.1 && is_there => Meaning::Same,
        _ if is_there => Meaning::Live,
        _ => Meaning::Dead,
    }
}
