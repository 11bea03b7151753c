//! The switch: stop here, sync once more, prove it, start there; and the way back.
//!
//! A [`Conductor`] takes the steps in order (`step`). Each is written down before it begins and
//! after it ended (`journal`), so a switch that died goes on where it was, and which side is live
//! (`live`) can always be told. `acts` is what the steps do (`stopped` and `checks` the longer ones),
//! `undo` the same for the rollback, and `report` and `page` are what the operator files away.

mod acts;
mod checks;
mod conductor;
mod frame;
mod hand_over;
mod journal;
mod live;
mod page;
mod report;
mod step;
mod stopped;
mod undo;
mod watch;

pub use acts::commands_of;
pub use conductor::{Conductor, Order, Settled};
pub use frame::Frame;
pub use journal::{Heading, Journal, Record, What, reports_dir};
pub use live::Live;
pub use page::page;
pub use report::{CheckReport, Found, Report, RootReport, StepReport};
pub use step::{Again, ROLLBACK, SWITCH, Step};
pub use watch::{Told, Watch};
