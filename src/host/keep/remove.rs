//! Removes whole trees of ours, however deep they are and whatever their modes.

use std::io;

use crate::entry::EntryKind;
use crate::fs::{Dir, ListScratch, Target, Users, set_mode};
use crate::path::{Name, RelPath};

/// Removes the directory `name` and all beneath it. There being none is no error; something that is
/// mounted beneath is.
pub(super) fn remove_tree(parent: &Dir, name: &Name) -> io::Result<()> {
    let mut waiting = vec![RelPath::root().join(name)];
    while let Some(path) = waiting.last() {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            break;
        };
        let above = parent.open_dir(&above)?;
        let subdirs = match empty(&above, &name) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Vec::new(),
            emptied => emptied?,
        };
        if subdirs.is_empty() {
            match above.remove_dir(&name) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
                _ => {}
            }
            waiting.pop();
        } else {
            let below: Vec<_> = subdirs.iter().map(|subdir| path.join(subdir)).collect();
            waiting.extend(below);
        }
    }
    Ok(())
}

/// Removes from a directory all but its subdirectories, which it returns.
fn empty(above: &Dir, name: &Name) -> io::Result<Vec<Name>> {
    let stat = above.stat(name)?;
    if stat.mount_root {
        return Err(io::Error::new(
            io::ErrorKind::CrossesDevices,
            "another filesystem is mounted there",
        ));
    }
    if !Users::is_root() && stat.meta.mode & 0o700 != 0o700 {
        set_mode(&Target::Entry(above, name), 0o700)?;
    }
    let dir = above.open_child(name)?;
    let (mut subdirs, mut others) = (Vec::new(), Vec::new());
    dir.list(&mut ListScratch::new(), &mut |bytes, _, kind| {
        // Nothing but a name from the kernel: it cannot be invalid.
        let Ok(name) = Name::new(bytes) else { return };
        match kind {
            Some(EntryKind::Dir) => subdirs.push(name),
            _ => others.push((name, kind)),
        }
    })?;
    for (name, kind) in others {
        match kind {
            None if dir.stat(&name)?.meta.kind == EntryKind::Dir => subdirs.push(name),
            _ => dir.unlink(&name)?,
        }
    }
    Ok(subdirs)
}
