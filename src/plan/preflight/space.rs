//! Whether there is room for what comes: bytes and inodes, by filesystem, less what is there.

use std::collections::BTreeMap;

use indicatif::{BinaryBytes, HumanCount};

use super::{Findings, View};
use crate::protocol::errand::RootFacts;

/// What one filesystem of the destination is to take.
struct Need<'a> {
    facts: &'a RootFacts,
    /// One of the roots on it.
    path: &'a str,
    bytes: u64,
    inodes: u64,
}

pub(super) fn judge(view: &View<'_>, findings: &mut Findings) {
    let mut is_fine = true;
    for need in needs(view).values() {
        is_fine &= judge_one(need, findings);
    }
    if is_fine {
        let needs = needs(view);
        let total: u64 = needs.values().map(|need| need.bytes).sum();
        let message = format!(
            "there is room for what is to come, at most {}",
            BinaryBytes(total)
        );
        findings.ok("space", message);
    }
}

/// What each filesystem needs, by its device.
fn needs<'a>(view: &View<'a>) -> BTreeMap<u64, Need<'a>> {
    let seen = view.seen;
    let roots = view
        .resolved
        .roots
        .iter()
        .zip(&seen.source.roots)
        .zip(&seen.destination.roots);
    let mut needs = BTreeMap::new();
    for ((root, here), there) in roots {
        let Some(Ok(comes)) = &here.measured else {
            continue;
        };
        let (bytes, entries) = match &there.measured {
            Some(Ok(is)) => (is.bytes, is.entries),
            _ => (0, 0),
        };
        let facts = &root.facts.destination;
        let need = needs.entry(facts.device).or_insert(Need {
            facts,
            path: &root.destination,
            bytes: 0,
            inodes: 0,
        });
        need.bytes = need.bytes.saturating_add(comes.bytes.saturating_sub(bytes));
        need.inodes = need
            .inodes
            .saturating_add(comes.entries.saturating_sub(entries));
    }
    needs
}

/// Whether nothing had to be said.
fn judge_one(need: &Need<'_>, findings: &mut Findings) -> bool {
    let before = findings.0.len();
    let (facts, path) = (need.facts, need.path);
    let shortage = |what: &str, need: String, free: String| {
        format!("the filesystem of {path} needs {need}{what} more, and has {free} free")
    };
    let make_room = "make room there, leave something out by filters, or choose another place";
    if need.bytes > facts.free_bytes {
        let (needed, free) = (BinaryBytes(need.bytes), BinaryBytes(facts.free_bytes));
        findings.fail(
            "space",
            shortage("", needed.to_string(), free.to_string()),
            make_room,
        );
    } else if is_tight(need.bytes, facts.free_bytes) {
        let (needed, free) = (BinaryBytes(need.bytes), BinaryBytes(facts.free_bytes));
        findings.warning(
            "space",
            shortage("", needed.to_string(), free.to_string()),
            "it fits, but a changed file needs its old and its new size while it is written",
        );
    }
    if let Some(free) = facts.free_inodes
        && need.inodes > free
    {
        let (needed, free) = (HumanCount(need.inodes), HumanCount(free));
        let message = shortage(" inodes", needed.to_string(), free.to_string());
        findings.fail("space", message, make_room);
    }
    findings.0.len() == before
}

/// Whether less than a tenth of what is free would be left.
fn is_tight(need: u64, free: u64) -> bool {
    need > free / 10 * 9 && need > 0
}
