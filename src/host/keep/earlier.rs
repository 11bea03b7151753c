//! The generation before the one that is made: a file that did not change since gets a second name
//! there, which costs a tenth of another copy.

use super::index::{Block, Records};
use super::shelf::Shelf;
use super::walk::order;
use crate::entry::{EntryKind, Timestamp};
use crate::error::Result;
use crate::fs::{Dir, Stat};
use crate::manifest::record::Entry;
use crate::path::RelPath;

/// A generation that is gone through beside the root, in the same order.
pub(super) struct Earlier {
    tree: Dir,
    records: Records,
    /// When it was begun: what changed before is in it.
    begun: Timestamp,
    /// The directory that was come to, or the next one that it has.
    block: Option<Block>,
    /// That directory, where it has it.
    dir: Option<Dir>,
}

impl Earlier {
    /// `made_s` is when it was made, in seconds since 1970.
    pub(super) fn open(shelf: &Shelf<'_>, id: &str, made_s: u64) -> Result<Earlier> {
        Ok(Earlier {
            tree: shelf.tree(id)?,
            records: Records::open(shelf.index(id)?),
            begun: Timestamp {
                // Times of files come from a clock that is some milliseconds late.
                secs: i64::try_from(made_s).unwrap_or(i64::MAX) - 1,
                nanos: 0,
            },
            block: None,
            dir: None,
        })
    }

    /// Goes on to a directory, which is none before the last one in [`order`]. What cannot be read
    /// here is copied again: that one generation is damaged shall not keep others from being made.
    pub(super) fn enter(&mut self, path: &RelPath) {
        self.dir = None;
        let is_before = |block: &Block| order(&block.dir, path).is_lt();
        while self.block.as_ref().is_none_or(is_before) {
            self.block = self.records.next_block().unwrap_or_default();
            if self.block.is_none() {
                return;
            }
        }
        if self.block.as_ref().is_some_and(|block| block.dir == *path) {
            self.dir = self.tree.open_dir(path).ok();
        }
    }

    /// The directory here that has a file under the same name, if that is what the root has: the
    /// root's was not touched since, so that it has the same other names too.
    pub(super) fn holder(&self, entry: &Entry, stat: &Stat) -> Option<&Dir> {
        let (dir, block) = (self.dir.as_ref()?, self.block.as_ref()?);
        if entry.meta.kind != EntryKind::File || stat.ctime >= self.begun {
            return None;
        }
        let at = block
            .entries
            .binary_search_by(|was| was.name.cmp(&entry.name));
        let own = dir.stat(&entry.name).ok()?;
        let is_same = block.entries[at.ok()?] == *entry
            && (own.meta.kind, own.meta.size, own.meta.mtime)
                == (EntryKind::File, entry.meta.size, entry.meta.mtime);
        is_same.then_some(dir)
    }
}
