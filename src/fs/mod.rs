//! Every system call that is made on trees, and what else takes `unsafe`: no policy and no words
//! for people.
//! A port to another system starts and ends here.
//!
//! Entries are reached through a [`Dir`], a pinned directory: beneath it no symlink is ever
//! followed, however the tree is changed meanwhile. All errors are [`std::io::Error`]; who calls
//! knows the path and the act and says them.

mod acl;
mod as_user;
mod child;
mod clock;
mod copy;
mod dir;
mod fake_entry;
pub mod fake_super;
mod magic;
mod memory;
mod meta;
mod mounts;
mod own;
mod places;
mod priority;
mod probe;
mod process;
mod rights;
mod stat;
mod sys;
mod temp;
#[cfg(test)]
mod testing;
mod users;
mod volume;
mod xattr;

pub use acl::Acl;
pub use as_user::as_user;
pub use child::lead_session;
pub use clock::LocalTime;
pub use copy::{
    Copied, CopyMeans, Sparse, advise_dont_need, advise_sequential, allocate, clone_file,
    copy_content, copy_range, data_ranges, next_data_range, punch_hole, set_len,
};
pub use dir::{Dir, ListScratch, VisitEntry, create_dir_all, is_gone, open_nearest};
pub use fake_entry::{
    overlay_fake_stat, read_fake_target, read_fake_xattrs, write_fake_stat, write_fake_xattrs,
};
pub use memory::create_in_memory;
pub use meta::{Target, set_mode, set_mtime, set_owner};
pub use mounts::{Mounts, unescape_mountinfo};
pub use own::{is_own_name, kept_name, marker_name, trash_name};
pub use places::{Places, is_private_dir, make_private_dir};
pub use priority::{IoPriority, set_io_priority, set_nice};
pub use probe::{Abilities, probe, probe_untouched, shows_writes, source_granularity};
pub use process::{Process, boot_id};
pub use rights::{may_list, may_make_entries, may_read};
pub use stat::{Stat, stat_file, stat_path};
pub use temp::{is_temp, temp_belongs_to, temp_name};
pub use users::{Login, Users};
pub use volume::{Volume, is_case_sensitive, volume};
pub use xattr::{
    XattrSelect, get_xattr, list_xattrs, read_xattrs, remove_xattr, set_xattr, write_xattrs,
};
