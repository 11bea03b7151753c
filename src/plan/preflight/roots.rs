//! The roots themselves: what is at both ends of each, whether it can be read and written, whether
//! it is whole, and whether somebody else's work would be undone.

use super::gather::RootSeen;
use super::{Findings, View, of_root, some};
use crate::events::Side;
use crate::plan::resolve::ResolvedRoot;
use crate::protocol::errand::{Marker, MarkerRole, Measured, RootKind};
use crate::units::counted;

pub(super) fn judge(view: &View<'_>, findings: &mut Findings) {
    let seen = view.seen;
    let roots = view.resolved.roots.iter();
    for ((root, here), there) in roots.zip(&seen.source.roots).zip(&seen.destination.roots) {
        let before = findings.0.len();
        if !root.present {
            let message = format!(
                "left out: it is optional, and nothing is at {}",
                root.source
            );
            findings.ok(&of_root(&root.name), message);
            continue;
        }
        source(view, root, here, findings);
        destination(root, findings);
        same_place(root, findings);
        for (side, seen) in [(Side::Source, here), (Side::Destination, there)] {
            marker(view, root, side, seen, findings);
        }
        if findings.0.len() == before {
            findings.ok(&of_root(&root.name), summary(view, root, here));
        }
    }
}

/// What a root is that nothing is to be said of.
fn summary(view: &View<'_>, root: &ResolvedRoot, here: &RootSeen) -> String {
    let ends = format!("{} -> {}", root.source, root.destination);
    let holder = root
        .held_by
        .and_then(|holder| view.resolved.roots.get(holder));
    match (holder, &here.measured) {
        (Some(holder), _) => format!("{ends}, synced with root {}", holder.name),
        (None, Some(Ok(measured))) => format!("{ends}, {}", amount(measured)),
        (None, _) => ends,
    }
}

/// How much something is, in words.
pub(super) fn amount(measured: &Measured) -> String {
    format!(
        "{} entries, {}",
        indicatif::HumanCount(measured.entries),
        indicatif::BinaryBytes(measured.bytes)
    )
}

fn source(view: &View<'_>, root: &ResolvedRoot, here: &RootSeen, findings: &mut Findings) {
    let subject = of_root(&root.name);
    let facts = &root.facts.source;
    let path = &root.source;
    match facts.kind {
        RootKind::Missing => {
            return findings.fail(
                &subject,
                format!("nothing is at {path} on the source"),
                "correct `path`, or say `optional = true` where it may be missing",
            );
        }
        RootKind::Other => {
            let message = format!("{path} on the source is no directory");
            return findings.fail(&subject, message, "correct `path`: a root is a directory");
        }
        RootKind::Dir if !facts.readable => {
            let message = format!("{path} cannot be read at the source");
            return findings.fail(&subject, message, BE_ABLE);
        }
        RootKind::Dir => {}
    }
    if facts.through_symlink {
        findings.warning(
            &subject,
            format!("{path} leads through a symlink to {}", facts.canonical),
            "what is there is copied, and at the destination a directory is made: name the target \
             in `path` if the link shall be moved with what holds it",
        );
    }
    if facts.is_mount && !root.facts.destination.is_mount {
        findings.warning(
            &subject,
            format!("a filesystem is mounted at {path} on the source, and none at the destination"),
            format!(
                "mount one at {} if it shall be one there too",
                root.destination
            ),
        );
    }
    whole(view, root, here, findings);
    match &here.measured {
        Some(Ok(measured)) => readable(root, measured, findings),
        Some(Err(why)) => findings.unknown(&subject, "what is below it", why),
        None => {}
    }
}

/// What to do where we may not.
const BE_ABLE: &str = "log in as who may, or as root, or set `sudo = true` for that host";

fn readable(root: &ResolvedRoot, measured: &Measured, findings: &mut Findings) {
    let subject = of_root(&root.name);
    if measured.unreadable_entries > 0 {
        let names = some(&measured.unreadable, measured.unreadable_entries, ", ");
        let message = format!(
            "{} cannot be read at the source: {names}",
            counted(measured.unreadable_entries, "entry", "entries")
        );
        findings.fail(&subject, message, BE_ABLE);
    }
    // The root itself counts as none or as one.
    if measured.entries <= 1 && root.facts.source.names == 0 {
        let message = format!("{} is empty at the source", root.source);
        findings.fail(
            &subject,
            message,
            "correct `path`, or mount what should be there",
        );
    }
}

/// Whether all that makes the root whole is there: to copy a configuration without what it needs
/// is the most common way to lose sessions.
fn whole(view: &View<'_>, root: &ResolvedRoot, here: &RootSeen, findings: &mut Findings) {
    let subject = of_root(&root.name);
    let mut written = view.resolved.plan.roots.iter();
    let required = written
        .find(|written| written.name == root.name)
        .map_or(0, |written| written.required.len());
    if !here.missing.is_empty() {
        let message = format!(
            "{} of {required} required names are missing in {}: {}",
            here.missing.len(),
            root.source,
            here.missing.join(", ")
        );
        let advice = "the state is not whole, or this is not its directory: correct `path`, or take \
                      out of `required` what it can do without";
        findings.fail(&subject, message, advice);
    }
}

fn destination(root: &ResolvedRoot, findings: &mut Findings) {
    let subject = of_root(&root.name);
    let facts = &root.facts.destination;
    let path = &root.destination;
    match facts.kind {
        RootKind::Other => {
            let message = format!("{path} at the destination is no directory");
            findings.fail(
                &subject,
                message,
                "remove it, or choose another `destination`",
            );
        }
        _ if facts.read_only => {
            let message = format!("{path} at the destination is on a read-only filesystem");
            findings.fail(
                &subject,
                message,
                "mount it for writing, or choose another place",
            );
        }
        _ if !facts.writable => {
            findings.fail(
                &subject,
                format!("{path} cannot be written at the destination"),
                BE_ABLE,
            );
        }
        RootKind::Dir if facts.through_symlink => findings.warning(
            &subject,
            format!(
                "{path} at the destination leads through a symlink to {}",
                facts.canonical
            ),
            "make sure that this is where it shall be",
        ),
        RootKind::Dir | RootKind::Missing => {}
    }
}

/// Both ends on one machine, and one in the other.
fn same_place(root: &ResolvedRoot, findings: &mut Findings) {
    if root.held_by.is_some() {
        return;
    }
    let (source, destination) = (&root.facts.source, &root.facts.destination);
    if let Some(what) = source.identity.overlap(&destination.identity) {
        findings.fail(
            &of_root(&root.name),
            format!(
                "{what}: {} and {} on one machine",
                source.canonical, destination.canonical
            ),
            "set `host` in [destination], or give the root another `destination`",
        );
    }
}

/// Whether `path` is `root` or below it.
pub(super) fn is_below(root: &str, path: &str) -> bool {
    let rest = path.strip_prefix(root);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || root == "/")
}

fn marker(
    view: &View<'_>,
    root: &ResolvedRoot,
    side: Side,
    seen: &RootSeen,
    findings: &mut Findings,
) {
    let subject = of_root(&root.name);
    let marker = match &seen.marker {
        Some(Ok(Some(marker))) => marker,
        Some(Err(why)) => return findings.unknown(&subject, "its marker", why),
        Some(Ok(None)) | None => return,
    };
    let Marker {
        role, plan, other, ..
    } = marker;
    let path = root.path(side);
    match (role, side) {
        (MarkerRole::Fenced, Side::Source) => findings.fail(
            &subject,
            format!("{path} was switched away from by plan {plan}: the live one is {other}"),
            "move on from there, or bring it back: cutover rollback",
        ),
        (MarkerRole::Fenced, Side::Destination) => findings.fail(
            &subject,
            format!(
                "{path} at the destination was switched away from by plan {plan} to {other}: a \
                 sync would write over what the switch left"
            ),
            "bring it back with cutover rollback, or choose another `destination`",
        ),
        (MarkerRole::Standby, Side::Source) => findings.warning(
            &subject,
            format!("{path} is itself a standby of {other}, by plan {plan}"),
            "make sure that this is the live one: what is changed in a standby is lost",
        ),
        (MarkerRole::Standby, Side::Destination) if *plan != view.resolved.plan.name => {
            findings.warning(
                &subject,
                format!("{path} at the destination is the standby of {other}, by plan {plan}"),
                "choose another `destination`, or give that standby up",
            );
        }
        (MarkerRole::Standby, Side::Destination) => {}
    }
}
