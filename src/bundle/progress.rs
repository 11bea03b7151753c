//! How far a bundle is: told often enough for people, and seldom enough to cost nothing.

use std::time::{Duration, Instant};

use crate::events::{Event, Observer};
use crate::path::RelPath;

/// How often progress is told at most.
const EVERY: Duration = Duration::from_millis(100);

/// Running totals.
pub(super) struct Progress<'a> {
    observer: &'a dyn Observer,
    files: u64,
    bytes: u64,
    told: Instant,
}

impl<'a> Progress<'a> {
    /// Starts with what is to be done.
    pub(super) fn new(observer: &'a dyn Observer, files: u64, bytes: u64) -> Progress<'a> {
        observer.observe(Event::Planned {
            files,
            bytes,
            complete: true,
        });
        Progress {
            observer,
            files: 0,
            bytes: 0,
            told: Instant::now(),
        }
    }

    /// A file is done.
    pub(super) fn file(&mut self) {
        self.files += 1;
    }

    /// So many bytes more are done, of this file.
    pub(super) fn add(&mut self, bytes: u64, path: &RelPath) {
        self.reach(self.bytes.saturating_add(bytes), path);
    }

    /// So many bytes are done in all.
    pub(super) fn reach(&mut self, bytes: u64, path: &RelPath) {
        self.bytes = bytes;
        if self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            self.observer.observe(Event::Done {
                files: self.files,
                bytes,
            });
            self.observer.observe(Event::Current(path.clone()));
        }
    }

    /// Passes an event on.
    pub(super) fn tell(&self, event: Event) {
        self.observer.observe(event);
    }
}
