//! Files that are on no disk.

use std::fs::File;
use std::io;

use rustix::fs::MemfdFlags;

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
}
