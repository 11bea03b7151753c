//! Users and groups: names for numbers and back, and who this process is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uzers::os::unix::UserExt;
use uzers::{Groups as _, Users as _, UsersCache};

/// The system's users and groups. Every answer is kept, "nobody" too: a tree has millions of
/// files and a handful of owners, and a directory service may take its time.
#[derive(Default)]
pub struct Users {
    cache: Mutex<UsersCache>,
}

impl Users {
    /// Knows nobody yet.
    pub fn new() -> Users {
        Users::default()
    }

    /// The name of user `uid`.
    pub fn user_name(&self, uid: u32) -> Option<Vec<u8>> {
        let user = self.cache().get_user_by_uid(uid)?;
        Some(user.name().as_bytes().to_vec())
    }

    /// The name of group `gid`.
    pub fn group_name(&self, gid: u32) -> Option<Vec<u8>> {
        let group = self.cache().get_group_by_gid(gid)?;
        Some(group.name().as_bytes().to_vec())
    }

    /// The number of user `name`.
    pub fn uid_of(&self, name: impl AsRef<[u8]>) -> Option<u32> {
        let user = self
            .cache()
            .get_user_by_name(OsStr::from_bytes(name.as_ref()))?;
        Some(user.uid())
    }

    /// The number of group `name`.
    pub fn gid_of(&self, name: impl AsRef<[u8]>) -> Option<u32> {
        let group = self
            .cache()
            .get_group_by_name(OsStr::from_bytes(name.as_ref()))?;
        Some(group.gid())
    }

    /// The home directory of `user`, or of the process's effective user, as the system's records
    /// have it; the environment is not asked.
    pub fn home_of(&self, user: Option<&str>) -> Option<PathBuf> {
        let user = match user {
            Some(name) => self.cache().get_user_by_name(name)?,
            None => self.cache().get_user_by_uid(Users::effective_uid())?,
        };
        Some(user.home_dir().to_path_buf())
    }

    fn cache(&self) -> MutexGuard<'_, UsersCache> {
        // A panic elsewhere leaves the cache whole: entries are added in one step.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Another user, as a login would make a process theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub name: String,
    /// The user.
    pub uid: u32,
    /// The user's own group.
    pub gid: u32,
    /// All of the user's groups.
    pub groups: Vec<u32>,
    /// The home directory; it need not be there.
    pub home: PathBuf,
    /// The shell.
    pub shell: PathBuf,
}

impl Login {
    /// What the system's records have of a user, who is named or numbered; `None` where there is no
    /// such user.
    pub fn of(user: &str) -> Option<Login> {
        let numbered = || uzers::get_user_by_uid(user.parse().ok()?);
        let user = uzers::get_user_by_name(user).or_else(numbered)?;
        let name = user.name().to_str()?;
        let gid = user.primary_group_id();
        let mut groups = vec![gid];
        for group in uzers::get_user_groups(name, gid).unwrap_or_default() {
            if !groups.contains(&group.gid()) {
                groups.push(group.gid());
            }
        }
        Some(Login {
            name: name.to_string(),
            uid: user.uid(),
            gid,
            groups,
            home: user.home_dir().to_path_buf(),
            shell: user.shell().to_path_buf(),
        })
    }
}

/// Who this process is.
impl Users {
    /// The user that the kernel checks rights for.
    pub fn effective_uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    /// The group that the kernel checks rights for.
    pub fn effective_gid() -> u32 {
        rustix::process::getegid().as_raw()
    }

    /// Whether this process is root.
    pub fn is_root() -> bool {
        Users::effective_uid() == 0
    }

    /// All groups that the process is in, the effective one first, each once.
    pub fn groups_of_process() -> Vec<u32> {
        let mut groups = vec![Users::effective_gid()];
        // The kernel refuses to tell only when the groups change under the question.
        for gid in rustix::process::getgroups().unwrap_or_default() {
            let gid = gid.as_raw();
            if !groups.contains(&gid) {
                groups.push(gid);
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_number_and_by_name() {
        let users = Users::new();
        assert_eq!(users.user_name(0).as_deref(), Some(&b"root"[..]));
        assert_eq!(users.group_name(0).as_deref(), Some(&b"root"[..]));
        assert_eq!(users.uid_of(b"root"), Some(0));
        assert_eq!(users.gid_of(b"root"), Some(0));
        assert_eq!(users.home_of(Some("root")), Some("/root".into()));
    }

    #[test]
    fn a_login_is_what_the_records_have() {
        let root = Login::of("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0) && root.home.is_absolute());
        assert_eq!(Login::of("no such user\0"), None);
        assert_eq!(Login::of("0"), Some(root));
        assert_eq!(Login::of("3999999999"), None);
    }

    #[test]
    fn an_unknown_one_stays_unknown() {
        let users = Users::new();
        for _ in 0..2 {
            assert_eq!(users.user_name(3_999_999_999), None);
            assert_eq!(users.group_name(3_999_999_999), None);
            assert_eq!(users.uid_of(b"no such user\0"), None);
            assert_eq!(users.gid_of(b"\xff"), None);
        }
    }

    #[test]
    fn the_process_is_in_its_own_group() {
        assert!(Users::groups_of_process().contains(&Users::effective_gid()));
    }

    #[test]
    fn threads_can_share_it() {
        fn assert_shared<T: Send + Sync>() {}
        assert_shared::<Users>();
    }
}
