//! The closing words on standard output: rows of numbers after a sync, a verdict after a
//! comparison.

use crate::events::Summary;
use crate::options::Compare;

use super::human::{bytes, count, counted, elapsed, entries};
use super::tally::Tally;
use super::{Act, Reach, View};

/// The summary's lines: one for each root of a plan, then those of all of it.
pub(super) fn lines(view: &View, summary: &Summary, tally: &Tally) -> Vec<String> {
    let roots = tally.roots.iter();
    let mut lines: Vec<_> = roots
        .map(|(name, done)| root_row(view, name, done))
        .collect();
    lines.extend(own_lines(view, summary, tally));
    lines
}

/// What was done in one root of several, in short.
fn root_row(view: &View, name: &str, summary: &Summary) -> String {
    let compares = matches!(view.act, Act::Diff(_) | Act::Verify);
    let outcome = match (compares, summary.differs) {
        (false, _) => deeds(summary),
        (true, true) => "different".to_owned(),
        (true, false) if !summary.is_complete() => "not proven".to_owned(),
        (true, false) => "identical".to_owned(),
    };
    let failed = match summary.problems {
        0 => String::new(),
        n => format!(", {} failed", count(n)),
    };
    let text = format!(
        "{}: {outcome}{failed}, {} in {}",
        super::printable(name),
        entries(summary.source_entries),
        elapsed(summary.elapsed),
    );
    row("root", &text)
}

fn own_lines(view: &View, summary: &Summary, tally: &Tally) -> Vec<String> {
    match &view.act {
        Act::Sync | Act::DryRun => sync_rows(view, summary, tally),
        Act::Diff(compare) => comparison_rows(how(*compare), summary, tally),
        Act::Verify => comparison_rows(how(Compare::Checksum), summary, tally),
        Act::Manifest(file) => {
            let mut rows = trouble_rows(summary, tally);
            rows.push(format!(
                "recorded {}, {}, in {} ({})",
                entries(summary.source_entries),
                bytes(summary.source_bytes),
                crate::path::escape(file.as_os_str().as_encoded_bytes()),
                elapsed(summary.elapsed),
            ));
            rows
        }
        Act::Bundle(file) => {
            let what = format!(
                "bundled {}, {}, in {}: {}",
                entries(summary.source_entries),
                bytes(summary.source_bytes),
                crate::path::escape(file.as_os_str().as_encoded_bytes()),
                bytes(summary.wire_sent_bytes),
            );
            deed_rows(&what, summary, tally)
        }
        Act::VerifyBundle => bundle_rows(summary, tally),
        Act::Restore(to) => {
            let what = format!(
                "restored {}, {}, to {}",
                entries(summary.source_entries),
                bytes(summary.source_bytes),
                crate::path::escape(to.as_os_str().as_encoded_bytes()),
            );
            deed_rows(&what, summary, tally)
        }
    }
}

/// What went wrong, and in one line what was done.
fn deed_rows(what: &str, summary: &Summary, tally: &Tally) -> Vec<String> {
    let mut rows = trouble_rows(summary, tally);
    rows.push(format!("{what} ({})", elapsed(summary.elapsed)));
    rows
}

/// The verdict on a bundle.
fn bundle_rows(summary: &Summary, tally: &Tally) -> Vec<String> {
    let held = format!(
        "{}, {} held against the manifest, in {}",
        entries(summary.source_entries),
        bytes(summary.source_bytes),
        elapsed(summary.elapsed),
    );
    let found = [
        (tally.changed, "changed"),
        (tally.missing, "missing"),
        (tally.extra, "not in the manifest"),
    ];
    match joined(&found).filter(|_| summary.differs) {
        Some(found) => vec![format!("different: {found}; {held}")],
        None => vec![format!("sound: {held}")],
    }
}

fn row(title: &str, text: &str) -> String {
    format!("{title:<9} {text}")
}

fn sync_rows(view: &View, summary: &Summary, tally: &Tally) -> Vec<String> {
    let title = match view.act {
        Act::DryRun => "would do",
        _ => "changed",
    };
    let mut rows = vec![row(
        "scanned",
        &format!(
            "{} at the source ({}), {} at the destination",
            entries(summary.source_entries),
            bytes(summary.source_bytes),
            count(summary.destination_entries),
        ),
    )];
    rows.push(row(title, &deeds(summary)));
    rows.extend(data_row(view, summary));
    if view.reach == Reach::Far {
        rows.extend(wire_row(summary));
    }
    rows.extend(trouble_rows(summary, tally));
    if summary.extraneous > 0 {
        let left = entries(summary.extraneous);
        let hint = match tally.warned_of("delete") {
            true => "",
            false => " (--delete removes what the source does not have)",
        };
        let text = format!("{left} only at the destination{hint}");
        rows.push(row("left", &text));
    }
    rows.push(row("time", &elapsed(summary.elapsed)));
    rows
}

/// What was done, without what was not.
fn deeds(summary: &Summary) -> String {
    let deeds = [
        (summary.files_sent, "sent"),
        (summary.files_patched, "patched"),
        (summary.created, "created"),
        (summary.moved, "moved"),
        (summary.copied_locally, "copied at the destination"),
        (summary.hard_linked, "hard-linked"),
        (summary.attributes_set, "with new attributes only"),
        (summary.deleted, "deleted"),
    ];
    joined(&deeds).unwrap_or_else(|| "nothing".to_owned())
}

/// The counts that are not zero, each with its word; `None` when all are.
fn joined(counts: &[(u64, &str)]) -> Option<String> {
    let told: Vec<_> = counts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{} {word}", count(*n)))
        .collect();
    (!told.is_empty()).then(|| told.join(", "))
}

fn data_row(view: &View, summary: &Summary) -> Option<String> {
    let (literal, matched) = (summary.literal_bytes, summary.matched_bytes);
    // A file that grew since it was scanned holds more than was known of it.
    let changed = summary.changed_bytes.max(literal.saturating_add(matched));
    let changed = (changed > 0).then(|| format!("{} in changed files", bytes(changed)))?;
    let text = match view.act {
        // How much of it is in old versions is known once it is read.
        Act::DryRun => changed,
        _ => {
            let holes = summary
                .changed_bytes
                .saturating_sub(literal.saturating_add(matched));
            let holes = match holes {
                0 => String::new(),
                _ => format!(", {} in holes", bytes(holes)),
            };
            format!(
                "{changed}: {} copied, {} taken from old versions{holes}",
                bytes(literal),
                bytes(matched),
            )
        }
    };
    Some(row("data", &text))
}

/// Bytes on the wire, to hold against those of data.
fn wire_row(summary: &Summary) -> Option<String> {
    let total = summary.wire_sent_bytes | summary.wire_received_bytes;
    (total > 0).then(|| {
        let text = format!(
            "{} to the destination, {} back",
            bytes(summary.wire_sent_bytes),
            bytes(summary.wire_received_bytes),
        );
        row("wire", &text)
    })
}

fn trouble_rows(summary: &Summary, tally: &Tally) -> Vec<String> {
    let mut rows = Vec::new();
    if summary.problems > 0 {
        let kinds: Vec<_> = tally
            .problem_kinds()
            .into_iter()
            .map(|((side, act), n)| {
                let act = super::printable(act);
                format!("cannot {act} {} at the {}", count(n), side.noun())
            })
            .collect();
        rows.push(row(
            "failed",
            &format!("{}: {}", entries(summary.problems), kinds.join(", ")),
        ));
    }
    if summary.churn > 0 {
        rows.push(row(
            "unsettled",
            &format!(
                "{} changed during the run (run again to catch up)",
                entries(summary.churn)
            ),
        ));
    }
    rows
}

fn how(compare: Compare) -> &'static str {
    match compare {
        Compare::Quick => "by size and time",
        Compare::SizeOnly => "by size",
        Compare::Checksum | Compare::IgnoreTimes => "by content",
    }
}

fn comparison_rows(how: &str, summary: &Summary, tally: &Tally) -> Vec<String> {
    let mut rows = trouble_rows(summary, tally);
    rows.push(verdict(how, summary, tally));
    rows
}

/// The one line that a comparison is for.
fn verdict(how: &str, summary: &Summary, tally: &Tally) -> String {
    let compared = format!(
        "{}, {} compared {how}, in {}",
        entries(summary.source_entries),
        bytes(summary.source_bytes),
        elapsed(summary.elapsed),
    );
    if summary.differs {
        let extra = tally.extra.max(summary.extraneous);
        let found = [
            (tally.changed, "changed"),
            (tally.missing, "missing at the destination"),
            (extra, "only at the destination"),
        ];
        return match joined(&found) {
            Some(found) => format!("different: {found}; {compared}"),
            None => format!("different: {compared}"),
        };
    }
    let open = summary.problems.saturating_add(summary.churn);
    if open > 0 {
        let open = counted(open, "entry was", "entries were");
        return format!("not proven: {open} not compared; the rest is identical: {compared}");
    }
    format!("identical: {compared}")
}
