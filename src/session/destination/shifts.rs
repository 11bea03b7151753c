//! Content that passes from name to name, as a rotated log's does: copies over files that are
//! there, in an order in which none takes away what another still has to read.

use std::collections::{BTreeMap, HashMap};

use crate::manifest::compact::Compact;
use crate::path::RelPath;
use crate::session::destination::plan::{FilePlan, Plan, Relocation};

/// A file whose new content another name of the destination has.
pub(super) struct Shift {
    pub(super) from: RelPath,
    pub(super) file: FilePlan,
}

/// Plans shifts in rounds, each after the one before it. Those that wait for each other in a circle
/// are opened at one file, whose content travels.
pub(super) fn plan_shifts(plan: &mut Plan, shifts: Vec<Shift>) {
    let mut readers = Readers::default();
    let mut rest = BTreeMap::new();
    for shift in shifts {
        readers.add(&shift.from);
        rest.insert(shift.file.path.clone(), shift);
    }
    let mut free: Vec<RelPath> = rest
        .keys()
        .filter(|&to| !readers.has(to))
        .cloned()
        .collect();
    loop {
        let mut round = Compact::default();
        let mut freed = Vec::new();
        for shift in free.iter().filter_map(|to| rest.remove(to)) {
            freed.extend(readers.release(&shift.from));
            round.push(shift.into_relocation());
        }
        if !round.is_empty() {
            plan.shifts.push(round);
        } else if let Some((_, shift)) = rest.pop_first() {
            freed.extend(readers.release(&shift.from));
            plan.files.push(shift.file);
        } else {
            return;
        }
        free = freed;
    }
}

impl Shift {
    fn into_relocation(self) -> Relocation {
        Relocation {
            from: self.from,
            to: self.file.path,
            entry: self.file.entry,
            entries: 1,
            changes: self.file.changes,
        }
    }
}

/// How many shifts still read each file.
#[derive(Default)]
struct Readers(HashMap<RelPath, usize>);

impl Readers {
    fn add(&mut self, from: &RelPath) {
        *self.0.entry(from.clone()).or_default() += 1;
    }

    fn has(&self, path: &RelPath) -> bool {
        self.0.contains_key(path)
    }

    /// Notes that a shift has read its file; returns it where that was the last one.
    fn release(&mut self, from: &RelPath) -> Option<RelPath> {
        let count = self.0.get_mut(from)?;
        *count -= 1;
        match *count {
            0 => self.0.remove_entry(from).map(|(from, _)| from),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{EntryKind, Metadata, Timestamp};
    use crate::events::Changes;
    use crate::manifest::record::Entry;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    /// The rounds of shifts that are written as `from to`, and the files that are left.
    fn planned(shifts: &[(&str, &str)]) -> (Vec<Vec<String>>, Vec<String>) {
        let mut plan = Plan::default();
        let shift = |&(from, to): &(&str, &str)| Shift {
            from: path(from),
            file: FilePlan {
                path: path(to),
                entry: Entry {
                    name: path(to).file_name().unwrap(),
                    meta: Metadata {
                        kind: EntryKind::File,
                        mode: 0o600,
                        uid: 0,
                        gid: 0,
                        mtime: Timestamp::default(),
                        size: 1,
                        rdev: (0, 0),
                    },
                    target: Vec::new(),
                    xattrs: Vec::new(),
                    content: None,
                    link: None,
                },
                basis_len: Some(1),
                changes: Changes::default(),
            },
        };
        plan_shifts(&mut plan, shifts.iter().map(shift).collect());
        let rounds = plan.shifts.iter().map(|round| {
            let mut tos: Vec<_> = round.iter().map(|shift| shift.to.to_string()).collect();
            tos.sort();
            tos
        });
        let rest = plan.files.iter().map(|file| file.path.to_string());
        (rounds.collect(), rest.collect())
    }

    #[test]
    fn a_name_is_written_to_once_nobody_reads_it() {
        let (rounds, rest) = planned(&[("a", "b"), ("b", "c"), ("c", "d"), ("b", "e")]);
        assert_eq!(rounds, [vec!["d", "e"], vec!["c"], vec!["b"]]);
        assert!(rest.is_empty());
    }

    #[test]
    fn a_circle_is_opened_at_one_file() {
        let (rounds, rest) = planned(&[("a", "b"), ("b", "c"), ("c", "a"), ("b", "x")]);
        assert_eq!(rounds, [["x"], ["c"], ["b"]]);
        assert_eq!(rest, ["a"]);
    }
}
