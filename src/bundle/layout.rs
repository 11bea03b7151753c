//! Where things are in a bundle: each tree in a directory named after its root, and what is a
//! bundle's own in one directory beside them.

use std::io;

use super::damaged;
use crate::fs::{is_own_name, is_temp};
use crate::path::{Name, RelPath, escape};

/// Where a bundle keeps what is its own. No root has this name.
pub(super) const OWN_DIR: &str = "cutover-bundle";

/// The first member: says what the archive is.
const VERSION: &str = "version";
/// What could not be read as it should, for people; only where there is such.
const FAULTS: &str = "faults";
/// The directory of the manifests, one for each root under the root's name.
const MANIFESTS: &str = "manifests";

/// The content of the first member. The number is the layout's.
pub(super) const VERSION_TEXT: &[u8] = b"cutover-bundle 1\n";

/// What a member is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// What the archive is.
    Version,
    /// What went wrong.
    Faults,
    /// The manifest of a root.
    Manifest(Name),
    /// An entry of a root, or the root itself.
    Entry(Name, RelPath),
}

impl Place {
    /// What the member at `path` is for.
    ///
    /// # Errors
    ///
    /// A path that is absolute, leads out of its tree, or is nothing's place.
    pub(super) fn of(path: &[u8]) -> io::Result<Place> {
        let cut = path.iter().position(|&byte| byte == b'/');
        let (first, rest) = match cut {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (path, &b""[..]),
        };
        let unsafe_path =
            |err: crate::path::PathError| damaged(format!("a member at {}: {err}", shown(path)));
        let root = Name::new(first).map_err(unsafe_path)?;
        if cut.is_some() && rest.is_empty() {
            return Err(damaged(format!("a member at {}", shown(path))));
        }
        let below = RelPath::new(rest).map_err(unsafe_path)?;
        if first == OWN_DIR.as_bytes() {
            return Place::own(&below)
                .ok_or_else(|| damaged(format!("a member at {}", shown(path))));
        }
        if is_reserved(&below) || is_temp(first) {
            return Err(damaged(format!(
                "a member at {}, a name that cutover keeps for itself",
                shown(path)
            )));
        }
        Ok(Place::Entry(root, below))
    }

    fn own(below: &RelPath) -> Option<Place> {
        let mut names = below.components();
        match (names.next()?, names.next(), names.next()) {
            (name, None, None) if name == VERSION.as_bytes() => Some(Place::Version),
            (name, None, None) if name == FAULTS.as_bytes() => Some(Place::Faults),
            (name, Some(root), None) if name == MANIFESTS.as_bytes() => {
                Some(Place::Manifest(Name::new(root).ok()?))
            }
            _ => None,
        }
    }

    /// Its path in the archive.
    pub(super) fn path(&self) -> Vec<u8> {
        let own = |name: &str| [OWN_DIR, name].join("/").into_bytes();
        match self {
            Place::Version => own(VERSION),
            Place::Faults => own(FAULTS),
            Place::Manifest(root) => [&own(MANIFESTS), &b"/"[..], root.as_bytes()].concat(),
            Place::Entry(root, path) if path.is_root() => root.as_bytes().to_vec(),
            Place::Entry(root, path) => [root.as_bytes(), b"/", path.as_bytes()].concat(),
        }
    }
}

/// Whether an entry is no part of a tree, but ours.
fn is_reserved(path: &RelPath) -> bool {
    let first = path.components().next().unwrap_or_default();
    is_own_name(first) || path.components().any(is_temp)
}

/// A path in the archive, for people, and no longer than they read.
pub(super) fn shown(path: &[u8]) -> String {
    const ENOUGH: usize = 300;
    match path.get(..ENOUGH) {
        Some(front) => format!("{}...", escape(front)),
        None => escape(path).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_a_path_that_leads_back() {
        let root = Name::new(b"state\xff").unwrap();
        for place in [
            Place::Version,
            Place::Faults,
            Place::Manifest(root.clone()),
            Place::Manifest(Name::new(b"faults").unwrap()),
            Place::Entry(root.clone(), RelPath::root()),
            Place::Entry(root, RelPath::new(b"a/.b/c").unwrap()),
        ] {
            assert_eq!(Place::of(&place.path()).unwrap(), place);
        }
    }

    #[test]
    fn paths_that_lead_out_or_stand_for_nothing_are_refused() {
        for bad in [
            &b""[..],
            b"/",
            b"/etc/passwd",
            b"..",
            b"../x",
            b".",
            b"./x",
            b"a/../b",
            b"a/..",
            b"a/./b",
            b"a//b",
            b"a/",
            b"a/b/",
            b"a\0b",
            b"a/b\0",
            b"cutover-bundle",
            b"cutover-bundle/x",
            b"cutover-bundle/version/x",
            b"cutover-bundle/manifests",
            b"cutover-bundle/manifests/a/b",
            b"a/.cutover-trash/x",
            b"a/.cutover-kept",
            b"a/.cutover-marker",
            b"a/b/.c.cutover-01234567",
            b".c.cutover-01234567",
        ] {
            assert!(Place::of(bad).is_err(), "{}", bad.escape_ascii());
        }
        let long = vec![b'x'; 256];
        assert!(Place::of(&long).is_err());
    }
}
