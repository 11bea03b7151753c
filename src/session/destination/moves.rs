//! Finds what the source moved: directories by their digest, files by size and time, both
//! confirmed by content hashes, so that a rename at the destination stands for sending it again.
//!
//! Names and times alone prove nothing: unpacked archives give different files the same ones.

use std::collections::{HashMap, HashSet};

use crate::digest::Digest;
use crate::entry::{EntryKind, Timestamp};
use crate::error::{Error, Result};
use crate::fs::ListScratch;
use crate::manifest::content::{hash_of, hash_tree};
use crate::manifest::listing::Lister;
use crate::manifest::record::Entry;
use crate::manifest::scan::Scan;
use crate::manifest::tree::NodeId;
use crate::path::RelPath;
use crate::protocol::message::FromDestination;
use crate::session::destination::Session;
use crate::session::destination::compare::Comparer;
use crate::session::destination::plan::{Extraneous, FilePlan, NewTree, Plan, Relocation};

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
        if lister.only.is_some() {
            return Ok(());
        }
        let mut finder = Finder {
            session: self,
            lister,
            ours,
            digests: HashMap::new(),
            taken: Vec::new(),
        };
        finder.match_trees(plan)?;
        if !plan.extraneous.is_empty() && !plan.trees.is_empty() {
            finder.look_inside(plan)?;
        }
        finder.match_files(plan)?;
        finder.drop_moved(plan);
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
    /// What has been moved away, so that it is not moved twice.
    taken: Vec<RelPath>,
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
        let goes = |id: &&NodeId| {
            let path = self.ours.tree.path(**id);
            plan.extraneous
                .iter()
                .any(|extra| path.starts_with(&extra.path))
        };
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
        };
        if self.may_take(plan, &relocation.from) {
            self.taken.push(relocation.from.clone());
            plan.moves.push(relocation);
            return Ok(());
        }
        self.copy_tree(plan, relocation)
    }

    /// Whether an entry of ours is to go and may be renamed away instead.
    fn may_take(&self, plan: &Plan, from: &RelPath) -> bool {
        let overlaps = |taken: &RelPath| taken.starts_with(from) || from.starts_with(taken);
        self.session.options().delete.is_some()
            && plan
                .extraneous
                .iter()
                .any(|extra| from.starts_with(&extra.path))
            && !self.taken.iter().any(overlaps)
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
            for entry in listing.into_entries() {
                let (from, to) = (from.join(&entry.name), to.join(&entry.name));
                match entry.meta.kind {
                    EntryKind::Dir => stack.push((from, to, entry)),
                    EntryKind::File => plan.copies.push(Relocation {
                        from,
                        to,
                        entry,
                        entries: 1,
                    }),
                    _ => plan.specials.push(FilePlan {
                        path: to,
                        entry,
                        basis_len: None,
                        changes: super::plan::all_new(),
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
            plan.dirs.extend(level.dirs);
            plan.files.extend(level.files);
            plan.specials.extend(level.specials);
            plan.linked.extend(level.linked);
            plan.trees = level.trees;
            self.match_trees(plan)?;
            trees = std::mem::take(&mut plan.trees);
        }
        Ok(())
    }

    fn match_files(&mut self, plan: &mut Plan) -> Result<()> {
        let is_candidate = |file: &FilePlan| file.changes.new && file.entry.meta.size > 0;
        if plan.extraneous.is_empty() || !plan.files.iter().any(is_candidate) {
            return Ok(());
        }
        let pool = self.extraneous_files(&plan.extraneous)?;
        let mut pairs = Vec::new();
        let mut rest = Vec::new();
        for file in std::mem::take(&mut plan.files) {
            let found = is_candidate(&file)
                .then(|| pool.get(&self.key(&file.entry)))
                .flatten();
            match found {
                Some(from) => pairs.push((file, from)),
                None => rest.push(file),
            }
        }
        plan.files = rest;
        let wanted: Vec<RelPath> = pairs.iter().map(|(file, _)| file.path.clone()).collect();
        let theirs = self.session.their_hashes(&wanted)?;
        for ((file, candidates), hash) in pairs.into_iter().zip(theirs) {
            self.settle_file(plan, file, candidates, hash);
        }
        Ok(())
    }

    fn settle_file(
        &mut self,
        plan: &mut Plan,
        file: FilePlan,
        candidates: &[RelPath],
        theirs: Option<Digest>,
    ) {
        let same = |path: &&RelPath| theirs.is_some() && hash_of(self.lister, path) == theirs;
        let free = candidates
            .iter()
            .find(|path| self.may_take(plan, path) && same(path));
        let from = match free {
            Some(free) => free.clone(),
            None => match candidates.iter().find(same) {
                Some(copied) => copied.clone(),
                None => return plan.files.push(file),
            },
        };
        let is_move = free.is_some();
        let relocation = Relocation {
            from,
            to: file.path,
            entry: file.entry,
            entries: 1,
        };
        if is_move {
            self.taken.push(relocation.from.clone());
            plan.moves.push(relocation);
        } else {
            plan.copies.push(relocation);
        }
    }

    fn key(&self, entry: &Entry) -> FileKey {
        let mtime = entry.meta.mtime.cut(self.lister.rules.granularity_ns);
        (entry.meta.size, mtime)
    }

    /// All files that only the destination has, also in directories that only it has.
    fn extraneous_files(
        &self,
        extraneous: &[Extraneous],
    ) -> Result<HashMap<FileKey, Vec<RelPath>>> {
        let mut pool: HashMap<FileKey, Vec<RelPath>> = HashMap::new();
        let mut scratch = ListScratch::new();
        let mut stack = Vec::new();
        for extra in extraneous {
            match extra.kind {
                EntryKind::File => {
                    let mtime = extra.mtime.cut(self.lister.rules.granularity_ns);
                    pool.entry((extra.size, mtime))
                        .or_default()
                        .push(extra.path.clone());
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
            for entry in listing.into_entries() {
                let path = dir.join(&entry.name);
                match entry.meta.kind {
                    EntryKind::File => pool.entry(self.key(&entry)).or_default().push(path),
                    EntryKind::Dir => stack.push(path),
                    _ => {}
                }
            }
        }
        Ok(pool)
    }

    /// What was moved is not there any more to be deleted, or to be copied from.
    fn drop_moved(&self, plan: &mut Plan) {
        let mut copies = std::mem::take(&mut plan.copies);
        for copy in &mut copies {
            copy.from = where_now(plan, &copy.from);
        }
        plan.copies = copies;
        let taken: HashSet<&RelPath> = self.taken.iter().collect();
        plan.extraneous.retain(|extra| !taken.contains(&extra.path));
        for extra in &mut plan.extraneous {
            let within = plan
                .moves
                .iter()
                .filter(|moved| moved.from.starts_with(&extra.path));
            extra.entries = extra
                .entries
                .saturating_sub(within.map(|moved| moved.entries).sum());
        }
    }
}

/// Where an entry of ours will be when the moves that are planned so far are done.
pub(super) fn where_now(plan: &Plan, path: &RelPath) -> RelPath {
    let moved = plan
        .moves
        .iter()
        .find(|moved| path.starts_with(&moved.from));
    let Some(moved) = moved else {
        return path.clone();
    };
    let below = &path.as_bytes()[moved.from.as_bytes().len()..];
    // Both halves are paths, so the whole is one.
    RelPath::new(&[moved.to.as_bytes(), below].concat()).unwrap_or_else(|_| path.clone())
}
