//! The source between two rounds: what it hears of the destination then, and whom it tells how it
//! goes.

use crate::error::{Error, Result};
use crate::events::{Event, Phase, RoundEvent};
use crate::protocol::idle::Idle;
use crate::protocol::message::{FromDestination, FromSource};
use crate::session::rounds::Wishes;
use crate::session::source::SourceRole;
use crate::transport::{LinkReader, LinkWriter};

/// The source between two rounds.
pub(super) struct Rest<'a, 'b> {
    pub(super) role: &'a SourceRole<'a>,
    pub(super) idle: &'a mut Idle<'b, LinkReader, LinkWriter>,
    pub(super) wishes: &'a Wishes,
    /// Whether the other end wishes that all that changed is brought over, and then no more.
    pub(super) far_drains: &'a mut bool,
}

impl Rest<'_, '_> {
    pub(super) fn drains(&self) -> bool {
        self.wishes.is_draining() || *self.far_drains
    }

    /// Takes what the destination says between rounds; `true` where it is ready for one.
    pub(super) fn take(&mut self, message: FromDestination) -> Result<bool> {
        match message {
            FromDestination::Ready => return Ok(true),
            FromDestination::Drain => *self.far_drains = true,
            FromDestination::Event(event) => self.role.observer.observe(event),
            FromDestination::Failed(error) => return Err(Error::Remote(error)),
            _ => return Err(Error::protocol("a message out of place between rounds")),
        }
        Ok(false)
    }

    pub(super) fn tell(&mut self, event: RoundEvent) -> Result<()> {
        tell(self.role, self.idle, event)
    }
}

/// Tells who watches, here or through the other end.
pub(super) fn tell(
    role: &SourceRole<'_>,
    idle: &mut Idle<'_, LinkReader, LinkWriter>,
    event: RoundEvent,
) -> Result<()> {
    if let RoundEvent::Began { full: true } = event {
        tell_event(role, idle, Event::Phase(Phase::Scanning))?;
    }
    tell_event(role, idle, Event::Round(event))
}

pub(super) fn tell_event(
    role: &SourceRole<'_>,
    idle: &mut Idle<'_, LinkReader, LinkWriter>,
    event: Event,
) -> Result<()> {
    if role.forwards {
        return idle.say(&FromSource::Event(event));
    }
    role.observer.observe(event);
    Ok(())
}
