//! What each step of a switch does. The steps of a rollback are in `undo`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::conductor::Conductor;
use super::journal::{Journal, now_ms};
use super::step::Step;
use super::stopped::Running;
use super::undo::{means_of, replaced};
use super::watch::{Listener, Told};
use crate::error::{Error, Result};
use crate::events::{Observer, Side, Summary};
use crate::options::{Compare, SyncOptions};
use crate::plan::model::{KeepState, When};
use crate::plan::{self, Resolved, Verb, Verdict};
use crate::protocol::errand::{Command, Database, KeepMeans, Marker, MarkerRole};
use crate::session::Mode;
use crate::units::counted;

/// How often a service that was started is asked whether it runs.
const ASK_AGAIN: Duration = Duration::from_millis(500);

impl Conductor<'_> {
    /// Whether the plan gives a step anything to do.
    pub(super) fn needs(&self, step: Step) -> bool {
        let has = |verb, side| self.resolved.action(verb, side).is_some();
        let hooks = |when| !self.resolved.hooks(when).is_empty();
        match step {
            Step::BeforeStop => hooks(When::BeforeStop),
            Step::AfterStop => hooks(When::AfterStop),
            Step::BeforeStart => hooks(When::BeforeStart),
            Step::AfterSwitch => hooks(When::AfterSwitch),
            Step::AfterRollback => hooks(When::AfterRollback),
            Step::Stop => has(Verb::Stop, Side::Source),
            Step::Doctor => has(Verb::Doctor, Side::Destination),
            Step::Start => has(Verb::Start, Side::Destination),
            Step::Status => has(Verb::Status, Side::Destination),
            Step::StopDestination => has(Verb::Stop, Side::Destination),
            Step::StartSource => has(Verb::Start, Side::Source),
            Step::SourceStatus => has(Verb::Status, Side::Source),
            Step::Checks => !self.resolved.checks().is_empty(),
            _ => true,
        }
    }

    /// Takes one step. What it returns is worth noting.
    pub(super) fn perform(&mut self, step: Step, journal: &Journal) -> Result<Option<String>> {
        match step {
            Step::Preflight => self.preflight(),
            Step::WarmSync => self.warm_sync(),
            Step::Keep => self.keep(journal),
            Step::BeforeStop => self.run_hooks(When::BeforeStop),
            Step::Stop => self.stop(step, Side::Source, journal),
            Step::ProveStopped => self.prove_stopped(Side::Source, journal).map(Some),
            Step::AfterStop => self.run_hooks(When::AfterStop),
            Step::FinalSync => self.final_sync(),
            Step::Verify => self.verify(),
            Step::Databases => self.check_databases(),
            Step::Fence => self.fence_source(journal),
            Step::BeforeStart => self.run_hooks(When::BeforeStart),
            Step::Doctor => self.doctor(),
            Step::Start => self.start(Side::Destination),
            Step::Status => self.confirm_running(Side::Destination),
            Step::Checks => self.try_checks(),
            Step::AfterSwitch => self.run_hooks(When::AfterSwitch),
            Step::StopDestination => self.stop(step, Side::Destination, journal),
            Step::ProveDestinationStopped => {
                self.prove_stopped(Side::Destination, journal).map(Some)
            }
            Step::Restore => self.restore(&journal.heading().id),
            Step::Unfence => self.unfence_source(journal).map(|()| None),
            Step::StartSource => self.start(Side::Source),
            Step::SourceStatus => self.confirm_running(Side::Source),
            Step::AfterRollback => self.run_hooks(When::AfterRollback),
        }
    }

    fn preflight(&mut self) -> Result<Option<String>> {
        let findings = plan::preflight(&self.resolved, self.hosts, self.cancel)?;
        for finding in &findings {
            self.watch.take(Told::Finding(finding.clone()));
        }
        let count = |verdict| findings.iter().filter(|one| one.verdict == verdict).count() as u64;
        let (fails, warnings) = (count(Verdict::Fail), count(Verdict::Warning));
        self.report.findings = findings;
        match fails {
            0 => Ok(Some(counted(warnings, "warning", "warnings"))),
            _ => Err(Error::Refused(format!(
                "the preflight found {} that would make the switch fail; `cutover plan check` \
                 shows what to do",
                counted(fails, "fault", "faults")
            ))),
        }
    }

    /// A standby that a mirror has just left is as warm as it can be.
    fn warm_sync(&mut self) -> Result<Option<String>> {
        if let Some(told) = self.take_over_from_mirror()? {
            return Ok(Some(told));
        }
        let summaries = self.sync_roots(Mode::Sync, &|_| {})?;
        let churn: u64 = summaries.iter().map(|(_, summary)| summary.churn).sum();
        Ok(Some(match churn {
            0 => told_of(&summaries),
            _ => format!(
                "{}; {} changed meanwhile and come with the last sync",
                told_of(&summaries),
                counted(churn, "entry", "entries")
            ),
        }))
    }

    /// Syncs or compares all roots. Entries that failed are an error; churn is the caller's.
    fn sync_roots(
        &mut self,
        mode: Mode,
        tweak: &dyn Fn(&mut SyncOptions),
    ) -> Result<Vec<(usize, Summary)>> {
        let listener = Arc::new(Listener::new(Arc::clone(&self.watch)));
        let observer: Arc<dyn Observer> = Arc::<Listener>::clone(&listener);
        let summaries = plan::run_roots(&self.resolved, mode, tweak, &observer, self.cancel)?;
        let failed: u64 = summaries.iter().map(|(_, summary)| summary.problems).sum();
        if failed > 0 {
            return Err(Error::Failed(format!(
                "{} could not be {}{}",
                counted(failed, "entry", "entries"),
                if mode == Mode::Sync {
                    "synced"
                } else {
                    "compared"
                },
                listener.quoted()
            )));
        }
        let differs = summaries.iter().any(|(_, summary)| summary.differs);
        // What a plan that deletes nothing leaves at the destination is no difference to it.
        let may_have_more = !self.resolved.plan.sync.delete && listener.saw_only_extras();
        if mode == Mode::Verify && differs && !may_have_more {
            return Err(Error::Failed(format!(
                "the two sides differ{}",
                listener.quoted()
            )));
        }
        for (at, summary) in &summaries {
            self.report.root_was(*at, summary, mode);
        }
        Ok(summaries)
    }

    /// Keeps the destination's state, and lets go of what earlier switches of the plan kept: what
    /// came to its end is not gone back to, and disks fill.
    fn keep(&mut self, journal: &Journal) -> Result<Option<String>> {
        let id = &journal.heading().id;
        let means = match self.resolved.plan.switch.keep {
            KeepState::Auto => KeepMeans::Auto,
            KeepState::Reflink => KeepMeans::Reflink,
            KeepState::HardLink => KeepMeans::HardLink,
            KeepState::Copy => KeepMeans::Copy,
        };
        let mut notes = Vec::new();
        let earlier = journal.earlier();
        for root in self.root_paths(Side::Destination) {
            for old in &earlier {
                self.hosts.destination.forget(&root, old)?;
                self.hosts.destination.forget(&root, &replaced(old))?;
            }
            let (means, entries) = self.hosts.destination.keep(&root, id, means)?;
            let how = match means {
                KeepMeans::Reflink => "by reflinks",
                KeepMeans::HardLink => "by hard links",
                KeepMeans::Copy => "as copies",
                KeepMeans::Auto => "",
            };
            notes.push(format!(
                "{root}: {} {how}",
                counted(entries, "entry", "entries")
            ));
        }
        Ok(Some(notes.join("; ")))
    }

    fn run_hooks(&mut self, when: When) -> Result<Option<String>> {
        let hooks = self.resolved.hooks(when);
        let count = hooks.len() as u64;
        for (side, command) in hooks {
            self.run_well(side, "a command of the plan", command)?;
        }
        Ok(Some(counted(count, "command", "commands")))
    }

    /// Stops a service that says that it runs, or that says nothing, or of which something is
    /// left: a start that failed half-way leaves processes of a service that does not run.
    fn stop(&mut self, step: Step, side: Side, journal: &Journal) -> Result<Option<String>> {
        let running = self.asked(side, journal)?;
        let has_stopped = journal.has_ever_ended(step);
        let is_left = running != Running::Yes && self.is_held(side)?;
        match running {
            Running::No if !is_left => return Ok(Some("it was not running".into())),
            Running::Untold if has_stopped && !is_left => {
                return Ok(Some("it had been stopped".into()));
            }
            _ => self.ran_again = has_stopped,
        }
        let Some(command) = self.resolved.action(Verb::Stop, side) else {
            return Ok(None);
        };
        match running {
            // Many a stop command fails where there is nothing to stop. The proof is yet to come.
            Running::No => self.run_anyhow(side, command)?,
            _ => self.run_well(side, "the stop command", command)?,
        }
        Ok(None)
    }

    /// The last sync: whatever changes during it is an error, and so is a database set of which a
    /// part changed.
    fn final_sync(&mut self) -> Result<Option<String>> {
        let before = self.stamps()?;
        let summaries = self.sync_roots(Mode::Sync, &|_| {})?;
        let churn: u64 = summaries.iter().map(|(_, summary)| summary.churn).sum();
        if churn > 0 {
            return Err(Error::Failed(format!(
                "{} changed during the last sync, so something still writes to the source; \
                 find it with `lsof`, stop it, then go on",
                counted(churn, "entry", "entries")
            )));
        }
        let changed: Vec<String> = match self.stamps()? {
            after if after == before => Vec::new(),
            after => before
                .into_iter()
                .filter(|(path, stamp)| after.get(path) != Some(stamp))
                .map(|(path, _)| path)
                .collect(),
        };
        if !changed.is_empty() {
            return Err(Error::Failed(format!(
                "databases were written to during the last sync: {}; stop what writes to them, \
                 then go on",
                changed.join(", ")
            )));
        }
        Ok(Some(told_of(&summaries)))
    }

    /// What the databases of the source look like, so that a change is seen.
    fn stamps(&mut self) -> Result<BTreeMap<String, [u8; 32]>> {
        let mut stamps = BTreeMap::new();
        for root in self.root_paths(Side::Source) {
            for database in self.hosts.source.databases(&root, false)? {
                stamps.insert(format!("{root}/{}", database.path), database.stamp);
            }
        }
        Ok(stamps)
    }

    fn verify(&mut self) -> Result<Option<String>> {
        let by_content = |options: &mut SyncOptions| {
            options.compare = Compare::Checksum;
            // What differs is to be named.
            options.itemize = true;
        };
        let summaries = self.sync_roots(Mode::Verify, &by_content)?;
        let entries: u64 = summaries.iter().map(|(_, one)| one.source_entries).sum();
        let equal = counted(entries, "entry is", "entries are");
        Ok(Some(format!(
            "{equal} equal, by content and in all that is preserved"
        )))
    }

    /// Takes away what would make a database older than it is, and has each checked.
    fn check_databases(&mut self) -> Result<Option<String>> {
        let (mut checked, mut stale) = (0_u64, 0_u64);
        let pairs: Vec<(String, String)> = self
            .root_paths(Side::Source)
            .into_iter()
            .zip(self.root_paths(Side::Destination))
            .collect();
        for (source, destination) in pairs {
            let theirs = self.hosts.source.databases(&source, false)?;
            let ours = self.hosts.destination.databases(&destination, false)?;
            let names = stale_beside(&theirs, &ours);
            if !names.is_empty() {
                stale += names.len() as u64;
                self.hosts.destination.discard(&destination, &names)?;
            }
            let ours = self.hosts.destination.databases(&destination, true)?;
            checked += ours.len() as u64;
            let faults: Vec<String> = ours
                .iter()
                .filter_map(|one| Some(format!("{}: {}", one.path, one.fault.as_ref()?)))
                .collect();
            if !faults.is_empty() {
                return Err(Error::Failed(format!(
                    "the integrity check found faults below {destination}: {}; \
                     check the same databases at the source",
                    faults.join("; ")
                )));
            }
        }
        let sound = match checked {
            0 => "there are none of SQLite".to_owned(),
            _ => format!("{} sound", counted(checked, "database", "databases")),
        };
        Ok(Some(match stale {
            0 => sound,
            _ => format!(
                "{sound}, {} moved to the trash",
                counted(stale, "stale companion", "stale companions")
            ),
        }))
    }

    fn fence_source(&mut self, journal: &Journal) -> Result<Option<String>> {
        let roots = self.held_apart();
        let destination = self.hosts.destination.name().to_string();
        let plan = self.resolved.plan.name.clone();
        let means = means_of(journal.heading().frame.fence);
        for (source, there) in roots {
            let marker = Marker {
                role: MarkerRole::Fenced,
                plan: plan.clone(),
                other: format!("{destination}:{there}"),
                since_s: now_ms() / 1000,
            };
            let earlier = self.hosts.source.read_marker(&source)?;
            if earlier
                .as_ref()
                .is_none_or(|old| old.role != MarkerRole::Fenced)
            {
                self.hosts.source.set_marker(&source, Some(marker))?;
            }
            if let Some(means) = means {
                self.hosts.source.fence(&source, means, true)?;
            }
        }
        Ok(None)
    }

    /// Source and destination of each root that is not within another.
    pub(super) fn held_apart(&self) -> Vec<(String, String)> {
        self.root_paths(Side::Source)
            .into_iter()
            .zip(self.root_paths(Side::Destination))
            .collect()
    }

    fn doctor(&mut self) -> Result<Option<String>> {
        if let Some(command) = self.resolved.action(Verb::Doctor, Side::Destination) {
            self.run_well(Side::Destination, "the doctor command", command)?;
        }
        Ok(None)
    }

    /// Starts a service unless it says that it runs.
    fn start(&mut self, side: Side) -> Result<Option<String>> {
        if self.is_running(side)? == Running::Yes {
            return Ok(Some("it was running".into()));
        }
        if let Some(command) = self.resolved.action(Verb::Start, side) {
            self.run_well(side, "the start command", command)?;
        }
        Ok(None)
    }

    /// Waits until a service says that it runs.
    fn confirm_running(&mut self, side: Side) -> Result<Option<String>> {
        let until = Instant::now() + STARTING;
        while self.is_running(side)? == Running::No {
            if Instant::now() >= until {
                return Err(Error::Failed(format!(
                    "the service does not run on the {} {} s after its start; read its log there",
                    side.noun(),
                    STARTING.as_secs()
                )));
            }
            self.cancel.check()?;
            thread::sleep(ASK_AGAIN);
        }
        Ok(None)
    }
}

/// The commands of the plan that a step runs, for a preview.
pub fn commands_of(step: Step, resolved: &Resolved) -> Vec<(Side, Command)> {
    let one = |verb, side| {
        let command = resolved.action(verb, side);
        command.map(|command| (side, command)).into_iter().collect()
    };
    match step {
        Step::BeforeStop => resolved.hooks(When::BeforeStop),
        Step::AfterStop => resolved.hooks(When::AfterStop),
        Step::BeforeStart => resolved.hooks(When::BeforeStart),
        Step::AfterSwitch => resolved.hooks(When::AfterSwitch),
        Step::AfterRollback => resolved.hooks(When::AfterRollback),
        Step::Stop => one(Verb::Stop, Side::Source),
        Step::ProveStopped => one(Verb::Status, Side::Source),
        Step::Doctor => one(Verb::Doctor, Side::Destination),
        Step::Start => one(Verb::Start, Side::Destination),
        Step::Status => one(Verb::Status, Side::Destination),
        Step::StopDestination => one(Verb::Stop, Side::Destination),
        Step::ProveDestinationStopped => one(Verb::Status, Side::Destination),
        Step::StartSource => one(Verb::Start, Side::Source),
        Step::SourceStatus => one(Verb::Status, Side::Source),
        _ => Vec::new(),
    }
}

/// How long a service may take until it says that it runs.
const STARTING: Duration = Duration::from_secs(60);

/// Companions of databases that the source does not have: written by an earlier life of the copy,
/// and applied to the newer database if they stayed.
fn stale_beside(theirs: &[Database], ours: &[Database]) -> Vec<String> {
    let mut stale = Vec::new();
    for database in ours {
        let Some(theirs) = theirs.iter().find(|one| one.path == database.path) else {
            continue;
        };
        for suffix in &database.beside {
            if !theirs.beside.contains(suffix) {
                stale.push(format!("{}{suffix}", database.path));
            }
        }
    }
    stale
}

fn told_of(summaries: &[(usize, Summary)]) -> String {
    let sum = |of: fn(&Summary) -> u64| summaries.iter().map(|(_, one)| of(one)).sum::<u64>();
    let entries = sum(|one| one.source_entries);
    let sent = sum(|one| one.files_sent) + sum(|one| one.files_patched);
    format!(
        "{}, {} sent",
        counted(entries, "entry", "entries"),
        counted(sent, "file", "files")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(path: &str, beside: &[&str]) -> Database {
        Database {
            path: path.into(),
            stamp: [0; 32],
            beside: beside.iter().map(ToString::to_string).collect(),
            wal_bytes: 0,
            fault: None,
        }
    }

    #[test]
    fn a_companion_that_the_source_lacks_is_stale() {
        let theirs = [database("a.db", &["-wal"]), database("b.db", &[])];
        let ours = [
            database("a.db", &["-wal", "-shm"]),
            database("b.db", &["-wal"]),
            database("own.db", &["-wal"]),
        ];
        assert_eq!(stale_beside(&theirs, &ours), ["a.db-shm", "b.db-wal"]);
    }
}
