//! Names and relative paths as the filesystem keeps them: raw bytes, checked once when made.
//!
//! A [`RelPath`] never leaves its tree: it has no empty, `.` or `..` component and no NUL, so
//! code that holds one need not check again. Everything from the other end or from a directory
//! listing becomes a [`Name`] or a `RelPath` before it is used.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name that Linux filesystems hold, in bytes (`NAME_MAX`).
pub const NAME_MAX: usize = 255;

/// The longest relative path that is accepted from the other end, in bytes.
///
/// Linux bounds one system call's path at 4096, not the depth of a tree; a mebibyte is deeper
/// than any tree seen and still bounds what a hostile peer can make us hold.
pub const REL_PATH_MAX: usize = 1 << 20;

/// A name or path that cannot stand beneath a root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unsafe name {shown:?}: {why}")]
pub struct PathError {
    shown: String,
    why: &'static str,
}

fn check_name(bytes: &[u8]) -> Result<(), &'static str> {
    if bytes.is_empty() {
        return Err("it is empty");
    }
    if bytes == b"." || bytes == b".." {
        return Err("it is a dot name");
    }
    if bytes.len() > NAME_MAX {
        return Err("it is longer than 255 bytes");
    }
    if bytes.iter().any(|&b| b == b'/' || b == 0) {
        return Err("it holds a slash or a NUL");
    }
    Ok(())
}

fn reject(bytes: &[u8], why: &'static str) -> PathError {
    let shown = escape(&bytes[..bytes.len().min(NAME_MAX)]).into_owned();
    PathError { shown, why }
}

/// One entry's name: 1 to 255 bytes, no `/`, no NUL, neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Checks `bytes` and keeps a copy.
    pub fn new(bytes: &[u8]) -> Result<Name, PathError> {
        check_name(bytes).map_err(|why| reject(bytes, why))?;
        Ok(Name(bytes.into()))
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name as the standard library wants it.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({})", escape(&self.0))
    }
}

/// A path beneath a root: names joined by single slashes; empty for the root itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RelPath(Vec<u8>);

impl RelPath {
    /// The root itself.
    pub fn root() -> RelPath {
        RelPath(Vec::new())
    }

    /// Checks every component of `bytes`; the empty string is the root.
    pub fn new(bytes: &[u8]) -> Result<RelPath, PathError> {
        if bytes.len() > REL_PATH_MAX {
            return Err(reject(bytes, "it is longer than 1 MiB"));
        }
        if !bytes.is_empty() {
            for name in bytes.split(|&b| b == b'/') {
                check_name(name).map_err(|why| reject(bytes, why))?;
            }
        }
        Ok(RelPath(bytes.to_vec()))
    }

    /// The path of `name` in this directory.
    pub fn join(&self, name: &Name) -> RelPath {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.0.len());
        bytes.extend_from_slice(&self.0);
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(&name.0);
        RelPath(bytes)
    }

    /// The directory that holds this entry; `None` for the root.
    pub fn parent(&self) -> Option<RelPath> {
        if self.is_root() {
            return None;
        }
        let cut = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        Some(RelPath(self.0[..cut].to_vec()))
    }

    /// This path and the directories that it lies in, upwards; the root is the last.
    pub fn ancestors(&self) -> impl Iterator<Item = RelPath> {
        std::iter::successors(Some(self.clone()), RelPath::parent)
    }

    /// The last component; `None` for the root.
    pub fn file_name(&self) -> Option<Name> {
        let last = self.0.rsplit(|&b| b == b'/').next()?;
        (!last.is_empty()).then(|| Name(last.into()))
    }

    /// The names from the root down.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|name| !name.is_empty())
    }

    /// How many names the path has; 0 for the root.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is `other` or beneath it.
    pub fn starts_with(&self, other: &RelPath) -> bool {
        other.is_root()
            || self.0 == other.0
            || (self.0.starts_with(&other.0) && self.0.get(other.0.len()) == Some(&b'/'))
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as the standard library wants it.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }
}

impl fmt::Display for RelPath {
    /// Writes the path for a person: control and non-UTF-8 bytes as `\#ooo`, the root as `.`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelPath({self})")
    }
}

/// Makes bytes printable the way rsync does: `\#ooo` (octal) for control characters and for what
/// is not UTF-8, so that a name can neither move the cursor nor hide a newline.
pub fn escape(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(char::is_control)
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                let mut utf8 = [0; 4];
                push_octal(&mut out, c.encode_utf8(&mut utf8).as_bytes());
            } else {
                out.push(c);
            }
        }
        push_octal(&mut out, chunk.invalid());
    }
    Cow::Owned(out)
}

fn push_octal(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        out.push_str(&format!("\\#{byte:03o}"));
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        let bytes: serde_bytes::ByteBuf = serde_bytes::deserialize(deserializer)?;
        Name::new(&bytes).map_err(serde::de::Error::custom)
    }
}

impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RelPath, D::Error> {
        let bytes: serde_bytes::ByteBuf = serde_bytes::deserialize(deserializer)?;
        RelPath::new(&bytes).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_names_slashes_and_nul_are_rejected() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'x'; 256]] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        for bad in [&b"/"[..], b"/a", b"a/", b"a//b", b"a/../b", b"./a"] {
            assert!(RelPath::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn any_other_byte_is_a_name() {
        for good in [
            &b"-rf"[..],
            b".hidden",
            b"...",
            b"new\nline",
            b"\xff\xfe",
            &[b'x'; 255],
        ] {
            assert_eq!(Name::new(good).unwrap().as_bytes(), good);
        }
    }

    #[test]
    fn parent_and_file_name_undo_join() {
        let name = Name::new(b"c").unwrap();
        let parent = RelPath::new(b"a/b").unwrap();
        let path = parent.join(&name);
        assert_eq!(path.as_bytes(), b"a/b/c");
        assert_eq!(path.parent(), Some(parent));
        assert_eq!(path.file_name(), Some(name));
        assert_eq!(RelPath::root().parent(), None);
        assert_eq!(RelPath::root().file_name(), None);
        assert_eq!(RelPath::new(b"a").unwrap().parent(), Some(RelPath::root()));
    }

    #[test]
    fn ancestors_begin_with_the_path_and_end_with_the_root() {
        let path = RelPath::new(b"a/b").unwrap();
        let found: Vec<_> = path.ancestors().collect();
        assert_eq!(
            found,
            [path.clone(), path.parent().unwrap(), RelPath::root()]
        );
        assert_eq!(RelPath::root().ancestors().count(), 1);
    }

    #[test]
    fn a_sibling_with_the_same_prefix_is_not_beneath() {
        let path = |text: &str| RelPath::new(text.as_bytes()).unwrap();
        assert!(path("a/b").starts_with(&path("a")));
        assert!(path("a").starts_with(&path("a")));
        assert!(path("a").starts_with(&RelPath::root()));
        assert!(!path("ab").starts_with(&path("a")));
    }

    #[test]
    fn unprintable_bytes_are_shown_in_octal() {
        assert_eq!(escape(b"plain"), "plain");
        assert_eq!(escape("ü".as_bytes()), "ü");
        assert_eq!(escape(b"a\nb\xffc\x1b"), "a\\#012b\\#377c\\#033");
    }

    #[test]
    fn a_hostile_path_does_not_decode() {
        let bytes = postcard::to_stdvec(serde_bytes::Bytes::new(b"../x")).unwrap();
        assert!(postcard::from_bytes::<RelPath>(&bytes).is_err());
        assert!(postcard::from_bytes::<Name>(&bytes).is_err());
    }
}
