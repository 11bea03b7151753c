//! Whether a user can read everything below a root: found out by opening all of it with that
//! user's rights, since only the kernel knows what modes, groups, ACLs and security modules come
//! to. The way from `/` to the root is tried as well.

use std::io;

use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::events::Cancel;
use crate::fs::{Login, as_user};
use crate::path::{RelPath, escape};

use super::Sentence;
use crate::host::inspect::limits::Bounded;
use crate::host::inspect::open_root;
use crate::host::inspect::walk::{Found, Visit, walk};

/// How many unreadable entries are named.
const MOST_NAMED: usize = 10;

/// Opens everything below `root` as `user`.
pub(super) fn check(root: &str, user: &str, cancel: &Cancel) -> Result<Sentence> {
    let shown = escape(user.as_bytes());
    let Some(login) = Login::of(user) else {
        return Ok(Err(format!("there is no user {shown} on this host")));
    };
    let tried = as_user(&login, || {
        let root = open_root(root)?;
        walk(&root, cancel, Readable::new)
    });
    match tried {
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => Ok(Err(format!(
            "only root can try what {shown} can read: run this side as root, or with sudo"
        ))),
        Err(err) => Ok(Err(format!("cannot take on the rights of {shown}: {err}"))),
        Ok(Err(err @ Error::Io { .. })) => Ok(Err(format!("as {shown}: {err}"))),
        Ok(tried) => Ok(sentence(tried?, root, &shown)),
    }
}

fn sentence(tried: Vec<Readable>, root: &str, user: &str) -> Sentence {
    let root = escape(root.as_bytes());
    let entries: u64 = tried.iter().map(|part| part.entries).sum();
    let denied = tried.into_iter().map(|part| part.denied);
    let (named, others) = Bounded::join(denied, MOST_NAMED).finish();
    let count = named.len() as u64 + others;
    if count == 0 {
        return Ok(format!(
            "{user} can read all {entries} entries below {root}"
        ));
    }
    let more = if others > 0 { ", ..." } else { "" };
    Err(format!(
        "{user} cannot read {count} of {entries} entries below {root}: {}{more}",
        named.join(", ")
    ))
}

struct Readable {
    entries: u64,
    denied: Bounded<String>,
}

impl Readable {
    fn new() -> Readable {
        Readable {
            entries: 0,
            denied: Bounded::new(MOST_NAMED),
        }
    }

    fn deny(&mut self, path: &RelPath, err: &io::Error) {
        // What is gone by now is no fault.
        if err.kind() != io::ErrorKind::NotFound {
            self.denied.push(format!("{path} ({err})"));
        }
    }
}

impl Visit for Readable {
    fn entry(&mut self, found: &Found<'_>) {
        self.entries += 1;
        let tried = match found.kind {
            EntryKind::File => found.open().map(drop),
            // Listed in their turn.
            EntryKind::Dir => Ok(()),
            // Sockets, FIFOs and devices are used, not read.
            _ => found.dir.stat(found.name).map(drop),
        };
        if let Err(err) = tried {
            self.deny(&found.path(), &err);
        }
    }

    fn failed(&mut self, dir: &RelPath, err: io::Error) {
        self.deny(dir, &err);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::host::inspect::testing::{Tree, has_root, run};

    fn tree() -> Tree {
        let tree = Tree::new();
        for file in ["a/open", "a/closed", "b/file", "b/sub/file", "c"] {
            tree.file(file, "x");
        }
        tree.fifo("fifo");
        tree
    }

    fn nobody_reads(root: &str) -> Sentence {
        check(root, "nobody", &Cancel::new()).unwrap()
    }

    #[test]
    fn what_a_user_can_read_is_found_out_by_trying() {
        if !has_root() {
            return;
        }
        let tree = tree();
        let root = tree.root();
        let said = nobody_reads(root).unwrap();
        assert_eq!(said, format!("nobody can read all 9 entries below {root}"));
        tree.chmod("a/closed", 0o600);
        tree.chmod("b/sub", 0o700);
        let said = nobody_reads(root).unwrap_err();
        let expected = format!(
            "nobody cannot read 2 of 8 entries below {root}: a/closed (Permission denied (os \
             error 13)), b/sub (Permission denied (os error 13))"
        );
        assert_eq!(said, expected);
        assert!(check(root, "root", &Cancel::new()).unwrap().is_ok());
    }

    #[test]
    fn an_acl_counts() {
        if !has_root() {
            return;
        }
        let tree = tree();
        tree.chmod("c", 0o600);
        assert!(nobody_reads(tree.root()).is_err());
        run(Command::new("setfacl")
            .args(["-m", "u:nobody:r"])
            .arg(tree.path("c")));
        assert!(nobody_reads(tree.root()).is_ok());
    }

    #[test]
    fn the_way_to_the_root_counts() {
        if !has_root() {
            return;
        }
        let tree = tree();
        tree.chmod("b", 0o700);
        let said = nobody_reads(&tree.text("b/sub")).unwrap_err();
        assert!(said.starts_with("as nobody: cannot list "), "{said}");
    }

    #[test]
    fn of_many_the_first_ten_are_named() {
        if !has_root() {
            return;
        }
        let tree = Tree::new();
        for n in 10..35 {
            tree.file(&format!("{n}"), "");
            tree.chmod(&format!("{n}"), 0o600);
        }
        let said = nobody_reads(tree.root()).unwrap_err();
        assert!(said.contains("25 of 25"), "{said}");
        assert!(said.ends_with(", ..."), "{said}");
        assert_eq!(said.matches("Permission denied").count(), 10);
    }

    #[test]
    fn who_cannot_be_tried_is_told() {
        let said = check("/", "no such user", &Cancel::new())
            .unwrap()
            .unwrap_err();
        assert_eq!(said, "there is no user no such user on this host");
        if !has_root() {
            return;
        }
        let nobody = Login::of("nobody").unwrap();
        let tree = tree();
        let asked = || check(tree.root(), "daemon", &Cancel::new()).unwrap();
        let said = as_user(&nobody, asked).unwrap().unwrap_err();
        assert!(said.starts_with("only root can try"), "{said}");
    }
}
