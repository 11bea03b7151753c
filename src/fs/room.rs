//! Room: how much of it a filesystem has, and a file that takes none of it.

use std::fs::File;
use std::io;

use rustix::fs::MemfdFlags;

use super::dir::Dir;

/// How many bytes this process may still write to the filesystem of a directory; `None` where the
/// filesystem has no size of its own.
pub fn free_bytes(dir: &Dir) -> io::Result<Option<u64>> {
    let volume = rustix::fs::fstatvfs(dir)?;
    let free = volume.f_bavail.saturating_mul(volume.f_frsize);
    Ok((volume.f_blocks > 0).then_some(free))
}

/// Makes a file in memory: for what shall not lie on a disk, not even without a name.
pub fn create_in_memory() -> io::Result<File> {
    let fd = rustix::fs::memfd_create("cutover", MemfdFlags::CLOEXEC)?;
    Ok(File::from(fd))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn a_file_in_memory_is_a_file() {
        let mut file = create_in_memory().unwrap();
        file.write_all(b"kept").unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "kept");
    }

    #[test]
    fn a_disk_says_what_it_has_left() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Dir::open_root(dir.path()).unwrap();
        assert!(free_bytes(&dir).unwrap().is_none_or(|free| free > 0));
    }
}
