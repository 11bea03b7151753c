//! The destination's end of many rounds: takes part in each, and looks after the standby between
//! them.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::events::{Event, Generation, RoundEvent, Warning};
use crate::fs::{Dir, is_gone, marker_name};
use crate::host::{generations, marker};
use crate::options::{Mirroring, OnDrift};
use crate::path::{RelPath, escape};
use crate::protocol::errand::{Marker, MarkerRole};
use crate::protocol::frame::decode_message;
use crate::protocol::idle::{Idle, Woken};
use crate::protocol::message::{FromDestination, FromSource};
use crate::session::destination::DestinationRole;
use crate::session::rounds::Wishes;
use crate::session::standing::{Standing, Unheard};
use crate::transport::{LinkReader, LinkWriter};

/// How long it is until a generation is tried again that could not be made: each attempt may link a
/// million files.
const GENERATION_RETRY: Duration = Duration::from_secs(10 * 60);

/// How soon the end of longer work is noticed.
const LOOK: Duration = Duration::from_millis(20);

/// A standby while a connection lasts.
pub(super) struct DestinationRounds<'a> {
    role: &'a DestinationRole<'a>,
    mirroring: &'a Mirroring,
    standing: Standing,
    /// Whether drift was told, so that its end is told too.
    had_drift: bool,
    /// After one that failed.
    no_generation_before: Option<Instant>,
}

/// What the source asks for between rounds.
enum Asked {
    Round {
        full: bool,
        bandwidth_bytes_per_s: Option<u64>,
    },
    /// To part: all that changed has arrived.
    Part,
}

impl<'a> DestinationRounds<'a> {
    pub(super) fn new(role: &'a DestinationRole<'a>, mirroring: &'a Mirroring) -> Self {
        DestinationRounds {
            role,
            mirroring,
            standing: Standing::of_rounds(None),
            had_drift: false,
            no_generation_before: None,
        }
    }

    /// Takes part in rounds until the source parts, or an error ends them.
    pub(super) fn run(
        &mut self,
        reader: &mut LinkReader,
        writer: &mut LinkWriter,
        wishes: &Wishes,
    ) -> Result<()> {
        let allowed = self
            .refuse_contradictions()
            .and_then(|()| self.refuse_anothers());
        if let Err(err) = allowed {
            let mut idle = Idle::new(reader, writer, self.role.cancel);
            idle.say(&FromDestination::Failed(err.to_remote()))?;
            return Err(err);
        }
        loop {
            let asked = self.rest(reader, writer, wishes)?;
            let Asked::Round {
                full,
                bandwidth_bytes_per_s,
            } = asked
            else {
                return self.let_go();
            };
            let mut options = self.role.options.clone();
            options.transfer.bandwidth_bytes_per_s = bandwidth_bytes_per_s;
            let role = DestinationRole {
                options: &options,
                ..*self.role
            };
            self.standing.rescan = full.then_some(match self.mirroring.on_drift {
                OnDrift::Restore => Unheard::Counts,
                OnDrift::Report | OnDrift::Stop => Unheard::IsOverlooked,
            });
            if let Some(source) = role.local_source {
                source.forget_dirs();
            }
            role.round(reader, writer, &mut self.standing)?;
            if full {
                self.tell_drift(reader, writer)?;
            }
            self.mark()?;
            self.keep_generations(reader, writer, full)?;
        }
    }

    /// Makes a generation where one is due. One that could not be made is told as a warning: the
    /// standby itself is as it should be.
    fn keep_generations(
        &mut self,
        reader: &mut LinkReader,
        writer: &mut LinkWriter,
        full: bool,
    ) -> Result<()> {
        let Some(rule) = &self.mirroring.generations else {
            return Ok(());
        };
        let path = self.role.root;
        let root = Dir::open_root(path).map_err(|err| Error::io("open", self.shown(), err))?;
        if self
            .no_generation_before
            .is_some_and(|at| Instant::now() < at)
        {
            return Ok(());
        }
        let mut idle = Idle::new(reader, writer, self.role.cancel);
        let now = SystemTime::now();
        let made = while_beating(&mut idle, || {
            generations::make_if_due(&root, path, rule, now, self.role.cancel)
        })?;
        let shelved = match made {
            Ok(None) if !full => return Ok(()),
            Ok(_) => generations::list(&root, path),
            Err(err) => Err(err),
        };
        let shelved = match shelved {
            Ok(shelved) => shelved,
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(err) => {
                self.no_generation_before = Some(Instant::now() + GENERATION_RETRY);
                let warning = Event::Warning(Warning {
                    topic: "generations".to_string(),
                    entries: 0,
                    message: format!("no generation was made: {err}"),
                });
                return self.tell_event(&mut idle, warning);
            }
        };
        let known = shelved.generations.into_iter().map(|kept| Generation {
            id: kept.id,
            made_s: kept.made_s,
            means: kept.means,
            entries: kept.entries,
        });
        self.tell(&mut idle, RoundEvent::Generations(known.collect()))
    }

    fn refuse_contradictions(&self) -> Result<()> {
        if self.role.options.write.inplace && self.mirroring.generations.is_some() {
            return Err(Error::Usage(
                "--inplace changes files that former states share; use it without --keep"
                    .to_string(),
            ));
        }
        Ok(())
    }

    fn rest(
        &self,
        reader: &mut LinkReader,
        writer: &mut LinkWriter,
        wishes: &Wishes,
    ) -> Result<Asked> {
        let mut idle = Idle::new(reader, writer, self.role.cancel);
        let mut has_asked = false;
        loop {
            if wishes.is_draining() && !has_asked {
                idle.say(&FromDestination::Drain)?;
                has_asked = true;
            }
            let far = Instant::now() + Duration::from_secs(1);
            let Woken::Said(frame) = idle.wait(None, far)? else {
                continue;
            };
            match decode_message(&frame.body)? {
                FromSource::Round {
                    full,
                    bandwidth_bytes_per_s,
                } => {
                    idle.say(&FromDestination::Ready)?;
                    return Ok(Asked::Round {
                        full,
                        bandwidth_bytes_per_s,
                    });
                }
                FromSource::Part => return Ok(Asked::Part),
                FromSource::Event(event) => self.role.observer.observe(event),
                FromSource::Failed(error) => return Err(Error::Remote(error)),
                _ => return Err(Error::protocol("a message out of place between rounds")),
            }
        }
    }

    /// Tells what others changed, as the full round that is over found it.
    fn tell_drift(&mut self, reader: &mut LinkReader, writer: &mut LinkWriter) -> Result<()> {
        let found = std::mem::take(&mut self.standing.unheard);
        if found.is_empty() && !self.had_drift {
            return Ok(());
        }
        self.had_drift = !found.is_empty();
        let total = found.len() as u64;
        let mut idle = Idle::new(reader, writer, self.role.cancel);
        let dirs: Vec<RelPath> = found.into_iter().take(RoundEvent::MOST_NAMED).collect();
        let first = dirs.first().map(ToString::to_string);
        self.tell(&mut idle, RoundEvent::Drift { dirs, total })?;
        match (self.mirroring.on_drift, first) {
            (OnDrift::Stop, Some(first)) => {
                let err = Error::Refused(format!(
                    "others have changed the standby {}, in {total} directories, first in {}; the \
                     mirror stops, as --on-drift=stop says; look at it with `cutover diff`, then \
                     start the mirror anew",
                    self.role.root.display(),
                    if first.is_empty() { "." } else { &first },
                ));
                idle.say(&FromDestination::Failed(err.to_remote()))?;
                Err(err)
            }
            _ => Ok(()),
        }
    }

    fn tell(&self, idle: &mut Idle<'_, LinkReader, LinkWriter>, event: RoundEvent) -> Result<()> {
        self.tell_event(idle, Event::Round(event))
    }

    fn tell_event(&self, idle: &mut Idle<'_, LinkReader, LinkWriter>, event: Event) -> Result<()> {
        if self.role.forwards {
            return idle.say(&FromDestination::Event(event));
        }
        self.role.observer.observe(event);
        Ok(())
    }

    /// Refuses a root that is the standby of another source.
    fn refuse_anothers(&self) -> Result<()> {
        match self.found_marker()? {
            Some((_, found)) if found.role == MarkerRole::Standby && !self.is_ours(&found) => {
                // Without a plan the source stands for it.
                let plan = match found.plan == found.other {
                    true => String::new(),
                    false => format!(", by plan {}", escape(found.plan.as_bytes())),
                };
                Err(Error::Refused(format!(
                    "{} is the standby of {}{plan}; to make it another's, remove the file {} in it",
                    self.role.root.display(),
                    escape(found.other.as_bytes()),
                    marker_name(),
                )))
            }
            None if self.mirroring.goes_on => Err(Error::Refused(format!(
                "{} is not the standby that it was: it has no marker; mount the standby, or start the \
                 mirror anew",
                self.role.root.display()
            ))),
            // A fence is met by the first round, which says how to go on.
            _ => Ok(()),
        }
    }

    /// Marks the root as the standby that it is, unless it is marked.
    fn mark(&self) -> Result<()> {
        if self.found_marker()?.is_none() {
            let root = Dir::open_root(self.role.root);
            let root = root.map_err(|err| Error::io("open", self.shown(), err))?;
            marker::put(&root, self.role.root, &self.marker())?;
        }
        Ok(())
    }

    /// The standby is one no longer: whoever asked for that makes it live.
    fn let_go(&self) -> Result<()> {
        match self.found_marker()? {
            Some((root, found)) if self.is_ours(&found) => marker::take_off(&root, self.role.root),
            _ => Ok(()),
        }
    }

    fn found_marker(&self) -> Result<Option<(Dir, Marker)>> {
        let root = match Dir::open_root(self.role.root) {
            Err(err) if is_gone(&err) => return Ok(None),
            root => root.map_err(|err| Error::io("open", self.shown(), err))?,
        };
        let found = marker::read(&root);
        let found = found.map_err(|err| Error::io("read the marker of", self.shown(), err))?;
        Ok(found.map(|found| (root, found)))
    }

    fn is_ours(&self, found: &Marker) -> bool {
        let Mirroring { name, source, .. } = self.mirroring;
        found.role == MarkerRole::Standby && found.plan == *name && found.other == *source
    }

    fn marker(&self) -> Marker {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Marker {
            role: MarkerRole::Standby,
            plan: self.mirroring.name.clone(),
            other: self.mirroring.source.clone(),
            since_s: since.map_or(0, |since| since.as_secs()),
        }
    }

    fn shown(&self) -> &[u8] {
        self.role.root.as_os_str().as_encoded_bytes()
    }
}

/// Does what may take longer than the other end would wait for a word.
fn while_beating<T: Send>(
    idle: &mut Idle<'_, LinkReader, LinkWriter>,
    work: impl FnOnce() -> T + Send,
) -> Result<T> {
    thread::scope(|scope| {
        let working = scope.spawn(work);
        while !working.is_finished() {
            idle.beat()?;
            thread::sleep(LOOK);
        }
        working
            .join()
            .map_err(|_| Error::protocol("the destination panicked"))
    })
}
