//! What changes in a tree, as the kernel tells it. It is a hint where to look, never what is there:
//! that is for the scan to say, so no event may be lost and any may be one too many.
//!
//! A [`Watcher`] marks directories and hears of them; [`Pending`] holds what it heard until that has
//! settled; [`Dirty`] is what is to be read again then.
//!
//! # What is not heard
//!
//! Writes through a memory map, writes under another of a file's hard links (only the directory of
//! the name that was opened hears), what another host writes to a network filesystem, and a directory
//! that a bind mount shows twice is heard of at one of its places. A full scan from time to time
//! finds these.

mod dirty;
mod limits;
mod marks;
mod pending;
#[cfg(test)]
mod tests;
mod watcher;

pub use dirty::{Dirty, Reach};
pub use limits::{Limits, MarkError};
pub use pending::{Now, Pending};
pub use watcher::{Heard, Watcher};
