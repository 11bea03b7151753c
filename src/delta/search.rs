//! The rolling search: finds a basis's blocks at any offset of the new file. Which regions are
//! worth it, and what becomes of the matches, is decided in `draft`.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::index::Index;
use super::parallel;
use super::rolling::Rolling;
use super::signature::{Entry, append_entries, sample, sample_of};
use super::{MAX_BLOCKS, Match, ReadAt};

/// How much of the new file a thread takes at a time.
const PIECE_BYTES: u64 = 16 << 20;

/// How much a thread holds in memory, if that is four windows or more. Beyond the second-level
/// cache nothing gets faster, and a window at the end of one fill is read again by the next.
const FILL_BYTES: u64 = 1 << 20;

/// After so many bytes without one match only samples of the rest are searched: about a third of a
/// second on two cores at the measured 0.45 GB/s each, and far more than an edit inserts.
const HOPEFUL_BYTES: u64 = 256 << 20;

/// Of a piece that is only sampled, the part that is searched: the cost of a hopeless search is a
/// sixteenth, and a shifted run of 16 MiB is still found.
const SAMPLE_BYTES: u64 = PIECE_BYTES / 16;

/// How many windows the first batch after a match tries to follow: as many as `fast_rsync` sums
/// for the price of two.
const FIRST_BATCH: usize = 8;

/// Windows whose MD4 was computed in vain may add up to so many times the bytes rolled over. A
/// random basis never comes near; sums made to collide with the new file end the piece.
const VAIN_FACTOR: u64 = 2;

/// What is searched: `starts` are the offsets where a match may start, `end` where it must end.
#[derive(Clone, Debug)]
struct Piece {
    starts: Range<u64>,
    end: u64,
}

/// Finds blocks of the signature in `regions` of the new file, which are in order and apart.
///
/// The matches are in order, apart, and inside the regions. Memory is [`FILL_BYTES`] or four
/// windows a thread, besides the matches; these stop at [`MAX_BLOCKS`].
pub(super) fn search(
    index: &Index<'_>,
    file: &(impl ReadAt + ?Sized),
    regions: &[Range<u64>],
    threads: NonZeroUsize,
) -> io::Result<Vec<Match>> {
    let window = index.signature.spec().window().bytes();
    let pieces: Vec<Piece> = regions
        .iter()
        .flat_map(|region| {
            let end = region.end;
            let starts = region.start..(end + 1).saturating_sub(window).max(region.start);
            parallel::cut(starts, PIECE_BYTES).map(move |starts| Piece { starts, end })
        })
        .collect();
    let found = AtomicU64::new(0);
    let run = |pieces: &[Piece]| -> io::Result<Vec<Match>> {
        let parts = parallel::map(pieces, threads, |piece, buf| {
            if found.load(Ordering::Relaxed) >= MAX_BLOCKS {
                return Ok(Vec::new());
            }
            let matches = Walk::new(index, file, piece.end, buf).run(piece.starts.clone())?;
            found.fetch_add(matches.len() as u64, Ordering::Relaxed);
            Ok(matches)
        })?;
        Ok(join(parts))
    };

    let hopeful = pieces.len().min((HOPEFUL_BYTES / PIECE_BYTES) as usize);
    let (first, rest) = pieces.split_at(hopeful);
    let mut matches = run(first)?;
    if matches.is_empty() && !rest.is_empty() {
        let samples: Vec<Piece> = rest.iter().map(|piece| piece.sample(window)).collect();
        if run(&samples)?.is_empty() {
            return Ok(matches);
        }
    }
    matches.extend(run(rest)?);
    Ok(matches)
}

impl Piece {
    fn sample(&self, window: u64) -> Piece {
        let end = self.starts.start + SAMPLE_BYTES.max(window);
        Piece {
            starts: self.starts.start..self.starts.end.min(end),
            end: self.end,
        }
    }
}

/// Joins the pieces' matches: the last one of a piece may reach into the next piece.
fn join(parts: Vec<Vec<Match>>) -> Vec<Match> {
    let mut joined = Vec::with_capacity(parts.iter().map(Vec::len).sum());
    let mut end = 0;
    for found in parts.into_iter().flatten() {
        if let Some(found) = found.without_before(end) {
            end = found.new_end();
            found.push_onto(&mut joined);
        }
    }
    joined
}

/// One walk over a piece: rolls to the first match, follows the run, rolls on.
struct Walk<'a, R: ?Sized> {
    index: &'a Index<'a>,
    file: &'a R,
    /// Where the region ends.
    end: u64,
    /// The bytes of the new file from `buf_start` on.
    buf: &'a mut Vec<u8>,
    buf_start: u64,
    window: u64,
    /// Bytes rolled over, and bytes whose MD4 was computed in vain.
    rolled: u64,
    vain: u64,
    matches: Vec<Match>,
}

impl<'a, R: ReadAt + ?Sized> Walk<'a, R> {
    fn new(index: &'a Index<'a>, file: &'a R, end: u64, buf: &'a mut Vec<u8>) -> Self {
        buf.clear();
        Walk {
            index,
            file,
            end,
            buf,
            buf_start: 0,
            window: index.signature.spec().window().bytes(),
            rolled: 0,
            vain: 0,
            matches: Vec::new(),
        }
    }

    fn run(mut self, starts: Range<u64>) -> io::Result<Vec<Match>> {
        let mut at = starts.start;
        // Most edits move nothing: the first guess is that the piece lies where it lay.
        if let Some(block) = self.index.signature.spec().starting_at(at) {
            at = self.follow(at, block, starts.end)?;
        }
        while at < starts.end {
            let Some((found, block)) = self.roll(at, starts.end)? else {
                break;
            };
            self.take(found, block);
            at = self.follow(found + self.window, block + 1, starts.end)?;
        }
        Ok(self.matches)
    }

    /// Rolls from `at` to the first window that is a block of the basis, or gives up.
    fn roll(&mut self, mut at: u64, stop: u64) -> io::Result<Option<(u64, u32)>> {
        let (index, window) = (self.index, self.window);
        while at < stop && self.vain <= VAIN_FACTOR * (self.rolled + FILL_BYTES) {
            let data = self.view(at, window)?;
            let starts = (data.len() as u64 - window + 1).min(stop - at);
            let data = &data[..(starts - 1 + window) as usize];
            match roll_over(index, data, window as usize) {
                Some(offset) => {
                    self.rolled += offset as u64;
                    at += offset as u64;
                    if let Some(block) = self.confirm(at)? {
                        return Ok(Some((at, block)));
                    }
                    at += 1;
                }
                None => {
                    self.rolled += starts;
                    at += starts;
                }
            }
        }
        Ok(None)
    }

    /// The block that the window at `at`, whose sample matched, really is.
    fn confirm(&mut self, at: u64) -> io::Result<Option<u32>> {
        let (index, window) = (self.index, self.window);
        let data = self.view(at, window)?;
        let mut entries = Vec::with_capacity(1);
        append_entries(
            &data[..window as usize],
            index.signature.spec().window(),
            &mut entries,
        );
        let block = entries
            .first()
            .and_then(|entry| self.which(at, None, entry));
        if block.is_none() {
            self.vain += window;
        }
        Ok(block)
    }

    /// The block with these sums: rather the one at the same place, which costs the receiver
    /// nothing, then the one that continues a run.
    fn which(&self, at: u64, next: Option<u32>, entry: &Entry) -> Option<u32> {
        let in_place = self.index.signature.spec().starting_at(at);
        [in_place, next]
            .into_iter()
            .flatten()
            .find(|block| self.index.is(*block, entry))
            .or_else(|| self.index.find(entry))
    }

    /// Follows a run whose next block is `block`, in growing batches, over blocks that changed in
    /// place, and returns where the run ends.
    fn follow(&mut self, mut at: u64, mut block: u32, stop: u64) -> io::Result<u64> {
        let (index, window) = (self.index, self.window);
        let mut batch = FIRST_BATCH;
        let mut gap = None;
        let mut entries = Vec::new();
        'run: while at < stop {
            let wanted = (stop - at).min(batch as u64 * window).max(window);
            let data = self.view(at, wanted)?;
            let windows = (data.len() as u64).min(wanted) / window;
            let data = &data[..(windows * window) as usize];
            entries.clear();
            append_entries(data, index.signature.spec().window(), &mut entries);
            for entry in &entries {
                match self.which(at, Some(block), entry) {
                    Some(found) => {
                        self.take(at, found);
                        block = found;
                        gap = None;
                    }
                    // Two changed blocks in a row: what follows has moved, or is new.
                    None if gap.is_some() => break 'run,
                    None => gap = Some(at),
                }
                block = block.saturating_add(1);
                at += window;
            }
            batch *= 2;
        }
        Ok(gap.unwrap_or(at))
    }

    fn take(&mut self, at: u64, block: u32) {
        if let Some(range) = self.index.signature.spec().block(block) {
            Match {
                new_offset: at,
                basis_offset: range.start,
                len: range.end - range.start,
            }
            .push_onto(&mut self.matches);
        }
    }

    /// The bytes from `at` on that are in memory: at least a window, and up to `wanted` of them if
    /// a fill allows. `at` is at least a window before the region's end.
    fn view(&mut self, at: u64, wanted: u64) -> io::Result<&[u8]> {
        let buf_end = self.buf_start + self.buf.len() as u64;
        let room = FILL_BYTES.max(4 * self.window).min(self.end - at);
        if at < self.buf_start || at + wanted.min(room) > buf_end {
            self.buf.resize(room as usize, 0);
            self.buf_start = at;
            self.file.read_exact_at(self.buf, at)?;
        }
        Ok(&self.buf[(at - self.buf_start) as usize..])
    }
}

/// The first offset of `data` whose window has a block's rolling sum and sample.
fn roll_over(index: &Index<'_>, data: &[u8], window: usize) -> Option<usize> {
    let window_log2 = window.ilog2();
    let mut rolling = Rolling::of(&data[..window]);
    let moves = data.iter().zip(&data[window..]);
    for (at, (leaves, enters)) in moves.enumerate() {
        let sum = rolling.value();
        if index.may_have(sum) && is_likely(index, sum, &data[at..at + window]) {
            return Some(at);
        }
        rolling.roll(window_log2, *leaves, *enters);
    }
    let (last, sum) = (data.len() - window, rolling.value());
    (index.may_have(sum) && is_likely(index, sum, &data[last..])).then_some(last)
}

/// Whether a block has this rolling sum and the window's sample. Out of line: it is rarely called,
/// and inlined it takes the registers that the loop above needs.
#[inline(never)]
fn is_likely(index: &Index<'_>, sum: u32, window: &[u8]) -> bool {
    let mut candidates = index.with_rolling(sum).peekable();
    candidates.peek().is_some() && {
        let sample = sample(window);
        candidates.any(|(_, entry)| sample_of(entry) == sample)
    }
}
