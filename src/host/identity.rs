//! What a root is and lies in, by inode: symlinks, bind mounts and a connection to ourselves cannot
//! hide that two roots are one, and two containers that call their roots alike have two.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::fs;
use crate::protocol::message::RootIdentity;

/// The identity of what is at a path, or of the nearest directory above it that is there.
pub(crate) fn identify(path: &Path) -> RootIdentity {
    let mut at = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let exists = at.exists();
    let mut at = loop {
        match at.canonicalize() {
            Ok(found) => break found,
            Err(_) if at.pop() => {}
            Err(_) => break PathBuf::from("/"),
        }
    };
    let mut chain = Vec::new();
    loop {
        if let Ok(meta) = std::fs::metadata(&at) {
            chain.push((meta.dev(), meta.ino()));
        }
        if !at.pop() {
            break;
        }
    }
    RootIdentity {
        boot: fs::boot_id(),
        chain,
        exists,
    }
}
