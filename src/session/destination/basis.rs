//! What the source is told of an old version, so that only what is new in the file travels.

use std::io;

use crate::apply::Existing;
use crate::delta::{self, BlockSize, Signature, SignatureSpec, hash_file, sum_file};
use crate::options::Transfer;
use crate::protocol::frame::MAX_BODY;
use crate::protocol::message::{Basis, BasisSums};
use crate::session::destination::delta_threads;

/// How long one block's sum is.
const SUM_BYTES: u64 = 16;

/// What sums may take in one message, in bytes: half of the longest frame. Smaller blocks than
/// fit are made larger.
const MOST_SUM_BYTES: u64 = (MAX_BODY / 2) as u64;

/// Describes an old version in the way that suits its length.
pub(super) fn describe(existing: &Existing, transfer: &Transfer) -> io::Result<Basis> {
    let len = existing.len;
    let forced = transfer
        .block_bytes
        .and_then(|bytes| BlockSize::new(bytes).ok());
    let sums = match (delta::Mode::for_lens(len, len), forced) {
        (delta::Mode::Whole, _) => BasisSums::Same(hash_file(&existing.file, len)?),
        // In place nothing may move: only sums of blocks at their places are of use.
        (_, Some(block)) => staged(existing, block)?,
        (_, None) if existing.in_place => staged(existing, BlockSize::for_len(len))?,
        (delta::Mode::Search(window), None) => {
            let spec = SignatureSpec::whole_in(len, window).map_err(io::Error::other)?;
            BasisSums::Search(Signature::of_basis(&existing.file, spec, delta_threads())?)
        }
        (delta::Mode::Staged(block), None) => staged(existing, block)?,
    };
    Ok(Basis { len, sums })
}

fn staged(existing: &Existing, block: BlockSize) -> io::Result<BasisSums> {
    let block = match block.count(existing.len) * SUM_BYTES > MOST_SUM_BYTES {
        true => BlockSize::for_len(existing.len),
        false => block,
    };
    let (hash, sums) = sum_file(&existing.file, existing.len, block, delta_threads())?;
    Ok(match sums {
        Some(sums) => BasisSums::Staged {
            block,
            sums: sums.as_bytes().to_vec(),
        },
        // Too long for blocks of this size: all or nothing.
        None => BasisSums::Same(hash),
    })
}
