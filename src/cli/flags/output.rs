//! What is shown of a run, and whether it is only a preview.

use clap::Args;

use crate::ui::{Detail, Format, ShowProgress};

/// What every command that runs takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputFlags {
    /// Say what the run decides, and why
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,

    /// Say nothing but errors; the exit code tells the rest
    #[arg(short, long)]
    quiet: bool,

    /// Write JSON lines to standard output instead of text
    ///
    /// doc/json.md documents them.
    #[arg(long, conflicts_with = "quiet")]
    json: bool,

    /// Show progress, with --json or --quiet too
    ///
    /// On standard error: a bar on a terminal, elsewhere a line every 30 seconds.
    #[arg(long, overrides_with = "no_progress")]
    progress: bool,

    /// Show no progress
    #[arg(long)]
    no_progress: bool,
}

impl OutputFlags {
    /// How much is said.
    pub(crate) fn detail(&self) -> Detail {
        match self {
            _ if self.quiet => Detail::Quiet,
            _ if self.verbose => Detail::Verbose,
            _ => Detail::Normal,
        }
    }

    /// Whom for.
    pub(crate) fn format(&self) -> Format {
        if self.json {
            Format::Json
        } else {
            Format::People
        }
    }

    /// Whether progress is shown: by default to people who want to be told anything.
    pub(crate) fn progress(&self) -> ShowProgress {
        if self.progress || !(self.no_progress || self.quiet || self.json) {
            ShowProgress::Yes
        } else {
            ShowProgress::No
        }
    }
}

/// What only a command that changes something takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct PreviewFlags {
    /// Change nothing; show what would be changed
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,

    /// Write a line for each changed entry
    ///
    /// The lines are rsync's `YXcstpoguax` and the path. Y: `<` sent to another host, `>`
    /// received or copied locally, `c` made or renamed at the destination, `h` hard link, `.`
    /// only attributes, `*deleting`. X: `f` file, `d` directory, `L` symlink, `D` device, `S`
    /// FIFO or socket. Then what differed: content, size, time, permissions, owner, group, ACL,
    /// xattrs; `+++++++++` is a new entry. ` => NAME` follows hard links, ` <= OLD` moves, ` <-
    /// NAME` copies made at the destination.
    #[arg(short, long)]
    itemize_changes: bool,
}

impl PreviewFlags {
    /// Whether changed entries are listed: a preview is nothing else.
    pub(crate) fn items(&self) -> bool {
        self.itemize_changes || self.dry_run
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn output(args: &[&str]) -> OutputFlags {
        parse::<OutputFlags>(args).unwrap()
    }

    #[test]
    fn quiet_and_verbose_exclude_each_other() {
        assert_eq!(output(&[]).detail(), Detail::Normal);
        assert_eq!(output(&["-v"]).detail(), Detail::Verbose);
        assert_eq!(output(&["-vv"]).detail(), Detail::Verbose);
        assert_eq!(output(&["--quiet"]).detail(), Detail::Quiet);
        assert!(parse::<OutputFlags>(&["-q", "-v"]).is_err());
        assert!(parse::<OutputFlags>(&["-q", "--json"]).is_err());
    }

    #[test]
    fn progress_is_for_people_unless_asked_for() {
        let cases: [(&[&str], ShowProgress); 8] = [
            (&[], ShowProgress::Yes),
            (&["--no-progress"], ShowProgress::No),
            (&["--quiet"], ShowProgress::No),
            (&["--json"], ShowProgress::No),
            (&["--json", "--progress"], ShowProgress::Yes),
            (&["-q", "--progress"], ShowProgress::Yes),
            (&["--no-progress", "--progress"], ShowProgress::Yes),
            (&["--progress", "--no-progress"], ShowProgress::No),
        ];
        for (args, shown) in cases {
            assert_eq!(output(args).progress(), shown, "{args:?}");
        }
    }

    #[test]
    fn json_is_a_format() {
        assert_eq!(output(&["--json"]).format(), Format::Json);
        assert_eq!(output(&[]).format(), Format::People);
    }

    #[test]
    fn a_preview_lists_what_it_would_change() {
        let items = |args: &[&str]| parse::<PreviewFlags>(args).unwrap().items();
        assert!(!items(&[]));
        assert!(items(&["-n"]));
        assert!(items(&["--itemize-changes"]));
    }
}
