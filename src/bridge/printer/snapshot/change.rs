//! A change of the snapshot: a state topic and its new payload (pure).

use std::time::{Instant, SystemTime};

use bytes::Bytes;

/// A state topic of one printer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateTopic {
    /// `printer`
    Printer,
    /// `job`
    Job,
    /// `progress`
    Progress,
    /// `temperature/<heater>`
    Temperature(String),
    /// `position`
    Position,
    /// `factors`
    Factors,
    /// `resends`
    Resends,
    /// `server`
    Server,
}

/// A state topic and its new payload; an empty payload clears the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// Which topic.
    pub topic: StateTopic,
    /// Its payload.
    pub payload: Bytes,
}

/// When a message was received, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For pauses and ages.
    pub instant: Instant,
    /// For times of day.
    pub wall: SystemTime,
}
