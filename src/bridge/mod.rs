//! Where the two sides meet.
//!
//! [`Hub::start`] starts: one connection to the broker, one task a printer. A printer's
//! task folds what its socket receives into the [`snapshot`], turns it into publications
//! ([`mapping`]), and hands its commands to an executor.

pub mod command;
pub mod discovery;
pub mod event;
mod executor;
pub mod facts;
pub mod home_assistant;
pub mod hub;
mod last_event;
pub mod mapping;
pub mod octoprint_mqtt;
mod oversize;
mod printer;
mod prints;
pub mod profile;
mod rate_limit;
mod rate_memory;
pub mod recovery;
pub mod setup;
pub mod snapshot;
pub mod socket_state;
pub mod timestamp;

pub use hub::{Hub, RunError, Vitals};
pub use setup::{SetLogLevel, SetupError};
