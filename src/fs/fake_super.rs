//! rsync's way to keep what the process may not set (`--fake-super`): owner, full mode and device
//! number in one user attribute, ACLs and foreign attributes in others. Values and names are
//! those of rsync 3.5.0, so that each reads what the other wrote.
//!
//! Whatever is not a directory is kept as a regular file: symlinks with their target as content,
//! devices, FIFOs and sockets empty.

use super::acl::Acl;
use super::stat::Stat;
use crate::entry::{EntryKind, Metadata, Xattr};

/// The attribute that holds owner, mode and device number.
pub const STAT: &[u8] = b"user.rsync.%stat";
/// The attribute that holds the access ACL.
pub const ACL_ACCESS: &[u8] = b"user.rsync.%aacl";
/// The attribute that holds a directory's default ACL.
pub const ACL_DEFAULT: &[u8] = b"user.rsync.%dacl";

/// What an attribute outside of the `user` namespace has in front of its name.
const FOREIGN: &[u8] = b"user.rsync.";

/// Stands in a stored ACL where the mode says the same, or where there is no mask.
const NO_ENTRY: u32 = 0x80;
/// Tells a user from a group in a stored ACL's list.
const IS_USER: u32 = 1 << 31;

/// What [`STAT`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FakeStat {
    /// What the entry is meant to be.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Device number (major, minor).
    pub rdev: (u32, u32),
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The value of [`STAT`] for an entry that is meant to be `meta`.
pub fn encode(meta: &Metadata) -> Vec<u8> {
    let mode = format_bits(meta.kind) | u32::from(meta.mode);
    let (major, minor) = meta.rdev;
    format!("{mode:o} {major},{minor} {}:{}", meta.uid, meta.gid).into_bytes()
}

/// Reads the value of [`STAT`]; `None` if it is damaged.
pub fn decode(value: &[u8]) -> Option<FakeStat> {
    let text = std::str::from_utf8(value).ok()?;
    let (mode, rest) = text.split_once(' ')?;
    let (rdev, owner) = rest.split_once(' ')?;
    let (major, minor) = rdev.split_once(',')?;
    let (uid, gid) = owner.split_once(':')?;
    let mode = u32::from_str_radix(mode, 8).ok()?;
    Some(FakeStat {
        kind: kind_of_format(mode & !0o7777)?,
        mode: (mode & 0o7777) as u16,
        rdev: (major.parse().ok()?, minor.parse().ok()?),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
    })
}

/// Makes `stat` say what the entry is meant to be by the `value` of its [`STAT`]. Does nothing
/// and returns false if the value is damaged, or makes a directory of a file or the reverse.
pub fn overlay(stat: &mut Stat, value: &[u8]) -> bool {
    let Some(fake) = decode(value) else {
        return false;
    };
    if stat.meta.kind != real_kind(fake.kind) {
        return false;
    }
    let has_size = matches!(fake.kind, EntryKind::File | EntryKind::Symlink);
    stat.meta = Metadata {
        kind: fake.kind,
        mode: fake.mode,
        uid: fake.uid,
        gid: fake.gid,
        mtime: stat.meta.mtime,
        size: if has_size { stat.meta.size } else { 0 },
        rdev: fake.rdev,
    };
    true
}

/// The mode that the real entry has: no special bits, and always usable by its owner.
pub fn real_mode(meta: &Metadata) -> u16 {
    let usable = match meta.kind {
        EntryKind::Dir => 0o700,
        _ => 0o600,
    };
    (meta.mode & 0o777) | usable
}

/// What the real entry is.
pub fn real_kind(kind: EntryKind) -> EntryKind {
    match kind {
        EntryKind::Dir => EntryKind::Dir,
        _ => EntryKind::File,
    }
}

/// Whether [`STAT`] would say of an entry that is meant to be `meta` what the `real` one does
/// not. If not, rsync removes the attribute.
pub fn is_needed(meta: &Metadata, real: &Metadata) -> bool {
    let told = |m: &Metadata| (m.kind, m.mode, m.uid, m.gid, m.rdev);
    told(meta) != told(real)
}

/// The attributes as they are stored for an entry of mode `mode`, sorted by name: ACLs in rsync's
/// form, others than the user's under `user.rsync.`. [`STAT`] is not among them.
///
/// What is no ACL though it is named so is left out, as are attributes that would read as ours.
pub fn to_stored(xattrs: &[Xattr], mode: u16) -> Vec<Xattr> {
    let mut stored: Vec<Xattr> = xattrs
        .iter()
        .filter_map(|Xattr { name, value }| {
            let (name, value) = match name.as_slice() {
                STAT | ACL_ACCESS | ACL_DEFAULT => return None,
                Xattr::ACL_ACCESS => {
                    let acl = Acl::from_raw(value)?;
                    (ACL_ACCESS.to_vec(), store_access_acl(&acl, mode))
                }
                Xattr::ACL_DEFAULT => {
                    let acl = Acl::from_raw(value)?;
                    (ACL_DEFAULT.to_vec(), store_default_acl(&acl))
                }
                user if user.starts_with(b"user.") => (user.to_vec(), value.clone()),
                foreign => ([FOREIGN, foreign].concat(), value.clone()),
            };
            Some(Xattr { name, value })
        })
        .collect();
    stored.sort_unstable();
    stored
}

/// The attributes that an entry is meant to have, sorted by name, from those that are `stored`
/// and the `mode` that it is meant to have. The reverse of [`to_stored`].
pub fn from_stored(stored: &[Xattr], mode: u16) -> Vec<Xattr> {
    let mut xattrs: Vec<Xattr> = stored
        .iter()
        .filter_map(|Xattr { name, value }| {
            let (name, value) = match name.as_slice() {
                STAT => return None,
                ACL_ACCESS => {
                    let acl = read_access_acl(value, mode)?;
                    (Xattr::ACL_ACCESS, acl.to_raw())
                }
                ACL_DEFAULT => {
                    let acl = read_default_acl(value)?;
                    (Xattr::ACL_DEFAULT, acl.to_raw())
                }
                other => (meant_name(other)?, value.clone()),
            };
            let name = name.to_vec();
            Some(Xattr { name, value })
        })
        .collect();
    xattrs.sort_unstable();
    xattrs.dedup_by(|a, b| a.name == b.name);
    xattrs
}

/// The name without the prefix of foreign attributes. `None` for what only the ACL attributes may
/// bring in.
fn meant_name(stored: &[u8]) -> Option<&[u8]> {
    match stored.strip_prefix(FOREIGN) {
        Some(name) if name.starts_with(b"system.") => None,
        Some(name) if !name.starts_with(b"%") && name.contains(&b'.') => Some(name),
        _ => Some(stored),
    }
}

/// Leaves out what the mode says: the owner's and everybody's rights, and the group's where they
/// are what the group digit says, which with a mask is the mask.
fn store_access_acl(acl: &Acl, mode: u16) -> Vec<u8> {
    let digit = group_digit(mode);
    let group = match acl.mask {
        Some(_) if acl.group != digit => u32::from(acl.group),
        _ => NO_ENTRY,
    };
    let mask = acl.mask.map_or(NO_ENTRY, u32::from);
    store_acl([NO_ENTRY, group, mask, NO_ENTRY], acl)
}

fn store_default_acl(acl: &Acl) -> Vec<u8> {
    let mask = acl.mask.map_or(NO_ENTRY, u32::from);
    store_acl(
        [acl.owner.into(), acl.group.into(), mask, acl.other.into()],
        acl,
    )
}

fn store_acl(head: [u32; 4], acl: &Acl) -> Vec<u8> {
    let mut words = head.to_vec();
    for &(uid, rights) in &acl.users {
        words.extend([uid, u32::from(rights) | IS_USER]);
    }
    for &(gid, rights) in &acl.groups {
        words.extend([gid, u32::from(rights)]);
    }
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// `None` also where the ACL says no more than the mode, which is how rsync marks one removed.
fn read_access_acl(value: &[u8], mode: u16) -> Option<Acl> {
    let stored = StoredAcl::read(value)?;
    if stored.mask.is_none() && stored.users.is_empty() && stored.groups.is_empty() {
        return None;
    }
    let digit = group_digit(mode);
    Some(Acl {
        owner: stored.owner.unwrap_or((mode >> 6 & 7) as u8),
        group: stored.group.unwrap_or(digit),
        // rsync changes the mode alone when only the mask changed.
        mask: Some(digit),
        other: stored.other.unwrap_or((mode & 7) as u8),
        users: stored.users,
        groups: stored.groups,
    })
}

fn read_default_acl(value: &[u8]) -> Option<Acl> {
    let stored = StoredAcl::read(value)?;
    let group = stored.group?;
    let named = stored.users.iter().chain(&stored.groups);
    let widest = named.map(|&(_, rights)| rights).reduce(|a, b| a | b);
    Some(Acl {
        owner: stored.owner?,
        group,
        mask: stored.mask.or(widest.map(|rights| rights | group)),
        other: stored.other?,
        users: stored.users,
        groups: stored.groups,
    })
}

/// A stored ACL before the mode has filled its gaps.
struct StoredAcl {
    owner: Option<u8>,
    group: Option<u8>,
    mask: Option<u8>,
    other: Option<u8>,
    users: Vec<(u32, u8)>,
    groups: Vec<(u32, u8)>,
}

impl StoredAcl {
    fn read(value: &[u8]) -> Option<StoredAcl> {
        let (words, []) = value.as_chunks::<4>() else {
            return None;
        };
        let words: Vec<u32> = words.iter().map(|&word| u32::from_le_bytes(word)).collect();
        let (&[owner, group, mask, other], named) = words.split_first_chunk()?;
        let (named, []) = named.as_chunks::<2>() else {
            return None;
        };
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        for &[id, access] in named {
            let list = match access & IS_USER {
                0 => &mut groups,
                _ => &mut users,
            };
            list.push((id, rights(access & !IS_USER)?));
        }
        let optional = |word| match word {
            NO_ENTRY => Some(None),
            word => rights(word).map(Some),
        };
        Some(StoredAcl {
            owner: optional(owner)?,
            group: optional(group)?,
            mask: optional(mask)?,
            other: optional(other)?,
            users,
            groups,
        })
    }
}

fn rights(word: u32) -> Option<u8> {
    u8::try_from(word).ok().filter(|&rights| rights <= 7)
}

fn group_digit(mode: u16) -> u8 {
    (mode >> 3 & 7) as u8
}

/// The kind as it stands in a mode (`S_IFMT`).
fn format_bits(kind: EntryKind) -> u32 {
    match kind {
        EntryKind::File => 0o100_000,
        EntryKind::Dir => 0o040_000,
        EntryKind::Symlink => 0o120_000,
        EntryKind::Fifo => 0o010_000,
        EntryKind::Socket => 0o140_000,
        EntryKind::CharDevice => 0o020_000,
        EntryKind::BlockDevice => 0o060_000,
    }
}

fn kind_of_format(bits: u32) -> Option<EntryKind> {
    [
        EntryKind::File,
        EntryKind::Dir,
        EntryKind::Symlink,
        EntryKind::Fifo,
        EntryKind::Socket,
        EntryKind::CharDevice,
        EntryKind::BlockDevice,
    ]
    .into_iter()
    .find(|&kind| format_bits(kind) == bits)
}

#[cfg(test)]
mod tests;
