//! What the first bytes of SQLite's files say, and what they prove about files that do not belong
//! together. Read without SQLite, which would change them.
//!
//! Nothing in a database names its write-ahead log, and neither age nor salts tell: a checkpoint
//! makes the database newer than a log that belongs to it. Three things can be proved. A log has
//! the database's page size. A database with a log is in WAL mode, since leaving that mode removes
//! the log first. And two counters in the database's first page only grow (one with each connection
//! that writes, one with each change of the schema), so that the database is not ahead of all first
//! pages in its log: checkpoints copy from there.
//!
//! A log that passes may still be another's. The integrity check of both together tells, as far as
//! one host can; where a copy has a log and its original has none, comparing both tells for sure.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What a database begins with.
pub(super) const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What a rollback journal begins with while it holds something, and what ends one that is part of
/// a transaction over several databases.
pub(super) const JOURNAL_MAGIC: &[u8; 8] = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7";

/// What a write-ahead log begins with; the last bit says how it is summed.
const WAL_MAGIC: u32 = 0x377f_0682;

const WAL_HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: u64 = 24;

/// How many frames of a log are looked at: 256 MiB at the usual page size. Longer ones prove
/// nothing by their counters.
const MOST_FRAMES: u64 = 1 << 16;

/// Where in its first page a database counts changes, and changes of its schema.
const COUNTERS_AT: [usize; 2] = [24, 40];

/// The front of a database's first page.
#[derive(Clone, Copy, Debug)]
struct DatabaseHeader {
    page_bytes: u32,
    is_wal_mode: bool,
    counters: [u32; 2],
}

impl DatabaseHeader {
    const BYTES: usize = 100;

    fn parse(bytes: &[u8; DatabaseHeader::BYTES]) -> DatabaseHeader {
        DatabaseHeader {
            // 65,536 does not fit, and is written as 1.
            page_bytes: match u16::from_be_bytes([bytes[16], bytes[17]]) {
                1 => 1 << 16,
                size => size.into(),
            },
            is_wal_mode: bytes[18] == 2 || bytes[19] == 2,
            counters: COUNTERS_AT.map(|at| be32(bytes, at)),
        }
    }
}

/// Why the log cannot belong to the database, where that can be proved. A log without frames
/// belongs to every database.
pub(super) fn disproof_of_wal(database: &File, wal: &File) -> io::Result<Option<&'static str>> {
    let mut front = [0; DatabaseHeader::BYTES];
    database.read_exact_at(&mut front, 0)?;
    let database = DatabaseHeader::parse(&front);
    let Some(wal) = Wal::open(wal)? else {
        return Ok(None);
    };
    if wal.page_bytes != database.page_bytes {
        return Ok(Some("their page sizes differ"));
    }
    if !database.is_wal_mode {
        return Ok(Some("the database is not in WAL mode"));
    }
    let Some(newest) = wal.newest_counters()? else {
        return Ok(None);
    };
    let mut counters = database.counters.into_iter().zip(newest);
    let is_newer = counters.any(|(counter, newest)| is_ahead(counter, newest));
    Ok(is_newer.then_some("the database is newer"))
}

/// A log that holds frames.
struct Wal<'a> {
    file: &'a File,
    bytes: u64,
    page_bytes: u32,
    salts: [u8; 8],
}

impl Wal<'_> {
    /// `None` where there is no valid first frame: SQLite then takes the log for empty.
    fn open(file: &File) -> io::Result<Option<Wal<'_>>> {
        let bytes = file.metadata()?.len();
        let mut header = [0; WAL_HEADER_BYTES as usize];
        if bytes < WAL_HEADER_BYTES + FRAME_HEADER_BYTES {
            return Ok(None);
        }
        file.read_exact_at(&mut header, 0)?;
        let page_bytes = be32(&header, 8);
        let is_log = be32(&header, 0) & !1 == WAL_MAGIC;
        if !is_log || !page_bytes.is_power_of_two() || !(512..=1 << 16).contains(&page_bytes) {
            return Ok(None);
        }
        let mut salts = [0; 8];
        salts.copy_from_slice(&header[16..24]);
        let wal = Wal {
            file,
            bytes,
            page_bytes,
            salts,
        };
        Ok(wal.frame(0)?.is_some().then_some(wal))
    }

    /// The page number of a frame; `None` behind the last one. A log is written anew from its
    /// front, with other salts, so that older frames follow.
    fn frame(&self, index: u64) -> io::Result<Option<u32>> {
        let at = self.frame_at(index);
        if at + FRAME_HEADER_BYTES + u64::from(self.page_bytes) > self.bytes {
            return Ok(None);
        }
        let mut header = [0; FRAME_HEADER_BYTES as usize];
        self.file.read_exact_at(&mut header, at)?;
        Ok((header[8..16] == self.salts).then(|| be32(&header, 0)))
    }

    fn frame_at(&self, index: u64) -> u64 {
        WAL_HEADER_BYTES + index * (FRAME_HEADER_BYTES + u64::from(self.page_bytes))
    }

    /// The highest counters of the first pages in it; `None` where there are none, or the log is
    /// too long to know. The last first page is not always the newest: behind the frames of the
    /// last transaction may stand those of an earlier one that was rolled back.
    fn newest_counters(&self) -> io::Result<Option<[u32; 2]>> {
        let mut newest: Option<[u32; 2]> = None;
        for index in 0..MOST_FRAMES {
            match self.frame(index)? {
                Some(1) => {
                    let counters = self.counters(index)?;
                    let known = newest.get_or_insert(counters);
                    for (known, counter) in known.iter_mut().zip(counters) {
                        *known = if is_ahead(counter, *known) {
                            counter
                        } else {
                            *known
                        };
                    }
                }
                Some(_) => {}
                None => return Ok(newest),
            }
        }
        Ok(None)
    }

    fn counters(&self, index: u64) -> io::Result<[u32; 2]> {
        let mut front = [0; DatabaseHeader::BYTES];
        let at = self.frame_at(index) + FRAME_HEADER_BYTES;
        self.file.read_exact_at(&mut front, at)?;
        Ok(DatabaseHeader::parse(&front).counters)
    }
}

/// Whether a counter that wraps around is beyond another.
fn is_ahead(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) > 0
}

/// What is in a rollback journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Journal {
    /// Nothing: it was emptied or its front erased when its transaction ended.
    Done,
    /// Pages to be put back.
    Hot,
    /// The same, as part of a transaction over several databases: whether they are put back is
    /// decided by a file that it names.
    HotWithOthers,
}

/// Looks at a rollback journal's ends.
pub(super) fn journal(file: &File) -> io::Result<Journal> {
    let bytes = file.metadata()?.len();
    let mut magic = [0; JOURNAL_MAGIC.len()];
    if bytes < 512 {
        return Ok(Journal::Done);
    }
    file.read_exact_at(&mut magic, 0)?;
    if magic != *JOURNAL_MAGIC {
        return Ok(Journal::Done);
    }
    file.read_exact_at(&mut magic, bytes - JOURNAL_MAGIC.len() as u64)?;
    Ok(match magic == *JOURNAL_MAGIC {
        true => Journal::HotWithOthers,
        false => Journal::Hot,
    })
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    let word = bytes[at..].first_chunk().copied();
    u32::from_be_bytes(word.unwrap_or_default())
}
