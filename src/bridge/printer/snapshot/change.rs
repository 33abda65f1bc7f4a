//! A change of the snapshot: a state topic and its new payload, where it differs from the last (pure).

use std::io::{self, Write};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use serde::Serialize;

use crate::heater::Heater;

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
    Temperature(Heater),
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

/// A value's JSON as last published.
#[derive(Debug, Default)]
pub(super) struct Published(Bytes);

impl Published {
    /// The payload, if it differs from the last. One that does not costs no allocation.
    pub(super) fn change(
        &mut self,
        topic: StateTopic,
        value: &impl Serialize,
    ) -> Option<StateChange> {
        if self.is(value) {
            return None;
        }
        // Serialising plain structs of numbers and texts does not fail.
        self.0 = serde_json::to_vec(value).ok()?.into();
        Some(StateChange { topic, payload: self.0.clone() })
    }

    fn is(&self, value: &impl Serialize) -> bool {
        let mut compared = Compared { rest: &self.0 };
        serde_json::to_writer(&mut compared, value).is_ok() && compared.rest.is_empty()
    }
}

/// Takes what it expects and nothing else.
struct Compared<'a> {
    rest: &'a [u8],
}

impl Write for Compared<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let differs = || io::Error::from(io::ErrorKind::InvalidData);
        self.rest = self.rest.strip_prefix(bytes).ok_or_else(differs)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
