//! A small language for trees, so that a test shows what it starts from and not how it is made.
//!
//! One entry a line; words apart by blanks: a letter, a path, then properties in any order.
//!
//! ```text
//! f PATH 'text' random(64K) hole(1M)   a file of these pieces, in this order
//! d PATH                               a directory; missing parents are made anyway
//! l PATH -> TARGET                     a symlink
//! h PATH = OTHER                       a hard link to a path of the same tree
//! p PATH    s PATH                     a FIFO, a socket
//! c PATH 1,3    b PATH 7,0             a character device, a block device
//! m PATH                               what is there, to give it other properties
//! r PATH                               nothing: what is there goes, with all beneath it
//!
//! 0640                  mode
//! 1000:100              owner and group
//! @1700000000.000000001 mtime
//! user.a=1              extended attribute
//! acl=u::rw,u:7:r,g::r,m::r,o::-   access ACL; default=... for a directory's default ACL
//! ```
//!
//! `\n`, `\s` (a space), `\\`, `\'` and `\xff` stand for a byte anywhere; `#` starts a comment.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    lsetxattr, makedev, mkdirat, mknodat, openat, utimensat,
};

use super::prerequisites::Power;

/// Makes beneath `root`, itself made if missing, what `text` says in this module's language.
pub fn tree(root: &Path, text: &str) {
    fs::create_dir_all(root).expect("making the root");
    let mut directories = Vec::new();
    for line in text.lines() {
        let words = words_of(line);
        if words.is_empty() {
            continue;
        }
        let line = Line::parse(&words).unwrap_or_else(|why| panic!("{why} in line {line:?}"));
        let path = root.join(&line.path);
        line.make(root, &path)
            .unwrap_or_else(|err| panic!("{err} in {line:?}"));
        if line.letter != b'r' && path.is_dir() && !path.is_symlink() {
            directories.push((path, line));
        } else {
            line.dress(&path);
        }
    }
    // Last and from the bottom up: an entry made in a directory moves its mtime, and a
    // read-only directory takes no more entries.
    for (path, line) in directories.iter().rev() {
        line.dress(path);
    }
}

#[derive(Debug)]
struct Line {
    letter: u8,
    path: PathBuf,
    properties: Vec<Property>,
}

#[derive(Debug)]
enum Property {
    Mode(u32),
    Owner(u32, u32),
    Mtime(Timespec),
    Xattr(Vec<u8>, Vec<u8>),
    Target(PathBuf),
    Device(u32, u32),
    Text(Vec<u8>),
    Random(u64),
    Hole(u64),
}

impl Line {
    fn parse(words: &[Word]) -> Result<Line, String> {
        let [letter, path, rest @ ..] = words else {
            return Err("no path".into());
        };
        let mut properties = Vec::new();
        let mut rest = rest.iter();
        while let Some(word) = rest.next() {
            properties.push(match word.bytes.as_slice() {
                b"->" | b"=" if !word.is_quoted => {
                    let target = rest.next().ok_or("no target")?;
                    Property::Target(path_of(&target.bytes))
                }
                _ => Property::parse(word).ok_or_else(|| format!("cannot read {word:?}"))?,
            });
        }
        Ok(Line {
            letter: letter.bytes[0],
            path: path_of(&path.bytes),
            properties,
        })
    }

    fn make(&self, root: &Path, path: &Path) -> std::io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let node = |kind, device| Ok(mknodat(CWD, path, kind, Mode::from(0o644), device)?);
        match self.letter {
            b'f' => self.write_content(path),
            b'd' => fs::create_dir_all(path),
            b'l' => std::os::unix::fs::symlink(self.target(), path),
            b'h' => fs::hard_link(root.join(self.target()), path),
            b'p' => node(FileType::Fifo, 0),
            b's' => node(FileType::Socket, 0),
            b'c' => node(FileType::CharacterDevice, self.device()),
            b'b' => node(FileType::BlockDevice, self.device()),
            b'm' => fs::symlink_metadata(path).map(drop),
            b'r' if path.is_dir() && !path.is_symlink() => fs::remove_dir_all(path),
            b'r' => fs::remove_file(path),
            other => panic!("no such letter: {}", char::from(other)),
        }
    }

    fn target(&self) -> &Path {
        let found = self.properties.iter().find_map(|property| match property {
            Property::Target(target) => Some(target),
            _ => None,
        });
        found.expect("a target after -> or =")
    }

    fn device(&self) -> u64 {
        let found = self.properties.iter().find_map(|property| match *property {
            Property::Device(major, minor) => Some(makedev(major, minor)),
            _ => None,
        });
        found.expect("a device number")
    }

    fn write_content(&self, path: &Path) -> std::io::Result<()> {
        let mut file = File::create(path)?;
        let mut noise = Noise::seeded(path.file_name().unwrap_or_default().as_bytes());
        for property in &self.properties {
            match property {
                Property::Text(text) => file.write_all(text)?,
                Property::Random(size) => file.write_all(&noise.bytes(*size))?,
                Property::Hole(size) => {
                    let end = file.seek(SeekFrom::Current(*size as i64))?;
                    file.set_len(end)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Sets the properties in the order in which none undoes another: a new owner clears
    /// setuid and capabilities, and all of them are changes that only the mtime must outlive.
    fn dress(&self, path: &Path) {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        for step in 0..4 {
            for property in &self.properties {
                let done = match (step, property) {
                    (0, &Property::Owner(uid, gid)) => {
                        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
                        chownat(CWD, path, Some(uid), Some(gid), nofollow)
                    }
                    (1, &Property::Mode(mode)) => {
                        chmodat(CWD, path, Mode::from(mode), AtFlags::empty())
                    }
                    (2, Property::Xattr(name, value)) => {
                        lsetxattr(path, name.as_slice(), value, XattrFlags::empty())
                    }
                    (3, &Property::Mtime(mtime)) => {
                        let times = Timestamps {
                            last_access: mtime,
                            last_modification: mtime,
                        };
                        utimensat(CWD, path, &times, nofollow)
                    }
                    _ => Ok(()),
                };
                done.unwrap_or_else(|err| panic!("{err} at {property:?} of {path:?}"));
            }
        }
    }
}

impl Property {
    fn parse(word: &Word) -> Option<Property> {
        if word.is_quoted {
            return Some(Property::Text(word.bytes.clone()));
        }
        let bytes = word.bytes.as_slice();
        if let Some((name, value)) = split_once(bytes, b'=') {
            return Some(match name {
                b"acl" => Property::Xattr(b"system.posix_acl_access".into(), acl(value)?),
                b"default" => Property::Xattr(b"system.posix_acl_default".into(), acl(value)?),
                _ => Property::Xattr(name.into(), value.into()),
            });
        }
        let text = std::str::from_utf8(bytes).ok()?;
        let call = |name: &str| size_of(text.strip_prefix(name)?.strip_suffix(')')?);
        if let Some(time) = text.strip_prefix('@') {
            return Some(Property::Mtime(time_of(time)?));
        }
        if let Some((uid, gid)) = text.split_once(':') {
            return Some(Property::Owner(uid.parse().ok()?, gid.parse().ok()?));
        }
        if let Some((major, minor)) = text.split_once(',') {
            return Some(Property::Device(major.parse().ok()?, minor.parse().ok()?));
        }
        None.or_else(|| call("random(").map(Property::Random))
            .or_else(|| call("hole(").map(Property::Hole))
            .or_else(|| u32::from_str_radix(text, 8).ok().map(Property::Mode))
    }
}

/// Seconds and an optional fraction, which counts forward also before 1970.
fn time_of(text: &str) -> Option<Timespec> {
    let (secs, fraction) = text.split_once('.').unwrap_or((text, "0"));
    Some(Timespec {
        tv_sec: secs.parse().ok()?,
        tv_nsec: format!("{fraction:0<9}").parse().ok()?,
    })
}

/// Bytes, with `K`, `M` or `T` for powers of 1024.
fn size_of(text: &str) -> Option<u64> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        b'T' => (&text[..text.len() - 1], 1 << 40),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok().map(|count| count * unit)
}

/// The attribute that keeps an ACL: linux/posix_acl_xattr.h. Entries must come in the order
/// user, named users, group, named groups, mask, other.
fn acl(text: &[u8]) -> Option<Vec<u8>> {
    const VERSION: u32 = 2;
    const NOBODY: u32 = u32::MAX;
    let mut value = VERSION.to_le_bytes().to_vec();
    for entry in std::str::from_utf8(text).ok()?.split(',') {
        let [who, id, rights] = entry.split(':').collect::<Vec<_>>()[..] else {
            return None;
        };
        let tag: u16 = match (who, id.is_empty()) {
            ("u", true) => 0x01,
            ("u", false) => 0x02,
            ("g", true) => 0x04,
            ("g", false) => 0x08,
            ("m", true) => 0x10,
            ("o", true) => 0x20,
            _ => return None,
        };
        let bits: u16 = [('r', 4), ('w', 2), ('x', 1)]
            .iter()
            .filter(|(letter, _)| rights.contains(*letter))
            .map(|(_, bit)| bit)
            .sum();
        value.extend(tag.to_le_bytes());
        value.extend(bits.to_le_bytes());
        value.extend(id.parse().unwrap_or(NOBODY).to_le_bytes());
    }
    Some(value)
}

#[derive(Debug)]
struct Word {
    bytes: Vec<u8>,
    is_quoted: bool,
}

fn words_of(line: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let is_quoted = rest.starts_with('\'');
        let bytes = rest.as_bytes();
        let mut word = Vec::new();
        let mut at = usize::from(is_quoted);
        loop {
            match bytes.get(at) {
                Some(b'\\') => at += unescape(&bytes[at..], &mut word),
                Some(b'\'') if is_quoted => break at += 1,
                Some(b' ') if !is_quoted => break,
                Some(&byte) => {
                    word.push(byte);
                    at += 1;
                }
                None if is_quoted => panic!("no closing quote in {line:?}"),
                None => break,
            }
        }
        words.push(Word {
            bytes: word,
            is_quoted,
        });
        rest = rest[at..].trim_start();
    }
    words
}

/// Appends the byte that the escape at the start of `bytes` stands for; returns its length.
fn unescape(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let hex = |at: usize| char::from(bytes[at]).to_digit(16).expect("a hex digit") as u8;
    let (byte, length) = match bytes.get(1) {
        Some(b'n') => (b'\n', 2),
        Some(b's') => (b' ', 2),
        Some(b'x') => (hex(2) << 4 | hex(3), 4),
        Some(&other @ (b'\\' | b'\'')) => (other, 2),
        other => panic!("no such escape: {other:?}"),
    };
    out.push(byte);
    length
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = bytes.iter().position(|&byte| byte == at)?;
    Some((&bytes[..position], &bytes[position + 1..]))
}

/// Bytes that do not compress and repeat only with their seed (xorshift64*, Vigna 2014).
pub struct Noise(u64);

impl Noise {
    /// The sequence that belongs to `seed`.
    pub fn seeded(seed: &[u8]) -> Noise {
        // FNV-1a; the last bit is set because zero is the one state that stays.
        let hash = seed.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Noise(hash | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next `size` bytes.
    pub fn bytes(&mut self, size: u64) -> Vec<u8> {
        let words = size.div_ceil(8);
        let mut bytes: Vec<u8> = (0..words)
            .flat_map(|_| self.number().to_le_bytes())
            .collect();
        bytes.truncate(size as usize);
        bytes
    }
}

/// Makes one of every kind of entry that this process may make, with every property that is
/// known to have been lost by some copying tool.
pub fn every_kind(root: &Path) {
    tree(root, EVERYONES_KINDS);
    tree(root, &format!("f {} 'longest name'", "n".repeat(255)));
    if Power::Root.is_held() {
        tree(root, ROOTS_KINDS);
    }
    if Power::Devices.is_held() {
        tree(
            root,
            "c null 1,3 0666\n b loop 7,200 0660 0:6 @1500000000.5",
        );
    }
    if Power::TrustedXattrs.is_held() {
        tree(root, TRUSTED_KINDS);
    }
    tree(root, "m . 0750 @1600000000.987654321");
}

const EVERYONES_KINDS: &str = r"
    f plain 0640 'content' @1700000000.123456789
    f empty
    f .hidden 0600 'secret'
    f .hidden-dir/.nested 'hidden twice'
    f -rf 'looks like an option'
    f ... 'three dots'
    f with\sspace\sand\s\'quote\' 'x'
    f new\nline 'x'
    f \xff\xfe-not-utf8 'x'
    f \xc3\xbc 'umlaut'
    d empty-dir @1234567890.5
    f dated-dir/file 'x'
    m dated-dir @1000000000.000000001

    f setuid 04755 'x'
    f setgid 02755 'x'
    d setgid-dir 02775
    d sticky-dir 01777
    f read-only 0400 'x'
    f read-only-dir/inside 0444 'x'
    m read-only-dir 0555
    f executable 0755 '#!/bin/true'

    l link -> plain @1400000000.25
    l dangling -> no/such/target @1300000000.75
    l absolute -> /dev/null
    l dir-link -> dated-dir
    l \xff-link -> \xfe\ntarget

    f links/a/first 'shared' 0604
    h links/b/second = links/a/first
    h links/third = links/a/first
    l links/pointer -> a/first
    h links/pointer-too = links/pointer
    p fifo 0620 @1700000001.5
    h links/fifo-too = fifo
    s socket 0711

    f sparse hole(1M) 'middle' hole(1M)
    f all-hole hole(3M)
    f trailing-hole 'start' hole(512K)
    f big random(300K)

    f before-epoch 'x' @-2.5
    f far-future 'x' @4102444800.000000001

    f attributed 'x' user.a=1 user.empty= user.binary=\x00\xff\x01
    d attributed-dir user.b=2
    f acl 'x' acl=u::rw,u:1234:rw,g::r,g:4321:r,m::rw,o::-
    d acl-dir acl=u::rwx,u:1234:rx,g::rx,m::rx,o::- default=u::rwx,g::rx,g:77:rwx,m::rwx,o::-
";

const ROOTS_KINDS: &str = r"
    f owned 'x' 1234:5678
    d owned-dir 65534:12
    l owned-link -> plain 1234:5678
    p owned-fifo 1:2
    f owned-setuid 'x' 4242:4242 06755
    f unreadable 'x' 0000
    d unreadable-dir 0000
    f capable 'x' 0755 security.capability=\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00
";

const TRUSTED_KINDS: &str = r"
    f trusted 'x' trusted.t=1
    d trusted-dir trusted.d=1
    l trusted-link -> plain trusted.l=1
    p trusted-fifo trusted.p=1
";

/// Makes `deep/…/bottom`, whose path from `root` is longer than the 4096 bytes that one system
/// call takes. Returns the length.
pub fn deeper_than_a_system_call(root: &Path) -> usize {
    let name = "d".repeat(200);
    let levels = 4096 / name.len() + 2;
    let directory = |fd: &rustix::fd::OwnedFd, name: &str| {
        mkdirat(fd, name, Mode::from(0o755)).expect("making a deep directory");
        open_directory(fd, name)
    };
    let top = open_directory(CWD, root);
    let bottom = (0..levels).fold(directory(&top, "deep"), |fd, _| directory(&fd, &name));
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CREATE;
    let file = openat(&bottom, "bottom", flags, Mode::from(0o640)).expect("making a deep file");
    rustix::io::write(&file, b"at the bottom").expect("writing a deep file");
    "deep/bottom".len() + levels * (name.len() + 1)
}

fn open_directory(at: impl rustix::fd::AsFd, name: impl rustix::path::Arg) -> rustix::fd::OwnedFd {
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::NOFOLLOW;
    openat(at, name, flags, Mode::empty()).expect("opening a directory")
}
