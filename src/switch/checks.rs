//! The plan's checks once the service runs on the destination, each tried until it holds or its time
//! is over.

use std::thread;
use std::time::{Duration, Instant};

use super::conductor::Conductor;
use super::report::CheckReport;
use super::stopped::ended;
use crate::error::{Error, Result};
use crate::plan::{ResolvedCheck, Tried};
use crate::protocol::errand::{Exit, OutputLine};
use crate::units::counted;

/// How often a check that does not hold yet is tried again.
const CHECK_AGAIN: Duration = Duration::from_millis(500);

/// How much of what a check's command writes is looked at, in bytes.
const OUTPUT_BYTES: usize = 1 << 20;

impl Conductor<'_> {
    /// Tries the plan's checks, all of them, whatever the first comes to.
    pub(super) fn try_checks(&mut self) -> Result<Option<String>> {
        self.report.checks.clear();
        let checks = self.resolved.checks();
        let count = checks.len() as u64;
        for check in checks {
            let outcome = self.try_check(&check)?;
            let (holds, said) = match outcome {
                Ok(said) => (true, said),
                Err(said) => (false, said),
            };
            self.report.checks.push(CheckReport {
                name: check.name,
                holds,
                said,
            });
        }
        let failed: Vec<String> = self
            .report
            .checks
            .iter()
            .filter(|check| !check.holds)
            .map(|check| format!("{}: {}", check.name, check.said))
            .collect();
        match failed.is_empty() {
            true => Ok(Some(format!("{} hold", counted(count, "check", "checks")))),
            false => Err(Error::Failed(format!(
                "{} of {count} checks failed: {}",
                failed.len(),
                failed.join("; ")
            ))),
        }
    }

    /// Tries a check until it holds or its time is over.
    fn try_check(&mut self, check: &ResolvedCheck) -> Result<Result<String, String>> {
        let until = Instant::now() + check.within;
        loop {
            let outcome = self.try_once(check)?;
            if outcome.is_ok() || Instant::now() >= until {
                return Ok(outcome);
            }
            self.cancel.check()?;
            thread::sleep(CHECK_AGAIN);
        }
    }

    fn try_once(&mut self, check: &ResolvedCheck) -> Result<Result<String, String>> {
        let (command, contains) = match &check.what {
            Tried::Probe(probe) => return self.hosts.destination.check(probe.clone()),
            Tried::Command { command, contains } => (command.clone(), contains),
        };
        let mut wrote = String::new();
        let mut take = |line: OutputLine| {
            if wrote.len() < OUTPUT_BYTES {
                wrote.push_str(&line.text);
                wrote.push('\n');
            }
        };
        let exit = self.hosts.destination.run(command, &mut take)?;
        let last = wrote.lines().last().unwrap_or_default().to_string();
        Ok(match (exit, contains) {
            (Exit::Code(0), Some(text)) if !wrote.contains(text.as_str()) => Err(format!(
                "it does not say {text:?}; the last that it wrote is {last:?}"
            )),
            (Exit::Code(0), _) => Ok(last),
            (exit, _) if last.is_empty() => Err(format!("it {}", ended(&exit))),
            (exit, _) => Err(format!(
                "it {}; the last that it wrote is {last:?}",
                ended(&exit)
            )),
        })
    }
}
