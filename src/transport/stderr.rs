//! A command's stderr: read all the time, so that the command never blocks on it, and kept in
//! part, because its last lines say why the command failed.

use std::io::{self, PipeReader, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use super::patience::has_terminal;
use crate::path::escape;

/// How much of the end is kept. A refusal is a line or two; ssh's warning of a changed host key,
/// the longest message that is recognised, has 900 bytes.
const KEPT_BYTES: usize = 4096;

/// How many lines of it are shown.
const SHOWN_LINES: usize = 5;

/// How long the last lines may take to arrive once a command has ended. A daemon that it left
/// behind can hold its stderr open for ever.
const DRAIN: Duration = Duration::from_millis(500);

/// When what a command says is shown on our stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Echo {
    /// As it comes: a person may be asked for something, such as to log in somewhere.
    AtOnce,
    /// When the command has done its part; until then it may become part of an error.
    Later,
    /// Never, but in an error.
    Never,
}

impl Echo {
    /// The one for a command that may talk to a person, if one is there.
    pub(super) fn to_person() -> Echo {
        match has_terminal() {
            true => Echo::AtOnce,
            false => Echo::Later,
        }
    }
}

/// A command's stderr, being read.
pub(super) struct Stderr {
    heard: Arc<Mutex<Heard>>,
    ended: mpsc::Receiver<()>,
}

/// What a command has said last.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    shown: Vec<u8>,
    unshown: Vec<u8>,
}

struct Heard {
    kept: Said,
    echo: Echo,
    /// Where it is shown.
    screen: Box<dyn Write + Send>,
}

impl Stderr {
    /// Reads `pipe` to its end, in a thread of its own.
    pub(super) fn watch(pipe: PipeReader, echo: Echo) -> Stderr {
        Stderr::watch_on(pipe, echo, Box::new(io::stderr()))
    }

    fn watch_on(mut pipe: PipeReader, echo: Echo, screen: Box<dyn Write + Send>) -> Stderr {
        let heard = Arc::new(Mutex::new(Heard {
            kept: Said::default(),
            echo,
            screen,
        }));
        let (end, ended) = mpsc::channel();
        let stderr = Stderr {
            heard: Arc::clone(&heard),
            ended,
        };
        thread::spawn(move || {
            let mut chunk = [0; 1024];
            while let Ok(len @ 1..) = pipe.read(&mut chunk) {
                lock(&heard).take(&chunk[..len]);
            }
            // The receiver is gone when nobody asked.
            let _ = end.send(());
        });
        stderr
    }

    /// Shows what was held back, and from here on keeps only: the other end has started and a
    /// progress bar may be drawn.
    pub(super) fn mute(&self) {
        let mut heard = lock(&self.heard);
        if heard.echo != Echo::Never {
            heard.show();
            heard.echo = Echo::Never;
        }
    }

    /// What the command said last. To be asked when it has ended.
    pub(super) fn tail(&self) -> Said {
        // Either the end was reached, or it will not be in time; what there is then will do.
        let _ = self.ended.recv_timeout(DRAIN);
        lock(&self.heard).kept.clone()
    }
}

impl Heard {
    fn take(&mut self, chunk: &[u8]) {
        self.kept.unshown.extend_from_slice(chunk);
        keep_end(&mut self.kept.unshown);
        if self.echo == Echo::AtOnce {
            self.show();
        }
    }

    fn show(&mut self) {
        let unshown = std::mem::take(&mut self.kept.unshown);
        // Nobody to show it to is no reason to stop reading.
        let _ = self.screen.write_all(&unshown);
        self.kept.shown.extend(unshown);
        keep_end(&mut self.kept.shown);
    }
}

impl Said {
    /// Words that nobody has seen yet, as a command printed them.
    pub(super) fn unseen(text: impl Into<Vec<u8>>) -> Said {
        Said {
            shown: Vec::new(),
            unshown: text.into(),
        }
    }

    /// All of it, to be searched.
    pub(super) fn text(&self) -> String {
        let all = [&self.shown[..], &self.unshown].concat();
        String::from_utf8_lossy(&all).into_owned()
    }

    /// The last lines that were not shown as they came, indented beneath the sentence that they
    /// explain, or nothing.
    pub(super) fn last_lines(&self) -> String {
        let text = String::from_utf8_lossy(&self.unshown);
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..]
            .iter()
            .map(|line| format!("\n    {}", escape(line.as_bytes())))
            .collect()
    }
}

fn keep_end(bytes: &mut Vec<u8>) {
    let surplus = bytes.len().saturating_sub(KEPT_BYTES);
    bytes.drain(..surplus);
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept_and_only_its_last_lines_are_shown() {
        let (reader, mut writer) = io::pipe().unwrap();
        let stderr = Stderr::watch(reader, Echo::Never);
        for line in 0..10_000 {
            writeln!(writer, "line {line}").unwrap();
        }
        drop(writer);
        let tail = stderr.tail();
        assert!(tail.text().len() <= KEPT_BYTES);
        assert_eq!(
            tail.last_lines(),
            "\n    line 9995\n    line 9996\n    line 9997\n    line 9998\n    line 9999"
        );
    }

    #[test]
    fn control_characters_are_made_harmless() {
        let said = Said::unseen("\r\n\x1b[2Jboo\r\n");
        assert_eq!(said.last_lines(), "\n    \\#033[2Jboo");
    }

    /// A command's stderr, and what is shown of it.
    fn shown_on_a_page(echo: Echo) -> (io::PipeWriter, Stderr, PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        let (page, screen) = io::pipe().unwrap();
        let stderr = Stderr::watch_on(reader, echo, Box::new(screen));
        (writer, stderr, page)
    }

    fn rest_of(mut page: PipeReader) -> String {
        let mut text = String::new();
        page.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn without_a_person_last_words_are_kept_for_the_error() {
        let (mut writer, stderr, page) = shown_on_a_page(Echo::Later);
        writer.write_all(b"Connection refused\n").unwrap();
        drop(writer);
        assert_eq!(stderr.tail().last_lines(), "\n    Connection refused");
        drop(stderr);
        assert_eq!(rest_of(page), "");
    }

    #[test]
    fn what_a_person_has_seen_is_not_said_again() {
        let (mut writer, stderr, page) = shown_on_a_page(Echo::AtOnce);
        writer.write_all(b"Connection refused\n").unwrap();
        drop(writer);
        let tail = stderr.tail();
        assert_eq!(tail.last_lines(), "");
        assert!(tail.text().contains("refused"), "it is still searched");
        drop(stderr);
        assert_eq!(rest_of(page), "Connection refused\n");
    }

    #[test]
    fn a_greeting_is_shown_before_the_screen_is_given_up() {
        let (mut writer, stderr, page) = shown_on_a_page(Echo::Later);
        writer.write_all(b"Welcome\n").unwrap();
        while lock(&stderr.heard).kept.unshown.is_empty() {
            thread::yield_now();
        }
        stderr.mute();
        writer.write_all(b"chatter\n").unwrap();
        drop(writer);
        assert_eq!(stderr.tail().last_lines(), "\n    chatter");
        drop(stderr);
        assert_eq!(rest_of(page), "Welcome\n");
    }
}
