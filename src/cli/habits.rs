//! Options that rsync's users type by habit and that name what happens here anyway. They are no
//! options: one that is taken and means nothing would hide what a run does. But the error says so.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::Command;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

/// Letters of rsync's that name defaults: everything is preserved and read recursively, an
/// interrupted file is gone on with, and what pays is compressed.
const LETTERS: &str = "aAXHrlptgoDSzP";

/// Long names of the same.
const NAMES: [&str; 3] = ["--archive", "--partial", "--recursive"];

/// The commands that a habit from rsync leads to.
const COMMANDS: [&str; 3] = ["sync", "diff", "verify"];

/// An error with a tip on all of these options in `args`, if it is about one of them.
pub(super) fn explained(mut error: Error, cli: &Command, args: &[OsString]) -> Error {
    let Some(ContextValue::String(found)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let mut words = args.iter().skip(1).filter_map(|arg| arg.to_str());
    let command = words
        .find_map(|word| cli.find_subcommand(word))
        .filter(|command| COMMANDS.contains(&command.get_name()));
    let Some(command) = command.filter(|_| error.kind() == ErrorKind::UnknownArgument) else {
        return error;
    };
    let habits = habits(command, args);
    if !habits.contains(found) {
        return error;
    }
    let tip = match habits.len() {
        1 => format!("{} is the default here: leave it out", habits[0]),
        _ => format!("{} are the default here: leave them out", habits.join(", ")),
    };
    let tip = ContextValue::StyledStrs(vec![tip.into()]);
    error.insert(ContextKind::Suggested, tip);
    error
}

/// The options among `args` that name defaults and that the command does not have, each once.
fn habits(command: &Command, args: &[OsString]) -> Vec<String> {
    let options = args.iter().take_while(|arg| *arg != "--");
    let mut habits = Vec::new();
    for arg in options.filter(|arg| arg.as_bytes().starts_with(b"-")) {
        let Some(arg) = arg.to_str() else {
            continue;
        };
        if NAMES.contains(&arg) {
            habits.push(arg.to_owned());
        } else if !arg.starts_with("--") {
            let letters = letters(command, &arg[1..]);
            habits.extend(letters.map(|letter| format!("-{letter}")));
        }
    }
    let mut seen = std::collections::HashSet::new();
    habits.retain(|habit| seen.insert(habit.clone()));
    habits
}

/// Those in one bundle, up to where it is none: at an option's value, or a letter that means
/// nothing.
fn letters<'a>(command: &'a Command, bundle: &'a str) -> impl Iterator<Item = char> + 'a {
    let option = |letter| {
        command
            .get_opts()
            .any(|opt| opt.get_short() == Some(letter))
    };
    let known = |letter| {
        let mut all = command.get_arguments();
        all.any(|arg| arg.get_short() == Some(letter))
    };
    bundle
        .chars()
        .take_while(move |&letter| !option(letter) && (known(letter) || LETTERS.contains(letter)))
        .filter(move |&letter| !known(letter))
}
