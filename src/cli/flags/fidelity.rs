//! Which properties are preserved: all, but for those that a `--no-...` flag gives up.

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Args, Command, FromArgMatches};

use crate::options::Fidelity;

const HEADING: &str = "Fidelity (everything is preserved by default)";

/// One property with its pair of flags, `--no-NAME` and `--NAME`; the later one counts.
struct Property {
    name: &'static str,
    no_name: &'static str,
    /// What `--no-NAME` does.
    no_help: &'static str,
    set: fn(&mut Fidelity, bool),
}

/// The table that flags, help and conversion are made of. `times` stands before `dir-times`, so
/// that `--no-times --dir-times` keeps those of directories.
const PROPERTIES: [Property; 12] = [
    Property {
        name: "perms",
        no_name: "no-perms",
        no_help: "Do not preserve permission bits (ACLs are apart: see --no-acls)",
        set: |fidelity, on| fidelity.perms = on,
    },
    Property {
        name: "owner",
        no_name: "no-owner",
        no_help: "Do not preserve owners",
        set: |fidelity, on| fidelity.owner = on,
    },
    Property {
        name: "group",
        no_name: "no-group",
        no_help: "Do not preserve groups",
        set: |fidelity, on| fidelity.group = on,
    },
    Property {
        name: "times",
        no_name: "no-times",
        no_help: "Do not preserve modification times, of files, directories or symlinks",
        set: |fidelity, on| {
            fidelity.times = on;
            fidelity.dir_times = on;
            fidelity.link_times = on;
        },
    },
    Property {
        name: "dir-times",
        no_name: "no-dir-times",
        no_help: "Do not preserve modification times of directories",
        set: |fidelity, on| fidelity.dir_times = on,
    },
    Property {
        name: "xattrs",
        no_name: "no-xattrs",
        no_help: "Do not preserve extended attributes other than ACLs",
        set: |fidelity, on| fidelity.xattrs = on,
    },
    Property {
        name: "acls",
        no_name: "no-acls",
        no_help: "Do not preserve POSIX ACLs",
        set: |fidelity, on| fidelity.acls = on,
    },
    Property {
        name: "hard-links",
        no_name: "no-hard-links",
        no_help: "Make a file of each name of a hard-linked file",
        set: |fidelity, on| fidelity.hard_links = on,
    },
    Property {
        name: "devices",
        no_name: "no-devices",
        no_help: "Leave out device nodes",
        set: |fidelity, on| fidelity.devices = on,
    },
    Property {
        name: "specials",
        no_name: "no-specials",
        no_help: "Leave out FIFOs and sockets",
        set: |fidelity, on| fidelity.specials = on,
    },
    Property {
        name: "links",
        no_name: "no-links",
        no_help: "Leave out symlinks",
        set: |fidelity, on| fidelity.symlinks = on,
    },
    Property {
        name: "sparse",
        no_name: "no-sparse",
        no_help: "Write holes in files as zeros",
        set: |fidelity, on| fidelity.sparse = on,
    },
];

/// The flags of all properties.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FidelityFlags {
    fidelity: Fidelity,
}

impl FidelityFlags {
    /// The properties that are preserved.
    pub(crate) fn fidelity(&self) -> Fidelity {
        self.fidelity
    }
}

impl Args for FidelityFlags {
    fn augment_args(cmd: Command) -> Command {
        let names = PROPERTIES
            .iter()
            .flat_map(|property| [property.name, property.no_name]);
        let group = ArgGroup::new("FidelityFlags").multiple(true).args(names);
        PROPERTIES.iter().fold(cmd.group(group), |cmd, property| {
            let flag = |name, other| {
                Arg::new(name)
                    .long(name)
                    .action(ArgAction::SetTrue)
                    .overrides_with(other)
                    .help_heading(HEADING)
            };
            let no = flag(property.no_name, property.name).help(property.no_help);
            let yes = flag(property.name, property.no_name)
                .help(format!("Undo an earlier --{}", property.no_name))
                .hide(true);
            cmd.arg(no).arg(yes)
        })
    }

    fn augment_args_for_update(cmd: Command) -> Command {
        FidelityFlags::augment_args(cmd)
    }
}

impl FromArgMatches for FidelityFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<FidelityFlags, clap::Error> {
        let mut flags = FidelityFlags::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for property in &PROPERTIES {
            if matches.get_flag(property.no_name) {
                (property.set)(&mut self.fidelity, false);
            } else if matches.get_flag(property.name) {
                (property.set)(&mut self.fidelity, true);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn fidelity(args: &[&str]) -> Fidelity {
        parse::<FidelityFlags>(args).unwrap().fidelity()
    }

    #[test]
    fn each_property_can_be_given_up_and_taken_back() {
        type Clear = fn(&mut Fidelity);
        let cases: [(&str, Clear); 11] = [
            ("perms", |f| f.perms = false),
            ("owner", |f| f.owner = false),
            ("group", |f| f.group = false),
            ("dir-times", |f| f.dir_times = false),
            ("xattrs", |f| f.xattrs = false),
            ("acls", |f| f.acls = false),
            ("hard-links", |f| f.hard_links = false),
            ("devices", |f| f.devices = false),
            ("specials", |f| f.specials = false),
            ("links", |f| f.symlinks = false),
            ("sparse", |f| f.sparse = false),
        ];
        for (name, clear) in cases {
            let (yes, no) = (format!("--{name}"), format!("--no-{name}"));
            let mut given_up = Fidelity::default();
            clear(&mut given_up);
            assert_eq!(fidelity(&[&no]), given_up, "{no}");
            assert_eq!(fidelity(&[&yes, &no]), given_up, "{yes} {no}");
            assert_eq!(fidelity(&[&no, &yes]), Fidelity::default(), "{no} {yes}");
        }
    }

    #[test]
    fn no_times_covers_all_kinds_but_directories_can_be_taken_out() {
        let none = fidelity(&["--no-times"]);
        assert!(!none.times && !none.dir_times && !none.link_times);
        let dirs = fidelity(&["--no-times", "--dir-times"]);
        assert!(!dirs.times && dirs.dir_times && !dirs.link_times);
        assert_eq!(fidelity(&["--no-times", "--times"]), Fidelity::default());
    }

    #[test]
    fn everything_is_preserved_by_default() {
        assert_eq!(fidelity(&[]), Fidelity::default());
    }
}
