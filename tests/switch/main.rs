//! Moving a service from one machine to another, as an operator does it: two sshds with homes of
//! their own, a service that runs, the command, and what is there afterwards.

// A test's helper that unwraps has said what it expects, as a test has; and `pub` in the kit
// marks what a test may use, though no other crate can.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod astray;
mod deaths;
mod footguns;
mod gateway;
mod losses;
mod mirrored;
mod postgres;
mod readme;
mod redis;
mod site;
