//! Running totals of one session, added to by all its threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::apply::Landed;
use crate::events::Summary;
use crate::session::destination::lane::Lane;
use crate::session::destination::plan::FilePlan;

/// How often progress is told at most: a person sees no more.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// What was done so far.
pub(super) struct Counts {
    pub(super) destination_entries: AtomicU64,
    pub(super) streamed_entries: AtomicU64,
    pub(super) files_sent: AtomicU64,
    pub(super) files_patched: AtomicU64,
    pub(super) created: AtomicU64,
    pub(super) attributes_set: AtomicU64,
    pub(super) hard_linked: AtomicU64,
    pub(super) moved: AtomicU64,
    pub(super) copied_locally: AtomicU64,
    pub(super) deleted: AtomicU64,
    pub(super) extraneous: AtomicU64,
    changed_bytes: AtomicU64,
    flowing: AtomicU64,
    literal_bytes: AtomicU64,
    matched_bytes: AtomicU64,
    churn: AtomicU64,
    problems: AtomicU64,
    unread: AtomicBool,
    differs: AtomicBool,
    told: Mutex<Instant>,
    /// Large files under way, to be given up if the session breaks.
    lanes: Mutex<Vec<Weak<Lane>>>,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts {
            destination_entries: AtomicU64::new(0),
            streamed_entries: AtomicU64::new(0),
            files_sent: AtomicU64::new(0),
            files_patched: AtomicU64::new(0),
            created: AtomicU64::new(0),
            attributes_set: AtomicU64::new(0),
            hard_linked: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            copied_locally: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
            extraneous: AtomicU64::new(0),
            changed_bytes: AtomicU64::new(0),
            flowing: AtomicU64::new(0),
            literal_bytes: AtomicU64::new(0),
            matched_bytes: AtomicU64::new(0),
            churn: AtomicU64::new(0),
            problems: AtomicU64::new(0),
            unread: AtomicBool::new(false),
            differs: AtomicBool::new(false),
            told: Mutex::new(Instant::now()),
            lanes: Mutex::default(),
        }
    }
}

/// Adds to a total that nothing is ordered by.
pub(super) fn add(total: &AtomicU64, more: u64) {
    total.fetch_add(more, Ordering::Relaxed);
}

impl Counts {
    /// A file has landed.
    pub(super) fn landed(&self, landed: &Landed, size: u64, patched: bool) {
        let patched = patched && landed.matched_bytes > 0;
        add(
            if patched {
                &self.files_patched
            } else {
                &self.files_sent
            },
            1,
        );
        add(&self.changed_bytes, size);
        add(&self.literal_bytes, landed.literal_bytes);
        add(&self.matched_bytes, landed.matched_bytes);
    }

    /// A file would land, if this were no dry run.
    pub(super) fn would_land(&self, file: &FilePlan) {
        add(&self.files_sent, 1);
        add(&self.changed_bytes, file.entry.meta.size);
    }

    pub(super) fn problem(&self) {
        add(&self.problems, 1);
    }

    /// A file's content could not be read at the source.
    pub(super) fn unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    pub(super) fn source_problems(&self, problems: u64) {
        add(&self.problems, problems);
    }

    pub(super) fn churn(&self) {
        add(&self.churn, 1);
    }

    pub(super) fn differ(&self) {
        self.differs.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_problems(&self) -> bool {
        self.problems.load(Ordering::Relaxed) > 0
    }

    /// Parts of large files that have come, until the files have landed.
    pub(super) fn flow(&self, bytes: u64) {
        add(&self.flowing, bytes);
    }

    /// A large file is settled one way or the other.
    pub(super) fn ebb(&self, bytes: u64) {
        self.flowing.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Files and bytes dealt with, if it is time to tell.
    pub(super) fn progress(&self) -> Option<(u64, u64)> {
        let mut told = self.told.try_lock().ok()?;
        if told.elapsed() < PROGRESS_EVERY {
            return None;
        }
        *told = Instant::now();
        Some((
            self.files_sent.load(Ordering::Relaxed) + self.files_patched.load(Ordering::Relaxed),
            self.changed_bytes.load(Ordering::Relaxed) + self.flowing.load(Ordering::Relaxed),
        ))
    }

    pub(super) fn remember_lane(&self, lane: &Arc<Lane>) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|lane| lane.strong_count() > 0);
        if !lanes
            .iter()
            .any(|known| known.as_ptr() == Arc::as_ptr(lane))
        {
            lanes.push(Arc::downgrade(lane));
        }
    }

    /// The large files that are under way.
    pub(super) fn lanes(&self) -> Vec<Arc<Lane>> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.iter().filter_map(Weak::upgrade).collect()
    }

    /// The totals as a summary; what only the caller knows is left at its default.
    pub(super) fn summary(&self) -> Summary {
        let get = |total: &AtomicU64| total.load(Ordering::Relaxed);
        Summary {
            destination_entries: get(&self.destination_entries),
            files_sent: get(&self.files_sent),
            files_patched: get(&self.files_patched),
            created: get(&self.created),
            attributes_set: get(&self.attributes_set),
            hard_linked: get(&self.hard_linked),
            moved: get(&self.moved),
            copied_locally: get(&self.copied_locally),
            deleted: get(&self.deleted),
            extraneous: get(&self.extraneous),
            churn: get(&self.churn),
            problems: get(&self.problems),
            changed_bytes: get(&self.changed_bytes),
            literal_bytes: get(&self.literal_bytes),
            matched_bytes: get(&self.matched_bytes),
            differs: self.differs.load(Ordering::Relaxed),
            ..Summary::default()
        }
    }
}
