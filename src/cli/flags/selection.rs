//! Which entries take part: filter rules, in the order in which they were written, and limits.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Args, Command, FromArgMatches, value_parser};

use crate::error::Error;
use crate::filter::{self, FilterError};
use crate::options::{RuleText, Selection};
use crate::path::escape;

use crate::units::parse_size;

const HEADING: &str = "Selection";

/// `--exclude`, `--include`, their `-from` forms and `--filter`.
///
/// Built by hand and not derived: the first rule that matches decides, so the order between
/// different flags counts, and only clap's indices know it.
#[derive(Clone, Debug, Default)]
pub(crate) struct FilterFlags {
    rules: Vec<(RuleFlag, OsString)>,
    nul_separated: bool,
}

/// A flag that adds rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RuleFlag {
    Exclude,
    Include,
    ExcludeFrom,
    IncludeFrom,
    Filter,
}

impl RuleFlag {
    const ALL: [RuleFlag; 5] = [
        RuleFlag::Exclude,
        RuleFlag::Include,
        RuleFlag::ExcludeFrom,
        RuleFlag::IncludeFrom,
        RuleFlag::Filter,
    ];

    fn name(self) -> &'static str {
        match self {
            RuleFlag::Exclude => "exclude",
            RuleFlag::Include => "include",
            RuleFlag::ExcludeFrom => "exclude-from",
            RuleFlag::IncludeFrom => "include-from",
            RuleFlag::Filter => "filter",
        }
    }

    fn value_name(self) -> &'static str {
        match self {
            RuleFlag::Exclude | RuleFlag::Include => "PATTERN",
            RuleFlag::ExcludeFrom | RuleFlag::IncludeFrom => "FILE",
            RuleFlag::Filter => "RULE",
        }
    }

    fn help(self) -> &'static str {
        match self {
            RuleFlag::Exclude => "Leave out entries that match PATTERN",
            RuleFlag::Include => "Take entries that match PATTERN, whatever a later rule says",
            RuleFlag::ExcludeFrom => "Read exclude patterns from FILE, one on a line",
            RuleFlag::IncludeFrom => "Read include patterns from FILE, one on a line",
            RuleFlag::Filter => "Add a rule in rsync's filter language",
        }
    }

    fn long_help(self) -> &'static str {
        match self {
            RuleFlag::Exclude => {
                "Leave out entries that match PATTERN, and all beneath them. Patterns are \
                 rsync's: `*` stops at a slash, `**` does not, `/` in front ties the pattern to \
                 the root of the tree, `/` at the end makes it match directories only. Of all \
                 rules, in the order of the command line, the first that matches decides; \
                 `cutover explain PATH` tells which one that is."
            }
            RuleFlag::Include => {
                "Take entries that match PATTERN, even if a later rule would leave them out. \
                 Entries that no rule matches are taken."
            }
            RuleFlag::ExcludeFrom => {
                "Read exclude patterns from FILE, one on a line; empty lines and lines that \
                 start with `#` or `;` are skipped."
            }
            RuleFlag::IncludeFrom => {
                "Read include patterns from FILE, one on a line; empty lines and lines that \
                 start with `#` or `;` are skipped."
            }
            RuleFlag::Filter => {
                "Add a rule in rsync's filter language: `- PATTERN` and `+ PATTERN` exclude and \
                 include, `P` and `R` protect entries at the destination from deletion or put \
                 them at risk, `. FILE` and `: FILE` read rules from a file once or in each \
                 directory."
            }
        }
    }

    fn arg(self) -> Arg {
        let arg = Arg::new(self.name())
            .long(self.name())
            .value_name(self.value_name())
            .value_parser(value_parser!(OsString))
            .action(ArgAction::Append)
            // Rules start with a hyphen more often than not.
            .allow_hyphen_values(true)
            .help_heading(HEADING)
            .help(self.help())
            .long_help(self.long_help());
        match self {
            RuleFlag::Filter => arg.short('f'),
            _ => arg,
        }
    }

    fn rules(self, value: &OsString, nul_separated: bool) -> Result<Vec<RuleText>, FilterError> {
        let bytes = value.as_bytes();
        let from_file = |default| filter::read_rule_file(Path::new(value), default, nul_separated);
        match self {
            RuleFlag::Exclude => Ok(vec![filter::exclude(bytes)]),
            RuleFlag::Include => Ok(vec![filter::include(bytes)]),
            RuleFlag::ExcludeFrom => from_file(filter::Default::Exclude),
            RuleFlag::IncludeFrom => from_file(filter::Default::Include),
            RuleFlag::Filter => filter::parse_filter_arg(bytes),
        }
    }
}

impl FilterFlags {
    /// The rules in the order in which they were written. Reads the files that are named.
    pub(crate) fn rules(&self) -> Result<Vec<RuleText>, Error> {
        let mut rules = Vec::new();
        for (flag, value) in &self.rules {
            let parsed = flag.rules(value, self.nul_separated).map_err(|err| {
                let shown = escape(value.as_bytes());
                Error::Usage(format!("--{} {shown}: {err}", flag.name()))
            })?;
            rules.extend(parsed);
        }
        Ok(rules)
    }
}

impl Args for FilterFlags {
    fn augment_args(cmd: Command) -> Command {
        let names = RuleFlag::ALL.map(RuleFlag::name);
        let group = ArgGroup::new("FilterFlags").multiple(true).args(names);
        cmd.group(group).args(RuleFlag::ALL.map(RuleFlag::arg)).arg(
            Arg::new("from0")
                .long("from0")
                .short('0')
                .action(ArgAction::SetTrue)
                .help_heading(HEADING)
                .help("Patterns in files end with a NUL instead of a line end"),
        )
    }

    fn augment_args_for_update(cmd: Command) -> Command {
        FilterFlags::augment_args(cmd)
    }
}

impl FromArgMatches for FilterFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<FilterFlags, clap::Error> {
        let mut flags = FilterFlags::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let mut found = Vec::new();
        for flag in RuleFlag::ALL {
            let indices = matches.indices_of(flag.name()).into_iter().flatten();
            let values = matches.get_many::<OsString>(flag.name());
            for (index, value) in indices.zip(values.into_iter().flatten()) {
                found.push((index, flag, value.clone()));
            }
        }
        found.sort_by_key(|(index, ..)| *index);
        self.rules = found
            .into_iter()
            .map(|(_, flag, value)| (flag, value))
            .collect();
        self.nul_separated = matches.get_flag("from0");
        Ok(())
    }
}

/// All that narrows a tree.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct SelectionFlags {
    #[command(flatten)]
    filters: FilterFlags,

    /// Leave out files larger than SIZE
    ///
    /// In bytes, or with a unit: K, M, G, T, P (also KiB, ...) of 1024, KB, MB, ... of 1000;
    /// `1.5G` and rsync's `2g-1` are understood. Files that are left out are neither sent nor
    /// deleted.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,

    /// Leave out files smaller than SIZE
    ///
    /// Units as for --max-size.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    min_size: Option<u64>,

    /// Stay on the filesystem of the root
    ///
    /// Directories on which another filesystem is mounted are taken as empty directories.
    #[arg(short = 'x', long)]
    one_file_system: bool,
}

impl SelectionFlags {
    /// The filter flags alone.
    pub(crate) fn filters(&self) -> &FilterFlags {
        &self.filters
    }

    /// The selection. Reads the files of rules that are named.
    pub(crate) fn selection(&self) -> Result<Selection, Error> {
        if let (Some(min), Some(max)) = (self.min_size, self.max_size)
            && min > max
        {
            return Err(Error::Usage(
                "--min-size is above --max-size, so that no file would take part: swap them"
                    .to_owned(),
            ));
        }
        Ok(Selection {
            rules: self.filters.rules()?,
            max_size: self.max_size,
            min_size: self.min_size,
            one_file_system: self.one_file_system,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn selection(args: &[&str]) -> Result<Selection, Error> {
        parse::<SelectionFlags>(args).unwrap().selection()
    }

    fn rules(args: &[&str]) -> Vec<String> {
        let rules = selection(args).unwrap().rules;
        let text = |rule: RuleText| String::from_utf8(rule.0).unwrap();
        rules.into_iter().map(text).collect()
    }

    #[test]
    fn rules_keep_the_order_of_the_command_line() {
        let args = [
            "--filter=- *.tmp",
            "--include",
            "/keep/",
            "--exclude=*.o",
            "-f",
            "+ a",
            "--include=b",
            "--exclude",
            "-x*",
        ];
        assert_eq!(
            rules(&args),
            ["- *.tmp", "+ /keep/", "- *.o", "+ a", "+ b", "- -x*"]
        );
    }

    #[test]
    fn files_of_rules_stand_where_they_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let lines = dir.path().join("lines");
        std::fs::write(&lines, "one\ntwo\n").unwrap();
        let lines = lines.to_str().unwrap();
        assert_eq!(
            rules(&["--include=a", "--exclude-from", lines, "--exclude=z"]),
            ["+ a", "- one", "- two", "- z"]
        );
        assert_eq!(rules(&["--include-from", lines]), ["+ one", "+ two"]);
        let nul = dir.path().join("nul");
        std::fs::write(&nul, "one\0two\0").unwrap();
        assert_eq!(
            rules(&["-0", "--exclude-from", nul.to_str().unwrap()]),
            ["- one", "- two"]
        );
    }

    #[test]
    fn a_bad_rule_is_named_with_its_flag() {
        let err = selection(&["--filter=nonsense here"]).unwrap_err();
        assert!(matches!(err, Error::Usage(_)));
        assert!(
            err.to_string().starts_with("--filter nonsense here: "),
            "{err}"
        );
        let err = selection(&["--exclude-from=/nonexistent/rules"]).unwrap_err();
        assert!(
            err.to_string()
                .starts_with("--exclude-from /nonexistent/rules: "),
            "{err}"
        );
    }

    #[test]
    fn limits_are_bytes() {
        let limits = selection(&["--max-size=1M", "--min-size=1kb", "-x"]).unwrap();
        assert_eq!(limits.max_size, Some(1 << 20));
        assert_eq!(limits.min_size, Some(1000));
        assert!(limits.one_file_system);
        assert_eq!(selection(&[]).unwrap(), Selection::default());
        assert!(parse::<SelectionFlags>(&["--max-size=1x"]).is_err());
        assert!(selection(&["--max-size=1K", "--min-size=1M"]).is_err());
    }
}
