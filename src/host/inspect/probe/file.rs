//! Whether a file is as it should be.

use std::io::{self, Read};
use std::path::Path;

use crate::fs::{self, Stat, Users};
use crate::path::escape;

use super::{Sentence, contains, quote};
use crate::host::inspect::open_file;

/// How much of a file is searched for a text.
const SEARCHED_BYTES: u64 = 16 << 20;

/// What a file shall be. What is `None` does not matter.
pub(super) struct Wanted<'a> {
    pub(super) exists: bool,
    pub(super) owner: Option<&'a str>,
    pub(super) group: Option<&'a str>,
    pub(super) mode: Option<u16>,
    pub(super) contains: Option<&'a str>,
}

/// Compares what `path` leads to with what is wanted; all that differs is said.
pub(super) fn check(path: &str, wanted: &Wanted<'_>) -> Sentence {
    let shown = escape(path.as_bytes());
    let stat = match fs::stat_path(Path::new(path)) {
        Err(err) if is_missing(&err) && is_dangling(path) => {
            return Err(format!("{shown} is a symlink that leads nowhere"));
        }
        Err(err) if is_missing(&err) && wanted.exists => {
            return Err(format!("{shown} is not there"));
        }
        Err(err) if is_missing(&err) => {
            return Ok(format!("{shown} is not there, as it should be"));
        }
        stat => stat.map_err(|err| format!("cannot look at {shown}: {err}"))?,
    };
    if !wanted.exists {
        return Err(format!("{shown} is there, but should not be"));
    }
    let mut faults = differences(&stat, wanted)?;
    if let Some(text) = wanted.contains {
        match holds(path, text) {
            Ok(true) => {}
            Ok(false) => faults.push(format!("it does not contain {}", quote(text))),
            Err(err) => faults.push(format!("it cannot be read: {err}")),
        }
    }
    match faults.is_empty() {
        true => Ok(format!("{shown} is as it should be")),
        false => Err(format!("{shown}: {}", faults.join(", "))),
    }
}

fn is_missing(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn is_dangling(path: &str) -> bool {
    Path::new(path).is_symlink()
}

fn differences(stat: &Stat, wanted: &Wanted<'_>) -> Result<Vec<String>, String> {
    let users = Users::new();
    let mut faults = Vec::new();
    if let Some(owner) = wanted.owner {
        let uid = number(owner, users.uid_of(owner)).ok_or_else(|| unknown("user", owner))?;
        if uid != stat.meta.uid {
            let is = name_or_number(users.user_name(stat.meta.uid), stat.meta.uid);
            faults.push(format!(
                "its owner is {is}, not {}",
                escape(owner.as_bytes())
            ));
        }
    }
    if let Some(group) = wanted.group {
        let gid = number(group, users.gid_of(group)).ok_or_else(|| unknown("group", group))?;
        if gid != stat.meta.gid {
            let is = name_or_number(users.group_name(stat.meta.gid), stat.meta.gid);
            faults.push(format!(
                "its group is {is}, not {}",
                escape(group.as_bytes())
            ));
        }
    }
    if let Some(mode) = wanted.mode
        && mode != stat.meta.mode
    {
        faults.push(format!(
            "its mode is {:04o}, not {mode:04o}",
            stat.meta.mode
        ));
    }
    Ok(faults)
}

/// A name's number, or the number that the text is.
fn number(text: &str, of_name: Option<u32>) -> Option<u32> {
    of_name.or_else(|| text.parse().ok())
}

fn unknown(what: &str, name: &str) -> String {
    format!(
        "there is no {what} {} on this host",
        escape(name.as_bytes())
    )
}

fn name_or_number(name: Option<Vec<u8>>, number: u32) -> String {
    name.map_or(number.to_string(), |name| escape(&name).into_owned())
}

fn holds(path: &str, text: &str) -> io::Result<bool> {
    let mut content = Vec::new();
    open_file(path)?
        .take(SEARCHED_BYTES)
        .read_to_end(&mut content)?;
    Ok(contains(&content, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::inspect::testing::{Tree, has_root};

    const ANY: Wanted<'static> = Wanted {
        exists: true,
        owner: None,
        group: None,
        mode: None,
        contains: None,
    };

    #[test]
    fn what_is_as_it_should_be_passes() {
        let tree = Tree::new();
        tree.file("file", "one two three");
        let uid = Users::effective_uid().to_string();
        let wanted = Wanted {
            owner: Some(&uid),
            mode: Some(0o644),
            contains: Some("two"),
            ..ANY
        };
        assert!(check(&tree.text("file"), &wanted).is_ok());
        assert!(check(tree.root(), &ANY).is_ok(), "a directory is there too");
        let absent = Wanted {
            exists: false,
            ..ANY
        };
        for missing in ["missing", "file/below"] {
            assert!(check(&tree.text(missing), &absent).is_ok(), "{missing}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_said() {
        if !has_root() {
            return;
        }
        let tree = Tree::new();
        tree.file("file", "text");
        let wanted = Wanted {
            owner: Some("daemon"),
            group: Some("4000000000"),
            mode: Some(0o600),
            contains: Some("other"),
            ..ANY
        };
        let said = check(&tree.text("file"), &wanted).unwrap_err();
        let expected = "file: its owner is root, not daemon, its group is root, not 4000000000, \
            its mode is 0644, not 0600, it does not contain \"other\"";
        assert!(said.ends_with(expected), "{said}");
    }

    #[test]
    fn presence_and_unknown_names_are_said() {
        let tree = Tree::new();
        tree.file("file", "");
        tree.fifo("fifo");
        std::os::unix::fs::symlink("nowhere", tree.path("dangling")).unwrap();
        let absent = Wanted {
            exists: false,
            ..ANY
        };
        let stranger = Wanted {
            owner: Some("no such user"),
            ..ANY
        };
        let content = Wanted {
            contains: Some("x"),
            ..ANY
        };
        for (file, wanted, part) in [
            ("missing", &ANY, "is not there"),
            ("file", &absent, "should not be"),
            ("dangling", &ANY, "leads nowhere"),
            ("dangling", &absent, "leads nowhere"),
            ("file", &stranger, "no user no such user"),
            ("fifo", &content, "not a regular file"),
            ("", &content, "cannot be read"),
        ] {
            let said = check(&tree.text(file), wanted).unwrap_err();
            assert!(said.contains(part), "{said}");
        }
    }
}
