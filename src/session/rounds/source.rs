//! The source's end of many rounds: hears what changes, waits until it has settled, and begins a
//! round with what may have changed. `after` is what follows from one.

mod after;

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use after::{RETRY, age_ms};

use crate::error::{Error, Result};
use crate::events::{Event, RoundEvent, Summary, Warning};
use crate::fs::Dir;
use crate::manifest::scan::Stale;
use crate::options::Mirroring;
use crate::path::RelPath;
use crate::protocol::frame::decode_message;
use crate::protocol::idle::{Idle, Woken};
use crate::protocol::message::FromSource;
use crate::session::root::SourceRoot;
use crate::session::rounds::Wishes;
use crate::session::rounds::bandwidth::with_bandwidth;
use crate::session::rounds::rest::{Rest, tell, tell_event};
use crate::session::rounds::torn::Torn;
use crate::session::source::SourceRole;
use crate::session::standing::{Standing, Unheard};
use crate::transport::{LinkReader, LinkWriter};
use crate::units::counted;
use crate::watch::{Dirty, Limits, MarkError, Pending, Reach, Watcher};

/// Once something is heard, more is coming: a file that is written to without a pause would wake us
/// for every write.
const GATHER: Duration = Duration::from_millis(10);

/// How often it is looked whether the root is still there.
const ROOT_LOOK: Duration = Duration::from_secs(2);

/// A source that is watched. Outlives the connections that its rounds run over.
pub(crate) struct SourceRounds {
    /// `None` where all is read from time to time instead.
    watcher: Option<Watcher>,
    pending: Pending,
    standing: Standing,
    torn: Torn,
    /// When everything was read the last time, over whatever connection.
    read_all: Option<Instant>,
    /// When a round is due though nothing is heard, since the two sides are not the same.
    retry: Option<(Instant, Extent)>,
    /// How long it waits after the next such round.
    pause: Duration,
    /// When the oldest change was made that a round could not bring over.
    unsent: Option<SystemTime>,
    /// What was said of it last: saying it again would tell nobody anything.
    lacking: Option<SystemTime>,
    /// What is to be said of the watch, until it has been.
    notice: Option<String>,
    /// When it was looked last whether the root is still there.
    looked: Instant,
}

/// What a round reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// Everything.
    Full,
    /// What changed.
    Changes,
}

/// Whom the rounds tell how it goes.
type Tell<'a> = &'a dyn Fn(RoundEvent);

impl SourceRounds {
    /// A source that is not watched yet: the first round marks what it reads.
    pub(crate) fn new(mirroring: &Mirroring) -> SourceRounds {
        let watcher = match mirroring.watch {
            true => Watcher::new().map_err(|err| err.to_string()).map(Some),
            false => Ok(None),
        };
        let notice = watcher.as_ref().err().cloned();
        SourceRounds {
            watcher: watcher.unwrap_or_default(),
            pending: Pending::new(mirroring.settle, mirroring.max_delay),
            standing: Standing::of_rounds(mirroring.root),
            torn: Torn::default(),
            read_all: None,
            retry: None,
            pause: RETRY,
            unsent: None,
            lacking: None,
            notice,
            looked: Instant::now(),
        }
    }

    /// Runs rounds over a link until a wish or an error ends them.
    pub(super) fn run(
        &mut self,
        role: &SourceRole<'_>,
        mirroring: &Mirroring,
        reader: &mut LinkReader,
        writer: &mut LinkWriter,
        wishes: &Wishes,
    ) -> Result<()> {
        if let Err(err) = refuse_file(role.root, self.read_all.is_some()) {
            Idle::new(reader, writer, role.cancel).say(&FromSource::Failed(err.to_remote()))?;
            return Err(err);
        }
        // Of what was sent over another link nobody here knows what of it arrived.
        self.standing.forget();
        let mut is_first = true;
        let mut far_drains = false;
        loop {
            let (extent, drains) = {
                let mut idle = Idle::new(reader, writer, role.cancel);
                let mut rest = Rest {
                    role,
                    idle: &mut idle,
                    wishes,
                    far_drains: &mut far_drains,
                };
                let Some(extent) = self.rest(&mut rest, mirroring, is_first)? else {
                    return rest.idle.say(&FromSource::Part);
                };
                self.begin(&mut rest, mirroring, extent)?;
                (extent, rest.drains())
            };
            let dirty = match (extent, drains) {
                // What is nearly due comes along: a rename between two directories is one change.
                (Extent::Changes, false) => self
                    .pending
                    .take_ready(Instant::now() + mirroring.settle / 4),
                _ => self.pending.take_all(),
            };
            let problems = self.round(role, mirroring, (reader, writer), extent, dirty)?;
            far_drains |= self.standing.asked_to_drain;
            // Of a source that is never at rest, what changed up to now is all there can be.
            if drains && self.standing.has_scan() {
                let mut idle = Idle::new(reader, writer, role.cancel);
                if problems == 0 {
                    return idle.say(&FromSource::Part);
                }
                let err = Error::Failed(format!(
                    "{} could not be brought over, so the standby is not what the source is",
                    counted(problems, "entry", "entries")
                ));
                idle.say(&FromSource::Failed(err.to_remote()))?;
                return Err(err);
            }
            is_first = false;
        }
    }

    /// Waits until a round is due; `None` once nothing is left to bring over and no more is wanted.
    fn rest(
        &mut self,
        rest: &mut Rest<'_, '_>,
        mirroring: &Mirroring,
        is_first: bool,
    ) -> Result<Option<Extent>> {
        loop {
            self.hear(&mut |event| rest.tell(event))?;
            let drains = rest.drains();
            if is_first || !self.standing.has_scan() {
                return Ok(Some(Extent::Full));
            }
            let now = Instant::now();
            if self.pending.due().is_some_and(|due| due <= now || drains) {
                return Ok(Some(Extent::Changes));
            }
            if drains {
                // Where nothing is heard, who knows what changed.
                return Ok(self.watcher.is_none().then_some(Extent::Full));
            }
            let read_all = self.read_all.unwrap_or(now);
            let rescan = read_all + self.between_full_rounds(mirroring);
            if rescan <= now {
                return Ok(Some(Extent::Full));
            }
            if self.has_lost_root(rest.role.root) {
                // The round says what has become of it.
                return Ok(Some(Extent::Full));
            }
            if let Some((at, extent)) = self.retry
                && at <= now
            {
                return Ok(Some(extent));
            }
            let retry = self.retry.map(|(at, _)| at);
            let next = [self.pending.due(), retry].into_iter().flatten().min();
            let until = next.map_or(rescan, |next| next.min(rescan));
            let other = self.watcher.as_ref().map(AsFd::as_fd);
            match rest.idle.wait(other, until)? {
                Woken::Said(frame) => {
                    rest.take(decode_message(&frame.body)?)?;
                }
                Woken::Other => thread::sleep(GATHER),
                Woken::Time => {}
            }
        }
    }

    /// Whether the root is not what it was, of which the kernel says nothing while we hold it open.
    fn has_lost_root(&mut self, root: &Path) -> bool {
        if self.looked.elapsed() < ROOT_LOOK {
            return false;
        }
        self.looked = Instant::now();
        let now = std::fs::metadata(root).map(|meta| (meta.dev(), meta.ino()));
        !self.standing.is_root(now.ok())
    }

    fn between_full_rounds(&self, mirroring: &Mirroring) -> Duration {
        match self.watcher {
            Some(_) => mirroring.rescan,
            None => mirroring.interval.min(mirroring.rescan),
        }
    }

    /// Has the destination begin a round.
    fn begin(
        &mut self,
        rest: &mut Rest<'_, '_>,
        mirroring: &Mirroring,
        extent: Extent,
    ) -> Result<()> {
        let full = extent == Extent::Full;
        rest.tell(RoundEvent::Began { full })?;
        rest.idle.say(&FromSource::Round {
            full,
            bandwidth_bytes_per_s: with_bandwidth(mirroring, rest.role.options)
                .transfer
                .bandwidth_bytes_per_s,
        })?;
        loop {
            // It may take its time, and the kernel keeps count of so much only.
            self.hear(&mut |event| rest.tell(event))?;
            let far = Instant::now() + Duration::from_secs(1);
            if let Woken::Said(frame) = rest.idle.wait(None, far)?
                && rest.take(decode_message(&frame.body)?)?
            {
                return Ok(());
            }
        }
    }

    /// Runs one round. Whatever it does not bring over is to be brought over still.
    fn round(
        &mut self,
        role: &SourceRole<'_>,
        mirroring: &Mirroring,
        (reader, writer): (&mut LinkReader, &mut LinkWriter),
        extent: Extent,
        dirty: Dirty,
    ) -> Result<u64> {
        let full = extent == Extent::Full;
        self.standing.stale = stale(&dirty);
        self.standing.rescan = full.then_some(Unheard::Counts);
        let options = with_bandwidth(mirroring, role.options);
        let role = SourceRole {
            options: &options,
            ..*role
        };
        let outcome = self.round_with_marks(&role, reader, writer, full);
        let summary = match outcome {
            Ok(summary) => summary,
            Err(err) => {
                self.pending.put_back(dirty);
                return Err(err);
            }
        };
        let mut idle = Idle::new(reader, writer, role.cancel);
        let mut events = Vec::new();
        self.hear(&mut |event| {
            events.push(event);
            Ok(())
        })?;
        let problems = summary.problems;
        if summary.churn > 0 {
            self.again(dirty.iter().map(|(dir, _)| dir));
        }
        let outdated: Vec<_> = self.standing.outdated().cloned().collect();
        self.again(outdated.iter());
        events.extend(self.outcome(&role, summary, &dirty, full));
        for event in events {
            tell(&role, &mut idle, event)?;
        }
        if let Some(message) = self.notice.take() {
            let warning = Event::Warning(Warning {
                topic: "watch".to_string(),
                entries: 0,
                message,
            });
            tell_event(&role, &mut idle, warning)?;
        }
        Ok(problems)
    }

    fn round_with_marks(
        &mut self,
        role: &SourceRole<'_>,
        reader: &mut LinkReader,
        writer: &mut LinkWriter,
        full: bool,
    ) -> Result<Summary> {
        let failed: Mutex<Option<MarkError>> = Mutex::default();
        let began = Instant::now();
        let outcome = match &self.watcher {
            Some(watcher) => {
                let mark = |dir: &Dir, path: &RelPath| match watcher.mark(dir, path) {
                    Ok(()) => {}
                    Err(err) => {
                        failed
                            .lock()
                            .unwrap_or_else(|e| e.into_inner())
                            .get_or_insert(err);
                    }
                };
                if full {
                    watcher.begin_rescan();
                }
                let outcome = role.round(reader, writer, &mut self.standing, Some(&mark));
                if full && outcome.is_ok() && self.standing.has_scan() {
                    watcher.end_rescan();
                }
                outcome
            }
            None => role.round(reader, writer, &mut self.standing, None),
        };
        if let Some(err) = failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
            self.notice = Some(format!(
                "the source is not watched, but read from time to time: {err}"
            ));
            self.watcher = None;
        }
        self.warn_of_limit(full);
        // A first copy into nothing reads no tree that could be kept.
        if full && outcome.is_ok() && self.standing.has_scan() {
            self.read_all = Some(began);
        }
        outcome.map(|summary| Summary {
            elapsed: began.elapsed(),
            ..summary
        })
    }

    /// Warns before the kernel's limit is reached, of which all processes of a user have a part.
    fn warn_of_limit(&mut self, full: bool) {
        let (Some(watcher), Ok(limits)) = (&self.watcher, Limits::read()) else {
            return;
        };
        let marks = watcher.directories();
        if full && marks.saturating_mul(5) > limits.max_user_watches.saturating_mul(4) {
            self.notice = Some(format!(
                "{} are watched, and {} is all that a user may watch: raise \
                 fs.inotify.max_user_watches, as with `sysctl -w fs.inotify.max_user_watches={}`",
                counted(marks, "directory", "directories"),
                limits.max_user_watches,
                marks.saturating_mul(4)
            ));
        }
    }

    /// Hears what changed while nobody can be told but who watches here.
    pub(super) fn listen(&mut self, tell: Tell<'_>) {
        // What cannot be heard now is found by the full round that comes first.
        let _ = self.hear(&mut |event| {
            tell(event);
            Ok(())
        });
    }

    /// Takes in what the kernel has to tell.
    fn hear(&mut self, tell: &mut dyn FnMut(RoundEvent) -> Result<()>) -> Result<()> {
        let Some(watcher) = &self.watcher else {
            return Ok(());
        };
        let heard = watcher
            .read(&mut self.pending)
            .map_err(|err| Error::io("hear changes of", b"the source", err))?;
        if heard.overflowed {
            tell(RoundEvent::Overflowed)?;
        }
        let oldest = self.lacks_since();
        if oldest != self.lacking {
            self.lacking = oldest;
            tell(RoundEvent::Lacking(oldest.map(age_ms)))?;
        }
        Ok(())
    }
}

/// Refuses a source that is a single file: what is watched is a directory. Where it was one
/// (`has_been_read`), it may be one again.
fn refuse_file(root: &Path, has_been_read: bool) -> Result<()> {
    let shown = root.display();
    match SourceRoot::open(root)?.single {
        None => Ok(()),
        Some(_) if has_been_read => Err(Error::Refused(format!(
            "{shown} was a directory and is none any more"
        ))),
        Some(_) => Err(Error::Usage(format!(
            "{shown} is no directory: a mirror keeps directories; use `cutover sync` for a file"
        ))),
    }
}

fn stale(dirty: &Dirty) -> Stale {
    let mut stale = Stale::default();
    for (path, reach) in dirty.iter() {
        match reach {
            Reach::Listing => stale.dirs.insert(path.clone()),
            Reach::Subtree => stale.trees.insert(path.clone()),
        };
    }
    stale
}
