//! Work over the pieces of a file on several threads, with results in the pieces' order; apart so
//! that sums, signatures and the search share one loop.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How many threads one file's bytes are worth: one for each processor.
pub fn threads() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Cuts `range` into pieces of `len` bytes; the last one may be short.
pub(super) fn cut(range: Range<u64>, len: u64) -> impl Iterator<Item = Range<u64>> {
    let count = (range.end - range.start).div_ceil(len);
    (0..count).map(move |i| {
        let start = range.start + i * len;
        start..range.end.min(start.saturating_add(len))
    })
}

/// Calls `work` for every piece on up to `threads` threads and returns the results in order.
///
/// Each thread has one scratch buffer that it hands to every call. The first fault ends the work.
pub(super) fn map<P: Sync, T: Send>(
    pieces: &[P],
    threads: NonZeroUsize,
    work: impl Fn(&P, &mut Vec<u8>) -> io::Result<T> + Sync,
) -> io::Result<Vec<T>> {
    let threads = threads.get().min(pieces.len());
    if threads <= 1 {
        let mut scratch = Vec::new();
        return pieces
            .iter()
            .map(|piece| work(piece, &mut scratch))
            .collect();
    }
    let next = AtomicUsize::new(0);
    let worker = || -> io::Result<Vec<(usize, T)>> {
        let mut scratch = Vec::new();
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = pieces.get(i) else {
                return Ok(done);
            };
            // A fault uses up the remaining pieces, so that the other threads stop as well.
            let result = work(piece, &mut scratch)
                .inspect_err(|_| next.store(pieces.len(), Ordering::Relaxed))?;
            done.push((i, result));
        }
    };
    let mut done = Vec::with_capacity(pieces.len());
    thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for handle in handles {
            match handle.join() {
                Ok(results) => done.extend(results?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        io::Result::Ok(())
    })?;
    done.sort_unstable_by_key(|(i, _)| *i);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

    #[test]
    fn results_keep_the_order_of_the_pieces() {
        let pieces: Vec<_> = cut(0..1001, 10).collect();
        let starts = map(&pieces, TWO, |piece, _| Ok(piece.start)).unwrap();
        assert_eq!(starts, (0..101).map(|i| i * 10).collect::<Vec<_>>());
        assert_eq!(pieces.last(), Some(&(1000..1001)));
    }

    #[test]
    fn one_fault_is_the_result() {
        let pieces: Vec<_> = cut(0..1000, 10).collect();
        let result = map(&pieces, TWO, |piece, _| match piece.start {
            500 => Err(io::Error::other("bad sector")),
            _ => Ok(()),
        });
        assert_eq!(result.unwrap_err().to_string(), "bad sector");
    }
}
