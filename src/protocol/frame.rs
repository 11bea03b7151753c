//! Frames: how messages and content are cut into bytes. `length u32, kind u8, body`; a set high
//! bit in the kind says that the body is compressed.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::path::RelPath;
use crate::protocol::message::Batch;

/// The longest body of a frame, in bytes, before and after compression. Listings and content are
/// cut well below it; a single entry with the largest attributes Linux allows still fits.
pub const MAX_BODY: usize = 8 << 20;

/// How much content one frame carries, in bytes: large enough that a frame's cost vanishes, small
/// enough that several are under way within the credit.
pub const DATA_BYTES: usize = 256 << 10;

/// A frame's header: length and kind.
pub const HEADER: usize = 5;

const COMPRESSED: u8 = 0x80;

/// zstd's fastest level that still finds matches: 400 MB/s a core here, level 3 has half of it
/// for a few percent.
const ZSTD_LEVEL: i32 = 1;

/// What a frame's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A message of [`crate::protocol::message`].
    Message = 1,
    /// A piece of one file.
    Data = 2,
    /// Many small files.
    Batch = 3,
    /// Nothing: the sender is alive.
    Heartbeat = 4,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Result<FrameKind> {
        match byte & !COMPRESSED {
            1 => Ok(FrameKind::Message),
            2 => Ok(FrameKind::Data),
            3 => Ok(FrameKind::Batch),
            4 => Ok(FrameKind::Heartbeat),
            other => Err(Error::protocol(format!("unknown frame kind {other}"))),
        }
    }
}

/// One frame as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the body is.
    pub kind: FrameKind,
    /// The body, not compressed.
    pub body: Vec<u8>,
    /// What it costs in credit, header included: the sender pays before it compresses, and what
    /// credit bounds is memory, so this counts bytes that are not compressed.
    pub credit_bytes: u64,
}

/// Reads a frame's header: how long its body is, and its kind byte.
pub fn parse_header(header: [u8; HEADER]) -> Result<(usize, u8)> {
    let [a, b, c, d, kind] = header;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    if len > MAX_BODY {
        return Err(Error::protocol(format!("a frame of {len} bytes")));
    }
    FrameKind::from_byte(kind)?;
    Ok((len, kind))
}

/// Makes a frame of its wire form.
pub fn decode(kind: u8, body: Vec<u8>) -> Result<Frame> {
    let body = if kind & COMPRESSED == 0 {
        body
    } else {
        zstd::bulk::decompress(&body, MAX_BODY)
            .map_err(|err| Error::protocol(format!("a damaged compressed frame: {err}")))?
    };
    Ok(Frame {
        kind: FrameKind::from_byte(kind)?,
        credit_bytes: (HEADER + body.len()) as u64,
        body,
    })
}

/// The wire form of a body.
pub fn encode(kind: FrameKind, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.push(kind as u8);
    out.extend_from_slice(body);
    out
}

/// Compresses a frame's wire form where that makes it smaller by a tenth at least.
pub fn compress(frame: &[u8]) -> Cow<'_, [u8]> {
    let Some((header, body)) = frame.split_first_chunk::<HEADER>() else {
        return Cow::Borrowed(frame);
    };
    match zstd::bulk::compress(body, ZSTD_LEVEL) {
        Ok(small) if small.len() < body.len() - body.len() / 10 => {
            let mut out = Vec::with_capacity(HEADER + small.len());
            out.extend_from_slice(&(small.len() as u32).to_le_bytes());
            out.push(header[4] | COMPRESSED);
            out.extend_from_slice(&small);
            Cow::Owned(out)
        }
        _ => Cow::Borrowed(frame),
    }
}

/// The wire form of a message.
pub fn encode_message(message: &impl Serialize) -> Result<Vec<u8>> {
    let mut out = vec![0; HEADER];
    out[4] = FrameKind::Message as u8;
    let mut out = postcard::to_extend(message, out)
        .map_err(|err| Error::protocol(format!("a message that cannot be written: {err}")))?;
    let len = out.len() - HEADER;
    if len > MAX_BODY {
        return Err(Error::protocol(format!("a message of {len} bytes")));
    }
    out[..4].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(out)
}

/// Reads a message.
pub fn decode_message<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    let (message, rest) = postcard::take_from_bytes(body)
        .map_err(|err| Error::protocol(format!("a message that cannot be read: {err}")))?;
    if !rest.is_empty() {
        return Err(Error::protocol("bytes after a message"));
    }
    Ok(message)
}

/// The wire form of a piece of a file: `id u64, offset u64, bytes`.
pub fn encode_data(id: u64, offset: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + 16 + bytes.len());
    out.extend_from_slice(&((bytes.len() + 16) as u32).to_le_bytes());
    out.push(FrameKind::Data as u8);
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(bytes);
    out
}

/// Reads a piece of a file: its id, offset and bytes.
pub fn decode_data(body: &[u8]) -> Result<(u64, u64, &[u8])> {
    let parts = body
        .split_first_chunk::<8>()
        .and_then(|(id, rest)| Some((id, rest.split_first_chunk::<8>()?)));
    let Some((id, (offset, bytes))) = parts else {
        return Err(Error::protocol("a data frame without a header"));
    };
    Ok((u64::from_le_bytes(*id), u64::from_le_bytes(*offset), bytes))
}

/// The wire form of many small files: `header length u32, header, contents`.
pub fn encode_batch(batch: &Batch, contents: &[u8]) -> Result<Vec<u8>> {
    let mut out = vec![0; HEADER + 4];
    out[4] = FrameKind::Batch as u8;
    let mut out = postcard::to_extend(batch, out)
        .map_err(|err| Error::protocol(format!("a batch that cannot be written: {err}")))?;
    let header_len = (out.len() - HEADER - 4) as u32;
    out[HEADER..HEADER + 4].copy_from_slice(&header_len.to_le_bytes());
    out.extend_from_slice(contents);
    let len = out.len() - HEADER;
    if len > MAX_BODY {
        return Err(Error::protocol(format!("a batch of {len} bytes")));
    }
    out[..4].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(out)
}

/// Reads many small files. The contents' lengths are checked against the entries' sizes.
pub fn decode_batch(body: &[u8]) -> Result<(Batch, &[u8])> {
    let (len, rest) = body
        .split_first_chunk::<4>()
        .ok_or_else(|| Error::protocol("a batch without a header"))?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > rest.len() {
        return Err(Error::protocol("a batch whose header is cut"));
    }
    let (header, contents) = rest.split_at(len);
    let batch: Batch = decode_message(header)?;
    let total = batch
        .files
        .iter()
        .try_fold(0_u64, |sum, (entry, _)| sum.checked_add(entry.meta.size));
    if total != Some(contents.len() as u64) {
        return Err(Error::protocol(format!(
            "a batch for {} whose contents do not fit its entries",
            batch.dir
        )));
    }
    Ok((batch, contents))
}

/// Reads only which directory a frame of small files is for.
pub fn decode_batch_dir(body: &[u8]) -> Result<RelPath> {
    let header = body.get(4..).unwrap_or_default();
    let (dir, _) = postcard::take_from_bytes(header)
        .map_err(|err| Error::protocol(format!("a batch that cannot be read: {err}")))?;
    Ok(dir)
}

/// The empty batch of a directory.
pub fn empty_batch(dir: &RelPath) -> Batch {
    Batch {
        dir: dir.clone(),
        files: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
