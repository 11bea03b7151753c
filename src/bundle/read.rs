//! Reads an archive member by member, and trusts none of it: every length is checked before it is
//! used, nothing is held but one member's head, and the stream is read to its very end, where what
//! lies around it proves that nothing is missing.

use std::io::{self, Read};
use std::ops::Range;
use std::slice;

use super::damaged;
use super::decode::Records;
use super::member::Member;
use super::ustar::{BLOCK, Flag, Header, padding};
use super::{pax, sparse};

/// How much content is handed on at a time, in bytes: within the second-level cache.
const CHUNK: usize = 256 << 10;

/// An archive that is being read.
pub(super) struct Reader<R> {
    input: R,
    /// What is still to come of the member at hand, in bytes.
    left: u64,
    padding: usize,
    /// Bytes of header blocks and records so far.
    head_bytes: u64,
    buffer: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// Reads what `input` holds from its start.
    pub(super) fn new(input: R) -> Reader<R> {
        Reader {
            input,
            left: 0,
            padding: 0,
            head_bytes: 0,
            buffer: Vec::new(),
        }
    }

    /// How many bytes of header blocks and records have come.
    pub(super) fn head_bytes(&self) -> u64 {
        self.head_bytes
    }

    /// The next member; `None` at the end of the archive, which is then known to be whole.
    pub(super) fn next_member(&mut self) -> io::Result<Option<Member>> {
        self.skip_rest()?;
        let mut records = None;
        loop {
            let block = self.block()?;
            if block == [0; BLOCK] {
                if records.is_some() {
                    return Err(damaged("records that no member follows"));
                }
                return self.end().map(|()| None);
            }
            let header = Header::from_block(&block)?;
            if header.flag != Flag::Pax {
                return self.member(header, records.unwrap_or_default()).map(Some);
            }
            if records.replace(self.records(&header)?).is_some() {
                return Err(damaged("a member has two sets of records"));
            }
        }
    }

    fn block(&mut self) -> io::Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.input.read_exact(&mut block).map_err(cut_off)?;
        self.head_bytes += BLOCK as u64;
        Ok(block)
    }

    fn records(&mut self, header: &Header) -> io::Result<Records> {
        if header.size > pax::MAX_BYTES {
            return Err(damaged(format!(
                "a member's records are said to take {} bytes",
                header.size
            )));
        }
        let mut bytes = Vec::new();
        // Grows as bytes come: a wrong length costs no memory.
        let len = header.size + padding(header.size) as u64;
        (&mut self.input)
            .take(len)
            .read_to_end(&mut bytes)
            .map_err(cut_off)?;
        if bytes.len() as u64 != len {
            return Err(cut_off(io::ErrorKind::UnexpectedEof.into()));
        }
        self.head_bytes += len;
        Records::parse(&bytes[..header.size as usize])
    }

    fn member(&mut self, header: Header, records: Records) -> io::Result<Member> {
        let decoded = records.member(header)?;
        let mut member = decoded.member;
        self.left = decoded.stored_bytes;
        self.padding = padding(decoded.stored_bytes);
        if decoded.is_sparse {
            let mut map = (&mut self.input).take(decoded.stored_bytes);
            let (extents, map_bytes) =
                sparse::decode(&mut map, member.meta.size).map_err(cut_off)?;
            self.left -= map_bytes;
            member.extents = Some(extents);
            if member.data_bytes() != self.left {
                return Err(damaged(
                    "a sparse file whose map is not that of its content",
                ));
            }
        }
        Ok(member)
    }

    /// Hands on the data of the member at hand, which [`Reader::next_member`] returned, with the offsets
    /// that it has in the file. An error of `take` is returned.
    pub(super) fn content(
        &mut self,
        member: &Member,
        take: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let whole = 0..member.data_bytes();
        let extents = member.extents.as_deref();
        let extents = extents.unwrap_or(slice::from_ref(&whole));
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(CHUNK, 0);
        for Range { start, end } in extents.iter().cloned() {
            let mut at = start;
            while at < end {
                let part = usize::try_from(end - at).map_or(CHUNK, |left| left.min(CHUNK));
                self.read_exact(&mut buffer[..part])?;
                take(at, &buffer[..part])?;
                at += part as u64;
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        let rest = self.left + self.padding as u64;
        (self.left, self.padding) = (0, 0);
        let skipped = io::copy(&mut (&mut self.input).take(rest), &mut io::sink());
        let skipped = skipped.map_err(cut_off)?;
        if skipped < rest {
            return Err(cut_off(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    /// What follows the archive may only be more zeros. Reading on to the end has the layers below
    /// check what they have there: the checksum of the compressed stream, the last part of the
    /// encrypted one.
    fn end(&mut self) -> io::Result<()> {
        // The one that has been read, and the one that must follow.
        let mut blocks = 1;
        let mut block = Vec::with_capacity(BLOCK);
        loop {
            block.clear();
            (&mut self.input)
                .take(BLOCK as u64)
                .read_to_end(&mut block)
                .map_err(cut_off)?;
            if block.iter().any(|&byte| byte != 0) {
                return Err(damaged("something follows the end of the archive"));
            }
            match block.len() {
                BLOCK => blocks += 1,
                0 if blocks >= 2 => return Ok(()),
                _ => return Err(cut_off(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }
}

/// Reads the stored bytes of the member at hand.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(into.len(), |left| left.min(into.len()));
        if most == 0 {
            return Ok(0);
        }
        let read = self.input.read(&mut into[..most])?;
        if read == 0 {
            return Err(cut_off(io::ErrorKind::UnexpectedEof.into()));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// Says of an input that ends too soon what that means.
fn cut_off(err: io::Error) -> io::Error {
    match err.kind() {
        io::ErrorKind::UnexpectedEof => damaged("it ends in the middle"),
        _ => err,
    }
}
