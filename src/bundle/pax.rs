//! PAX records: what a header block has no room for, each a line `LENGTH KEY=VALUE` whose length
//! counts the line whole, so that a value may hold any bytes.

use std::io;

use super::damaged;

/// All records of one member at most, in bytes: a path of 1 MiB and a hundred attributes of the
/// longest that Linux hands out.
pub(super) const MAX_BYTES: u64 = 8 << 20;

/// Appends a record.
pub(super) fn push(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // A space, an equals sign and a newline.
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    // The length has digits that it counts as well: at most one more than without them.
    while rest + digits(len) != len {
        len = rest + digits(len);
    }
    out.extend_from_slice(len.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// Key and value of one record.
pub(super) type Record<'a> = (&'a [u8], &'a [u8]);

/// Reads records one by one; after one that makes no sense comes no other.
pub(super) fn records(bytes: &[u8]) -> impl Iterator<Item = io::Result<Record<'_>>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((record, after)) = split(rest) else {
            rest = &[];
            return Some(Err(damaged("a PAX record makes no sense")));
        };
        rest = after;
        Some(Ok(record))
    })
}

fn split(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    // No length has more digits than the largest of all records.
    let space = bytes.iter().take(8).position(|&byte| byte == b' ')?;
    let digits = &bytes[..space];
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let len: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..len)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    Some(((&record[..equals], &record[equals + 1..]), &bytes[len..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_counts_its_own_digits() {
        let mut out = Vec::new();
        push(&mut out, b"k", b"");
        assert_eq!(out, b"5 k=\n");
        for value_len in 0..2000 {
            let value = vec![b'\n'; value_len];
            let mut out = Vec::new();
            push(&mut out, b"SCHILY.xattr.user.x", &value);
            push(&mut out, b"uid", b"7");
            let read: Vec<_> = records(&out).map(Result::unwrap).collect();
            let expected: [Record; 2] = [(b"SCHILY.xattr.user.x", &value), (b"uid", b"7")];
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn nonsense_is_an_error_and_the_end() {
        for bad in [
            &b"x"[..],
            b"5",
            b" k=v\n",
            b"0 k=v\n",
            b"3 k=v\n",
            b"99 k=v\n",
            b"6 k=vv\n",
            b"6 kkk\n",
            b"-6 k=v\n",
            b"99999999999999999999 k=v\n",
        ] {
            let read: Vec<_> = records(bad).collect();
            assert_eq!(read.len(), 1, "{bad:?}");
            assert!(read[0].is_err(), "{bad:?}");
        }
    }
}
