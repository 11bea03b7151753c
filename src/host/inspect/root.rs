//! What is at a root's path, without reading what is below it.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fs::{self, Dir, ListScratch, Users, Volume};
use crate::host::identity::identify;
use crate::path::{RelPath, escape};
use crate::protocol::errand::{RootAbilities, RootFacts, RootKind};

use super::occupants::Mounts;
use super::walk::is_ours;

/// Describes what `path` leads to. Where nothing is there, owner, mode, room and abilities are
/// those of the nearest directory above it: that is what it would be made in.
pub(super) fn look(path: &str) -> Result<RootFacts> {
    let failed = |err| Error::io("look at", path, err);
    let given = std::path::absolute(path).map_err(failed)?;
    let kind = kind_of(&given).map_err(failed)?;
    let there = match kind {
        RootKind::Missing => nearest(&given),
        _ => given.clone(),
    };
    let stat = fs::stat_path(&there).map_err(failed)?;
    let volume = fs::volume(&there).map_err(failed)?;
    let dir = Dir::open_root(&there).ok();
    let canonical = match kind {
        RootKind::Missing => None,
        _ => Some(given.canonicalize().map_err(failed)?),
    };
    let would_be = match given.strip_prefix(&there) {
        Ok(rest) if kind == RootKind::Missing => there.canonicalize().map_err(failed)?.join(rest),
        _ => given.clone(),
    };
    let users = Users::new();
    Ok(RootFacts {
        is_mount: canonical
            .as_deref()
            .is_some_and(|at| stat.mount_root || Mounts::of_this_process().has_mount_at(at)),
        canonical: printable(canonical.unwrap_or(would_be).as_os_str()),
        kind,
        through_symlink: leads_through_symlink(&given),
        read_only: volume.read_only,
        readable: kind != RootKind::Missing && fs::may_list(&there),
        writable: is_writable(kind, &there),
        owner: name_or_number(users.user_name(stat.meta.uid), stat.meta.uid),
        group: name_or_number(users.group_name(stat.meta.gid), stat.meta.gid),
        mode: stat.meta.mode,
        names: match (kind, &dir) {
            (RootKind::Dir, Some(dir)) => count_names(dir).map_err(failed)?,
            _ => 0,
        },
        device: stat.dev,
        identity: identify(&given),
        free_bytes: volume.free_bytes,
        free_inodes: volume.free_inodes,
        abilities: abilities(&there, dir, &volume),
    })
}

fn printable(path: &OsStr) -> String {
    escape(path.as_bytes()).into_owned()
}

fn name_or_number(name: Option<Vec<u8>>, number: u32) -> String {
    name.map_or(number.to_string(), |name| escape(&name).into_owned())
}

/// What the path leads to. A symlink that leads nowhere is something: a root cannot be made there.
fn kind_of(path: &Path) -> io::Result<RootKind> {
    let is_missing = |err: &io::Error| {
        matches!(
            err.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        )
    };
    match path.metadata() {
        Ok(meta) if meta.is_dir() => Ok(RootKind::Dir),
        Ok(_) => Ok(RootKind::Other),
        Err(err) if is_missing(&err) && path.symlink_metadata().is_ok() => Err(io::Error::new(
            err.kind(),
            "it is a symlink that leads nowhere",
        )),
        Err(err) if is_missing(&err) => Ok(RootKind::Missing),
        Err(err) => Err(err),
    }
}

/// The nearest path above a missing one where something is.
fn nearest(path: &Path) -> PathBuf {
    let there = path.ancestors().find(|at| at.exists());
    there.unwrap_or(Path::new("/")).to_path_buf()
}

fn is_writable(kind: RootKind, there: &Path) -> bool {
    let can_hold = kind != RootKind::Missing || there.is_dir();
    can_hold && fs::may_make_entries(there)
}

/// Whether any name on the way to the path, its last one too, is a symlink.
fn leads_through_symlink(path: &Path) -> bool {
    path.ancestors().any(|at| at.is_symlink())
}

/// How many names are in a root, ours not counted.
fn count_names(dir: &Dir) -> io::Result<u64> {
    let mut names = 0;
    dir.list(&mut ListScratch::new(), &mut |name, _, _| {
        names += u64::from(!is_ours(&RelPath::root(), name));
    })?;
    Ok(names)
}

/// What the filesystem can hold; nothing where it cannot be asked, since not even a directory of
/// it can be opened.
fn abilities(there: &Path, dir: Option<Dir>, volume: &Volume) -> RootAbilities {
    let dir = dir.or_else(|| Dir::open_root(there.parent()?).ok());
    let Some(dir) = dir else {
        return RootAbilities {
            xattrs: false,
            acls: false,
            symlinks: false,
            hard_links: false,
            owners: false,
            case_sensitive: None,
            reflinks: false,
            granularity_ns: 1,
            name_bytes: volume.name_bytes,
        };
    };
    let found = fs::probe_untouched(&dir);
    RootAbilities {
        xattrs: found.user_xattrs,
        acls: found.acls,
        symlinks: found.symlinks,
        hard_links: found.hard_links,
        owners: found.owners,
        case_sensitive: fs::is_case_sensitive(&dir).unwrap_or(None),
        reflinks: found.reflink,
        granularity_ns: found.mtime_granularity_ns,
        name_bytes: volume.name_bytes,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::super::testing::{Tree, has_root, run};
    use super::*;

    #[test]
    fn a_directory_is_described() {
        let tree = Tree::new();
        tree.file("root/a", "");
        tree.file("root/b/c", "");
        tree.file("root/.cutover-marker", "");
        tree.chmod("root", 0o750);
        let before = tree.snapshot();

        let found = look(&tree.text("root")).unwrap();
        assert_eq!(found.kind, RootKind::Dir);
        assert_eq!(found.canonical, tree.text("root"));
        assert_eq!((found.names, found.mode), (2, 0o750));
        assert!(!found.through_symlink && !found.is_mount && !found.read_only);
        assert!(found.readable && found.writable);
        assert!(found.free_bytes > 0);
        assert!(found.abilities.symlinks && found.abilities.hard_links);
        assert_eq!(found.abilities.name_bytes, 255);
        assert_eq!(found.abilities.case_sensitive, Some(true));
        if has_root() {
            assert_eq!((&*found.owner, &*found.group), ("root", "root"));
            assert!(found.abilities.owners);
        }
        assert_eq!(tree.snapshot(), before, "looking changes nothing");
    }

    #[test]
    fn a_missing_root_is_described_by_what_it_would_be_made_in() {
        let tree = Tree::new();
        tree.chmod("", 0o751);
        let missing = tree.text("not/there");
        let found = look(&missing).unwrap();
        assert_eq!(found.kind, RootKind::Missing);
        assert_eq!((found.canonical, found.mode), (missing, 0o751));
        assert!(found.writable && !found.readable);
        assert_eq!(found.names, 0);
        assert!(found.abilities.symlinks);

        tree.file("file", "");
        let below_a_file = look(&tree.text("file/root")).unwrap();
        assert_eq!(below_a_file.kind, RootKind::Missing);
        assert!(!below_a_file.writable);
    }

    #[test]
    fn a_root_behind_a_symlink_tells_so() {
        let tree = Tree::new();
        tree.file("real/root/file", "");
        symlink("real", tree.path("link")).unwrap();
        for path in ["link/root", "link"] {
            assert!(look(&tree.text(path)).unwrap().through_symlink, "{path}");
        }
        let found = look(&tree.text("link/root")).unwrap();
        assert_eq!(found.canonical, tree.text("real/root"));
        let missing = look(&tree.text("link/new/deep")).unwrap();
        assert!(missing.through_symlink);
        assert_eq!(missing.canonical, tree.text("real/new/deep"));

        symlink("nowhere", tree.path("dangling")).unwrap();
        let err = look(&tree.text("dangling")).unwrap_err().to_string();
        assert!(err.contains("leads nowhere"), "{err}");
    }

    #[test]
    fn something_else_than_a_directory_tells_so() {
        let tree = Tree::new();
        tree.file("file", "x");
        tree.fifo("fifo");
        for path in ["file", "fifo"] {
            let found = look(&tree.text(path)).unwrap();
            assert_eq!(found.kind, RootKind::Other, "{path}");
            assert!(found.abilities.symlinks, "{path}");
        }
    }

    #[test]
    fn a_mount_is_told_whatever_is_mounted() {
        if !has_root() {
            return;
        }
        let tree = Tree::new();
        tree.file("bound/file", "");
        tree.file("memory/.keep", "");
        let mount = |args: &[&str], at: &str| {
            run(Command::new("mount").args(args).arg(tree.path(at)));
        };
        mount(&["--bind", &tree.text("bound")], "bound");
        mount(&["-t", "tmpfs", "-o", "ro", "tmpfs"], "memory");
        let [bound, memory, plain] = ["bound", "memory", ""].map(|at| look(&tree.text(at)));
        for at in ["bound", "memory"] {
            run(Command::new("umount").arg(tree.path(at)));
        }
        assert!(bound.unwrap().is_mount);
        let memory = memory.unwrap();
        assert!(memory.is_mount && memory.read_only && !memory.writable);
        assert!(memory.abilities.symlinks, "{:?}", memory.abilities);
        assert!(!plain.unwrap().is_mount);
    }
}
