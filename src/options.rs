//! What a run was asked to do: plain values, made by the command line or by a library's user,
//! that travel to both ends unchanged.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::retention::Rule;

/// Everything that shapes one sync, diff or verify.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct SyncOptions {
    /// Which properties are preserved and compared.
    pub fidelity: Fidelity,
    /// How files of the same name are compared.
    pub compare: Compare,
    /// Which entries take part.
    pub selection: Selection,
    /// What happens to entries that only the destination has; `None` leaves them.
    pub delete: Option<Delete>,
    /// Where replaced and deleted entries go instead of away.
    pub keep: Keep,
    /// Whose the entries become.
    pub ownership: Ownership,
    /// `--chmod` clauses in order, as rsync writes them (`D755`, `F644`, `u+rwX,go-w`).
    pub chmod: Vec<String>,
    /// Store ownership, devices and ACLs in rsync's `user.rsync.%stat` attributes.
    pub fake_super: bool,
    /// Take these from the source's `user.rsync.%stat` attributes, as an earlier run stored them.
    pub from_fake_super: bool,
    /// How content travels.
    pub transfer: Transfer,
    /// How content is written.
    pub write: Write,
    /// Change nothing; report what a run would do.
    pub dry_run: bool,
    /// Do not trust cached content hashes.
    pub rehash: bool,
    /// Send an item event for every changed entry (off saves the traffic when nobody looks).
    pub itemize: bool,
}

/// How a state is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepMeans {
    /// By reflinks where the filesystem can, else by hard links.
    Auto,
    /// Files that share blocks.
    Reflink,
    /// Files with a second name: a sync replaces files, so it does not change them. A service
    /// that writes in place does; a restore tells then.
    HardLink,
    /// Copies.
    Copy,
}

/// How a standby is kept warm, round after round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirroring {
    /// How long a file must have been left alone before it is sent.
    pub settle: Duration,
    /// How long a change waits at most, however often the file changes.
    pub max_delay: Duration,
    /// How often everything is read again.
    pub rescan: Duration,
    /// Where the source cannot be watched, or shall not be: how often everything is read.
    pub interval: Duration,
    /// Whether the source is watched.
    pub watch: bool,
    /// What becomes of changes that others made at the standby.
    pub on_drift: OnDrift,
    /// Which former states of the standby are kept, as `24h:1h,7d:1d`.
    pub generations: Option<Rule>,
    /// Whose standby it is: the plan's name, or where the source is.
    pub name: String,
    /// Where the source is, as `HOST:PATH`.
    pub source: String,
    /// The standby was there before: a root without its marker is not it, but perhaps what it was
    /// mounted on.
    pub goes_on: bool,
    /// The inode of the source's root when it was mirrored before: another directory is refused.
    /// Without its device, which may have another number once its host was started again.
    pub root: Option<u64>,
    /// The most content bytes a second through the week, instead of
    /// [`Transfer::bandwidth_bytes_per_s`]: from which minute of the week, and how many. Sorted; the
    /// week begins on Monday, by the clock of the source's host.
    pub bandwidth_by_minute: Vec<(u16, Option<u64>)>,
}

impl Mirroring {
    /// The most content bytes a second at a minute of the week, `otherwise` where there is no
    /// timetable. Before its first entry the last one of the week before holds.
    pub fn bandwidth(&self, minute: u16, otherwise: Option<u64>) -> Option<u64> {
        let table = &self.bandwidth_by_minute;
        let now = table.iter().rev().find(|(from, _)| *from <= minute);
        now.or(table.last()).map_or(otherwise, |(_, limit)| *limit)
    }
}

impl Default for Mirroring {
    fn default() -> Mirroring {
        Mirroring {
            settle: Duration::from_millis(500),
            max_delay: Duration::from_secs(10),
            rescan: Duration::from_secs(60 * 60),
            interval: Duration::from_secs(60),
            watch: true,
            on_drift: OnDrift::Report,
            generations: None,
            name: String::new(),
            source: String::new(),
            goes_on: false,
            root: None,
            bandwidth_by_minute: Vec::new(),
        }
    }
}

/// What becomes of changes that others made at a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum OnDrift {
    /// They are told, and stay until the source changes in the same directory.
    #[default]
    Report,
    /// They are told and undone.
    Restore,
    /// They are told, and the mirror ends.
    Stop,
}

/// Which properties are preserved and compared. Kinds, names, link targets and the content of
/// files always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fidelity {
    /// Permission bits, setuid, setgid and sticky included.
    pub perms: bool,
    /// Owners.
    pub owner: bool,
    /// Groups.
    pub group: bool,
    /// Modification times of all but directories and symlinks.
    pub times: bool,
    /// Modification times of directories.
    pub dir_times: bool,
    /// Modification times of symlinks.
    pub link_times: bool,
    /// Extended attributes other than ACLs.
    pub xattrs: bool,
    /// Of these, those that only a privileged process can see (`trusted.*`).
    pub trusted_xattrs: bool,
    /// Of these, those that only a privileged process can set (`security.*`), but for capabilities.
    pub security_xattrs: bool,
    /// Of these, the capabilities of files (`security.capability`).
    pub capabilities: bool,
    /// POSIX ACLs.
    pub acls: bool,
    /// Which names share one file.
    pub hard_links: bool,
    /// Symlinks; off leaves them out.
    pub symlinks: bool,
    /// Device nodes; off leaves them out.
    pub devices: bool,
    /// FIFOs and sockets; off leaves them out.
    pub specials: bool,
    /// Holes in files are holes in their copies.
    pub sparse: bool,
}

impl Default for Fidelity {
    /// All of it.
    fn default() -> Fidelity {
        Fidelity {
            perms: true,
            owner: true,
            group: true,
            times: true,
            dir_times: true,
            link_times: true,
            xattrs: true,
            trusted_xattrs: true,
            security_xattrs: true,
            capabilities: true,
            acls: true,
            hard_links: true,
            symlinks: true,
            devices: true,
            specials: true,
            sparse: true,
        }
    }
}

/// How files of the same name are held to be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Compare {
    /// Same size and mtime.
    #[default]
    Quick,
    /// Same content hash.
    Checksum,
    /// Same size, whatever the mtime.
    SizeOnly,
    /// Never: every file is compared by content.
    IgnoreTimes,
}

/// Which entries take part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Selection {
    /// Filter rules in rsync's long form (`- *.o`, `+ /keep/`), first match wins.
    pub rules: Vec<RuleText>,
    /// Larger files do not take part, in bytes.
    pub max_size: Option<u64>,
    /// Smaller files do not take part, in bytes.
    pub min_size: Option<u64>,
    /// Do not enter directories on another filesystem.
    pub one_file_system: bool,
}

/// One filter rule as written, raw bytes because patterns match raw names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleText(#[serde(with = "serde_bytes")] pub Vec<u8>);

/// How entries that only the destination has are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Delete {
    /// Excluded names are deleted too.
    pub excluded: bool,
    /// The most that may go; `None` means the built-in guard (half of the entries, and over 100).
    pub max: Option<DeleteLimit>,
}

/// The most entries that a run may delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeleteLimit {
    /// So many entries.
    Entries(u64),
    /// So many percent of the destination's entries, 0 to 100.
    Percent(u8),
}

impl FromStr for DeleteLimit {
    type Err = String;

    /// Reads `12` or `30%`.
    fn from_str(text: &str) -> Result<DeleteLimit, String> {
        let wrong = || "give a number of entries, or 0% to 100%".to_owned();
        match text.strip_suffix('%') {
            None => text.parse().map(DeleteLimit::Entries).map_err(|_| wrong()),
            Some(percent) => match percent.parse() {
                Ok(percent @ 0..=100) => Ok(DeleteLimit::Percent(percent)),
                _ => Err(wrong()),
            },
        }
    }
}

/// Where replaced and deleted entries go. A `None` and a `false` everywhere: they are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Keep {
    /// Deleted and replaced entries move beneath this directory, one folder for each run.
    pub trash: Option<Trash>,
    /// Replaced and deleted entries stay beside the new ones under this suffix (`~`).
    #[serde(with = "serde_bytes")]
    pub backup_suffix: Option<Vec<u8>>,
}

/// Where the trash is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trash {
    /// `.cutover-trash` in the destination's root, never synced and never deleted.
    InRoot,
    /// This directory, on the destination's filesystem.
    At(#[serde(with = "serde_bytes")] Vec<u8>),
}

/// Whose the entries become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Ownership {
    /// Keep numbers; do not look names up.
    pub numeric_ids: bool,
    /// `--usermap` rules in order: `FROM:TO`, names, numbers, ranges and `*`.
    pub usermap: Vec<String>,
    /// `--groupmap` rules in order.
    pub groupmap: Vec<String>,
}

impl Ownership {
    /// Adds the rules that give all entries to `USER:GROUP`, of which either may be left out.
    pub fn give_all_to(&mut self, owner: &str) -> Result<(), String> {
        let (user, group) = owner.split_once(':').unwrap_or((owner, ""));
        if user.is_empty() && group.is_empty() {
            return Err("give USER, :GROUP or USER:GROUP".to_owned());
        }
        let rule = |to: &str| (!to.is_empty()).then(|| format!("*:{to}"));
        self.usermap.extend(rule(user));
        self.groupmap.extend(rule(group));
        Ok(())
    }

    /// Whether `rule` has the form of a rule of either map; whom it names is known at the
    /// destination.
    pub fn check_rule(rule: &str) -> Result<(), String> {
        match rule.split_once(':') {
            // An empty FROM matches ids without a name.
            Some((_, to)) if !to.is_empty() => Ok(()),
            _ => Err(format!("{rule:?} is no rule: write FROM:TO")),
        }
    }
}

/// How content travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Transfer {
    /// When the old file is used as a basis.
    pub delta: DeltaMode,
    /// Size of a delta block in bytes, a power of two from 2 KiB to 256 KiB; `None` chooses.
    pub block_bytes: Option<u32>,
    /// The most content bytes a second.
    pub bandwidth_bytes_per_s: Option<u64>,
    /// Whether frames may be compressed.
    pub compress: Compress,
}

/// When a file's old version is used as a basis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum DeltaMode {
    /// Over a connection, not for local copies.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never: changed files are sent whole.
    Never,
}

/// Whether frames are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Compress {
    /// When a sample shows that it pays and the link is the limit.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How content is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Write {
    /// When what was written is made durable.
    pub fsync: Fsync,
    /// Change files in place instead of replacing them: readers may see a mixture.
    pub inplace: bool,
}

/// When what was written is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Fsync {
    /// Once, before the run reports success.
    #[default]
    End,
    /// Each file before it takes its name.
    Each,
    /// Never.
    None,
}
