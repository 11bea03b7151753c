//! The command as a user meets it: black-box tests over real trees, one behaviour each. They
//! are one binary, because each binary more is linked anew.

// A test's helper that unwraps has said what it expects, as a test has; and `pub` in the kit
// marks what a test may use, though no other crate can.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod compare;
mod conflicts;
mod crash;
mod delete;
mod delta;
mod ends;
mod faults;
mod kinds;
mod kit;
mod links;
mod moves;
mod output;
mod ownership;
mod rerun;
mod select;
mod ssh;
