//! Finds secrets below a root that others than their owner can read: a copy would spread them, and
//! a backup of it more so.
//!
//! A file is exposed when everybody, or a group that is not its owner's alone, may read it and may
//! enter every directory from the root to it. What is above the root does not count: the copy has
//! other directories above it.

mod secrets;

use std::fs::File;
use std::io::{self, Read};

use crate::entry::{EntryKind, Metadata};
use crate::error::{Error, Result};
use crate::events::{Cancel, Side};
use crate::filter::{Rules, exclude};
use crate::fs::{Dir, Stat, Users};
use crate::path::{Name, RelPath};

use super::limits::Bounded;
use super::open_root;
use super::walk::{Found, Visit, walk};

/// How many files are named.
const MOST_NAMED: usize = 1000;

/// How much of a file is read to see whether it is a key.
const HEAD_BYTES: u64 = 16 << 10;

/// Larger files are no keys, and are not opened.
const KEY_FILE_BYTES: u64 = 256 << 10;

/// Directories of installed packages.
const PACKAGES: [&str; 4] = [
    "node_modules",
    "site-packages",
    "dist-packages",
    "__pycache__",
];

/// The exposed secrets below `root`, by name below it, sorted; of more than a thousand the last
/// text says how many others there are.
///
/// What is a secret is said by the patterns `secrets`, as in filters (a directory stands for all
/// below it), by names that are secrets everywhere, and by what a file begins with. Installed
/// packages are passed over.
pub(super) fn find(root: &str, secrets: &[String], cancel: &Cancel) -> Result<Vec<String>> {
    let rules: Vec<_> = secrets.iter().map(|p| exclude(p.as_bytes())).collect();
    let rules = Rules::parse(&rules).map_err(|err| Error::Usage(err.to_string()))?;
    let (dir, users) = (open_root(root)?, Users::new());
    let searches = walk(&dir, cancel, || Search {
        root: &dir,
        rules: &rules,
        users: &users,
        way: None,
        exposed: Bounded::new(MOST_NAMED),
    })?;
    let lists = searches.into_iter().map(|search| search.exposed);
    Ok(Bounded::join(lists, MOST_NAMED).into_texts())
}

struct Search<'a> {
    root: &'a Dir,
    rules: &'a Rules,
    users: &'a Users,
    /// What leads to the directory at hand, once a file there asked for it.
    way: Option<Way>,
    exposed: Bounded<String>,
}

/// The directories from the root to one, that one among them.
struct Way {
    to: RelPath,
    /// Their modes and groups; `None` where they changed while they were looked at.
    steps: Option<Vec<(u16, u32)>>,
    /// Whether a pattern takes one of them for a secret, and so all that is below.
    is_secret: bool,
}

/// Who can read a file beside its owner.
#[derive(Clone, Copy)]
enum Reader {
    Everybody,
    Group(u32),
}

impl Visit for Search<'_> {
    fn entry(&mut self, found: &Found<'_>) {
        if !found.is_file() {
            return;
        }
        let Ok(stat) = found.dir.stat(found.name) else {
            return;
        };
        let Some(reader) = self.reader(&stat) else {
            return;
        };
        let way = self.way_to(found.at);
        let leads = way.steps.as_ref().is_some_and(|steps| leads(steps, reader));
        let is_below_secret = way.is_secret;
        if leads && (is_below_secret || self.is_secret(found, &stat)) {
            self.exposed.push(found.path().to_string());
        }
    }

    fn enters(&self, name: &Name) -> bool {
        !holds_packages(name.as_bytes())
    }
}

impl Search<'_> {
    /// Who can read the file by its own mode. A group that has its owner's name is that user's
    /// own, as most systems make them, and root's members are root.
    fn reader(&self, stat: &Stat) -> Option<Reader> {
        let meta = &stat.meta;
        if meta.kind != EntryKind::File {
            return None;
        }
        if meta.mode & 0o004 != 0 {
            return Some(Reader::Everybody);
        }
        let is_private = || {
            let group = self.users.group_name(meta.gid);
            meta.gid == 0 || (group.is_some() && group == self.users.user_name(meta.uid))
        };
        (meta.mode & 0o040 != 0 && !is_private()).then_some(Reader::Group(meta.gid))
    }

    fn way_to(&mut self, dir: &RelPath) -> &Way {
        let known = self.way.take().filter(|way| way.to == *dir);
        let way = known.unwrap_or_else(|| Way {
            to: dir.clone(),
            steps: steps_to(self.root, dir),
            is_secret: self.is_secret_dir(dir),
        });
        self.way.insert(way)
    }

    fn is_secret_dir(&self, dir: &RelPath) -> bool {
        let mut at = dir.clone();
        while let (Some(parent), Some(name)) = (at.parent(), at.file_name()) {
            let verdict = self
                .rules
                .decide(&parent, name.as_bytes(), true, Side::Source);
            if verdict.is_excluded() {
                return true;
            }
            at = parent;
        }
        false
    }

    fn is_secret(&self, found: &Found<'_>, stat: &Stat) -> bool {
        let name = found.name.as_bytes();
        let verdict = self.rules.decide(found.at, name, false, Side::Source);
        if verdict.is_excluded() {
            return true;
        }
        is_secret_file(name, &stat.meta, || Ok(found.open()?.0))
    }
}

/// Whether a file is a secret wherever it is: by its name, or by what it begins with, for which it
/// is opened where that can tell.
pub(crate) fn is_secret_file(
    name: &[u8],
    meta: &Metadata,
    open: impl FnOnce() -> io::Result<File>,
) -> bool {
    let is_program = meta.mode & 0o111 != 0;
    match secrets::by_name(name, is_program) {
        secrets::Named::Secret => true,
        secrets::Named::Key => !secrets::is_public_key_material(&head_of(open)),
        secrets::Named::Plain => meta.size <= KEY_FILE_BYTES && secrets::holds_key(&head_of(open)),
    }
}

/// Whether a directory of this name holds installed packages: what is in them has been published.
pub(crate) fn holds_packages(name: &[u8]) -> bool {
    PACKAGES.iter().any(|packages| packages.as_bytes() == name)
}

fn head_of(open: impl FnOnce() -> io::Result<File>) -> Vec<u8> {
    let mut head = Vec::new();
    if let Ok(file) = open() {
        // What cannot be read is judged by its name.
        let _ = file.take(HEAD_BYTES).read_to_end(&mut head);
    }
    head
}

fn steps_to(root: &Dir, path: &RelPath) -> Option<Vec<(u16, u32)>> {
    let step = |dir: &Dir| {
        let meta = dir.stat_self().ok()?.meta;
        Some((meta.mode, meta.gid))
    };
    let mut dir = root.try_clone().ok()?;
    let mut steps = vec![step(&dir)?];
    for name in path.components() {
        dir = dir.open_child(&Name::new(name).ok()?).ok()?;
        steps.push(step(&dir)?);
    }
    Some(steps)
}

/// Whether the reader may enter all the directories.
fn leads(steps: &[(u16, u32)], reader: Reader) -> bool {
    steps.iter().all(|&(mode, gid)| match reader {
        Reader::Group(group) if group == gid => mode & 0o010 != 0,
        _ => mode & 0o001 != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Tree, has_root};
    use super::*;

    const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n";

    fn exposed(tree: &Tree, patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<_> = patterns.iter().map(|p| p.to_string()).collect();
        find(tree.root(), &patterns, &Cancel::new()).unwrap()
    }

    #[test]
    fn secrets_that_anyone_can_read_are_found() {
        let tree = Tree::new();
        for file in ["ssh/id_ed25519", ".env", "notes", "token.json", "main.rs"] {
            tree.file(file, "x");
        }
        tree.file("unsuspicious", KEY);
        tree.file("state/age.txt", "# made today\nAGE-SECRET-KEY-1QQQ\n");
        tree.file("chain.pem", "-----BEGIN CERTIFICATE-----\nMII\n");
        tree.file("node_modules/x/test/server.key", KEY);
        tree.file("bin/git-credential", "#!/bin/sh");
        tree.chmod("bin/git-credential", 0o755);
        let authorities = "-----BEGIN CERTIFICATE-----\nMII\n".repeat(10_000);
        tree.file("authorities.pem", authorities);
        tree.file("server.pem", format!("-----BEGIN CERTIFICATE-----\n{KEY}"));
        let before = tree.snapshot();
        let expected = [
            ".env",
            "server.pem",
            "ssh/id_ed25519",
            "state/age.txt",
            "token.json",
            "unsuspicious",
        ];
        assert_eq!(exposed(&tree, &[]), expected);
        assert_eq!(tree.snapshot(), before);
    }

    #[test]
    fn what_only_its_owner_can_reach_is_not_exposed() {
        let tree = Tree::new();
        for file in ["a/.env", "b/c/.env", "d/.env", "e/.env"] {
            tree.file(file, "x");
        }
        tree.chmod("a/.env", 0o600);
        tree.chmod("b", 0o700);
        tree.chmod("d", 0o744);
        assert_eq!(exposed(&tree, &[]), ["e/.env"]);
        tree.chmod("", 0o700);
        assert!(exposed(&tree, &[]).is_empty());
    }

    #[test]
    fn a_group_is_others_unless_it_is_the_owners_own() {
        if !has_root() {
            return;
        }
        let tree = Tree::new();
        let chown = |file: &str, uid, gid| {
            std::os::unix::fs::chown(tree.path(file), Some(uid), Some(gid)).unwrap();
            tree.chmod(file, 0o640);
        };
        let users = Users::new();
        let uid_of = |name| users.uid_of(name).unwrap();
        let gid_of = |name| users.gid_of(name).unwrap();
        for file in ["own/.env", "shared/.env", "roots/.env", "closed/.env"] {
            tree.file(file, "x");
        }
        chown("own/.env", uid_of("daemon"), gid_of("daemon"));
        chown("shared/.env", uid_of("daemon"), gid_of("adm"));
        chown("roots/.env", uid_of("daemon"), 0);
        chown("closed/.env", uid_of("daemon"), gid_of("adm"));
        tree.chmod("closed", 0o770);
        assert_eq!(exposed(&tree, &[]), ["shared/.env"]);
        std::os::unix::fs::chown(tree.path("closed"), None, Some(gid_of("adm"))).unwrap();
        assert_eq!(exposed(&tree, &[]), ["closed/.env", "shared/.env"]);
    }

    #[test]
    fn the_callers_patterns_are_secrets_and_all_below_them() {
        let tree = Tree::new();
        for file in ["login/a", "login/deep/b", "other/login/c", "x.session", "y"] {
            tree.file(file, "x");
        }
        assert!(exposed(&tree, &[]).is_empty());
        assert_eq!(exposed(&tree, &["/login/"]), ["login/a", "login/deep/b"]);
        let found = exposed(&tree, &["login/**", "*.session"]);
        assert_eq!(
            found,
            ["login/a", "login/deep/b", "other/login/c", "x.session"]
        );
        let err = find(tree.root(), &[": .rules".to_owned()], &Cancel::new());
        assert!(err.is_ok(), "a pattern, not a rule");
    }
}
