//! Where the two sides meet.

pub mod snapshot;
pub mod timestamp;
