//! Who this process is to the filesystem, and which kernel it runs on.

use super::users::Users;

/// The rights and defaults that new entries are made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// All groups, the effective one among them.
    pub groups: Vec<u32>,
    /// Permission bits that new entries do not get.
    pub umask: u16,
}

impl Process {
    /// This process, now.
    pub fn current() -> Process {
        Process {
            uid: Users::effective_uid(),
            gid: Users::effective_gid(),
            groups: Users::groups_of_process(),
            umask: umask().unwrap_or(0o022),
        }
    }
}

/// What the running kernel calls itself: inode numbers mean something only within one. Empty where
/// it does not say.
pub fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_string()
}

/// Reads the umask from the kernel's account of the process: the system call can only set it,
/// which another thread would notice.
fn umask() -> Option<u16> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))?;
    u16::from_str_radix(line.trim(), 8).ok()
}
