//! What a mirror says while it runs: a line for what happened, to people, to the journal or as JSON.
//! What it says again and again, like the same warning in each round, it says once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::itemize::{Direction, Extraneous, Itemizer};
use super::report::{churn_line, problem_line, warning_line};
use super::screen::Screen;
use super::{Detail, Format, human, printable};
use crate::digest::Digest;
use crate::error::Error;
use crate::events::{Event, RoundEvent, Summary, WatchMeans};
use crate::mirror::MirrorObserver;
use crate::mirror::service::{Level, LogStyle};

/// So many different lines are remembered as said; then they may be said again.
const MOST_SAID: usize = 10_000;

/// How a mirror is watched.
#[derive(Clone, Copy, Debug)]
pub struct MirrorView {
    /// Whom for.
    pub format: Format,
    /// How much is said.
    pub detail: Detail,
    /// Whether each changed entry gets a line.
    pub items: bool,
    /// Which way content goes.
    pub direction: Direction,
    /// Whether a root's name is said with what happens to it.
    pub names_roots: bool,
}

/// Who says it.
pub struct MirrorUi {
    view: MirrorView,
    screen: Arc<Screen>,
    style: LogStyle,
    itemizer: Itemizer,
    said: Mutex<HashSet<Digest>>,
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    v: u32,
    root: &'a str,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Body<'a> {
    Watching {
        means: WatchMeans,
        directories: u64,
    },
    Round {
        full: bool,
        agreed: Option<String>,
        #[serde(flatten)]
        numbers: serde_json::Map<String, serde_json::Value>,
        elapsed_ms: u64,
    },
    Waiting {
        reason: String,
        pause_ms: u64,
    },
    Connected,
    Missed {
        directories: u64,
    },
    Overflowed,
    Drift {
        directories: Vec<String>,
        total: u64,
    },
    Torn {
        databases: Vec<String>,
    },
    Fault {
        message: &'a str,
    },
    Item(super::json::ItemLine<'a>),
}

impl MirrorUi {
    /// Says it on standard output and standard error.
    pub fn open(view: MirrorView) -> MirrorUi {
        MirrorUi {
            view,
            screen: Arc::new(Screen::stdio(None, None)),
            style: LogStyle::of_stderr(),
            itemizer: Itemizer {
                direction: view.direction,
                extraneous: Extraneous::Deleted,
            },
            said: Mutex::default(),
        }
    }

    /// Says something of the mirror as a whole.
    pub fn say(&self, level: Level, text: &str) {
        let is_wanted = match self.view.detail {
            Detail::Quiet => level == Level::Error,
            Detail::Normal | Detail::Verbose => true,
        };
        if is_wanted {
            let text = self.style.written(level, &printable(text));
            self.screen.err(text.trim_end_matches('\n'));
        }
    }

    fn say_of(&self, root: &str, level: Level, text: &str) {
        match self.view.names_roots {
            true => self.say(level, &format!("{root}: {text}")),
            false => self.say(level, text),
        }
    }

    /// Says a fault, unless it has been said and nothing has changed about it.
    fn say_once(&self, root: &str, level: Level, text: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= MOST_SAID {
            said.clear();
        }
        if !said.insert(Digest::of(format!("{root}\0{text}").as_bytes())) {
            return;
        }
        drop(said);
        match self.view.format {
            Format::Json => self.json(root, Body::Fault { message: text }),
            Format::People => self.say_of(root, level, text),
        }
    }

    fn json(&self, root: &str, body: Body<'_>) {
        // Strings, numbers and maps with string keys always serialize.
        if let Ok(line) = serde_json::to_string(&Line { v: 1, root, body }) {
            self.screen.out(&line);
        }
    }

    fn round(&self, root: &str, event: &RoundEvent) {
        match self.view.format {
            Format::Json => {
                if let Some(body) = body(event) {
                    self.json(root, body);
                }
            }
            Format::People => {
                if let Some((level, text)) = self.text(event) {
                    self.say_of(root, level, &text);
                }
            }
        }
    }

    fn text(&self, event: &RoundEvent) -> Option<(Level, String)> {
        Some(match event {
            RoundEvent::Watching { means, directories } if self.is_verbose() => {
                let text = match means {
                    WatchMeans::Inotify => format!(
                        "watching {}",
                        human::counted(*directories, "directory", "directories")
                    ),
                    WatchMeans::Interval => "reading the source from time to time".to_owned(),
                };
                (Level::Info, text)
            }
            RoundEvent::Ended {
                summary,
                full,
                agreed,
            } => {
                let text = done(summary);
                if text.is_none() && !(*full && self.is_verbose()) {
                    return None;
                }
                let text = text.unwrap_or_else(|| "nothing to bring over".to_owned());
                let state = match (agreed, summary.destination_digest) {
                    (None, Some(_)) => "; the two sides are not the same yet",
                    // Of a first copy into nothing the next round knows.
                    (Some(_), _) | (_, None) => "",
                };
                let time = human::elapsed(summary.elapsed);
                (Level::Info, format!("{text} in {time}{state}"))
            }
            RoundEvent::Missed(dirs) => (
                Level::Notice,
                format!(
                    "found changes in {} that the watch had not told of",
                    human::counted(*dirs, "directory", "directories")
                ),
            ),
            RoundEvent::Overflowed => (
                Level::Notice,
                "more changed at once than the kernel keeps count of: everything is read again \
                 (fs.inotify.max_queued_events could be higher)"
                    .to_owned(),
            ),
            RoundEvent::Drift { total: 0, .. } => (
                Level::Notice,
                "the standby is as the mirror left it again".to_owned(),
            ),
            RoundEvent::Drift { dirs, total } => {
                let first: Vec<_> = dirs.iter().take(3).map(shown).collect();
                let more = if *total > 3 { ", ..." } else { "" };
                (
                    Level::Warning,
                    format!(
                        "others have changed the standby in {}: {}{more}",
                        human::counted(*total, "directory", "directories"),
                        first.join(", "),
                    ),
                )
            }
            RoundEvent::Torn(databases) if !databases.is_empty() => (
                Level::Notice,
                format!(
                    "written to while copied, so not consistent yet: {}",
                    databases.iter().map(shown).collect::<Vec<_>>().join(", ")
                ),
            ),
            RoundEvent::Watching { .. }
            | RoundEvent::Lacking(_)
            | RoundEvent::Began { .. }
            | RoundEvent::Torn(_)
            | RoundEvent::Root(_)
            | RoundEvent::Generations(_) => return None,
        })
    }

    fn is_verbose(&self) -> bool {
        self.view.detail == Detail::Verbose
    }
}

impl MirrorObserver for MirrorUi {
    fn observe(&self, root: &str, event: &Event) {
        match event {
            Event::Item(item) if self.view.items => match self.view.format {
                Format::People => self.screen.out(&self.itemizer.line(item)),
                Format::Json => self.json(root, Body::Item(super::json::item_line(item))),
            },
            Event::Problem(problem) => {
                self.say_once(root, Level::Error, &problem_line(problem));
            }
            Event::Churn(churn) => self.say_once(root, Level::Notice, &churn_line(churn)),
            Event::Warning(warning) => {
                self.say_once(root, Level::Warning, &warning_line(warning));
            }
            Event::Note(note) if self.is_verbose() => self.say_once(root, Level::Info, note),
            Event::Round(RoundEvent::Generations(known)) if self.is_verbose() => {
                if let Some(newest) = known.first() {
                    self.say_once(root, Level::Info, &format!("kept generation {}", newest.id));
                }
            }
            Event::Round(event) => self.round(root, event),
            _ => {}
        }
    }

    fn waits(&self, root: &str, reason: &Error, pause: Duration) {
        match self.view.format {
            Format::Json => self.json(
                root,
                Body::Waiting {
                    reason: reason.to_string(),
                    pause_ms: millis(pause),
                },
            ),
            Format::People => self.say_of(
                root,
                Level::Warning,
                &format!("{reason}; trying again in {}", human::elapsed(pause)),
            ),
        }
    }

    fn goes_on(&self, root: &str) {
        match self.view.format {
            Format::Json => self.json(root, Body::Connected),
            Format::People => self.say_of(root, Level::Notice, "the mirror goes on"),
        }
    }
}

fn body(event: &RoundEvent) -> Option<Body<'_>> {
    Some(match event {
        RoundEvent::Watching { means, directories } => Body::Watching {
            means: *means,
            directories: *directories,
        },
        RoundEvent::Ended {
            summary,
            full,
            agreed,
        } => Body::Round {
            full: *full,
            agreed: agreed.map(|digest| digest.to_string()),
            numbers: super::json::numbers(summary),
            elapsed_ms: millis(summary.elapsed),
        },
        RoundEvent::Missed(directories) => Body::Missed {
            directories: *directories,
        },
        RoundEvent::Overflowed => Body::Overflowed,
        RoundEvent::Drift { dirs, total } => Body::Drift {
            directories: dirs.iter().map(shown).collect(),
            total: *total,
        },
        RoundEvent::Torn(databases) => Body::Torn {
            databases: databases.iter().map(shown).collect(),
        },
        RoundEvent::Lacking(_)
        | RoundEvent::Began { .. }
        | RoundEvent::Root(_)
        | RoundEvent::Generations(_) => return None,
    })
}

/// What a round did, in a few words; `None` where there was nothing to do.
fn done(summary: &Summary) -> Option<String> {
    let files = summary.files_sent + summary.files_patched;
    let parts = [
        (files, "file", "files", "sent"),
        (summary.created, "entry", "entries", "made"),
        (summary.attributes_set, "entry", "entries", "set"),
        (summary.hard_linked, "name", "names", "linked"),
        (summary.moved, "entry", "entries", "moved"),
        (summary.copied_locally, "file", "files", "copied there"),
        (summary.deleted, "entry", "entries", "deleted"),
    ];
    let told: Vec<_> = parts
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, one, many, what)| match what {
            "sent" => format!(
                "{} sent ({})",
                human::counted(count, one, many),
                human::bytes(summary.changed_bytes)
            ),
            what => format!("{} {what}", human::counted(count, one, many)),
        })
        .collect();
    (!told.is_empty()).then(|| told.join(", "))
}

fn shown(path: &crate::path::RelPath) -> String {
    match path.is_root() {
        true => ".".to_owned(),
        false => path.to_string(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
