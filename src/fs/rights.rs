//! What this process may do, as the kernel itself answers it: modes, ACLs, read-only mounts,
//! immutable flags and network filesystems' own rules are all in the answer, and nothing is opened
//! or written.

use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD};

use super::dir::Dir;
use crate::path::Name;

/// Whether the directory at the user's own `path` may be listed and its entries looked at; a file
/// there may be read.
pub fn may_list(path: &Path) -> bool {
    let access = match path.is_dir() {
        true => Access::READ_OK | Access::EXEC_OK,
        false => Access::READ_OK,
    };
    rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

/// Whether names may be made in the directory at the user's own `path`; a file there may be
/// written.
pub fn may_make_entries(path: &Path) -> bool {
    let access = match path.is_dir() {
        true => Access::WRITE_OK | Access::EXEC_OK,
        false => Access::WRITE_OK,
    };
    rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

/// Whether the file `name` may be read. What a symlink points to is not looked at.
pub fn may_read(dir: &Dir, name: &Name) -> bool {
    let flags = AtFlags::EACCESS | AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::accessat(dir, name.as_bytes(), Access::READ_OK, flags).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::super::as_user;
    use super::super::as_user::tests::{nobody, open_to_all};
    use super::super::testing::{Mounted, Place, has_root, name};
    use super::*;

    #[test]
    fn who_may_not_read_is_told_so() {
        if !has_root() {
            return;
        }
        let place = Place::new();
        open_to_all(place.path());
        for (file, mode) in [("open", 0o644), ("closed", 0o600)] {
            place.write(file, "");
            let path = place.path().join(file);
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        let seen = as_user(&nobody(), || {
            let dir = Dir::open_root(place.path()).unwrap();
            let files = ["open", "closed"].map(|file| may_read(&dir, &name(file)));
            (
                files,
                may_list(place.path()),
                may_make_entries(place.path()),
            )
        });
        assert_eq!(seen.unwrap(), ([true, false], true, false));
        assert!(may_make_entries(place.path()));
    }

    #[test]
    fn not_even_root_may_write_to_a_filesystem_mounted_for_reading() {
        if let Some(mounted) = Mounted::new("ext4", 16 << 20) {
            assert!(may_make_entries(&mounted.path()));
            mounted.remount_read_only();
            assert!(!may_make_entries(&mounted.path()));
            assert!(may_list(&mounted.path()));
        }
    }
}
