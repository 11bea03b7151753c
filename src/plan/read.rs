//! Reading a plan's file: from text to a [`Plan`] that makes sense, or all that is wrong with it,
//! each with its place and what may have been meant.

mod sense;
mod shape;

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::model::Plan;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::path::escape;

/// The longest file that is taken for a plan: thousands of roots fit, and a device or an archive
/// named by mistake is not read into memory.
const MAX_BYTES: u64 = 1 << 20;

/// So many faults are told; whoever mends them sees the rest.
const MOST_FAULTS: usize = 50;

/// A plan that was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub plan: Plan,
    /// Its file.
    pub path: PathBuf,
    /// The digest of the file's bytes: a plan that was edited is another.
    pub digest: Digest,
}

/// Reads the plan in the file at `path`.
///
/// # Errors
///
/// [`Error::Usage`] with all that is wrong with it, a line each: `FILE:LINE:COLUMN: what`.
pub fn load(path: &Path) -> Result<Loaded> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|err| Error::Usage(format!("cannot read the plan {}: {err}", shown(path))))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::Usage(format!(
            "{} is longer than {} MiB, and no plan",
            shown(path),
            MAX_BYTES >> 20
        )));
    }
    load_bytes(path, &bytes)
}

/// Reads a plan from the content of its file; `path` is what messages call it.
///
/// # Errors
///
/// As [`load`].
pub fn load_bytes(path: &Path, bytes: &[u8]) -> Result<Loaded> {
    let plan = match std::str::from_utf8(bytes) {
        Ok(text) => read(text).map_err(|faults| tell(path, text, faults))?,
        Err(err) => {
            let (text, _) = bytes.split_at(err.valid_up_to());
            let fault = Fault::new(text.len(), "this is not UTF-8, as TOML is");
            return Err(tell(path, &String::from_utf8_lossy(text), vec![fault]));
        }
    };
    Ok(Loaded {
        plan,
        path: path.to_path_buf(),
        digest: Digest::of(bytes),
    })
}

/// Something wrong with a plan.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    /// Where in the text, in bytes.
    at: usize,
    what: String,
}

impl Fault {
    fn new(at: usize, what: impl Into<String>) -> Fault {
        let what = what.into();
        Fault { at, what }
    }
}

fn read(text: &str) -> Result<Plan, Vec<Fault>> {
    let document = DeTable::parse(text).map_err(|err| vec![fault_of(&err)])?;
    let document = DeValue::Table(document.into_inner());
    none(shape::nuls(&document))?;
    none(shape::faults(&document))?;
    let plan: Plan = toml::from_str(text).map_err(|err| vec![fault_of(&err)])?;
    none(sense::faults(&plan, &document))?;
    Ok(plan)
}

fn none(faults: Vec<Fault>) -> Result<(), Vec<Fault>> {
    match faults.is_empty() {
        true => Ok(()),
        false => Err(faults),
    }
}

fn fault_of(err: &toml::de::Error) -> Fault {
    let at = err.span().map_or(0, |span| span.start);
    Fault::new(at, err.message().replace('\n', ", "))
}

/// The faults as one error, in the order of the file.
fn tell(path: &Path, text: &str, mut faults: Vec<Fault>) -> Error {
    faults.sort_by_key(|fault| fault.at);
    let file = shown(path);
    let mut lines: Vec<_> = faults
        .iter()
        .take(MOST_FAULTS)
        .map(|fault| {
            let (line, column) = place(text, fault.at);
            format!("{file}:{line}:{column}: {}", fault.what)
        })
        .collect();
    if lines.len() > 1 {
        lines.insert(0, format!("{file} has {} faults", faults.len()));
    }
    if faults.len() > MOST_FAULTS {
        lines.push(format!("and {} more", faults.len() - MOST_FAULTS));
    }
    Error::Usage(lines.join("\n"))
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes()).into_owned()
}

/// Line and column of a byte, both from 1; columns are characters, as editors count them.
fn place(text: &str, at: usize) -> (usize, usize) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// The word among `known` that was probably meant by `word`.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of a word wrong is still that word; of a short one, one letter.
    let limit = word.chars().count().div_ceil(3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean ...?`, or which words there are.
fn hint(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(meant) => format!("; did you mean `{meant}`?"),
        None => format!("; there are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests;
