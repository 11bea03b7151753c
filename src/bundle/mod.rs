//! Bundles: whole trees in one encrypted file, for an external drive, or to have before a switch.
//!
//! A bundle is a tar archive with PAX headers (`ustar`, `pax`, `sparse`, `acl`, joined in `member`),
//! compressed with zstd and encrypted with age (`seal`), so that it can be opened without us. In it
//! each tree has a directory (`layout`), and a manifest that is proven and restored by.
//! `doc/bundle.md` has the format. [`create`] packs (`pack`, `content`, `write`); [`verify`] reads all
//! of it and compares (`read`, `decode`, `check`); [`restore`] does that first, and then writes with
//! the writer of a sync (`unpack`).

mod acl;
mod check;
mod content;
mod create;
mod decode;
mod draft;
mod layout;
mod member;
mod opening;
mod owners;
mod pack;
mod pax;
mod planned;
mod progress;
mod read;
mod restore;
mod seal;
mod secrets;
mod source;
mod sparse;
mod unpack;
mod ustar;
mod write;

use std::io;

pub use check::verify;
pub use create::{Creation, create};
pub use draft::{Out, Replace};
pub use opening::Opening;
pub use planned::roots_of_plan;
pub use restore::{Restoration, restore};
pub use seal::{Identity, Keys, Passphrase, Protection, Recipient, Seal, protection};
pub use source::BundleRoot;

/// The most entries of a bundle. Who reads one holds a few hundred bytes for each, and shall not be
/// made to hold more by an archive that says little many times.
const MAX_ENTRIES: u64 = 1 << 24;

/// What an archive is that is not as bundles are: cut off, changed, or made to do harm.
fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests;
