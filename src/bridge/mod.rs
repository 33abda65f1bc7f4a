//! Connects OctoPrint and MQTT.
//!
//! The [`hub`] owns the connection to the broker and one task per printer. A printer's task
//! ([`printer`]) folds the messages of its socket into a snapshot, maps them to publications, and
//! passes commands to an executor.

pub mod fleet;
pub mod hub;
mod oversize;
pub mod printer;
pub mod setup;

pub use hub::{Hub, RunError, Vitals};
pub use setup::{SetLogLevel, SetupError};
