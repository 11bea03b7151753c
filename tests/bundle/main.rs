//! Bundles as a user meets them: made, opened with the tools that they are promised to open with,
//! proven, restored, and refused when they are not what they should be.

// A test's helper that unwraps has said what it expects, as a test has; and `pub` in the kit
// marks what a test may use, though no other crate can.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "not all of the kit is needed here")]
mod common;

mod archive;
mod by_hand;
mod create;
mod damage;
mod hostile;
mod kit;
mod plan;
mod restore;
mod seal;
