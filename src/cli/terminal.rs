//! The terminal, where somebody is asked for what shall not be on the command line. Apart from the
//! standard streams, which may be pipes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::error::Error;

/// Asks for a secret, which does not appear as it is typed.
pub(super) fn ask_secret(question: &str) -> Result<String, Error> {
    let mut terminal = File::options()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(|_| {
            Error::Usage(
                "there is no terminal to ask for the passphrase on: use --passphrase-file".into(),
            )
        })?;
    let answer = ask_unseen(&mut terminal, question);
    answer.map_err(|err| Error::io("ask on", "the terminal", err))
}

fn ask_unseen(terminal: &mut File, question: &str) -> io::Result<String> {
    let before = tcgetattr(&*terminal)?;
    let mut unseen = before.clone();
    unseen.local_modes.remove(LocalModes::ECHO);
    // The answer's end alone is shown.
    unseen.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(&*terminal, OptionalActions::Now, &unseen)?;
    let answer = ask(terminal, question);
    tcsetattr(&*terminal, OptionalActions::Now, &before)?;
    answer
}

fn ask(terminal: &mut File, question: &str) -> io::Result<String> {
    write!(terminal, "{question}: ")?;
    terminal.flush()?;
    let mut line = String::new();
    BufReader::new(&*terminal).read_line(&mut line)?;
    line.truncate(line.trim_end_matches(['\n', '\r']).len());
    Ok(line)
}
