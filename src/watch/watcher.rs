//! Marks directories and hears from the kernel what changes in them: the only place that speaks
//! inotify.
//!
//! A directory is marked by its descriptor, so that no symlink leads a mark out of the tree, and
//! before it is listed, so that no moment is left between the two. One that appears, or moves, is
//! noted with all below it, and the marks of one that moved are given up: whoever reads it where it
//! is now marks it anew before listing it. So the path of a mark may be out of date, but never that of
//! a change that nobody else would find.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::dirty::Reach;
use super::limits::{Limits, MarkError};
use super::marks::Marks;
use super::pending::{Now, Pending};
use crate::fs::{Dir, is_own_name, is_temp};
use crate::path::{Name, RelPath};

/// All that changes what a listing says. A file's last close tells that its writer is done, and
/// comes after changes that only a memory map made.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::EXCL_UNLINK)
    .union(WatchFlags::ONLYDIR);

/// What one `read` may return: some 2000 events with names of usual lengths.
const BUFFER_BYTES: usize = 64 << 10;

/// After so many events [`Watcher::read`] returns, however many more there are: as many as the
/// kernel keeps unless told otherwise. They take some 20 ms, for which scanning threads wait.
const MOST_AT_ONCE: u64 = 16_384;

/// How many marks are dropped before their echoes are read: each adds an event, and a queue that
/// is full loses others.
const DROPPED_AT_ONCE: usize = 1024;

/// Hears what changes in a tree. Shared by all scanning threads; one thread reads.
pub struct Watcher {
    inotify: OwnedFd,
    marks: Mutex<Marks>,
}

/// What [`Watcher::read`] took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Events, those included that say nothing new.
    pub events: u64,
    /// The kernel had more to tell than it keeps; the whole tree has been noted.
    pub overflowed: bool,
}

impl Watcher {
    /// One that hears nothing yet.
    pub fn new() -> io::Result<Watcher> {
        let flags = CreateFlags::NONBLOCK | CreateFlags::CLOEXEC;
        let inotify = match inotify::init(flags) {
            Err(Errno::MFILE) => {
                return Err(io::Error::other(
                    "no watcher to be had: too many open files, or the limit that \
                     `sysctl fs.inotify.max_user_instances` shows is reached",
                ));
            }
            inotify => inotify?,
        };
        Ok(Watcher {
            inotify,
            marks: Mutex::default(),
        })
    }

    /// Marks an open directory, or says where one is now that is marked already. What changes in it
    /// afterwards is heard, so it is marked before it is listed.
    pub fn mark(&self, dir: &Dir, path: &RelPath) -> Result<(), MarkError> {
        let by_descriptor = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
        // Held across the call, so that no event of a new mark is read before the mark is known.
        let mut marks = self.marks();
        match inotify::add_watch(&self.inotify, by_descriptor, CHANGES) {
            Ok(wd) => {
                marks.set(wd, path);
                Ok(())
            }
            Err(Errno::NOSPC) => Err(MarkError::Full {
                limit: Limits::read()?.max_user_watches,
            }),
            Err(err) => Err(MarkError::Io(err.into())),
        }
    }

    /// How many directories are marked.
    pub fn directories(&self) -> u64 {
        self.marks().len()
    }

    /// A scan of the whole tree begins, which will mark every directory anew.
    ///
    /// The marks stay meanwhile. To drop them all first would tell of nothing that is not read
    /// anyway, and the kernel's 20,000 answers would overflow its queue.
    pub fn begin_rescan(&self) {
        self.marks().begin_scan();
    }

    /// That scan has ended well: drops the marks that it has not renewed. They are on directories
    /// that are no part of the tree any more.
    pub fn end_rescan(&self) {
        self.marks().give_up_unrenewed();
    }

    /// Takes what the kernel has to tell, without waiting, into `pending`.
    pub fn read(&self, pending: &mut Pending) -> io::Result<Heard> {
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        let mut reader = Reader::new(&self.inotify, buffer.spare_capacity_mut());
        let now = Now::by_clocks();
        let mut marks = self.marks();
        let mut heard = Heard::default();
        let mut moved = HashSet::new();
        while heard.events < MOST_AT_ONCE || !reader.is_buffer_empty() {
            match reader.next() {
                Ok(event) => {
                    heard.events += 1;
                    let ear = Ear {
                        marks: &mut marks,
                        pending: &mut *pending,
                        heard: &mut heard,
                        moved: &mut moved,
                        now,
                    };
                    ear.hear(&event);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    marks.give_up_below(&moved);
                    moved.clear();
                    if !self.drop_doomed(&mut marks)? {
                        break;
                    }
                }
                Err(err) => return Err(err.into()),
            }
        }
        marks.give_up_below(&moved);
        Ok(heard)
    }

    /// Tells the kernel to drop some of the marks that were given up; whether there were any.
    fn drop_doomed(&self, marks: &mut Marks) -> io::Result<bool> {
        let doomed = marks.take_doomed(DROPPED_AT_ONCE);
        for &wd in &doomed {
            match inotify::remove_watch(&self.inotify, wd) {
                // It has gone with its directory.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(err) => return Err(err.into()),
            }
        }
        Ok(!doomed.is_empty())
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Watcher {
    /// Ready to read when there is something to hear.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// What one event may change.
struct Ear<'a> {
    marks: &'a mut Marks,
    pending: &'a mut Pending,
    heard: &'a mut Heard,
    /// Directories that moved; the marks below them are given up together.
    moved: &'a mut HashSet<RelPath>,
    now: Now,
}

impl Ear<'_> {
    fn hear(self, event: &inotify::Event<'_>) {
        let flags = event.events();
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.heard.overflowed = true;
            self.pending.note_subtree(&RelPath::root(), self.now);
            return;
        }
        // A mark that was given up: what is there is read anyway, or no part of the tree.
        let Some(dir) = self.marks.path(event.wd()) else {
            return;
        };
        match event.file_name() {
            Some(name) => {
                let appears = flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
                let reach = match appears && flags.contains(ReadFlags::ISDIR) {
                    // Even where one of that name was before: nothing is known of this one.
                    true => Reach::Subtree,
                    false => Reach::Listing,
                };
                note_entry(self.pending, dir, name.to_bytes(), reach, self.now);
            }
            None => self.hear_of_itself(event.wd(), flags),
        }
    }

    /// What is told of a marked directory itself. Attributes and deletion are told to its parent too;
    /// the root has none that is marked.
    fn hear_of_itself(self, wd: i32, flags: ReadFlags) {
        let Some(dir) = self.marks.path(wd) else {
            return;
        };
        if dir.is_root() {
            self.pending.note(dir, None, self.now);
        } else if flags.intersects(ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT) {
            // A scan may have met it at its new place already, under the mark that goes now.
            self.pending.note_subtree(dir, self.now);
            self.moved.insert(dir.clone());
        }
        if flags.contains(ReadFlags::IGNORED) {
            self.marks.forget(wd);
        }
    }
}

/// Notes an entry unless listings leave it out as well.
fn note_entry(pending: &mut Pending, dir: &RelPath, name: &[u8], reach: Reach, now: Now) {
    if is_temp(name) || (dir.is_root() && is_own_name(name)) {
        return;
    }
    match Name::new(name) {
        Ok(name) => pending.note_entry(dir, &name, reach, now),
        Err(_) => pending.note(dir, None, now),
    }
}
