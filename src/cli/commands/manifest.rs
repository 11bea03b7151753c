//! `cutover manifest`: writes down what a tree is, to compare others with it later.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::flags::{FidelityFlags, OutputFlags, OwnershipFlags, RehashFlag, SelectionFlags};
use crate::cli::run::observed;
use crate::error::Error;
use crate::options::{Compare, SyncOptions};
use crate::path::escape;
use crate::session::{self, Mode};
use crate::transport::Location;
use crate::ui::itemize::Direction;
use crate::ui::{Act, Reach, View};

/// Write a manifest of DIR: every entry's metadata and the hash of its content
///
/// diff and verify take the file in the place of SRC, so that a copy can be checked against a
/// tree that is gone or has moved on.
#[derive(Clone, Debug, Args)]
pub(crate) struct ManifestCommand {
    /// Directory of this host to record
    #[arg(value_name = "DIR")]
    dir: OsString,

    /// File to write, outside DIR; without it DIR's name with `.manifest`, in the working
    /// directory
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    shown: OutputFlags,

    #[command(flatten)]
    selection: SelectionFlags,

    #[command(flatten)]
    rehash: RehashFlag,

    #[command(flatten)]
    fidelity: FidelityFlags,

    #[command(flatten)]
    ownership: OwnershipFlags,
}

impl ManifestCommand {
    /// Records the tree.
    pub(crate) fn run(&self) -> Result<u8, Error> {
        let root = self.root()?;
        let dir = resolved(&root)?;
        if !dir.is_dir() {
            let shown = escape(root.as_os_str().as_encoded_bytes());
            return Err(Error::Usage(format!("{shown} is no directory")));
        }
        let file = self.file(&dir)?;
        let options = self.options()?;
        let view = View {
            act: Act::Manifest(file.clone()),
            format: self.shown.format(),
            detail: self.shown.detail(),
            items: false,
            progress: self.shown.progress(),
            direction: Direction::Received,
            reach: Reach::Here,
        };
        observed(Mode::Sync, view, |observer, cancel| {
            session::export_manifest(&root, &options, &file, observer.as_ref(), cancel)
        })
    }

    fn root(&self) -> Result<PathBuf, Error> {
        match Location::parse(&self.dir)? {
            Location::Local(root) => Ok(root),
            Location::Remote(remote) => Err(Error::Usage(format!(
                "{remote} is on another host: run cutover manifest there and fetch the file, or \
                 compare it from here with cutover verify"
            ))),
        }
    }

    /// Where the manifest goes. `dir` is resolved.
    fn file(&self, dir: &Path) -> Result<PathBuf, Error> {
        let mut file = match &self.output {
            Some(file) => file.clone(),
            None => default_file(dir)?,
        };
        if let Ok(there) = file.metadata() {
            if !there.is_file() {
                return Err(Error::Usage(format!(
                    "{} is no regular file, which a manifest could replace: choose another with \
                     -o FILE",
                    escape(file.as_os_str().as_encoded_bytes())
                )));
            }
            // The file is replaced, not a symlink that leads to it.
            file = resolved(&file)?;
        }
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if resolved(folder)?.starts_with(dir) {
            return Err(Error::Usage(format!(
                "the manifest {} would lie in the directory that it records: put it elsewhere \
                 with -o FILE",
                escape(file.as_os_str().as_encoded_bytes())
            )));
        }
        Ok(file)
    }

    fn options(&self) -> Result<SyncOptions, Error> {
        let mut options = SyncOptions {
            fidelity: self.fidelity.fidelity(),
            // A manifest without content hashes could prove nothing later.
            compare: Compare::Checksum,
            selection: self.selection.selection()?,
            rehash: self.rehash.rehash,
            ..SyncOptions::default()
        };
        self.ownership.apply_to(&mut options);
        Ok(options)
    }
}

fn resolved(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize()
        .map_err(|err| Error::io("find", path.as_os_str().as_encoded_bytes(), err))
}

/// The directory's name with `.manifest`; the root directory has none.
fn default_file(dir: &Path) -> Result<PathBuf, Error> {
    let mut name = dir.file_name().map(OsString::from).ok_or_else(|| {
        Error::Usage("the root directory has no name to call a manifest by: use -o FILE".into())
    })?;
    name.push(".manifest");
    Ok(PathBuf::from(name))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn manifest(args: &[&str]) -> ManifestCommand {
        let all = ["cutover", "manifest"].iter().chain(args);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Manifest(manifest) => *manifest,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_manifest_records_content() {
        let options = manifest(&["dir", "--no-acls"]).options().unwrap();
        assert_eq!(options.compare, Compare::Checksum);
        assert!(!options.fidelity.acls);
    }

    #[test]
    fn a_directory_of_another_host_is_a_usage_error_that_says_what_to_do() {
        let err = manifest(&["host:/srv"]).root().unwrap_err();
        assert!(matches!(err, Error::Usage(_)), "{err:?}");
        assert!(
            err.to_string().contains("run cutover manifest there"),
            "{err}"
        );
        assert_eq!(manifest(&["./a:b"]).root().unwrap(), Path::new("./a:b"));
    }

    #[test]
    fn the_file_is_named_after_the_directory_and_lies_outside() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("state");
        std::fs::create_dir(&dir).unwrap();
        let dir = dir.canonicalize().unwrap();
        let file = manifest(&["x"]).file(&dir).unwrap();
        assert_eq!(file, Path::new("state.manifest"));
        let inside = dir.join("m");
        let refused = manifest(&["x", "-o", inside.to_str().unwrap()]).file(&dir);
        assert!(matches!(refused, Err(Error::Usage(_))), "{refused:?}");
        let device = manifest(&["x", "-o", "/dev/null"]).file(&dir);
        assert!(matches!(device, Err(Error::Usage(_))), "{device:?}");
        let beside = temp.path().join("m");
        let chosen = manifest(&["x", "-o", beside.to_str().unwrap()]).file(&dir);
        assert_eq!(chosen.unwrap(), beside);
    }
}
