//! Carries a plan out, in the one order that is safe: room first, then directories and moves, then
//! content, then links, then deletions, then what directories are themselves.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use crate::apply::{Failure, Removed};
use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::events::{Action, Changes, Event, Phase, Side, Warning};
use crate::fs::ListScratch;
use crate::manifest::compact::Compact;
use crate::manifest::listing::Lister;
use crate::manifest::record::Entry;
use crate::manifest::scan::Scan;
use crate::options::{Delete, DeltaMode};
use crate::path::RelPath;
use crate::protocol::message::{FromDestination, Mode, Scanned};
use crate::session::destination::counts::add;
use crate::session::destination::plan::{
    Differing, Extraneous, FilePlan, NewTree, Plan, Relocation, all_new,
};
use crate::session::destination::receive::{Backlog, Task};
use crate::session::destination::{ContentInline, Session, chunks};
use crate::session::write_threads;

/// How many directories are asked for in one message.
const STREAMS_AT_ONCE: usize = 1024;

impl Session<'_> {
    /// Does what was planned, or in a dry run says it.
    pub(super) fn carry_out(
        &self,
        mut plan: Plan,
        lister: &Lister<'_>,
        ours: &Scan,
        theirs: &Scanned,
    ) -> Result<()> {
        // A dry run shows what it is that the run would refuse, and then refuses as well.
        let guarded = self.guard(&plan, ours, theirs);
        let refusal = match guarded {
            Err(err) if self.dry_run() => Some(err),
            guarded => guarded.map(|()| None)?,
        };
        let delete = self.may_delete(&plan, theirs);
        self.clear_the_way(&mut plan, delete, lister)?;
        self.tell(Event::Phase(Phase::Transferring));
        self.update_dirs(std::mem::take(&mut plan.dir_attributes))?;
        plan.dirs.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (path, entry) in std::mem::take(&mut plan.dirs) {
            self.make_dir(&path, &entry, all_new())?;
        }
        for relocation in std::mem::take(&mut plan.moves) {
            self.move_own(&relocation)?;
        }
        // What is copied is the old state, so nothing may change it before it is.
        self.start_copies(std::mem::take(&mut plan.copies))?;
        self.pending.wait(self)?;
        for round in std::mem::take(&mut plan.shifts) {
            self.start_copies(round)?;
            self.pending.wait(self)?;
        }
        for special in std::mem::take(&mut plan.specials) {
            self.make_special(&special)?;
        }
        self.start_attributes(std::mem::take(&mut plan.attributes))?;
        self.start_trees(std::mem::take(&mut plan.trees))?;
        self.start_files(std::mem::take(&mut plan.files))?;
        self.pending.wait(self)?;
        self.tell(Event::Phase(Phase::Finishing));
        self.link_followers()?;
        for link in &plan.links {
            self.link_name(&link.path, &link.leader, link.kind)?;
        }
        let delete = self.unless_unread(delete, &plan);
        self.delete(plan.extraneous, delete, lister)?;
        refusal.map_or(Ok(()), Err)
    }

    /// Whether, and how, entries that only the destination has are deleted. Refuses the run where
    /// nobody can have meant it.
    fn may_delete(&self, plan: &Plan, theirs: &Scanned) -> Option<Delete> {
        let delete = self.options().delete?;
        if theirs.problems > 0 && !plan.extraneous.is_empty() {
            self.say_nothing_is_deleted(plan);
            return None;
        }
        Some(delete)
    }

    fn guard(&self, plan: &Plan, ours: &Scan, theirs: &Scanned) -> Result<()> {
        match self.options().delete {
            Some(delete) => plan.guard(delete, theirs, ours.entries),
            None => Ok(()),
        }
    }

    /// Nothing is deleted after a file could not be read: what would go may be its old name.
    fn unless_unread(&self, delete: Option<Delete>, plan: &Plan) -> Option<Delete> {
        let withheld = delete.is_some() && self.counts.has_unread() && !plan.extraneous.is_empty();
        if !withheld {
            return delete;
        }
        self.say_nothing_is_deleted(plan);
        None
    }

    fn say_nothing_is_deleted(&self, plan: &Plan) {
        self.tell(Event::Warning(Warning {
            topic: "delete".to_string(),
            entries: plan.extraneous_entries(),
            message: "nothing is deleted: the source could not be read in full, and what is \
                      missing of it would look deleted"
                .to_string(),
        }));
    }

    /// Removes what stands where something of another kind shall be. Without `--delete` a
    /// directory with something in it stays, and what was to replace it is a problem.
    fn clear_the_way(
        &self,
        plan: &mut Plan,
        delete: Option<Delete>,
        lister: &Lister<'_>,
    ) -> Result<()> {
        let mut blocked = HashSet::new();
        for conflict in std::mem::take(&mut plan.conflicts) {
            let is_full = conflict.kind == EntryKind::Dir
                && (conflict.entries > 1 || !conflict.whole)
                && delete.is_none();
            if is_full {
                self.problem(
                    Side::Destination,
                    "replace",
                    &conflict.path,
                    &std::io::Error::other(
                        "a directory that is not empty stands there; --delete allows removing it",
                    ),
                );
                blocked.insert(conflict.path);
            } else if conflict.kind == EntryKind::Dir {
                self.remove(conflict, lister)?;
            }
        }
        if !blocked.is_empty() {
            plan.files.retain(|file| !blocked.contains(&file.path));
            plan.copies.retain(|copy| !blocked.contains(&copy.to));
            plan.specials.retain(|file| !blocked.contains(&file.path));
            plan.links.retain(|link| !blocked.contains(&link.path));
        }
        Ok(())
    }

    pub(super) fn make_dir(&self, path: &RelPath, entry: &Entry, changes: Changes) -> Result<()> {
        if let Some(applier) = &self.applier
            && let Err(failure) = applier.make_dir(path, entry)
        {
            return self.failed(path, failure);
        }
        add(&self.counts.created, 1);
        self.item(path, EntryKind::Dir, Action::Create, changes);
        Ok(())
    }

    pub(super) fn make_special(&self, plan: &FilePlan) -> Result<()> {
        if let Some(applier) = &self.applier
            && let Err(failure) = applier.make_special(&plan.path, &plan.entry)
        {
            return self.failed(&plan.path, failure);
        }
        add(&self.counts.created, 1);
        self.item(
            &plan.path,
            plan.entry.meta.kind,
            Action::Create,
            plan.changes,
        );
        Ok(())
    }

    /// Renames within the destination; what the records still differ in is set afterwards.
    fn move_own(&self, moved: &Relocation) -> Result<()> {
        if let Some(applier) = &self.applier {
            if let Err(failure) = applier.rename(&moved.from, &moved.to) {
                return self.failed(&moved.to, failure);
            }
            if let Err(failure) = self.redress_moved(moved) {
                return self.failed(&moved.to, failure);
            }
        }
        add(&self.counts.moved, 1);
        let from = moved.from.clone();
        let action = Action::Move { from };
        self.item(&moved.to, moved.entry.meta.kind, action, moved.changes);
        Ok(())
    }

    fn redress_moved(&self, moved: &Relocation) -> std::result::Result<(), Failure> {
        let Some(applier) = &self.applier else {
            return Ok(());
        };
        let have = applier.entry_at(&moved.to, &moved.entry)?;
        applier.set_attributes(&moved.to, &moved.entry, &have)
    }

    fn start_copies(&self, copies: Compact<Relocation>) -> Result<()> {
        for copy in copies {
            if self.dry_run() {
                add(&self.counts.copied_locally, 1);
                let from = copy.from.clone();
                self.item(
                    &copy.to,
                    EntryKind::File,
                    Action::CopyLocal { from },
                    copy.changes,
                );
            } else {
                self.pending.add(1);
                self.shared.tasks.push(Task::CopyOwn(copy));
            }
        }
        Ok(())
    }

    /// Directories come before what is in them: so they are told, and nothing is set before the
    /// end of the run anyway.
    fn update_dirs(&self, mut dirs: Vec<Differing>) -> Result<()> {
        dirs.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        dirs.iter().try_for_each(|dir| self.set_attributes(dir))
    }

    fn start_attributes(&self, items: Compact<Differing>) -> Result<()> {
        if self.dry_run() {
            let mut items = items.into_iter();
            return items.try_for_each(|item| self.set_attributes(&item));
        }
        self.pending.add(items.len());
        self.start(Backlog::Attributes(Mutex::new(items.into_iter())));
        Ok(())
    }

    /// Has all writing threads work on a backlog.
    fn start(&self, backlog: Backlog) {
        let backlog = Arc::new(backlog);
        for _ in 0..write_threads() {
            self.shared.tasks.push(Task::Backlog(Arc::clone(&backlog)));
        }
    }

    /// Asks for whole trees.
    fn start_trees(&self, trees: Vec<NewTree>) -> Result<()> {
        let content = self.content_inline == ContentInline::Yes;
        for part in chunks(trees, STREAMS_AT_ONCE) {
            let mut dirs = Vec::with_capacity(part.len());
            for tree in part {
                self.make_dir(&tree.path, &tree.entry, all_new())?;
                self.pending.expect_stream(tree.path.clone());
                dirs.push(tree.path);
            }
            self.say(&FromDestination::Stream { dirs, content })?;
        }
        Ok(())
    }

    fn start_files(&self, files: Compact<FilePlan>) -> Result<()> {
        if self.dry_run() {
            files.iter().for_each(|file| self.say_would_land(&file));
            return Ok(());
        }
        let bytes = files.iter().map(|file| file.entry.meta.size).sum();
        self.pending.plan_more(files.len(), bytes);
        let delta = self.options().transfer.delta;
        if self.role.local_source.is_some() && delta != DeltaMode::Always {
            self.pending.add(files.len());
            self.start(Backlog::Copies(Mutex::new(files.into_iter())));
        } else {
            self.pending.want(files);
        }
        Ok(())
    }

    pub(super) fn link_name(
        &self,
        path: &RelPath,
        leader: &RelPath,
        kind: EntryKind,
    ) -> Result<()> {
        if let Some(applier) = &self.applier {
            match applier.link(path, leader) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(failure) => return self.failed(path, failure),
            }
        }
        add(&self.counts.hard_linked, 1);
        let to = leader.clone();
        self.item(path, kind, Action::HardLink { to }, all_new());
        Ok(())
    }

    fn delete(
        &self,
        extraneous: Compact<Extraneous>,
        delete: Option<Delete>,
        lister: &Lister<'_>,
    ) -> Result<()> {
        let reports = self.role.mode != Mode::Sync;
        for extra in extraneous {
            self.check()?;
            if delete.is_some() || reports {
                self.remove(extra, lister)?;
            } else {
                add(&self.counts.extraneous, extra.entries);
            }
        }
        Ok(())
    }

    fn remove(&self, extra: Extraneous, lister: &Lister<'_>) -> Result<()> {
        let Some(applier) = &self.applier else {
            let total = match self.role.mode {
                Mode::Sync => &self.counts.deleted,
                Mode::Diff | Mode::Verify => &self.counts.extraneous,
            };
            add(total, extra.entries);
            self.item(&extra.path, extra.kind, Action::Delete, Changes::default());
            return Ok(());
        };
        let mut removed = Removed::default();
        let list = |dir: &RelPath| lister.list_doomed(dir, &mut ListScratch::new());
        let whole = extra.whole.then_some(extra.entries);
        applier.remove(&extra.path, extra.kind, whole, &list, &mut removed);
        add(&self.counts.deleted, removed.entries);
        for kept in &removed.kept {
            self.tell(Event::Note(format!(
                "kept {kept}: it holds entries that do not take part"
            )));
        }
        let is_gone = removed.failed.is_empty() && removed.kept.is_empty();
        for (path, failure) in removed.failed {
            self.failed(&path, failure)?;
        }
        if is_gone {
            self.item(&extra.path, extra.kind, Action::Delete, Changes::default());
        }
        Ok(())
    }

    /// Settles directories and durability, and says what the destination would not hold.
    pub(super) fn finish(&self) -> Result<()> {
        let Some(applier) = &self.applier else {
            return Ok(());
        };
        for (path, failure) in applier.finish_dirs() {
            self.failed(&path, failure)?;
        }
        for warning in applier.refusals().warnings() {
            self.tell(Event::Warning(warning));
        }
        applier
            .sync()
            .map_err(|err| Error::io("make durable", b"the destination", err))
    }
}
