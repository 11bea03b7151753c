//! One line for each changed entry, in the eleven letters that rsync users read: `YXcstpoguax`.
//!
//! `Y` is `<` for content sent to another host, `>` for other content, `c` for what was made or
//! renamed from what the destination has, `h` for a hard link, `.` for attributes alone. `X` is
//! the kind. The rest name what differed; access and creation times (`u`) are not compared.
//!
//! After the path stands where an entry came from: ` => NAME` for a hard link (as in rsync),
//! ` <= OLD` for a move, ` <- NAME` for a copy from a name that the destination keeps.

use crate::entry::EntryKind;
use crate::events::{Action, Changes, Item};
use crate::path::RelPath;

/// Which way content goes, seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To another host: `<`.
    Sent,
    /// To this host, or within it: `>`.
    Received,
}

/// The word for an entry that only the destination has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extraneous {
    /// It goes: `*deleting`, as in rsync.
    Deleted,
    /// It was found: `*extra`.
    Reported,
}

/// Writes items as lines.
#[derive(Clone, Copy, Debug)]
pub struct Itemizer {
    /// Which way content goes.
    pub direction: Direction,
    /// The word for deletions.
    pub extraneous: Extraneous,
}

impl Itemizer {
    /// The line for `item`, without a line end.
    pub fn line(&self, item: &Item) -> String {
        let path = shown(&item.path, item.kind);
        match &item.action {
            Action::Delete => format!("{:<11} {path}", self.extraneous_word()),
            Action::HardLink { to } => format!("{} {path} => {to}", self.letters(item)),
            Action::Move { from } => {
                let from = shown(from, item.kind);
                format!("{} {path} <= {from}", self.letters(item))
            }
            Action::CopyLocal { from } => format!("{} {path} <- {from}", self.letters(item)),
            Action::Transfer | Action::Create | Action::Attributes => {
                format!("{} {path}", self.letters(item))
            }
        }
    }

    fn extraneous_word(&self) -> &'static str {
        match self.extraneous {
            Extraneous::Deleted => "*deleting",
            Extraneous::Reported => "*extra",
        }
    }

    fn letters(&self, item: &Item) -> String {
        let update = match (&item.action, self.direction) {
            (Action::Transfer, Direction::Sent) => '<',
            (Action::Transfer, Direction::Received) => '>',
            (Action::HardLink { .. }, _) => 'h',
            (Action::Attributes, _) => '.',
            _ => 'c',
        };
        let attributes = if item.changes.new {
            "+++++++++".to_owned()
        } else if item.changes.is_empty() && !matches!(item.action, Action::Transfer) {
            // rsync blanks the dots when nothing differs, but not beside transferred content.
            " ".repeat(9)
        } else {
            differences(item.changes, item.kind)
        };
        format!("{update}{}{attributes}", item.kind.letter())
    }
}

/// The nine letters `cstpoguax`, each a dot where nothing differs.
fn differences(changes: Changes, kind: EntryKind) -> String {
    // Only files have a size of their own: a symlink's is that of its target.
    let size = changes.size && kind == EntryKind::File;
    [
        (changes.content, 'c'),
        (size, 's'),
        (changes.time, 't'),
        (changes.perms, 'p'),
        (changes.owner, 'o'),
        (changes.group, 'g'),
        (false, 'u'),
        (changes.acl, 'a'),
        (changes.xattr, 'x'),
    ]
    .into_iter()
    .map(|(differs, letter)| if differs { letter } else { '.' })
    .collect()
}

fn shown(path: &RelPath, kind: EntryKind) -> String {
    let slash = if kind == EntryKind::Dir { "/" } else { "" };
    format!("{path}{slash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: Itemizer = Itemizer {
        direction: Direction::Sent,
        extraneous: Extraneous::Deleted,
    };

    const FOUND: Itemizer = Itemizer {
        direction: Direction::Received,
        extraneous: Extraneous::Reported,
    };

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    fn item(kind: EntryKind, action: Action, changes: Changes) -> Item {
        Item {
            path: path("a/b"),
            kind,
            action,
            changes,
        }
    }

    const NEW: Changes = Changes {
        new: true,
        content: false,
        size: false,
        time: false,
        perms: false,
        owner: false,
        group: false,
        acl: false,
        xattr: false,
    };

    const NONE: Changes = Changes { new: false, ..NEW };

    const ALL: Changes = Changes {
        new: false,
        content: true,
        size: true,
        time: true,
        perms: true,
        owner: true,
        group: true,
        acl: true,
        xattr: true,
    };

    #[test]
    fn lines_have_rsyncs_letters() {
        use EntryKind::{BlockDevice, Dir, Fifo, File, Symlink};
        let time = Changes { time: true, ..NONE };
        let edited = Changes { size: true, ..time };
        let cases = [
            (File, Action::Transfer, NEW, "<f+++++++++ a/b"),
            (File, Action::Transfer, edited, "<f.st...... a/b"),
            (File, Action::Transfer, ALL, "<fcstpog.ax a/b"),
            (File, Action::Transfer, NONE, "<f......... a/b"),
            (File, Action::Attributes, time, ".f..t...... a/b"),
            (File, Action::Attributes, NONE, ".f          a/b"),
            (Dir, Action::Create, NEW, "cd+++++++++ a/b/"),
            (Dir, Action::Attributes, time, ".d..t...... a/b/"),
            (Symlink, Action::Create, NEW, "cL+++++++++ a/b"),
            (Symlink, Action::Create, ALL, "cLc.tpog.ax a/b"),
            (BlockDevice, Action::Create, NEW, "cD+++++++++ a/b"),
            (Fifo, Action::Create, NEW, "cS+++++++++ a/b"),
            (Dir, Action::Delete, NONE, "*deleting   a/b/"),
        ];
        for (kind, action, changes, line) in cases {
            assert_eq!(SENT.line(&item(kind, action, changes)), line);
        }
    }

    #[test]
    fn origins_follow_the_path() {
        let at = || path("old");
        let cases = [
            (
                EntryKind::File,
                Action::HardLink { to: at() },
                "hf+++++++++ a/b => old",
            ),
            (
                EntryKind::Dir,
                Action::Move { from: at() },
                "cd+++++++++ a/b/ <= old/",
            ),
            (
                EntryKind::File,
                Action::CopyLocal { from: at() },
                "cf+++++++++ a/b <- old",
            ),
        ];
        for (kind, action, line) in cases {
            assert_eq!(SENT.line(&item(kind, action, NEW)), line);
        }
    }

    #[test]
    fn a_comparison_reports_extra_entries_and_deletes_none() {
        let extra = item(EntryKind::File, Action::Delete, NONE);
        assert_eq!(FOUND.line(&extra), "*extra      a/b");
        let missing = item(EntryKind::File, Action::Transfer, NEW);
        assert_eq!(FOUND.line(&missing), ">f+++++++++ a/b");
    }

    #[test]
    fn the_root_is_a_dot_and_hostile_names_are_escaped() {
        let mut root = item(EntryKind::Dir, Action::Attributes, NONE);
        root.path = RelPath::root();
        assert_eq!(SENT.line(&root), ".d          ./");
        root.path = RelPath::new(b"x\n\xff").unwrap();
        assert_eq!(SENT.line(&root), ".d          x\\#012\\#377/");
    }
}
