//! What a header block and its records say, as a [`Member`]: only in the ways in which
//! `member` says it. Whatever else tar archives can hold is refused.

use std::io;

use super::damaged;
use super::member::{ACL_ACCESS, ACL_DEFAULT, Member, XATTR};
use super::ustar::{Flag, Header};
use super::{acl, pax, sparse};
use crate::entry::{EntryKind, Metadata, Timestamp, Xattr};
use crate::fs::XattrSelect;

/// The longest name and value of an attribute on Linux, in bytes (`XATTR_NAME_MAX`,
/// `XATTR_SIZE_MAX`).
const XATTR_NAME_MAX: usize = 255;
const XATTR_SIZE_MAX: usize = 64 << 10;

/// A member, and how many bytes follow its header block.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) member: Member,
    pub(super) stored_bytes: u64,
    /// The content begins with the map of a sparse file.
    pub(super) is_sparse: bool,
}

/// What the records of a member say.
#[derive(Debug, Default)]
pub(super) struct Records {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<Timestamp>,
    xattrs: Vec<Xattr>,
    sparse: Sparse,
}

#[derive(Debug, Default)]
struct Sparse {
    major: Option<u64>,
    minor: Option<u64>,
    name: Option<Vec<u8>>,
    len: Option<u64>,
}

impl Records {
    /// Reads the records of one member.
    pub(super) fn parse(bytes: &[u8]) -> io::Result<Records> {
        let mut records = Records::default();
        for record in pax::records(bytes) {
            let (key, value) = record?;
            records.take(key, value)?;
        }
        records.xattrs.sort_unstable();
        let twice = |pair: &[Xattr]| pair[0].name == pair[1].name;
        if records.xattrs.windows(2).any(twice) {
            return Err(damaged("a member has an attribute twice"));
        }
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match key {
            b"path" => once(&mut self.path, value.to_vec(), key),
            b"linkpath" => once(&mut self.link, value.to_vec(), key),
            b"size" => once(&mut self.size, number(value)?, key),
            b"uid" => once(&mut self.uid, number(value)?, key),
            b"gid" => once(&mut self.gid, number(value)?, key),
            b"mtime" => {
                let time = time_of(value).ok_or_else(|| damaged("a member has no sound time"))?;
                once(&mut self.mtime, time, key)
            }
            // The manifest names the owners too, once for all.
            b"uname" | b"gname" => Ok(()),
            b"GNU.sparse.major" => once(&mut self.sparse.major, number(value)?, key),
            b"GNU.sparse.minor" => once(&mut self.sparse.minor, number(value)?, key),
            b"GNU.sparse.name" => once(&mut self.sparse.name, value.to_vec(), key),
            b"GNU.sparse.realsize" => once(&mut self.sparse.len, number(value)?, key),
            ACL_ACCESS => self.take_acl(Xattr::ACL_ACCESS, value),
            ACL_DEFAULT => self.take_acl(Xattr::ACL_DEFAULT, value),
            key => match key.strip_prefix(XATTR) {
                Some(name) => self.take_xattr(name, value),
                None => Err(damaged(format!(
                    "a record {}, which no bundle holds",
                    key.escape_ascii()
                ))),
            },
        }
    }

    fn take_acl(&mut self, name: &[u8], value: &[u8]) -> io::Result<()> {
        let acl = acl::from_text(value).ok_or_else(|| damaged("an ACL makes no sense"))?;
        self.xattrs.push(Xattr {
            name: name.to_vec(),
            value: acl.to_raw(),
        });
        Ok(())
    }

    fn take_xattr(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let name = unescaped(key).filter(|name| {
            (1..=XATTR_NAME_MAX).contains(&name.len())
                && !name.contains(&0)
                // ACLs have records of their own.
                && !name.starts_with(b"system.")
                && XattrSelect::ALL.takes(name)
        });
        let Some(name) = name.filter(|_| value.len() <= XATTR_SIZE_MAX) else {
            return Err(damaged(format!(
                "an attribute {}, which Linux cannot have",
                key[..key.len().min(XATTR_NAME_MAX)].escape_ascii()
            )));
        };
        let value = value.to_vec();
        self.xattrs.push(Xattr { name, value });
        Ok(())
    }

    /// The member that a header block and these records describe.
    pub(super) fn member(self, header: Header) -> io::Result<Decoded> {
        let flag = header.flag;
        let stored_bytes = self.size.unwrap_or(header.size);
        let is_sparse = self.sparse.version()?;
        if flag != Flag::File && (is_sparse || stored_bytes > 0) {
            return Err(damaged("a member that is no file has content"));
        }
        let mut meta = self.meta(&header)?;
        let (target, link) = targets(flag, self.link.unwrap_or(header.link))?;
        let (path, size) = match self.sparse {
            Sparse {
                name: Some(name),
                len: Some(len),
                ..
            } if is_sparse => (name, len),
            _ => (self.path.unwrap_or(header.name), stored_bytes),
        };
        if size > sparse::MAX_LEN {
            return Err(damaged(format!("a file of {size} bytes")));
        }
        meta.size = size + target.len() as u64;
        Ok(Decoded {
            member: Member {
                path: without_slash(path, meta.kind)?,
                meta,
                target,
                xattrs: self.xattrs,
                link,
                extents: None,
                user: Vec::new(),
                group: Vec::new(),
            },
            stored_bytes,
            is_sparse,
        })
    }

    /// All but the size.
    fn meta(&self, header: &Header) -> io::Result<Metadata> {
        let kind = kind_of(header.flag)?;
        let device = |number: u64| {
            u32::try_from(number).map_err(|_| damaged(format!("a device number of {number}")))
        };
        let device = (device(header.device.0)?, device(header.device.1)?);
        let mode = u16::try_from(header.mode).ok();
        let mode = mode.filter(|&mode| mode <= 0o7777);
        let whole_seconds = Timestamp {
            // A field of 11 octal digits.
            secs: header.mtime as i64,
            nanos: 0,
        };
        Ok(Metadata {
            kind,
            mode: mode.ok_or_else(|| damaged("a member has no sound mode"))?,
            uid: owner(self.uid.unwrap_or(header.uid))?,
            gid: owner(self.gid.unwrap_or(header.gid))?,
            mtime: self.mtime.unwrap_or(whole_seconds),
            size: 0,
            rdev: match kind.is_device() {
                true => device,
                false => (0, 0),
            },
        })
    }
}

/// The number of a user or group. The last one stands for nobody: the kernel takes it for "leave
/// it as it is".
fn owner(number: u64) -> io::Result<u32> {
    let id = u32::try_from(number).ok().filter(|&id| id != u32::MAX);
    id.ok_or_else(|| damaged(format!("an owner with the number {number}")))
}

/// What a symlink holds, and what another name is one of.
fn targets(flag: Flag, link: Vec<u8>) -> io::Result<(Vec<u8>, Option<Vec<u8>>)> {
    match flag {
        Flag::Symlink if link.is_empty() => Err(damaged("a symlink that leads nowhere")),
        Flag::Symlink => Ok((link, None)),
        Flag::HardLink => Ok((Vec::new(), Some(link))),
        _ => Ok((Vec::new(), None)),
    }
}

impl Sparse {
    /// Whether there are records of a sparse file, in the one form that is read.
    fn version(&self) -> io::Result<bool> {
        match (self.major, self.minor, &self.name, self.len) {
            (None, None, None, None) => Ok(false),
            (Some(1), Some(0), Some(_), Some(_)) => Ok(true),
            _ => Err(damaged("a sparse file in a form that no bundle holds")),
        }
    }
}

/// What a member is; for another name of an earlier one that is not said here.
fn kind_of(flag: Flag) -> io::Result<EntryKind> {
    Ok(match flag {
        Flag::File | Flag::HardLink => EntryKind::File,
        Flag::Symlink => EntryKind::Symlink,
        Flag::CharDevice => EntryKind::CharDevice,
        Flag::BlockDevice => EntryKind::BlockDevice,
        Flag::Dir => EntryKind::Dir,
        Flag::Fifo => EntryKind::Fifo,
        Flag::Pax => return Err(damaged("records that no member follows")),
    })
}

/// The path of a directory is written with a slash at its end, and no other is.
fn without_slash(mut path: Vec<u8>, kind: EntryKind) -> io::Result<Vec<u8>> {
    if kind == EntryKind::Dir && path.pop() != Some(b'/') {
        return Err(damaged("a directory without a slash at its end"));
    }
    Ok(path)
}

fn once<T>(field: &mut Option<T>, value: T, key: &[u8]) -> io::Result<()> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(damaged(format!(
            "a member has the record {} twice",
            key.escape_ascii()
        ))),
    }
}

fn number(value: &[u8]) -> io::Result<u64> {
    digits(value).ok_or_else(|| damaged("a record has something else where a number should be"))
}

fn digits(text: &[u8]) -> Option<u64> {
    let is_plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text)
        .ok()
        .filter(|_| is_plain)?
        .parse()
        .ok()
}

fn time_of(text: &[u8]) -> Option<Timestamp> {
    const DECIMALS: usize = 9;
    let (is_before_1970, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let point = text.iter().position(|&byte| byte == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &b"0"[..]),
    };
    if fraction.len() > DECIMALS {
        return None;
    }
    let secs = i64::try_from(digits(whole)?).ok()?;
    let scale = 10_u64.pow((DECIMALS - fraction.len()) as u32);
    let nanos = u32::try_from(digits(fraction)? * scale).ok()?;
    Some(match (is_before_1970, nanos) {
        (false, nanos) => Timestamp { secs, nanos },
        (true, 0) => Timestamp {
            secs: -secs,
            nanos: 0,
        },
        (true, nanos) => Timestamp {
            secs: -secs - 1,
            nanos: 1_000_000_000 - nanos,
        },
    })
}

/// The name of an attribute in the key of its record; `None` where it is not escaped as `member`
/// does it.
fn unescaped(key: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(key.len());
    let mut rest = key;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        name.push(match (byte, after) {
            (b'%', [b'2', b'5', after @ ..]) => {
                rest = after;
                b'%'
            }
            (b'%', [b'3', b'D', after @ ..]) => {
                rest = after;
                b'='
            }
            (b'%', _) => return None,
            (byte, _) => byte,
        });
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        let t = |secs, nanos| Some(Timestamp { secs, nanos });
        let cases: [(&[u8], _); 11] = [
            (b"0", t(0, 0)),
            (b"1700000000.123456789", t(1_700_000_000, 123_456_789)),
            (b"-2.5", t(-3, 500_000_000)),
            (b"-0.5", t(-1, 500_000_000)),
            (b"-7", t(-7, 0)),
            (b"", None),
            (b"1.", None),
            (b".5", None),
            (b"1.0000000001", None),
            (b"99999999999999999999", None),
            (b"--1", None),
        ];
        for (text, time) in cases {
            assert_eq!(time_of(text), time, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn names_of_attributes_are_unescaped() {
        assert_eq!(unescaped(b"user.a%3Db%25"), Some(b"user.a=b%".to_vec()));
        assert_eq!(unescaped(b"user.%"), None);
        assert_eq!(unescaped(b"user.%41"), None);
    }

    fn said(records: &[pax::Record<'_>]) -> String {
        let mut bytes = Vec::new();
        for (key, value) in records {
            pax::push(&mut bytes, key, value);
        }
        let file = Header {
            name: b"a/b".to_vec(),
            ..Header::new(Flag::File)
        };
        let decoded = Records::parse(&bytes).and_then(|records| records.member(file));
        decoded
            .map(|_| String::new())
            .unwrap_or_else(|err| err.to_string())
    }

    #[test]
    fn records_that_no_bundle_holds_are_refused() {
        let long = vec![b'x'; XATTR_SIZE_MAX + 1];
        let cases: [(&[pax::Record<'_>], &str); 13] = [
            (&[(b"path", b"a"), (b"path", b"b")], "path twice"),
            (&[(b"uid", b"4294967295")], "number 4294967295"),
            (&[(b"uid", b"-1")], "number should be"),
            (&[(b"uid", b"")], "number should be"),
            (&[(b"mtime", b"x")], "no sound time"),
            (&[(b"comment", b"x")], "record comment"),
            (&[(b"GNU.sparse.major", b"0")], "sparse"),
            (&[(b"GNU.sparse.map", b"0,1")], "record GNU.sparse.map"),
            (&[(b"SCHILY.acl.access", b"x")], "ACL"),
            (&[(b"SCHILY.xattr.user.a", &long)], "attribute user.a"),
            (&[(b"SCHILY.xattr.system.posix_acl_access", b"")], "system"),
            (
                &[
                    (b"SCHILY.xattr.user.a", b""),
                    (b"SCHILY.xattr.user.a", b"1"),
                ],
                "attribute twice",
            ),
            (&[(b"size", b"99999999999999999")], "a file of"),
        ];
        for (records, why) in cases {
            let said = said(records);
            assert!(said.contains(why), "{why}: {said:?}");
        }
        assert_eq!(said(&[(b"uid", b"4294967294")]), "");
    }
}
