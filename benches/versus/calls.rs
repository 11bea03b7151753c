//! System calls by name, from strace's table.

use std::collections::BTreeMap;
use std::path::Path;

/// How many calls a run made, by name.
pub(crate) type Calls = BTreeMap<String, u64>;

/// Reads the table that `strace -c` writes; empty where there is none.
pub(crate) fn read(path: &Path) -> Calls {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(row).collect()
}

/// `% time, seconds, usecs/call, calls, [errors], name`.
fn row(line: &str) -> Option<(String, u64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let name = *words.last()?;
    let calls = words.get(3)?.parse().ok()?;
    (name != "total").then(|| (name.to_string(), calls))
}

/// The names with the most calls, each with its count for one of `entries`.
pub(crate) fn top(calls: &Calls, entries: u64, count: usize) -> String {
    let mut rows: Vec<_> = calls.iter().collect();
    rows.sort_by_key(|(_, calls)| std::cmp::Reverse(**calls));
    let rows = rows.into_iter().take(count);
    let shown = rows.map(|(name, calls)| format!("{name} {:.2}", *calls as f64 / entries as f64));
    shown.collect::<Vec<_>>().join(", ")
}
