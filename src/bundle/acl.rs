//! POSIX ACLs as tar keeps them: the lines that `getfacl -n` writes, with numbers for names, so
//! that they mean the same on every host that they are read on, as in a sync.

use crate::fs::Acl;

/// The lines.
pub(super) fn to_text(acl: &Acl) -> Vec<u8> {
    let mut text = String::new();
    let mut line = |tag: &str, id: Option<u32>, rights: u8| {
        let id = id.map(|id| id.to_string()).unwrap_or_default();
        let [r, w, x] = [(4, 'r'), (2, 'w'), (1, 'x')]
            .map(|(bit, letter)| if rights & bit != 0 { letter } else { '-' });
        text.push_str(&format!("{tag}:{id}:{r}{w}{x}\n"));
    };
    line("user", None, acl.owner);
    acl.users
        .iter()
        .for_each(|&(uid, rights)| line("user", Some(uid), rights));
    line("group", None, acl.group);
    acl.groups
        .iter()
        .for_each(|&(gid, rights)| line("group", Some(gid), rights));
    if let Some(rights) = acl.mask {
        line("mask", None, rights);
    }
    line("other", None, acl.other);
    text.into_bytes()
}

/// Reads the lines; `None` where they are no ACL.
pub(super) fn from_text(text: &[u8]) -> Option<Acl> {
    let text = std::str::from_utf8(text).ok()?;
    let (mut owner, mut group, mut mask, mut other) = (None, None, None, None);
    let (mut users, mut groups) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let [tag, id, rights] = line.split(':').collect::<Vec<_>>()[..] else {
            return None;
        };
        let rights = rights_of(rights)?;
        let single = match (tag, id) {
            ("user", "") => &mut owner,
            ("group", "") => &mut group,
            ("mask", "") => &mut mask,
            ("other", "") => &mut other,
            ("user", id) => {
                users.push((id.parse().ok()?, rights));
                continue;
            }
            ("group", id) => {
                groups.push((id.parse().ok()?, rights));
                continue;
            }
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

fn rights_of(text: &str) -> Option<u8> {
    let [r, w, x] = *text.as_bytes() else {
        return None;
    };
    let bit = |byte, letter, bit| match byte {
        b'-' => Some(0),
        byte if byte == letter => Some(bit),
        _ => None,
    };
    Some(bit(r, b'r', 4)? | bit(w, b'w', 2)? | bit(x, b'x', 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acl_comes_back_from_its_lines() {
        let acl = Acl {
            owner: 7,
            users: vec![(1234, 6), (4_000_000_000, 0)],
            group: 4,
            groups: vec![(4321, 1)],
            mask: Some(6),
            other: 0,
        };
        let text = to_text(&acl);
        assert_eq!(
            String::from_utf8_lossy(&text),
            "user::rwx\nuser:1234:rw-\nuser:4000000000:---\ngroup::r--\ngroup:4321:--x\n\
             mask::rw-\nother::---\n"
        );
        assert_eq!(from_text(&text), Some(acl));
    }

    #[test]
    fn what_is_no_acl_is_refused() {
        for bad in [
            "",
            "user::rwx\n",
            "user::rwx\ngroup::r-x\nother::rwz\n",
            "user::rwx\nuser::rwx\ngroup::r-x\nother::r-x\n",
            "user::rwx\nuser:joe:rwx\ngroup::r-x\nother::r-x\n",
            "user::rwx\ngroup::r-x\nother::r-x\nmask:1:r-x\n",
            "user:rwx\n",
        ] {
            assert_eq!(from_text(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
