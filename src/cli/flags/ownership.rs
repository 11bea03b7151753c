//! Whose the entries become, and with which permissions.

use clap::Args;

use crate::options::{Ownership, SyncOptions};

/// Owner and mode mapping.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Ownership")]
pub(crate) struct OwnershipFlags {
    /// Keep owner and group numbers; do not look their names up at the destination
    #[arg(long)]
    numeric_ids: bool,

    /// Give all entries to USER and GROUP: names or numbers at the destination
    ///
    /// Either may be left out (`USER`, `USER:` and `:GROUP`). Goes before
    /// --no-owner and --no-group.
    #[arg(long, value_name = "USER:GROUP", value_parser = parse_chown,
          conflicts_with_all = ["usermap", "groupmap"])]
    chown: Option<Chown>,

    /// Map owners: FROM:TO,... with names, numbers, ranges (0-99) and patterns (*)
    ///
    /// FROM is matched at the source, TO is looked up at the destination; the first rule that
    /// matches counts. Goes before --no-owner.
    #[arg(long, value_name = "RULES", value_parser = parse_map)]
    usermap: Vec<Rules>,

    /// Map groups, as --usermap does owners
    #[arg(long, value_name = "RULES", value_parser = parse_map)]
    groupmap: Vec<Rules>,

    /// Change permission bits on the way: `u+rwX,go-w`, `D755,F644`
    ///
    /// Clauses as chmod takes them, separated by commas; a `D` in front is for directories only,
    /// an `F` for all others. May be given several times.
    #[arg(long, value_name = "CLAUSES", value_parser = parse_chmod, allow_hyphen_values = true)]
    chmod: Vec<Rules>,

    /// Store owners, devices and ACLs in extended attributes instead of setting them
    ///
    /// The format is rsync's (`user.rsync.%stat`), so that a receiver without root keeps what it
    /// may not set.
    #[arg(long)]
    fake_super: bool,

    /// Take owners, modes, devices and ACLs from what --fake-super has stored in SRC
    ///
    /// Restores such a copy when root, or carries it on together with --fake-super. Entries
    /// without a stored owner are what they are. Who may write to SRC decides on owners and modes.
    #[arg(long)]
    from_fake_super: bool,
}

/// Whom `--chown` gives all to; checked to have the form of it.
#[derive(Clone, Debug)]
struct Chown(String);

/// What one flag's commas separated.
#[derive(Clone, Debug)]
struct Rules(Vec<String>);

impl OwnershipFlags {
    /// Puts the mapping, and what it implies, into `options`.
    pub(crate) fn apply_to(&self, options: &mut SyncOptions) {
        let mut ownership = Ownership {
            numeric_ids: self.numeric_ids,
            usermap: joined(&self.usermap),
            groupmap: joined(&self.groupmap),
        };
        if let Some(Chown(owner)) = &self.chown {
            // Its form was checked when the command line was read.
            let _ = ownership.give_all_to(owner);
        }
        options.fidelity.owner |= !ownership.usermap.is_empty();
        options.fidelity.group |= !ownership.groupmap.is_empty();
        options.ownership = ownership;
        options.chmod = joined(&self.chmod);
        options.fake_super = self.fake_super;
        options.from_fake_super = self.from_fake_super;
    }
}

fn joined(rules: &[Rules]) -> Vec<String> {
    rules.iter().flat_map(|rules| rules.0.clone()).collect()
}

fn parse_chown(text: &str) -> Result<Chown, String> {
    Ownership::default().give_all_to(text)?;
    Ok(Chown(text.to_owned()))
}

fn parse_map(text: &str) -> Result<Rules, String> {
    let rules = text
        .split(',')
        .map(|rule| Ownership::check_rule(rule).map(|()| rule.to_owned()));
    Ok(Rules(rules.collect::<Result<_, _>>()?))
}

fn parse_chmod(text: &str) -> Result<Rules, String> {
    let clauses = text.split(',').map(|clause| {
        if is_chmod_clause(clause) {
            Ok(clause.to_owned())
        } else {
            Err(format!(
                "{clause:?} is no mode: write it as chmod does (u+rwX, 644), with D or F in front \
                 for directories or others alone"
            ))
        }
    });
    Ok(Rules(clauses.collect::<Result<_, _>>()?))
}

fn is_chmod_clause(clause: &str) -> bool {
    let mode = clause.strip_prefix(['D', 'F']).unwrap_or(clause);
    is_octal_mode(mode) || is_symbolic_mode(mode)
}

fn is_octal_mode(mode: &str) -> bool {
    (1..=4).contains(&mode.len()) && mode.bytes().all(|b| matches!(b, b'0'..=b'7'))
}

/// `[ugoa]*` and then one or more of an operator with its bits.
fn is_symbolic_mode(mode: &str) -> bool {
    let operations = mode.trim_start_matches(['u', 'g', 'o', 'a']);
    operations.starts_with(['+', '-', '='])
        && operations
            .chars()
            .all(|c| matches!(c, '+' | '-' | '=' | 'r' | 'w' | 'x' | 'X' | 's' | 't'))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn options(args: &[&str]) -> SyncOptions {
        let mut options = SyncOptions::default();
        parse::<OwnershipFlags>(args)
            .unwrap()
            .apply_to(&mut options);
        options
    }

    #[test]
    fn chown_is_a_map_of_everyone() {
        let cases: [(&str, &[&str], &[&str]); 4] = [
            ("app:www", &["*:app"], &["*:www"]),
            ("app", &["*:app"], &[]),
            ("app:", &["*:app"], &[]),
            (":33", &[], &["*:33"]),
        ];
        for (value, usermap, groupmap) in cases {
            let ownership = options(&["--chown", value]).ownership;
            assert_eq!(ownership.usermap, usermap, "{value}");
            assert_eq!(ownership.groupmap, groupmap, "{value}");
        }
        for bad in [&["--chown="][..], &["--chown=:"]] {
            assert!(parse::<OwnershipFlags>(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn maps_keep_their_order() {
        let ownership = options(&[
            "--usermap=0-99:nobody,wayne:admin",
            "--usermap=*:normal",
            "--groupmap=:nogroup",
        ])
        .ownership;
        assert_eq!(
            ownership.usermap,
            ["0-99:nobody", "wayne:admin", "*:normal"]
        );
        assert_eq!(ownership.groupmap, [":nogroup"]);
        for bad in ["--usermap=a", "--usermap=a:", "--groupmap=a:b,"] {
            assert!(parse::<OwnershipFlags>(&[bad]).is_err(), "{bad}");
        }
        assert!(parse::<OwnershipFlags>(&["--chown=a", "--usermap=b:c"]).is_err());
    }

    #[test]
    fn a_map_implies_that_what_it_maps_is_preserved() {
        let mut given_up = SyncOptions::default();
        given_up.fidelity.owner = false;
        given_up.fidelity.group = false;
        let flags = parse::<OwnershipFlags>(&["--chown=app"]).unwrap();
        flags.apply_to(&mut given_up);
        assert!(given_up.fidelity.owner && !given_up.fidelity.group);
    }

    #[test]
    fn chmod_clauses_keep_their_order() {
        let given = options(&["--chmod", "u+rwX,go-w", "--chmod=D2755,F644", "--chmod=-t"]);
        assert_eq!(given.chmod, ["u+rwX", "go-w", "D2755", "F644", "-t"]);
        for bad in [
            "", "u", "u+rwx,", "888", "07777", "x+r", "D", "u+q", "u+g-ü",
        ] {
            let arg = format!("--chmod={bad}");
            assert!(parse::<OwnershipFlags>(&[&arg]).is_err(), "{bad}");
        }
    }

    #[test]
    fn switches_are_off_by_default() {
        assert_eq!(options(&[]), SyncOptions::default());
        let on = options(&["--numeric-ids", "--fake-super"]);
        assert!(on.ownership.numeric_ids && on.fake_super && !on.from_fake_super);
        assert!(options(&["--from-fake-super"]).from_fake_super);
    }
}
