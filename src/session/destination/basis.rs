//! What the source is told of an old version, so that only what is new in the file travels.

use std::io;

use crate::apply::Existing;
use crate::delta::{
    self, BlockSize, ReadAt, Signature, SignatureSpec, UntilCancelled, hash_file, sum_file,
};
use crate::events::Cancel;
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
pub(super) fn describe(
    existing: &Existing,
    transfer: &Transfer,
    cancel: &Cancel,
) -> io::Result<Basis> {
    let len = existing.len;
    let file = UntilCancelled(&existing.file, cancel);
    let forced = transfer
        .block_bytes
        .and_then(|bytes| BlockSize::new(bytes).ok());
    let sums = match (delta::Mode::for_lens(len, len), forced) {
        (delta::Mode::Whole, _) => BasisSums::Same(hash_file(&file, len)?),
        // In place nothing may move: only sums of blocks at their places are of use.
        (_, Some(block)) => staged(&file, len, block)?,
        (_, None) if existing.in_place => staged(&file, len, BlockSize::for_len(len))?,
        (delta::Mode::Search(window), None) => {
            let spec = SignatureSpec::whole_in(len, window).map_err(io::Error::other)?;
            BasisSums::Search(Signature::of_basis(&file, spec, delta_threads())?)
        }
        (delta::Mode::Staged(block), None) => staged(&file, len, block)?,
    };
    Ok(Basis { len, sums })
}

fn staged(file: &impl ReadAt, len: u64, block: BlockSize) -> io::Result<BasisSums> {
    let block = match block.count(len) * SUM_BYTES > MOST_SUM_BYTES {
        true => BlockSize::for_len(len),
        false => block,
    };
    let (hash, sums) = sum_file(file, len, block, delta_threads())?;
    Ok(match sums {
        Some(sums) => BasisSums::Staged {
            block,
            sums: sums.as_bytes().to_vec(),
        },
        // Too long for blocks of this size: all or nothing.
        None => BasisSums::Same(hash),
    })
}
