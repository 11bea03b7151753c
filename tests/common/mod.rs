//! The kit that the black-box tests are written with: trees in, the command run, trees out.
//! It uses nothing of the library, so that it cannot share a mistake with it.

pub mod dump;
pub mod lab;
pub mod meanwhile;
pub mod prerequisites;
pub mod run;
pub mod sshd;
pub mod tree;
