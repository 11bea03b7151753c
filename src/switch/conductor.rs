//! Takes the steps of a switch or a rollback in order, each written down before and after.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::journal::{Journal, What, clock};
use super::report::Report;
use super::step::{Again, ROLLBACK, SWITCH, Step};
use super::watch::{Told, Watch};
use crate::error::{Error, ErrorClass, Result};
use crate::events::{Cancel, Side};
use crate::plan::model::OnFailure;
use crate::plan::{Hosts, Loaded, Resolved};
use crate::protocol::errand::{Command, Exit};

/// What a switch is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Go on with one that began earlier.
    pub resume: bool,
    /// Stop after this step: a rehearsal.
    pub until: Option<Step>,
    /// What a person says of steps whose end is not known.
    pub settled: Vec<(Step, Settled)>,
}

/// What a person says of a step whose end is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It did its work.
    Done,
    /// It is to be done again.
    Redo,
}

/// A plan, its hosts and its journal, and who is told.
pub struct Conductor<'a> {
    /// What the plan means; of a switch that goes on, with its roots as they were found then.
    pub(super) resolved: Resolved,
    pub(super) hosts: &'a mut Hosts,
    pub(super) watch: Arc<dyn Watch>,
    pub(super) cancel: &'a Cancel,
    pub(super) report: Report,
    /// Whether a service that had been stopped was found running, or something of it was.
    pub(super) ran_again: bool,
    /// Whether a step, or the proof that it needs, failed here and not in a process before this
    /// one.
    has_failed: bool,
    /// Steps that are taken although they had ended.
    retaken: &'static [Step],
    loaded: &'a Loaded,
}

/// What is done again when a switch goes on: while nobody watched, the source may have been
/// started, and what it wrote then would be lost.
const PROVED_ANEW: [Step; 6] = [
    Step::Stop,
    Step::ProveStopped,
    Step::FinalSync,
    Step::Verify,
    Step::Databases,
    Step::Fence,
];

/// The same when a rollback goes on: two must not run.
const STOPPED_ANEW: [Step; 2] = [Step::StopDestination, Step::ProveDestinationStopped];

/// From here on a switch has made something of the copy that another sync would undo.
const USES_COPY: [Step; 6] = [
    Step::BeforeStart,
    Step::Doctor,
    Step::Start,
    Step::Status,
    Step::Checks,
    Step::AfterSwitch,
];

/// Steps of which a person may say that they are done although they are not.
const SETTLED_BY_HAND: [Step; 2] = [Step::Restore, Step::Unfence];

impl<'a> Conductor<'a> {
    /// Stands ready. Nothing is begun.
    pub fn new(
        loaded: &'a Loaded,
        resolved: &Resolved,
        hosts: &'a mut Hosts,
        watch: Arc<dyn Watch>,
        cancel: &'a Cancel,
    ) -> Conductor<'a> {
        let report = Report::of(resolved, hosts.source.name(), hosts.destination.name());
        Conductor {
            resolved: resolved.clone(),
            hosts,
            watch,
            cancel,
            report,
            ran_again: false,
            has_failed: false,
            retaken: &[],
            loaded,
        }
    }

    /// The plan's file.
    pub(super) fn plan_file(&self) -> &Path {
        &self.loaded.path
    }

    /// The steps that a switch of this plan has, or with `rollback` the way back from all of it.
    pub fn steps(&self, rollback: bool) -> Vec<Step> {
        let all: &[Step] = if rollback { &ROLLBACK } else { &SWITCH };
        let needed = |step: &&Step| self.needs(**step);
        all.iter().filter(needed).copied().collect()
    }

    /// Switches. The report tells how far it came, whether it succeeded or not.
    ///
    /// # Errors
    ///
    /// What the step said that failed, with which side is live and what can be done. Where the
    /// plan says so, the way back has been gone by then.
    pub fn switch(&mut self, order: &Order) -> Result<()> {
        if let (Some((step, _)), false) = (order.settled.first(), order.resume) {
            return Err(Error::Usage(format!(
                "nothing is said of `{}` where a switch begins: it goes with --resume",
                step.name()
            )));
        }
        let mut journal = match order.resume {
            true => Journal::open(self.loaded, &self.resolved)?,
            false => Journal::create(self.loaded, &self.resolved)?,
        };
        if let Some(end) = journal.end() {
            return Err(Error::Usage(match end {
                What::Switched => format!("this switch is through: {}", journal.live()),
                _ => "this switch was rolled back: start a new one without --resume".to_string(),
            }));
        }
        if ROLLBACK.iter().any(|step| journal.has_begun(*step)) {
            return Err(Error::Refused(format!(
                "this switch is being rolled back, and {}; go on with `cutover rollback {}`",
                journal.live(),
                self.loaded.path.display()
            )));
        }
        refuse_idle_words(order, &journal)?;
        journal.heading().frame.hold(&mut self.resolved);
        let outcome = self.go_through(order, &mut journal);
        self.report.read(&journal);
        match outcome {
            Err(err) if self.goes_back(&journal, &err) => self.go_back(journal, err),
            Err(err) => Err(self.with_way_out(&journal, err)),
            Ok(()) => Ok(()),
        }
    }

    fn go_through(&mut self, order: &Order, journal: &mut Journal) -> Result<()> {
        if order.resume && !uses_copy(journal) {
            self.retaken = &PROVED_ANEW;
            if journal.has_begun(Step::Fence) {
                // Nothing can be synced from behind it. It is put up again.
                self.unfence_source(journal)?;
            }
        }
        let steps = self.steps(false);
        self.go(&steps, order, journal)?;
        if is_rehearsal(order, &steps) {
            return Ok(());
        }
        self.refuse_two(journal)?;
        journal.note(None, What::Switched, None)
    }

    /// Goes back: the destination as it was, the source live.
    ///
    /// # Errors
    ///
    /// As with [`Conductor::switch`].
    pub fn rollback(&mut self, order: &Order) -> Result<()> {
        let mut journal = Journal::open(self.loaded, &self.resolved)?;
        if journal.end() == Some(What::RolledBack) {
            return Err(Error::Usage(
                "this switch was rolled back already: the source is the live side".into(),
            ));
        }
        refuse_idle_words(order, &journal)?;
        journal.heading().frame.hold(&mut self.resolved);
        self.undo(order, &mut journal)
            .map_err(|err| self.with_way_out(&journal, err))
    }

    fn undo(&mut self, order: &Order, journal: &mut Journal) -> Result<()> {
        self.retaken = match journal.has_ended(Step::StartSource) {
            true => &[],
            false => &STOPPED_ANEW,
        };
        let steps = self.steps_back(journal);
        let outcome = self.go(&steps, order, journal);
        if outcome.is_ok() {
            journal.note(None, What::RolledBack, None)?;
        }
        self.report.read(journal);
        outcome
    }

    /// Whether a failure leads back by itself, as the plan may want: only that of a step which was
    /// taken and failed, after there is anything to go back from. An interrupt was a person's wish,
    /// a lost connection leaves nobody to go back with, and a step that waits for a person's word
    /// has not failed.
    fn goes_back(&self, journal: &Journal, err: &Error) -> bool {
        let is_wanted = self.resolved.plan.switch.on_failure == OnFailure::Rollback;
        let can_go = !matches!(
            err.class(),
            ErrorClass::Interrupted | ErrorClass::Connection
        );
        let has_changed = journal.has_begun(Step::Stop) || journal.has_begun(Step::FinalSync);
        is_wanted && can_go && self.has_failed && has_changed
    }

    fn go_back(&mut self, mut journal: Journal, cause: Error) -> Result<()> {
        let why = without_class(&cause);
        self.watch.take(Told::GoesBack { why: why.clone() });
        match self.undo(&Order::default(), &mut journal) {
            Ok(()) => Err(Error::Failed(format!(
                "{why}\nThe switch was rolled back, as the plan says: {}.",
                journal.live()
            ))),
            Err(err) => {
                let text = format!("{why}\nThe rollback failed too: {}", without_class(&err));
                Err(self.with_way_out(&journal, of_class(err.class(), text)))
            }
        }
    }

    /// Adds to an error which side is live and what can be done.
    fn with_way_out(&self, journal: &Journal, err: Error) -> Error {
        let live = journal.live();
        let plan = self.loaded.path.display();
        let back = ROLLBACK.iter().any(|step| journal.has_begun(*step));
        let ways = match back {
            true => format!("To go on: cutover rollback {plan}"),
            false => format!(
                "To go on: cutover switch --resume {plan}\nTo go back: cutover rollback {plan}"
            ),
        };
        let why = without_class(&err);
        of_class(
            err.class(),
            format!("{why}\nAt this moment {live}.\n{ways}"),
        )
    }

    fn go(&mut self, steps: &[Step], order: &Order, journal: &mut Journal) -> Result<()> {
        for (at, &step) in steps.iter().enumerate() {
            if order.until.is_some_and(|last| place(step) > place(last)) {
                break;
            }
            if self.is_done(step, order, journal)? {
                self.watch.take(Told::Skipped { step });
            } else {
                self.cancel.check()?;
                self.watch.take(Told::Began {
                    step,
                    number: at + 1,
                    of: steps.len(),
                });
                self.take_step(step, journal)?;
            }
        }
        Ok(())
    }

    /// Whether a step need not be taken: it ended, or a person says that it did.
    fn is_done(&self, step: Step, order: &Order, journal: &mut Journal) -> Result<bool> {
        // Looking again costs little, and what was found last time may not be so any more.
        let has_stopped = [Step::Stop, Step::ProveStopped];
        if step == Step::Preflight && !has_stopped.iter().any(|one| journal.has_begun(*one)) {
            return Ok(false);
        }
        let Some(last) = journal.last(step) else {
            return Ok(false);
        };
        if self.retaken.contains(&step) {
            return Ok(false);
        }
        if last.what == What::Ended {
            return Ok(true);
        }
        let settled = order.settled.iter().find(|(settled, _)| *settled == step);
        match settled {
            Some((_, Settled::Done)) if can_be_said_done(step) => {
                journal.note(Some(step), What::Ended, Some("said to be done".into()))?;
                Ok(true)
            }
            Some((_, Settled::Redo)) => Ok(false),
            _ => refuse_again(step, journal).map(|()| false),
        }
    }

    fn take_step(&mut self, step: Step, journal: &mut Journal) -> Result<()> {
        let started = Instant::now();
        // Found out before it is written down that the step began: nothing has.
        self.refuse_other_side(step, journal)
            .inspect_err(|_| self.has_failed = true)?;
        journal.note(Some(step), What::Began, None)?;
        match self.perform(step, journal) {
            Ok(note) => {
                let found = self.report.found_by(step);
                journal.note_found(Some(step), What::Ended, note.clone(), found)?;
                self.watch.take(Told::Ended {
                    step,
                    note,
                    elapsed: started.elapsed(),
                });
                self.doubt_what_followed(step, journal)
            }
            Err(err) => {
                self.has_failed = true;
                let why = err.to_string();
                let found = self.report.found_by(step);
                // The step's own error is the better one to hear of.
                let _ = journal.note_found(Some(step), What::Failed, Some(why.clone()), found);
                self.watch.take(Told::Failed { step, why });
                Err(err)
            }
        }
    }

    /// What was made after the stop, a dump of a database for one, is not of the state that a
    /// service left which ran again since.
    fn doubt_what_followed(&mut self, step: Step, journal: &mut Journal) -> Result<()> {
        let is_stale = step == Step::Stop && self.ran_again && journal.has_ended(Step::AfterStop);
        match is_stale {
            true => journal.note(
                Some(Step::AfterStop),
                What::Failed,
                Some("the service ran again since".into()),
            ),
            false => Ok(()),
        }
    }

    /// Runs a command of the plan; any end but an exit with 0 is an error.
    pub(super) fn run_well(&mut self, side: Side, what: &str, command: Command) -> Result<()> {
        let line = command.words.join(" ");
        match self.run_aloud(side, command)? {
            Exit::Code(0) => Ok(()),
            exit => Err(Error::Failed(format!(
                "{what} on the {} failed: `{line}` {}; what it wrote is above",
                side.noun(),
                super::stopped::ended(&exit)
            ))),
        }
    }

    fn run_aloud(&mut self, side: Side, command: Command) -> Result<Exit> {
        let watch = Arc::clone(&self.watch);
        let mut tell = |line| watch.take(Told::Output { side, line });
        self.hosts.of(side).run(command, &mut tell)
    }

    /// Runs a command whatever it comes to; what it writes is shown.
    pub(super) fn run_anyhow(&mut self, side: Side, command: Command) -> Result<()> {
        self.run_aloud(side, command).map(drop)
    }

    /// Runs a command of which only the exit counts.
    pub(super) fn run_quietly(&mut self, side: Side, command: Command) -> Result<Exit> {
        self.hosts.of(side).run(command, &mut |_| {})
    }

    /// The paths of all roots on a side that are not within another.
    pub(super) fn root_paths(&self, side: Side) -> Vec<String> {
        let roots = self.resolved.roots.iter();
        roots
            .filter(|root| root.held_by.is_none() && root.present)
            .map(|root| match side {
                Side::Source => root.source.clone(),
                Side::Destination => root.destination.clone(),
            })
            .collect()
    }

    /// The report so far.
    pub fn report(&self) -> &Report {
        &self.report
    }
}

/// The place of a step in a switch, which `--until` compares: the step that it names need not be
/// one of the plan's.
fn place(step: Step) -> Option<usize> {
    SWITCH.iter().position(|one| *one == step)
}

/// Whether the steps end before the switch does.
fn is_rehearsal(order: &Order, steps: &[Step]) -> bool {
    let last = steps.last().copied().and_then(place);
    order.until.is_some_and(|until| place(until) < last)
}

fn uses_copy(journal: &Journal) -> bool {
    USES_COPY.iter().any(|step| journal.has_begun(*step))
}

/// Refuses what a person says of a step where it would change nothing: that person believes
/// something else of the switch than what is so.
fn refuse_idle_words(order: &Order, journal: &Journal) -> Result<()> {
    for (step, word) in &order.settled {
        let name = step.name();
        let why = match journal.last(*step).map(|last| last.what) {
            None => format!("`{name}` was not begun"),
            Some(What::Ended) => format!("`{name}` has ended"),
            Some(_) if *word == Settled::Done && !can_be_said_done(*step) => {
                format!("`{name}` is taken again in any case")
            }
            Some(_) => continue,
        };
        return Err(Error::Usage(format!("{why}: leave out what is said of it")));
    }
    Ok(())
}

/// Whether a person's word that a step did its work counts.
fn can_be_said_done(step: Step) -> bool {
    step.again() == Again::Never || SETTLED_BY_HAND.contains(&step)
}

/// Refuses to take a step again that was begun, unless doing it twice is doing it once.
fn refuse_again(step: Step, journal: &Journal) -> Result<()> {
    let name = step.name();
    let began = journal.last(step).map(|last| clock(last.at_ms));
    let began = began.unwrap_or_default();
    if step == Step::ProveStopped && uses_copy(journal) {
        return Err(Error::Refused(format!(
            "the service was not proved to be stopped on the source ({began}), after the \
             destination had been prepared: what it wrote is not in the copy. Go back, and switch \
             anew; or, if nothing that it wrote counts, stop it and say `--redo {name}`"
        )));
    }
    match step.again() {
        Again::Never => Err(Error::Refused(format!(
            "`{name}` was begun {began} and did not end well, or its end was not heard of, and \
             doing it twice may do harm. Look at what it did, then say so: `--done {name}` if it \
             did its work, `--redo {name}` to run it again"
        ))),
        Again::Repeat | Again::Ask => Ok(()),
    }
}

/// What an error says, without the word of its class, which the one that is made of it has again.
fn without_class(err: &Error) -> String {
    let text = err.to_string();
    match text.strip_prefix("refused: ") {
        Some(rest) => rest.to_string(),
        None => text,
    }
}

fn of_class(class: ErrorClass, text: String) -> Error {
    match class {
        ErrorClass::Interrupted => Error::Stopped(text),
        ErrorClass::Refused => Error::Refused(text),
        ErrorClass::Locked => Error::Locked(text),
        ErrorClass::Connection => Error::Connection(text),
        ErrorClass::Usage | ErrorClass::Failed => Error::Failed(text),
    }
}
