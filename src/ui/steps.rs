//! What is shown of a switch: a line when a step begins, what its commands write, a line when it
//! ended, and the report.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::human;
use super::progress::{Meter, Progress};
use super::report::{churn_line, problem_line, warning_line};
use super::screen::Screen;
use super::{Detail, Format, Output, ShowProgress, lock, printable};
use crate::events::Event;
use crate::plan::{Finding, Verdict};
use crate::switch::{Report, Told, Watch};

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

    /// Shows the report at the end. Returns what became of the output.
    pub fn close(&self, report: &Report) -> Output {
        self.end_progress();
        match self.format {
            Format::Json => self.screen.out(&line(&json!({
                "type": "report",
                "report": report,
            }))),
            Format::People if self.detail != Detail::Quiet => self.tell_report(report),
            Format::People => {}
        }
        self.screen.output()
    }

    fn tell_report(&self, report: &Report) {
        for check in &report.checks {
            let sign = if check.holds { "ok  " } else { "FAIL" };
            self.say(&format!("{sign}  {}: {}", check.name, check.said));
        }
        for root in &report.roots {
            let Some(entries) = root.entries else {
                continue;
            };
            let size = human::bytes(root.bytes.unwrap_or_default());
            let digest = root.digest.as_deref().unwrap_or("not compared");
            self.say(&format!(
                "{}: {}, {size}, digest {digest}",
                root.name,
                human::entries(entries)
            ));
        }
        self.say(&format!("{}.", capitalised(&report.live.to_string())));
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
                self.say(&format!("        {}", finding_line(finding)));
            }
            Told::Output { side, line } => {
                self.say(&format!("        {} | {}", side.noun(), line.text));
            }
            // The error tells it, with what can be done.
            Told::Failed { .. } | Told::Finding(_) => {}
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
                if let Some(value) = json_of(&told) {
                    self.screen.out(&line(&value));
                }
            }
            Format::People if self.detail == Detail::Quiet => {}
            Format::People => self.tell(&told),
        }
    }
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

fn line(value: &Value) -> String {
    value.to_string()
}

/// A JSON line; the engine's events other than faults are left out, they would be thousands.
fn json_of(told: &Told) -> Option<Value> {
    Some(match told {
        Told::Began { step, number, of } => json!({
            "type": "step", "step": step, "state": "began", "number": number, "of": of,
        }),
        Told::Ended {
            step,
            note,
            elapsed,
        } => json!({
            "type": "step", "step": step, "state": "ended", "note": note,
            "elapsed_ms": elapsed.as_millis() as u64,
        }),
        Told::Failed { step, why } => json!({
            "type": "step", "step": step, "state": "failed", "why": why,
        }),
        Told::Skipped { step } => json!({
            "type": "step", "step": step, "state": "skipped",
        }),
        Told::Finding(finding) => json!({ "type": "finding", "finding": finding }),
        Told::Output { side, line } => json!({
            "type": "output", "side": side.noun(), "stderr": line.is_stderr, "text": line.text,
        }),
        Told::Event(Event::Problem(problem)) => json!({
            "type": "problem", "text": problem_line(problem),
        }),
        Told::Event(Event::Churn(churn)) => json!({
            "type": "churn", "text": churn_line(churn),
        }),
        Told::Event(Event::Warning(warning)) => json!({
            "type": "warning", "text": warning_line(warning),
        }),
        Told::Event(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::Step;

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
