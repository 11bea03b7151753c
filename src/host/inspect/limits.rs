//! Lists that fit an answer. An answer is one frame of the wire, and what a tree holds is decided
//! by whoever fills it.

use crate::protocol::errand::{Mention, Occupant};

use super::databases::Located;

/// Text that one list may hold: a quarter of the largest frame, which leaves room for the rest of
/// the answer.
const MOST_BYTES: usize = 2 << 20;

/// One thing of a list.
pub(super) trait Item {
    /// Where it stands: lists are sorted, as threads find things in any order.
    fn order(&self) -> (&str, u64);
    /// How much text it is.
    fn bytes(&self) -> usize;
}

/// A list of at most so many things and [`MOST_BYTES`] of text; the rest is counted.
#[derive(Debug)]
pub(super) struct Bounded<T> {
    items: Vec<T>,
    most: usize,
    bytes: usize,
    left_out: u64,
}

impl<T: Item> Bounded<T> {
    /// An empty list for `most` things.
    pub(super) fn new(most: usize) -> Bounded<T> {
        Bounded {
            items: Vec::new(),
            most,
            bytes: 0,
            left_out: 0,
        }
    }

    /// Adds a thing, or counts it.
    pub(super) fn push(&mut self, item: T) {
        let bytes = self.bytes.saturating_add(item.bytes());
        if self.is_full() || bytes > MOST_BYTES {
            self.left_out += 1;
            return;
        }
        self.bytes = bytes;
        self.items.push(item);
    }

    /// Whether nothing more has room, however short.
    pub(super) fn is_full(&self) -> bool {
        self.items.len() >= self.most
    }

    /// The lists of several threads as one, sorted.
    pub(super) fn join(lists: impl IntoIterator<Item = Bounded<T>>, most: usize) -> Bounded<T> {
        let mut joined = Bounded::new(most);
        let mut items = Vec::new();
        for list in lists {
            joined.left_out += list.left_out;
            items.extend(list.items);
        }
        items.sort_by(|a, b| a.order().cmp(&b.order()));
        items.into_iter().for_each(|item| joined.push(item));
        joined
    }

    /// The things, and how many others there are.
    pub(super) fn finish(self) -> (Vec<T>, u64) {
        (self.items, self.left_out)
    }
}

impl Bounded<String> {
    /// The texts; where some are left out, the last one says how many.
    pub(super) fn into_texts(self) -> Vec<String> {
        let mut texts = self.items;
        if self.left_out > 0 {
            texts.push(format!("... and {} more", self.left_out));
        }
        texts
    }
}

impl Item for String {
    fn order(&self) -> (&str, u64) {
        (self, 0)
    }

    fn bytes(&self) -> usize {
        self.len()
    }
}

impl Item for Mention {
    fn order(&self) -> (&str, u64) {
        (&self.file, self.line)
    }

    fn bytes(&self) -> usize {
        self.file.len() + self.path.len()
    }
}

impl Item for Occupant {
    fn order(&self) -> (&str, u64) {
        ("", self.pid.into())
    }

    fn bytes(&self) -> usize {
        self.command.len() + self.path.len()
    }
}

impl Item for Located {
    fn order(&self) -> (&str, u64) {
        (&self.database.path, 0)
    }

    fn bytes(&self) -> usize {
        self.database.path.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(most: usize, texts: &[&str]) -> Bounded<String> {
        let mut list = Bounded::new(most);
        texts.iter().for_each(|text| list.push(text.to_string()));
        list
    }

    #[test]
    fn what_has_no_room_is_counted() {
        assert_eq!(list(2, &["a", "b"]).into_texts(), ["a", "b"]);
        let cut = list(2, &["a", "b", "c", "d"]);
        assert_eq!(cut.into_texts(), ["a", "b", "... and 2 more"]);
    }

    #[test]
    fn long_texts_fill_the_list_before_their_number_does() {
        let long = "x".repeat(MOST_BYTES - 1);
        let (texts, left_out) = list(10, &[&long, "ab", "c"]).finish();
        assert_eq!((texts.len(), left_out), (2, 1));
        assert_eq!(texts[1], "c");
    }

    #[test]
    fn lists_of_threads_become_one_sorted_list() {
        let joined = Bounded::join([list(9, &["c", "a"]), list(1, &["b", "z"])], 2);
        assert_eq!(joined.finish(), (vec!["a".to_owned(), "b".to_owned()], 2));
    }
}
