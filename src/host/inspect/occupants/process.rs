//! One process as `/proc` shows it (proc(5)). All of it is text that the process can shape, and
//! gone at any moment: what cannot be read by then is not there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::fs::unescape_mountinfo;
use crate::path::escape;

use super::mounts::Mounts;

/// How much of a command is told.
const COMMAND_BYTES: usize = 200;

/// How much is read of what a process maps: a line for each of 100,000 mappings, which is more than
/// the kernel lets a process have by default.
const MAPS_BYTES: u64 = 16 << 20;

/// `PF_KTHREAD` of `linux/sched.h`: a thread of the kernel's own.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// What a look at a process found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// It holds this.
    Holds(Vec<u8>),
    /// It holds nothing of what was asked for.
    HoldsNothing,
    /// We may not look.
    Hidden,
}

/// A process.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    dir: PathBuf,
}

/// All processes that the kernel lists.
pub(super) fn all() -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        found.extend(pid.map(Process::new));
    }
    Ok(found)
}

/// What a process runs, as device and inode.
pub(super) type Program = (u64, u64);

/// What this process runs.
pub(super) fn own_program() -> Option<Program> {
    Process::new(std::process::id()).program()
}

/// The paths that sockets are bound to, by how a descriptor of one reads.
pub(super) fn bound_sockets() -> HashMap<Vec<u8>, Vec<u8>> {
    let table = std::fs::read("/proc/net/unix").unwrap_or_default();
    let lines = table.split(|&byte| byte == b'\n').skip(1);
    lines.filter_map(bound_socket).collect()
}

/// Reads `Num RefCount Protocol Flags Type St Inode Path`; only the path may hold spaces.
fn bound_socket(line: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let slash = line.iter().position(|&byte| byte == b'/')?;
    let (numbers, path) = line.split_at(slash);
    let numbers = std::str::from_utf8(numbers).ok()?;
    let inode = numbers.split_ascii_whitespace().nth(6)?;
    Some((format!("socket:[{inode}]").into_bytes(), path.to_vec()))
}

/// What is used of `/proc/PID/stat`.
struct Stat {
    state: u8,
    flags: u64,
}

impl Stat {
    /// Reads what stands behind the name, which may hold anything: its parenthesis is the last.
    fn parse(text: &[u8]) -> Option<Stat> {
        let end = text.iter().rposition(|&byte| byte == b')')?;
        let mut fields = std::str::from_utf8(&text[end + 1..])
            .ok()?
            .split_ascii_whitespace();
        Some(Stat {
            state: *fields.next()?.as_bytes().first()?,
            flags: fields.nth(5)?.parse().ok()?,
        })
    }

    /// Whether there is no program that could hold anything.
    fn is_empty(&self) -> bool {
        self.flags & KERNEL_THREAD != 0 || matches!(self.state, b'Z' | b'X')
    }
}

impl Process {
    fn new(pid: u32) -> Process {
        Process {
            pid,
            dir: PathBuf::from(format!("/proc/{pid}")),
        }
    }

    /// What it runs; `None` where that cannot be seen.
    pub(super) fn program(&self) -> Option<Program> {
        let meta = std::fs::metadata(self.dir.join("exe")).ok()?;
        Some((meta.dev(), meta.ino()))
    }

    /// Its number.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Its name and arguments, to be shown.
    pub(super) fn command(&self) -> String {
        let mut line = self.read("cmdline");
        while line.last() == Some(&0) {
            line.pop();
        }
        if line.is_empty() {
            line = self.read("comm");
            line.truncate(line.trim_ascii_end().len());
        }
        line.truncate(COMMAND_BYTES);
        line.iter_mut()
            .filter(|byte| **byte == 0)
            .for_each(|byte| *byte = b' ');
        escape(&line).into_owned()
    }

    /// Names the mount namespace that it is in.
    pub(super) fn mount_namespace(&self) -> Vec<u8> {
        self.link("ns/mnt").unwrap_or_default()
    }

    /// What it sees mounted.
    pub(super) fn mounts(&self) -> Mounts {
        Mounts::parse(&self.read("mountinfo"))
    }

    /// Shows `pick` what the process holds, until that picks something: its directories, its
    /// program, its descriptors, what it maps.
    pub(super) fn find_held(&self, pick: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>) -> Sight {
        let descriptors = match std::fs::read_dir(self.dir.join("fd")) {
            Ok(descriptors) => descriptors,
            Err(err) if err.kind() == io::ErrorKind::PermissionDenied => {
                return match self.stat() {
                    Some(stat) if !stat.is_empty() => Sight::Hidden,
                    _ => Sight::HoldsNothing,
                };
            }
            Err(_) => return Sight::HoldsNothing,
        };
        let links = ["cwd", "root", "exe"].map(PathBuf::from);
        let descriptors = descriptors.flatten().map(|entry| entry.path());
        let mut links = links.into_iter().chain(descriptors);
        let held = links
            .find_map(|link| pick(&self.link(link)?))
            .or_else(|| self.find_mapped(pick));
        held.map_or(Sight::HoldsNothing, Sight::Holds)
    }

    fn find_mapped(&self, pick: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
        let maps = BufReader::new(File::open(self.dir.join("maps")).ok()?.take(MAPS_BYTES));
        let mut before = Vec::new();
        for line in maps.split(b'\n') {
            let line = line.ok()?;
            // Addresses, rights and numbers hold no slash.
            let Some(slash) = line.iter().position(|&byte| byte == b'/') else {
                continue;
            };
            // A file is mapped in several pieces, one after the other.
            if before == line[slash..] {
                continue;
            }
            before = line[slash..].to_vec();
            if let Some(held) = pick(&unescape_mountinfo(&before)) {
                return Some(held);
            }
        }
        None
    }

    fn stat(&self) -> Option<Stat> {
        Stat::parse(&self.read("stat"))
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.dir.join(name)).unwrap_or_default()
    }

    /// Where a link of the process points. The kernel writes it: no filesystem is asked, so a dead
    /// server keeps nobody waiting.
    fn link(&self, name: impl AsRef<std::path::Path>) -> Option<Vec<u8>> {
        let target = std::fs::read_link(self.dir.join(name)).ok()?;
        Some(target.into_os_string().into_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_numbers() {
        let stat = Stat::parse(b"7 (a) R 9 (b)) S 42 7 7 0 -1 2097216 1 2 3\n").unwrap();
        assert_eq!((stat.state, stat.flags), (b'S', 2_097_216));
        assert!(stat.is_empty(), "of the kernel's own");
        let stat = Stat::parse(b"7 (sh) S 42 7 7 0 -1 4194304 1 2 3\n").unwrap();
        assert!(!stat.is_empty());
        assert!(Stat::parse(b"").is_none());
    }

    #[test]
    fn a_bound_socket_is_read_with_spaces_in_its_path() {
        let line = b"0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/a b";
        let found = bound_socket(line).unwrap();
        assert_eq!(found, (b"socket:[12345]".to_vec(), b"/run/a b".to_vec()));
        assert!(bound_socket(b"0: 2 0 0 1 1 12345 @abstract").is_none());
    }

    #[test]
    fn this_process_is_its_own() {
        let this = Process::new(std::process::id());
        assert!(this.program().is_some() && this.program() == own_program());
        assert!(!this.command().is_empty());
    }
}
