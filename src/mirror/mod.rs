//! Again and again: keeps a standby warm until the switch.
//!
//! `run` is the mirror; `note` turns what its rounds tell into what others see.
//!
//! `status` is what a mirror tells of itself, to whoever asks. Its threads write that on a `board`,
//! `control` is the door at which it is asked, `running` the one who knocks; `page` shows it over
//! HTTP, `service` to the service manager. `requests` is what it is asked to do, `schedule` how much
//! it may send by the hour.

pub mod board;
pub mod control;
mod last;
mod note;
pub mod page;
pub mod requests;
mod run;
pub mod running;
pub mod schedule;
pub mod service;
pub mod status;

pub use run::{Ended, Mirror, MirrorObserver, MirrorRoot, SilentMirror};
