//! Plans hard links: of each group one name has the content, the others are linked to it. Parts
//! names that share a file here and not at the source.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::fs::{self, ListScratch, Stat, Target};
use crate::manifest::listing::Lister;
use crate::manifest::record::Entry;
use crate::manifest::scan::Scan;
use crate::path::RelPath;
use crate::protocol::message::{FromDestination, LinkGroup};
use crate::session::destination::Session;
use crate::session::destination::compare::Comparer;
use crate::session::destination::moved::Moved;
use crate::session::destination::plan::{Plan, PlannedLink, Relocation, all_new};

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
        let groups = self.their_groups()?;
        self.open_split_trees(plan, lister, ours, &groups)?;
        let freed = self.part_names(plan, lister, ours, &groups)?;
        let mut linker = Linker::new(plan, lister, &freed);
        for group in &groups {
            linker.plan_group(group);
        }
        linker.finish();
        // The rest have their other names outside the tree: to us they are plain files.
        let alone = std::mem::take(&mut plan.linked);
        plan.files.extend(alone.into_values());
        Ok(())
    }

    /// The source's hard-link groups.
    fn their_groups(&self) -> Result<Vec<LinkGroup>> {
        self.say(&FromDestination::ListLinks)?;
        let mut groups = Vec::new();
        loop {
            let reply = self.shared.links.pop().ok_or_else(|| self.broken())?;
            let (part, last) = reply.message;
            if part.iter().any(|group| group.members.len() < 2) {
                return Err(Error::protocol("a hard-link group of one"));
            }
            groups.extend(part);
            self.give_credit(reply.cost)?;
            if last {
                return Ok(groups);
            }
        }
    }

    /// Lists new directories with names of files that have other names outside of what is new,
    /// instead of having them streamed whole: content that is here already would travel.
    fn open_split_trees(
        &self,
        plan: &mut Plan,
        lister: &Lister<'_>,
        ours: &Scan,
        groups: &[LinkGroup],
    ) -> Result<()> {
        loop {
            let trees = Trees::of(plan);
            let split: HashSet<RelPath> = groups
                .iter()
                .filter(|group| !trees.hold_all(group))
                .flat_map(|group| group.members.iter().filter_map(|path| trees.top_of(path)))
                .collect();
            if split.is_empty() {
                return Ok(());
            }
            let (open, whole) = std::mem::take(&mut plan.trees)
                .into_iter()
                .partition(|tree| split.contains(&tree.path));
            plan.trees = whole;
            let level = Comparer::new(self, lister, ours).expand_new(open)?;
            let beneath = plan.absorb(level);
            plan.trees.extend(beneath);
        }
    }

    /// Plans new files for names that share one here and not at the source: of each file of ours
    /// one part of its names keeps it, each other part gets a copy. Returns the names that leave
    /// their file.
    fn part_names(
        &self,
        plan: &mut Plan,
        lister: &Lister<'_>,
        ours: &Scan,
        groups: &[LinkGroup],
    ) -> Result<HashSet<RelPath>> {
        let in_place = self.options().write.inplace;
        let theirs: HashMap<&RelPath, u64> = groups
            .iter()
            .flat_map(|group| group.members.iter().map(|path| (path, group.id)))
            .collect();
        let moved = Moved::of(plan);
        let shared: Vec<_> = shared_files(lister, ours).collect();
        let names = shared.iter().flatten().map(|(path, _)| path);
        let above: HashSet<RelPath> = names.flat_map(RelPath::ancestors).collect();
        let conflicts = plan.conflicts.iter().map(Cow::Borrowed);
        let doomed: HashSet<RelPath> = plan
            .extraneous
            .iter()
            .chain(conflicts)
            .filter(|gone| above.contains(&gone.path))
            .map(|gone| gone.path.clone())
            .collect();
        let names = shared.iter().flatten();
        let names: HashSet<RelPath> = names.map(|(path, _)| moved.where_now(path)).collect();
        // What is replaced by a new file of its own leaves the shared one without a copy.
        let files = plan.files.iter().filter(|_| !in_place);
        let files = plan.specials.iter().chain(files);
        let shifted = plan.shifts.iter().flatten();
        let replaced: HashSet<RelPath> = files
            .map(|file| file.path.clone())
            .chain(shifted.map(|shift| shift.to.clone()))
            .filter(|path| names.contains(path))
            .collect();
        let mut freed = HashSet::new();
        let mut copies = Vec::new();
        for names in shared {
            let mut kept = None;
            let mut led = HashSet::new();
            for (path, entry) in names {
                // What was moved has left what goes, even if it comes to stand beneath its name.
                let now = moved.where_now(&path);
                if now == path && path.ancestors().any(|at| doomed.contains(&at)) {
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
                        changes: all_new(),
                    });
                }
                freed.insert(path);
            }
        }
        plan.copies.extend(copies);
        Ok(freed)
    }
}

/// Decides which name of a group leads, and which are linked to it.
struct Linker<'a> {
    plan: &'a mut Plan,
    lister: &'a Lister<'a>,
    /// Names that leave the file that they share here.
    freed: &'a HashSet<RelPath>,
    trees: Trees,
    /// The moves are planned, not made: what will be at a path is still elsewhere.
    moved: Moved,
    /// What is to be made of those that are no files and have several names.
    specials: HashMap<RelPath, EntryKind>,
}

impl<'a> Linker<'a> {
    fn new(plan: &'a mut Plan, lister: &'a Lister<'a>, freed: &'a HashSet<RelPath>) -> Linker<'a> {
        let specials = plan.specials.iter();
        let linked = specials.filter(|special| special.entry.link.is_some());
        Linker {
            lister,
            freed,
            trees: Trees::of(plan),
            moved: Moved::back(plan),
            specials: linked
                .map(|special| (special.path.clone(), special.entry.meta.kind))
                .collect(),
            plan,
        }
    }

    fn plan_group(&mut self, group: &LinkGroup) {
        // A stream tells which of its names has the content, and links the others to it.
        if self.trees.hold_all(group) {
            return;
        }
        let members = &group.members;
        let settled = members
            .iter()
            .filter(|path| !self.plan.linked.contains_key(*path))
            .find(|path| {
                self.stat(path)
                    .is_some_and(|stat| stat.meta.kind != EntryKind::Dir)
            });
        let leader = settled.unwrap_or(&members[0]);
        let there = self.stat(leader);
        let special = members.iter().find_map(|path| self.specials.get(path));
        let is_file = members
            .iter()
            .any(|path| self.plan.linked.contains_key(path));
        let kind = match (special, &there) {
            (Some(kind), _) => *kind,
            (None, Some(stat)) if !is_file => stat.meta.kind,
            (None, _) => EntryKind::File,
        };
        if let Some(file) = self.plan.linked.remove(leader) {
            self.plan.files.push(file);
        }
        self.specials.remove(leader);
        for path in members.iter().filter(|path| *path != leader) {
            let was_planned =
                self.plan.linked.remove(path).is_some() || self.specials.contains_key(path);
            let leaves = self.freed.contains(path) || self.freed.contains(leader);
            let same = !leaves
                && there
                    .as_ref()
                    .zip(self.stat(path))
                    .is_some_and(|(a, b)| a.is_same_inode(&b));
            if was_planned || !same {
                self.plan.links.push(PlannedLink {
                    path: path.clone(),
                    leader: leader.clone(),
                    kind,
                });
            }
        }
    }

    /// What is at a path now, or will be when the moves are made.
    fn stat(&self, path: &RelPath) -> Option<Stat> {
        let path = self.moved.where_now(path);
        let dir = self.lister.root.open_dir(&path.parent()?).ok()?;
        let name = path.file_name()?;
        let mut stat = dir.stat(&name).ok()?;
        if self.lister.fake_super && stat.meta.kind == EntryKind::File {
            fs::overlay_fake_stat(&Target::Entry(&dir, &name), &mut stat).ok()?;
        }
        Some(stat)
    }

    /// What is linked need not be made.
    fn finish(self) {
        let linked: HashSet<&RelPath> = self.plan.links.iter().map(|link| &link.path).collect();
        self.plan
            .specials
            .retain(|special| !linked.contains(&special.path));
    }
}

/// The directories that come whole.
struct Trees(HashSet<RelPath>);

impl Trees {
    fn of(plan: &Plan) -> Trees {
        Trees(plan.trees.iter().map(|tree| tree.path.clone()).collect())
    }

    /// The one that a path lies in.
    fn top_of(&self, path: &RelPath) -> Option<RelPath> {
        match self.0.is_empty() {
            true => None,
            false => path.ancestors().find(|at| self.0.contains(at)),
        }
    }

    fn hold_all(&self, group: &LinkGroup) -> bool {
        let mut members = group.members.iter();
        members.all(|path| self.top_of(path).is_some())
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
