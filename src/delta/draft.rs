//! A draft: what the sender knows so far of how to build the new file out of the basis. Each round
//! with the receiver closes some of its open regions; what stays open becomes literals.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;

use super::index::Index;
use super::search::search;
use super::signature::append_entries;
use super::sums::sum_at;
use super::{BlockSums, ReadAt, Signature, SignatureSpec, WindowSize};

/// A signature of the whole basis costs the receiver a read of it and the search a second pass; it
/// is wanted when it takes less than a 64th of what it may save.
const WHOLE_MIN_GAIN: u64 = 64;

/// The next bytes of the new file: a delta is these in order, never an empty one. How a file is
/// really built of them is `apply`'s business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// Bytes of the new file that are also in the basis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) new_offset: u64,
    pub(super) basis_offset: u64,
    pub(super) len: u64,
}

impl Match {
    pub(super) fn new_end(&self) -> u64 {
        self.new_offset + self.len
    }

    /// The part of the match from `start` of the new file on.
    pub(super) fn without_before(self, start: u64) -> Option<Match> {
        let cut = start.saturating_sub(self.new_offset);
        (cut < self.len).then(|| Match {
            new_offset: self.new_offset + cut,
            basis_offset: self.basis_offset + cut,
            len: self.len - cut,
        })
    }

    /// Appends the match, as part of the last one where it continues that.
    pub(super) fn push_onto(self, matches: &mut Vec<Match>) {
        match matches.last_mut() {
            Some(last)
                if last.new_end() == self.new_offset
                    && last.basis_offset + last.len == self.basis_offset =>
            {
                last.len += self.len;
            }
            _ => matches.push(self),
        }
    }
}

/// How to build the new file, as far as it is known.
#[derive(Clone, Debug)]
pub struct Draft {
    basis_len: u64,
    new_len: u64,
    /// In the order of the new file, apart from each other.
    matches: Vec<Match>,
    asked: Asked,
}

/// What the receiver was asked for already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    Nothing,
    Parts,
    Whole,
}

impl Draft {
    /// A draft that knows nothing yet.
    pub fn blank(basis_len: u64, new_len: u64) -> Draft {
        Draft {
            basis_len,
            new_len,
            matches: Vec::new(),
            asked: Asked::Nothing,
        }
    }

    /// A draft of all blocks that both files have at the same place.
    ///
    /// Sums in blocks of different sizes share nothing. `new` is read only where the basis's last,
    /// short block may go on in it.
    pub fn aligned(
        basis: &BlockSums,
        new_sums: &BlockSums,
        new: &(impl ReadAt + ?Sized),
    ) -> io::Result<Draft> {
        let mut draft = Draft::blank(basis.file_len(), new_sums.file_len());
        let block = basis.block();
        if block != new_sums.block() {
            return Ok(draft);
        }
        let both = basis.sums().iter().zip(new_sums.sums());
        let shared = draft.basis_len.min(draft.new_len);
        let equal = (0u64..).zip(both).filter(|(_, (old, new))| old == new);
        for start in equal.map(|(i, _)| i * block.bytes()) {
            draft.push_in_place(start..shared.min(start + block.bytes()));
        }
        let tail = draft.basis_len - draft.basis_len % block.bytes()..draft.basis_len;
        if let Some(sum) = basis.sums().last()
            && !tail.is_empty()
            && draft.new_len > draft.basis_len
        {
            let mut bytes = vec![0; (tail.end - tail.start) as usize];
            new.read_exact_at(&mut bytes, tail.start)?;
            if sum_at(&bytes, tail.start) == *sum {
                draft.push_in_place(tail);
            }
        }
        Ok(draft)
    }

    fn push_in_place(&mut self, range: Range<u64>) {
        Match {
            new_offset: range.start,
            basis_offset: range.start,
            len: range.end - range.start,
        }
        .push_onto(&mut self.matches);
    }

    /// The signature of the basis that may close more of the draft for less than it costs; `None`
    /// when the draft is as good as it gets. To be asked again after each search.
    ///
    /// The first is of those parts of the basis that the new file has not got in place: edits
    /// and what they displaced. Its windows fit the size of these parts alone, so that scattered
    /// edits of a large file get small ones. The second, of the whole basis, is for what may be
    /// copied from parts that are still in place. There is none when the basis is in place as a
    /// whole: appended bytes are new ones nearly always, and a log's standby need not be read.
    pub fn request(&mut self) -> Option<SignatureSpec> {
        let open = total(&self.open_regions());
        let parts = self.displaced();
        let parts_len = total(&parts);
        if self.asked < Asked::Parts && parts_len > 0 {
            self.asked = Asked::Parts;
            // Of a basis that lost much more than there is to find, only what lies nearby.
            let near = common(&parts, &self.open_regions());
            let spec = [parts, near].into_iter().find_map(|ranges| {
                let window = WindowSize::for_len(total(&ranges));
                SignatureSpec::new(self.basis_len, window, ranges)
                    .ok()
                    .filter(|spec| (1..open).contains(&spec.wire_bytes()))
            });
            if spec.is_some() {
                return spec;
            }
        }
        if self.asked < Asked::Whole && (1..self.basis_len).contains(&parts_len) {
            self.asked = Asked::Whole;
            let spec = SignatureSpec::whole(self.basis_len).ok();
            return spec.filter(|spec| spec.wire_bytes() * WHOLE_MIN_GAIN <= open);
        }
        None
    }

    /// The parts of the basis that are not in place in the new file.
    fn displaced(&self) -> Vec<Range<u64>> {
        let in_place = self
            .matches
            .iter()
            .filter(|found| found.new_offset == found.basis_offset)
            .map(|found| found.new_offset..found.new_end());
        gaps(in_place, self.basis_len)
    }

    /// The regions of the new file that are not found in the basis yet.
    pub fn open_regions(&self) -> Vec<Range<u64>> {
        let closed = self
            .matches
            .iter()
            .map(|found| found.new_offset..found.new_end());
        gaps(closed, self.new_len)
    }

    /// Searches the open regions of the new file for the signature's blocks, on up to `threads`
    /// threads. Any signature will do; one of another basis leads to operations that the receiver
    /// refuses, or to another content hash.
    pub fn search(
        &mut self,
        signature: &Signature,
        new: &(impl ReadAt + ?Sized),
        threads: NonZeroUsize,
    ) -> io::Result<()> {
        let found = search(&Index::new(signature), new, &self.open_regions(), threads)?;
        self.merge(found);
        self.match_tail(signature, new)
    }

    /// Adds matches that lie in the open regions.
    fn merge(&mut self, found: Vec<Match>) {
        let mut all = std::mem::take(&mut self.matches);
        all.extend(found);
        // Two sorted runs: the stable sort merges them in one pass.
        all.sort_by_key(|found| found.new_offset);
        for found in all {
            found.push_onto(&mut self.matches);
        }
    }

    /// Closes the end of the new file with the basis's last block if that is short: no window
    /// finds it. Where it continues a run it is also found before appended bytes.
    fn match_tail(
        &mut self,
        signature: &Signature,
        new: &(impl ReadAt + ?Sized),
    ) -> io::Result<()> {
        let spec = signature.spec();
        let last = (signature.entries().len() as u32).checked_sub(1);
        let Some((tail, entry)) = last
            .and_then(|last| spec.block(last))
            .filter(|tail| tail.end - tail.start < spec.window().bytes())
            .zip(signature.entries().last())
        else {
            return Ok(());
        };
        let len = tail.end - tail.start;
        let continued = self
            .matches
            .iter()
            .rfind(|found| found.basis_offset + found.len == tail.start)
            .map(Match::new_end);
        let mut bytes = vec![0; len as usize];
        for new_offset in continued.into_iter().chain(self.new_len.checked_sub(len)) {
            let open = self.open_regions();
            if !open
                .iter()
                .any(|r| r.start <= new_offset && new_offset + len <= r.end)
            {
                continue;
            }
            new.read_exact_at(&mut bytes, new_offset)?;
            let mut entries = Vec::with_capacity(1);
            append_entries(&bytes, spec.window(), &mut entries);
            if entries.first() == Some(entry) {
                let basis_offset = tail.start;
                self.merge(vec![Match {
                    new_offset,
                    basis_offset,
                    len,
                }]);
            }
        }
        Ok(())
    }

    /// The finished delta: what is still open is sent as it is.
    pub fn into_ops(self) -> Vec<Op> {
        let mut ops = Vec::with_capacity(self.matches.len() * 2 + 1);
        let mut at = 0;
        for found in &self.matches {
            if found.new_offset > at {
                let len = found.new_offset - at;
                ops.push(Op::Literal { len });
            }
            ops.push(Op::Copy {
                basis_offset: found.basis_offset,
                len: found.len,
            });
            at = found.new_end();
        }
        if self.new_len > at {
            let len = self.new_len - at;
            ops.push(Op::Literal { len });
        }
        ops
    }
}

/// What `taken`, in order and apart, leaves of `0..len`.
fn gaps(taken: impl Iterator<Item = Range<u64>>, len: u64) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut at = 0;
    for range in taken.chain(std::iter::once(len..len)) {
        if range.start > at {
            gaps.push(at..range.start);
        }
        at = range.end;
    }
    gaps
}

fn total(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

/// What two lists of ranges, each in order and apart, have in common.
fn common(a: &[Range<u64>], b: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut common = Vec::new();
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(left), Some(right)) = (a.peek(), b.peek()) {
        let both = left.start.max(right.start)..left.end.min(right.end);
        if left.end < right.end {
            a.next();
        } else {
            b.next();
        }
        if !both.is_empty() {
            common.push(both);
        }
    }
    common
}
