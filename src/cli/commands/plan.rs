//! `cutover plan`: writes, explains and tests plans. What they say is carried out by `sync --plan`
//! and by a switch.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::cli::flags::ConnectionFlags;
use crate::cli::signals;
use crate::error::{Error, ErrorClass};
use crate::events::{Cancel, Silent};
use crate::plan::{self, Finding, Hosts, Loaded, Verdict, preset};
use crate::ui::{findings_json, findings_table, plan_json, plan_text};

use super::{colours, print};

/// Write, show or check a plan: roots, hosts, commands and checks of a move
///
/// A plan is a TOML file that says what belongs together when a service moves. `cutover sync --plan
/// FILE` keeps the copy warm.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlanCommand {
    #[command(subcommand)]
    act: Act,
}

#[derive(Clone, Debug, Subcommand)]
enum Act {
    Init(InitCommand),
    Show(ShowCommand),
    Check(CheckCommand),
    /// Print the JSON Schema of plans, for editors
    Schema,
}

/// Write a commented plan to begin with
///
/// To standard output, or to FILE, which must not be there.
#[derive(Clone, Debug, Args)]
struct InitCommand {
    /// Begin with the plan for this kind of service; --list has them
    #[arg(long, value_name = "NAME", default_value = preset::GENERIC)]
    preset: String,

    /// Set a variable of the preset; may be given several times
    #[arg(long, value_name = "VARIABLE=VALUE", value_parser = parse_setting)]
    set: Vec<(String, String)>,

    /// Write to FILE
    #[arg(short, long, value_name = "FILE", conflicts_with = "list")]
    output: Option<PathBuf>,

    /// List the presets and their variables
    #[arg(long, conflicts_with = "set")]
    list: bool,
}

/// Print a plan as it is on its hosts, and do nothing
///
/// Every root with both ends and sizes, whose its entries become, every command with the host that
/// it runs on, and what is checked at the end.
#[derive(Clone, Debug, Args)]
struct ShowCommand {
    /// The plan's file
    #[arg(value_name = "PLAN")]
    file: PathBuf,

    /// Write JSON instead of text; doc/json.md documents it
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: ConnectionFlags,
}

/// Look at everything that a switch would meet, and change nothing
///
/// One row for each thing, with what to do about it. Exit code 0: nothing is in the way, if there
/// are warnings or not; 5: a switch would be refused; 2: the plan makes no sense on its hosts.
#[derive(Clone, Debug, Args)]
struct CheckCommand {
    /// The plan's file
    #[arg(value_name = "PLAN")]
    file: PathBuf,

    /// Write JSON lines instead of a table; doc/json.md documents them
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: ConnectionFlags,
}

impl PlanCommand {
    /// Does what is asked for.
    pub(crate) fn run(&self) -> Result<u8, Error> {
        match &self.act {
            Act::Init(init) => init.run(),
            Act::Show(show) => show.run(),
            Act::Check(check) => check.run(),
            Act::Schema => {
                print(plan::schema::text().as_bytes())?;
                Ok(0)
            }
        }
    }
}

impl InitCommand {
    fn run(&self) -> Result<u8, Error> {
        if self.list {
            print(listing()?.as_bytes())?;
            return Ok(0);
        }
        let values: BTreeMap<_, _> = self.set.iter().cloned().collect();
        let text = preset::find(&self.preset)?.fill(&values)?;
        match &self.output {
            None => print(text.as_bytes())?,
            Some(file) => write_new(file, &text)?,
        }
        Ok(0)
    }
}

fn listing() -> Result<String, Error> {
    let mut list = String::new();
    for preset in preset::all()? {
        list += &format!("{:<16} {}\n", preset.name, preset.summary);
        for variable in &preset.variables {
            let default = match (variable.required, variable.default.as_str()) {
                (true, _) => " (must be set)".to_owned(),
                (false, "") => String::new(),
                (false, default) => format!(" ({default})"),
            };
            list += &format!(
                "  {:<14} {}{default}\n",
                variable.name, variable.description
            );
        }
    }
    Ok(list)
}

/// Writes a file that is not there yet.
fn write_new(path: &Path, text: &str) -> Result<(), Error> {
    let bytes = path.as_os_str().as_bytes();
    let mut file = File::create_new(path).map_err(|err| match err.kind() {
        io::ErrorKind::AlreadyExists => Error::Usage(format!(
            "{} is there already: remove it, or choose another with -o FILE",
            crate::path::escape(bytes)
        )),
        _ => Error::io("create", bytes, err),
    })?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    written.map_err(|err| Error::io("write", bytes, err))
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write VARIABLE=VALUE".to_owned()),
    }
}

impl ShowCommand {
    fn run(&self) -> Result<u8, Error> {
        let loaded = plan::load(&self.file)?;
        let cancel = Cancel::default();
        signals::cancel_on_signals(&cancel)?;
        let connection = self.connection.remote();
        let mut hosts = Hosts::reach(&loaded.plan, &connection, &Silent, &cancel)?;
        let resolved = plan::resolve(&loaded, &mut hosts)?;
        let shown = plan::show(&loaded, &resolved, &mut hosts)?;
        hosts.finish()?;
        let text = match self.json {
            true => plan_json(&shown),
            false => plan_text(&shown),
        };
        print(text.as_bytes())?;
        Ok(0)
    }
}

impl CheckCommand {
    fn run(&self) -> Result<u8, Error> {
        let loaded = plan::load(&self.file)?;
        let cancel = Cancel::default();
        signals::cancel_on_signals(&cancel)?;
        let findings = self.look(&loaded, &cancel)?;
        let is_refused = findings
            .iter()
            .any(|finding| finding.verdict == Verdict::Fail);
        let code = match is_refused {
            true => ErrorClass::Refused.exit_code(),
            false => 0,
        };
        let text = match self.json {
            true => findings_json(&loaded.plan.name, &findings, code),
            false => findings_table(&findings, colours()),
        };
        print(text.as_bytes())?;
        Ok(code)
    }

    fn look(&self, loaded: &Loaded, cancel: &Cancel) -> Result<Vec<Finding>, Error> {
        let attempt = Hosts::attempt(&loaded.plan, &self.connection.remote(), &Silent, cancel);
        cancel.check()?;
        if attempt.hosts.source.is_err() || attempt.hosts.destination.is_err() {
            return Ok(plan::unreachable(&attempt.hosts));
        }
        let mut hosts = attempt.into_hosts()?;
        let resolved = plan::resolve(loaded, &mut hosts)?;
        let findings = plan::preflight(&resolved, &mut hosts, cancel)?;
        hosts.finish()?;
        Ok(findings)
    }
}
