//! Every system call that is made on trees, and nothing else: no policy and no words for people.
//! A port to another system starts and ends here.
//!
//! Entries are reached through a [`Dir`], a pinned directory: beneath it no symlink is ever
//! followed, however the tree is changed meanwhile. All errors are [`std::io::Error`]; who calls
//! knows the path and the act and says them.

mod dir;
mod stat;

pub use dir::{Dir, ListScratch, create_dir_all};
pub use stat::{Stat, stat_file, stat_path};
