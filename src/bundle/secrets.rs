//! What must not lie on a drive for everyone who finds it: known by what it is called, by what it
//! begins with, and by whom its owner lets read it.

use std::sync::{Mutex, PoisonError};

use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::events::Side;
use crate::filter::{Rules, exclude};
use crate::fs::Dir;
use crate::host::{holds_packages, is_secret_file};
use crate::manifest::listing::Listing;
use crate::manifest::record::Entry;
use crate::path::{RelPath, escape};

/// Directories of secrets, whatever is in them.
const DIRS: [&str; 4] = ["credentials/", "secrets/", ".ssh/", ".gnupg/"];

/// Finds the secrets of one tree.
pub(super) struct Secrets<'a> {
    root: &'a Dir,
    patterns: Rules,
    found: Mutex<Found>,
}

#[derive(Clone, Debug, Default)]
struct Found {
    entries: u64,
    /// The first of them in the order of paths, whichever thread found it.
    first: Option<RelPath>,
}

impl<'a> Secrets<'a> {
    /// Looks for what is secret everywhere, and for what these patterns say.
    pub(super) fn new(root: &'a Dir, patterns: &[String]) -> Result<Secrets<'a>> {
        let patterns = DIRS
            .into_iter()
            .chain(patterns.iter().map(String::as_str))
            .map(|pattern| exclude(pattern.as_bytes()))
            .collect::<Vec<_>>();
        Ok(Secrets {
            root,
            patterns: Rules::parse(&patterns)?,
            found: Mutex::default(),
        })
    }

    /// Looks at what is in the directory `path`.
    pub(super) fn look_at(&self, path: &RelPath, listing: &Listing) {
        let is_published = path.components().any(holds_packages);
        let mut dir = None;
        for row in &listing.rows {
            let entry = &row.entry;
            let is_secret = self.is_named_so(path, entry)
                || (entry.meta.kind == EntryKind::File
                    && (is_private(entry)
                        || (!is_published && self.tells_itself(path, entry, &mut dir))));
            if is_secret {
                self.count(path.join(&entry.name));
            }
        }
    }

    fn is_named_so(&self, path: &RelPath, entry: &Entry) -> bool {
        let is_dir = entry.meta.kind == EntryKind::Dir;
        let name = entry.name.as_bytes();
        let verdict = self.patterns.decide(path, name, is_dir, Side::Source);
        verdict.is_excluded()
    }

    fn tells_itself(&self, path: &RelPath, entry: &Entry, dir: &mut Option<Dir>) -> bool {
        is_secret_file(entry.name.as_bytes(), &entry.meta, || {
            let open = match dir.take() {
                Some(open) => open,
                None => self.root.open_dir(path)?,
            };
            dir.insert(open).open_file(&entry.name)
        })
    }

    fn count(&self, path: RelPath) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.entries += 1;
        if found.first.as_ref().is_none_or(|first| path < *first) {
            found.first = Some(path);
        }
    }

    /// Refuses to go on where there are any, since nobody asked for encryption.
    pub(super) fn refuse(&self, root: &[u8]) -> Result<()> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = &found.first else {
            return Ok(());
        };
        let (root, entries) = (escape(root), found.entries);
        let noun = if entries == 1 { "secret" } else { "secrets" };
        Err(Error::Refused(format!(
            "{root} holds {entries} {noun} (the first: {first}), and the bundle would be plain to \
             everyone who gets hold of it; encrypt it with --recipient or --passphrase, or say \
             --plaintext"
        )))
    }
}

/// Whether nobody but its owner may read a file. Nothing is in an empty one: locks and marks are
/// often for nobody else.
fn is_private(entry: &Entry) -> bool {
    const READABLE_BY_OTHERS: u16 = 0o044;
    entry.meta.size > 0 && entry.meta.mode & READABLE_BY_OTHERS == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Metadata;
    use crate::fs::Stat;
    use crate::manifest::listing::Row;
    use crate::path::Name;

    /// What is said of a tree with one file at `path`.
    fn said(path: &str, mode: u32, text: &str) -> Option<String> {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join(path);
        let folder = file.parent().unwrap();
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        let root = Dir::open_root(temp.path()).unwrap();
        let secrets = Secrets::new(&root, &["token-*".to_string()]).unwrap();
        let mut at = RelPath::root();
        for component in RelPath::new(path.as_bytes()).unwrap().components() {
            let name = Name::new(component).unwrap();
            let stat = root.open_dir(&at).unwrap().stat(&name).unwrap();
            let mut listing = Listing::default();
            listing.rows.push(row(&name, stat));
            secrets.look_at(&at, &listing);
            at = at.join(&name);
        }
        secrets.refuse(b"/srv/x").err().map(|err| err.to_string())
    }

    fn row(name: &Name, stat: Stat) -> Row {
        Row {
            entry: Entry {
                name: name.clone(),
                meta: Metadata { ..stat.meta },
                target: Vec::new(),
                xattrs: Vec::new(),
                content: None,
                link: None,
            },
            stat,
            protected: false,
        }
    }

    #[test]
    fn a_secret_is_known_by_its_mode_its_name_or_what_it_begins_with() {
        for (path, mode, text) in [
            ("x", 0o600, "x"),
            ("x", 0o711, "x"),
            ("id_ed25519", 0o644, "x"),
            ("token-7", 0o644, "x"),
            ("a/credentials/x", 0o644, "x"),
            (".ssh/config", 0o644, "x"),
            ("notes", 0o644, "AGE-SECRET-KEY-1X\n"),
        ] {
            assert!(said(path, mode, text).is_some(), "{path} {mode:o}");
        }
    }

    #[test]
    fn what_everybody_may_know_is_no_secret() {
        for (path, mode, text) in [
            ("x", 0o640, "x"),
            ("x", 0o604, "x"),
            ("lock", 0o600, ""),
            ("ca.pem", 0o644, "-----BEGIN CERTIFICATE-----\n"),
            ("node_modules/a/test.key", 0o644, "AGE-SECRET-KEY-1X\n"),
        ] {
            assert_eq!(said(path, mode, text), None, "{path} {mode:o}");
        }
    }

    #[test]
    fn the_refusal_names_the_first_and_says_what_to_do() {
        let text = said("a/credentials/.env", 0o600, "x").unwrap();
        let expected = "/srv/x holds 2 secrets (the first: a/credentials)";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("--recipient"), "{text}");
    }
}
