//! A status as metrics, in the text format 0.0.4 of Prometheus and by its conventions: base units,
//! `_total` for what only grows.

use std::fmt::Write;
use std::time::SystemTime;

use crate::mirror::status::{RootStatus, State, Status, WatchMeans};

/// The `Content-Type` of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric is to Prometheus.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// A metric that each root has: its name after `cutover_mirror_`, its help, its kind and its value,
/// `None` where there is none yet.
type OfRoot = (
    &'static str,
    &'static str,
    Kind,
    fn(&RootStatus, SystemTime) -> Option<f64>,
);

/// Those with no labels but the mirror's and the root's.
const OF_ROOTS: [OfRoot; 18] = [
    (
        "lag_seconds",
        "Age of the oldest change at the source that the standby lacks; 0 where it lacks none.",
        Kind::Gauge,
        |root, now| root.known_lag(now).map(|lag| lag.as_secs_f64()),
    ),
    (
        "last_agreement_timestamp_seconds",
        "When both sides were last seen to be the same.",
        Kind::Gauge,
        |root, _| Some(number(root.agreed.as_ref()?.at_s)),
    ),
    (
        "agreed_entries",
        "Entries below the root when both sides last were the same.",
        Kind::Gauge,
        |root, _| Some(number(root.agreed.as_ref()?.entries)),
    ),
    (
        "agreed_bytes",
        "Content of all files when both sides last were the same.",
        Kind::Gauge,
        |root, _| Some(number(root.agreed.as_ref()?.bytes)),
    ),
    (
        "state_since_timestamp_seconds",
        "When the present state began.",
        Kind::Gauge,
        |root, _| Some(number(root.since_s)),
    ),
    (
        "rounds_total",
        "Rounds of comparing and sending.",
        Kind::Counter,
        |root, _| Some(number(root.totals.rounds)),
    ),
    (
        "rescans_total",
        "Rounds that read everything again.",
        Kind::Counter,
        |root, _| Some(number(root.totals.rescans)),
    ),
    (
        "missed_directories_total",
        "Directories in which a rescan found what the watch had not told.",
        Kind::Counter,
        |root, _| Some(number(root.totals.missed)),
    ),
    (
        "watch_overflows_total",
        "Times that the kernel had more changes to tell than it keeps.",
        Kind::Counter,
        |root, _| Some(number(root.totals.overflows)),
    ),
    (
        "reconnects_total",
        "Times that the connection was made anew.",
        Kind::Counter,
        |root, _| Some(number(root.totals.reconnects)),
    ),
    (
        "files_total",
        "Files that were sent or patched.",
        Kind::Counter,
        |root, _| Some(number(root.totals.files)),
    ),
    (
        "bytes_total",
        "Content of the files that were sent or patched, however little of it travelled.",
        Kind::Counter,
        |root, _| Some(number(root.totals.bytes)),
    ),
    (
        "wire_bytes_total",
        "Bytes that were put on the wire.",
        Kind::Counter,
        |root, _| Some(number(root.totals.wire_bytes)),
    ),
    (
        "watched_directories",
        "Directories that are watched; 0 where the tree is read from time to time instead.",
        Kind::Gauge,
        |root, _| {
            Some(match root.watch.means {
                WatchMeans::Inotify => number(root.watch.directories),
                WatchMeans::Interval => 0.0,
            })
        },
    ),
    (
        "drift_paths",
        "Paths that were changed at the standby by others, as last found.",
        Kind::Gauge,
        |root, _| Some(number(root.drift_total)),
    ),
    (
        "problems",
        "Entries that could not be copied in the last round that met them.",
        Kind::Gauge,
        |root, _| Some(number(root.problems_total)),
    ),
    (
        "generations",
        "Former states of the standby that are kept.",
        Kind::Gauge,
        |root, _| Some(root.generations.len() as f64),
    ),
    (
        "last_generation_timestamp_seconds",
        "When the newest of them was made.",
        Kind::Gauge,
        |root, _| Some(number(root.generations.first()?.made_s)),
    ),
];

/// All metrics of a mirror.
pub(super) fn text(status: &Status, now: SystemTime) -> String {
    let mut out = String::new();
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    head(
        &mut out,
        "cutover_build_info",
        "The version that runs.",
        Kind::Gauge,
    );
    sample(&mut out, "cutover_build_info", &version, 1.0);
    let started = "cutover_mirror_start_time_seconds";
    head(&mut out, started, "When the mirror began.", Kind::Gauge);
    let of_mirror = [("mirror", status.name.as_str())];
    sample(&mut out, started, &of_mirror, number(status.started_s));
    states(&mut out, status);
    for (end, help, kind, value) in OF_ROOTS {
        let name = format!("cutover_mirror_{end}");
        head(&mut out, &name, help, kind);
        for root in &status.roots {
            if let Some(value) = value(root, now) {
                sample(&mut out, &name, &labels(status, root), value);
            }
        }
    }
    out
}

/// One series for each state, of which one is 1: so that each can be summed and alerted on.
fn states(out: &mut String, status: &Status) {
    let name = "cutover_mirror_state";
    head(
        out,
        name,
        "1 for what is being done with a root, 0 for all else.",
        Kind::Gauge,
    );
    for root in &status.roots {
        for state in State::ALL {
            let [mirror, of] = labels(status, root);
            let labels = [mirror, of, ("state", state.word())];
            sample(out, name, &labels, f64::from(u8::from(state == root.state)));
        }
    }
}

fn labels<'a>(status: &'a Status, root: &'a RootStatus) -> [(&'static str, &'a str); 2] {
    [("mirror", &status.name), ("root", &root.name)]
}

/// Exact up to 2^53, as all numbers of Prometheus are.
fn number(n: u64) -> f64 {
    n as f64
}

// Writing to a string cannot fail.

fn head(out: &mut String, name: &str, help: &str, kind: Kind) {
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
    };
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    let labels: Vec<String> = labels
        .iter()
        .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
        .collect();
    let _ = writeln!(out, "{name}{{{}}} {value}", labels.join(","));
}

/// A label's value may be anything, with these three escaped.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_end_its_line() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }

    #[test]
    fn large_numbers_are_written_in_full() {
        let mut out = String::new();
        sample(&mut out, "x", &[], 1_795_000_000.0);
        sample(&mut out, "x", &[], 0.25);
        assert_eq!(out, "x{} 1795000000\nx{} 0.25\n");
    }
}
