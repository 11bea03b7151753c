//! Generations as people and programs read them: the table, what differs, what was brought back.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use crate::protocol::errand::{Comparison, Generation, KeepMeans, Recovered, Shelved};

use super::human::{count, counted, printable};
use super::itemize::{Direction, Extraneous, Itemizer};
use super::json::{event_line, item_json};

/// The widest of [`means_word`].
const MEANS_WIDTH: usize = 9;

/// The last second that is written with four digits for the year.
const LAST_SECOND: u64 = 253_402_300_799;

/// Generations for people.
pub fn generations_table(shelved: &Shelved) -> String {
    let rows = |list: &[Generation]| -> String { list.iter().map(row).collect() };
    let heading = format!(
        "{:<24}  {:<23}  {:<MEANS_WIDTH$}  {:>12}\n",
        "ID", "MADE", "MEANS", "ENTRIES"
    );
    let mut text = match shelved.generations.is_empty() {
        true => "no generations\n".to_string(),
        false => heading.clone() + &rows(&shelved.generations),
    };
    if !shelved.replaced.is_empty() {
        text += "\nWhat was there when one was restored; no rule removes it:\n";
        text += &(heading + &rows(&shelved.replaced));
    }
    text
}

fn row(generation: &Generation) -> String {
    format!(
        "{:<24}  {:<23}  {:<MEANS_WIDTH$}  {:>12}\n",
        printable(&generation.id),
        clock(generation.made_s),
        means_word(generation.means),
        count(generation.entries),
    )
}

/// A time to the second, given in seconds since 1970.
fn clock(at_s: u64) -> String {
    let at = UNIX_EPOCH + Duration::from_secs(at_s.min(LAST_SECOND));
    let text = humantime::format_rfc3339_seconds(at).to_string();
    text.replace('T', " ").replace('Z', " UTC")
}

fn means_word(means: KeepMeans) -> &'static str {
    match means {
        KeepMeans::Auto => "auto",
        KeepMeans::Reflink => "reflink",
        KeepMeans::HardLink => "hard link",
        KeepMeans::Copy => "copy",
    }
}

/// What differs, for people.
pub fn comparison_text(found: &Comparison) -> String {
    let itemizer = Itemizer {
        direction: Direction::Received,
        extraneous: Extraneous::Reported,
    };
    let lines = found.items.iter().map(|item| itemizer.line(item) + "\n");
    let mut text: String = lines.collect();
    let more = found.total().saturating_sub(found.items.len() as u64);
    if more > 0 {
        text += &format!("and {} more\n", count(more));
    }
    text + &match found.total() {
        0 => "no difference\n".to_string(),
        _ => format!(
            "{} added, {} removed, {} changed\n",
            count(found.added),
            count(found.removed),
            count(found.changed)
        ),
    }
}

/// What was brought back to `root`, for people.
pub fn recovered_text(done: &Recovered, root: &str) -> String {
    let entries = counted(done.entries, "entry", "entries");
    let mut text = format!("{entries} restored\n");
    for name in &done.differing {
        text += &format!("not as it was: {}\n", printable(name));
    }
    if !done.differing.is_empty() {
        text += "Something wrote to these files in place since, or set their time; the generation \
                 shares them by hard links.\n";
    }
    if let Some(replaced) = &done.replaced {
        let (replaced, root) = (printable(replaced), printable(root));
        text += &format!(
            "What was there is kept as {replaced}. To bring it back: cutover generations restore \
             {root} {replaced}\nTo let go of it, remove .cutover-kept/{replaced} in the root.\n"
        );
    }
    text
}

#[derive(Serialize)]
struct GenerationLine<'a> {
    id: &'a str,
    made_s: u64,
    means: &'static str,
    entries: u64,
}

#[derive(Serialize)]
struct ComparisonLine {
    added: u64,
    removed: u64,
    changed: u64,
    told: usize,
    exit_code: u8,
}

/// Generations for programs.
pub fn generations_json(shelved: &Shelved) -> String {
    let lines = |event: &str, list: &[Generation]| -> String {
        let bodies = list.iter().map(|generation| GenerationLine {
            id: &generation.id,
            made_s: generation.made_s,
            means: match generation.means {
                KeepMeans::HardLink => "hard_link",
                means => means_word(means),
            },
            entries: generation.entries,
        });
        bodies.map(|body| event_line(event, body)).collect()
    };
    lines("generation", &shelved.generations) + &lines("replaced", &shelved.replaced)
}

/// What differs, for programs.
pub fn comparison_json(found: &Comparison, exit_code: u8) -> String {
    let items = found.items.iter().map(|item| item_json(item) + "\n");
    let last = ComparisonLine {
        added: found.added,
        removed: found.removed,
        changed: found.changed,
        told: found.items.len(),
        exit_code,
    };
    items.collect::<String>() + &event_line("comparison", last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryKind;
    use crate::events::{Action, Changes, Item};
    use crate::path::RelPath;

    fn generation(id: &str) -> Generation {
        Generation {
            id: id.to_string(),
            made_s: 1_795_398_300,
            means: KeepMeans::HardLink,
            entries: 1_234_567,
        }
    }

    #[test]
    fn columns_stand_below_their_headings() {
        let shelved = Shelved {
            generations: vec![generation("gen-20261123-014500")],
            replaced: vec![generation("replaced-20261123-014500")],
        };
        assert_eq!(
            generations_table(&shelved),
            "\
ID                        MADE                     MEANS           ENTRIES
gen-20261123-014500       2026-11-23 01:45:00 UTC  hard link     1,234,567

What was there when one was restored; no rule removes it:
ID                        MADE                     MEANS           ENTRIES
replaced-20261123-014500  2026-11-23 01:45:00 UTC  hard link     1,234,567
"
        );
        assert_eq!(generations_table(&Shelved::default()), "no generations\n");
        let hostile = Generation {
            id: "\x1b[2J".to_string(),
            made_s: u64::MAX,
            ..generation("")
        };
        let table = generations_table(&Shelved {
            generations: vec![hostile],
            replaced: Vec::new(),
        });
        assert!(!table.contains('\x1b'), "{table:?}");
    }

    #[test]
    fn what_is_not_told_is_counted() {
        let found = Comparison {
            items: vec![Item {
                path: RelPath::new(b"a").unwrap(),
                kind: EntryKind::File,
                action: Action::Delete,
                changes: Changes::default(),
            }],
            added: 0,
            removed: 3,
            changed: 0,
        };
        assert_eq!(
            comparison_text(&found),
            "*extra      a\nand 2 more\n0 added, 3 removed, 0 changed\n"
        );
        let last = comparison_json(&found, 1);
        let last: serde_json::Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
        assert_eq!((&last["removed"], &last["told"]), (&3.into(), &1.into()));
    }
}
