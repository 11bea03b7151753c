//! The terminal, where somebody is asked for what shall not be on the command line. Apart from the
//! standard streams, which may be pipes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};

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
    match ask_unseen(&mut terminal, question) {
        Ok(answer) if answer.ends_with(CTRL_C) => Err(Error::Interrupted),
        Ok(answer) => Ok(answer),
        Err(err) => Err(Error::io("ask on", "the terminal", err)),
    }
}

/// What Ctrl-C types where it sends no signal.
const CTRL_C: char = '\x03';

/// While nothing is echoed Ctrl-C ends the line instead of the process, which would leave the
/// terminal so.
fn ask_unseen(terminal: &mut File, question: &str) -> io::Result<String> {
    let before = tcgetattr(&*terminal)?;
    let mut unseen = before.clone();
    unseen
        .local_modes
        .remove(LocalModes::ECHO | LocalModes::ISIG);
    // The answer's end alone is shown.
    unseen.local_modes.insert(LocalModes::ECHONL);
    unseen.special_codes[SpecialCodeIndex::VEOL] = CTRL_C as u8;
    tcsetattr(&*terminal, OptionalActions::Now, &unseen)?;
    let answer = ask(terminal, question);
    tcsetattr(&*terminal, OptionalActions::Now, &before)?;
    answer
}

fn ask(terminal: &mut File, question: &str) -> io::Result<String> {
    write!(terminal, "{question}: ")?;
    terminal.flush()?;
    let mut line = Vec::new();
    let mut terminal = BufReader::new(&*terminal);
    let ends = |line: &[u8]| matches!(line.last(), Some(b'\n') | Some(3));
    while !ends(&line) {
        let typed = terminal.fill_buf()?;
        if typed.is_empty() {
            break;
        }
        line.extend_from_slice(typed);
        let len = typed.len();
        terminal.consume(len);
    }
    let line = String::from_utf8(line)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the answer is not UTF-8"))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_string())
}
