//! Large files on their way: whole in pieces, or as what is new in them.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::delta::{
    self, BlockSums, Draft, Op, SignatureSpec, UntilCancelled, WindowSize, hash_file, sum_file,
    zeros,
};
use crate::digest::ContentHash;
use crate::error::{Error, Result};
use crate::fs::{self, Stat};
use crate::protocol::frame::{DATA_BYTES, encode_data};
use crate::protocol::message::{Basis, BasisSums, CopyRange, FromSource, Onto};
use crate::session::source::send::require_unchanged;
use crate::session::source::serving::Serving;

/// So much of a hole is told of at a time, in bytes. Both ends hash its zeros, which takes the
/// destination long enough to be told while the source still does, and to be shown as progress: a
/// hole of 100 GiB took 76 s in silence, first at the one end and then at the other.
const HOLE_STEP: u64 = 64 << 20;

/// Copies a message names at most.
const COPIES_A_MESSAGE: usize = 4096;

/// One large file on its way.
pub(super) struct Large<'a> {
    pub(super) serving: &'a Serving<'a>,
    pub(super) id: u64,
    pub(super) file: File,
    pub(super) stat: Stat,
    pub(super) buffer: &'a mut [u8],
}

impl Large<'_> {
    /// Sends the content; the inner error is the file's.
    pub(super) fn send(mut self, basis: Option<Basis>) -> Result<io::Result<ContentHash>> {
        let len = self.stat.meta.size;
        let data = match self.data_ranges() {
            Ok(data) => data,
            Err(err) => return Ok(Err(err)),
        };
        let sent = match basis {
            None => self.send_whole(len, &data)?,
            Some(basis) => match self.draft(len, basis)? {
                Ok((hash, ops)) => self.send_ops(&ops, &data)?.map(|()| hash),
                Err(err) => Err(err),
            },
        };
        Ok(sent.and_then(|hash| require_unchanged(&self.file, &self.stat).map(|()| hash)))
    }

    /// What the destination can start from.
    pub(super) fn onto(&self, basis: Option<&Basis>) -> Result<Onto> {
        let Some(basis) = basis else {
            return Ok(Onto::Nothing);
        };
        let BasisSums::Staged { block, sums } = &basis.sums else {
            return Ok(Onto::Basis);
        };
        let old = BlockSums::from_bytes(*block, basis.len, sums)?;
        // A file that cannot be read is told of when it is.
        let alike = old.resemble(&self.file, self.stat.meta.size);
        Ok(match alike.unwrap_or(false) {
            true => Onto::AlikeBasis,
            false => Onto::Basis,
        })
    }

    fn data_ranges(&self) -> io::Result<Vec<Range<u64>>> {
        let len = self.stat.meta.size;
        let whole = std::iter::once(0..len)
            .filter(|all| !all.is_empty())
            .collect();
        let sparse = self.serving.lister.rules.fidelity.sparse;
        if !sparse || self.stat.blocks.saturating_mul(512) >= len {
            return Ok(whole);
        }
        fs::data_ranges(&self.file, len)
    }

    fn send_whole(&mut self, len: u64, data: &[Range<u64>]) -> Result<io::Result<ContentHash>> {
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        for range in data {
            self.pass_hole(at..range.start, |part| {
                hasher.update(part);
            })?;
            let sent = self.send_range(range.clone(), |bytes| {
                hasher.update(bytes);
            })?;
            if let Err(err) = sent {
                return Ok(Err(err));
            }
            at = range.end;
        }
        self.pass_hole(at..len, |part| {
            hasher.update(part);
        })?;
        Ok(Ok(hasher.finalize().into()))
    }

    /// Hands a hole's zeros to `each`, and lets the destination follow.
    fn pass_hole(&self, hole: Range<u64>, mut each: impl FnMut(&[u8])) -> Result<()> {
        let mut at = hole.start;
        while at < hole.end {
            let step = (hole.end - at).min(HOLE_STEP);
            zeros(step, self.serving.role.cancel, &mut each)?;
            at += step;
            if step == HOLE_STEP {
                self.serving
                    .outbox
                    .send_paid(encode_data(self.id, at, &[]))?;
            }
        }
        Ok(())
    }

    fn send_range(
        &mut self,
        range: Range<u64>,
        mut each: impl FnMut(&[u8]),
    ) -> Result<io::Result<()>> {
        let mut at = range.start;
        while at < range.end {
            self.serving.role.cancel.check()?;
            let want = (range.end - at).min(DATA_BYTES as u64) as usize;
            if let Err(err) = self.file.read_exact_at(&mut self.buffer[..want], at) {
                return Ok(Err(err));
            }
            let bytes = &self.buffer[..want];
            each(bytes);
            self.serving
                .throttle
                .spend(want, self.serving.role.cancel)?;
            self.serving
                .outbox
                .send_paid(encode_data(self.id, at, bytes))?;
            at += want as u64;
        }
        Ok(Ok(()))
    }

    fn until_cancelled(&self) -> UntilCancelled<'_, File> {
        UntilCancelled(&self.file, self.serving.role.cancel)
    }

    /// Finds what the destination has already.
    fn draft(&self, len: u64, basis: Basis) -> Result<io::Result<(ContentHash, Vec<Op>)>> {
        let threads = delta::threads();
        let file = self.until_cancelled();
        match basis.sums {
            BasisSums::Same(old) => Ok((|| {
                let hash = hash_file(&file, len)?;
                let op = match hash == old && len == basis.len {
                    true => Op::Copy {
                        basis_offset: 0,
                        len,
                    },
                    false => Op::Literal { len },
                };
                Ok((hash, vec![op]))
            })()),
            BasisSums::Search(signature) => {
                if signature.spec().basis_len() != basis.len {
                    return Err(Error::protocol("a signature of another basis"));
                }
                Ok((|| {
                    let hash = hash_file(&file, len)?;
                    let mut draft = Draft::blank(basis.len, len);
                    draft.search(&signature, &file, threads)?;
                    Ok((hash, draft.into_ops()))
                })())
            }
            BasisSums::Staged { block, sums } => {
                let old = BlockSums::from_bytes(block, basis.len, &sums)?;
                let started = sum_file(&file, len, block, threads).and_then(|(hash, new)| {
                    let draft = match new {
                        Some(new) => Draft::aligned(&old, &new.sums(), &file)?,
                        None => Draft::blank(basis.len, len),
                    };
                    Ok((hash, draft))
                });
                match started {
                    Ok((hash, draft)) => self.refine(hash, draft),
                    Err(err) => Ok(Err(err)),
                }
            }
        }
    }

    /// Asks for what may close the draft further, as long as there is something.
    fn refine(
        &self,
        hash: ContentHash,
        mut draft: Draft,
    ) -> Result<io::Result<(ContentHash, Vec<Op>)>> {
        while let Some(spec) = self.next_spec(&mut draft) {
            let slot = self.serving.sums.open(self.id);
            self.serving.outbox.say(&FromSource::WantSums {
                id: self.id,
                spec: spec.clone(),
            })?;
            // No answer means that the basis went away: what is known serves.
            let Some(signature) = slot.take() else {
                self.serving.role.cancel.check()?;
                break;
            };
            if *signature.spec() != spec {
                return Err(Error::protocol("another signature than was asked for"));
            }
            if let Err(err) = draft.search(&signature, &self.until_cancelled(), delta::threads()) {
                return Ok(Err(err));
            }
        }
        Ok(Ok((hash, draft.into_ops())))
    }

    /// What else to ask for.
    fn next_spec(&self, draft: &mut Draft) -> Option<SignatureSpec> {
        let options = self.serving.role.options;
        // In place nothing can move: a search would find nothing of use.
        let spec = draft.request().filter(|_| !options.write.inplace)?;
        let Some(block) = options.transfer.block_bytes else {
            return Some(spec);
        };
        // The user chose the size of a block, also of those that may have moved.
        let window = WindowSize::new(block).ok()?;
        let open: u64 = draft
            .open_regions()
            .iter()
            .map(|open| open.end - open.start)
            .sum();
        SignatureSpec::whole_in(spec.basis_len(), window)
            .ok()
            .filter(|spec| spec.wire_bytes() < open)
    }

    /// Sends copies and literals in the order of the new file, less what is a hole in it.
    fn send_ops(&mut self, ops: &[Op], data: &[Range<u64>]) -> Result<io::Result<()>> {
        let mut copies = Vec::new();
        let mut at = 0;
        let mut told = 0;
        for op in ops {
            let len = match *op {
                Op::Copy { len, .. } | Op::Literal { len } => len,
            };
            for range in overlaps(data, at..at + len) {
                if range.start - told >= HOLE_STEP {
                    self.send_copies(&mut copies)?;
                    self.pass_hole(told..range.start, |_| {})?;
                }
                told = range.end;
                match *op {
                    Op::Copy { basis_offset, .. } => copies.push(CopyRange {
                        to: range.start,
                        from: basis_offset + (range.start - at),
                        len: range.end - range.start,
                    }),
                    Op::Literal { .. } => {
                        self.send_copies(&mut copies)?;
                        if let Err(err) = self.send_range(range, |_| {})? {
                            return Ok(Err(err));
                        }
                    }
                }
                if copies.len() >= COPIES_A_MESSAGE {
                    self.send_copies(&mut copies)?;
                }
            }
            at += len;
        }
        self.send_copies(&mut copies)?;
        self.pass_hole(told..at, |_| {})?;
        Ok(Ok(()))
    }

    fn send_copies(&self, copies: &mut Vec<CopyRange>) -> Result<()> {
        if copies.is_empty() {
            return Ok(());
        }
        let ops = std::mem::take(copies);
        self.serving
            .outbox
            .say_paid(&FromSource::Copies { id: self.id, ops })
    }
}

/// The parts of sorted `ranges` that lie in `within`.
fn overlaps(ranges: &[Range<u64>], within: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let first = ranges.partition_point(|range| range.end <= within.start);
    ranges[first..]
        .iter()
        .take_while(move |range| range.start < within.end)
        .map(move |range| range.start.max(within.start)..range.end.min(within.end))
        .filter(|range| !range.is_empty())
}
