//! Moves large workspaces from one machine to another and keeps a warm standby until the switch.
//!
//! `doc/design.md` is the map: what a manifest is, how the two ends compare theirs, how content
//! travels and how it is written.
//!
//! All that the command does can be had from here: [`session::run`] syncs, compares or verifies one
//! tree, [`mirror::Mirror`] keeps a standby, [`switch`] moves what a [`plan`] names, [`bundle`] packs
//! it into one file. Whoever calls sees the work through an [`events::Observer`].
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use cutover::events::{Cancel, Silent};
//! use cutover::session::{Job, Mode, run};
//! use cutover::transport::Location;
//!
//! let job = Job {
//!     source: Location::parse("/srv/app".as_ref())?,
//!     destination: Location::parse("newhost:/srv/app".as_ref())?,
//!     options: Default::default(),
//!     remote: Default::default(),
//!     mode: Mode::Sync,
//! };
//! let summary = run(&job, Arc::new(Silent), &Cancel::new())?;
//! println!("{} created, {} problems", summary.created, summary.problems);
//! # Ok::<(), cutover::error::Error>(())
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!("cutover runs on Linux only: its system calls are all in `fs`, where a port starts");

pub mod apply;
pub mod bundle;
pub mod cli;
pub mod delta;
pub mod digest;
pub mod entry;
pub mod error;
pub mod events;
pub mod filter;
pub mod fs;
pub mod host;
pub mod manifest;
pub mod mirror;
pub mod options;
pub mod path;
pub mod plan;
pub mod protocol;
pub mod retention;
pub mod session;
pub mod switch;
pub mod transport;
pub mod ui;
pub mod units;
pub mod watch;
