//! What is mounted where, so that two paths of one file can be told to be that: a mount namespace
//! as `/proc/PID/mountinfo` shows it (proc(5)).

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::fs::unescape_mountinfo;

use super::is_below;

/// Where something is in its filesystem, wherever that is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    device: Vec<u8>,
    path: Vec<u8>,
}

impl Place {
    /// Whether this is `other` or below it.
    pub(super) fn is_below(&self, other: &Place) -> bool {
        self.device == other.device && is_below(&self.path, &other.path)
    }
}

/// The mounts that a process sees.
#[derive(Debug, Default)]
pub(in crate::host::inspect) struct Mounts(Vec<Mount>);

#[derive(Debug)]
struct Mount {
    /// The directory of the filesystem that is mounted.
    place: Place,
    /// Where.
    point: Vec<u8>,
}

impl Mounts {
    /// What this process sees; nothing where `/proc` is not there.
    pub(in crate::host::inspect) fn of_this_process() -> Mounts {
        Mounts::parse(&std::fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    pub(super) fn parse(mountinfo: &[u8]) -> Mounts {
        let lines = mountinfo.split(|&byte| byte == b'\n');
        Mounts(lines.filter_map(Mount::parse).collect())
    }

    /// Whether something is mounted at the path, which has no symlinks.
    pub(in crate::host::inspect) fn has_mount_at(&self, path: &Path) -> bool {
        self.0
            .iter()
            .any(|mount| mount.point == path.as_os_str().as_bytes())
    }

    /// Where the file at `path` is; of mounts at one point the last hides the others.
    pub(super) fn locate(&self, path: &[u8]) -> Option<Place> {
        let above = self.0.iter().filter(|mount| is_below(path, &mount.point));
        let mount = above.max_by_key(|mount| mount.point.len())?;
        let rest = &path[mount.point.len()..];
        Some(Place {
            device: mount.place.device.clone(),
            path: join(&mount.place.path, rest),
        })
    }

    /// Where `root` is, and what is mounted below it.
    pub(super) fn places_below(&self, root: &[u8]) -> Vec<Place> {
        let below = self.0.iter().filter(|mount| is_below(&mount.point, root));
        let below = below.map(|mount| mount.place.clone());
        self.locate(root).into_iter().chain(below).collect()
    }
}

impl Mount {
    /// Reads a line: `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`.
    fn parse(line: &[u8]) -> Option<Mount> {
        let mut fields = line.split(|&byte| byte == b' ').skip(2);
        Some(Mount {
            place: Place {
                device: fields.next()?.to_vec(),
                path: unescape_mountinfo(fields.next()?),
            },
            point: unescape_mountinfo(fields.next()?),
        })
    }
}

fn join(front: &[u8], rest: &[u8]) -> Vec<u8> {
    let front = front.strip_suffix(b"/").unwrap_or(front);
    let rest = rest.strip_prefix(b"/").unwrap_or(rest);
    match rest {
        b"" if !front.is_empty() => front.to_vec(),
        rest => [front, b"/", rest].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &[u8] = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
        2 1 8:2 /vol /srv/app rw shared:1 - ext4 /dev/sdb rw\n\
        3 1 8:1 /srv/a\\040b /mnt rw - ext4 /dev/sda1 rw\n\
        4 2 0:9 / /srv/app/cache rw - tmpfs tmpfs rw\n\
        junk\n";

    fn place(device: &str, path: &str) -> Place {
        Place {
            device: device.into(),
            path: path.into(),
        }
    }

    #[test]
    fn a_path_is_traced_to_its_filesystem() {
        let mounts = Mounts::parse(INFO);
        for (path, device, within) in [
            ("/", "8:1", "/"),
            ("/srv/application", "8:1", "/srv/application"),
            ("/srv/app", "8:2", "/vol"),
            ("/srv/app/x/y", "8:2", "/vol/x/y"),
            ("/srv/app/cache/z", "0:9", "/z"),
            ("/mnt/c", "8:1", "/srv/a b/c"),
        ] {
            let found = mounts.locate(path.as_bytes());
            assert_eq!(found, Some(place(device, within)), "{path}");
        }
        assert_eq!(Mounts::default().locate(b"/"), None);
    }

    #[test]
    fn what_is_mounted_below_a_root_is_the_roots() {
        let places = Mounts::parse(INFO).places_below(b"/srv/app");
        let other = Mounts::parse(b"9 1 0:9 / /elsewhere rw - tmpfs tmpfs rw\n");
        let seen = other.locate(b"/elsewhere/file").unwrap();
        assert!(places.iter().any(|watched| seen.is_below(watched)));
        let neighbour = place("8:2", "/volume");
        assert!(!places.iter().any(|watched| neighbour.is_below(watched)));
    }

    #[test]
    fn a_mount_is_known_by_its_point() {
        let mounts = Mounts::parse(INFO);
        assert!(mounts.has_mount_at(Path::new("/srv/app")));
        assert!(!mounts.has_mount_at(Path::new("/srv")));
    }
}
