//! `cutover mirror`: stays running and keeps a standby warm.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::flags::{
    FidelityFlags, KeepFlags, MirrorFlags, OutputFlags, OwnershipFlags, RemoteFlags,
    SAID_BY_A_PLAN, SelectionFlags, TransferFlags,
};
use crate::error::{Error, ErrorClass};
use crate::events::{Cancel, Silent};
use crate::fs::{IoPriority, Places, set_io_priority, set_nice};
use crate::mirror::control::Control;
use crate::mirror::page::{Page, parse_listen};
use crate::mirror::requests::Requests;
use crate::mirror::schedule::Schedule;
use crate::mirror::service::{
    Level, Manager, Notifier, Unit, Watchdog, parse_io_priority, parse_nice,
};
use crate::mirror::{Ended, Mirror, MirrorRoot};
use crate::options::{Delete, DeleteLimit, Mirroring, SyncOptions};
use crate::plan::{self, Hosts};
use crate::session::{Job, Mode};
use crate::transport::Location;
use crate::ui::{MirrorUi, MirrorView};

use super::{direction, locations, print};

/// Keep DST warm as a standby of SRC: stay running, and send what changes as it changes
///
/// DST is made and kept the same as SRC: what SRC does not have is deleted there, within the limits
/// of --max-delete. The mirror connects again for as long as it takes, and goes on where it was.
/// `cutover status` tells how it is; `cutover switch` takes over from it.
#[derive(Clone, Debug, Args)]
pub(crate) struct MirrorCommand {
    /// Directory that is mirrored: a path or [USER@]HOST:PATH
    #[arg(value_name = "SRC", required_unless_present = "plan")]
    source: Option<OsString>,

    /// Directory that is its standby: a path or [USER@]HOST:PATH; made if it is not there
    #[arg(value_name = "DST", required_unless_present = "plan")]
    destination: Option<OsString>,

    /// Mirror all roots of the plan in FILE, as it says, instead of SRC to DST
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = SAID_BY_A_PLAN,
        conflicts_with_all = ["KeepFlags", "TransferFlags", "no_delete", "max_delete"]
    )]
    plan: Option<PathBuf>,

    #[command(flatten)]
    mirror: MirrorFlags,

    /// Send at most RATE of content a second: a rate as for sync, or a timetable
    ///
    /// Like `08:00,2M 18:00,off`: 2 MiB a second from eight in the morning, no limit from six in
    /// the evening; `Mon-08:00,2M` is of one day of the week. By the clock of the source's host.
    #[arg(long, value_name = "RATE|TIMES", help_heading = "Transfer")]
    bwlimit: Option<Schedule>,

    /// Leave entries that only DST has
    #[arg(long, help_heading = "Deletion")]
    no_delete: bool,

    /// Change nothing in a round that would delete more than N entries, or P% of DST's
    ///
    /// Without it, more than half of DST's entries, and over 100. The mirror waits then, says so,
    /// and tries again.
    #[arg(
        long,
        value_name = "N|P%",
        help_heading = "Deletion",
        conflicts_with = "no_delete"
    )]
    max_delete: Option<DeleteLimit>,

    #[command(flatten)]
    keep: KeepFlags,

    /// Write a line for each changed entry, as `cutover sync -i` does
    #[arg(short, long, help_heading = "Output")]
    itemize_changes: bool,

    #[command(flatten)]
    output: OutputFlags,

    #[command(flatten)]
    selection: SelectionFlags,

    #[command(flatten)]
    fidelity: FidelityFlags,

    #[command(flatten)]
    ownership: OwnershipFlags,

    #[command(flatten)]
    transfer: TransferFlags,

    #[command(flatten)]
    service: ServiceFlags,

    #[command(flatten)]
    remote: RemoteFlags,
}

/// The mirror as a service.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Service")]
struct ServiceFlags {
    /// Serve a page, /metrics for Prometheus and /status.json on ADDR, like 127.0.0.1:9463
    ///
    /// Other addresses than those of this machine need --listen-token.
    #[arg(long, value_name = "ADDR", value_parser = parse_listen)]
    listen: Option<SocketAddr>,

    /// Ask for the token in FILE, which nobody else may read
    #[arg(long, value_name = "FILE", requires = "listen")]
    listen_token: Option<PathBuf>,

    /// Add N to the process's niceness, -20 to 19
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = parse_nice)]
    nice: Option<i32>,

    /// Read and write files with this priority: idle, best-effort[:0-7] or realtime[:0-7]
    #[arg(long, value_name = "CLASS", value_parser = parse_io_priority)]
    ionice: Option<IoPriority>,

    /// Print a systemd unit that runs this command, and stop
    ///
    /// For the system's manager when root asks, else for the user's own.
    #[arg(long)]
    print_systemd: bool,
}

/// What signals order, and the mirror that it goes to, which can be another after a reload.
#[derive(Clone, Default)]
struct Orders(Arc<Mutex<Order>>);

#[derive(Default)]
struct Order {
    mirror: Option<Requests>,
    is_stop: bool,
}

impl Orders {
    /// Listens from now on: SIGINT and SIGTERM end the mirror, a second SIGINT the process; SIGHUP has
    /// the plan read again.
    fn from_signals() -> Result<Orders, Error> {
        let failed = |err| Error::io("handle", "signals", err);
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
        let orders = Orders::default();
        let heard = orders.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let notifier = Notifier::of_process();
                for signal in signals.forever() {
                    heard.hear(signal, &notifier);
                }
            })
            .map_err(failed)?;
        Ok(orders)
    }

    fn hear(&self, signal: i32, notifier: &Notifier) {
        let mut order = self.lock();
        if signal == SIGHUP {
            if let Some(mirror) = &order.mirror {
                notifier.reloading();
                mirror.reload();
            }
            return;
        }
        if signal == SIGINT && order.is_stop {
            std::process::exit(ErrorClass::Interrupted.exit_code().into());
        }
        order.is_stop = true;
        notifier.stopping();
        if let Some(mirror) = &order.mirror {
            mirror.stop();
        }
    }

    /// Has orders go to a mirror; one that came while there was none, too.
    fn go_to(&self, mirror: Option<Requests>) {
        let mut order = self.lock();
        if let Some(mirror) = mirror.as_ref().filter(|_| order.is_stop) {
            mirror.stop();
        }
        order.mirror = mirror;
    }

    fn lock(&self) -> MutexGuard<'_, Order> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is mirrored.
struct What {
    name: String,
    plan: Option<PathBuf>,
    roots: Vec<MirrorRoot>,
}

impl MirrorCommand {
    /// Mirrors until a signal or a switch ends it.
    pub(crate) fn run(&self) -> Result<u8, Error> {
        if self.service.print_systemd {
            print(self.unit()?.text().as_bytes())?;
            return Ok(0);
        }
        self.lower_priority()?;
        let ui = MirrorUi::open(self.view()?);
        let orders = Orders::from_signals()?;
        let mut what = self.what()?;
        loop {
            match self.mirror(&what, &ui, &orders)? {
                Ended::Stopped | Ended::HandedOver => return Ok(0),
                Ended::Reloads => match self.what_anew()? {
                    Ok(anew) => what = anew,
                    Err(err) => {
                        let text = format!("the plan is not used, the former one goes on: {err}");
                        ui.say(Level::Error, &text);
                    }
                },
            }
        }
    }

    fn mirror(&self, what: &What, ui: &MirrorUi, orders: &Orders) -> Result<Ended, Error> {
        let plan = what.plan.as_ref().map(|plan| plan.display().to_string());
        let mirror = Mirror::new(&what.name, plan, what.roots.clone());
        let requests = mirror.requests();
        // What is refused here was no mirror yet, and leaves no word of one.
        let page = match self.service.listen {
            Some(listen) => {
                let token = self.service.listen_token.as_deref();
                Some(Page::open(listen, token, mirror.board())?)
            }
            None => None,
        };
        let control = Control::open(&Places::of_user(), &mirror.board(), &requests)?;
        if let Some(page) = &page {
            ui.say(Level::Notice, &format!("http://{}/", page.address()));
        }
        let (pulse, seen) = (mirror.pulse(), AtomicU64::new(u64::MAX));
        let is_alive = move || {
            let now = pulse.load(Ordering::Relaxed);
            seen.swap(now, Ordering::Relaxed) != now
        };
        let watchdog = start_watchdog(is_alive)?;
        Notifier::of_process().ready();
        orders.go_to(Some(requests));
        let ended = mirror.run(ui);
        orders.go_to(None);
        if let Some(watchdog) = watchdog {
            watchdog.finish();
        }
        if let Some(page) = page {
            page.finish();
        }
        control.finish()?;
        ended
    }

    /// What the plan says now that it has changed. Hosts are reached for it, which may take longer
    /// than the service manager waits for a word.
    fn what_anew(&self) -> Result<Result<What, Error>, Error> {
        let watchdog = start_watchdog(|| true)?;
        let what = self.what();
        if let Some(watchdog) = watchdog {
            watchdog.finish();
        }
        Ok(what)
    }

    /// What the arguments, or the plan, say now.
    fn what(&self) -> Result<What, Error> {
        match &self.plan {
            Some(plan) => self.what_of_plan(plan),
            None => {
                let (source, destination) = locations(&self.source, &self.destination)?;
                let source_name = located(&source)?;
                let name = format!("{source} -> {destination}");
                let remote = self.remote.between(&source, &destination)?;
                let job = Job {
                    source,
                    destination,
                    options: self.options()?,
                    remote,
                    mode: Mode::Sync,
                };
                Ok(What {
                    plan: None,
                    roots: vec![MirrorRoot {
                        name: last_name(&job.source),
                        job,
                        mirroring: self.mirroring(source_name.clone(), source_name),
                    }],
                    name,
                })
            }
        }
    }

    fn what_of_plan(&self, file: &Path) -> Result<What, Error> {
        let loaded = plan::load(file)?;
        let connection = self.remote.connection().remote();
        let cancel = Cancel::new();
        let mut hosts = Hosts::reach(&loaded.plan, &connection, &Silent, &cancel)?;
        let resolved = plan::resolve(&loaded, &mut hosts)?;
        let synced = resolved.roots.iter().filter(|root| root.is_synced());
        let roots = synced.map(|root| {
            let mut job = resolved.job(root, Mode::Sync);
            job.options.itemize = self.itemize_changes;
            let source = located(&job.source)?;
            Ok(MirrorRoot {
                name: root.name.clone(),
                mirroring: self.mirroring(loaded.plan.name.clone(), source),
                job,
            })
        });
        let roots = roots.collect::<Result<Vec<_>, Error>>()?;
        hosts.finish()?;
        Ok(What {
            name: loaded.plan.name.clone(),
            plan: Some(absolute(file)?),
            roots,
        })
    }

    fn mirroring(&self, name: String, source: String) -> Mirroring {
        Mirroring {
            name,
            source,
            bandwidth_by_minute: self
                .bwlimit
                .as_ref()
                .map_or(Vec::new(), Schedule::by_minute),
            ..self.mirror.mirroring()
        }
    }

    fn options(&self) -> Result<SyncOptions, Error> {
        let delete = Delete {
            excluded: false,
            max: self.max_delete,
        };
        let mut options = SyncOptions {
            fidelity: self.fidelity.fidelity(),
            selection: self.selection.selection()?,
            delete: (!self.no_delete).then_some(delete),
            keep: self.keep.keep(),
            transfer: self.transfer.transfer(),
            write: self.transfer.write(),
            itemize: self.itemize_changes,
            ..SyncOptions::default()
        };
        self.ownership.apply_to(&mut options);
        Ok(options)
    }

    fn view(&self) -> Result<MirrorView, Error> {
        Ok(MirrorView {
            format: self.output.format(),
            detail: self.output.detail(),
            items: self.itemize_changes,
            direction: match &self.destination {
                Some(destination) => direction(&Location::parse(destination)?),
                None => crate::ui::itemize::Direction::Sent,
            },
            names_roots: self.plan.is_some(),
        })
    }

    fn lower_priority(&self) -> Result<(), Error> {
        let failed = |err| Error::io("set the priority of", "this process", err);
        if let Some(nice) = self.service.nice {
            set_nice(nice).map_err(failed)?;
        }
        if let Some(priority) = self.service.ionice {
            set_io_priority(priority).map_err(failed)?;
        }
        Ok(())
    }

    /// This command as a unit of systemd.
    fn unit(&self) -> Result<Unit, Error> {
        let me = crate::fs::Process::current().uid;
        let manager = match me {
            0 => Manager::System {
                user: "root".to_owned(),
            },
            _ => Manager::User,
        };
        // A plan says where its roots are, on each host as that has it.
        let jobs = self.what()?.roots.into_iter().map(|root| root.job);
        let ends: Vec<_> = jobs.map(|job| [job.source, job.destination]).collect();
        let local = |end: &Location| match end {
            Location::Local(path) => Some(absolute(path)),
            Location::Remote(_) => None,
        };
        let roots = ends.iter().flatten().filter_map(local);
        let standbys = ends.iter().filter_map(|[_, standby]| local(standby));
        let mut writes = standbys.collect::<Result<Vec<_>, _>>()?;
        writes.extend(Places::of_user().state);
        let description = match &self.plan {
            Some(plan) => plan.display().to_string(),
            None => ends
                .concat()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" -> "),
        };
        Ok(Unit {
            description,
            manager,
            program: std::env::current_exe()
                .map_err(|err| Error::io("find", "this program", err))?,
            arguments: std::env::args_os()
                .skip(1)
                .filter(|argument| argument != "--print-systemd")
                .collect(),
            directory: std::env::current_dir()
                .map_err(|err| Error::io("find", "the working directory", err))?,
            roots: roots.collect::<Result<Vec<_>, _>>()?,
            writes,
        })
    }
}

fn start_watchdog(is_alive: impl Fn() -> bool + Send + 'static) -> Result<Option<Watchdog>, Error> {
    Watchdog::start(Notifier::of_process(), is_alive)
        .map_err(|err| Error::io("start", "the watchdog's thread", err))
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path)
        .map_err(|err| Error::io("find", path.as_os_str().as_encoded_bytes(), err))
}

/// What a root is called that has no name in a plan.
fn last_name(source: &Location) -> String {
    let text = source.to_string();
    let last = text.trim_end_matches('/').rsplit(['/', ':']).next();
    match last {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "root".to_owned(),
    }
}

/// Where a source is, as a standby's marker tells it: the same whatever the command was given.
fn located(source: &Location) -> Result<String, Error> {
    match source {
        Location::Local(path) => {
            let host = rustix::system::uname();
            let path = path.canonicalize().or_else(|_| absolute(path))?;
            let host = host.nodename().to_string_lossy();
            Ok(format!("{host}:{}", path.display()))
        }
        remote => Ok(remote.to_string()),
    }
}
