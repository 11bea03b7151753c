//! What is heard of real directories, on the kernel that the tests run on.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::fs::{Dir, ListScratch, Users};
use crate::path::{Name, RelPath};

/// A tree that is watched as a mirror watches it.
struct Watched {
    temp: TempDir,
    root: Dir,
    watcher: Watcher,
    pending: Pending,
}

impl Watched {
    /// One with these directories, all marked.
    fn new(dirs: &[&str]) -> Watched {
        let memory = Path::new("/dev/shm");
        // Many directories are made there in a tenth of the time.
        let temp = match memory.is_dir() {
            true => TempDir::new_in(memory).unwrap(),
            false => TempDir::new().unwrap(),
        };
        for dir in dirs {
            fs::create_dir_all(temp.path().join("root").join(dir)).unwrap();
        }
        let root = Dir::open_root(&temp.path().join("root")).unwrap();
        let watched = Watched {
            temp,
            root,
            watcher: Watcher::new().unwrap(),
            pending: Pending::new(Duration::ZERO, Duration::ZERO),
        };
        watched.scan("");
        watched
    }

    fn root(&self) -> PathBuf {
        self.temp.path().join("root")
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    fn write(&self, path: &str) {
        fs::write(self.at(path), "x").unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).unwrap();
    }

    fn open(&self, path: &str) -> Dir {
        self.root.open_dir(&relative(path)).unwrap()
    }

    /// Marks and lists a directory and all below it, as a scan does.
    fn scan(&self, path: &str) -> Vec<String> {
        let path = relative(path);
        let Ok(dir) = self.root.open_dir(&path) else {
            return Vec::new();
        };
        self.watcher.mark(&dir, &path).unwrap();
        let mut names = Vec::new();
        let mut visit = |name: &[u8], _, _| names.push(Name::new(name).unwrap());
        dir.list(&mut ListScratch::new(), &mut visit).unwrap();
        let mut found = vec![path.to_string()];
        for name in names {
            if dir.open_child(&name).is_ok() {
                found.extend(self.scan(&path.join(&name).to_string()));
            }
        }
        found
    }

    fn read(&mut self) -> Heard {
        self.watcher.read(&mut self.pending).unwrap()
    }

    /// What is to be read again since the last time; a subtree is shown with `/**`.
    fn heard(&mut self) -> Vec<String> {
        self.read();
        shown(&self.pending.take_all())
    }

    /// Reads again what is to be, as a round of a mirror does.
    fn round(&mut self) {
        self.read();
        for (path, reach) in self.pending.take_all().iter() {
            if reach == Reach::Subtree {
                self.scan(&path.to_string());
            }
        }
    }

    /// How many marks the kernel has for this watcher.
    fn kernel_marks(&self) -> u64 {
        let fd = self.watcher.as_fd().as_raw_fd();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
        let marks = info.lines().filter(|line| line.starts_with("inotify"));
        marks.count() as u64
    }
}

fn relative(path: &str) -> RelPath {
    match path {
        "." => RelPath::root(),
        _ => RelPath::new(path.as_bytes()).unwrap(),
    }
}

fn shown(dirty: &Dirty) -> Vec<String> {
    let text = |(path, reach): (&RelPath, Reach)| match reach {
        Reach::Listing => path.to_string(),
        Reach::Subtree => format!("{path}/**"),
    };
    dirty.iter().map(text).collect()
}

/// Runs one test again in a process of its own, behind the words of `wrapper`; what it printed.
/// `None`, with the reason printed, when the wrapper cannot be had.
fn alone(test: &str, wrapper: &[&str]) -> Option<String> {
    let mut words = wrapper.iter().map(Path::new).collect::<Vec<_>>();
    let exe = std::env::current_exe().unwrap();
    words.push(&exe);
    let output = Command::new(words[0])
        .args(&words[1..])
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env("CUTOVER_TEST_ALONE", "1")
        .output();
    let output = match output {
        Ok(output) if !output.stdout.is_empty() => output,
        other => {
            eprintln!("skipped: cannot run {wrapper:?}: {other:?}");
            return None;
        }
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    Some(text)
}

/// Asks until the answer is yes, and fails when it does not become so.
fn soon(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_alone() -> bool {
    std::env::var_os("CUTOVER_TEST_ALONE").is_some()
}

#[test]
fn every_change_makes_its_directory_dirty() {
    let mut watched = Watched::new(&["d/e"]);
    watched.write("d/there");
    watched.write("d/gone");
    watched.write("d/old");
    watched.heard();
    type Act<'a> = &'a dyn Fn(&Watched);
    let changes: [(&str, Act<'_>); 8] = [
        ("create", &|w| w.write("d/new")),
        ("write", &|w| w.write("d/there")),
        ("chmod", &|w| chmod(&w.at("d/there"), 0o600)),
        ("delete", &|w| fs::remove_file(w.at("d/gone")).unwrap()),
        ("rename", &|w| w.rename("d/old", "d/renamed")),
        ("link", &|w| {
            fs::hard_link(w.at("d/there"), w.at("d/second")).unwrap()
        }),
        ("symlink", &|w| symlink("nowhere", w.at("d/link")).unwrap()),
        ("rmdir", &|w| fs::remove_dir(w.at("d/e")).unwrap()),
    ];
    for (what, change) in changes {
        change(&watched);
        assert_eq!(watched.heard(), ["d"], "{what}");
    }
    watched.rename("d/renamed", "moved");
    assert_eq!(watched.heard(), [".", "d"]);
    chmod(&watched.at("d"), 0o711);
    assert_eq!(watched.heard(), ["."]);
    chmod(&watched.root(), 0o711);
    assert_eq!(watched.heard(), ["."]);
    fs::read(watched.at("moved")).unwrap();
    assert!(watched.heard().is_empty());
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_listings_leave_out_is_not_heard() {
    let mut watched = Watched::new(&["d"]);
    for name in [
        ".cutover-marker",
        ".a.cutover-01234567",
        "d/.a.cutover-01234567",
    ] {
        watched.write(name);
        assert!(watched.heard().is_empty(), "{name}");
    }
    watched.rename("d/.a.cutover-01234567", "d/a");
    assert_eq!(watched.heard(), ["d"]);
    watched.write("d/.cutover-marker");
    assert_eq!(watched.heard(), ["d"]);
}

/// Fails when a directory is marked after it is listed.
#[test]
fn a_change_between_mark_and_listing_is_heard() {
    let mut watched = Watched::new(&["d"]);
    fs::create_dir(watched.at("d/new")).unwrap();
    assert_eq!(watched.heard(), ["d", "d/new/**"]);
    let path = relative("d/new");
    let dir = watched.open("d/new");
    watched.watcher.mark(&dir, &path).unwrap();
    watched.write("d/new/meanwhile");
    dir.list(&mut ListScratch::new(), &mut |_, _, _| {})
        .unwrap();
    assert_eq!(watched.heard(), ["d/new"]);
}

#[test]
fn a_directory_that_appears_is_to_be_read_with_all_below() {
    let mut watched = Watched::new(&["d"]);
    let outside = watched.temp.path().join("outside");
    fs::create_dir_all(outside.join("deep")).unwrap();
    fs::rename(&outside, watched.at("d/moved-in")).unwrap();
    assert_eq!(watched.heard(), ["d", "d/moved-in/**"]);

    // Of the same name as one before: what is known of that says nothing of this.
    fs::remove_dir_all(watched.at("d/moved-in")).unwrap();
    fs::create_dir(watched.at("d/moved-in")).unwrap();
    assert_eq!(watched.heard(), ["d", "d/moved-in/**"]);
}

#[test]
fn a_directory_moved_in_while_it_is_marked_is_not_missed() {
    let mut watched = Watched::new(&["d"]);
    let outside = watched.temp.path().join("outside");
    fs::create_dir_all(outside.join("a")).unwrap();
    fs::create_dir_all(outside.join("b")).unwrap();
    fs::rename(&outside, watched.at("d/in")).unwrap();
    // The scan is at its first directory when the second changes and is moved away.
    let dir = watched.open("d/in");
    watched.watcher.mark(&dir, &relative("d/in")).unwrap();
    watched.write("d/in/b/meanwhile");
    watched.rename("d/in/b", "d/b");
    watched.round();
    watched.heard();
    watched.write("d/b/later");
    assert_eq!(watched.heard(), ["d/b"]);
    watched.write("d/in/a/later");
    assert_eq!(watched.heard(), ["d/in/a"]);
}

#[test]
fn a_renamed_directory_is_heard_at_its_new_place() {
    let mut watched = Watched::new(&["d/old/deep", "e"]);
    let marks = watched.kernel_marks();
    watched.rename("d/old", "e/new");
    watched.write("e/new/deep/meanwhile");
    let heard = watched.heard();
    assert!(heard.contains(&"e/new/**".to_string()), "{heard:?}");
    watched.scan("e/new");
    assert!(watched.heard().is_empty());
    watched.write("e/new/deep/later");
    assert_eq!(watched.heard(), ["e/new/deep"]);
    watched.write("e/new/later");
    assert_eq!(watched.heard(), ["e/new"]);
    assert_eq!(watched.kernel_marks(), marks);
    assert_eq!(watched.watcher.directories(), marks);
}

/// The kernel's word of a move comes after the scan has marked the directory where it is now.
#[test]
fn a_directory_that_was_met_at_its_new_place_already_stays_heard() {
    let mut watched = Watched::new(&["d/old/deep", "e"]);
    watched.rename("d/old", "e/new");
    watched.scan("e");
    watched.round();
    watched.heard();
    for (file, dir) in [("e/new/a", "e/new"), ("e/new/deep/a", "e/new/deep")] {
        watched.write(file);
        assert_eq!(watched.heard(), [dir]);
    }
}

/// Its new parent tells nothing, being marked after the move; and the scan has been there when the
/// directory itself does.
#[test]
fn a_directory_that_moved_into_one_not_yet_marked_stays_heard() {
    let mut watched = Watched::new(&["d/old/deep"]);
    fs::create_dir(watched.at("p")).unwrap();
    assert_eq!(watched.heard(), [".", "p/**"]);
    watched.rename("d/old", "p/old");
    watched.scan("p");
    watched.round();
    watched.heard();
    for (file, dir) in [("p/old/a", "p/old"), ("p/old/deep/a", "p/old/deep")] {
        watched.write(file);
        assert_eq!(watched.heard(), [dir]);
    }
}

#[test]
fn renames_one_after_the_other_lose_nothing() {
    let mut watched = Watched::new(&["a/x", "b", "c"]);
    watched.rename("a", "b/a");
    watched.rename("b/a/x", "c/x");
    watched.rename("b", "a");
    fs::create_dir(watched.at("b")).unwrap();
    watched.write("c/x/meanwhile");
    watched.round();
    watched.round();
    watched.heard();
    for dir in ["a", "a/a", "b", "c", "c/x"] {
        watched.write(&format!("{dir}/file"));
        assert_eq!(watched.heard(), [dir]);
    }
    assert_eq!(watched.kernel_marks(), 6);
}

#[test]
fn a_directory_that_left_the_tree_is_not_heard_any_more() {
    let mut watched = Watched::new(&["d/old/deep"]);
    let outside = watched.temp.path().join("outside");
    fs::rename(watched.at("d/old"), &outside).unwrap();
    assert!(watched.heard().contains(&"d".to_string()));
    fs::write(outside.join("deep/file"), "x").unwrap();
    assert!(watched.heard().is_empty());
    assert_eq!(watched.kernel_marks(), 2);
    assert_eq!(watched.watcher.directories(), 2);
}

#[test]
fn many_marks_are_dropped_without_an_overflow() {
    let mut watched = Watched::new(&["d"]);
    let limits = Limits::read().unwrap();
    let many = limits.max_queued_events + 10;
    if many > 20_000 || limits.max_user_watches < 2 * many {
        eprintln!("skipped: the kernel's limits make it no test");
        return;
    }
    for number in 0..many {
        let path = format!("d/{number}");
        fs::create_dir(watched.at(&path)).unwrap();
        let dir = watched.open(&path);
        watched.watcher.mark(&dir, &relative(&path)).unwrap();
        if number % 1000 == 0 {
            watched.heard();
        }
    }
    watched.heard();
    assert_eq!(watched.kernel_marks(), many + 2);
    let outside = watched.temp.path().join("outside");
    fs::rename(watched.at("d"), outside).unwrap();
    let mut heard = watched.read();
    while !heard.overflowed && heard.events > 0 {
        heard = watched.read();
    }
    assert!(!heard.overflowed);
    assert_eq!(watched.kernel_marks(), 1);
    assert_eq!(watched.watcher.directories(), 1);
}

#[test]
fn a_deleted_directorys_mark_is_freed() {
    let mut watched = Watched::new(&["d/e/f"]);
    fs::remove_dir_all(watched.at("d")).unwrap();
    let heard = watched.heard();
    assert!(heard.contains(&".".to_string()), "{heard:?}");
    assert_eq!(watched.watcher.directories(), 1);
}

#[test]
fn a_rescan_drops_the_marks_that_it_does_not_renew() {
    let mut watched = Watched::new(&["d/e", "hidden"]);
    watched.watcher.begin_rescan();
    watched.scan("d");
    watched.watcher.mark(&watched.root, &relative("")).unwrap();
    watched.write("d/e/meanwhile");
    watched.watcher.end_rescan();
    assert_eq!(watched.watcher.directories(), 3);
    assert_eq!(watched.heard(), ["d/e"]);
    assert_eq!(watched.kernel_marks(), 3);
    watched.write("hidden/file");
    assert!(watched.heard().is_empty());
}

#[test]
fn a_mark_that_is_set_again_before_it_was_dropped_stays() {
    let mut watched = Watched::new(&["d"]);
    watched.watcher.begin_rescan();
    watched.watcher.mark(&watched.root, &relative("")).unwrap();
    watched.watcher.end_rescan();
    watched.scan("d");
    watched.heard();
    watched.write("d/file");
    assert_eq!(watched.heard(), ["d"]);
}

#[test]
fn a_symlink_that_was_swapped_in_leads_no_mark_out_of_the_tree() {
    let mut watched = Watched::new(&["d"]);
    let outside = watched.temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(watched.at("d/new")).unwrap();
    let dir = watched.open("d/new");
    watched.rename("d/new", "d/moved");
    symlink(&outside, watched.at("d/new")).unwrap();
    watched.watcher.mark(&dir, &relative("d/new")).unwrap();
    watched.heard();
    fs::write(outside.join("file"), "x").unwrap();
    assert!(watched.heard().is_empty());
}

#[test]
fn too_many_events_make_the_whole_tree_dirty() {
    let limits = Limits::read().unwrap();
    if limits.max_queued_events > 1 << 18 {
        eprintln!("skipped: the kernel keeps too many events to force an overflow");
        return;
    }
    let mut watched = Watched::new(&["d", "e"]);
    watched.write("d/a");
    watched.write("d/b");
    watched.heard();
    // In turn, since equal events one after the other are made one.
    for number in 0..limits.max_queued_events as u32 + 10 {
        let name = if number % 2 == 0 { "d/a" } else { "d/b" };
        chmod(&watched.at(name), 0o600 + number % 3);
    }
    let mut heard = watched.read();
    while !heard.overflowed && heard.events > 0 {
        heard = watched.read();
    }
    assert!(heard.overflowed);
    assert_eq!(shown(&watched.pending.take_all()), ["./**"]);
    watched.write("e/file");
    assert_eq!(watched.heard(), ["e"]);
}

#[test]
fn a_storm_of_writes_is_one_place_to_read() {
    let mut watched = Watched::new(&["d"]);
    for _ in 0..200 {
        watched.write("d/a");
        watched.write("d/b");
    }
    let heard = watched.read();
    assert!(heard.events > 200 && !heard.overflowed, "{heard:?}");
    assert_eq!(shown(&watched.pending.take_all()), ["d"]);
}

/// Something mounted, for the time of a test.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(at: PathBuf) -> Option<Mount> {
        if !Users::is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        fs::create_dir_all(&at).unwrap();
        let mut mount = Command::new("mount");
        let status = mount.args(["-t", "tmpfs", "none"]).arg(&at).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("skipped: cannot mount");
            return None;
        }
        Some(Mount(at))
    }

    fn end(self) {
        let unmount = || Command::new("umount").arg(&self.0).status().unwrap();
        soon(|| unmount().success());
        std::mem::forget(self);
    }
}

impl Drop for Mount {
    /// After a test that failed.
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn what_is_unmounted_within_the_tree_is_to_be_read_again() {
    let mut watched = Watched::new(&["d"]);
    let Some(mount) = Mount::tmpfs(watched.at("d/mount")) else {
        return;
    };
    watched.scan("d");
    fs::create_dir(watched.at("d/mount/deep")).unwrap();
    watched.round();
    assert_eq!(watched.watcher.directories(), 4);
    mount.end();
    watched.read();
    assert_eq!(shown(&watched.pending.take_all()), ["d", "d/mount/**"]);
    assert_eq!(watched.watcher.directories(), 2);
}

#[test]
fn a_full_kernel_is_told_with_its_limit() {
    if !is_alone() {
        // In a namespace of its own, so that no other process meets the limit.
        let script = "echo 3 > /proc/sys/user/max_inotify_watches && exec \"$@\"";
        let wrapper = ["unshare", "-Ur", "sh", "-c", script, "sh"];
        alone(
            "watch::tests::a_full_kernel_is_told_with_its_limit",
            &wrapper,
        );
        return;
    }
    let watched = Watched::new(&["d", "e"]);
    fs::create_dir(watched.at("f")).unwrap();
    let result = watched.watcher.mark(&watched.open("f"), &relative("f"));
    assert!(
        matches!(result, Err(MarkError::Full { limit: 3 })),
        "{result:?}"
    );
    // The others are heard as before.
    let mut watched = watched;
    watched.heard();
    watched.write("d/file");
    assert_eq!(watched.heard(), ["d"]);
}

#[test]
fn twenty_thousand_marks_take_a_few_megabytes() {
    if !is_alone() {
        let test = "watch::tests::twenty_thousand_marks_take_a_few_megabytes";
        let text = alone(test, &["env"]).unwrap();
        let told = text.lines().find(|line| line.contains("marks take"));
        eprintln!("{}", told.unwrap());
        return;
    }
    let marks_of = |count| {
        let mut marks = marks::Marks::default();
        for wd in 0..count {
            let path = format!("projects/service-{}/src/module-{wd}/tests", wd / 200);
            marks.set(wd, &relative(&path));
        }
        marks
    };
    // What it takes to run at all is no part of it.
    drop(marks_of(1000));
    let before = resident_kib();
    let marks = marks_of(20_000);
    let taken = resident_kib() - before;
    println!("{} marks take {taken} KiB", marks.len());
    assert!(taken < 4096, "{taken} KiB");
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}
