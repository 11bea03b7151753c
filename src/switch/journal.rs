//! The journal of a switch: what was begun and what ended, on the controlling side, durable before
//! the next step. A switch that died goes on from here, and a rollback knows what to undo.
//!
//! A file of JSON lines, `NAME-<hash of the plan's path>.jsonl` in the user's state directory:
//! first a [`Heading`], then a [`Record`] each. A line that a crash cut short counts as not
//! written: what it would have said had not begun, or ended unheard.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::step::Step;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::plan::Loaded;
use crate::plan::model::{End, Plan, Root};

/// The journal's own form; another one is not read.
const FORMAT: u32 = 1;

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

/// The parts of a plan that stay as they were when the switch began. The others, commands and
/// checks, may be mended before it goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    source: End,
    destination: End,
    roots: Vec<Root>,
}

impl Frame {
    fn of(plan: &Plan) -> Frame {
        Frame {
            source: plan.source.clone(),
            destination: plan.destination.clone(),
            roots: plan.roots.clone(),
        }
    }
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
    heading: Heading,
    records: Vec<Record>,
}

impl Journal {
    /// Begins a new switch. What an earlier one that came to its end left is renamed.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where an earlier one has not come to its end; [`Error::Locked`] where
    /// one is under way.
    pub fn create(loaded: &Loaded) -> Result<Journal> {
        let path = journal_path(loaded)?;
        if let Some(old) = Journal::find(loaded)? {
            match old.end() {
                None => {
                    return Err(Error::Refused(format!(
                        "a switch of this plan began {} and has not come to its end; \
                         go on with `cutover switch --resume {file}`, or back with \
                         `cutover rollback {file}`",
                        clock(old.heading.at_ms),
                        file = loaded.path.display()
                    )));
                }
                Some(What::Switched) => {
                    return Err(Error::Refused(format!(
                        "this plan was switched {}: the destination is the live side; \
                         `cutover rollback {}` goes back to the source",
                        clock(old.heading.at_ms),
                        loaded.path.display()
                    )));
                }
                Some(_) => old.put_away()?,
            }
        }
        let at_ms = now_ms();
        let heading = Heading {
            format: FORMAT,
            plan: loaded.plan.name.clone(),
            file: std::path::absolute(&loaded.path).unwrap_or_else(|_| loaded.path.clone()),
            id: format!(
                "{}-{}",
                loaded.plan.name.replace('.', "_"),
                compact_clock(at_ms)
            ),
            at_ms,
            frame: Frame::of(&loaded.plan),
        };
        let failed = |err| Error::io("create the journal", path.as_os_str().as_bytes(), err);
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        lock(&file, &path)?;
        let mut journal = Journal {
            path,
            file,
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

    /// Opens what an earlier switch of the plan left.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where there is none; [`Error::Refused`] where the plan now names other
    /// hosts or roots than the switch began with; [`Error::Locked`] where one is under way.
    pub fn open(loaded: &Loaded) -> Result<Journal> {
        let Some(journal) = Journal::find(loaded)? else {
            return Err(Error::Usage(format!(
                "no switch of {} has begun",
                loaded.path.display()
            )));
        };
        if journal.heading.frame != Frame::of(&loaded.plan) {
            return Err(Error::Refused(format!(
                "the hosts or roots in {} are not those that the switch began with {}; \
                 give the plan back the ones it had",
                loaded.path.display(),
                clock(journal.heading.at_ms)
            )));
        }
        Ok(journal)
    }

    /// Looks for a journal.
    pub fn find(loaded: &Loaded) -> Result<Option<Journal>> {
        let path = journal_path(loaded)?;
        let failed = |err| Error::io("read the journal", path.as_os_str().as_bytes(), err);
        let mut file = match OpenOptions::new().read(true).append(true).open(&path) {
            Ok(file) => file,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(failed(err)),
        };
        lock(&file, &path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed)?;
        let whole = text
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        if whole < text.len() {
            // The next line must not be glued to the torn one.
            file.set_len(whole as u64).map_err(failed)?;
            file.seek(SeekFrom::End(0)).map_err(failed)?;
        }
        if whole == 0 {
            // It died before its first line: nothing had begun.
            std::fs::remove_file(&path).map_err(failed)?;
            return Ok(None);
        }
        let (heading, records) = read(&text[..whole])
            .map_err(|why| failed(io::Error::new(io::ErrorKind::InvalidData, why)))?;
        Ok(Some(Journal {
            path,
            file,
            heading,
            records,
        }))
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

    /// Whether a step did what it should.
    pub fn has_ended(&self, step: Step) -> bool {
        self.last(step)
            .is_some_and(|record| record.what == What::Ended)
    }

    /// Writes down what happened, durably.
    pub fn note(&mut self, step: Option<Step>, what: What, text: Option<String>) -> Result<()> {
        let record = Record {
            at_ms: now_ms(),
            step,
            what,
            text,
        };
        self.append(&record)?;
        self.records.push(record);
        Ok(())
    }

    fn append(&mut self, line: &impl Serialize) -> Result<()> {
        let failed = |err| Error::io("write the journal", self.path.as_os_str().as_bytes(), err);
        let mut text = serde_json::to_vec(line).map_err(|err| failed(err.into()))?;
        text.push(b'\n');
        (&self.file).write_all(&text).map_err(failed)?;
        self.file.sync_data().map_err(failed)
    }

    /// Renames a journal that came to its end.
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

fn lock(file: &File, path: &Path) -> Result<()> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked(format!(
            "a switch or rollback of this plan is under way ({} is locked); wait for it, or stop it",
            path.display()
        ))),
        // A filesystem without locks: then there is none to break either.
        _ => Ok(()),
    }
}

/// Where the journals are, and the reports beside them: `cutover/switch` in the user's state
/// directory, made if it is not there.
pub fn reports_dir() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))
        .ok_or_else(|| {
            Error::Usage(
                "neither XDG_STATE_HOME nor HOME is set, so there is no place for the journal; \
                 set one of them"
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
    Ok(reports_dir()?.join(format!("{}-{}.jsonl", loaded.plan.name, &hash[..8])))
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

/// The same for names of files.
fn compact_clock(at_ms: u64) -> String {
    clock(at_ms).replace(['-', ':'], "")
}
