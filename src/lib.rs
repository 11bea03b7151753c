//! Moves large workspaces from one machine to another and keeps a warm standby until the switch.
//!
//! `doc/design.md` is the map: what a manifest is, how the two ends compare theirs, how content
//! travels and how it is written.

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
