//! `cutover generations`: the former states of a standby, listed, compared and brought back.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::cli::flags::RemoteFlags;
use crate::cli::signals;
use crate::error::{Error, ErrorClass};
use crate::events::{Cancel, Silent};
use crate::path::{RelPath, escape};
use crate::protocol::errand::{Expand, Recovered};
use crate::session::Host;
use crate::transport::{Location, RemotePath};
use crate::ui::{
    comparison_json, comparison_text, generations_json, generations_table, recovered_text,
};

use super::print;

/// List, compare or restore the generations of a standby: its states at earlier times
///
/// A mirror makes and prunes them as its --keep says. Nothing that is deleted or overwritten at the
/// source reaches them.
#[derive(Clone, Debug, Args)]
pub(crate) struct GenerationsCommand {
    #[command(subcommand)]
    act: Act,
}

#[derive(Clone, Debug, Subcommand)]
enum Act {
    List(ListCommand),
    Diff(DiffCommand),
    Restore(Box<RestoreCommand>),
}

/// List the generations of ROOT, the newest first
#[derive(Clone, Debug, Args)]
struct ListCommand {
    #[command(flatten)]
    root: RootArg,

    /// Write JSON lines instead of a table; doc/json.md documents them
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: RemoteFlags,
}

/// Tell what changed from a generation to another one, or to what is in ROOT now
///
/// Lines as with sync --itemize-changes, `*extra` for what only the generation has. Files of the
/// same size and time are taken for the same. Exit code 0: same; 1: different.
#[derive(Clone, Debug, Args)]
struct DiffCommand {
    #[command(flatten)]
    root: RootArg,

    /// The earlier generation
    #[arg(value_name = "ID")]
    id: String,

    /// The later one; without it, what is in ROOT now
    #[arg(value_name = "ID2")]
    with: Option<String>,

    /// Write JSON lines instead of text; doc/json.md documents them
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: RemoteFlags,
}

/// Bring back a generation, or single entries of it
///
/// Without PATH all of it: what is in ROOT then is kept as `replaced-...`, which can be restored in
/// the same way. With PATH these entries and all beneath them: what is in their place goes to
/// ROOT/.cutover-trash. A mirror must be stopped first, since it would undo that. The generation
/// stays.
#[derive(Clone, Debug, Args)]
struct RestoreCommand {
    #[command(flatten)]
    root: RootArg,

    /// The generation, or what an earlier restore replaced
    #[arg(value_name = "ID")]
    id: String,

    /// Entries to bring back, as paths below ROOT
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,

    /// Copy to DIR, on the host of ROOT, and leave ROOT alone
    ///
    /// Each entry gets its whole path below DIR, which is made if it is not there. Nothing that is
    /// there is overwritten. A mirror may go on.
    #[arg(long, value_name = "DIR")]
    to: Option<OsString>,

    #[command(flatten)]
    remote: RemoteFlags,
}

#[derive(Clone, Debug, Args)]
struct RootArg {
    /// Root of the standby: a directory, local or [USER@]HOST:PATH
    #[arg(value_name = "ROOT")]
    root: OsString,
}

impl GenerationsCommand {
    /// Does what is asked for.
    pub(crate) fn run(&self) -> Result<u8, Error> {
        match &self.act {
            Act::List(list) => list.run(),
            Act::Diff(diff) => diff.run(),
            Act::Restore(restore) => restore.run(),
        }
    }
}

impl ListCommand {
    fn run(&self) -> Result<u8, Error> {
        let mut place = self.root.reach(&self.remote)?;
        let shelved = place.host.generations(&place.root)?;
        place.host.finish()?;
        let text = match self.json {
            true => generations_json(&shelved),
            false => generations_table(&shelved),
        };
        print(text.as_bytes())?;
        Ok(0)
    }
}

impl DiffCommand {
    fn run(&self) -> Result<u8, Error> {
        let mut place = self.root.reach(&self.remote)?;
        let with = self.with.as_deref();
        let found = place.host.compare_generation(&place.root, &self.id, with)?;
        place.host.finish()?;
        let code = u8::from(found.total() > 0);
        let text = match self.json {
            true => comparison_json(&found, code),
            false => comparison_text(&found),
        };
        print(text.as_bytes())?;
        Ok(code)
    }
}

impl RestoreCommand {
    fn run(&self) -> Result<u8, Error> {
        let paths = self.paths.iter().map(|path| below_root(path));
        let paths = paths.collect::<Result<Vec<_>, _>>()?;
        let mut place = self.root.reach(&self.remote)?;
        let to = match &self.to {
            Some(to) => Some(place.path(to)?),
            None => None,
        };
        let done = place
            .host
            .restore_generation(&place.root, &self.id, &paths, to.as_deref())?;
        place.host.finish()?;
        print(recovered_text(&done, &self.root.shown()).as_bytes())?;
        Ok(code_of(&done))
    }
}

/// What is not as it was has failed.
fn code_of(done: &Recovered) -> u8 {
    match done.differing.is_empty() {
        true => 0,
        false => ErrorClass::Failed.exit_code(),
    }
}

fn below_root(path: &OsStr) -> Result<RelPath, Error> {
    let bytes = path.as_bytes();
    let bytes = bytes.strip_prefix(b"./").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"/").unwrap_or(bytes);
    match RelPath::new(bytes) {
        Ok(path) if !path.is_root() => Ok(path),
        Ok(_) => Err(Error::Usage(
            "a PATH is empty: without any, all is restored".to_string(),
        )),
        Err(err) => Err(Error::Usage(format!(
            "{} is no path below ROOT: {err}",
            escape(path.as_bytes())
        ))),
    }
}

/// A root on its host.
struct Place {
    host: Host,
    /// Its path there, in full.
    root: String,
    is_far: bool,
}

impl RootArg {
    fn reach(&self, remote: &RemoteFlags) -> Result<Place, Error> {
        let cancel = Cancel::default();
        signals::cancel_on_signals(&cancel)?;
        let (host, path, is_far) = match Location::parse(&self.root)? {
            Location::Local(path) => (Host::here_until(&cancel), path.into_os_string(), false),
            Location::Remote(far) => {
                let host = Host::reach(&far, &remote.remote()?, &Silent, &cancel)?;
                (host, OsString::from_vec(path_of(far)), true)
            }
        };
        let mut place = Place {
            host,
            root: String::new(),
            is_far,
        };
        place.root = place.path(&path)?;
        Ok(place)
    }

    /// As it was given.
    fn shown(&self) -> String {
        escape(self.root.as_bytes()).into_owned()
    }
}

fn path_of(far: RemotePath) -> Vec<u8> {
    match far.path.is_empty() {
        true => b".".to_vec(),
        false => far.path,
    }
}

impl Place {
    /// A path on the host in full: there `~` is the home, and so is what relative ones start from.
    fn path(&mut self, path: &OsStr) -> Result<String, Error> {
        if !self.is_far {
            let full = std::path::absolute(PathBuf::from(path));
            let full = full.map_err(|err| Error::io("find", path.as_bytes(), err))?;
            return utf8(full.as_os_str()).map(str::to_string);
        }
        let text = utf8(path)?.replace('$', "$$");
        let text = match Path::new(path).is_absolute() || text.starts_with('~') {
            true => text,
            false => format!("~/{text}"),
        };
        let expand = Expand {
            texts: vec![text],
            ..Expand::default()
        };
        match self.host.expand(expand)?.pop() {
            Some(Ok(full)) => Ok(full),
            Some(Err(why)) => Err(Error::Usage(why)),
            None => Err(Error::protocol("a path without an answer")),
        }
    }
}

fn utf8(path: &OsStr) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| {
        let path = escape(path.as_bytes());
        Error::Usage(format!("{path} is not UTF-8, as this path must be"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_a_root_are_taken_as_shells_complete_them() {
        let below = |text: &str| below_root(OsStr::new(text));
        for text in ["a/b", "./a/b", "a/b/"] {
            assert_eq!(below(text).unwrap(), RelPath::new(b"a/b").unwrap());
        }
        for text in ["", "/a", "../a", "a//b", "./"] {
            let err = below(text).unwrap_err();
            assert_eq!(err.class(), ErrorClass::Usage, "{text}: {err}");
        }
    }
}
