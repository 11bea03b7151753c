//! The observer for programs: one JSON object on each line, as `doc/json.md` documents them.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::entry::EntryKind;
use crate::error::{Error, ErrorClass};
use crate::events::{Action, Changes, ChurnKind, Event, Item, Phase, Summary};
use crate::path::{RelPath, escape};

use super::report::error_line;
use super::screen::Screen;
use super::totals::Totals;
use super::{Detail, View, lock};

/// The version of the lines: it grows when a field changes its meaning or goes, not when one is
/// added.
pub(super) const VERSION: u8 = 1;

/// The least time between two progress lines: a program that draws them needs no more.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Tells a program of a run.
pub(super) struct Json {
    view: View,
    screen: Arc<Screen>,
    pace: Mutex<Pace>,
}

#[derive(Default)]
struct Pace {
    totals: Totals,
    told: Option<Instant>,
}

#[derive(Serialize)]
struct Line<'a> {
    v: u8,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Body<'a> {
    Phase { phase: &'static str },
    Progress(ProgressLine),
    Item(ItemLine<'a>),
    Problem(ProblemLine<'a>),
    Churn(ChurnLine<'a>),
    Warning(&'a crate::events::Warning),
    Note { message: &'a str },
    Root(&'a crate::events::RootBegun),
    RootSummary(RootSummaryLine<'a>),
    Summary(SummaryLine),
    Error(ErrorLine),
}

#[derive(Serialize)]
struct ProgressLine {
    scanned_source: u64,
    scanned_destination: u64,
    planned_files: u64,
    planned_bytes: u64,
    plan_complete: bool,
    done_files: u64,
    done_bytes: u64,
}

/// A path in its printable form, and exactly where that form is not exact.
#[derive(Serialize)]
struct PathFields<'a> {
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base16: Option<String>,
}

/// The name that an entry was moved, copied or linked from.
#[derive(Serialize)]
struct OriginFields<'a> {
    from: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_base16: Option<String>,
}

#[derive(Serialize)]
pub(super) struct ItemLine<'a> {
    #[serde(flatten)]
    path: PathFields<'a>,
    kind: &'static str,
    action: &'static str,
    #[serde(flatten)]
    origin: Option<OriginFields<'a>>,
    new: bool,
    changes: Vec<&'static str>,
}

#[derive(Serialize)]
struct ProblemLine<'a> {
    side: &'static str,
    act: &'a str,
    #[serde(flatten)]
    path: PathFields<'a>,
    reason: &'a str,
    os_error: Option<i32>,
}

#[derive(Serialize)]
struct ChurnLine<'a> {
    #[serde(flatten)]
    path: PathFields<'a>,
    kind: &'static str,
}

#[derive(Serialize)]
struct RootSummaryLine<'a> {
    name: &'a str,
    #[serde(flatten)]
    numbers: serde_json::Map<String, serde_json::Value>,
    elapsed_ms: u64,
}

#[derive(Serialize)]
struct SummaryLine {
    #[serde(flatten)]
    numbers: serde_json::Map<String, serde_json::Value>,
    elapsed_ms: u64,
    exit_code: u8,
}

#[derive(Serialize)]
struct ErrorLine {
    class: &'static str,
    message: String,
    exit_code: u8,
}

impl Json {
    pub(super) fn new(view: View, screen: Arc<Screen>) -> Json {
        Json {
            view,
            screen,
            pace: Mutex::default(),
        }
    }

    /// Takes an event in.
    pub(super) fn take(&self, event: &Event) {
        let body = match event {
            Event::Phase(phase) => Body::Phase {
                phase: phase_word(*phase),
            },
            Event::Item(_) if !self.view.items => return,
            Event::Item(item) => Body::Item(item_line(item)),
            Event::Problem(_) | Event::Churn(_) | Event::Warning(_) => match fault(event) {
                Some(body) => body,
                None => return,
            },
            // A mirror has lines of its own.
            Event::Round(_) => return,
            Event::Note(_) if self.view.detail != Detail::Verbose => return,
            Event::Note(message) => Body::Note { message },
            Event::RootBegun(root) => {
                lock(&self.pace).totals.take(event);
                Body::Root(root)
            }
            Event::RootDone { name, summary } => Body::RootSummary(RootSummaryLine {
                name,
                numbers: numbers(summary),
                elapsed_ms: millis(summary.elapsed),
            }),
            Event::Scanned { .. }
            | Event::Planned { .. }
            | Event::Done { .. }
            | Event::Current(_) => match lock(&self.pace).due(event) {
                Some(line) => Body::Progress(line),
                None => return,
            },
        };
        self.write(body);
    }

    /// Writes the last line: the summary, or the error in its place. The error goes to standard
    /// error too: whoever only keeps the lines in a file shall see it.
    pub(super) fn close(&self, outcome: &Result<Summary, Error>, exit_code: u8) {
        match outcome {
            Ok(summary) => self.write(Body::Summary(summary_line(summary, exit_code))),
            Err(err) => {
                self.screen.err(&error_line(err, &self.view.act));
                self.write(Body::Error(ErrorLine {
                    class: class_word(err.class()),
                    message: err.to_string(),
                    exit_code,
                }));
            }
        }
    }

    fn write(&self, body: Body<'_>) {
        if let Some(text) = line(body) {
            self.screen.out(&text);
        }
    }
}

impl Pace {
    /// The totals, when it is time to tell them again.
    fn due(&mut self, event: &Event) -> Option<ProgressLine> {
        self.totals.take(event);
        let now = Instant::now();
        if self.told.is_some_and(|told| now - told < PROGRESS_INTERVAL) {
            return None;
        }
        self.told = Some(now);
        let totals = &self.totals;
        Some(ProgressLine {
            scanned_source: totals.scanned_source,
            scanned_destination: totals.scanned_destination,
            planned_files: totals.planned_files,
            planned_bytes: totals.planned_bytes,
            plan_complete: totals.plan_complete,
            done_files: totals.done_files,
            done_bytes: totals.done_bytes,
        })
    }
}

/// The printable form of a path and, where that differs from its bytes, the bytes in base 16.
fn path_forms(path: &RelPath) -> (Cow<'_, str>, Option<String>) {
    let bytes = path.as_bytes();
    if bytes.is_empty() {
        return (Cow::Borrowed("."), None);
    }
    match escape(bytes) {
        Cow::Borrowed(text) => (Cow::Borrowed(text), None),
        Cow::Owned(text) => {
            let base16 = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            (Cow::Owned(text), Some(base16))
        }
    }
}

impl<'a> PathFields<'a> {
    fn of(path: &'a RelPath) -> PathFields<'a> {
        let (path, path_base16) = path_forms(path);
        PathFields { path, path_base16 }
    }
}

impl<'a> OriginFields<'a> {
    fn of(path: &'a RelPath) -> OriginFields<'a> {
        let (from, from_base16) = path_forms(path);
        OriginFields { from, from_base16 }
    }
}

/// A line, with its end, of a command that has no run to observe.
pub(super) fn event_line(event: &str, body: impl Serialize) -> String {
    #[derive(Serialize)]
    struct Line<'a, T> {
        v: u8,
        event: &'a str,
        #[serde(flatten)]
        body: T,
    }
    let v = VERSION;
    // Strings, numbers and lists of them always serialize.
    serde_json::to_string(&Line { v, event, body }).unwrap_or_default() + "\n"
}

/// The line of one entry.
pub(super) fn item_json(item: &Item) -> String {
    line(Body::Item(item_line(item))).unwrap_or_default()
}

pub(super) fn item_line(item: &Item) -> ItemLine<'_> {
    let (action, origin) = match &item.action {
        Action::Transfer => ("transfer", None),
        Action::Create => ("create", None),
        Action::Attributes => ("attributes", None),
        Action::HardLink { to } => ("hard_link", Some(to)),
        Action::Move { from } => ("move", Some(from)),
        Action::CopyLocal { from } => ("copy_local", Some(from)),
        Action::Delete => ("delete", None),
    };
    ItemLine {
        path: PathFields::of(&item.path),
        kind: kind_word(item.kind),
        action,
        origin: origin.map(OriginFields::of),
        new: item.changes.new,
        changes: change_words(item.changes),
    }
}

fn summary_line(summary: &Summary, exit_code: u8) -> SummaryLine {
    SummaryLine {
        numbers: numbers(summary),
        elapsed_ms: millis(summary.elapsed),
        exit_code,
    }
}

/// The counts of a summary by their names.
pub(super) fn numbers(summary: &Summary) -> serde_json::Map<String, serde_json::Value> {
    match serde_json::to_value(summary) {
        Ok(serde_json::Value::Object(mut numbers)) => {
            // Milliseconds in one number are easier to read than the serialized pair.
            numbers.remove("elapsed");
            // No numbers. What they show, a mirror's round tells as `agreed`, verify as `differs`.
            numbers.remove("digest");
            numbers.remove("destination_digest");
            numbers
        }
        _ => serde_json::Map::new(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn change_words(changes: Changes) -> Vec<&'static str> {
    [
        (changes.content, "content"),
        (changes.size, "size"),
        (changes.time, "time"),
        (changes.perms, "perms"),
        (changes.owner, "owner"),
        (changes.group, "group"),
        (changes.acl, "acl"),
        (changes.xattr, "xattr"),
    ]
    .into_iter()
    .filter_map(|(differs, word)| differs.then_some(word))
    .collect()
}

fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Connecting => "connecting",
        Phase::Scanning => "scanning",
        Phase::Comparing => "comparing",
        Phase::Transferring => "transferring",
        Phase::Finishing => "finishing",
    }
}

fn kind_word(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Dir => "directory",
        EntryKind::Symlink => "symlink",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
        EntryKind::CharDevice => "char_device",
        EntryKind::BlockDevice => "block_device",
    }
}

fn churn_word(kind: ChurnKind) -> &'static str {
    match kind {
        ChurnKind::Changed => "changed",
        ChurnKind::Vanished => "vanished",
    }
}

/// The line of an event that tells of something wrong; `None` for the others.
pub(super) fn fault_line(event: &Event) -> Option<String> {
    fault(event).and_then(line)
}

fn fault(event: &Event) -> Option<Body<'_>> {
    Some(match event {
        Event::Problem(problem) => Body::Problem(ProblemLine {
            side: problem.side.noun(),
            act: &problem.act,
            path: PathFields::of(&problem.path),
            reason: &problem.reason,
            os_error: problem.os_error,
        }),
        Event::Churn(churn) => Body::Churn(ChurnLine {
            path: PathFields::of(&churn.path),
            kind: churn_word(churn.kind),
        }),
        Event::Warning(warning) => Body::Warning(warning),
        _ => return None,
    })
}

/// Strings, numbers and maps with string keys always serialize; were one not to, its line is missed
/// and the run is not.
fn line(body: Body<'_>) -> Option<String> {
    serde_json::to_string(&Line { v: VERSION, body }).ok()
}

pub(super) fn class_word(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Usage => "usage",
        ErrorClass::Failed => "failed",
        ErrorClass::Refused => "refused",
        ErrorClass::Connection => "connection",
        ErrorClass::Locked => "locked",
        ErrorClass::Interrupted => "interrupted",
    }
}
