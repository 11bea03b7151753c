//! What a directory's filesystem can hold and what this process may do there, found out once by
//! trying on an unnamed file, so that a run can say at its start what it will not preserve.

use std::fs::File;
use std::io::{self, Write};

use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use super::acl::Acl;
use super::copy::clone_file;
use super::dir::{Dir, is};
use super::magic::{self, fs_type};
use super::meta::{Target, set_mode, set_mtime, set_owner};
use super::stat::stat_file;
use super::temp::temp_name;
use super::users::Users;
use super::xattr::set_xattr;
use crate::entry::{Timestamp, Xattr};
use crate::path::Name;

/// What can be kept in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abilities {
    /// The step of times of last change, in nanoseconds.
    pub mtime_granularity_ns: u64,
    /// Attributes of the `user` namespace.
    pub user_xattrs: bool,
    /// Attributes of the `trusted` namespace.
    pub trusted_xattrs: bool,
    /// Attributes of the `security` namespace.
    pub security_xattrs: bool,
    /// Capabilities of files, which are of that namespace.
    pub capabilities: bool,
    /// POSIX ACLs.
    pub acls: bool,
    /// Files can be given to any user.
    pub owners: bool,
    /// Files can be given to any group, or without `owners` to the groups of the process.
    pub groups: bool,
    /// Device nodes can be made.
    pub devices: bool,
    /// Files can share blocks.
    pub reflink: bool,
    /// Symlinks can be made.
    pub symlinks: bool,
    /// A file can have several names.
    pub hard_links: bool,
    /// All permission bits are kept.
    pub modes: bool,
    /// Nothing can be written at all; all other abilities are then false.
    pub read_only: bool,
}

/// An empty set of capabilities: `vfs_cap_data` of `linux/capability.h`, revision 2.
const NO_CAPABILITIES: &[u8; 20] = b"\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Makes a file that is gone once closed.
type MakeFile = fn(&Dir) -> io::Result<File>;

/// Tries everything in `dir` and leaves nothing behind. Where the filesystem has unnamed files
/// the directory is not even touched; else a name of ours exists for a moment.
pub fn probe(dir: &Dir) -> io::Result<Abilities> {
    probe_on(dir, unnamed_file)
}

/// What can be kept in `dir`, found out without touching it: by trying where the filesystem has
/// unnamed files and this process may make one, else from what can be asked and from the
/// filesystem's type. Then what is only known to depend on more is said to be there: who writes
/// finds out.
pub fn probe_untouched(dir: &Dir) -> Abilities {
    match probe_on(dir, Dir::create_unnamed) {
        Ok(tried) if !tried.read_only => tried,
        _ => ask(dir),
    }
}

fn probe_on(dir: &Dir, make: MakeFile) -> io::Result<Abilities> {
    if is_read_only(dir)? {
        return Ok(read_only(dir));
    }
    let file = match make(dir) {
        Err(err) if is(&err, Errno::ROFS) => return Ok(read_only(dir)),
        file => file?,
    };
    let fs_type = fs_type(dir);
    let links = !matches!(fs_type, Some(magic::VFAT | magic::EXFAT));
    // Owners come first and modes after: a mode that survived is then known to be set last.
    let owners = keeps_owner(&file)?;
    let groups = keeps_group(&file, owners)?;
    let takes = |name: &[u8], value: &[u8]| set_xattr(&Target::File(&file), name, value).is_ok();
    Ok(Abilities {
        mtime_granularity_ns: mtime_granularity(&file)?,
        user_xattrs: takes(b"user.cutover", b"1"),
        trusted_xattrs: takes(b"trusted.cutover", b"1"),
        security_xattrs: takes(b"security.cutover", b"1"),
        capabilities: takes(Xattr::CAPABILITY, NO_CAPABILITIES),
        acls: takes(Xattr::ACL_ACCESS, &acl_with_a_named_user().to_raw()),
        owners,
        groups,
        devices: links && may_make_devices(),
        reflink: can_clone(&file, &make(dir)?)?,
        symlinks: links,
        hard_links: links,
        modes: keeps_modes(&file)?,
        read_only: false,
    })
}

/// The step of times of last change in nanoseconds as far as the filesystem's type tells it; 1
/// where that says nothing. Only reads.
pub fn source_granularity(dir: &Dir) -> u64 {
    match fs_type(dir) {
        Some(magic::VFAT) => 2_000_000_000,
        Some(magic::HFS_PLUS | magic::ISO9660 | magic::SQUASHFS) => 1_000_000_000,
        Some(magic::EXFAT) => 10_000_000,
        Some(magic::UDF) => 1_000,
        Some(magic::NTFS3 | magic::CIFS | magic::SMB2) => 100,
        _ => 1,
    }
}

/// Makes sure that from now on whatever is written to a file moves its ctime; false where the
/// filesystem is not known to do that.
///
/// Through a shared mapping only the first write to a page does, until the page is written out:
/// that is what is done here. In memory nothing is, and where ctime is mtime it can be set back.
pub fn shows_writes(file: &File) -> io::Result<bool> {
    let shows = matches!(
        fs_type(file),
        Some(magic::EXT4 | magic::XFS | magic::BTRFS | magic::F2FS)
    );
    if shows {
        file.sync_data()?;
    }
    Ok(shows)
}

fn is_read_only(dir: &Dir) -> io::Result<bool> {
    let flags = rustix::fs::fstatvfs(dir)?.f_flag;
    Ok(flags.contains(StatVfsMountFlags::RDONLY))
}

fn read_only(dir: &Dir) -> Abilities {
    Abilities {
        mtime_granularity_ns: source_granularity(dir),
        user_xattrs: false,
        trusted_xattrs: false,
        security_xattrs: false,
        capabilities: false,
        acls: false,
        owners: false,
        groups: false,
        devices: false,
        reflink: false,
        symlinks: false,
        hard_links: false,
        modes: false,
        read_only: true,
    }
}

/// What the filesystem of `dir` can hold as far as it tells without being written to.
fn ask(dir: &Dir) -> Abilities {
    let fs_type = fs_type(dir);
    let is_fat = matches!(fs_type, Some(magic::VFAT | magic::EXFAT));
    let is_foreign = is_fat || matches!(fs_type, Some(magic::CIFS | magic::SMB2));
    let user_xattrs = has_attribute_kind(dir, b"user.cutover");
    Abilities {
        mtime_granularity_ns: source_granularity(dir),
        user_xattrs,
        trusted_xattrs: user_xattrs && Users::is_root(),
        security_xattrs: user_xattrs && Users::is_root(),
        capabilities: user_xattrs && Users::is_root(),
        acls: has_attribute_kind(dir, Xattr::ACL_ACCESS),
        owners: !is_foreign && Users::is_root(),
        groups: !is_foreign,
        devices: !is_foreign && may_make_devices(),
        reflink: fs_type == Some(magic::BTRFS),
        symlinks: !is_fat,
        hard_links: !is_fat,
        modes: !is_foreign,
        read_only: is_read_only(dir).unwrap_or(false),
    }
}

/// Whether the filesystem answers a question for an attribute like this one at all, be it that
/// there is none.
fn has_attribute_kind(dir: &Dir, name: &[u8]) -> bool {
    let answer = rustix::fs::fgetxattr(dir, name, &mut [0_u8; 0][..]);
    !matches!(answer, Err(Errno::OPNOTSUPP | Errno::NOSYS))
}

/// A file that is gone once closed, on whatever filesystem.
fn unnamed_file(dir: &Dir) -> io::Result<File> {
    match dir.create_unnamed() {
        // Without the feature the flag reads as "open a directory for writing".
        Err(err)
            if [Errno::OPNOTSUPP, Errno::ISDIR, Errno::INVAL]
                .iter()
                .any(|&e| is(&err, e)) =>
        {
            let probe = Name::new(b"probe").map_err(io::Error::other)?;
            let name = temp_name(&probe);
            let file = dir.create_new(&name)?;
            dir.unlink(&name)?;
            Ok(file)
        }
        result => result,
    }
}

/// Sets a time with all digits in use and looks how many are left. The second is odd, for
/// filesystems that count in twos.
fn mtime_granularity(file: &File) -> io::Result<u64> {
    let odd = Timestamp {
        secs: 1_000_000_001,
        nanos: 123_456_789,
    };
    set_mtime(&Target::File(file), odd)?;
    let kept = stat_file(file)?.meta.mtime;
    let steps = [
        1,
        100,
        1_000,
        1_000_000,
        10_000_000,
        1_000_000_000,
        2_000_000_000,
    ];
    let step = steps.into_iter().find(|&step| odd.cut(step) == kept);
    Ok(step.unwrap_or(2_000_000_000))
}

/// Looks at what became of it as well: some network filesystems take an owner and forget it.
fn keeps_owner(file: &File) -> io::Result<bool> {
    let old = stat_file(file)?.meta.uid;
    let other = if old == 1 { 2 } else { 1 };
    Ok(set_owner(&Target::File(file), Some(other), None).is_ok()
        && stat_file(file)?.meta.uid == other
        && set_owner(&Target::File(file), Some(old), None).is_ok())
}

fn keeps_group(file: &File, any: bool) -> io::Result<bool> {
    let old = stat_file(file)?.meta.gid;
    let other = match any {
        true => Some(if old == 1 { 2 } else { 1 }),
        false => Users::groups_of_process()
            .into_iter()
            .find(|&gid| gid != old),
    };
    let gid = other.unwrap_or(old);
    Ok(set_owner(&Target::File(file), None, Some(gid)).is_ok() && stat_file(file)?.meta.gid == gid)
}

fn keeps_modes(file: &File) -> io::Result<bool> {
    for mode in [0o640, 0o751] {
        if set_mode(&Target::File(file), mode).is_err() || stat_file(file)?.meta.mode != mode {
            return Ok(false);
        }
    }
    Ok(true)
}

/// An ACL that no mode can express.
fn acl_with_a_named_user() -> Acl {
    Acl {
        owner: 6,
        users: vec![(0, 4)],
        group: 0,
        groups: Vec::new(),
        mask: Some(4),
        other: 0,
    }
}

fn can_clone(file: &File, other: &File) -> io::Result<bool> {
    // Some filesystems take a clone of nothing without being able to clone something.
    (&mut &*file).write_all(&[1; 4096])?;
    clone_file(file, other)
}

/// Judged from the process alone, since a node always has a name: the right counts only outside
/// of user namespaces, whose map of users is not the identity over all.
fn may_make_devices() -> bool {
    let capable = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::MKNOD));
    let user_map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let identity = user_map
        .split_ascii_whitespace()
        .eq(["0", "0", "4294967295"]);
    capable && identity
}

#[cfg(test)]
mod tests;
