//! `cutover status`: how the mirrors of this user are.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use clap::Args;

use crate::error::Error;
use crate::fs::Places;
use crate::mirror::running::{is_of_plan, statuses};
use crate::mirror::status::Status;
use crate::ui::{status_json, status_lines, status_text};

use super::colours;

/// How often --watch looks.
const LOOK: Duration = Duration::from_secs(1);

/// Some root needs somebody's attention, or there is no mirror.
const NOT_FINE: u8 = 1;

/// Clears a terminal and goes to its upper left corner.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// Show how mirrors are: state, lag, last full agreement, drift, problems
///
/// Of all mirrors that run as this user, and of those that stopped within the last 30 days and were
/// not started again. Exit code 0: each root is being kept, without drift or problems; 1: some
/// root is waiting or stopped, or has drift or problems, or there is no mirror.
#[derive(Clone, Debug, Args)]
pub(crate) struct StatusCommand {
    /// Plan whose mirror is meant; all mirrors without it
    #[arg(value_name = "PLAN")]
    plan: Option<PathBuf>,

    /// Write one JSON array to standard output instead of text
    ///
    /// doc/status.md documents it.
    #[arg(long)]
    json: bool,

    /// Go on until interrupted: redraw each second, or write what changes where that is no terminal
    #[arg(short, long)]
    watch: bool,
}

impl StatusCommand {
    /// Shows.
    pub(crate) fn run(&self) -> Result<u8, Error> {
        let places = Places::of_user();
        if let Some(plan) = &self.plan
            && !plan.exists()
        {
            return Err(Error::Usage(format!("there is no plan {}", plan.display())));
        }
        if self.watch {
            return self.go_on(&places);
        }
        let found = self.look(&places);
        let text = match self.json {
            true => status_json(&found),
            false => status_text(&found, SystemTime::now(), colours()),
        };
        super::print(text.as_bytes())?;
        if found.is_empty() {
            // What a program reads is said already.
            eprintln!("cutover: {}", self.nobody());
        }
        Ok(exit_code(&found))
    }

    fn look(&self, places: &Places) -> Vec<Status> {
        let mut found = statuses(places);
        let is_meant = |plan: &Path, status: &Status| is_of_plan(status, plan);
        found.retain(|status| match &self.plan {
            Some(plan) => is_meant(plan, status),
            None => true,
        });
        found
    }

    fn nobody(&self) -> String {
        match &self.plan {
            Some(plan) => format!("no mirror of {} is running as this user", plan.display()),
            None => "no mirror is running as this user".to_owned(),
        }
    }

    /// Shows again and again, until the reader leaves.
    fn go_on(&self, places: &Places) -> Result<u8, Error> {
        let mut shown = Vec::new();
        loop {
            let found = self.look(places);
            let text = self.changed(&found, &mut shown);
            let mut out = io::stdout().lock();
            match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                Ok(()) => {}
                Err(err) if err.kind() == ErrorKind::BrokenPipe => return Ok(exit_code(&found)),
                Err(err) => return Err(Error::io("write to", "standard output", err)),
            }
            drop(out);
            thread::sleep(LOOK);
        }
    }

    /// What there is to show after `shown`, which becomes what is shown.
    fn changed(&self, found: &[Status], shown: &mut Vec<String>) -> String {
        if !self.json && io::stdout().is_terminal() {
            let text = match found.is_empty() {
                true => self.nobody() + "\n",
                false => status_text(found, SystemTime::now(), colours()),
            };
            return CLEAR.to_owned() + &text;
        }
        let mut lines = status_lines(found);
        if lines.is_empty() {
            lines.push(self.nobody());
        }
        let news: String = lines
            .iter()
            .filter(|line| !shown.contains(line))
            .map(|line| format!("{line}\n"))
            .collect();
        let is_new = lines != *shown;
        *shown = lines;
        match (self.json, is_new) {
            (true, true) => status_json(found),
            (true, false) => String::new(),
            (false, _) => news,
        }
    }
}

fn exit_code(found: &[Status]) -> u8 {
    match !found.is_empty() && found.iter().all(Status::is_fine) {
        true => 0,
        false => NOT_FINE,
    }
}
