//! Where the two sides meet.
//!
//! The [`hub`] is the bridge itself: one connection to the broker, one task a printer. A printer's task
//! ([`printer`]) folds what its socket receives into a snapshot, turns it into publications, and hands
//! its commands to an executor.

pub mod hub;
mod oversize;
pub mod printer;
pub mod setup;

pub use hub::{Hub, RunError, Vitals};
pub use setup::{SetLogLevel, SetupError};
