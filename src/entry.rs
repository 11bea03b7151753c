//! What one entry of a tree is: its kind, metadata and extended attributes, as plain values that
//! both ends understand. Where they come from (`fs`) and how they are digested (`manifest`) is
//! not known here.

use serde::{Deserialize, Serialize};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum EntryKind {
    /// A regular file.
    File = 1,
    /// A directory.
    Dir = 2,
    /// A symbolic link, always treated as itself.
    Symlink = 3,
    /// A named pipe.
    Fifo = 4,
    /// A Unix-domain socket's name.
    Socket = 5,
    /// A character device.
    CharDevice = 6,
    /// A block device.
    BlockDevice = 7,
}

impl EntryKind {
    /// Whether making one takes a device number.
    pub fn is_device(self) -> bool {
        matches!(self, EntryKind::CharDevice | EntryKind::BlockDevice)
    }

    /// rsync's itemize letter: `f`, `d`, `L`, `D` for devices, `S` for FIFOs and sockets.
    pub fn letter(self) -> char {
        match self {
            EntryKind::File => 'f',
            EntryKind::Dir => 'd',
            EntryKind::Symlink => 'L',
            EntryKind::CharDevice | EntryKind::BlockDevice => 'D',
            EntryKind::Fifo | EntryKind::Socket => 'S',
        }
    }

    /// The word for messages: "file", "directory", ...
    pub fn noun(self) -> &'static str {
        match self {
            EntryKind::File => "file",
            EntryKind::Dir => "directory",
            EntryKind::Symlink => "symlink",
            EntryKind::Fifo => "FIFO",
            EntryKind::Socket => "socket",
            EntryKind::CharDevice => "character device",
            EntryKind::BlockDevice => "block device",
        }
    }
}

/// A point in time as files carry it: seconds since the epoch and nanoseconds within them.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Timestamp {
    /// Whole seconds; negative before 1970.
    pub secs: i64,
    /// 0 to 999,999,999, counted forward from `secs`.
    pub nanos: u32,
}

impl Timestamp {
    /// Cuts the time down to a multiple of `granularity_ns`, as a filesystem that keeps no finer
    /// one would. Zero and one keep it whole.
    pub fn cut(self, granularity_ns: u64) -> Timestamp {
        if granularity_ns <= 1 {
            return self;
        }
        let total = i128::from(self.secs) * 1_000_000_000 + i128::from(self.nanos);
        let cut = total - total.rem_euclid(i128::from(granularity_ns));
        Timestamp {
            secs: cut.div_euclid(1_000_000_000) as i64,
            nanos: cut.rem_euclid(1_000_000_000) as u32,
        }
    }

    /// Whether the time lies within `window_ns` before `other`, or after it.
    pub fn is_within(self, window_ns: u64, other: Timestamp) -> bool {
        let ns = |t: Timestamp| i128::from(t.secs) * 1_000_000_000 + i128::from(t.nanos);
        ns(self) + i128::from(window_ns) >= ns(other)
    }
}

/// What a filesystem says of an entry, apart from its name, links and extended attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky: 0 to 0o7777.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change of content.
    pub mtime: Timestamp,
    /// Length in bytes for files; of the target for symlinks; 0 for the rest.
    pub size: u64,
    /// Device number (major, minor) of device nodes; (0, 0) for the rest.
    pub rdev: (u32, u32),
}

/// One extended attribute. POSIX ACLs are the two named `system.posix_acl_*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Xattr {
    /// The full name with its namespace, without the closing NUL.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// The raw value.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
}

impl Xattr {
    /// The access ACL's attribute.
    pub const ACL_ACCESS: &'static [u8] = b"system.posix_acl_access";
    /// A directory's default ACL's attribute.
    pub const ACL_DEFAULT: &'static [u8] = b"system.posix_acl_default";

    /// The attribute of a file's capabilities.
    pub const CAPABILITY: &'static [u8] = b"security.capability";
    /// The label that a host's SELinux policy gives an entry.
    pub const SELINUX: &'static [u8] = b"security.selinux";

    /// Whether this holds a POSIX ACL.
    pub fn is_acl(&self) -> bool {
        self.name == Xattr::ACL_ACCESS || self.name == Xattr::ACL_DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_cut_towards_the_past() {
        let t = |secs, nanos| Timestamp { secs, nanos };
        assert_eq!(t(5, 123_456_789).cut(1), t(5, 123_456_789));
        assert_eq!(t(5, 123_456_789).cut(1_000), t(5, 123_456_000));
        assert_eq!(t(5, 999_999_999).cut(2_000_000_000), t(4, 0));
        assert_eq!(t(-1, 500_000_000).cut(1_000_000_000), t(-1, 0));
    }

    #[test]
    fn a_time_is_within_the_window_only_near_or_after() {
        let t = |secs, nanos| Timestamp { secs, nanos };
        assert!(t(10, 0).is_within(5, t(10, 5)));
        assert!(!t(10, 0).is_within(5, t(10, 6)));
        assert!(t(11, 0).is_within(0, t(10, 0)));
    }
}
