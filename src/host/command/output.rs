//! What a command writes, cut into lines.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::path::escape;
use crate::protocol::errand::OutputLine;

/// The longest part of a line that is passed on, in bytes before it is made printable.
const LINE_MAX: usize = 8 << 10;

/// What is read of one stream before the other is looked at, in bytes: as much as a pipe holds.
const READ_MAX: usize = 64 << 10;

/// The streams of a command that are still open.
pub(super) struct Outputs {
    streams: Vec<Stream>,
}

struct Stream {
    pipe: File,
    is_stderr: bool,
    line: Vec<u8>,
}

impl Outputs {
    /// Takes the output and the error output of a child.
    pub(super) fn of(child: &mut Child) -> io::Result<Outputs> {
        let stdout = child.stdout.take().map(OwnedFd::from);
        let stderr = child.stderr.take().map(OwnedFd::from);
        let mut streams = Vec::new();
        for (pipe, is_stderr) in [(stdout, false), (stderr, true)] {
            let Some(pipe) = pipe.map(File::from) else {
                continue;
            };
            rustix::io::ioctl_fionbio(&pipe, true)?;
            streams.push(Stream {
                pipe,
                is_stderr,
                line: Vec::new(),
            });
        }
        Ok(Outputs { streams })
    }

    /// Whether nobody holds any of them open.
    pub(super) fn are_closed(&self) -> bool {
        self.streams.is_empty()
    }

    /// Passes on what comes within so long, at once when something does. `false`: nothing came.
    pub(super) fn pass_on(&mut self, wait: Duration, output: &mut dyn FnMut(OutputLine)) -> bool {
        let mut fds: Vec<_> = self
            .streams
            .iter()
            .map(|stream| PollFd::new(&stream.pipe, PollFlags::IN))
            .collect();
        let wait = Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: wait.subsec_nanos().into(),
        };
        // An interrupted wait is a short one.
        let ready = poll(&mut fds, Some(&wait)).unwrap_or(0);
        if ready > 0 {
            self.streams.retain_mut(|stream| stream.read(output));
        }
        ready > 0
    }

    /// Passes on what is left, and what follows it within so long.
    pub(super) fn finish(&mut self, within: Duration, output: &mut dyn FnMut(OutputLine)) {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let came = self.pass_on(left, output);
            if self.are_closed() || left.is_zero() || !came {
                break;
            }
        }
        for stream in &mut self.streams {
            stream.end_line(output);
        }
    }
}

impl Stream {
    /// Reads what is there. `false` at the stream's end.
    fn read(&mut self, output: &mut dyn FnMut(OutputLine)) -> bool {
        let mut buffer = [0; 8 << 10];
        let mut total = 0;
        while total < READ_MAX {
            match self.pipe.read(&mut buffer) {
                Ok(0) => {
                    self.end_line(output);
                    return false;
                }
                Ok(len) => {
                    self.take(&buffer[..len], output);
                    total += len;
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        true
    }

    fn take(&mut self, bytes: &[u8], output: &mut dyn FnMut(OutputLine)) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ends) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            let room = LINE_MAX - self.line.len();
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.say(output);
            }
        }
    }

    /// Passes on a last line without an end.
    fn end_line(&mut self, output: &mut dyn FnMut(OutputLine)) {
        if !self.line.is_empty() {
            self.say(output);
        }
    }

    fn say(&mut self, output: &mut dyn FnMut(OutputLine)) {
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        for byte in &mut line {
            // The one control character of ordinary tables.
            if *byte == b'\t' {
                *byte = b' ';
            }
        }
        output(OutputLine {
            is_stderr: self.is_stderr,
            text: escape(&line).into_owned(),
        });
    }
}
