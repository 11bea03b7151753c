//! rsync's fake-super form applied to entries on disk: what [`super::fake_super`] encodes is read
//! from and written to them here.

use std::io::{self, Read};

use super::dir::Dir;
use super::fake_super;
use super::meta::Target;
use super::stat::Stat;
use super::xattr::{XattrSelect, get_xattr, read_xattrs, remove_xattr, set_xattr, write_xattrs};
use crate::entry::{Metadata, Xattr};
use crate::path::Name;

/// A symlink's target is at most this long (`PATH_MAX`), in bytes.
const TARGET_MAX: u64 = 4096;

const STORED: XattrSelect = XattrSelect {
    acls: false,
    ..XattrSelect::ALL
};

/// Makes `stat` say what the entry is meant to be. An entry without the attribute is what it is.
pub fn overlay_fake_stat(target: &Target<'_>, stat: &mut Stat) -> io::Result<()> {
    if let Some(value) = get_xattr(target, fake_super::STAT)? {
        fake_super::overlay(stat, &value);
    }
    Ok(())
}

/// The target of a symlink that is stored as a file.
pub fn read_fake_target(dir: &Dir, name: &Name) -> io::Result<Vec<u8>> {
    let mut target = Vec::new();
    dir.open_file(name)?
        .take(TARGET_MAX)
        .read_to_end(&mut target)?;
    Ok(target)
}

/// The attributes that an entry of this mode is meant to have.
pub fn read_fake_xattrs(
    target: &Target<'_>,
    mode: u16,
    select: XattrSelect,
) -> io::Result<Vec<Xattr>> {
    let mut xattrs = fake_super::from_stored(&read_xattrs(target, STORED)?, mode);
    xattrs.retain(|xattr| select.takes(&xattr.name));
    Ok(xattrs)
}

/// Stores the attributes that an entry of this mode is meant to have; returns what was refused.
pub fn write_fake_xattrs(
    target: &Target<'_>,
    mode: u16,
    want: &[Xattr],
) -> io::Result<Vec<(Vec<u8>, io::Error)>> {
    let mut have = read_xattrs(target, STORED)?;
    have.retain(|xattr| xattr.name != fake_super::STAT);
    Ok(write_xattrs(
        target,
        &fake_super::to_stored(want, mode),
        &have,
    ))
}

/// Stores owner, mode and device number where the entry itself says something else.
pub fn write_fake_stat(target: &Target<'_>, meta: &Metadata, real: &Metadata) -> io::Result<()> {
    if fake_super::is_needed(meta, real) {
        return set_xattr(target, fake_super::STAT, &fake_super::encode(meta));
    }
    remove_xattr(target, fake_super::STAT)
}
