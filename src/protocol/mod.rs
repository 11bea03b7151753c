//! What the two ends say to each other, and how it is cut into bytes. Knows no files and no
//! processes: `session` gives the words their meaning, `transport` carries the bytes.

pub mod conn;
pub mod errand;
pub mod frame;
pub mod idle;
pub mod message;
pub mod queue;
