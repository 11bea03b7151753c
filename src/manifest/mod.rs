//! What a tree is: records of its entries, digests of its directories, and how both are read.

pub mod links;
pub mod listing;
pub mod record;
pub mod scan;
pub mod state;
pub mod tree;
