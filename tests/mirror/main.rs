//! What a mirror is held against: a tree that is changed at random, and the account of it.

// As in the other black-box tests.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "not every part of the kit is needed here")]
mod common;

mod behaviour;
mod browser;
mod churner;
mod hand_over;
mod hearing;
mod kit;
mod page;
mod random;
mod standby;
mod watch;
