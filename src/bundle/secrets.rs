//! What must not lie on a drive for everyone who finds it: known by what it is called, and by whom
//! its owner lets read it.

use std::sync::{Mutex, PoisonError};

use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::events::Side;
use crate::filter::Rules;
use crate::manifest::record::Entry;
use crate::options::RuleText;
use crate::path::{RelPath, escape};

/// Names that hold secrets wherever they are found.
const KNOWN: [&str; 12] = [
    "credentials",
    "credentials.json",
    "secrets/",
    ".ssh/",
    ".gnupg/",
    "id_rsa",
    "id_ed25519",
    "id_ecdsa",
    "*.key",
    ".env",
    ".netrc",
    ".pgpass",
];

/// Finds the secrets of one tree.
pub(super) struct Secrets {
    names: Rules,
    found: Mutex<Found>,
}

#[derive(Clone, Debug, Default)]
struct Found {
    entries: u64,
    /// The first of them in the order of paths, whichever thread found it.
    first: Option<RelPath>,
}

impl Secrets {
    /// Knows the names that are secrets everywhere, and these patterns of names.
    pub(super) fn new(patterns: &[String]) -> Result<Secrets> {
        let known = KNOWN.iter().map(|name| (*name).to_string());
        let rules: Vec<_> = known
            .chain(patterns.iter().cloned())
            .map(|pattern| RuleText(format!("- {pattern}").into_bytes()))
            .collect();
        Ok(Secrets {
            names: Rules::parse(&rules)?,
            found: Mutex::default(),
        })
    }

    /// Looks at an entry of the directory `dir`.
    pub(super) fn look_at(&self, dir: &RelPath, entry: &Entry) {
        if self.is_secret(dir, entry) {
            let path = dir.join(&entry.name);
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.entries += 1;
            if found.first.as_ref().is_none_or(|first| path < *first) {
                found.first = Some(path);
            }
        }
    }

    fn is_secret(&self, dir: &RelPath, entry: &Entry) -> bool {
        const READABLE_BY_OTHERS: u16 = 0o044;
        let is_private = match entry.meta.kind {
            // Nothing is in an empty one: locks and marks are often for nobody else.
            EntryKind::File => entry.meta.size > 0 && entry.meta.mode & READABLE_BY_OTHERS == 0,
            EntryKind::Dir => false,
            // Another entry's name says nothing.
            _ => return false,
        };
        let is_dir = entry.meta.kind == EntryKind::Dir;
        let name = entry.name.as_bytes();
        is_private
            || self
                .names
                .decide(dir, name, is_dir, Side::Source)
                .is_excluded()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Metadata;
    use crate::path::Name;

    fn refused(kind: EntryKind, name: &str, mode: u16, size: u64) -> bool {
        let secrets = Secrets::new(&["token-*".to_string()]).unwrap();
        let entry = Entry {
            name: Name::new(name.as_bytes()).unwrap(),
            meta: Metadata {
                kind,
                mode,
                uid: 0,
                gid: 0,
                mtime: Default::default(),
                size,
                rdev: (0, 0),
            },
            target: Vec::new(),
            xattrs: Vec::new(),
            content: None,
            link: None,
        };
        secrets.look_at(&RelPath::root(), &entry);
        secrets.refuse(b"root").is_err()
    }

    #[test]
    fn a_secret_is_known_by_its_mode_or_name() {
        use EntryKind::{Dir, Fifo, File};
        assert!(refused(File, "x", 0o600, 1));
        assert!(refused(File, "x", 0o711, 1));
        assert!(!refused(File, "x", 0o640, 1));
        assert!(!refused(File, "x", 0o604, 1));
        assert!(!refused(File, "lock", 0o600, 0));
        assert!(refused(File, "server.key", 0o644, 1));
        assert!(refused(File, "token-7", 0o644, 1));
        assert!(refused(Dir, "credentials", 0o755, 0));
        assert!(!refused(Dir, "x", 0o700, 0));
        assert!(!refused(Fifo, "x", 0o600, 0));
    }

    #[test]
    fn the_refusal_names_the_first_and_says_what_to_do() {
        let said = Secrets::new(&[]).unwrap();
        {
            let mut found = said.found.lock().unwrap();
            found.entries = 2;
            found.first = Some(RelPath::new(b"a/b").unwrap());
        }
        let err = said.refuse(b"/srv/x").unwrap_err();
        assert!(matches!(err, Error::Refused(_)));
        let text = err.to_string();
        assert!(
            text.contains("/srv/x holds 2 secrets (the first: a/b)"),
            "{text}"
        );
        assert!(text.contains("--recipient"), "{text}");
    }
}
