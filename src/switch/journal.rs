//! The journal of a switch: what was begun and what ended, on the controlling side, durable before
//! the next step. A switch that died goes on from here, and a rollback knows what to undo.
//!
//! A file of JSON lines, `NAME-<hash of the plan's path>.jsonl` in the user's state directory:
//! first a [`Heading`], then a [`Record`] each. A line that a crash cut short counts as not
//! written: what it would have said had not begun, or ended unheard.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::frame::Frame;
use super::live::Live;
use super::report::Found;
use super::step::Step;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::fs::Places;
use crate::plan::{Loaded, Resolved};

/// The journal's own form; another one is not read.
const FORMAT: u32 = 1;

/// How much of a plan's name is in the names of files, in characters: what is kept, with what is
/// put at its end, must stay well below the 100 that a host takes.
const LONGEST_NAME: usize = 60;

/// Far more than a heading takes, in bytes.
const LONGEST_HEADING: u64 = 1 << 20;

/// What a journal begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heading {
    /// The form of the lines.
    pub format: u32,
    /// The plan's name.
    pub plan: String,
    /// The plan's file.
    pub file: PathBuf,
    /// Names this switch and what it keeps.
    pub id: String,
    /// When it began, in milliseconds since 1970.
    pub at_ms: u64,
    /// What a switch must not change its mind about on the way.
    pub frame: Frame,
}

/// One line: something happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// With which step; none where the switch as a whole came to its end.
    pub step: Option<Step>,
    /// What.
    pub what: What,
    /// What there is to say of it.
    pub text: Option<String>,
    /// What the step found, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A step begins.
    Began,
    /// It did what it should.
    Ended,
    /// It did not.
    Failed,
    /// The switch is through: the destination serves.
    Switched,
    /// It was undone: the source serves.
    RolledBack,
}

/// A journal that is open, and locked against a second switch of the same plan.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// How long the file is with its whole lines.
    bytes: u64,
    heading: Heading,
    records: Vec<Record>,
}

impl Journal {
    /// Begins a new switch. What an earlier one left is renamed, if it came to its end or did
    /// nothing that would have to be undone.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where an earlier one has not come to its end; [`Error::Locked`] where
    /// one is under way.
    pub fn create(loaded: &Loaded, resolved: &Resolved) -> Result<Journal> {
        let path = journal_path(loaded)?;
        if let Some(old) = Journal::find(loaded)? {
            old.refuse_anew(loaded)?;
            old.put_away()?;
        }
        let at_ms = now_ms();
        let heading = Heading {
            format: FORMAT,
            plan: loaded.plan.name.clone(),
            file: std::path::absolute(&loaded.path).unwrap_or_else(|_| loaded.path.clone()),
            id: id_of(&loaded.plan.name, at_ms),
            at_ms,
            frame: Frame::of(resolved),
        };
        let file = open_locked(&path, true)?.ok_or_else(|| taken(&path))?;
        let is_new = file.metadata().is_ok_and(|meta| meta.len() == 0);
        if !is_new {
            return Err(taken(&path));
        }
        let mut journal = Journal {
            path,
            file,
            bytes: 0,
            heading,
            records: Vec::new(),
        };
        let heading = journal.heading.clone();
        journal.append(&heading)?;
        // The file's name must be as durable as its lines.
        if let Some(dir) = journal.path.parent() {
            File::open(dir)
                .and_then(|dir| dir.sync_all())
                .map_err(|err| Error::io("write to disk", dir.as_os_str().as_bytes(), err))?;
        }
        Ok(journal)
    }

    /// Refuses a new switch while this one has something to go on with, or back from.
    fn refuse_anew(&self, loaded: &Loaded) -> Result<()> {
        let began = clock(self.heading.at_ms);
        let file = loaded.path.display();
        let changes_nothing =
            |record: &Record| matches!(record.step, Some(Step::Preflight | Step::WarmSync));
        match self.end() {
            None if self.records.iter().all(changes_nothing) => Ok(()),
            None => Err(Error::Refused(format!(
                "a switch of this plan began {began} and has not come to its end; go on with \
                 `cutover switch --resume {file}`, or back with `cutover rollback {file}`"
            ))),
            Some(What::Switched) => Err(Error::Refused(format!(
                "this plan was switched {began}: {}; `cutover rollback {file}` goes back to the \
                 source",
                self.live()
            ))),
            Some(_) => Ok(()),
        }
    }

    /// Opens what an earlier switch of the plan left.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where there is none; [`Error::Refused`] where the plan now means other
    /// hosts or roots than the switch began with; [`Error::Locked`] where one is under way.
    pub fn open(loaded: &Loaded, resolved: &Resolved) -> Result<Journal> {
        let Some(journal) = Journal::find(loaded)? else {
            return Err(Error::Usage(format!(
                "no switch of {} has begun",
                loaded.path.display()
            )));
        };
        if !journal.heading.frame.is_of(resolved) {
            return Err(Error::Refused(format!(
                "the hosts or roots of {} are not those that the switch began with {}, and {}; \
                 give the plan back the ones it had ({} has them in its first line)",
                loaded.path.display(),
                clock(journal.heading.at_ms),
                journal.live(),
                journal.path.display()
            )));
        }
        Ok(journal)
    }

    /// Looks for a journal.
    pub fn find(loaded: &Loaded) -> Result<Option<Journal>> {
        let path = journal_path(loaded)?;
        let failed = |err| Error::io("read the journal", path.as_os_str().as_bytes(), err);
        let Some(mut file) = open_locked(&path, false)? else {
            return Ok(None);
        };
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed)?;
        let whole = text
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        if whole < text.len() {
            // The next line must not be glued to the torn one.
            file.set_len(whole as u64).map_err(failed)?;
        }
        if whole == 0 {
            // It died before its first line: nothing had begun.
            return Ok(None);
        }
        let (heading, records) = read(&text[..whole]).map_err(|why| {
            Error::Failed(format!(
                "{} cannot be read as a journal: {why}. What its switch had done is in it for you \
                 to read; look which side runs, and move it away once nothing is to be undone",
                path.display()
            ))
        })?;
        Ok(Some(Journal {
            path,
            file,
            bytes: whole as u64,
            heading,
            records,
        }))
    }

    /// The names of earlier switches of the same plan, each of which came to its end.
    pub(super) fn earlier(&self) -> Vec<String> {
        let dir = self.path.parent().map(std::fs::read_dir);
        let names = dir.into_iter().flatten().flatten().flatten();
        names
            .filter_map(|name| {
                let mut first = String::new();
                let file = File::open(name.path()).ok()?;
                BufReader::new(file.take(LONGEST_HEADING))
                    .read_line(&mut first)
                    .ok()?;
                let heading: Heading = serde_json::from_str(&first).ok()?;
                let is_earlier = heading.file == self.heading.file && heading.id != self.heading.id;
                is_earlier.then_some(heading.id)
            })
            .collect()
    }

    /// Which side is live, as far as the journal tells.
    pub fn live(&self) -> Live {
        Live::after(&self.records, self.heading.frame.is_service())
    }

    /// What the switch was begun with.
    pub fn heading(&self) -> &Heading {
        &self.heading
    }

    /// What has happened so far.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Where the journal is; reports go beside it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How the switch came to its end, if it did.
    pub fn end(&self) -> Option<What> {
        let last = self.records.last()?.what;
        matches!(last, What::Switched | What::RolledBack).then_some(last)
    }

    /// The last that was heard of a step.
    pub fn last(&self, step: Step) -> Option<&Record> {
        self.records
            .iter()
            .rev()
            .find(|record| record.step == Some(step))
    }

    /// Whether a step was begun, however it went on.
    pub fn has_begun(&self, step: Step) -> bool {
        self.last(step).is_some()
    }

    /// Whether a step did what it should at any time, even where it was taken again since.
    pub(super) fn has_ever_ended(&self, step: Step) -> bool {
        let ended = |record: &Record| record.step == Some(step) && record.what == What::Ended;
        self.records.iter().any(ended)
    }

    /// Whether a step did what it should.
    pub fn has_ended(&self, step: Step) -> bool {
        self.last(step)
            .is_some_and(|record| record.what == What::Ended)
    }

    /// Writes down what happened, durably.
    pub fn note(&mut self, step: Option<Step>, what: What, text: Option<String>) -> Result<()> {
        self.note_found(step, what, text, None)
    }

    /// The same with what was found.
    pub(super) fn note_found(
        &mut self,
        step: Option<Step>,
        what: What,
        text: Option<String>,
        found: Option<Found>,
    ) -> Result<()> {
        let record = Record {
            at_ms: now_ms(),
            step,
            what,
            text,
            found,
        };
        self.append(&record)?;
        self.records.push(record);
        Ok(())
    }

    fn append(&mut self, line: &impl Serialize) -> Result<()> {
        let failed = |err| Error::io("write the journal", self.path.as_os_str().as_bytes(), err);
        let mut text = serde_json::to_vec(line).map_err(|err| failed(err.into()))?;
        text.push(b'\n');
        let written = (&self.file)
            .write_all(&text)
            .and_then(|()| self.file.sync_data());
        if let Err(err) = written {
            // Half a line, as a full disk leaves it, must not be glued to the next. Where even that
            // cannot be done, the journal says so when it is read.
            let _ = self.file.set_len(self.bytes);
            return Err(failed(err));
        }
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Renames a journal that nothing is to be done with any more.
    fn put_away(self) -> Result<()> {
        let name = format!("{}.jsonl", self.heading.id);
        std::fs::rename(&self.path, self.path.with_file_name(name))
            .map_err(|err| Error::io("rename the journal", self.path.as_os_str().as_bytes(), err))
    }
}

fn read(text: &[u8]) -> std::result::Result<(Heading, Vec<Record>), String> {
    let mut lines = text
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty());
    let first = lines.next().ok_or("it is empty")?;
    let heading: Heading =
        serde_json::from_slice(first).map_err(|err| format!("its first line: {err}"))?;
    if heading.format != FORMAT {
        return Err(format!("it has form {}, not {FORMAT}", heading.format));
    }
    let records = lines
        .enumerate()
        .map(|(at, line)| {
            serde_json::from_slice(line).map_err(|err| format!("line {}: {err}", at + 2))
        })
        .collect::<std::result::Result<_, _>>()?;
    Ok((heading, records))
}

/// Opens the journal and locks it; `None` where there is none and none is to be made.
fn open_locked(path: &Path, create: bool) -> Result<Option<File>> {
    let failed = |err| Error::io("open the journal", path.as_os_str().as_bytes(), err);
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(create).mode(0o600);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound && !create => return Ok(None),
        Err(err) => return Err(failed(err)),
    };
    let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
    // Any other failure is that of a filesystem without locks: then there is none to break either.
    if locked == Err(rustix::io::Errno::WOULDBLOCK) {
        return Err(taken(path));
    }
    // Another process may have put it away between the two calls.
    let is_there = std::fs::metadata(path).and_then(|there| {
        let ours = file.metadata()?;
        Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino()))
    });
    match is_there {
        Ok(true) => Ok(Some(file)),
        _ => Err(taken(path)),
    }
}

fn taken(path: &Path) -> Error {
    Error::Locked(format!(
        "a switch or rollback of this plan is under way ({} is locked); wait for it, or stop it",
        path.display()
    ))
}

/// Where the journals are, and the reports beside them: `cutover/switch` in the user's state
/// directory, made if it is not there.
pub fn reports_dir() -> Result<PathBuf> {
    let base = Places::of_user().state.ok_or_else(|| {
        Error::Usage(
            "neither XDG_STATE_HOME nor HOME is set, so there is no place for the journal; set \
             one of them"
                .to_string(),
        )
    })?;
    let dir = base.join("cutover/switch");
    std::fs::create_dir_all(&dir)
        .map_err(|err| Error::io("create", dir.as_os_str().as_bytes(), err))?;
    Ok(dir)
}

fn journal_path(loaded: &Loaded) -> Result<PathBuf> {
    let place = loaded
        .path
        .canonicalize()
        .map_err(|err| Error::io("find", loaded.path.as_os_str().as_bytes(), err))?;
    let hash = Digest::of(place.as_os_str().as_bytes()).to_string();
    let name: String = loaded.plan.name.chars().take(LONGEST_NAME).collect();
    Ok(reports_dir()?.join(format!("{name}-{}.jsonl", &hash[..8])))
}

/// Now, in milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // A clock before 1970 is no reason to stop.
    since.map_or(0, |since| since.as_millis() as u64)
}

/// A time for people: `2026-11-22T21:15:00Z`.
pub(super) fn clock(at_ms: u64) -> String {
    let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(at_ms);
    humantime::format_rfc3339_seconds(at).to_string()
}

/// Names a switch and what it keeps: letters, digits, `-` and `_`, and not too many of them.
fn id_of(plan: &str, at_ms: u64) -> String {
    let plan: String = plan.replace('.', "_").chars().take(LONGEST_NAME).collect();
    format!("{plan}-{}", clock(at_ms).replace(['-', ':'], ""))
}
