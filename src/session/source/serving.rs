//! What all threads of the source share, and how they work through what the destination asks for.

use std::collections::HashMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use crate::error::Result;
use crate::events::{Problem, Side};
use crate::fs::{self, Dir, ListScratch};
use crate::manifest::content::{hash_of, hash_tree};
use crate::manifest::listing::{Lister, Listing};
use crate::manifest::record::Entry;
use crate::manifest::recorded::Recorded;
use crate::manifest::scan::Scan;
use crate::manifest::state::FactBook;
use crate::path::{Name, RelPath};
use crate::protocol::conn::Outbox;
use crate::protocol::message::{ExpandRequest, Fault, FromSource, Want};
use crate::protocol::queue::Queue;
use crate::session::source::SourceRole;
use crate::session::source::link::SumsSlots;
use crate::session::source::send::{FilesJob, Sender};
use crate::session::source::stream::{StreamJob, Streamed};
use crate::session::throttle::Throttle;

/// What the destination asked for.
pub(super) enum Job {
    Expand(ExpandRequest),
    ListLinks,
    Stream(StreamJob),
    SendFiles(FilesJob),
    Want(Want),
    Hash(RelPath),
}

/// What all threads of the source share.
pub(super) struct Serving<'a> {
    pub(super) role: &'a SourceRole<'a>,
    pub(super) root: &'a Dir,
    pub(super) lister: Lister<'a>,
    /// Stands for the tree where the source is a manifest.
    pub(super) recorded: Option<&'a Recorded>,
    pub(super) scan: Option<&'a Scan>,
    pub(super) outbox: &'a Outbox,
    pub(super) jobs: &'a Queue<Job>,
    pub(super) sums: &'a SumsSlots,
    pub(super) throttle: &'a Throttle,
    /// Hashes of what was sent.
    pub(super) facts: FactBook,
    pub(super) next_id: AtomicU64,
    pub(super) root_dev: u64,
    /// A single file's name here and at the destination.
    pub(super) renamed: Option<(Name, Name)>,
    pub(super) streamed: Streamed,
    /// Linked files whose content is on its way, in streams: the other names need none.
    pub(super) led: Mutex<HashMap<u64, RelPath>>,
}

impl Serving<'_> {
    /// Works on what the destination asks for until it is done or gone.
    pub(super) fn serve_jobs(&self) -> Result<()> {
        let failure = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..crate::session::send_threads() {
                scope.spawn(|| {
                    if let Err(err) = self.work() {
                        self.jobs.abort();
                        let mut failure = failure.lock().unwrap_or_else(|e| e.into_inner());
                        failure.get_or_insert(err);
                    }
                });
            }
        });
        match failure.into_inner().unwrap_or_else(|e| e.into_inner()) {
            Some(err) => Err(err),
            None => self.role.cancel.check(),
        }
    }

    fn work(&self) -> Result<()> {
        let mut scratch = ListScratch::new();
        let mut sender = Sender::new(self);
        while let Some(job) = self.jobs.pop() {
            self.role.cancel.check()?;
            match job {
                Job::Expand(request) => self.expand(request, &mut scratch)?,
                Job::ListLinks => self.list_links(&mut scratch)?,
                Job::Stream(job) => self.stream(job, &mut scratch, &mut sender)?,
                Job::SendFiles(job) => sender.send_files(job)?,
                Job::Want(want) => sender.send_wanted(want)?,
                Job::Hash(path) => self.hash(path)?,
            }
        }
        Ok(())
    }

    /// A directory's listing, complete.
    pub(super) fn list(&self, dir: &RelPath, scratch: &mut ListScratch) -> io::Result<Listing> {
        self.list_where(dir, scratch, &|_| true)
    }

    /// Lists those entries of a directory whose names are wanted.
    pub(super) fn list_where(
        &self,
        dir: &RelPath,
        scratch: &mut ListScratch,
        is_wanted: &dyn Fn(&Name) -> bool,
    ) -> io::Result<Listing> {
        let node = self
            .scan
            .and_then(|scan| Some(scan.tree.node(scan.tree.find(dir)?)));
        if node.is_some_and(|node| node.flags.elsewhere) {
            return Ok(Listing::default());
        }
        match self.recorded {
            Some(recorded) => {
                let mut listing = recorded.list(dir);
                listing.rows.retain(|row| is_wanted(&row.entry.name));
                Ok(listing)
            }
            None => self.lister.list_where(dir, scratch, is_wanted),
        }
    }

    /// Answers a request for the hash of a file or a whole directory.
    fn hash(&self, path: RelPath) -> Result<()> {
        let is_dir = self
            .scan
            .is_some_and(|scan| scan.tree.find(&path).is_some());
        let hash = match (self.recorded, is_dir) {
            (Some(_), _) => None,
            (None, true) => hash_tree(&self.lister, &path)?,
            (None, false) => {
                let file = self.inward(path.clone());
                let admitted = self.admit_file(&file).ok();
                admitted.and_then(|()| hash_of(&self.lister, &file))
            }
        };
        self.outbox.say(&FromSource::Hash { path, hash })
    }

    /// An entry as the destination knows it: a single file can have another name there.
    pub(super) fn outward(&self, mut entry: Entry) -> Entry {
        if let Some((_, there)) = &self.renamed {
            entry.name = there.clone();
        }
        entry
    }

    /// A path as it is here.
    pub(super) fn inward(&self, path: RelPath) -> RelPath {
        match &self.renamed {
            Some((here, _)) => RelPath::root().join(here),
            None => path,
        }
    }

    /// Tells the destination why it learns nothing of a directory.
    pub(super) fn tell_unlisted(&self, dir: &RelPath, err: &io::Error) -> Result<()> {
        // An interrupt is no fault of the directory.
        self.role.cancel.check()?;
        if !fs::is_gone(err) {
            return self.tell_new(self.problem(dir, "read directory", err));
        }
        let known = self.scan.map_or(&[][..], |scan| &scan.vanished);
        match known.contains(dir) {
            true => Ok(()),
            false => self.unsent(dir.clone(), Fault::Vanished),
        }
    }

    /// Tells the destination of an entry that cannot be read, unless the scan has found it.
    pub(super) fn tell_new(&self, problem: Problem) -> Result<()> {
        let known = self.scan.map_or(&[][..], |scan| &scan.problems);
        if known.iter().any(|known| known.path == problem.path) {
            return Ok(());
        }
        self.unsent(problem.path.clone(), Fault::Problem(problem))
    }

    /// Tells the destination that something will not come.
    pub(super) fn unsent(&self, path: RelPath, why: Fault) -> Result<()> {
        self.outbox.say_paid(&FromSource::Unsent { path, why })
    }

    pub(super) fn problem(&self, path: &RelPath, act: &str, err: &io::Error) -> Problem {
        Problem {
            side: Side::Source,
            act: act.to_string(),
            path: path.clone(),
            reason: err.to_string(),
            os_error: err.raw_os_error(),
        }
    }
}
