//! Which processes have files open below roots: what must be nobody before a root is copied for
//! good.
//!
//! A process shows paths as its own mounts have them, and a root may be mounted in several places
//! or into a container. So both are traced to a device and a path in its filesystem, which no bind
//! mount changes; a rename does, for both alike, since the kernel names open files by where they
//! are now. What is not seen: a file's second hard link outside of the root, descriptors on their
//! way through a socket, and processes that the kernel does not list to us (`hidepid`, outer PID
//! namespaces).

mod mounts;
mod process;

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::events::Cancel;
use crate::path::escape;
use crate::protocol::errand::{Occupant, Occupants};

pub(super) use mounts::Mounts;

use super::limits::Bounded;
use mounts::Place;
use process::{Process, Sight};

/// How many processes are named.
const MOST_NAMED: usize = 1000;

/// Finds the processes that hold something below one of `roots`: a descriptor, a mapping, their
/// program, their directory, or a socket that is bound there. Roots that are not there are held by
/// nobody. Processes that run this program do not count: what they may do at once is for locks to
/// say, and one may be the mirror that keeps the root warm.
pub(super) fn find(roots: &[String], cancel: &Cancel) -> Result<Occupants> {
    let mut watch = Watch::new(roots);
    let ours = process::own_program();
    let mut found = Bounded::new(MOST_NAMED);
    let mut hidden = 0;
    for process in process::all().map_err(|err| Error::io("list", "/proc", err))? {
        cancel.check()?;
        if ours.is_some() && process.program() == ours {
            continue;
        }
        match watch.look_at(&process) {
            Sight::Holds(path) => found.push(Occupant {
                pid: process.pid(),
                command: process.command(),
                path: escape(&path).into_owned(),
            }),
            Sight::HoldsNothing => {}
            Sight::Hidden => hidden += 1,
        }
    }
    let found = Bounded::join([found], MOST_NAMED);
    let (found, _) = found.finish();
    Ok(Occupants { found, hidden })
}

/// What is watched for.
struct Watch {
    /// The roots without symlinks.
    roots: Vec<Vec<u8>>,
    /// Where they are in their filesystems, and what is mounted below them.
    places: Vec<Place>,
    /// Sockets that are bound below them, as descriptors of them read.
    sockets: HashMap<Vec<u8>, Vec<u8>>,
    /// The mounts of each mount namespace.
    mounts: HashMap<Vec<u8>, Mounts>,
}

impl Watch {
    fn new(roots: &[String]) -> Watch {
        let canonical = roots
            .iter()
            .filter_map(|root| Path::new(root).canonicalize().ok());
        let roots: Vec<_> = canonical
            .map(|at| at.as_os_str().as_bytes().to_vec())
            .collect();
        let mounts = Mounts::of_this_process();
        let places = roots
            .iter()
            .flat_map(|root| mounts.places_below(root))
            .collect();
        let mut sockets = process::bound_sockets();
        sockets.retain(|_, path| roots.iter().any(|root| is_below(path, root)));
        Watch {
            roots,
            places,
            sockets,
            mounts: HashMap::new(),
        }
    }

    fn look_at(&mut self, process: &Process) -> Sight {
        let namespace = process.mount_namespace();
        process.find_held(&mut |path| {
            if let Some(bound) = self.sockets.get(path) {
                return Some(bound.clone());
            }
            (path.starts_with(b"/") && self.is_watched(path, process, &namespace))
                .then(|| path.to_vec())
        })
    }

    fn is_watched(&mut self, path: &[u8], process: &Process, namespace: &[u8]) -> bool {
        if self.roots.iter().any(|root| is_below(path, root)) {
            return true;
        }
        let mounts = self.mounts.entry(namespace.to_vec());
        let mounts = mounts.or_insert_with(|| process.mounts());
        let place = mounts.locate(path);
        place.is_some_and(|place| self.places.iter().any(|watched| place.is_below(watched)))
    }
}

/// Whether a path is `root` or below it.
fn is_below(path: &[u8], root: &[u8]) -> bool {
    match path.strip_prefix(root) {
        Some(rest) => rest.is_empty() || rest.starts_with(b"/") || root == b"/",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::process::{Child, Command, Stdio};

    use super::super::testing::{Tree, has_root, run};
    use super::*;
    use crate::fs::{Login, as_user};

    /// A process that ends with the test.
    struct Running(Child);

    impl Running {
        /// Runs a shell that says when it is ready, and then waits.
        fn shell(script: &str, dir: &str) -> Running {
            use std::io::Read;
            let mut command = Command::new("sh");
            command.args(["-c", &format!("{script}; echo ready; read x")]);
            let piped = command
                .current_dir(dir)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped());
            let mut child = piped.spawn().unwrap();
            let mut ready = [0; 5];
            child
                .stdout
                .as_mut()
                .unwrap()
                .read_exact(&mut ready)
                .unwrap();
            Running(child)
        }

        fn pid(&self) -> u32 {
            self.0.id()
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn held(roots: &[&str]) -> Vec<(u32, String)> {
        let roots: Vec<_> = roots.iter().map(|root| root.to_string()).collect();
        let found = find(&roots, &Cancel::new()).unwrap().found;
        found.into_iter().map(|o| (o.pid, o.path)).collect()
    }

    #[test]
    fn an_open_file_and_a_directory_are_held() {
        let tree = Tree::new();
        tree.file("dir/file", "");
        std::os::unix::fs::symlink("dir", tree.path("link")).unwrap();
        let file = Running::shell("exec 7<dir/file", tree.root());
        let dir = Running::shell("true", &tree.text("dir"));
        let mut expected = vec![
            (file.pid(), tree.text("dir/file")),
            (dir.pid(), tree.text("dir")),
        ];
        expected.sort();
        let mut found = held(&[&tree.text("link")]);
        found.sort();
        assert_eq!(found, expected);
        assert!(held(&[&tree.text("missing")]).is_empty());
    }

    #[test]
    fn a_neighbour_with_a_longer_name_is_not_held() {
        let tree = Tree::new();
        tree.file("root/x", "");
        tree.file("root-old/x", "");
        let running = Running::shell("true", &tree.text("root-old"));
        assert!(held(&[&tree.text("root")]).is_empty());
        assert_eq!(held(&[&tree.text("root-old")])[0].0, running.pid());
    }

    #[test]
    fn a_removed_or_moved_file_is_still_held() {
        let tree = Tree::new();
        tree.file("root/removed", "");
        tree.file("moved/file", "");
        let script = "exec 7<root/removed 8<moved/file; rm root/removed; cd /";
        let running = Running::shell(script, tree.root());
        assert_eq!(held(&[&tree.text("root")])[0].0, running.pid());
        std::fs::rename(tree.path("moved"), tree.path("elsewhere")).unwrap();
        let found = held(&[&tree.text("elsewhere")]);
        assert_eq!(found, [(running.pid(), tree.text("elsewhere/file"))]);
    }

    #[test]
    fn a_bound_socket_is_held() {
        let tree = Tree::new();
        let path = tree.text("service.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let sockets = process::bound_sockets();
        assert!(sockets.values().any(|bound| bound == path.as_bytes()));
        // Ours is not told; a child that has it is.
        let inherited = Stdio::from(std::os::fd::OwnedFd::from(listener));
        let mut command = Command::new("sleep");
        let child = Running(command.arg("60").stdin(inherited).spawn().unwrap());
        assert_eq!(held(&[tree.root()]), [(child.pid(), path)]);
    }

    #[test]
    fn neither_a_bind_mount_nor_a_mount_namespace_hides_a_file() {
        if !has_root() {
            return;
        }
        let tree = Tree::new();
        tree.file("root/dir/file", "");
        tree.file("mnt/.keep", "");
        let (root, mnt) = (tree.text("root"), tree.text("mnt"));
        run(Command::new("mount").args(["--bind", &root, &mnt]));
        let bound = Running::shell("exec 7<mnt/dir/file; cd /", tree.root());
        let found = held(&[&root]);
        run(Command::new("umount").arg("-l").arg(&mnt));
        assert_eq!(found, [(bound.pid(), tree.text("mnt/dir/file"))]);
        drop(bound);

        let script = format!(
            "exec unshare -m sh -c 'mount --bind {root}/dir {mnt}; exec 7<{mnt}/file; cd /; echo ready; read x'"
        );
        let apart = Running::shell(&script, "/");
        assert_eq!(held(&[&root]), [(apart.pid(), format!("{mnt}/file"))]);
    }

    #[test]
    fn processes_that_may_not_be_looked_at_are_counted() {
        if !has_root() {
            return;
        }
        let tree = Tree::new();
        let running = Running::shell("true", tree.root());
        let roots = [tree.root().to_owned()];
        let nobody = Login::of("nobody").unwrap();
        let seen = as_user(&nobody, || find(&roots, &Cancel::new()).unwrap()).unwrap();
        assert!(seen.hidden > 0);
        assert_eq!(seen.found, []);
        assert_eq!(held(&[tree.root()])[0].0, running.pid());
    }
}
