//! Finds what the source moved: directories by their digest, files by size and time, both
//! confirmed by content hashes, so that a rename at the destination stands for sending it again.
//! Of what is about to be replaced the old content is copied first, as that of a rotated log is.
//!
//! Names and times alone prove nothing: unpacked archives give different files the same ones.

use std::collections::{HashMap, HashSet};

use crate::digest::Digest;
use crate::entry::{EntryKind, Timestamp};
use crate::error::{Error, Result};
use crate::fs::{Dir, ListScratch};
use crate::manifest::compact::Compact;
use crate::manifest::content::{hash_of, hash_tree};
use crate::manifest::listing::Lister;
use crate::manifest::record::Entry;
use crate::manifest::scan::Scan;
use crate::manifest::tree::NodeId;
use crate::path::RelPath;
use crate::protocol::message::FromDestination;
use crate::session::destination::Session;
use crate::session::destination::compare::Comparer;
use crate::session::destination::moved::Moved;
use crate::session::destination::plan::{Extraneous, FilePlan, NewTree, Plan, Relocation, all_new};
use crate::session::destination::shifts::{Shift, plan_shifts};

/// How many hashes are asked for in one message.
const HASHES_AT_ONCE: usize = 1024;

/// A file's or directory's identity as far as its record tells.
type FileKey = (u64, Timestamp);

impl Session<'_> {
    /// Turns new entries of the plan into moves and local copies where the destination has them
    /// under other names.
    pub(super) fn find_moves(
        &self,
        plan: &mut Plan,
        lister: &Lister<'_>,
        ours: &Scan,
    ) -> Result<()> {
        if lister.only.is_some() || (plan.trees.is_empty() && plan.files.is_empty()) {
            return Ok(());
        }
        let mut finder = Finder {
            session: self,
            lister,
            ours,
            digests: HashMap::new(),
            going: plan.extraneous.iter().map(|x| x.path.clone()).collect(),
            taken: HashSet::new(),
            shifts: Vec::new(),
        };
        finder.match_trees(plan)?;
        if !plan.extraneous.is_empty() && !plan.trees.is_empty() {
            finder.look_inside(plan)?;
        }
        finder.match_files(plan)?;
        finder.drop_moved(plan);
        plan_shifts(plan, finder.shifts);
        Ok(())
    }

    /// The source's hashes of files or whole directories, in the order asked for.
    pub(super) fn their_hashes(&self, paths: &[RelPath]) -> Result<Vec<Option<Digest>>> {
        let mut known = HashMap::new();
        for part in paths.chunks(HASHES_AT_ONCE) {
            self.say(&FromDestination::Hash(part.to_vec()))?;
            for _ in part {
                let (path, hash) = self.shared.hashes.pop().ok_or_else(|| self.broken())?;
                known.insert(path, hash);
            }
        }
        Ok(paths
            .iter()
            .map(|path| known.get(path).copied().flatten())
            .collect())
    }
}

struct Finder<'a> {
    session: &'a Session<'a>,
    lister: &'a Lister<'a>,
    ours: &'a Scan,
    /// Our directories by deep digest.
    digests: HashMap<Digest, Vec<NodeId>>,
    /// What only the destination has.
    going: HashSet<RelPath>,
    /// What has been moved away, so that it is not moved twice.
    taken: HashSet<RelPath>,
    /// Files that stay where they are and get their content from another name.
    shifts: Vec<Shift>,
}

/// Files of ours with the same size and time.
#[derive(Default)]
struct Candidates {
    unread: Vec<RelPath>,
    /// Sorted by hash.
    read: Vec<Twins>,
}

impl Candidates {
    fn with_content(&mut self, hash: Digest) -> Option<&mut Twins> {
        let place = self.read.binary_search_by_key(&hash, |twins| twins.hash);
        self.read.get_mut(place.ok()?)
    }
}

/// Files of ours with the same content, at least one.
struct Twins {
    hash: Digest,
    paths: Vec<RelPath>,
    /// So many of them were moved away, or cannot be.
    tried: usize,
}

impl Twins {
    /// The next one that may be moved away.
    fn next(&mut self, may_take: impl Fn(&RelPath) -> bool) -> Option<&RelPath> {
        let rest = &self.paths[self.tried..];
        let found = rest.iter().position(may_take);
        self.tried += found.map_or(rest.len(), |place| place + 1);
        found.map(|_| &self.paths[self.tried - 1])
    }
}

impl Finder<'_> {
    fn match_trees(&mut self, plan: &mut Plan) -> Result<()> {
        if plan.trees.is_empty() {
            return Ok(());
        }
        if self.digests.is_empty() {
            self.index_trees();
        }
        let mut pairs = Vec::new();
        let mut rest = Vec::new();
        for tree in std::mem::take(&mut plan.trees) {
            match self.candidate(plan, &tree) {
                Some(node) => pairs.push((tree, node)),
                None => rest.push(tree),
            }
        }
        plan.trees = rest;
        let wanted: Vec<RelPath> = pairs.iter().map(|(tree, _)| tree.path.clone()).collect();
        let theirs = self.session.their_hashes(&wanted)?;
        for ((tree, node), hash) in pairs.into_iter().zip(theirs) {
            self.settle_tree(plan, tree, node, hash)?;
        }
        Ok(())
    }

    fn index_trees(&mut self) {
        for id in self.ours.tree.ids().skip(1) {
            let node = self.ours.tree.node(id);
            if node.total_entries > 0 && !node.flags.hides && !node.flags.unreadable {
                self.digests.entry(node.deep).or_default().push(id);
            }
        }
    }

    /// A directory of ours with this digest: rather one that is to go than one that stays.
    fn candidate(&self, plan: &Plan, tree: &NewTree) -> Option<NodeId> {
        let nodes = self.digests.get(&tree.deep)?;
        let goes = |id: &&NodeId| self.is_going(&self.ours.tree.path(**id));
        // What makes way for another kind is gone before anything could be copied from it.
        let is_whole = |id: &&NodeId| {
            let path = self.ours.tree.path(**id);
            !plan.conflicts.iter().any(|conflict| {
                path.starts_with(&conflict.path) || conflict.path.starts_with(&path)
            })
        };
        let mut whole = nodes.iter().filter(is_whole);
        whole.clone().find(goes).or_else(|| whole.next()).copied()
    }

    fn settle_tree(
        &mut self,
        plan: &mut Plan,
        tree: NewTree,
        node: NodeId,
        theirs: Option<Digest>,
    ) -> Result<()> {
        let from = self.ours.tree.path(node);
        let ours = hash_tree(self.lister, &from)?;
        if theirs.is_none() || theirs != ours {
            plan.trees.push(tree);
            return Ok(());
        }
        let relocation = Relocation {
            entries: 1 + self.ours.tree.node(node).total_entries,
            to: tree.path,
            entry: tree.entry,
            from,
            changes: all_new(),
        };
        let is_broken = |taken: &RelPath| taken.starts_with(&relocation.from);
        if self.may_take(&relocation.from) && !self.taken.iter().any(is_broken) {
            self.taken.insert(relocation.from.clone());
            plan.moves.push(relocation);
            return Ok(());
        }
        self.copy_tree(plan, relocation)
    }

    /// Whether an entry of ours is to go, by itself or with a directory that it lies in.
    fn is_going(&self, path: &RelPath) -> bool {
        path.ancestors().any(|at| self.going.contains(&at))
    }

    /// Whether an entry of ours is to go and may be renamed away instead.
    fn may_take(&self, from: &RelPath) -> bool {
        self.session.options().delete.is_some()
            && self.is_going(from)
            && !from.ancestors().any(|at| self.taken.contains(&at))
    }

    /// Plans the copy of a directory of ours, entry by entry.
    fn copy_tree(&self, plan: &mut Plan, relocation: Relocation) -> Result<()> {
        let Relocation {
            from, to, entry, ..
        } = relocation;
        let mut scratch = ListScratch::new();
        let mut stack = vec![(from, to, entry)];
        while let Some((from, to, entry)) = stack.pop() {
            plan.dirs.push((to.clone(), entry));
            let listing = self
                .lister
                .list(&from, &mut scratch)
                .map_err(|err| Error::io("read directory", from.as_bytes(), err))?;
            for entry in listing.rows.into_iter().map(|row| row.entry) {
                let (from, to) = (from.join(&entry.name), to.join(&entry.name));
                match entry.meta.kind {
                    EntryKind::Dir => stack.push((from, to, entry)),
                    EntryKind::File => plan.copies.push(Relocation {
                        from,
                        to,
                        entry,
                        entries: 1,
                        changes: all_new(),
                    }),
                    _ => plan.specials.push(FilePlan {
                        path: to,
                        entry,
                        basis_len: None,
                        changes: all_new(),
                    }),
                }
            }
        }
        Ok(())
    }

    /// New directories that are nowhere as a whole are listed where some of what is in them may
    /// be: when something is to go.
    fn look_inside(&mut self, plan: &mut Plan) -> Result<()> {
        let mut trees = std::mem::take(&mut plan.trees);
        while !trees.is_empty() {
            let comparer = Comparer::new(self.session, self.lister, self.ours);
            let level = comparer.expand_new(std::mem::take(&mut trees))?;
            plan.trees = plan.absorb(level);
            self.match_trees(plan)?;
            trees = std::mem::take(&mut plan.trees);
        }
        Ok(())
    }

    fn match_files(&mut self, plan: &mut Plan) -> Result<()> {
        // A file that is changed in place keeps its inode, wherever its content is.
        let in_place = self.session.options().write.inplace;
        let is_candidate =
            |file: &FilePlan| (file.changes.new || !in_place) && file.entry.meta.size > 0;
        let candidates = plan.files.iter().filter(|file| is_candidate(file));
        let mut keys: Vec<FileKey> = candidates.map(|file| self.key(&file.entry)).collect();
        keys.sort_unstable();
        if keys.is_empty() {
            return Ok(());
        }
        let mut pool: HashMap<FileKey, Candidates> = keys
            .iter()
            .map(|&key| (key, Candidates::default()))
            .collect();
        self.fill(&mut pool, &plan.extraneous)?;
        self.add_replaced(&mut pool, plan, &keys);
        let mut wanted = Compact::default();
        let mut rest = Compact::default();
        for file in std::mem::take(&mut plan.files) {
            let candidates = pool.get(&self.key(&file.entry));
            match is_candidate(&file) && candidates.is_some_and(|found| !found.unread.is_empty()) {
                true => wanted.push(file),
                false => rest.push(file),
            }
        }
        plan.files = rest;
        let mut wanted = wanted.into_iter();
        loop {
            let part: Vec<FilePlan> = wanted.by_ref().take(HASHES_AT_ONCE).collect();
            if part.is_empty() {
                return Ok(());
            }
            let paths: Vec<RelPath> = part.iter().map(|file| file.path.clone()).collect();
            let theirs = self.session.their_hashes(&paths)?;
            for (file, hash) in part.into_iter().zip(theirs) {
                let candidates = pool.entry(self.key(&file.entry)).or_default();
                self.read_candidates(candidates)?;
                match hash.and_then(|hash| candidates.with_content(hash)) {
                    Some(twins) => self.settle_file(plan, file, twins),
                    None => plan.files.push(file),
                }
            }
        }
    }

    /// Many files can share a size and a time: each of ours is read once all the same.
    fn read_candidates(&self, candidates: &mut Candidates) -> Result<()> {
        let unread = std::mem::take(&mut candidates.unread);
        if unread.is_empty() {
            return Ok(());
        }
        let mut by_content: HashMap<Digest, Vec<RelPath>> = HashMap::new();
        for path in unread {
            self.session.check()?;
            if let Some(hash) = hash_of(self.lister, &path) {
                by_content.entry(hash).or_default().push(path);
            }
        }
        candidates.read = by_content
            .into_iter()
            .map(|(hash, paths)| Twins {
                hash,
                tried: 0,
                paths,
            })
            .collect();
        candidates.read.sort_unstable_by_key(|twins| twins.hash);
        Ok(())
    }

    fn settle_file(&mut self, plan: &mut Plan, file: FilePlan, twins: &mut Twins) {
        if !file.changes.new {
            // Its own old version is no other name.
            let other = twins.paths.iter().find(|path| **path != file.path);
            match other.cloned() {
                Some(from) => self.shifts.push(Shift { from, file }),
                None => plan.files.push(file),
            }
            return;
        }
        let free = twins.next(|path| self.may_take(path)).cloned();
        let relocation = |from| Relocation {
            from,
            to: file.path,
            entry: file.entry,
            entries: 1,
            changes: file.changes,
        };
        match free {
            Some(free) => {
                self.taken.insert(free.clone());
                plan.moves.push(relocation(free));
            }
            None => plan.copies.push(relocation(twins.paths[0].clone())),
        }
    }

    fn key(&self, entry: &Entry) -> FileKey {
        let mtime = entry.meta.mtime.cut(self.lister.rules.granularity_ns);
        (entry.meta.size, mtime)
    }

    /// Adds all files that only the destination has, also in directories that only it has, to those
    /// of their size and time, where such are looked for.
    fn fill(
        &self,
        pool: &mut HashMap<FileKey, Candidates>,
        extraneous: &Compact<Extraneous>,
    ) -> Result<()> {
        let mut scratch = ListScratch::new();
        let mut stack = Vec::new();
        for extra in extraneous {
            match extra.kind {
                EntryKind::File => {
                    let mtime = extra.mtime.cut(self.lister.rules.granularity_ns);
                    if let Some(candidates) = pool.get_mut(&(extra.size, mtime)) {
                        candidates.unread.push(extra.path.clone());
                    }
                }
                EntryKind::Dir => stack.push(extra.path.clone()),
                _ => {}
            }
        }
        while let Some(dir) = stack.pop() {
            self.session.check()?;
            // What cannot be listed cannot be moved; its deletion will tell.
            let Ok(listing) = self.lister.list(&dir, &mut scratch) else {
                continue;
            };
            for row in &listing.rows {
                let entry = &row.entry;
                match entry.meta.kind {
                    EntryKind::File => {
                        if let Some(candidates) = pool.get_mut(&self.key(entry)) {
                            candidates.unread.push(dir.join(&entry.name));
                        }
                    }
                    EntryKind::Dir => stack.push(dir.join(&entry.name)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Adds files that are about to be replaced, where they have one of the sorted keys.
    fn add_replaced(&self, pool: &mut HashMap<FileKey, Candidates>, plan: &Plan, keys: &[FileKey]) {
        let mut open: Option<(RelPath, Dir)> = None;
        for file in &plan.files {
            let Some(len) = file.basis_len else {
                continue;
            };
            // The plan holds no old times: only where the size is right is the file looked at.
            let place = keys.partition_point(|(size, _)| *size < len);
            if keys.get(place).is_none_or(|(size, _)| *size != len) {
                continue;
            }
            let (Some(parent), Some(name)) = (file.path.parent(), file.path.file_name()) else {
                continue;
            };
            if open.as_ref().is_none_or(|(path, _)| *path != parent) {
                let dir = self.lister.root.open_dir(&parent).ok();
                open = dir.map(|dir| (parent, dir));
            }
            // What cannot be looked at cannot be copied either.
            let stat = open.as_ref().and_then(|(_, dir)| dir.stat(&name).ok());
            let Some(meta) = stat.map(|stat| stat.meta) else {
                continue;
            };
            let key = (meta.size, meta.mtime.cut(self.lister.rules.granularity_ns));
            if meta.kind == EntryKind::File && keys.binary_search(&key).is_ok() {
                let candidates = pool.entry(key).or_default();
                candidates.unread.push(file.path.clone());
            }
        }
    }

    /// What was moved is not there any more to be deleted, or to be copied from.
    fn drop_moved(&mut self, plan: &mut Plan) {
        let moved = Moved::of(plan);
        let copies = std::mem::take(&mut plan.copies).into_iter();
        plan.copies = copies
            .map(|copy| Relocation {
                from: moved.where_now(&copy.from),
                ..copy
            })
            .collect();
        for shift in &mut self.shifts {
            shift.from = moved.where_now(&shift.from);
        }
        let mut within: HashMap<RelPath, u64> = HashMap::new();
        for moved in &plan.moves {
            let top = moved.from.ancestors().find(|at| self.going.contains(at));
            *within.entry(top.unwrap_or_default()).or_default() += moved.entries;
        }
        let left = std::mem::take(&mut plan.extraneous).into_iter();
        plan.extraneous = left
            .filter(|extra| !self.taken.contains(&extra.path))
            .map(|extra| {
                let gone = within.get(&extra.path).copied().unwrap_or_default();
                let entries = extra.entries.saturating_sub(gone);
                Extraneous { entries, ..extra }
            })
            .collect();
    }
}
