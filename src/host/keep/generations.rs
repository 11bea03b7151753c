//! Generations: states of a root that are kept by a rule, while it is mirrored, and that nothing can
//! be written to. They are on the shelf beside the states that switches keep, told apart by their
//! names alone: `gen-20261123-014500`, the time in UTC.

mod compare;
mod fetch;
mod restore;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::root::{self, Root};
use super::earlier::Earlier;
use super::make::{self, Form};
use super::shelf::{self, BACK, Shelf, Step};
use crate::apply::RootLock;
use crate::error::{Error, Result};
use crate::events::Cancel;
use crate::fs::Dir;
use crate::path::escape;
use crate::protocol::errand::{
    Generation, GenerationsAnswer, GenerationsErrand, KeepMeans, Made, Shelved,
};
use crate::retention::Rule;

/// How the name of a generation begins. What follows is no name that a switch gives: a plan may be
/// called `gen`, but its switches have a `T` in their times.
const MADE: &str = "gen-";

/// How the name of what a restore replaced begins; the time follows.
const REPLACED: &str = "replaced-";

/// The last time that can be written with four digits for the year.
const LAST_SECOND: u64 = 253_402_300_799;

/// How many ids an error names.
const MOST_NAMED: usize = 12;

/// Makes a generation of a root if the rule says that one is due, and then lets go of those that it
/// has no use for. The caller holds the root's lock, and nothing else writes to the root meanwhile.
///
/// # Errors
///
/// Why none could be made, or why an old one could not be removed; [`Error::Interrupted`] once
/// `cancel` says so. What was there is still there, and half a generation is none.
pub(crate) fn make_if_due(
    dir: &Dir,
    path: &Path,
    rule: &Rule,
    now: SystemTime,
    cancel: &Cancel,
) -> Result<Option<Made>> {
    let root = pinned(dir, path)?;
    let there = list(dir, path)?.generations;
    let times: Vec<_> = there.iter().map(made_at).collect();
    if !rule.is_due(&times, now) {
        return Ok(None);
    }
    let shelf = Shelf::create(&root)?;
    shelf.refuse_interrupted(None)?;
    shelf.sweep(is_ours)?;
    let id = id_at(MADE, now);
    let earlier = there.iter().find(|other| other.means == KeepMeans::Reflink);
    let earlier = earlier.and_then(|other| Earlier::open(&shelf, &other.id, other.made_s).ok());
    let state = shelf.add(&id, |partial| {
        let how = (KeepMeans::Auto, Form::Frozen);
        make::make(&root, partial, how, earlier, cancel)
    })?;
    shelf.freeze(&id)?;
    Ok(Some(Made {
        generation: Generation {
            made_s: seconds(now),
            means: state.means,
            entries: state.entries,
            id,
        },
        pruned: prune(&shelf, rule, now)?,
    }))
}

/// The generations of a root, and what restoring them replaced. It needs no lock.
///
/// # Errors
///
/// What cannot be read, or is not trusted because others can write to it.
pub(crate) fn list(dir: &Dir, path: &Path) -> Result<Shelved> {
    let root = pinned(dir, path)?;
    match Shelf::open(&root)? {
        Some(shelf) => listed(&shelf),
        None => Ok(Shelved::default()),
    }
}

/// Does what was asked about the generations of a root.
pub(in crate::host) fn answer(
    errand: &GenerationsErrand,
    cancel: &Cancel,
) -> Result<GenerationsAnswer> {
    match errand {
        GenerationsErrand::Make { root, rule } => {
            let Root { dir, path } = root::opened(root)?;
            let _lock = RootLock::exclusive(&dir, &path)?;
            make_if_due(&dir, &path, rule, SystemTime::now(), cancel).map(GenerationsAnswer::Made)
        }
        GenerationsErrand::List { root } => {
            let root = root::opened(root)?;
            list(&root.dir, &root.path).map(GenerationsAnswer::Listed)
        }
        GenerationsErrand::Compare { root, id, with } => {
            let root = root::opened(root)?;
            compare::compare(&root, id, with.as_deref(), cancel).map(GenerationsAnswer::Compared)
        }
        GenerationsErrand::Restore {
            root,
            id,
            paths,
            to,
        } => {
            let root = root::opened(root)?;
            let recovered = match (&paths[..], to) {
                ([], None) => restore::whole(&root, id, cancel),
                (paths, None) => restore::in_place(&root, id, paths, cancel),
                (paths, Some(to)) => restore::elsewhere(&root, id, paths, to, cancel),
            };
            recovered.map(GenerationsAnswer::Restored)
        }
    }
}

/// Whether a name is one that only generations, and what belongs to them, have.
pub(super) fn is_ours(id: &str) -> bool {
    let id = id.strip_suffix(shelf::REPLACED).unwrap_or(id);
    let id = id.strip_suffix(BACK).unwrap_or(id);
    time_of(MADE, id)
        .or_else(|| time_of(REPLACED, id))
        .is_some()
}

/// What is on a shelf, without what is damaged: that can neither be used nor is it ours to remove.
fn listed(shelf: &Shelf<'_>) -> Result<Shelved> {
    let mut shelved = Shelved::default();
    for id in shelf.names()? {
        let (list, made) = match (time_of(MADE, &id), time_of(REPLACED, &id)) {
            (Some(made), _) => (&mut shelved.generations, made),
            (None, Some(made)) => (&mut shelved.replaced, made),
            (None, None) => continue,
        };
        if let Ok(Some(state)) = shelf.state(&id)
            && state.step == Step::Kept
        {
            list.push(Generation {
                id,
                made_s: seconds(made),
                means: state.means,
                entries: state.entries,
            });
        }
    }
    for list in [&mut shelved.generations, &mut shelved.replaced] {
        list.sort_by(|a, b| b.id.cmp(&a.id));
    }
    Ok(shelved)
}

/// Lets go of what the rule has no use for, but for what is being read.
fn prune(shelf: &Shelf<'_>, rule: &Rule, now: SystemTime) -> Result<Vec<String>> {
    let generations = listed(shelf)?.generations;
    let made: Vec<_> = generations.iter().map(made_at).collect();
    let mut pruned = Vec::new();
    for index in rule.prune(&made, now) {
        let id = &generations[index].id;
        let _unread = match RootLock::exclusive(&shelf.folder(id)?, &shelf.path(id)) {
            // It goes the next time.
            Err(Error::Locked(_)) => continue,
            lock => lock?,
        };
        shelf.remove(id)?;
        pruned.push(id.clone());
    }
    Ok(pruned)
}

/// The shelf of a root that has this generation.
fn shelf_with<'a>(root: &'a Root, id: &str) -> Result<Shelf<'a>> {
    let shelf = Shelf::open(root)?;
    let shelved = match &shelf {
        Some(shelf) => listed(shelf)?,
        None => Shelved::default(),
    };
    let mut known = shelved.generations.iter().chain(&shelved.replaced);
    match shelf {
        Some(shelf) if known.any(|known| known.id == id) => Ok(shelf),
        _ => Err(unknown(root, id, &shelved)),
    }
}

fn unknown(root: &Root, id: &str, shelved: &Shelved) -> Error {
    let known = shelved.generations.iter().chain(&shelved.replaced);
    let mut ids: Vec<_> = known.map(|known| known.id.as_str()).collect();
    let more = ids.len().saturating_sub(MOST_NAMED);
    ids.truncate(MOST_NAMED);
    let has = match (ids.is_empty(), more) {
        (true, _) => "it has none".to_string(),
        (false, 0) => format!("it has {}", ids.join(", ")),
        (false, more) => format!("it has {}, and {more} older ones", ids.join(", ")),
    };
    let id = escape(id.as_bytes());
    Error::Usage(format!("{} has no generation {id}: {has}", root.shown()))
}

fn pinned(dir: &Dir, path: &Path) -> Result<Root> {
    let dir = dir
        .try_clone()
        .map_err(|err| Error::io("open", path.as_os_str().as_encoded_bytes(), err))?;
    Ok(Root {
        dir,
        path: path.to_path_buf(),
    })
}

fn made_at(generation: &Generation) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(generation.made_s)
}

fn seconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs().min(LAST_SECOND)
}

/// The name of what is made at a time.
fn id_at(begin: &str, at: SystemTime) -> String {
    let at = UNIX_EPOCH + Duration::from_secs(seconds(at));
    let at = humantime::format_rfc3339_seconds(at).to_string();
    let at = at.replace(['-', ':', 'Z'], "").replace('T', "-");
    format!("{begin}{at}")
}

/// When what has this name was made; `None` where the name is another one.
fn time_of(begin: &str, id: &str) -> Option<SystemTime> {
    let (day, time) = id.strip_prefix(begin)?.split_once('-')?;
    let part = |text: &str, from, to| text.get(from..to).map(str::to_string);
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(day, 0, 4)?,
        part(day, 4, 6)?,
        part(day, 6, 8)?,
        part(time, 0, 2)?,
        part(time, 2, 4)?,
        part(time, 4, 6)?,
    );
    let at = humantime::parse_rfc3339(&text).ok()?;
    // Only as we write it: not what is longer, and no month 13.
    (id_at(begin, at) == id).then_some(at)
}

#[cfg(test)]
mod tests;
