//! What is kept, and how it changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::mqtt::{Audience, Worth};
use crate::topic::Topic;

/// What is kept of the bridge itself has no printer.
pub const BRIDGE: &str = "";

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Keeps a value for a printer, or forgets it.
    Value {
        /// The printer's id; empty for the bridge itself.
        printer: Arc<str>,
        /// What it is.
        what: &'static str,
        /// The value; `None` forgets it.
        value: Option<Bytes>,
    },
    /// Keeps an event that waits for the broker, or forgets it.
    Event {
        /// The printer's id; empty for the bridge itself.
        printer: Arc<str>,
        /// Its place among the events of that printer.
        sequence: u64,
        /// The event; `None` forgets it.
        event: Option<StoredEvent>,
    },
    /// Forgets everything of a printer, whatever was written of it before.
    Forget {
        /// The printer's id.
        printer: Arc<str>,
    },
}

/// An event that waits for the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Where it goes.
    pub topic: Topic,
    /// What it says, without `_delayed`.
    pub payload: Bytes,
    /// When it was received.
    pub received: SystemTime,
    /// Whether it carries `_delayed` when it is late.
    pub stamped: bool,
    /// What it is worth when there is no room.
    pub worth: Worth,
    /// Who must be there to hear it.
    pub audience: Audience,
}

/// What was there at the start.
#[derive(Debug, Default)]
pub struct Known {
    pub(super) kept: HashMap<(String, String), Vec<u8>>,
    pub(super) events: BTreeMap<(String, u64), StoredEvent>,
}

impl Known {
    /// The value kept for `printer`, if there is one that can be read.
    pub fn get<T: DeserializeOwned>(&self, printer: &str, what: &str) -> Option<T> {
        let value = self.kept.get(&(printer.to_owned(), what.to_owned()))?;
        match serde_json::from_slice(value) {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::warn!(printer, what, "cannot read an entry of data_dir: {error}");
                None
            }
        }
    }

    /// Takes the events of `printer` out, in order.
    pub fn take_events(&mut self, printer: &str) -> Vec<(u64, StoredEvent)> {
        let first = (printer.to_owned(), 0);
        let last = (printer.to_owned(), u64::MAX);
        let keys: Vec<_> = self.events.range(first..=last).map(|(key, _)| key.clone()).collect();
        keys.into_iter()
            .filter_map(|key| self.events.remove(&key).map(|event| (key.1, event)))
            .collect()
    }

    /// The printers that something is kept of.
    pub fn printers(&self) -> BTreeSet<&str> {
        let kept = self.kept.keys().map(|(printer, _)| printer.as_str());
        kept.chain(self.events.keys().map(|(printer, _)| printer.as_str())).collect()
    }
}
