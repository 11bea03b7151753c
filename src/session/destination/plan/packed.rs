//! How the items of a plan are kept as bytes, where there are very many.

use serde::{Deserialize, Serialize};

use super::{Differing, Extraneous, FilePlan, Relocation};
use crate::entry::{EntryKind, Timestamp, Xattr};
use crate::events::Changes;
use crate::manifest::compact::Pack;
use crate::manifest::record::{Entry, Nameless, NamelessRead};
use crate::path::RelPath;

impl Pack for FilePlan {
    type Rest<'a> = (Nameless<'a>, Option<u64>, u16);
    type Read = (NamelessRead, Option<u64>, u16);

    fn key(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn rest(&self) -> Self::Rest<'_> {
        (self.entry.rest(), self.basis_len, to_bits(self.changes))
    }

    fn join(key: &[u8], (entry, basis_len, changes): Self::Read) -> Option<FilePlan> {
        let path = RelPath::new(key).ok()?;
        Some(FilePlan {
            entry: Entry::join(path.file_name()?.as_bytes(), entry)?,
            path,
            basis_len,
            changes: of_bits(changes),
        })
    }
}

/// What an entry was, where that is not what it shall be. It has the same kind, size and number:
/// it would be replaced otherwise.
#[derive(Serialize, Deserialize)]
pub(in crate::session) struct Before {
    mode: Option<u16>,
    owner: Option<(u32, u32)>,
    mtime: Option<Timestamp>,
    xattrs: Option<Vec<Xattr>>,
}

impl Pack for Differing {
    type Rest<'a> = (Nameless<'a>, Before, u16);
    type Read = (NamelessRead, Before, u16);

    fn key(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn rest(&self) -> Self::Rest<'_> {
        let (new, old) = (self.new.meta, self.old.meta);
        let owner = (old.uid, old.gid);
        let before = Before {
            mode: (old.mode != new.mode).then_some(old.mode),
            owner: (owner != (new.uid, new.gid)).then_some(owner),
            mtime: (old.mtime != new.mtime).then_some(old.mtime),
            xattrs: (self.old.xattrs != self.new.xattrs).then(|| self.old.xattrs.clone()),
        };
        (self.new.rest(), before, to_bits(self.changes))
    }

    fn join(key: &[u8], (new, before, changes): Self::Read) -> Option<Differing> {
        let path = RelPath::new(key).ok()?;
        let new = Entry::join(path.file_name()?.as_bytes(), new)?;
        let mut old = new.clone();
        old.meta.mode = before.mode.unwrap_or(old.meta.mode);
        (old.meta.uid, old.meta.gid) = before.owner.unwrap_or((old.meta.uid, old.meta.gid));
        old.meta.mtime = before.mtime.unwrap_or(old.meta.mtime);
        old.xattrs = before.xattrs.unwrap_or(old.xattrs);
        Some(Differing {
            path,
            new,
            old,
            changes: of_bits(changes),
        })
    }
}

impl Pack for Relocation {
    type Rest<'a> = (&'a RelPath, Nameless<'a>, u64, u16);
    type Read = (RelPath, NamelessRead, u64, u16);

    fn key(&self) -> &[u8] {
        self.to.as_bytes()
    }

    fn rest(&self) -> Self::Rest<'_> {
        (
            &self.from,
            self.entry.rest(),
            self.entries,
            to_bits(self.changes),
        )
    }

    fn join(key: &[u8], (from, entry, entries, changes): Self::Read) -> Option<Relocation> {
        let to = RelPath::new(key).ok()?;
        Some(Relocation {
            entry: Entry::join(to.file_name()?.as_bytes(), entry)?,
            from,
            to,
            entries,
            changes: of_bits(changes),
        })
    }
}

impl Pack for Extraneous {
    type Rest<'a> = (EntryKind, u64, bool, u64, Timestamp, bool);
    type Read = (EntryKind, u64, bool, u64, Timestamp, bool);

    fn key(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn rest(&self) -> Self::Rest<'_> {
        (
            self.kind,
            self.entries,
            self.whole,
            self.size,
            self.mtime,
            self.elsewhere,
        )
    }

    fn join(
        key: &[u8],
        (kind, entries, whole, size, mtime, elsewhere): Self::Read,
    ) -> Option<Extraneous> {
        Some(Extraneous {
            path: RelPath::new(key).ok()?,
            kind,
            entries,
            whole,
            size,
            mtime,
            elsewhere,
        })
    }
}

/// Changes as a plan keeps them: there can be a million.
fn to_bits(changes: Changes) -> u16 {
    let Changes {
        new,
        content,
        size,
        time,
        perms,
        owner,
        group,
        acl,
        xattr,
    } = changes;
    [new, content, size, time, perms, owner, group, acl, xattr]
        .into_iter()
        .rev()
        .fold(0, |bits, differs| bits << 1 | u16::from(differs))
}

fn of_bits(bits: u16) -> Changes {
    let differs = |place: u16| bits >> place & 1 != 0;
    Changes {
        new: differs(0),
        content: differs(1),
        size: differs(2),
        time: differs(3),
        perms: differs(4),
        owner: differs(5),
        group: differs(6),
        acl: differs(7),
        xattr: differs(8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Metadata;
    use crate::manifest::compact::Compact;
    use crate::path::Name;

    fn entry(name: &str) -> Entry {
        Entry {
            name: Name::new(name.as_bytes()).unwrap(),
            meta: Metadata {
                kind: EntryKind::Symlink,
                mode: 0o4755,
                uid: 1,
                gid: 2,
                mtime: Timestamp { secs: -3, nanos: 4 },
                size: 5,
                rdev: (6, 7),
            },
            target: b"target".to_vec(),
            xattrs: vec![Xattr {
                name: b"user.a".to_vec(),
                value: b"1".to_vec(),
            }],
            content: Some(Default::default()),
            link: Some(8),
        }
    }

    /// What comes back of the last of so many equal items that it was packed.
    fn packed<T: Pack>(item: &T) -> T {
        let list: Compact<T> = std::iter::repeat_n(item.clone(), 5000).collect();
        list.into_iter().last().unwrap()
    }

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn every_change_has_its_bit() {
        for place in 0..9 {
            assert_eq!(to_bits(of_bits(1 << place)), 1 << place);
        }
    }

    #[test]
    fn items_of_a_plan_come_back_whole() {
        let file = FilePlan {
            path: path("a/b"),
            entry: entry("b"),
            basis_len: Some(9),
            changes: of_bits(0b101),
        };
        assert_eq!(format!("{:?}", packed(&file)), format!("{file:?}"));
        let moved = Relocation {
            from: path("old/name"),
            to: path("a/b"),
            entry: entry("b"),
            entries: 3,
            changes: of_bits(0b1001),
        };
        assert_eq!(format!("{:?}", packed(&moved)), format!("{moved:?}"));
        let extra = Extraneous {
            path: path("a/b"),
            kind: EntryKind::Dir,
            entries: 4,
            whole: true,
            size: 5,
            mtime: Timestamp { secs: 6, nanos: 7 },
            elsewhere: false,
        };
        assert_eq!(format!("{:?}", packed(&extra)), format!("{extra:?}"));
    }

    #[test]
    fn what_differs_comes_back_with_what_was() {
        let same = |old: Entry| {
            let differing = Differing {
                path: path("a/b"),
                new: entry("b"),
                old,
                changes: of_bits(0b11000),
            };
            assert_eq!(
                format!("{:?}", packed(&differing)),
                format!("{differing:?}")
            );
        };
        same(entry("b"));
        let mut old = entry("b");
        old.meta.mode = 0o600;
        old.meta.gid = 77;
        old.meta.mtime.nanos = 0;
        old.xattrs.clear();
        same(old);
    }
}
