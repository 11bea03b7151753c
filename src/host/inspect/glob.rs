//! Finds paths by patterns, as a shell does for `~/.name*`: whether there is more on a host than a
//! plan speaks of.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::events::Cancel;
use crate::path::escape;

/// How many paths are told.
const MOST_PATHS: usize = 1000;

/// The paths that match, sorted: of files and directories, and of symlinks that lead to such.
/// `*` stands for any text and `?` for one character, both in the last name only; a dot at its
/// front has to be said. Of more than a thousand the first are told.
pub(super) fn find(patterns: &[String], cancel: &Cancel) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for pattern in patterns {
        cancel.check()?;
        let (parent, last) = split(pattern)?;
        match last.contains(['*', '?']) {
            true => list(&parent, last, &mut found)?,
            false => found.push(PathBuf::from(pattern)),
        }
    }
    found.sort();
    found.dedup();
    let is_there = |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_dir() || m.is_file());
    found.retain(is_there);
    found.truncate(MOST_PATHS);
    let printable = |path: &PathBuf| escape(path.as_os_str().as_bytes()).into_owned();
    Ok(found.iter().map(printable).collect())
}

fn split(pattern: &str) -> Result<(PathBuf, &str)> {
    let pattern = pattern.trim_end_matches('/');
    let (parent, last) = pattern.rsplit_once('/').unwrap_or((".", pattern));
    if parent.contains(['*', '?']) {
        return Err(Error::Usage(format!(
            "pattern {} has `*` or `?` before its last name; they are understood there only",
            escape(pattern.as_bytes())
        )));
    }
    let parent = match parent {
        "" => "/",
        parent => parent,
    };
    Ok((PathBuf::from(parent), last))
}

fn list(parent: &Path, pattern: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |err| Error::io("list", parent.as_os_str().as_bytes(), err);
    let entries = match parent.read_dir() {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let is_hidden = name.as_bytes().starts_with(b".") && !pattern.starts_with('.');
        if !is_hidden && matches(pattern.as_bytes(), name.as_bytes()) {
            found.push(parent.join(name));
        }
    }
    Ok(())
}

/// Matches a whole name. Only the last `*` is ever tried again, which finds all that trying every
/// one would, in at most the product of both lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                retry = Some((p, n));
            }
            Some(b'?') => {
                p += 1;
                n += character(&name[n..]);
            }
            Some(byte) if *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((after_star, from)) = retry else {
                    return false;
                };
                retry = Some((after_star, from + 1));
                (p, n) = (after_star, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// How many bytes the first character takes; one where it is not UTF-8.
fn character(name: &[u8]) -> usize {
    let chunk = name.utf8_chunks().next();
    let first = chunk.and_then(|chunk| chunk.valid().chars().next());
    first.map_or(1, char::len_utf8)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name) in [
            (".aipro*", ".aipro"),
            (".aipro*", ".aipro-work"),
            ("*", "a"),
            ("a*b*c", "aXbYbZc"),
            ("?", "ü"),
            ("a?c", "abc"),
            ("*a*a*", "aa"),
        ] {
            assert!(
                matches(pattern.as_bytes(), name.as_bytes()),
                "{pattern} {name}"
            );
        }
        for (pattern, name) in [
            (".aipro", ".aipro-work"),
            ("a*b", "abc"),
            ("?", ""),
            ("?", "ab"),
            ("a*b*c", "acb"),
            ("", "a"),
        ] {
            assert!(
                !matches(pattern.as_bytes(), name.as_bytes()),
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn what_is_there_is_found_sorted_and_once() {
        let tree = Tree::new();
        for file in [
            ".app/x", ".app-b/x", ".app-a/x", "app/x", ".appfile", "plain",
        ] {
            tree.file(file, "");
        }
        symlink(".app", tree.path(".app-link")).unwrap();
        symlink("nowhere", tree.path(".app-dangling")).unwrap();
        tree.fifo(".app-fifo");
        let patterns = [".app*", ".app?a", "plain", "missing", "missing/*", "pl*n"];
        let patterns = patterns.map(|pattern| tree.text(pattern));
        let found = find(&patterns, &Cancel::new()).unwrap();
        let expected = [".app", ".app-a", ".app-b", ".app-link", ".appfile", "plain"];
        assert_eq!(found, expected.map(|path| tree.text(path)));

        let all = find(&[tree.text("*")], &Cancel::new()).unwrap();
        assert_eq!(
            all,
            ["app", "plain"].map(|path| tree.text(path)),
            "none hidden"
        );
    }

    #[test]
    fn a_pattern_further_up_is_refused() {
        let err = find(&["/ho*/x".to_owned()], &Cancel::new()).unwrap_err();
        assert!(matches!(err, Error::Usage(_)), "{err}");
    }
}
