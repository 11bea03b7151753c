//! Finds where text configuration below a root names given paths: after a move they mean something
//! else, and what follows one from the copy works on the original.

mod paths;

use std::io::Read;
use std::path::Path;

use crate::error::Result;
use crate::events::Cancel;
use crate::path::{Name, escape};
use crate::protocol::errand::Mention;

use super::limits::Bounded;
use super::open_root;
use super::walk::{Found, Visit, walk};

/// How many are told.
const MOST_MENTIONS: usize = 1000;

/// Larger files are data, not configuration.
const MOST_BYTES: u64 = 1 << 20;

/// Files whose name has no extension are read up to this size: scripts and dot files are.
const MOST_BYTES_UNNAMED: u64 = 64 << 10;

/// Extensions of files that configure something or are run.
const EXTENSIONS: [&str; 43] = [
    "json",
    "jsonc",
    "json5",
    "toml",
    "yaml",
    "yml",
    "ini",
    "conf",
    "cfg",
    "cnf",
    "config",
    "env",
    "properties",
    "xml",
    "plist",
    "service",
    "timer",
    "socket",
    "path",
    "mount",
    "automount",
    "target",
    "desktop",
    "rc",
    "sh",
    "bash",
    "zsh",
    "fish",
    "py",
    "rb",
    "pl",
    "lua",
    "php",
    "js",
    "mjs",
    "cjs",
    "ts",
    "mts",
    "cts",
    "local",
    "crontab",
    "cron",
    "rules",
];

/// Directories of what is fetched or made anew, not configured: version control's own files,
/// installed packages, caches.
const SKIPPED: [&str; 7] = [
    ".git",
    ".hg",
    ".svn",
    "node_modules",
    "site-packages",
    "__pycache__",
    ".cache",
];

/// Where text files below `root` name one of `paths` or something below it, sorted by file and
/// line; at most a thousand.
///
/// Read are files up to 1 MiB with an extension of configuration files and scripts, and files
/// without any up to 64 KiB, unless they hold a NUL byte. Logs, sessions and documents are not.
pub(super) fn find(root: &str, paths: &[String], cancel: &Cancel) -> Result<Vec<Mention>> {
    let sought = paths::Sought::new(paths);
    let searches = walk(&open_root(root)?, cancel, || Search {
        sought: &sought,
        content: Vec::new(),
        mentions: Bounded::new(MOST_MENTIONS),
    })?;
    let lists = searches.into_iter().map(|search| search.mentions);
    Ok(Bounded::join(lists, MOST_MENTIONS).finish().0)
}

struct Search<'a> {
    sought: &'a paths::Sought,
    content: Vec<u8>,
    mentions: Bounded<Mention>,
}

impl Visit for Search<'_> {
    fn entry(&mut self, found: &Found<'_>) {
        let most = most_bytes(found.name);
        if !found.is_file() || most == 0 || self.mentions.is_full() {
            return;
        }
        if !self.read(found, most) || !self.sought.may_be_in(&self.content) {
            return;
        }
        let file = found.path().to_string();
        for (at, line) in self.content.split(|&byte| byte == b'\n').enumerate() {
            let mut named = self.sought.paths_in(line, &|path| exists(path));
            named.sort();
            named.dedup();
            for path in named {
                self.mentions.push(Mention {
                    file: file.clone(),
                    line: at as u64 + 1,
                    exists: exists(&path),
                    path: escape(&path).into_owned(),
                });
            }
        }
    }

    fn enters(&self, name: &Name) -> bool {
        !SKIPPED
            .iter()
            .any(|skipped| skipped.as_bytes() == name.as_bytes())
    }
}

impl Search<'_> {
    /// Reads a file whole; false where it is too large, cannot be read or is no text.
    fn read(&mut self, found: &Found<'_>, most: u64) -> bool {
        self.content.clear();
        let Ok((file, stat)) = found.open() else {
            return false;
        };
        stat.meta.size <= most
            // It may have grown since.
            && file.take(most).read_to_end(&mut self.content).is_ok()
            && !self.content.contains(&0)
    }
}

/// Up to which size a file with this name is read; 0 is not at all.
fn most_bytes(name: &Name) -> u64 {
    let path = Path::new(name.as_os_str());
    let extension = path.extension().and_then(|extension| extension.to_str());
    match (path.extension(), extension) {
        (None, _) => MOST_BYTES_UNNAMED,
        (_, Some(extension)) if EXTENSIONS.contains(&&*extension.to_ascii_lowercase()) => {
            MOST_BYTES
        }
        _ => 0,
    }
}

/// Whether there is something at the path, be it a symlink that leads nowhere.
fn exists(path: &[u8]) -> bool {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(path))
        .symlink_metadata()
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    fn mentions(tree: &Tree, paths: &[&str]) -> Vec<String> {
        let paths: Vec<_> = paths.iter().map(|path| path.to_string()).collect();
        let found = find(tree.root(), &paths, &Cancel::new()).unwrap();
        let show = |m: Mention| format!("{}:{} {} {}", m.file, m.line, m.path, m.exists);
        found.into_iter().map(show).collect()
    }

    #[test]
    fn lines_of_configuration_that_name_a_path_are_found() {
        let tree = Tree::new();
        let there = tree.text("workspace");
        tree.file("workspace/x", "");
        let config = format!("{{\n  \"dir\": \"{there}\",\n  \"old\": \"/srv/gone/db\"\n}}\n");
        tree.file("app.json", config);
        tree.file("bin/run", "#!/bin/sh\ncd /srv/gone || exit\n");
        tree.file(".env", "STATE=/srv/gone/state\n");
        tree.file("unit.service", "ExecStart=/srv/gonewith\n");
        let before = tree.snapshot();
        let expected = [
            ".env:1 /srv/gone/state false".to_owned(),
            format!("app.json:2 {there} true"),
            "app.json:3 /srv/gone/db false".to_owned(),
            "bin/run:2 /srv/gone false".to_owned(),
        ];
        assert_eq!(mentions(&tree, &[&there, "/srv/gone"]), expected);
        assert_eq!(tree.snapshot(), before);
    }

    #[test]
    fn what_is_no_configuration_is_not_read() {
        let tree = Tree::new();
        for file in [
            "session.jsonl",
            "notes.md",
            "run.log",
            ".git/config",
            "lib/node_modules/x/package.json",
        ] {
            tree.file(file, "/srv/gone");
        }
        tree.file("binary", "\0/srv/gone");
        tree.file("large.json", " ".repeat(1 << 20) + "/srv/gone");
        tree.file("large", " ".repeat(64 << 10) + "/srv/gone");
        tree.fifo("fifo");
        tree.fifo("fifo.json");
        std::os::unix::fs::symlink("/etc/passwd", tree.path("link.conf")).unwrap();
        assert!(mentions(&tree, &["/srv/gone", "/root", "/bin"]).is_empty());
    }

    #[test]
    fn more_than_a_thousand_are_cut() {
        let tree = Tree::new();
        tree.file("many.conf", "x=/srv/gone\n".repeat(1500));
        assert_eq!(mentions(&tree, &["/srv/gone"]).len(), MOST_MENTIONS);
    }
}
