//! Plans as a user meets them: written, shown, checked and synced, over a real sshd on loopback.
//! Apart from the tests of `sync` because they need two hosts and hardly any tree.

// A test's helper that unwraps has said what it expects, as a test has; and `pub` in the kit
// marks what a test may use, though no other crate can.
#![allow(clippy::unwrap_used, unreachable_pub)]
// The kit is for trees; few of its words are used here.
#![allow(dead_code)]

#[path = "../common/mod.rs"]
mod common;

mod check;
mod init;
mod read;
mod show;
mod stage;
mod sync;
