//! How much the kernel watches for one user, and what to tell a person where that is too little.

use std::io;
use std::path::Path;

/// Where the kernel keeps them.
const DIRECTORY: &str = "/proc/sys/fs/inotify";

/// The limit of the user namespace that this process is in, which may be lower.
const NAMESPACE_WATCHES: &str = "/proc/sys/user/max_inotify_watches";

/// What is proposed at least: enough for a large home directory. A mark takes about 1 KiB of the
/// kernel's memory where it is used, and nothing where it is not.
const PROPOSED_WATCHES: u64 = 524_288;

/// The kernel's limits of inotify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Directories that all processes of one user may mark together.
    pub max_user_watches: u64,
    /// Watchers that all processes of one user may have.
    pub max_user_instances: u64,
    /// Events that are kept for a watcher that does not read; further ones are lost, and said to
    /// be.
    pub max_queued_events: u64,
}

impl Limits {
    /// The limits as they are now.
    pub fn read() -> io::Result<Limits> {
        let read = |name: &str| read_number(&Path::new(DIRECTORY).join(name));
        let watches = read("max_user_watches")?;
        // Kernels built without user namespaces have none.
        let namespace = read_number(Path::new(NAMESPACE_WATCHES)).unwrap_or(watches);
        Ok(Limits {
            max_user_watches: watches.min(namespace),
            max_user_instances: read("max_user_instances")?,
            max_queued_events: read("max_queued_events")?,
        })
    }
}

fn read_number(path: &Path) -> io::Result<u64> {
    let text = std::fs::read_to_string(path)?;
    text.trim().parse().map_err(io::Error::other)
}

/// Why a directory was not marked.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// The user's processes have marked as many as they may.
    #[error(
        "the kernel watches no more than {limit} directories for one user; to raise that: \
         sysctl fs.inotify.max_user_watches={}",
        proposed(*.limit)
    )]
    Full {
        /// How many they may.
        limit: u64,
    },
    /// Anything else.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn proposed(limit: u64) -> u64 {
    limit.saturating_mul(2).max(PROPOSED_WATCHES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_setting_and_a_higher_value() {
        let text = |limit| MarkError::Full { limit }.to_string();
        assert!(text(8192).ends_with("sysctl fs.inotify.max_user_watches=524288"));
        assert!(text(1 << 20).ends_with("sysctl fs.inotify.max_user_watches=2097152"));
    }

    #[test]
    fn the_kernels_limits_are_read() {
        let limits = Limits::read().unwrap();
        assert!(limits.max_user_watches > 0 && limits.max_queued_events > 0);
    }
}
