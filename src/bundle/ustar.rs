//! One header block of a tar archive, as POSIX lays it out ("ustar"): fixed fields, none of which
//! can hold all that a file can be. What does not fit is in [`pax`](super::pax) records before it.

use std::io;
use std::ops::Range;

use super::damaged;

/// Everything in a tar archive begins at a multiple of this, in bytes.
pub(super) const BLOCK: usize = 512;

/// The end of an archive.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const FLAG: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const USER: Range<usize> = 265..297;
const GROUP: Range<usize> = 297..329;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;
/// The front of a long name, in archives without PAX records, and what lies behind it.
const UNUSED: Range<usize> = 345..512;

/// The magic with its version.
const USTAR: &[u8; 8] = b"ustar\x0000";

/// What follows a header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    /// A file's content.
    File,
    /// Nothing: another name of an earlier member.
    HardLink,
    /// Nothing.
    Symlink,
    /// Nothing.
    CharDevice,
    /// Nothing.
    BlockDevice,
    /// Nothing.
    Dir,
    /// Nothing.
    Fifo,
    /// Records about the next member.
    Pax,
}

impl Flag {
    const ALL: [(Flag, u8); 8] = [
        (Flag::File, b'0'),
        (Flag::HardLink, b'1'),
        (Flag::Symlink, b'2'),
        (Flag::CharDevice, b'3'),
        (Flag::BlockDevice, b'4'),
        (Flag::Dir, b'5'),
        (Flag::Fifo, b'6'),
        (Flag::Pax, b'x'),
    ];

    fn byte(self) -> u8 {
        Flag::ALL[self as usize].1
    }

    fn of(byte: u8) -> Option<Flag> {
        let found = Flag::ALL.iter().find(|(_, letter)| *letter == byte);
        found.map(|(flag, _)| *flag)
    }
}

/// A header block's fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) flag: Flag,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: u64,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: u64,
    pub(super) user: Vec<u8>,
    pub(super) group: Vec<u8>,
    pub(super) device: (u64, u64),
}

impl Header {
    /// A header that says nothing but what follows.
    pub(super) fn new(flag: Flag) -> Header {
        Header {
            flag,
            name: Vec::new(),
            link: Vec::new(),
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            user: Vec::new(),
            group: Vec::new(),
            device: (0, 0),
        }
    }

    /// The longest name and link target that need no record, in bytes.
    pub(super) const NAME_MAX: usize = NAME.end - NAME.start;
    /// The longest name of an owner: its field ends with a NUL.
    pub(super) const OWNER_MAX: usize = USER.end - USER.start - 1;
    /// The largest number of a user or group.
    pub(super) const ID_MAX: u64 = octal_max(&UID);
    /// The longest content, and the latest time.
    pub(super) const SIZE_MAX: u64 = octal_max(&SIZE);

    /// The block. A name is cut to its field, and a number too large for its own is zero there:
    /// readers go by the record.
    pub(super) fn to_block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        put(&mut block[NAME], &self.name);
        put_octal(&mut block[MODE], self.mode);
        put_octal(&mut block[UID], self.uid);
        put_octal(&mut block[GID], self.gid);
        put_octal(&mut block[SIZE], self.size);
        put_octal(&mut block[MTIME], self.mtime);
        block[FLAG] = self.flag.byte();
        put(&mut block[LINK], &self.link);
        put(&mut block[MAGIC], USTAR);
        put(&mut block[USER], &self.user);
        put(&mut block[GROUP], &self.group);
        put_octal(&mut block[MAJOR], self.device.0);
        put_octal(&mut block[MINOR], self.device.1);
        let sum = format!("{:06o}\0 ", checksum(&block));
        put(&mut block[CHECKSUM], sum.as_bytes());
        block
    }

    /// Reads a block. Takes what [`Header::to_block`] writes and no more: no numbers in base 256,
    /// no name in two parts, no kinds of other archivers.
    pub(super) fn from_block(block: &[u8; BLOCK]) -> io::Result<Header> {
        let sum = octal(&block[CHECKSUM])?;
        if sum != u64::from(checksum(block)) {
            return Err(damaged("a header does not have its own checksum"));
        }
        if &block[MAGIC] != USTAR {
            return Err(damaged("a header is not in the POSIX format"));
        }
        if block[UNUSED].iter().any(|&byte| byte != 0) {
            return Err(damaged("a header has a name in two parts"));
        }
        let flag = Flag::of(block[FLAG]).ok_or_else(|| {
            let letter = block[FLAG].escape_ascii();
            damaged(format!(
                "a member of type '{letter}', which no bundle holds"
            ))
        })?;
        Ok(Header {
            flag,
            name: text(&block[NAME]),
            link: text(&block[LINK]),
            mode: octal(&block[MODE])?,
            uid: octal(&block[UID])?,
            gid: octal(&block[GID])?,
            size: octal(&block[SIZE])?,
            mtime: octal(&block[MTIME])?,
            user: text(&block[USER]),
            group: text(&block[GROUP]),
            device: (octal(&block[MAJOR])?, octal(&block[MINOR])?),
        })
    }
}

/// How many bytes fill the last block of so many.
pub(super) fn padding(len: u64) -> usize {
    (BLOCK - (len % BLOCK as u64) as usize) % BLOCK
}

const fn octal_max(field: &Range<usize>) -> u64 {
    (1 << (3 * (field.end - field.start - 1))) - 1
}

fn put(field: &mut [u8], bytes: &[u8]) {
    let len = bytes.len().min(field.len());
    field[..len].copy_from_slice(&bytes[..len]);
}

/// Octal digits up to a closing NUL.
fn put_octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let fits = value >> (3 * digits) == 0;
    let text = format!("{:0digits$o}", if fits { value } else { 0 });
    put(field, text.as_bytes());
}

fn octal(field: &[u8]) -> io::Result<u64> {
    if field.first().is_some_and(|byte| byte & 0x80 != 0) {
        return Err(damaged("a number in base 256, which no bundle holds"));
    }
    let end = field.iter().position(|byte| !byte.is_ascii_digit());
    let (digits, rest) = field.split_at(end.unwrap_or(field.len()));
    let text = std::str::from_utf8(digits).unwrap_or_default();
    let number = u64::from_str_radix(text, 8).ok();
    number
        .filter(|_| rest.iter().all(|byte| matches!(byte, 0 | b' ')))
        .ok_or_else(|| damaged("a header has something else where a number should be"))
}

/// A field up to the NUL that ends it, where it is not filled.
fn text(field: &[u8]) -> Vec<u8> {
    let end = field.iter().position(|&byte| byte == 0);
    field[..end.unwrap_or(field.len())].to_vec()
}

/// The sum of all bytes, the checksum's own taken for spaces.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let all: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    let own: u32 = block[CHECKSUM].iter().map(|&byte| u32::from(byte)).sum();
    all - own + CHECKSUM.len() as u32 * u32::from(b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Header {
        Header {
            flag: Flag::CharDevice,
            name: vec![b'n'; 100],
            link: vec![0xff; 100],
            mode: 0o7777,
            uid: Header::ID_MAX,
            gid: 1,
            size: Header::SIZE_MAX,
            mtime: 1_700_000_000,
            user: vec![b'u'; 31],
            group: b"g".to_vec(),
            device: (4095, 1_048_575),
        }
    }

    #[test]
    fn a_header_comes_back_from_its_block() {
        for flag in Flag::ALL.map(|(flag, _)| flag) {
            let header = Header { flag, ..full() };
            assert_eq!(Header::from_block(&header.to_block()).unwrap(), header);
        }
    }

    #[test]
    fn a_number_that_does_not_fit_is_zero() {
        let header = Header {
            uid: Header::ID_MAX + 1,
            ..full()
        };
        assert_eq!(Header::from_block(&header.to_block()).unwrap().uid, 0);
    }

    /// A block with one byte changed and its checksum made right again.
    fn with(at: usize, byte: u8) -> [u8; BLOCK] {
        let mut block = full().to_block();
        block[at] = byte;
        let sum = format!("{:06o}\0 ", checksum(&block));
        block[CHECKSUM].copy_from_slice(sum.as_bytes());
        block
    }

    #[test]
    fn what_no_bundle_holds_is_refused() {
        let refused = |block: &[u8; BLOCK]| Header::from_block(block).unwrap_err().to_string();
        let mut torn = full().to_block();
        torn[0] ^= 1;
        assert!(refused(&torn).contains("checksum"));
        assert!(refused(&with(UID.start, 0x80)).contains("base 256"));
        assert!(refused(&with(UID.start, b'x')).contains("number"));
        assert!(refused(&with(FLAG, b'L')).contains("type 'L'"));
        assert!(refused(&with(FLAG, 0)).contains("type"));
        assert!(refused(&with(MAGIC.start + 5, b' ')).contains("POSIX"));
        assert!(refused(&with(UNUSED.start, b'p')).contains("two parts"));
    }

    #[test]
    fn padding_fills_the_last_block() {
        assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
    }
}
