//! Where the two sides meet.

pub mod command;
pub mod event;
pub mod snapshot;
pub mod timestamp;
