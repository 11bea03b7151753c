//! The delta itself, as it travels and as the receiver reads it: copies out of the basis and
//! literals, in the order of the new file. How a file is really built is `apply`'s; this says what
//! is allowed and what there is to do.

use std::io::{self, Read, Write};

use blake3::Hasher;
use serde::{Deserialize, Serialize};

use super::{DeltaError, ReadAt};
use crate::digest::ContentHash;

/// The next bytes of the new file. The bytes of literals travel apart, in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// They are in the basis.
    Copy {
        /// Where.
        basis_offset: u64,
        /// How many.
        len: u64,
    },
    /// They are sent.
    Literal {
        /// How many.
        len: u64,
    },
}

/// An operation and where in the new file it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The bytes are where they were: nothing to do in a reflink of the basis.
    Keep {
        /// Where in both files.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// The bytes are elsewhere in the basis.
    Move {
        /// Where in the basis.
        basis_offset: u64,
        /// Where in the new file.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// The bytes are the next of the literals.
    Write {
        /// Where in the new file.
        offset: u64,
        /// How many.
        len: u64,
    },
}

/// A checked delta.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    ops: Vec<Op>,
    keep_bytes: u64,
    move_bytes: u64,
    literal_bytes: u64,
}

impl Patch {
    /// Checks that `ops` copy only from inside the basis, hold nothing empty and make exactly
    /// `new_len` bytes.
    pub fn validate(ops: Vec<Op>, basis_len: u64, new_len: u64) -> Result<Patch, DeltaError> {
        let mut at = 0u64;
        let mut patch = Patch {
            ops: Vec::new(),
            keep_bytes: 0,
            move_bytes: 0,
            literal_bytes: 0,
        };
        for op in &ops {
            let (len, counter) = match *op {
                Op::Copy { basis_offset, len } => {
                    let end = basis_offset.checked_add(len);
                    if end.is_none_or(|end| end > basis_len) {
                        return Err(DeltaError::CopyOutside { basis_offset, len });
                    }
                    if basis_offset == at {
                        (len, &mut patch.keep_bytes)
                    } else {
                        (len, &mut patch.move_bytes)
                    }
                }
                Op::Literal { len } => (len, &mut patch.literal_bytes),
            };
            at = at
                .checked_add(len)
                .filter(|end| len > 0 && *end <= new_len)
                .ok_or(DeltaError::WrongLen { new_len })?;
            *counter += len;
        }
        if at != new_len {
            return Err(DeltaError::WrongLen { new_len });
        }
        patch.ops = ops;
        Ok(patch)
    }

    /// The operations in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// What there is to do, in the order of the new file. Neighbouring steps of a kind are not
    /// merged: the ops of a well-made delta are maximal already.
    pub fn steps(&self) -> impl Iterator<Item = Step> {
        let mut offset = 0;
        self.ops.iter().map(move |op| {
            let step = match *op {
                Op::Copy { basis_offset, len } if basis_offset == offset => {
                    Step::Keep { offset, len }
                }
                Op::Copy { basis_offset, len } => Step::Move {
                    basis_offset,
                    offset,
                    len,
                },
                Op::Literal { len } => Step::Write { offset, len },
            };
            let (Op::Copy { len, .. } | Op::Literal { len }) = *op;
            offset += len;
            step
        })
    }

    /// How many bytes stay in place.
    pub fn keep_bytes(&self) -> u64 {
        self.keep_bytes
    }

    /// How many bytes are copied from elsewhere in the basis.
    pub fn move_bytes(&self) -> u64 {
        self.move_bytes
    }

    /// How many bytes are sent.
    pub fn literal_bytes(&self) -> u64 {
        self.literal_bytes
    }

    /// Builds the new file front to back into `out` and returns its content hash.
    ///
    /// This is the reference for how the steps are meant, and serves outputs that cannot be
    /// written out of order. A basis or literals that end early are an
    /// [`io::ErrorKind::UnexpectedEof`].
    pub fn apply(
        &self,
        basis: &(impl ReadAt + ?Sized),
        mut literals: impl Read,
        mut out: impl Write,
    ) -> io::Result<ContentHash> {
        let mut hasher = Hasher::new();
        let mut buf = vec![0; COPY_BYTES];
        for op in &self.ops {
            let (Op::Copy { len, .. } | Op::Literal { len }) = *op;
            let mut done = 0;
            while done < len {
                let part = &mut buf[..(len - done).min(COPY_BYTES as u64) as usize];
                match op {
                    Op::Copy { basis_offset, .. } => basis.read_exact_at(part, basis_offset + done),
                    Op::Literal { .. } => literals.read_exact(part),
                }?;
                hasher.update(part);
                out.write_all(part)?;
                done += part.len() as u64;
            }
        }
        Ok(hasher.finalize().into())
    }
}

/// How much [`Patch::apply`] copies at a time; fits the second-level cache.
const COPY_BYTES: usize = 256 << 10;
