//! Again and again: keeps a standby warm until the switch.
//!
//! `status` is what a mirror tells of itself, to whoever asks.

pub mod status;
