//! What a tree is: records of its entries, digests of its directories, and how both are read.

pub mod compact;
mod complete;
pub mod content;
pub mod links;
pub mod listing;
pub mod lost;
pub mod owners;
pub mod record;
pub mod recorded;
pub mod scan;
pub mod spool;
pub mod state;
pub mod tree;
