//! What a plan file can say: the words of the TOML, and of the JSON Schema made from them.
//!
//! Everything here is as written. `resolve` makes of it what it means on the hosts.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{ByteRate, Span};

/// A plan: what is moved from where to where, what runs there, and how to tell that it works.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Plan {
    /// The plan's name: letters, digits, `-`, `_` and `.`. It names the journal, what is kept and
    /// the markers.
    pub name: String,
    /// Where it is now.
    #[serde(default)]
    pub source: End,
    /// Where it shall be.
    #[serde(default)]
    pub destination: End,
    /// The directories that are moved. All of them, or the plan has failed.
    #[serde(rename = "root", default)]
    pub roots: Vec<Root>,
    /// How all of them are synced.
    #[serde(default)]
    pub sync: Sync,
    /// Whose the entries become.
    #[serde(default)]
    pub owner: Owner,
    /// What runs on the roots.
    #[serde(default)]
    pub service: Service,
    /// Further commands around the switch.
    #[serde(rename = "hook", default)]
    pub hooks: Vec<Hook>,
    /// What must be so before anything is done.
    #[serde(rename = "expect", default)]
    pub expects: Vec<Expect>,
    /// What must hold once the service runs on the destination.
    #[serde(rename = "check", default)]
    pub checks: Vec<Check>,
    /// How the switch goes.
    #[serde(default)]
    pub switch: Switch,
}

/// One of the two hosts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct End {
    /// `[USER@]HOST`, as ssh takes it; left out, it is this machine.
    pub host: Option<String>,
    /// Further words for ssh, as in `["-F", "file"]`.
    #[serde(default)]
    pub ssh: Vec<String>,
    /// A command in place of ssh, as with `sync -e`.
    pub shell: Option<String>,
    /// Run the agent with `sudo -n`. `~` stays the home of the user who logged in.
    #[serde(default)]
    pub sudo: bool,
    /// The agent to use there; nothing is uploaded then.
    pub agent: Option<String>,
    /// Variables that come before those of the environment there, in paths and in commands.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// A directory that is moved.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Root {
    /// What it is called in messages, and in `CUTOVER_ROOT_NAME` for commands.
    pub name: String,
    /// Its path: absolute, or with `~`, `${VAR}` or `${VAR:-default}`, which each host replaces by
    /// what it is there.
    pub path: String,
    /// Its path on the destination, where it is written differently there.
    pub destination: Option<String>,
    /// Filter rules as with `sync --filter`, before those of `[sync]`.
    #[serde(default)]
    pub filters: Vec<String>,
    /// Names below it without which it is not whole: a plan is refused where one is missing.
    #[serde(default)]
    pub required: Vec<String>,
    /// The root may be missing at the source; it is left out then.
    #[serde(default)]
    pub optional: bool,
    /// Patterns of names that nobody but their owner should read, beside those that are known.
    #[serde(default)]
    pub secrets: Vec<String>,
}

/// How roots are synced.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Sync {
    /// Delete at the destination what the source does not have.
    pub delete: bool,
    /// The most that one sync may delete of a root: a number, or a share such as `"30%"`.
    pub max_delete: Option<Limit>,
    /// Move deleted and replaced entries to `.cutover-trash` in the root instead of away.
    pub trash: bool,
    /// Filter rules as with `sync --filter`, for every root.
    pub filters: Vec<String>,
    /// Compare by content instead of size and time.
    pub checksum: bool,
    /// The most that is sent in a second, as in `"20M"`.
    pub bwlimit: Option<ByteRate>,
    /// When what was written is made durable.
    pub fsync: Fsync,
}

impl Default for Sync {
    fn default() -> Sync {
        Sync {
            delete: true,
            max_delete: None,
            trash: true,
            filters: Vec::new(),
            checksum: false,
            bwlimit: None,
            fsync: Fsync::End,
        }
    }
}

/// A limit of deletions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Limit {
    /// So many entries.
    Entries(u64),
    /// A share, as in `"30%"`.
    Share(String),
}

/// When what was written is made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fsync {
    /// Before a sync reports success.
    #[default]
    End,
    /// Each file before it takes its name.
    Each,
    /// Never.
    None,
}

/// Whose the entries become.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Owner {
    /// `USER:GROUP`, `USER` or `:GROUP` for all of it, as with `sync --chown`.
    pub chown: Option<String>,
    /// Keep numbers; do not look names up.
    pub numeric_ids: bool,
    /// Rules as with `sync --usermap`.
    pub usermap: Vec<String>,
    /// Rules as with `sync --groupmap`.
    pub groupmap: Vec<String>,
    /// Changes of modes as with `sync --chmod`.
    pub chmod: Vec<String>,
}

/// What runs on the roots.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Service {
    /// A systemd unit. It gives the commands `stop`, `start` and `status` that are not given.
    pub unit: Option<String>,
    /// Whether the unit is one of the user's, not the system's.
    pub user_unit: bool,
    /// Who runs it on the destination: must exist there, and be able to read all of it.
    pub user: Option<String>,
    /// Stops it. On the source in a switch, on the destination when it is rolled back.
    pub stop: Option<Action>,
    /// Starts it. On the destination in a switch, on the source when it is rolled back.
    pub start: Option<Action>,
    /// Exits with 0 while it runs, and with something else when it does not.
    pub status: Option<Action>,
    /// Repairs or migrates what came: run once, on the destination, before `start`.
    pub doctor: Option<Action>,
    /// Commands that are others on the source.
    pub source: Override,
    /// Commands that are others on the destination.
    pub destination: Override,
}

/// Commands that are others on one side.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Override {
    /// The unit there.
    pub unit: Option<String>,
    /// In place of the service's.
    pub stop: Option<Action>,
    /// In place of the service's.
    pub start: Option<Action>,
    /// In place of the service's.
    pub status: Option<Action>,
    /// In place of the service's.
    pub doctor: Option<Action>,
}

/// A command: only its words, or all of it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Action {
    /// The program and its arguments.
    Words(Vec<String>),
    /// The same with more to say.
    Full(Command),
}

/// A command.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Command {
    /// The program and its arguments. With `shell = true` one line in quotes.
    pub command: Words,
    /// `sh -c` reads it.
    #[serde(default)]
    pub shell: bool,
    /// As which user.
    pub user: Option<String>,
    /// Where; the user's home unless given.
    pub dir: Option<String>,
    /// Variables for it.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long it may take, as in `"90s"`; then it and what it started are killed.
    #[serde(default = "Span::command")]
    pub timeout: Span,
}

/// The words of a command.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Words {
    /// A line for a shell.
    Line(String),
    /// Words.
    List(Vec<String>),
}

/// A command around the switch.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hook {
    /// When.
    pub when: When,
    /// Where: `source` or `destination`.
    pub on: On,
    /// What.
    pub run: Action,
}

/// When a hook runs.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Before the service is stopped.
    BeforeStop,
    /// After it was stopped and has been proved to be.
    AfterStop,
    /// After the last sync and its proof, before the service starts on the destination.
    BeforeStart,
    /// After the service started and all checks passed.
    AfterSwitch,
    /// After a rollback.
    AfterRollback,
}

/// One side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum On {
    /// Where it is now.
    Source,
    /// Where it shall be.
    Destination,
}

/// What must be so before anything is done.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    tag = "kind"
)]
pub enum Expect {
    /// A value in a configuration file. Where file or key is missing, all is well.
    Value {
        /// The file: JSON, or TOML if its name ends so.
        file: String,
        /// Where in it: a JSON pointer, `/gateway/mode`.
        pointer: String,
        /// It names this root's path on its side.
        is_root: Option<String>,
        /// It is this.
        is: Option<String>,
        /// It is none of these.
        #[serde(default)]
        is_not: Vec<String>,
        /// A second pointer whose value is told with the message: the host that it is on.
        tell: Option<String>,
        /// What is wrong then, and what to do.
        message: String,
        /// On which side; the source unless given.
        #[serde(default = "On::source")]
        on: On,
    },
    /// A variable of the environment of commands. Where it is not set, all is well.
    Variable {
        /// Its name.
        name: String,
        /// It names this root's path.
        is_root: String,
        /// What is wrong then, and what to do.
        message: String,
        /// On which side; the source unless given.
        #[serde(default = "On::source")]
        on: On,
    },
    /// Paths like these are in the plan, all of them: other profiles are not forgotten.
    NoOthers {
        /// Patterns such as `~/.aipro*`.
        paths: Vec<String>,
        /// What is wrong then, and what to do.
        message: String,
    },
}

/// What must hold on the destination.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    tag = "kind"
)]
pub enum Check {
    /// A command exits with 0, and says what it shall.
    Command {
        /// What the check is called in the report.
        name: String,
        /// What.
        run: Action,
        /// Text that its output contains.
        contains: Option<String>,
        /// Tried until it holds or this time is over.
        #[serde(default = "Span::check")]
        within: Span,
    },
    /// An HTTP server answers.
    Http {
        /// What the check is called in the report.
        name: String,
        /// `http://` or `https://`, asked on the destination.
        url: String,
        /// The status.
        #[serde(default = "http_ok")]
        status: u16,
        /// Text that the body contains.
        contains: Option<String>,
        /// Tried until it holds or this time is over.
        #[serde(default = "Span::check")]
        within: Span,
    },
    /// Something listens.
    Tcp {
        /// What the check is called in the report.
        name: String,
        /// `HOST:PORT`, as seen on the destination.
        address: String,
        /// Tried until it holds or this time is over.
        #[serde(default = "Span::check")]
        within: Span,
    },
    /// A file is as it should be.
    File {
        /// What the check is called in the report.
        name: String,
        /// The path on the destination.
        path: String,
        /// Whether it exists.
        #[serde(default = "yes")]
        exists: bool,
        /// Its owner.
        owner: Option<String>,
        /// Its group.
        group: Option<String>,
        /// Its permission bits in octal, as in `"0600"`.
        mode: Option<String>,
        /// Text in it.
        contains: Option<String>,
    },
    /// A user can read everything below a root.
    ReadableAs {
        /// What the check is called in the report.
        name: String,
        /// The root's name; all roots unless given.
        root: Option<String>,
        /// The user; the service's unless given.
        user: Option<String>,
    },
}

/// How the switch goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Switch {
    /// What happens when a step fails.
    pub on_failure: OnFailure,
    /// How the destination's state before the last sync is kept.
    pub keep: KeepState,
    /// How the source is fenced off, beside its marker.
    pub fence: FenceOff,
}

/// What happens when a step of a switch fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// It stops, and says which side is live and what can be done.
    #[default]
    Stop,
    /// It goes back by itself.
    Rollback,
}

/// How the destination's state is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeepState {
    /// Reflinks where the filesystem has them, else hard links.
    #[default]
    Auto,
    /// Reflinks.
    Reflink,
    /// Hard links.
    HardLink,
    /// Copies.
    Copy,
}

/// How the source is fenced off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FenceOff {
    /// By a marker, which cutover heeds.
    #[default]
    Marker,
    /// The root's directory may not be written to.
    ReadOnly,
    /// The root is renamed, with `.moved` at its end.
    Rename,
}

impl On {
    fn source() -> On {
        On::Source
    }
}

fn http_ok() -> u16 {
    200
}

fn yes() -> bool {
    true
}
