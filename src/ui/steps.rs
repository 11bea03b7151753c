//! What is shown of a switch: a line when a step begins, what its commands write, a line when it
//! ended, and the report.

use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::human;
use super::json::{VERSION, class_word, fault_line};
use super::progress::{Meter, Progress};
use super::report::{churn_line, problem_line, warning_line};
use super::screen::Screen;
use super::{Detail, Format, Output, ShowProgress, lock, printable};
use crate::error::Error;
use crate::events::{Event, Side};
use crate::plan::{Finding, Verdict};
use crate::protocol::errand::Command;
use crate::switch::{Report, Step, Told, Watch, What};

/// Shows one switch or rollback.
pub struct Steps {
    screen: Arc<Screen>,
    format: Format,
    detail: Detail,
    shows_progress: ShowProgress,
    /// Of the step that syncs at the moment.
    progress: Mutex<Option<Progress>>,
}

impl Steps {
    /// Shows on the process's standard streams.
    pub fn open(format: Format, detail: Detail, shows_progress: ShowProgress) -> Steps {
        Steps {
            screen: Arc::new(Screen::stdio(None, None)),
            format,
            detail,
            shows_progress,
            progress: Mutex::new(None),
        }
    }

    /// Shows steps that would be taken, with what each would run. Returns what became of the output.
    pub fn outline(&self, ahead: &[(Step, Vec<(Side, Command)>)]) -> Output {
        for (at, (step, commands)) in ahead.iter().enumerate() {
            match self.format {
                Format::Json => self.screen.out(&line(&json!({
                    "event": "step", "step": step, "state": "ahead", "number": at + 1,
                    "of": ahead.len(), "commands": commands.iter().map(ahead_json).collect::<Vec<_>>(),
                }))),
                Format::People => {
                    self.say(&format!("{:>2}  {:<26}{}", at + 1, step.name(), step.title()));
                    for (side, command) in commands {
                        let user = command.user.as_ref().map(|user| format!(" as {user}"));
                        let user = user.unwrap_or_default();
                        let words = command.words.join(" ");
                        self.say(&format!("    {}{user}: {words}", side.noun()));
                    }
                }
            }
        }
        self.screen.output()
    }

    /// Tells what can be done after a switch or rollback that did what it was asked to. An error
    /// tells that itself.
    pub fn tell_ways(&self, report: &Report, plan: &Path) {
        if self.format == Format::Json || self.detail == Detail::Quiet {
            return;
        }
        let plan = plan.display();
        match report.end {
            None => self.say(&format!(
                "It stopped where it was asked to.\nTo go on: cutover switch --resume {plan}\n\
                 To go back: cutover rollback {plan}"
            )),
            Some(What::Switched) => self.say(&format!("To go back: cutover rollback {plan}")),
            Some(_) => {}
        }
    }

    /// Shows the report at the end, where it was filed, and to programs the error as well, if there
    /// is one. Returns what became of the output.
    pub fn close(&self, report: &Report, file: Option<&Path>, error: Option<&Error>) -> Output {
        self.end_progress();
        match self.format {
            Format::Json => self.close_json(report, file, error),
            Format::People if self.detail != Detail::Quiet && report.is_of_something() => {
                self.tell_report(report);
                if let Some(file) = file {
                    self.say(&format!("The report is in {}", file.display()));
                }
            }
            Format::People => {}
        }
        self.screen.output()
    }

    fn close_json(&self, report: &Report, file: Option<&Path>, error: Option<&Error>) {
        if report.is_of_something() {
            let file = file.map(|file| file.to_string_lossy());
            let report = json!({ "event": "report", "report": report, "file": file });
            self.screen.out(&line(&report));
        }
        if let Some(error) = error {
            self.tell_error(error);
        }
    }

    /// Tells programs of an error; people hear of it from who ends with it.
    pub fn tell_error(&self, error: &Error) {
        if self.format == Format::Json {
            self.screen.out(&line(&json!({
                "event": "error",
                "class": class_word(error.class()),
                "message": error.to_string(),
                "exit_code": error.class().exit_code(),
            })));
        }
    }

    fn tell_report(&self, report: &Report) {
        // What was found on the way is no news of where it is now.
        if !report.goes_back() {
            self.tell_found(report);
        }
        self.say(&format!("{}.", capitalised(&report.live.to_string())));
    }

    fn tell_found(&self, report: &Report) {
        for check in &report.checks {
            let sign = if check.holds { "ok  " } else { "FAIL" };
            self.say(&format!("{sign}  {}: {}", check.name, check.said));
        }
        for root in &report.roots {
            let Some(entries) = root.entries else {
                continue;
            };
            let size = human::bytes(root.bytes.unwrap_or_default());
            // Without a digest that both have, the sides were not compared, or one has more.
            let digest = root.digest.as_ref();
            let digest = digest.map(|digest| format!(", digest {digest}"));
            self.say(&format!(
                "{}: {}, {size}{}",
                root.name,
                human::entries(entries),
                digest.unwrap_or_default()
            ));
        }
    }

    fn say(&self, text: &str) {
        self.screen.out(&printable(text));
    }

    fn tell(&self, told: &Told) {
        match told {
            Told::Began { step, number, of } => {
                let title = step.title();
                self.say(&format!("[{number:>2}/{of}] {}: {title}", step.name()));
            }
            Told::Ended { note, elapsed, .. } => {
                let note = note.as_ref().map(|note| format!(": {note}"));
                let note = note.unwrap_or_default();
                self.say(&format!(
                    "        done in {}{note}",
                    human::elapsed(*elapsed)
                ));
            }
            Told::Skipped { step } => self.say(&format!("        {}: done before", step.name())),
            Told::Finding(finding) if finding.verdict != Verdict::Ok => {
                for line in finding_line(finding).lines() {
                    self.say(&format!("        {line}"));
                }
            }
            Told::Output { side, line } => {
                self.say(&format!("        {} | {}", side.noun(), line.text));
            }
            Told::Failed { .. } => self.say("        FAILED"),
            Told::GoesBack { why } => self.say(&format!("{why}\nThe switch goes back.")),
            Told::Finding(_) => {}
            Told::Event(event) => self.tell_event(event),
        }
    }

    fn tell_event(&self, event: &Event) {
        match event {
            Event::Problem(problem) => self.screen.err(&problem_line(problem)),
            Event::Churn(churn) => self.screen.err(&churn_line(churn)),
            Event::Warning(warning) => self.screen.err(&warning_line(warning)),
            _ => {}
        }
        if self.shows_progress == ShowProgress::Yes {
            let mut progress = lock(&self.progress);
            if progress.is_none() {
                *progress = Progress::start(Meter::for_stderr(), Arc::clone(&self.screen));
            }
            if let Some(progress) = progress.as_ref() {
                progress.take(event);
            }
        }
    }

    fn end_progress(&self) {
        if let Some(progress) = lock(&self.progress).take() {
            progress.finish();
        }
    }
}

impl Watch for Steps {
    fn take(&self, told: Told) {
        if !matches!(told, Told::Event(_)) {
            self.end_progress();
        }
        match self.format {
            Format::Json => {
                let text = match &told {
                    Told::Event(event) => fault_line(event),
                    told => json_of(told).map(|value| line(&value)),
                };
                if let Some(text) = text {
                    self.screen.out(&text);
                }
            }
            Format::People if self.detail == Detail::Quiet => {}
            Format::People => self.tell(&told),
        }
    }
}

fn ahead_json((side, command): &(Side, Command)) -> Value {
    json!({ "side": side.noun(), "user": command.user, "words": command.words })
}

fn finding_line(finding: &Finding) -> String {
    let sign = match finding.verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Fail => "FAIL",
    };
    let advice = finding.advice.as_ref().map(|advice| format!("; {advice}"));
    format!(
        "{sign}: {}: {}{}",
        finding.subject,
        finding.message,
        advice.unwrap_or_default()
    )
}

fn capitalised(sentence: &str) -> String {
    let mut chars = sentence.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// A line as every command writes them, with the version of `doc/json.md`.
fn line(value: &Value) -> String {
    let mut value = value.clone();
    value["v"] = VERSION.into();
    value.to_string()
}

/// A JSON line. The engine's events have their own, of which only faults are told: the others would
/// be thousands.
fn json_of(told: &Told) -> Option<Value> {
    Some(match told {
        Told::Began { step, number, of } => json!({
            "event": "step", "step": step, "state": "began", "number": number, "of": of,
        }),
        Told::Ended {
            step,
            note,
            elapsed,
        } => json!({
            "event": "step", "step": step, "state": "ended", "note": note,
            "elapsed_ms": elapsed.as_millis() as u64,
        }),
        Told::Failed { step, why } => json!({
            "event": "step", "step": step, "state": "failed", "why": why,
        }),
        Told::GoesBack { why } => json!({ "event": "goes_back", "why": why }),
        Told::Skipped { step } => json!({
            "event": "step", "step": step, "state": "skipped",
        }),
        Told::Finding(finding) => json!({
            "event": "finding", "verdict": finding.verdict, "subject": finding.subject,
            "message": finding.message, "advice": finding.advice,
        }),
        Told::Output { side, line } => json!({
            "event": "output", "side": side.noun(), "stderr": line.is_stderr, "text": line.text,
        }),
        Told::Event(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_a_json_line_with_its_name() {
        let began = Told::Began {
            step: Step::ProveStopped,
            number: 3,
            of: 9,
        };
        let value = json_of(&began).unwrap();
        assert_eq!(value["step"], "prove-stopped");
        assert_eq!(value["state"], "began");
        assert!(json_of(&Told::Event(Event::Note("x".into()))).is_none());
    }
}
