//! A list that may become very long: its first values are kept as they are, further ones as their
//! bytes, and of each one's name or path only what differs from the one before. Short lists, which
//! nearly all are, cost nothing for it; of a huge directory a row takes some 50 bytes instead of
//! 300.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::Bytes;

/// So many values are kept as they are. Directories and plans seldom have more.
const VALUES: usize = 1024;

/// How long a block of packed values becomes, in bytes. It is what an emptied list gives back at a
/// time, and what the last block may waste.
const BLOCK: usize = 64 << 10;

/// A value that can be kept as its bytes.
pub trait Pack: Clone {
    /// All of it but the key, as it is written.
    type Rest<'a>: Serialize
    where
        Self: 'a;
    /// The same, as it is read.
    type Read: DeserializeOwned;

    /// What neighbours have in common at its start: a name, or a path.
    fn key(&self) -> &[u8];

    /// All of it but the key.
    fn rest(&self) -> Self::Rest<'_>;

    /// Joins both again; `None` never, for what [`Pack::key`] and [`Pack::rest`] gave.
    fn join(key: &[u8], rest: Self::Read) -> Option<Self>;
}

/// The list.
#[derive(Clone)]
pub struct Compact<T> {
    first: Vec<T>,
    blocks: Vec<Vec<u8>>,
    /// Of the last value, where that is packed.
    last_key: Vec<u8>,
    len: usize,
}

impl<T: Pack> Compact<T> {
    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a value at the end.
    pub fn push(&mut self, value: T) {
        self.len += 1;
        if self.first.len() < VALUES {
            self.first.push(value);
        } else {
            self.pack(&value);
        }
    }

    fn pack(&mut self, value: &T) {
        if self.blocks.last().is_none_or(|block| block.len() >= BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK + BLOCK / 16));
            self.last_key.clear();
        }
        let Some(block) = self.blocks.last_mut() else {
            return;
        };
        let key = value.key();
        let same = key.iter().zip(&self.last_key).take_while(|(a, b)| a == b);
        let shared = same.count();
        let packed = (shared as u32, Bytes::new(&key[shared..]), value.rest());
        *block = postcard::to_extend(&packed, std::mem::take(block))
            .expect("a vector takes all that is written");
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
    }

    /// The values in their order.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter {
            first: self.first.iter(),
            blocks: self.blocks.iter(),
            rest: &[],
            key: Vec::new(),
        }
    }

    /// Keeps those that `keep` approves of.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let all = std::mem::take(self);
        self.extend(all.into_iter().filter(|value| keep(value)));
    }
}

/// Reads the next packed value.
fn unpack<'a, T: Pack>(bytes: &'a [u8], key: &mut Vec<u8>) -> (T, &'a [u8]) {
    let ((shared, differs, read), rest): ((u32, &[u8], T::Read), _) =
        postcard::take_from_bytes(bytes).expect("what was packed can be read");
    key.truncate(shared as usize);
    key.extend_from_slice(differs);
    let value = T::join(key, read).expect("what was packed can be joined");
    (value, rest)
}

/// Goes through a list.
pub struct Iter<'a, T> {
    first: std::slice::Iter<'a, T>,
    blocks: std::slice::Iter<'a, Vec<u8>>,
    rest: &'a [u8],
    key: Vec<u8>,
}

impl<'a, T: Pack> Iterator for Iter<'a, T> {
    type Item = Cow<'a, T>;

    fn next(&mut self) -> Option<Cow<'a, T>> {
        if let Some(value) = self.first.next() {
            return Some(Cow::Borrowed(value));
        }
        if self.rest.is_empty() {
            self.rest = self.blocks.next()?;
            self.key.clear();
        }
        let (value, rest) = unpack(self.rest, &mut self.key);
        self.rest = rest;
        Some(Cow::Owned(value))
    }
}

/// Goes through a list and gives back its memory on the way.
pub struct IntoIter<T> {
    first: std::vec::IntoIter<T>,
    blocks: std::vec::IntoIter<Vec<u8>>,
    block: Vec<u8>,
    at: usize,
    key: Vec<u8>,
}

impl<T: Pack> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if let Some(value) = self.first.next() {
            return Some(value);
        }
        if self.at == self.block.len() {
            self.block = self.blocks.next()?;
            self.at = 0;
            self.key.clear();
        }
        let (value, rest) = unpack(&self.block[self.at..], &mut self.key);
        self.at = self.block.len() - rest.len();
        Some(value)
    }
}

impl<T: Pack> IntoIterator for Compact<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter {
            first: self.first.into_iter(),
            blocks: self.blocks.into_iter(),
            block: Vec::new(),
            at: 0,
            key: Vec::new(),
        }
    }
}

impl<'a, T: Pack> IntoIterator for &'a Compact<T> {
    type Item = Cow<'a, T>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T: Pack> Extend<T> for Compact<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        values.into_iter().for_each(|value| self.push(value));
    }
}

impl<T: Pack> FromIterator<T> for Compact<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Compact<T> {
        let mut list = Compact::default();
        list.extend(values);
        list
    }
}

impl<T> Default for Compact<T> {
    fn default() -> Compact<T> {
        Compact {
            first: Vec::new(),
            blocks: Vec::new(),
            last_key: Vec::new(),
            len: 0,
        }
    }
}

impl<T> fmt::Debug for Compact<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compact({} values)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Pair(String, u64);

    impl Pack for Pair {
        type Rest<'a> = u64;
        type Read = u64;

        fn key(&self) -> &[u8] {
            self.0.as_bytes()
        }

        fn rest(&self) -> u64 {
            self.1
        }

        fn join(key: &[u8], rest: u64) -> Option<Pair> {
            Some(Pair(String::from_utf8(key.to_vec()).ok()?, rest))
        }
    }

    fn pairs(count: u64) -> Vec<Pair> {
        let names = |i: u64| match i % 7 {
            0 => String::new(),
            1 => "a".repeat((i % 300) as usize),
            _ => format!("directory-{}/name-{i:07}", i / 1000),
        };
        (0..count).map(|i| Pair(names(i), i * i)).collect()
    }

    #[test]
    fn lists_of_all_lengths_come_back() {
        for count in [0, 1, VALUES as u64, VALUES as u64 + 1, 50_000] {
            let pairs = pairs(count);
            let list: Compact<Pair> = pairs.iter().cloned().collect();
            assert_eq!(list.len(), pairs.len());
            assert_eq!(list.is_empty(), pairs.is_empty());
            assert!(list.iter().map(Cow::into_owned).eq(pairs.iter().cloned()));
            assert!(list.into_iter().eq(pairs));
        }
    }

    #[test]
    fn values_that_are_not_kept_leave_the_others_in_order() {
        let mut list: Compact<Pair> = pairs(20_000).into_iter().collect();
        list.retain(|pair| pair.1 % 3 == 0);
        let expected = pairs(20_000).into_iter().filter(|pair| pair.1 % 3 == 0);
        assert!(list.into_iter().eq(expected));
    }

    #[test]
    fn a_long_list_takes_a_fraction_of_its_values() {
        let name = |i: u64| format!("a-name-of-usual-length-{i:07}");
        let list: Compact<Pair> = (0..100_000).map(|i| Pair(name(i), i)).collect();
        let packed: usize = list.blocks.iter().map(Vec::capacity).sum();
        assert!(packed < 100_000 * 9, "{packed} bytes");
    }
}
