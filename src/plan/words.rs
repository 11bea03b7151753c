//! What the words of a plan say of themselves. Apart from `model`, which is the file format and
//! nothing else.

use std::collections::BTreeMap;

use super::model::{Action, Check, Command, End, On, When, Words};
use super::units::Span;
use crate::events::Side;

impl From<On> for Side {
    fn from(on: On) -> Side {
        match on {
            On::Source => Side::Source,
            On::Destination => Side::Destination,
        }
    }
}

impl End {
    /// Whether it is this machine.
    pub fn is_here(&self) -> bool {
        self.host.is_none() && self.shell.is_none()
    }
}

impl When {
    /// All of them, in their order.
    pub const ALL: [When; 5] = [
        When::BeforeStop,
        When::AfterStop,
        When::BeforeStart,
        When::AfterSwitch,
        When::AfterRollback,
    ];

    /// As a plan writes it.
    pub fn word(self) -> &'static str {
        match self {
            When::BeforeStop => "before-stop",
            When::AfterStop => "after-stop",
            When::BeforeStart => "before-start",
            When::AfterSwitch => "after-switch",
            When::AfterRollback => "after-rollback",
        }
    }
}

impl Action {
    /// The command, whole.
    pub fn command(&self) -> Command {
        match self {
            Action::Full(command) => command.clone(),
            Action::Words(words) => Command {
                command: Words::List(words.clone()),
                shell: false,
                user: None,
                dir: None,
                env: BTreeMap::new(),
                timeout: Span::command(),
            },
        }
    }
}

impl Check {
    /// What it is called.
    pub fn name(&self) -> &str {
        match self {
            Check::Command { name, .. }
            | Check::Http { name, .. }
            | Check::Tcp { name, .. }
            | Check::File { name, .. }
            | Check::ReadableAs { name, .. } => name,
        }
    }
}
