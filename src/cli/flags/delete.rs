//! What becomes of entries that only the destination has, and of what is replaced.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::str::FromStr;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgGroup, Args};

use crate::options::{Delete, DeleteLimit, Keep, Trash};

/// What is deleted.
#[derive(Clone, Debug, Args)]
#[command(
    next_help_heading = "Deletion",
    group = ArgGroup::new("deletion").multiple(true).args(["delete", "delete_excluded"])
)]
pub(crate) struct DeleteFlags {
    /// Delete entries at the destination that the source does not have
    ///
    /// Excluded entries stay. Nothing is deleted when the source could not be read in full; the
    /// run is refused when the source is empty, or when more would go than --max-delete allows.
    #[arg(long)]
    delete: bool,

    /// Delete excluded entries at the destination too (implies --delete)
    #[arg(long)]
    delete_excluded: bool,

    /// Refuse to delete more than N entries, or P% of the destination's
    ///
    /// Without it, a run that would delete more than half of the destination's entries, and over
    /// 100, is refused. 0 to 18446744073709551615, or 0% to 100%.
    #[arg(long, value_name = "N|P%", value_parser = DeleteLimit::from_str, requires = "deletion")]
    max_delete: Option<DeleteLimit>,
}

/// Where deleted and replaced entries go.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Deletion")]
pub(crate) struct KeepFlags {
    /// Move deleted and replaced entries to DIR instead of away
    ///
    /// Each run gets a folder of its own in it. DIR is on the destination's host and filesystem,
    /// relative to the working directory there (over ssh, the home directory); without =DIR it is `.cutover-trash` in the destination's root, which is never synced nor
    /// deleted.
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true,
          value_parser = non_empty(), conflicts_with = "backup")]
    trash: Option<Option<OsString>>,

    /// Keep replaced and deleted entries beside the new ones, under their name with SUFFIX
    ///
    /// SUFFIX is `~` unless given.
    #[arg(long, value_name = "SUFFIX", num_args = 0..=1, require_equals = true,
          value_parser = suffix())]
    backup: Option<Option<OsString>>,
}

impl DeleteFlags {
    /// What is deleted.
    pub(crate) fn delete(&self) -> Option<Delete> {
        (self.delete || self.delete_excluded).then_some(Delete {
            excluded: self.delete_excluded,
            max: self.max_delete,
        })
    }
}

impl KeepFlags {
    /// What is kept.
    pub(crate) fn keep(&self) -> Keep {
        Keep {
            trash: self.trash.as_ref().map(|dir| match dir {
                None => Trash::InRoot,
                Some(dir) => Trash::At(dir.clone().into_vec()),
            }),
            backup_suffix: self.backup.as_ref().map(|suffix| match suffix {
                None => b"~".to_vec(),
                Some(suffix) => suffix.clone().into_vec(),
            }),
        }
    }
}

fn non_empty() -> impl TypedValueParser<Value = OsString> {
    OsStringValueParser::new().try_map(|value| {
        if value.is_empty() {
            return Err("it is empty: name a directory, or leave the = out");
        }
        Ok(value)
    })
}

fn suffix() -> impl TypedValueParser<Value = OsString> {
    OsStringValueParser::new().try_map(|value| {
        let bytes = value.as_encoded_bytes();
        if bytes.is_empty() || bytes.contains(&b'/') {
            return Err("a suffix has at least one character and no slash");
        }
        Ok(value)
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn delete(args: &[&str]) -> Option<Delete> {
        parse::<DeleteFlags>(args).unwrap().delete()
    }

    fn keep(args: &[&str]) -> Keep {
        parse::<KeepFlags>(args).unwrap().keep()
    }

    #[test]
    fn nothing_is_deleted_unless_asked_for() {
        assert_eq!(delete(&[]), None);
        assert_eq!(delete(&["--delete"]), Some(Delete::default()));
        let excluded = Delete {
            excluded: true,
            max: None,
        };
        assert_eq!(delete(&["--delete-excluded"]), Some(excluded));
        assert_eq!(delete(&["--delete", "--delete-excluded"]), Some(excluded));
    }

    #[test]
    fn the_limit_is_a_number_or_a_share() {
        let max = |value: &str| {
            let arg = format!("--max-delete={value}");
            parse::<DeleteFlags>(&["--delete", &arg]).map(|flags| flags.max_delete)
        };
        assert_eq!(max("10").unwrap(), Some(DeleteLimit::Entries(10)));
        assert_eq!(max("0").unwrap(), Some(DeleteLimit::Entries(0)));
        assert_eq!(max("25%").unwrap(), Some(DeleteLimit::Percent(25)));
        assert_eq!(max("100%").unwrap(), Some(DeleteLimit::Percent(100)));
        for bad in ["", "%", "101%", "-1", "x", "1.5%"] {
            assert!(max(bad).is_err(), "{bad}");
        }
        assert!(parse::<DeleteFlags>(&["--max-delete=1"]).is_err());
    }

    #[test]
    fn trash_is_in_the_root_unless_it_is_named() {
        assert_eq!(keep(&[]), Keep::default());
        assert_eq!(keep(&["--trash"]).trash, Some(Trash::InRoot));
        assert_eq!(keep(&["--trash=/t"]).trash, Some(Trash::At(b"/t".to_vec())));
        assert!(parse::<DeleteFlags>(&["--trash="]).is_err());
        assert!(parse::<DeleteFlags>(&["--trash", "--backup"]).is_err());
    }

    #[test]
    fn backups_have_a_suffix() {
        assert_eq!(keep(&["--backup"]).backup_suffix, Some(b"~".to_vec()));
        assert_eq!(
            keep(&["--backup=.old"]).backup_suffix,
            Some(b".old".to_vec())
        );
        assert!(parse::<DeleteFlags>(&["--backup="]).is_err());
        assert!(parse::<DeleteFlags>(&["--backup=/x"]).is_err());
    }
}
