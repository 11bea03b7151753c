//! `cutover explain`: which filter rule decides about a path.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::flags::FilterFlags;
use crate::error::Error;
use crate::events::Side;
use crate::filter::{FilterError, Rules};
use crate::path::{RelPath, escape};

use super::print;

/// Tell which filter rule decides about PATH
///
/// With the filter flags of the sync in question. Rules can differ for the two sides: at the
/// source they choose what is copied, at the destination what is kept from deletion.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExplainCommand {
    /// Path relative to the root of the tree; a slash at the end makes it a directory's
    #[arg(value_name = "PATH")]
    path: OsString,

    /// Root of the tree: tells whether PATH is a directory, and has per-directory rules
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    #[command(flatten)]
    filters: FilterFlags,
}

impl ExplainCommand {
    /// Explains.
    pub(crate) fn run(&self) -> Result<u8, Error> {
        let text = explanation(&self.filters, &self.path, self.root.as_deref())?;
        print(text.as_bytes())?;
        Ok(0)
    }
}

/// What the rules say of `path` on either side, a line each.
pub(super) fn explanation(
    filters: &FilterFlags,
    path: &OsStr,
    root: Option<&Path>,
) -> Result<String, Error> {
    let bytes = path.as_bytes();
    let trimmed = bytes.strip_prefix(b"./").unwrap_or(bytes);
    let trimmed = trimmed.strip_suffix(b"/").unwrap_or(trimmed);
    let rel = RelPath::new(trimmed).map_err(|_| {
        Error::Usage(format!(
            "{} does not lie in a tree: give a path relative to its root, without a slash in \
             front or `..`",
            escape(bytes)
        ))
    })?;
    if rel.is_root() || trimmed == b"." {
        return Err(Error::Usage(
            "the root itself always takes part: give a path beneath it".to_owned(),
        ));
    }
    let is_dir = bytes.ends_with(b"/") || root.is_some_and(|root| is_dir(&root.join(rel_os(&rel))));
    let rules = Rules::parse(&filters.rules()?).map_err(usage)?;
    let (rules, note) = with_directory_rules(rules, &rel, root)?;
    let told = |side| rules.explain(&rel, is_dir, side).to_string();
    Ok(format!(
        "source: {}\ndestination: {}\n{note}",
        told(Side::Source),
        told(Side::Destination),
    ))
}

/// The rules with those of the per-directory files from the root down to `path`, and a note
/// where such files could not be looked for.
fn with_directory_rules(
    rules: Rules,
    path: &RelPath,
    root: Option<&Path>,
) -> Result<(Rules, &'static str), Error> {
    if rules.dir_merge_files().len() == 0 {
        return Ok((rules, ""));
    }
    let Some(root) = root else {
        let note = "note: rule files in the tree were not looked at: name its root\n";
        return Ok((rules, note));
    };
    let mut dirs: Vec<RelPath> = path.ancestors().skip(1).collect();
    dirs.reverse();
    let mut entered = rules;
    for dir in dirs {
        let folder = root.join(rel_os(&dir));
        let contents: Vec<_> = entered
            .dir_merge_files()
            .map(|file| fs::read(folder.join(OsStr::from_bytes(file))).ok())
            .collect();
        entered = entered.enter(&dir, &contents).map_err(usage)?;
    }
    Ok((entered, ""))
}

fn rel_os(path: &RelPath) -> &Path {
    Path::new(path.as_os_str())
}

/// Whether a directory stands there itself; a symlink to one does not count, as in a scan.
fn is_dir(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}

fn usage(err: FilterError) -> Error {
    Error::Usage(err.to_string())
}
