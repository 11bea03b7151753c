//! Plans: everything that belongs together when a service moves, in one file.

pub mod model;
pub mod units;
