//! A POSIX ACL as a value, from and to the raw attribute that the kernel keeps (version 2 of
//! `linux/posix_acl_xattr.h`, little-endian on every machine).

const VERSION: u32 = 2;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Stands where an entry is not about anyone by number.
const NO_ID: u32 = u32::MAX;

/// Who may do what. Rights are 0 to 7, as in one digit of a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    /// The owner's rights.
    pub owner: u8,
    /// Rights of users by number.
    pub users: Vec<(u32, u8)>,
    /// The owning group's rights.
    pub group: u8,
    /// Rights of groups by number.
    pub groups: Vec<(u32, u8)>,
    /// What no user by number and no group may exceed. Must be there if any of those is.
    pub mask: Option<u8>,
    /// Everybody else's rights.
    pub other: u8,
}

impl Acl {
    /// Reads the value of `system.posix_acl_access` or `_default`; `None` if it is not one.
    pub fn from_raw(raw: &[u8]) -> Option<Acl> {
        let (version, entries) = raw.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*version) != VERSION {
            return None;
        }
        let (mut owner, mut group, mut mask, mut other) = (None, None, None, None);
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        let (entries, []) = entries.as_chunks::<8>() else {
            return None;
        };
        for &[t0, t1, r0, r1, id @ ..] in entries {
            let rights = u16::from_le_bytes([r0, r1]);
            let rights = u8::try_from(rights).ok().filter(|&rights| rights <= 7)?;
            let id = u32::from_le_bytes(id);
            let single = match u16::from_le_bytes([t0, t1]) {
                USER => {
                    users.push((id, rights));
                    continue;
                }
                GROUP => {
                    groups.push((id, rights));
                    continue;
                }
                USER_OBJ => &mut owner,
                GROUP_OBJ => &mut group,
                MASK => &mut mask,
                OTHER => &mut other,
                _ => return None,
            };
            if single.replace(rights).is_some() {
                return None;
            }
        }
        Some(Acl {
            owner: owner?,
            users,
            group: group?,
            groups,
            mask,
            other: other?,
        })
    }

    /// Writes the value of the attribute.
    pub fn to_raw(&self) -> Vec<u8> {
        let mut raw = VERSION.to_le_bytes().to_vec();
        let mut push = |tag: u16, rights: u8, id: u32| {
            raw.extend_from_slice(&tag.to_le_bytes());
            raw.extend_from_slice(&u16::from(rights).to_le_bytes());
            raw.extend_from_slice(&id.to_le_bytes());
        };
        push(USER_OBJ, self.owner, NO_ID);
        for &(uid, rights) in &self.users {
            push(USER, rights, uid);
        }
        push(GROUP_OBJ, self.group, NO_ID);
        for &(gid, rights) in &self.groups {
            push(GROUP, rights, gid);
        }
        if let Some(rights) = self.mask {
            push(MASK, rights, NO_ID);
        }
        push(OTHER, self.other, NO_ID);
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Acl {
        Acl {
            owner: 7,
            users: vec![(1000, 6), (1001, 0)],
            group: 5,
            groups: vec![(5, 4)],
            mask: Some(6),
            other: 0,
        }
    }

    #[test]
    fn an_acl_comes_back_from_its_raw_value() {
        assert_eq!(Acl::from_raw(&full().to_raw()), Some(full()));
    }

    #[test]
    fn what_is_not_an_acl_is_refused() {
        let raw = full().to_raw();
        assert_eq!(Acl::from_raw(&[]), None);
        assert_eq!(Acl::from_raw(&raw[..raw.len() - 1]), None);
        assert_eq!(Acl::from_raw(&raw[..12]), None, "no group and no other");
        assert_eq!(
            Acl::from_raw(&[&raw[..], &raw[4..12]].concat()),
            None,
            "two owners"
        );
        let mut version_one = raw.clone();
        version_one[0] = 1;
        assert_eq!(Acl::from_raw(&version_one), None);
        let mut wild_rights = raw;
        wild_rights[6] = 8;
        assert_eq!(Acl::from_raw(&wild_rights), None);
    }
}
