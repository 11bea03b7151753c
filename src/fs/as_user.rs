//! Doing something with another user's rights: what the kernel lets that user do is found out by
//! letting a thread try it, since modes alone do not say it (ACLs, groups, security modules).

use std::io;
use std::panic::resume_unwind;

use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::users::{Login, Users};

/// Calls `act` with the rights that `user` has on files, and returns what it returns. Threads
/// that `act` starts have the same rights; the rest of the process keeps its own. Only root can do
/// this for another user ([`io::ErrorKind::PermissionDenied`]).
///
/// On Linux a user belongs to a thread; that all threads share one is the C library's doing. So a
/// thread of its own changes, and is gone with its rights afterwards. Only the effective ids
/// change: rights on files follow those, while the right to signal or trace a process follows the
/// real and the saved ones, so that the user gets no hold on this process.
pub fn as_user<T: Send>(user: &Login, act: impl FnOnce() -> T + Send) -> io::Result<T> {
    if user.uid == Users::effective_uid() {
        return Ok(act());
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            take_on(user)?;
            Ok(act())
        });
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Gives the calling thread the rights of `user`. Groups come first: once the user is another,
/// they cannot be changed any more.
fn take_on(user: &Login) -> io::Result<()> {
    let groups: Vec<Gid> = user.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    set_thread_groups(&groups)?;
    set_thread_res_gid(None::<Gid>, Gid::from_raw(user.gid), None::<Gid>)?;
    set_thread_res_uid(None::<Uid>, Uid::from_raw(user.uid), None::<Uid>)?;
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::super::testing::{Place, has_root};
    use super::*;

    /// A user that owns nothing.
    pub(in crate::fs) fn nobody() -> Login {
        Login::of("nobody").unwrap()
    }

    /// Lets everybody into a directory that was made for this user alone.
    pub(in crate::fs) fn open_to_all(dir: &Path) {
        std::fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn another_user_has_that_users_rights_and_only_meanwhile() {
        if !has_root() {
            return;
        }
        let place = Place::new();
        open_to_all(place.path());
        place.write("secret", "x");
        let secret = place.path().join("secret");
        std::fs::set_permissions(&secret, Permissions::from_mode(0o640)).unwrap();
        let read = || std::fs::read(&secret).map_err(|err| err.kind());

        let denied = Err(io::ErrorKind::PermissionDenied);
        assert_eq!(as_user(&nobody(), read).unwrap(), denied);
        assert_eq!(read(), Ok(b"x".to_vec()));

        let mut in_the_group = nobody();
        in_the_group.groups.push(0);
        assert_eq!(as_user(&in_the_group, read).unwrap(), Ok(b"x".to_vec()));
    }

    #[test]
    fn threads_of_the_act_have_its_rights() {
        if !has_root() {
            return;
        }
        let uids = as_user(&nobody(), || {
            std::thread::spawn(Users::effective_uid).join().unwrap()
        });
        assert_eq!(uids.unwrap(), nobody().uid);
        assert_eq!(Users::effective_uid(), 0);
    }

    #[test]
    fn only_root_can_take_on_another_user() {
        if !has_root() {
            return;
        }
        let refused = as_user(&nobody(), || {
            let other = Login::of("daemon").unwrap();
            as_user(&other, || ()).map_err(|err| err.kind())
        });
        let denied = Err(io::ErrorKind::PermissionDenied);
        assert_eq!(refused.unwrap(), denied);
    }
}
