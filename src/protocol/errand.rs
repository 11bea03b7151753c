//! What a host can be asked to do beside syncing a root: the questions and acts of a plan. The
//! near side runs errands in its own process or sends them to an agent, one after the other.
//!
//! Texts, paths too, are UTF-8: they come from a plan, which is text. What an answer tells of other
//! names is escaped, for people.

mod generations;

use std::time::Duration;

pub use generations::{
    Comparison, Generation, GenerationsAnswer, GenerationsErrand, Made, Recovered, Shelved,
};

use serde::{Deserialize, Serialize};

use crate::error::RemoteError;
pub use crate::options::KeepMeans;
use crate::protocol::message::RootIdentity;

/// One thing to do or to find out. Each variant names its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Errand {
    /// Replaces `~`, `${VAR}` and `${VAR:-default}`: [`Answer::Expanded`].
    Expand(Expand),
    /// Who and what the host is: [`Answer::Host`].
    Host,
    /// Which of these users and groups exist: [`Answer::Known`].
    Known {
        /// Names of users.
        users: Vec<String>,
        /// Names of groups.
        groups: Vec<String>,
    },
    /// What is at a root's path, without reading what is below: [`Answer::Root`].
    Root(String),
    /// Counts what is below a root, and what of it cannot be read: [`Answer::Measured`].
    Measure {
        /// The root.
        root: String,
    },
    /// Files and directories that match patterns with `*` and `?` in their last name; at most
    /// 1000: [`Answer::Paths`].
    Glob(Vec<String>),
    /// Which files below a root hold secrets and can be read by others than their owner; at most
    /// 1000, and then a text that says how many others: [`Answer::Paths`].
    Exposed {
        /// The root.
        root: String,
        /// Patterns of names, as in filters, beside those that are secrets everywhere.
        secrets: Vec<String>,
    },
    /// Where text files below a root name one of these paths: [`Answer::Mentions`].
    Mentions {
        /// The root.
        root: String,
        /// Absolute paths.
        paths: Vec<String>,
    },
    /// Values in configuration files (JSON or TOML by their names): [`Answer::Values`].
    Values(Vec<ValueQuery>),
    /// Which processes have files open below these roots: [`Answer::Occupants`].
    Occupants(Vec<String>),
    /// The SQLite databases below a root: [`Answer::Databases`].
    Databases {
        /// The root.
        root: String,
        /// Whether each is put through `PRAGMA integrity_check`.
        check: bool,
    },
    /// Runs a command; its output comes as [`Report::Output`]: [`Answer::Exited`].
    Run(Command),
    /// Tries whether something holds: [`Answer::Checked`].
    Check(Probe),
    /// Keeps a root's present state, so that it can be restored: [`Answer::Kept`].
    Keep {
        /// The root.
        root: String,
        /// Names what is kept: letters, digits, `-`, `_`.
        id: String,
        /// How.
        means: KeepMeans,
    },
    /// Brings a kept state back, whole: [`Answer::Restored`]. What is there now is kept under
    /// `id` with `-replaced` at its end.
    Restore {
        /// The root.
        root: String,
        /// What was given to [`Errand::Keep`].
        id: String,
    },
    /// Removes a kept state: [`Answer::Done`].
    Forget {
        /// The root.
        root: String,
        /// What was given to [`Errand::Keep`].
        id: String,
    },
    /// Moves entries of a root to its trash: [`Answer::Done`].
    Discard {
        /// The root.
        root: String,
        /// Names below it.
        names: Vec<String>,
    },
    /// Reads a root's marker: [`Answer::Marker`].
    ReadMarker(String),
    /// Sets or removes a root's marker: [`Answer::Done`].
    SetMarker {
        /// The root.
        root: String,
        /// `None` removes it.
        marker: Option<Marker>,
    },
    /// Takes or gives back the write permission of a root's own directory, or its name:
    /// [`Answer::Done`].
    Fence {
        /// The root.
        root: String,
        /// How.
        how: FenceMeans,
        /// Off gives back what on took.
        on: bool,
    },
    /// About the generations of a root: [`Answer::Generations`].
    Generations(GenerationsErrand),
}

/// What comes back while an errand is run; the last one is `Answer` or `Failed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// A line that a command wrote.
    Output(OutputLine),
    /// The errand is done.
    Answer(Box<Answer>),
    /// It could not be done.
    Failed(RemoteError),
}

/// A line that a command wrote, at most 8 KiB of it, without its end and made printable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputLine {
    /// Whether it wrote it to its standard error.
    pub is_stderr: bool,
    /// The line.
    pub text: String,
}

/// Answers, each to the errand that names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The texts, or why one cannot be expanded, in the order of the question.
    Expanded(Vec<Result<String, String>>),
    /// The host.
    Host(HostFacts),
    /// Whether each exists, in the order of the question.
    Known {
        /// The users.
        users: Vec<bool>,
        /// The groups.
        groups: Vec<bool>,
    },
    /// The root.
    Root(RootFacts),
    /// The counts.
    Measured(Measured),
    /// Some paths.
    Paths(Vec<String>),
    /// Some lines; at most 1000.
    Mentions(Vec<Mention>),
    /// A value each: `None` where file or key is missing.
    Values(Vec<Result<Option<String>, String>>),
    /// The processes.
    Occupants(Occupants),
    /// The databases.
    Databases(Vec<Database>),
    /// How the command ended.
    Exited(Exit),
    /// What was found, or what is wrong: a sentence either way.
    Checked(Result<String, String>),
    /// How the state was kept, and how many entries.
    Kept {
        /// The means that were used: never [`KeepMeans::Auto`].
        means: KeepMeans,
        /// Entries.
        entries: u64,
    },
    /// How many entries are as they were kept, and which are not.
    Restored {
        /// Entries.
        entries: u64,
        /// Those that changed since in both copies, as a service that writes in place does to
        /// hard links.
        differing: Vec<String>,
    },
    /// The marker, where there is one.
    Marker(Option<Marker>),
    /// It is done.
    Done,
    /// What was asked of generations.
    Generations(GenerationsAnswer),
}

/// Texts to expand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expand {
    /// The texts.
    pub texts: Vec<String>,
    /// Variables that come before those of the environment.
    pub env: Vec<(String, String)>,
    /// Whose `~` it is; `None` is the user who logged in.
    pub user: Option<String>,
}

/// Who and what a host is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Its name.
    pub name: String,
    /// Its running kernel: equal on both sides where both are one machine.
    pub boot_id: String,
    /// Its clock, in milliseconds since 1970.
    pub clock_ms: u64,
    /// The user that the errands are run by.
    pub user: String,
    /// That user's number.
    pub uid: u32,
    /// That user's home.
    pub home: String,
}

/// What is at a root's path. Where nothing is there, owner, mode, room and abilities are those of the
/// nearest directory above it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFacts {
    /// The path without symlinks; where nothing is there, without those above it.
    pub canonical: String,
    /// What is there.
    pub kind: RootKind,
    /// The path itself, or a directory on its way, is a symlink.
    pub through_symlink: bool,
    /// A filesystem is mounted at the path.
    pub is_mount: bool,
    /// The path is on a filesystem that is mounted for reading only.
    pub read_only: bool,
    /// Whether we may list it; where nothing is there, false.
    pub readable: bool,
    /// Whether we may write to it, or make it where nothing is there.
    pub writable: bool,
    /// The owner, by name or else by number.
    pub owner: String,
    /// The group, by name or else by number.
    pub group: String,
    /// The permission bits.
    pub mode: u16,
    /// How many names are in it, ours (trash, marker) not counted.
    pub names: u64,
    /// The number of its filesystem: the same where two roots share one, and their room.
    pub device: u64,
    /// What its filesystem has room for, in bytes.
    pub free_bytes: u64,
    /// The same in inodes; `None` where the filesystem does not count them.
    pub free_inodes: Option<u64>,
    /// What its filesystem can hold.
    pub abilities: RootAbilities,
    /// What it is and lies in.
    pub identity: RootIdentity,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootKind {
    /// Nothing; its parent may be missing as well.
    Missing,
    /// A directory.
    Dir,
    /// Something else.
    Other,
}

/// What the filesystem of a root can hold, as found out by asking or trying, with nothing left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootAbilities {
    /// Extended attributes.
    pub xattrs: bool,
    /// POSIX ACLs.
    pub acls: bool,
    /// Symlinks.
    pub symlinks: bool,
    /// Hard links.
    pub hard_links: bool,
    /// Owners.
    pub owners: bool,
    /// `a` and `A` are two names; `None` where only a write would tell.
    pub case_sensitive: Option<bool>,
    /// Files that share blocks.
    pub reflinks: bool,
    /// How fine times are, in nanoseconds.
    pub granularity_ns: u64,
    /// The longest name, in bytes.
    pub name_bytes: u64,
}

/// What is below a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Entries.
    pub entries: u64,
    /// Content of files, each counted once however many names it has, in bytes.
    pub bytes: u64,
    /// The longest name, in bytes.
    pub longest_name_bytes: u64,
    /// Pairs of names that differ by case alone, at most a hundred.
    pub case_pairs: Vec<String>,
    /// What cannot be read, at most a hundred.
    pub unreadable: Vec<String>,
    /// How many cannot.
    pub unreadable_entries: u64,
}

/// A line that names a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mention {
    /// The file, below the root.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// The whole path that is named there.
    pub path: String,
    /// Whether there is something at that path on this host.
    pub exists: bool,
}

/// Asks for a value in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueQuery {
    /// The file, absolute.
    pub file: String,
    /// Where in it: a JSON pointer (RFC 6901), in TOML files as well.
    pub pointer: String,
}

/// Processes that have files open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occupants {
    /// The processes.
    pub found: Vec<Occupant>,
    /// How many processes could not be looked at for want of rights.
    pub hidden: u64,
}

/// A process that has a file open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occupant {
    /// Its number.
    pub pid: u32,
    /// Its name and arguments.
    pub command: String,
    /// One of the files: open, mapped, its program, or its working directory.
    pub path: String,
}

/// A SQLite database, known by its header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Its name below the root.
    pub path: String,
    /// Size, mtime and ctime of it and of its `-wal`, `-shm` and `-journal`, digested: equal
    /// before and after a copy, the copy is consistent.
    pub stamp: [u8; 32],
    /// Which of `-wal`, `-shm` and `-journal` are beside it.
    pub beside: Vec<String>,
    /// Bytes in its `-wal`.
    pub wal_bytes: u64,
    /// What the check said, or why it could not be made, if it was asked for: `None` is sound.
    pub fault: Option<String>,
}

/// A command to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program and its arguments; with `shell` one line for `sh -c`.
    pub words: Vec<String>,
    /// Whether a shell reads it.
    pub shell: bool,
    /// As which user; `None` is who runs the errands.
    pub user: Option<String>,
    /// Where; `None` is the user's home.
    pub dir: Option<String>,
    /// Variables beside those of the user's login.
    pub env: Vec<(String, String)>,
    /// How long it may take; then it and all that it started are killed.
    pub timeout: Duration,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It took too long and was killed.
    TimedOut,
    /// It could not be started, and why.
    NotStarted(String),
}

/// Something that shall hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// An HTTP server answers.
    Http {
        /// `http://` or `https://`.
        url: String,
        /// With this status.
        status: u16,
        /// With a body (at most 1 MiB of it is read) that contains this.
        contains: Option<String>,
        /// Within this time.
        timeout: Duration,
    },
    /// Something listens.
    Tcp {
        /// `HOST:PORT`.
        address: String,
        /// Within this time.
        timeout: Duration,
    },
    /// A file is as it should be. What is `None` does not matter.
    File {
        /// The path.
        path: String,
        /// Whether there shall be one.
        exists: bool,
        /// The owner, by name or number.
        owner: Option<String>,
        /// The group, by name or number.
        group: Option<String>,
        /// The permission bits.
        mode: Option<u16>,
        /// Text in it (of at most its first 16 MiB).
        contains: Option<String>,
    },
    /// Everything below a root can be read by a user.
    ReadableAs {
        /// The root.
        root: String,
        /// The user.
        user: String,
    },
}

/// How a source is fenced off beside its marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FenceMeans {
    /// Its directory may not be written to, but by root.
    ReadOnly,
    /// Its name gets `.moved` at its end.
    Rename,
}

/// What a root is in a plan, written into it as `.cutover-marker`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// What the root is.
    pub role: MarkerRole,
    /// The plan's name.
    pub plan: String,
    /// The other end, as `HOST:PATH`.
    pub other: String,
    /// Since when, in seconds since 1970.
    pub since_s: u64,
}

/// What a root is in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MarkerRole {
    /// It was switched away from: nothing is synced from it or to it any more.
    Fenced,
    /// It is kept warm: what is changed in it is lost.
    Standby,
}
