//! One member of an archive: an entry of a tree with its path, and the header blocks and records
//! that say so. Reading them back is `decode`'s.

use std::io;
use std::ops::Range;

use super::ustar::{Flag, Header, padding};
use super::{acl, pax, sparse};
use crate::entry::{EntryKind, Metadata, Timestamp, Xattr};
use crate::fs::Acl;

/// Records of extended attributes begin with this.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";
/// The record of an ACL.
pub(super) const ACL_ACCESS: &[u8] = b"SCHILY.acl.access";
/// The record of a default ACL.
pub(super) const ACL_DEFAULT: &[u8] = b"SCHILY.acl.default";

/// What the header of records is called, for readers that know none and take it for a file.
const PAX_NAME: &[u8] = b"PaxHeaders/member";
/// Where a sparse file goes with readers that know none: its map comes before its content.
const SPARSE_NAME: &[u8] = b"GNUSparseFile.0/";

/// A member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its path in the archive, without a slash at the end.
    pub(super) path: Vec<u8>,
    /// What it is.
    pub(super) meta: Metadata,
    /// A symlink's target.
    pub(super) target: Vec<u8>,
    /// Extended attributes, sorted by name.
    pub(super) xattrs: Vec<Xattr>,
    /// It is another name of the earlier member with this path, and all else is that one's.
    pub(super) link: Option<Vec<u8>>,
    /// Where the data of a sparse file lies. `None`: all content is there.
    pub(super) extents: Option<Vec<Range<u64>>>,
    /// What its owner is called. Only written: a bundle's manifest has the names as well.
    pub(super) user: Vec<u8>,
    /// What its group is called.
    pub(super) group: Vec<u8>,
}

impl Member {
    /// A plain file of a bundle's own, which belongs to nobody.
    pub(super) fn own(path: Vec<u8>, size: u64, mtime: Timestamp) -> Member {
        Member {
            path,
            meta: Metadata {
                kind: EntryKind::File,
                mode: 0o600,
                uid: 0,
                gid: 0,
                mtime,
                size,
                rdev: (0, 0),
            },
            target: Vec::new(),
            xattrs: Vec::new(),
            link: None,
            extents: None,
            user: Vec::new(),
            group: Vec::new(),
        }
    }

    /// How many bytes of content the archive holds of it, without a sparse file's map.
    pub(super) fn data_bytes(&self) -> u64 {
        match (&self.extents, self.meta.kind) {
            _ if self.link.is_some() => 0,
            (Some(extents), _) => extents.iter().map(|range| range.end - range.start).sum(),
            (None, EntryKind::File) => self.meta.size,
            (None, _) => 0,
        }
    }

    /// All that comes before its content: records where they are needed, the header block, and a
    /// sparse file's map.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] where it has attributes that no archive can hold.
    pub(super) fn head(&self) -> io::Result<Vec<u8>> {
        let map = match &self.extents {
            Some(extents) => sparse::encode(extents, self.meta.size),
            None => Vec::new(),
        };
        let mut header = Header::new(self.flag()?);
        let mut records = Vec::new();
        self.put_name(&mut header, &mut records);
        self.put_owner(&mut header, &mut records);
        header.mode = u64::from(self.meta.mode);
        header.device = (self.meta.rdev.0.into(), self.meta.rdev.1.into());
        header.size = map.len() as u64 + self.data_bytes();
        if header.size > Header::SIZE_MAX {
            pax::push(&mut records, b"size", header.size.to_string().as_bytes());
        }
        put_mtime(self.meta.mtime, &mut header, &mut records);
        if self.link.is_none() {
            self.put_xattrs(&mut records)?;
        }
        let mut head = Vec::new();
        if records.len() as u64 > pax::MAX_BYTES {
            return Err(unfit("it has more attributes than a bundle takes"));
        }
        if !records.is_empty() {
            let mut before = Header::new(Flag::Pax);
            before.name = PAX_NAME.to_vec();
            before.mode = 0o644;
            before.size = records.len() as u64;
            head.extend_from_slice(&before.to_block());
            head.extend_from_slice(&records);
            head.resize(head.len() + padding(before.size), 0);
        }
        head.extend_from_slice(&header.to_block());
        head.extend_from_slice(&map);
        Ok(head)
    }

    fn flag(&self) -> io::Result<Flag> {
        Ok(match self.meta.kind {
            _ if self.link.is_some() => Flag::HardLink,
            EntryKind::File => Flag::File,
            EntryKind::Dir => Flag::Dir,
            EntryKind::Symlink => Flag::Symlink,
            EntryKind::Fifo => Flag::Fifo,
            EntryKind::CharDevice => Flag::CharDevice,
            EntryKind::BlockDevice => Flag::BlockDevice,
            EntryKind::Socket => return Err(unfit("tar holds no sockets")),
        })
    }

    fn put_name(&self, header: &mut Header, records: &mut Vec<u8>) {
        let mut name = self.path.clone();
        if self.meta.kind == EntryKind::Dir {
            name.push(b'/');
        }
        match &self.extents {
            Some(_) => {
                let len = self.meta.size.to_string();
                pax::push(records, b"GNU.sparse.major", b"1");
                pax::push(records, b"GNU.sparse.minor", b"0");
                pax::push(records, b"GNU.sparse.name", &name);
                pax::push(records, b"GNU.sparse.realsize", len.as_bytes());
                let last = name.rsplit(|&byte| byte == b'/').next();
                header.name = [SPARSE_NAME, last.unwrap_or_default()].concat();
            }
            None => header.name = put_text(b"path", name, Header::NAME_MAX, records),
        }
        let link = self.link.clone().unwrap_or_else(|| self.target.clone());
        header.link = put_text(b"linkpath", link, Header::NAME_MAX, records);
    }

    fn put_owner(&self, header: &mut Header, records: &mut Vec<u8>) {
        let mut id = |key: &[u8], id: u32| {
            if u64::from(id) > Header::ID_MAX {
                pax::push(records, key, id.to_string().as_bytes());
            }
            u64::from(id)
        };
        header.uid = id(b"uid", self.meta.uid);
        header.gid = id(b"gid", self.meta.gid);
        header.user = put_text(b"uname", self.user.clone(), Header::OWNER_MAX, records);
        header.group = put_text(b"gname", self.group.clone(), Header::OWNER_MAX, records);
    }

    fn put_xattrs(&self, records: &mut Vec<u8>) -> io::Result<()> {
        for xattr in &self.xattrs {
            let key = match xattr.name.as_slice() {
                Xattr::ACL_ACCESS => ACL_ACCESS,
                Xattr::ACL_DEFAULT => ACL_DEFAULT,
                name => {
                    let key = [XATTR, &escaped(name)].concat();
                    pax::push(records, &key, &xattr.value);
                    continue;
                }
            };
            let acl = Acl::from_raw(&xattr.value);
            let acl = acl.ok_or_else(|| unfit("it has an ACL of a form that is not known"))?;
            pax::push(records, key, &acl::to_text(&acl));
        }
        Ok(())
    }
}

/// The text for a field: with a record beside it where the field would not hold it, or where
/// readers could take its bytes for other characters than they are.
fn put_text(key: &[u8], text: Vec<u8>, max: usize, records: &mut Vec<u8>) -> Vec<u8> {
    if text.len() > max || !text.is_ascii() {
        pax::push(records, key, &text);
    }
    let mut text = text;
    text.truncate(max);
    text
}

fn put_mtime(mtime: Timestamp, header: &mut Header, records: &mut Vec<u8>) {
    let secs = u64::try_from(mtime.secs).ok();
    match secs.filter(|&secs| secs <= Header::SIZE_MAX && mtime.nanos == 0) {
        Some(secs) => header.mtime = secs,
        None => {
            header.mtime = secs.unwrap_or_default().min(Header::SIZE_MAX);
            pax::push(records, b"mtime", decimal(mtime).as_bytes());
        }
    }
}

/// Seconds with as many decimals as they need; before 1970 both count backward.
fn decimal(time: Timestamp) -> String {
    const SECOND: u32 = 1_000_000_000;
    let (sign, secs, nanos) = match (time.secs < 0, time.nanos) {
        (false, nanos) => ("", time.secs.unsigned_abs(), nanos),
        (true, 0) => ("-", time.secs.unsigned_abs(), 0),
        (true, nanos) => ("-", time.secs.unsigned_abs() - 1, SECOND - nanos),
    };
    let text = format!("{sign}{secs}.{nanos:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// An attribute's name as the key of a record, which ends at an equals sign: escaped as GNU tar
/// does it.
fn escaped(name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b'%' => key.extend_from_slice(b"%25"),
            b'=' => key.extend_from_slice(b"%3D"),
            byte => key.push(byte),
        }
    }
    key
}

fn unfit(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_gnu_tar_writes_them() {
        let cases = [
            ((0, 0), "0"),
            ((1_700_000_000, 123_456_789), "1700000000.123456789"),
            ((10, 500_000_000), "10.5"),
            ((-3, 500_000_000), "-2.5"),
            ((-1, 500_000_000), "-0.5"),
            ((-7, 0), "-7"),
            ((100, 0), "100"),
        ];
        for ((secs, nanos), text) in cases {
            assert_eq!(decimal(Timestamp { secs, nanos }), text);
        }
    }

    #[test]
    fn a_small_plain_file_needs_no_records() {
        let mtime = Timestamp { secs: 9, nanos: 0 };
        let head = Member::own(b"a/b".to_vec(), 5, mtime).head().unwrap();
        assert_eq!(head.len(), 512);
    }
}
