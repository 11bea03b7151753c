//! Lines for people and for the journal, which takes a priority in front of each.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How important a line is, as syslog numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something failed that was to be done.
    Error = 3,
    /// It goes on, but somebody should look.
    Warning = 4,
    /// What is seldom and good to know.
    Notice = 5,
    /// What happens all the time.
    Info = 6,
}

/// How lines are written to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStyle {
    /// As they are.
    Plain,
    /// With `<6>` in front, which the journal takes off again (sd-daemon(3)).
    Journal,
}

impl LogStyle {
    /// The style for this process's standard error: it may be a terminal, a file or the journal.
    pub fn of_stderr() -> LogStyle {
        let Some(journal) = std::env::var_os("JOURNAL_STREAM") else {
            return LogStyle::Plain;
        };
        // Not by its descriptor alone: a service's output may have been redirected since.
        let stderr = Path::new("/proc/self/fd/2").metadata();
        let own = stderr.map(|found| format!("{}:{}", found.dev(), found.ino()));
        match own {
            Ok(own) if journal == own.as_str() => LogStyle::Journal,
            _ => LogStyle::Plain,
        }
    }

    /// A text as it is written, with the end of its last line.
    pub fn written(self, level: Level, text: &str) -> String {
        let lines = text.lines();
        match self {
            LogStyle::Plain => lines.map(|line| format!("{line}\n")).collect(),
            LogStyle::Journal => lines
                .map(|line| format!("<{}>{line}\n", level as u8))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_a_journal_has_its_priority() {
        let written = |style: LogStyle| style.written(Level::Warning, "one\ntwo");
        assert_eq!(written(LogStyle::Plain), "one\ntwo\n");
        assert_eq!(written(LogStyle::Journal), "<4>one\n<4>two\n");
    }
}
