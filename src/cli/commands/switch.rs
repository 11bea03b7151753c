//! `cutover switch` and `cutover rollback`: the hand-over of a service, and the way back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use crate::cli::flags::{ConnectionFlags, OutputFlags};
use crate::cli::signals;
use crate::error::{Error, ErrorClass};
use crate::events::{Cancel, Silent};
use crate::plan::{self, Hosts, Loaded, Resolved};
use crate::switch::{Conductor, Order, Report, Settled, Step, Watch, page};
use crate::ui::{Output, Steps, printable};

/// Move a service: stop it, sync once more, prove the copy, start it on the other host
///
/// Every step is written to a journal before it begins and after it ended, so that a switch that
/// dies goes on with --resume, and `cutover rollback` knows what to undo. Whatever happens, the
/// last lines say which side is live. Exit code 0: switched; 3: a step failed; 5: refused;
/// others as `cutover --help` lists them.
#[derive(Clone, Debug, Args)]
pub(crate) struct SwitchCommand {
    /// Go on with a switch that stopped or died
    #[arg(long, conflicts_with = "dry_run")]
    resume: bool,

    /// Stop after this step, for a rehearsal; --resume goes on from there
    #[arg(
        long,
        value_name = "STEP",
        value_parser = one_of(&crate::switch::SWITCH),
        conflicts_with = "dry_run"
    )]
    until: Option<Step>,

    #[command(flatten)]
    run: Run,
}

/// Undo a switch: the destination becomes what it was, and the source is started again
///
/// What the destination was is what it had after the switch's own warm sync, before the last one.
/// What the destination has by then is kept in `.cutover-kept` of each root. Exit codes as with
/// `cutover switch`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RollbackCommand {
    #[command(flatten)]
    run: Run,
}

/// What both commands take, and do around their one different act.
#[derive(Clone, Debug, Args)]
struct Run {
    /// The plan's file
    #[arg(value_name = "PLAN")]
    plan: PathBuf,

    /// Print the steps with what each would run, and do nothing
    #[arg(short = 'n', long, conflicts_with_all = ["done", "redo", "report"])]
    dry_run: bool,

    #[command(flatten)]
    settled: SettledFlags,

    #[command(flatten)]
    filed: FiledFlags,

    #[command(flatten)]
    output: OutputFlags,

    #[command(flatten)]
    connection: ConnectionFlags,
}

/// What a person knows of steps that were begun and of which the end was not heard.
#[derive(Clone, Debug, Args)]
struct SettledFlags {
    /// This step, which was begun and not heard of again, did its work
    #[arg(long, value_name = "STEP", value_enum, hide_possible_values = true)]
    done: Vec<Step>,

    /// This step, which was begun and not heard of again, shall be run once more
    #[arg(long, value_name = "STEP", value_enum, hide_possible_values = true)]
    redo: Vec<Step>,
}

/// Where the report goes.
#[derive(Clone, Debug, Args)]
struct FiledFlags {
    /// Write the report to this file as well: HTML, or JSON if its name ends in .json
    ///
    /// The HTML report is always kept beside the journal, too.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Only some steps make sense for a flag.
fn one_of(steps: &'static [Step]) -> impl clap::builder::TypedValueParser<Value = Step> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(steps.iter().map(|step| step.name())).try_map(|name| {
        let found = crate::switch::SWITCH
            .into_iter()
            .find(|step| step.name() == name);
        found.ok_or("not a step")
    })
}

impl SettledFlags {
    fn settled(&self) -> Vec<(Step, Settled)> {
        let done = self.done.iter().map(|step| (*step, Settled::Done));
        let redo = self.redo.iter().map(|step| (*step, Settled::Redo));
        done.chain(redo).collect()
    }
}

impl SwitchCommand {
    /// Switches.
    pub(crate) fn run(&self) -> Result<u8, Error> {
        let order = Order {
            resume: self.resume,
            until: self.until,
            settled: self.run.settled.settled(),
        };
        self.run
            .conduct(Way::There, |conductor| conductor.switch(&order))
    }
}

impl RollbackCommand {
    /// Goes back.
    pub(crate) fn run(&self) -> Result<u8, Error> {
        let order = Order {
            settled: self.run.settled.settled(),
            ..Order::default()
        };
        self.run
            .conduct(Way::Back, |conductor| conductor.rollback(&order))
    }
}

/// Which way a service moves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

impl Run {
    fn conduct(
        &self,
        way: Way,
        act: impl FnOnce(&mut Conductor<'_>) -> Result<(), Error>,
    ) -> Result<u8, Error> {
        let cancel = Cancel::default();
        signals::cancel_on_signals(&cancel)?;
        let steps = Arc::new(Steps::open(
            self.output.format(),
            self.output.detail(),
            self.output.progress(),
        ));
        let loaded = plan::load(&self.plan)?;
        let (mut hosts, resolved) = self
            .reach(&loaded, &cancel)
            .inspect_err(|err| steps.tell_error(err))?;
        let watch: Arc<dyn Watch> = Arc::<Steps>::clone(&steps);
        let mut conductor = Conductor::new(&loaded, &resolved, &mut hosts, watch, &cancel);
        if self.dry_run {
            let ahead = conductor.steps(way == Way::Back).into_iter();
            let ahead = ahead.map(|step| (step, crate::switch::commands_of(step, &resolved)));
            let shown = steps.outline(&ahead.collect::<Vec<_>>());
            hosts.finish()?;
            return written(shown).map(|()| 0);
        }
        let outcome = act(&mut conductor);
        let report = conductor.report().clone();
        let filed = self.file(&report);
        let kept = filed.as_ref().ok().cloned().flatten();
        let outcome = match (outcome, filed) {
            (Ok(()), filed) => filed.map(drop),
            (Err(err), filed) => {
                if let Err(second) = filed {
                    eprintln!("cutover: {}", printable(&second.to_string()));
                }
                Err(err)
            }
        };
        if outcome.is_ok() {
            steps.tell_ways(&report, &self.plan);
        }
        let shown = steps.close(&report, kept.as_deref(), outcome.as_ref().err());
        let outcome = outcome.and_then(|()| written(shown));
        let Err(err) = outcome else {
            // All is done and written down: an agent that cannot say goodbye changes nothing of it.
            let _ = hosts.finish();
            return Ok(0);
        };
        // The words for an interrupt of a sync would mislead here.
        if err.class() == ErrorClass::Interrupted {
            eprintln!("cutover: {}", printable(&err.to_string()));
            return Ok(err.class().exit_code());
        }
        Err(err)
    }

    fn reach(&self, loaded: &Loaded, cancel: &Cancel) -> Result<(Hosts, Resolved), Error> {
        let mut hosts = Hosts::reach(&loaded.plan, &self.connection.remote(), &Silent, cancel)?;
        let resolved = plan::resolve(loaded, &mut hosts)?;
        Ok((hosts, resolved))
    }

    /// Files the report away, beside the journal and where it was asked for; returns the former
    /// place.
    fn file(&self, report: &Report) -> Result<Option<PathBuf>, Error> {
        if !report.is_of_something() {
            return Ok(None);
        }
        let html = page(report);
        let kept = crate::switch::reports_dir()?.join(format!("{}.html", report.id));
        write(&kept, html.as_bytes())?;
        let Some(wanted) = &self.filed.report else {
            return Ok(Some(kept));
        };
        match wanted.extension() {
            Some(extension) if extension == "json" => {
                let json = serde_json::to_vec_pretty(report)
                    .map_err(|err| Error::Failed(format!("cannot write the report: {err}")))?;
                write(wanted, &json)?;
            }
            _ => write(wanted, html.as_bytes())?,
        }
        Ok(Some(kept))
    }
}

/// An error where what was to be seen on standard output did not get there.
fn written(shown: Output) -> Result<(), Error> {
    match shown {
        Output::Failed(err) => Err(Error::io("write to", "standard output", err)),
        _ => Ok(()),
    }
}

/// A report names paths and hosts: it is for its owner to show around.
fn write(file: &Path, bytes: &[u8]) -> Result<(), Error> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |err| Error::io("write the report", file.as_os_str().as_encoded_bytes(), err);
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut out| out.write_all(bytes))
        .map_err(failed)
}
