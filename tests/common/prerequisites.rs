//! What a test needs of the machine. A missing tool fails the test and says how to get it; a
//! missing privilege skips it and says so where the test runner cannot swallow it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, makedev, mknodat};

/// What only a privileged process may do. Root in a container may lack some of them, so each is
/// tried, not guessed from the user id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Give files away and run a command as another user.
    Root,
    /// Make device nodes.
    Devices,
    /// Set attributes in the `trusted` namespace.
    TrustedXattrs,
    /// Mount a filesystem.
    Mount,
}

impl Power {
    /// Whether this process has it; tried once.
    pub fn is_held(self) -> bool {
        static HELD: [OnceLock<bool>; 4] = [const { OnceLock::new() }; 4];
        *HELD[self as usize].get_or_init(|| self.is_held_when_tried())
    }

    fn is_held_when_tried(self) -> bool {
        if !rustix::process::geteuid().is_root() {
            return false;
        }
        let scratch = tempfile::tempdir().expect("a temporary directory");
        match self {
            Power::Root => true,
            Power::Devices => mknodat(
                CWD,
                scratch.path().join("null"),
                FileType::CharacterDevice,
                Mode::RUSR,
                makedev(1, 3),
            )
            .is_ok(),
            Power::TrustedXattrs => {
                lsetxattr(scratch.path(), "trusted.probe", b"1", XattrFlags::empty()).is_ok()
            }
            Power::Mount => Tmpfs::try_mount(scratch.path(), "size=64k").is_ok(),
        }
    }

    /// Whether the test at hand can run; if not, says that it is skipped and why.
    ///
    /// The line goes to the standard error stream itself: what `eprintln!` writes is captured
    /// and thrown away when a test passes.
    pub fn is_held_or_skips(self, test: &str) -> bool {
        if self.is_held() {
            return true;
        }
        let name = test.strip_suffix("::here").unwrap_or(test);
        let line = format!("SKIPPED: {name}: needs {}\n", self.description());
        // A closed standard error is no reason to fail a test that does not run.
        let _ = std::io::stderr().write_all(line.as_bytes());
        false
    }

    fn description(self) -> &'static str {
        match self {
            Power::Root => "root",
            Power::Devices => "root that may make device nodes",
            Power::TrustedXattrs => "root that may set trusted attributes",
            Power::Mount => "root that may mount",
        }
    }
}

/// Returns from the test, visibly, unless this process has the [`Power`].
#[macro_export]
macro_rules! needs {
    ($power:ident) => {
        fn here() {}
        let test = std::any::type_name_of_val(&here);
        if !$crate::common::prerequisites::Power::$power.is_held_or_skips(test) {
            return;
        }
    };
}

/// Fails the test unless `program` is installed, and says which package holds it.
pub fn need(program: &str) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|dir| dir.join(program).is_file());
    let package = match program {
        "sshd" => "openssh-server",
        "ssh" => "openssh-client",
        "setpriv" | "mount" | "unshare" => "util-linux",
        "mkfs.xfs" => "xfsprogs",
        "mkfs.btrfs" => "btrfs-progs",
        "script" => "bsdutils",
        "age-keygen" => "age",
        "redis-cli" => "redis-tools",
        "pg_createcluster" => "postgresql",
        "promtool" => "prometheus",
        other => other,
    };
    assert!(
        found,
        "{program} is not installed; `make test` installs it, or run: apt-get install {package}"
    );
}

/// A filesystem of its own in memory, unmounted when dropped.
pub struct Tmpfs<'a> {
    point: &'a Path,
}

impl<'a> Tmpfs<'a> {
    /// Mounts one at `point`, which is made if missing; `options` as for mount(8).
    pub fn mount(point: &'a Path, options: &str) -> Tmpfs<'a> {
        std::fs::create_dir_all(point).expect("making the mount point");
        Tmpfs::try_mount(point, options).expect("mounting a tmpfs")
    }

    /// Mounts the simplest filesystem in memory: it has no attributes, no reflinks, and cannot make
    /// holes.
    pub fn mount_ramfs(point: &'a Path) -> Tmpfs<'a> {
        std::fs::create_dir_all(point).expect("making the mount point");
        mount_command(&["-t", "ramfs", "ramfs"], point).expect("mounting a ramfs");
        Tmpfs { point }
    }

    fn try_mount(point: &'a Path, options: &str) -> Result<Tmpfs<'a>, String> {
        mount_command(&["-t", "tmpfs", "-o", options, "tmpfs"], point)?;
        Ok(Tmpfs { point })
    }

    /// Changes its options, say its size or `ro`.
    pub fn remount(&self, options: &str) {
        mount_command(&["-o", &format!("remount,{options}")], self.point)
            .expect("remounting a tmpfs");
    }
}

/// A filesystem in a file, unmounted when dropped.
#[allow(dead_code, reason = "few test crates need another kind of disk")]
pub struct LoopMount<'a> {
    point: &'a Path,
}

#[allow(dead_code, reason = "as above")]
impl<'a> LoopMount<'a> {
    /// Makes a filesystem of 512 MiB in the new file `image` and mounts it at `point`, which is made
    /// if missing. `None`, visibly, where the kernel does not mount it: in a container without loop
    /// devices.
    pub fn mount(fs_type: &str, image: &Path, point: &'a Path) -> Option<LoopMount<'a>> {
        let program = format!("mkfs.{fs_type}");
        need(&program);
        let file = std::fs::File::create(image).expect("making an image");
        file.set_len(512 << 20).expect("sizing an image");
        let made = Command::new(program).arg(image).output();
        let made = made.expect("running mkfs");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
        std::fs::create_dir_all(point).expect("making the mount point");
        let image = image.to_str().expect("a plain path");
        match mount_command(&["-t", fs_type, "-o", "loop", image], point) {
            Ok(()) => Some(LoopMount { point }),
            Err(why) => {
                // As where a power is missing.
                let _ = writeln!(std::io::stderr(), "SKIPPED: no {fs_type}: {why}");
                None
            }
        }
    }
}

impl Drop for LoopMount<'_> {
    fn drop(&mut self) {
        unmount(self.point);
    }
}

fn mount_command(args: &[&str], point: &Path) -> Result<(), String> {
    let output = Command::new("mount")
        .args(args)
        .arg(point)
        .output()
        .map_err(|err| format!("cannot run mount: {err}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        unmount(self.point);
    }
}

fn unmount(point: &Path) {
    // Lazily: a killed run may still hold a descriptor for a moment. A failure leaves the temporary
    // directory behind, which the next reboot sees to.
    let _ = Command::new("umount")
        .arg("--lazy")
        .arg(point)
        .stderr(Stdio::null())
        .status();
}
