//! The leading thread: compares, plans and has carried out, in this order, and keeps what was
//! learnt for the next run. The writing threads are [`receive`](super::receive)'s.

use std::sync::Arc;

use crate::digest::Digest;
use crate::error::Result;
use crate::events::{Event, Phase, Side, Silent, Summary};
use crate::filter::Rules;
use crate::manifest::links::Links;
use crate::manifest::listing::{Lister, SizeLimits};
use crate::manifest::owners::KeepOwners;
use crate::manifest::scan::{Scan, ScanOptions, root_digest};
use crate::manifest::state::{State, StateUpdate};
use crate::path::RelPath;
use crate::protocol::message::{FromDestination, Scanned};
use crate::session::destination::compare::Comparer;
use crate::session::destination::plan::{Differing, Plan, differences};
use crate::session::destination::tell::Teller;
use crate::session::destination::{Session, abilities, counts};
use crate::session::root::DestinationRoot;
use crate::session::standing::Standing;
use crate::session::{scan_threads, state_notes, write_threads};

impl Session<'_> {
    pub(super) fn run(
        &self,
        root: &DestinationRoot,
        filter: &Rules,
        empty: bool,
        standing: &mut Standing,
    ) -> Result<Summary> {
        let summary = std::thread::scope(|scope| {
            for _ in 0..write_threads() {
                scope.spawn(|| {
                    if let Err(err) = self.write() {
                        self.fail(err);
                    }
                });
            }
            let outcome = self.lead(root, filter, empty, standing);
            if outcome.is_err() {
                self.shared.tasks.abort();
            } else {
                self.shared.tasks.close();
            }
            outcome
        });
        if summary.is_err() {
            self.counts.lanes().iter().for_each(|lane| lane.abandon());
        }
        summary
    }

    /// The leading thread: what is to be done, in its order.
    fn lead(
        &self,
        root: &DestinationRoot,
        filter: &Rules,
        empty: bool,
        standing: &mut Standing,
    ) -> Result<Summary> {
        let links = standing.links();
        let lister = root.dir.as_ref().map(|dir| Lister {
            root: dir,
            rules: self.rules,
            filter,
            sizes: SizeLimits {
                min: self.options().selection.min_size,
                max: self.options().selection.max_size,
            },
            side: Side::Destination,
            owners: &KeepOwners,
            modes: &|_, mode| mode,
            fake_super: self.options().fake_super,
            only: root.single.clone(),
            links: &links,
            lost: None,
            state: self.state,
            rehash: self.options().rehash,
            cancel: self.role.cancel,
        });
        let (scanned, update, ours) = match (&lister, empty) {
            (Some(lister), false) => {
                let (scanned, update, ours) = self.mirror(lister, standing)?;
                (scanned, update, Some(ours))
            }
            _ => (self.receive_all(root)?, Default::default(), None),
        };
        self.finish()?;
        self.flush_credit()?;
        let mut summary = self.summary(&scanned);
        if let (Some(lister), Some(ours)) = (&lister, ours) {
            standing.keep(ours, Arc::clone(&links), self.rules);
            summary.destination_digest = self.look_again(lister, &links, standing)?;
        }
        if let Some(state) = self.state
            && !self.dry_run()
        {
            self.store(root, state, update, &summary);
        }
        self.say(&FromDestination::Done(Box::new(summary.clone())))?;
        // The source's last word: its problems and warnings have all come.
        self.shared.bye.take();
        Ok(Summary {
            destination_digest: summary.destination_digest,
            ..self.summary(&scanned)
        })
    }

    /// Where the session stays, reads again what this round wrote to. Returns what the destination
    /// digests to now.
    fn look_again(
        &self,
        lister: &Lister<'_>,
        links: &Arc<Links>,
        standing: &mut Standing,
    ) -> Result<Option<Digest>> {
        let Some(applier) = self.applier.as_ref().filter(|_| standing.stays()) else {
            return Ok(None);
        };
        standing.stale.dirs = applier.touched();
        let options = ScanOptions {
            threads: scan_threads(),
            one_file_system: false,
            sink: None,
            mark: None,
        };
        let now = standing.scan(lister, options, &Silent)?;
        // What others changed is not in the tree that is kept: nothing is proved by it.
        let digest = standing.unheard.is_empty().then(|| now.digest(&self.rules));
        standing.keep(now, Arc::clone(links), self.rules);
        Ok(digest)
    }

    /// Takes everything: there is nothing to compare with.
    fn receive_all(&self, root: &DestinationRoot) -> Result<Scanned> {
        self.tell(Event::Phase(Phase::Transferring));
        self.pending.wait(self)?;
        let scanned = self.shared.scanned.take().ok_or_else(|| self.broken())?;
        self.counts.source_problems(scanned.problems);
        if let Some(applier) = &self.applier
            && root.single.is_none()
        {
            applier.expect_dir(&RelPath::root(), &scanned.root);
        }
        self.link_followers()?;
        Ok(scanned)
    }

    /// Compares, plans and carries out.
    fn mirror(
        &self,
        lister: &Lister<'_>,
        standing: &mut Standing,
    ) -> Result<(Scanned, StateUpdate, Scan)> {
        self.tell(Event::Phase(Phase::Scanning));
        let options = ScanOptions {
            threads: scan_threads(),
            one_file_system: false,
            sink: None,
            mark: None,
        };
        let mut ours = standing.scan(lister, options, &Teller(self))?;
        for problem in &ours.problems {
            self.counts.problem();
            self.tell(Event::Problem(problem.clone()));
        }
        counts::add(&self.counts.destination_entries, ours.entries);
        // Set once, by the only thread that leads.
        let _ = self.leftovers.set(ours.leftovers.clone());
        let theirs = self.shared.scanned.take().ok_or_else(|| self.broken())?;
        self.counts.source_problems(theirs.problems);
        let update = std::mem::take(&mut ours.update);
        let single = lister.only.is_some();
        let their_digest = root_digest(&theirs.root, theirs.deep, theirs.links, &self.rules);
        if ours.digest(&self.rules) == their_digest {
            self.sweep(&ours);
            return Ok((theirs, update, ours));
        }
        self.tell(Event::Phase(Phase::Comparing));
        let mut plan = Comparer::new(self, lister, &ours).compare()?;
        if !single && !theirs.root.same_record(&ours.root, &self.rules) {
            self.plan_root(&mut plan, &theirs, &ours);
        }
        if self.options().selection.one_file_system {
            plan.spare_mounts();
        }
        self.find_moves(&mut plan, lister, &ours)?;
        self.plan_links(&mut plan, lister, &ours, theirs.links != ours.links)?;
        self.carry_out(plan, lister, &ours, &theirs)?;
        self.sweep(&ours);
        Ok((theirs, update, ours))
    }

    fn plan_root(&self, plan: &mut Plan, theirs: &Scanned, ours: &Scan) {
        let changes = differences(&theirs.root, &ours.root, &self.rules, false);
        plan.dir_attributes.push(Differing {
            path: RelPath::root(),
            new: theirs.root.clone(),
            old: ours.root.clone(),
            changes,
        });
    }

    fn sweep(&self, ours: &Scan) {
        if let Some(applier) = &self.applier {
            applier.sweep(&ours.leftovers);
        }
    }

    fn store(
        &self,
        root: &DestinationRoot,
        state: &State,
        mut update: StateUpdate,
        summary: &Summary,
    ) {
        let Some(dir) = &root.dir else {
            return;
        };
        if !summary.is_complete() {
            // What has landed is known for certain, and added after this.
            update.keep_suspects(state);
        }
        self.facts.store_into(dir, &mut update);
        update.blocks(&self.blocks);
        let mut notes = state_notes(dir);
        notes.extend(abilities::note(dir));
        if let Err(why) = state.store(update, &notes) {
            self.tell(Event::Note(format!("destination state not stored: {why}")));
        }
    }
}
