//! Byte algebra for a file that differs from its old version: sums, signatures, and the search. It
//! knows no paths and no messages; `session` carries what is made here.
//!
//! The **receiver** has the old file, the *basis*; the **sender** has the new one. Three ways lead
//! from one to the other, and [`Mode::for_lens`] says which:
//!
//! | mode | who | calls |
//! |---|---|---|
//! | [`Mode::Whole`] | sender | sends the bytes |
//! | [`Mode::Search`], one round trip | receiver | [`Signature::of_basis`] over [`SignatureSpec::whole_in`] |
//! | | sender | [`hash_file`], [`Draft::blank`], [`Draft::search`], [`Draft::into_ops`] |
//! | [`Mode::Staged`], one to three | receiver | [`BlockSums`], from state or by [`sum_file`] |
//! | | sender | [`sum_file`] in the same blocks, [`Draft::aligned`], [`Draft::request`] |
//! | | receiver | as long as there is a request, [`Signature::of_basis`] |
//! | | sender | [`Draft::search`], [`Draft::request`]; in the end [`Draft::into_ops`] |
//!
//! A staged delta requests nothing, and the second round trip does not happen, when the aligned
//! sums say it all: nothing changed, or bytes were only appended. Otherwise the first signature is
//! of those parts of the basis that are not in place in the new file, in windows that fit their
//! size. So it finds moved bytes, and narrows edits of a few KiB in blocks of 32 KiB to windows of
//! 2 KiB, for about a hundredth of the differing bytes. A second one, of the whole basis, is
//! requested only when so much is open still that a round trip does not count.
//!
//! In all modes the sender then sends what the [`Op`]s say. The receiver builds the new file of it
//! (`apply` does), and compares its content hash with the sender's. That comparison decides: a
//! collision of sums, a basis that changed in between, or a far end that lies leads to a mismatch,
//! and to the file being sent whole.
//!
//! Memory is bounded by [`MAX_BLOCKS`] for what is known of a file, and by a few MiB a thread for
//! its bytes. Everything that is deserialized here is checked on the way in.

mod draft;
mod index;
mod parallel;
mod read;
mod rolling;
mod search;
mod signature;
mod size;
mod sums;

use std::ops::Range;

use draft::Match;
pub use draft::{Draft, Op};
pub use parallel::threads;
pub use read::{ReadAt, UntilCancelled};
pub use signature::{Signature, SignatureSpec};
pub use size::{BlockSize, MAX_BLOCKS, PowerOfTwo, WindowSize};
pub use sums::{BlockSums, Subtrees, Sum, SumBuilder, hash_file, sum_file, zeros};

use crate::error::Error;

/// What the far end must not say about a delta.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// A block size that is not a power of two in range.
    #[error("{0} is no block size")]
    Size(u32),
    /// More than [`MAX_BLOCKS`].
    #[error("{0} blocks are too many")]
    TooManyBlocks(u64),
    /// The sums do not match the length that they are said to be of.
    #[error("{bytes} bytes are not the sums of {expected} blocks")]
    WrongCount {
        /// How many blocks there are.
        expected: u64,
        /// How many bytes came.
        bytes: usize,
    },
    /// A range that is empty, out of order or outside the basis.
    #[error("the bytes {0:?} of the basis cannot be summed")]
    BadRange(Range<u64>),
}

impl From<DeltaError> for Error {
    fn from(err: DeltaError) -> Error {
        Error::protocol(err.to_string())
    }
}

/// How a file that differs is to travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As it is.
    Whole,
    /// By a signature of the whole basis, which the receiver sends unasked.
    Search(WindowSize),
    /// By aligned sums first.
    Staged(BlockSize),
}

impl Mode {
    /// Up to this length a signature and the wait for it cost more than the bytes.
    pub const WHOLE_MAX_LEN: u64 = 4 << 10;

    /// Up to this length one round trip is worth more than not having to read the basis: 16 MiB
    /// are summed in 4 ms, and the signature takes 48 KB.
    pub const SEARCH_MAX_LEN: u64 = 16 << 20;

    /// The mode for a basis and a new file of these lengths.
    pub fn for_lens(basis_len: u64, new_len: u64) -> Mode {
        if basis_len.min(new_len) <= Mode::WHOLE_MAX_LEN {
            Mode::Whole
        } else if basis_len.max(new_len) <= Mode::SEARCH_MAX_LEN {
            Mode::Search(WindowSize::for_len(basis_len))
        } else {
            Mode::Staged(BlockSize::for_len(basis_len.max(new_len)))
        }
    }
}
