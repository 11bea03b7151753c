//! `cutover bundle`: trees in one encrypted file, and back.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::bundle::{
    self, BundleRoot, Creation, Identity, Keys, Opening, Out, Passphrase, Protection, Recipient,
    Replace, Restoration, Seal,
};
use crate::cli::flags::{OutputFlags, OwnershipFlags, SelectionFlags};
use crate::cli::run::observed;
use crate::cli::terminal::ask_secret;
use crate::error::Error;
use crate::events::Silent;
use crate::options::{Selection, SyncOptions};
use crate::path::{Name, escape};
use crate::session::{Cancel, Mode};
use crate::transport::Location;
use crate::ui::itemize::Direction;
use crate::ui::{Act, Detail, Format, Reach, View};
use crate::units::parse_size;

/// Put trees into one encrypted file, prove it, restore it
///
/// For an external drive, or to have before a switch. The file is a tar archive, compressed with
/// zstd and encrypted with age: age -d FILE | zstd -d | tar -x opens it without cutover.
#[derive(Clone, Debug, Args)]
pub(crate) struct BundleCommand {
    #[command(subcommand)]
    act: BundleAct,
}

#[derive(Clone, Debug, Subcommand)]
enum BundleAct {
    Create(Box<CreateCommand>),
    Verify(VerifyCommand),
    Restore(Box<RestoreCommand>),
}

impl BundleCommand {
    /// Does what is asked for.
    pub(crate) fn run(&self) -> Result<u8, Error> {
        match &self.act {
            BundleAct::Create(create) => create.run(),
            BundleAct::Verify(verify) => verify.run(),
            BundleAct::Restore(restore) => restore.run(),
        }
    }
}

/// Bundle a directory, or all roots of a plan
///
/// Everything is kept that a sync keeps, but for sockets. The file's mode is 0600, and it has its
/// name only once it is complete. Where there are secrets, it must be encrypted, or --plaintext
/// said.
#[derive(Clone, Debug, Args)]
struct CreateCommand {
    /// Directory of this host, or plan (a file that ends in .toml) whose source is this host
    #[arg(value_name = "PLAN|DIR")]
    what: PathBuf,

    /// File to write, outside of what is bundled; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Replace FILE if it is there
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    seal: SealFlags,

    #[command(flatten)]
    selection: SelectionFlags,

    #[command(flatten)]
    shown: OutputFlags,
}

/// Who can open a bundle.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Encryption")]
struct SealFlags {
    /// Encrypt for the holder of KEY, a public key of age (age1...); may be given several times
    #[arg(long, value_name = "KEY", conflicts_with = "passphrase")]
    recipient: Vec<String>,

    /// Encrypt for the holders of all public keys in FILE, one on a line
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase")]
    recipients_file: Vec<PathBuf>,

    /// Encrypt with a passphrase, which is asked for on the terminal
    #[arg(long)]
    passphrase: bool,

    /// Encrypt with the passphrase that is FILE's first line
    #[arg(long, value_name = "FILE",
          conflicts_with_all = ["passphrase", "recipient", "recipients_file"])]
    passphrase_file: Option<PathBuf>,

    /// Do not encrypt, even if there are secrets
    #[arg(long, conflicts_with_all = ["passphrase", "passphrase_file", "recipient",
          "recipients_file"])]
    plaintext: bool,
}

/// Read all of a bundle and compare it with the manifest in it
///
/// Exits with 0 where all is as the manifest says, 1 where it is not, and 3 where the file cannot
/// be read to its end or holds what no bundle does.
#[derive(Clone, Debug, Args)]
struct VerifyCommand {
    #[command(flatten)]
    opening: OpeningFlags,

    #[command(flatten)]
    shown: OutputFlags,
}

/// Restore a bundle: each root to a directory of its name in DST
///
/// The bundle is read twice: all of it is proven before anything is written. What is in DST already
/// is replaced entry by entry, as a sync does it; nothing is deleted.
#[derive(Clone, Debug, Args)]
struct RestoreCommand {
    #[command(flatten)]
    opening: OpeningFlags,

    /// Directory to restore to; made if missing
    #[arg(value_name = "DST")]
    to: PathBuf,

    /// Restore this root only, straight to DST
    #[arg(long, value_name = "NAME")]
    root: Option<OsString>,

    #[command(flatten)]
    ownership: OwnershipFlags,

    #[command(flatten)]
    shown: OutputFlags,
}

/// A bundle, and what opens it.
#[derive(Clone, Debug, Args)]
struct OpeningFlags {
    /// The bundle
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Open it with the secret keys in IDENTITY, as age-keygen writes them
    #[arg(short, long, value_name = "IDENTITY")]
    identity: Vec<PathBuf>,

    /// Open it with the passphrase that is the file's first line, instead of asking for it
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,

    /// Refuse a bundle with more than SIZE of content, holes counted
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,
}

impl CreateCommand {
    fn run(&self) -> Result<u8, Error> {
        let out = self.out()?;
        let creation = Creation {
            roots: self.roots()?,
            seal: self.seal.seal()?,
            allow_plain_secrets: self.seal.plaintext,
            out,
        };
        let view = View {
            // Standard output is the bundle's own.
            detail: match creation.out {
                Out::Stdout => Detail::Quiet,
                Out::File(..) => self.shown.detail(),
            },
            ..view(Act::Bundle(self.output.clone()), &self.shown)
        };
        observed(Mode::Sync, view, |observer, cancel| {
            bundle::create(&creation, observer.as_ref(), cancel)
        })
    }

    fn out(&self) -> Result<Out, Error> {
        if self.output.as_os_str() != "-" {
            let replace = match self.force {
                true => Replace::Allowed,
                false => Replace::Never,
            };
            return Ok(Out::File(self.output.clone(), replace));
        }
        if self.shown.format() == Format::Json {
            return Err(Error::Usage(
                "standard output cannot be both the bundle and the JSON lines: use -o FILE".into(),
            ));
        }
        if io::stdout().is_terminal() {
            return Err(Error::Usage(
                "a bundle is not for a terminal: send it to a file or a command".into(),
            ));
        }
        Ok(Out::Stdout)
    }

    fn roots(&self) -> Result<Vec<BundleRoot>, Error> {
        if let Location::Remote(remote) = Location::parse(self.what.as_os_str())? {
            return Err(Error::Usage(format!(
                "{remote} is on another host: run cutover bundle there"
            )));
        }
        let selection = self.selection.selection()?;
        if self.is_plan() {
            if selection != Selection::default() {
                return Err(Error::Usage(
                    "a plan says itself which of its entries take part: no filters beside it"
                        .into(),
                ));
            }
            return bundle::roots_of_plan(&self.what, &Silent, &Cancel::new());
        }
        let options = SyncOptions {
            selection,
            ..SyncOptions::default()
        };
        Ok(vec![BundleRoot::of_dir(&self.what, options)?])
    }

    fn is_plan(&self) -> bool {
        self.what.extension().is_some_and(|end| end == "toml") && !self.what.is_dir()
    }
}

impl SealFlags {
    fn seal(&self) -> Result<Seal, Error> {
        if let Some(file) = &self.passphrase_file {
            return Ok(Seal::Passphrase(read_passphrase(file)?));
        }
        if self.passphrase {
            return Ok(Seal::Passphrase(ask_new_passphrase()?));
        }
        let mut recipients = Vec::new();
        for key in &self.recipient {
            recipients.push(Recipient::parse(key)?);
        }
        for file in &self.recipients_file {
            recipients.extend(Recipient::read_file(file)?);
        }
        let is_asked_for = !self.recipient.is_empty() || !self.recipients_file.is_empty();
        match (recipients.is_empty(), is_asked_for) {
            (false, _) => Ok(Seal::Recipients(recipients)),
            (true, false) => Ok(Seal::Open),
            // Nobody may take a bundle for encrypted that is not.
            (true, true) => Err(Error::Usage("the recipients' files hold no key".into())),
        }
    }
}

impl VerifyCommand {
    fn run(&self) -> Result<u8, Error> {
        let opening = self.opening.opening()?;
        let view = View {
            items: true,
            ..view(Act::VerifyBundle, &self.shown)
        };
        observed(Mode::Verify, view, |observer, cancel| {
            bundle::verify(&opening, observer.as_ref(), cancel)
        })
    }
}

impl RestoreCommand {
    fn run(&self) -> Result<u8, Error> {
        if let Location::Remote(remote) = Location::parse(self.to.as_os_str())? {
            return Err(Error::Usage(format!(
                "{remote} is on another host: take the bundle there and run cutover bundle there"
            )));
        }
        let mut options = SyncOptions::default();
        self.ownership.apply_to(&mut options);
        let root = self.root.as_ref().map(|name| Name::new(name.as_bytes()));
        let root = root
            .transpose()
            .map_err(|err| Error::Usage(err.to_string()))?;
        let restoration = Restoration {
            opening: self.opening.opening()?,
            to: self.to.clone(),
            root,
            options,
        };
        let view = view(Act::Restore(self.to.clone()), &self.shown);
        observed(Mode::Sync, view, |observer, cancel| {
            bundle::restore(&restoration, observer.as_ref(), cancel)
        })
    }
}

impl OpeningFlags {
    fn opening(&self) -> Result<Opening, Error> {
        let mut keys = Keys::default();
        for file in &self.identity {
            keys.identities.extend(Identity::read_file(file)?);
        }
        keys.passphrase = match &self.passphrase_file {
            Some(file) => Some(read_passphrase(file)?),
            None if bundle::protection(&self.file)? == Protection::Passphrase => {
                let question =
                    format!("Passphrase of {}", escape(self.file.as_os_str().as_bytes()));
                Some(Passphrase::new(ask_secret(&question)?)?)
            }
            None => None,
        };
        Ok(Opening {
            path: self.file.clone(),
            keys,
            max_bytes: self.max_size,
        })
    }
}

fn view(act: Act, shown: &OutputFlags) -> View {
    View {
        act,
        format: shown.format(),
        detail: shown.detail(),
        items: false,
        progress: shown.progress(),
        direction: Direction::Received,
        reach: Reach::Here,
    }
}

/// The first line of a file.
fn read_passphrase(file: &Path) -> Result<Passphrase, Error> {
    let shown = file.as_os_str().as_bytes();
    let text = std::fs::read_to_string(file)
        .map_err(|err| Error::io("read the passphrase from", shown, err))?;
    Passphrase::new(text.lines().next().unwrap_or_default().to_owned())
}

/// Asks twice: a slip of the finger would lock everybody out for good.
fn ask_new_passphrase() -> Result<Passphrase, Error> {
    let first = ask_secret("Passphrase of the bundle")?;
    if first != ask_secret("The same again")? {
        return Err(Error::Usage("the two passphrases are not the same".into()));
    }
    Passphrase::new(first)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn bundle(args: &[&str]) -> Result<BundleAct, clap::Error> {
        let all = ["cutover", "bundle"].iter().chain(args);
        match Cli::try_parse_from(all)?.command {
            Command::Bundle(bundle) => Ok(bundle.act),
            other => panic!("{other:?}"),
        }
    }

    fn create(args: &[&str]) -> Box<CreateCommand> {
        match bundle(&[&["create", "dir", "-o", "file"], args].concat()) {
            Ok(BundleAct::Create(create)) => create,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ways_of_sealing_exclude_each_other() {
        let key = ["--recipient", "age1x"];
        for other in [
            &["--passphrase"][..],
            &["--passphrase-file", "f"],
            &["--plaintext"],
        ] {
            let args = [&["create", "dir", "-o", "file"][..], &key, other].concat();
            assert!(bundle(&args).is_err(), "{other:?}");
        }
    }

    #[test]
    fn a_file_without_keys_does_not_make_a_plain_bundle() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let sealed = create(&["--recipients-file", path]).seal.seal();
        assert!(matches!(sealed, Err(Error::Usage(_))));
        assert!(matches!(create(&[]).seal.seal(), Ok(Seal::Open)));
    }

    #[test]
    fn a_key_that_is_none_is_not_repeated() {
        let secret = "AGE-SECRET-KEY-1QQQ";
        let Err(err) = create(&["--recipient", secret]).seal.seal() else {
            panic!("it is no public key");
        };
        assert!(!err.to_string().contains("1QQQ"), "{err}");
    }

    #[test]
    fn a_tree_of_another_host_is_a_usage_error_that_says_what_to_do() {
        let Ok(BundleAct::Create(create)) = bundle(&["create", "host:/srv", "-o", "f"]) else {
            panic!("it parses");
        };
        let err = create.roots().unwrap_err().to_string();
        assert!(err.contains("run cutover bundle there"), "{err}");
    }
}
