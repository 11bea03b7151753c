//! Whether the destination's filesystems can hold what is at the source: attributes, links, owners,
//! times, and names.

use super::{Findings, View, of_root, some};
use crate::plan::resolve::ResolvedRoot;
use crate::protocol::errand::Measured;

/// Times that are coarser than this, in nanoseconds, make of two changes one.
const COARSE_NS: u64 = 1_000_000_000;

pub(super) fn judge(view: &View<'_>, findings: &mut Findings) {
    let before = findings.0.len();
    for (root, seen) in view.resolved.roots.iter().zip(&view.seen.source.roots) {
        if !root.is_synced() {
            continue;
        }
        abilities(root, findings);
        if let Some(Ok(measured)) = &seen.measured {
            names(root, measured, findings);
        }
    }
    if findings.0.len() == before {
        findings.ok(
            "filesystem",
            "it can hold attributes, ACLs, links, owners, times and names",
        );
    }
}

fn abilities(root: &ResolvedRoot, findings: &mut Findings) {
    let subject = of_root(&root.name);
    let here = &root.facts.source.abilities;
    let there = &root.facts.destination.abilities;
    let lost: Vec<_> = [
        (here.xattrs && !there.xattrs, "extended attributes"),
        (here.acls && !there.acls, "ACLs"),
        (here.hard_links && !there.hard_links, "hard links"),
        (here.owners && !there.owners, "owners"),
    ]
    .into_iter()
    .filter_map(|(is_lost, what)| is_lost.then_some(what))
    .collect();
    let path = &root.destination;
    if !lost.is_empty() {
        findings.warning(
            &subject,
            format!("the filesystem of {path} cannot hold {}", lost.join(", ")),
            "choose a place on another filesystem, if the service needs them",
        );
    }
    if here.symlinks && !there.symlinks {
        findings.fail(
            &subject,
            format!("the filesystem of {path} cannot hold symlinks"),
            "choose a place on another filesystem",
        );
    }
    if there.granularity_ns >= COARSE_NS && there.granularity_ns > here.granularity_ns {
        findings.warning(
            &subject,
            format!(
                "the filesystem of {path} keeps times to {} s only",
                there.granularity_ns / COARSE_NS
            ),
            "set `checksum = true`, which does not go by times",
        );
    }
}

fn names(root: &ResolvedRoot, measured: &Measured, findings: &mut Findings) {
    let subject = of_root(&root.name);
    let there = &root.facts.destination.abilities;
    let path = &root.destination;
    if measured.longest_name_bytes > there.name_bytes {
        findings.fail(
            &subject,
            format!(
                "a name has {} bytes, and the filesystem of {path} holds {}",
                measured.longest_name_bytes, there.name_bytes
            ),
            "rename it, leave it out by a filter, or choose a place on another filesystem",
        );
    }
    if measured.case_pairs.is_empty() || there.case_sensitive == Some(true) {
        return;
    }
    let pairs = some(&measured.case_pairs, measured.case_pairs.len() as u64, ", ");
    let message = format!("names that differ by case alone: {pairs}");
    match there.case_sensitive {
        Some(_) => findings.fail(
            &subject,
            format!("the filesystem of {path} makes one of {message}"),
            "rename them, or choose a place on another filesystem",
        ),
        None => findings.warning(
            &subject,
            message,
            format!("make sure that the filesystem of {path} tells them apart"),
        ),
    }
}
