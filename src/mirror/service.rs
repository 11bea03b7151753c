//! A mirror as a service: what its manager is told and wants to hear, how it is described to it, how
//! lines are written for its journal, and what it leaves to others of the machine.

mod log;
mod notify;
mod priority;
mod unit;

pub use log::{Level, LogStyle};
pub use notify::{Notifier, Watchdog};
pub use priority::{parse_io_priority, parse_nice};
pub use unit::{Manager, Unit};
