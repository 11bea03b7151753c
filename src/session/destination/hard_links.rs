//! Plans hard links: of each group one name has the content, the others are linked to it. Parts
//! names that share a file here and not at the source.

use std::collections::{HashMap, HashSet};

use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::fs::ListScratch;
use crate::manifest::listing::Lister;
use crate::manifest::record::Entry;
use crate::manifest::scan::Scan;
use crate::path::RelPath;
use crate::protocol::message::{FromDestination, LinkGroup};
use crate::session::destination::Session;
use crate::session::destination::moves::{Moved, is_within};
use crate::session::destination::plan::{Plan, Relocation};

impl Session<'_> {
    /// Plans hard links: of each group one name has the content, the others are linked to it.
    pub(super) fn plan_links(
        &self,
        plan: &mut Plan,
        lister: &Lister<'_>,
        ours: &Scan,
        differ: bool,
    ) -> Result<()> {
        let mut specials = plan.specials.iter();
        let remade = specials.any(|special| special.entry.link.is_some());
        if plan.linked.is_empty() && !remade && !differ {
            return Ok(());
        }
        self.say(&FromDestination::ListLinks)?;
        let mut theirs: HashMap<RelPath, u64> = HashMap::new();
        let mut groups = Vec::new();
        loop {
            let reply = self.shared.links.pop().ok_or_else(|| self.broken())?;
            let (part, last) = reply.message;
            for group in &part {
                let members = group.members.iter();
                theirs.extend(members.map(|member| (member.clone(), group.id)));
            }
            groups.extend(part);
            self.give_credit(reply.cost)?;
            if last {
                break;
            }
        }
        let freed = self.part_names(plan, lister, ours, &theirs)?;
        for group in groups {
            self.plan_group(plan, lister, group, &freed)?;
        }
        // The rest have their other names outside the tree: to us they are plain files.
        let alone = std::mem::take(&mut plan.linked);
        plan.files.extend(alone.into_values());
        Ok(())
    }

    /// Plans new files for names that share one here and not at the source: of each file of ours
    /// one part of its names keeps it, each other part gets a copy. Returns the names that leave
    /// their file.
    fn part_names(
        &self,
        plan: &mut Plan,
        lister: &Lister<'_>,
        ours: &Scan,
        theirs: &HashMap<RelPath, u64>,
    ) -> Result<HashSet<RelPath>> {
        let in_place = self.options().write.inplace;
        let extraneous = plan.extraneous.iter().map(|extra| &extra.path);
        let conflicts = plan.conflicts.iter().map(|conflict| &conflict.path);
        let doomed: HashSet<&RelPath> = extraneous.chain(conflicts).collect();
        let moved = Moved::of(plan);
        // What is replaced by a new file of its own leaves the shared one without a copy.
        let specials = plan.specials.iter().map(|special| &special.path);
        let files = plan.files.iter().map(|file| &file.path);
        let replaced: HashSet<&RelPath> = specials.chain(files.filter(|_| !in_place)).collect();
        let mut freed = HashSet::new();
        let mut copies = Vec::new();
        for names in shared_files(lister, ours) {
            let mut kept = None;
            let mut led = HashSet::new();
            for (path, entry) in names {
                // What was moved has left what goes, even if it comes to stand beneath its name.
                let now = moved.where_now(&path);
                if now == path && is_within(&path, |at| doomed.contains(at)) {
                    continue;
                }
                let path = now;
                if replaced.contains(&path) {
                    freed.insert(path);
                    continue;
                }
                if plan.linked.contains_key(&path) && !in_place {
                    continue;
                }
                let part = theirs.get(&path).copied();
                let first = kept.get_or_insert((part, path.clone()));
                if path == first.1 || (part.is_some() && part == first.0) {
                    continue;
                }
                if part.is_none_or(|part| led.insert(part)) {
                    copies.push(Relocation {
                        from: path.clone(),
                        to: path.clone(),
                        entry,
                        entries: 1,
                    });
                }
                freed.insert(path);
            }
        }
        plan.copies.extend(copies);
        Ok(freed)
    }

    fn plan_group(
        &self,
        plan: &mut Plan,
        lister: &Lister<'_>,
        group: LinkGroup,
        freed: &HashSet<RelPath>,
    ) -> Result<()> {
        if group.members.len() < 2 {
            return Err(Error::protocol("a hard-link group of one"));
        }
        // The moves are planned, not made: what will be at a path is still elsewhere.
        let moved = Moved::back(plan);
        let stat = |path: &RelPath| {
            let path = moved.where_now(path);
            let dir = lister.root.open_dir(&path.parent()?).ok()?;
            dir.stat(&path.file_name()?).ok()
        };
        let is_settled = |path: &&RelPath| !plan.linked.contains_key(*path);
        let settled = group
            .members
            .iter()
            .filter(is_settled)
            .find(|path| stat(path).is_some_and(|stat| stat.meta.kind != EntryKind::Dir));
        let leader = settled.unwrap_or(&group.members[0]).clone();
        let there = stat(&leader);
        if let Some(file) = plan.linked.remove(&leader) {
            plan.files.push(file);
        }
        for member in group.members {
            if member == leader {
                continue;
            }
            let was_planned = plan.linked.remove(&member).is_some();
            let leaves = freed.contains(&member) || freed.contains(&leader);
            let same = !leaves
                && there
                    .as_ref()
                    .zip(stat(&member))
                    .is_some_and(|(a, b)| a.is_same_inode(&b));
            if was_planned || !same {
                plan.links.push((member, leader.clone()));
            }
        }
        Ok(())
    }
}

/// The names of each file of ours that has several.
fn shared_files(
    lister: &Lister<'_>,
    ours: &Scan,
) -> impl Iterator<Item = Vec<(RelPath, Entry)>> + use<> {
    let mut by_inode: HashMap<(u64, u64), Vec<(RelPath, Entry)>> = HashMap::new();
    let marked = ours.tree.ids().filter(|&id| ours.tree.node(id).flags.links);
    for dir in marked.map(|id| ours.tree.path(id)) {
        // What cannot be read was a problem of the scan already.
        let listing = lister
            .list(&dir, &mut ListScratch::new())
            .unwrap_or_default();
        let rows = listing.rows.into_iter();
        for row in rows.filter(|row| row.entry.link.is_some()) {
            let path = dir.join(&row.entry.name);
            let key = (row.stat.dev, row.stat.ino);
            by_inode.entry(key).or_default().push((path, row.entry));
        }
    }
    by_inode.into_values()
}
