//! The map of a sparse file, in the form that GNU tar calls 1.0: where its data lies, as decimal
//! lines before the data itself, filled up to a whole block.

use std::io::{self, Read};
use std::ops::Range;

use super::damaged;
use super::ustar::{BLOCK, padding};

/// The most pieces that a file's data has in a bundle: their map then takes 64 MiB of memory.
pub(super) const MAX_EXTENTS: usize = 1 << 22;

/// The longest file that is read from a bundle, in bytes: the longest of ext4. Its holes are hashed
/// as zeros, and that of more than this would take hours for nothing that was ever stored.
pub(super) const MAX_LEN: u64 = 16 << 40;

/// Brings the pieces of data of a file down to a number that a map can have: the last one then
/// holds the holes behind it as zeros.
pub(super) fn bounded(mut extents: Vec<Range<u64>>) -> Vec<Range<u64>> {
    if let Some(end) = extents.last().map(|last| last.end)
        && extents.len() > MAX_EXTENTS
    {
        extents.truncate(MAX_EXTENTS);
        if let Some(last) = extents.last_mut() {
            last.end = end;
        }
    }
    extents
}

/// The map of a file of `len` bytes with data in `extents`, which are sorted and do not touch.
pub(super) fn encode(extents: &[Range<u64>], len: u64) -> Vec<u8> {
    // Readers know a hole at the end by an empty piece behind it.
    let end = (extents.last().is_none_or(|last| last.end < len)).then_some(len..len);
    let count = extents.len() + usize::from(end.is_some());
    let mut map = format!("{count}\n");
    for extent in extents.iter().chain(&end) {
        map.push_str(&format!(
            "{}\n{}\n",
            extent.start,
            extent.end - extent.start
        ));
    }
    let mut map = map.into_bytes();
    map.resize(map.len() + padding(map.len() as u64), 0);
    map
}

/// Reads the map of a file of `len` bytes; returns its pieces and how long the map is.
pub(super) fn decode(input: &mut impl Read, len: u64) -> io::Result<(Vec<Range<u64>>, u64)> {
    let mut lines = Lines {
        input,
        block: [0; BLOCK],
        at: BLOCK,
        read: 0,
    };
    let count = lines.number()?;
    // The last one may be the empty piece at the end.
    if count > MAX_EXTENTS as u64 + 1 {
        return Err(damaged(format!("a sparse file of {count} pieces")));
    }
    let mut extents: Vec<Range<u64>> = Vec::new();
    let mut at = 0;
    for _ in 0..count {
        let (start, bytes) = (lines.number()?, lines.number()?);
        let end = start.checked_add(bytes).filter(|&end| end <= len);
        let Some(end) = end.filter(|_| start >= at) else {
            return Err(damaged(
                "a sparse file whose pieces overlap or lie outside it",
            ));
        };
        at = end;
        if start < end {
            extents.push(start..end);
        }
    }
    Ok((extents, lines.read))
}

/// Decimal lines in whole blocks.
struct Lines<'a, R> {
    input: &'a mut R,
    block: [u8; BLOCK],
    at: usize,
    read: u64,
}

impl<R: Read> Lines<'_, R> {
    fn number(&mut self) -> io::Result<u64> {
        let nonsense = || damaged("a sparse file whose map makes no sense");
        let mut number: Option<u64> = None;
        loop {
            match self.byte()? {
                b'\n' => return number.ok_or_else(nonsense),
                digit @ b'0'..=b'9' => {
                    let next = number
                        .unwrap_or(0)
                        .checked_mul(10)
                        .and_then(|tens| tens.checked_add(u64::from(digit - b'0')));
                    number = Some(next.ok_or_else(nonsense)?);
                }
                _ => return Err(nonsense()),
            }
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        if self.at == BLOCK {
            self.input.read_exact(&mut self.block)?;
            self.read += BLOCK as u64;
            self.at = 0;
        }
        self.at += 1;
        Ok(self.block[self.at - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(extents: &[Range<u64>], len: u64) -> (Vec<Range<u64>>, u64) {
        let map = encode(extents, len);
        assert_eq!(map.len() % BLOCK, 0);
        decode(&mut &map[..], len).unwrap()
    }

    #[test]
    fn a_map_comes_back() {
        assert_eq!(round_trip(&[], 5), (vec![], 512));
        let end = 4096..8192;
        assert_eq!(
            round_trip(std::slice::from_ref(&end), 8192),
            (vec![end], 512)
        );
        let many: Vec<_> = (0..500_u64).map(|n| n * 10_000..n * 10_000 + 1).collect();
        let (extents, bytes) = round_trip(&many, MAX_LEN);
        assert_eq!(extents, many);
        assert!(bytes > 512);
    }

    #[test]
    fn the_map_is_the_one_that_gnu_tar_writes() {
        let middle = 999_424..1_003_520;
        let map = encode(&[middle], 3 << 20);
        assert!(map.starts_with(b"2\n999424\n4096\n3145728\n0\n\0"));
    }

    #[test]
    fn a_map_that_lies_is_refused() {
        for bad in [
            "1\n0\n11\n",
            "2\n0\n5\n4\n1\n",
            "2\n5\n1\n0\n1\n",
            "1\n18446744073709551615\n1\n",
            "1\n99999999999999999999\n1\n",
            "9999999\n",
            "-1\n",
            "\n",
            "x\n",
            "",
            "1\n0",
        ] {
            let mut map = bad.as_bytes().to_vec();
            map.resize(BLOCK, 0);
            assert!(decode(&mut &map[..], 10).is_err(), "{bad:?}");
        }
        assert!(decode(&mut &b"1\n"[..], 10).is_err(), "it is cut off");
    }

    #[test]
    fn more_pieces_than_a_map_can_have_become_one() {
        let many: Vec<_> = (0..=MAX_EXTENTS as u64).map(|n| 2 * n..2 * n + 1).collect();
        let end = many.last().unwrap().end;
        let bounded = bounded(many);
        assert_eq!(bounded.len(), MAX_EXTENTS);
        assert_eq!(bounded.last().unwrap().end, end);
    }
}
