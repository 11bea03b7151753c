//! How files of the same name are held to be equal.

use clap::Args;

use crate::options::Compare;

/// `--checksum`, `--size-only`, `--ignore-times`: at most one of them. Without, size and mtime
/// decide.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Comparison")]
pub(crate) struct CompareFlags {
    /// Compare files by content instead of size and time
    ///
    /// Both sides hash every file. Hashes are kept from run to run and used again while a file's
    /// size and times stand, so that a repeated run reads only what changed.
    #[arg(short, long, conflicts_with_all = ["size_only", "ignore_times"])]
    checksum: bool,

    /// Hold files of the same size to be equal, whatever their times
    #[arg(long, conflicts_with = "ignore_times")]
    size_only: bool,

    /// Hold no file to be equal for its size and time: compare every one by content
    #[arg(short = 'I', long)]
    ignore_times: bool,

    /// Hash every file anew, trusting no hash that was kept (with --checksum)
    #[arg(long, requires = "checksum")]
    rehash: bool,
}

impl CompareFlags {
    /// The way to compare.
    pub(crate) fn compare(&self) -> Compare {
        match self {
            _ if self.checksum => Compare::Checksum,
            _ if self.size_only => Compare::SizeOnly,
            _ if self.ignore_times => Compare::IgnoreTimes,
            _ => Compare::Quick,
        }
    }

    /// Whether kept hashes are distrusted.
    pub(crate) fn rehash(&self) -> bool {
        self.rehash
    }
}

/// `--rehash` for commands that always compare by content.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Comparison")]
pub(crate) struct RehashFlag {
    /// Hash every file anew, trusting no hash that was kept
    ///
    /// Hashes are kept from run to run and used again while a file's size and times stand. A
    /// disk that changes bytes behind the filesystem's back is only found with this.
    #[arg(long)]
    pub(crate) rehash: bool,
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn each_flag_is_a_way_to_compare() {
        let cases: [(&[&str], Compare); 6] = [
            (&[], Compare::Quick),
            (&["-c"], Compare::Checksum),
            (&["--checksum"], Compare::Checksum),
            (&["--size-only"], Compare::SizeOnly),
            (&["-I"], Compare::IgnoreTimes),
            (&["--ignore-times"], Compare::IgnoreTimes),
        ];
        for (args, compare) in cases {
            assert_eq!(parse::<CompareFlags>(args).unwrap().compare(), compare);
        }
    }

    #[test]
    fn two_ways_at_once_are_refused() {
        for args in [["-c", "-I"], ["-c", "--size-only"], ["-I", "--size-only"]] {
            assert!(parse::<CompareFlags>(&args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn rehash_needs_hashes() {
        assert!(parse::<CompareFlags>(&["--rehash"]).is_err());
        assert!(parse::<CompareFlags>(&["-c", "--rehash"]).unwrap().rehash());
        assert!(parse::<RehashFlag>(&["--rehash"]).unwrap().rehash);
    }
}
