//! A command's stderr: read all the time, so that the command never blocks on it, and kept in
//! part, because its last lines say why the command failed.

use std::io::{self, PipeReader, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use crate::path::escape;

/// How much of the end is kept. A refusal is a line or two; ssh's warning of a changed host key,
/// the longest message that is recognised, has 900 bytes.
const KEPT_BYTES: usize = 4096;

/// How many lines of it are shown.
const SHOWN_LINES: usize = 5;

/// How long the last lines may take to arrive once a command has ended. A daemon that it left
/// behind can hold its stderr open for ever.
const DRAIN: Duration = Duration::from_millis(500);

/// Whether what a command says is also shown as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Echo {
    /// On our stderr: while it may be instructions for a person, such as where to log in.
    On,
    /// Only kept.
    Off,
}

/// A command's stderr, being read.
pub(super) struct Stderr {
    kept: Arc<Mutex<Vec<u8>>>,
    echo: Arc<AtomicBool>,
    ended: mpsc::Receiver<()>,
}

impl Stderr {
    /// Reads `pipe` to its end, in a thread of its own.
    pub(super) fn watch(mut pipe: PipeReader, echo: Echo) -> Stderr {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let echo = Arc::new(AtomicBool::new(echo == Echo::On));
        let (end, ended) = mpsc::channel();
        let stderr = Stderr {
            kept: Arc::clone(&kept),
            echo: Arc::clone(&echo),
            ended,
        };
        thread::spawn(move || {
            let mut chunk = [0; 1024];
            while let Ok(len @ 1..) = pipe.read(&mut chunk) {
                keep(&kept, &chunk[..len]);
                if echo.load(Ordering::Relaxed) {
                    // Nobody to show it to is no reason to stop reading.
                    let _ = io::stderr().write_all(&chunk[..len]);
                }
            }
            // The receiver is gone when nobody asked.
            let _ = end.send(());
        });
        stderr
    }

    /// From here on keeps only: the other end has started and a progress bar may be drawn.
    pub(super) fn mute(&self) {
        self.echo.store(false, Ordering::Relaxed);
    }

    /// What the command said last, as it came. To be asked when it has ended.
    pub(super) fn tail(&self) -> String {
        // Either the end was reached, or it will not be in time; what there is then will do.
        let _ = self.ended.recv_timeout(DRAIN);
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).into_owned()
    }
}

fn keep(kept: &Mutex<Vec<u8>>, chunk: &[u8]) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.extend_from_slice(chunk);
    let surplus = kept.len().saturating_sub(KEPT_BYTES);
    kept.drain(..surplus);
}

/// The last lines of `text`, indented beneath the sentence that they explain, or nothing.
pub(super) fn last_lines(text: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept_and_only_its_last_lines_are_shown() {
        let (reader, mut writer) = io::pipe().unwrap();
        let stderr = Stderr::watch(reader, Echo::Off);
        for line in 0..10_000 {
            writeln!(writer, "line {line}").unwrap();
        }
        drop(writer);
        let tail = stderr.tail();
        assert!(tail.len() <= KEPT_BYTES);
        assert_eq!(
            last_lines(&tail),
            "\n    line 9995\n    line 9996\n    line 9997\n    line 9998\n    line 9999"
        );
    }

    #[test]
    fn control_characters_are_made_harmless() {
        assert_eq!(last_lines("\r\n\x1b[2Jboo\r\n"), "\n    \\#033[2Jboo");
    }
}
