//! Entries of the store, and changes to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::mqtt::{Audience, Worth};
use crate::topic::Topic;

/// Printer id of the bridge's own entries.
pub const BRIDGE: &str = "";

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Stores or removes a value of a printer.
    Value {
        /// The printer's id; empty for the bridge itself.
        printer: Arc<str>,
        /// Name of the value.
        what: &'static str,
        /// The value; `None` removes it.
        value: Option<Bytes>,
    },
    /// Stores or removes an event that waits for the broker.
    Event {
        /// The printer's id; empty for the bridge itself.
        printer: Arc<str>,
        /// Its place among the events of that printer.
        sequence: u64,
        /// The event; `None` removes it.
        event: Option<StoredEvent>,
    },
    /// Removes everything of a printer.
    Forget {
        /// The printer's id.
        printer: Arc<str>,
    },
}

/// An event that waits for the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its topic.
    pub topic: Topic,
    /// Its payload, without `_delayed`.
    pub payload: Bytes,
    /// When it was received.
    pub received: SystemTime,
    /// Whether it carries `_delayed` when it is late.
    pub stamped: bool,
    /// Its worth when there is no room.
    pub worth: Worth,
    /// Who must be there to hear it.
    pub audience: Audience,
}

/// The content of the database at the start.
#[derive(Debug, Default)]
pub struct Known {
    pub(super) values: HashMap<(String, String), Vec<u8>>,
    pub(super) events: BTreeMap<(String, u64), StoredEvent>,
}

impl Known {
    /// Returns a value of `printer`, if there is one that can be parsed.
    pub fn get<T: DeserializeOwned>(&self, printer: &str, what: &str) -> Option<T> {
        let value = self.values.get(&(printer.to_owned(), what.to_owned()))?;
        match serde_json::from_slice(value) {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::warn!(printer, what, "cannot read an entry of data_dir: {error}");
                None
            }
        }
    }

    /// Takes the events of `printer`, in order.
    pub fn take_events(&mut self, printer: &str) -> Vec<(u64, StoredEvent)> {
        let first = (printer.to_owned(), 0);
        let last = (printer.to_owned(), u64::MAX);
        let keys: Vec<_> = self.events.range(first..=last).map(|(key, _)| key.clone()).collect();
        keys.into_iter()
            .filter_map(|key| self.events.remove(&key).map(|event| (key.1, event)))
            .collect()
    }

    /// Returns the printers that have entries.
    pub fn printers(&self) -> BTreeSet<&str> {
        let of_values = self.values.keys().map(|(printer, _)| printer.as_str());
        of_values.chain(self.events.keys().map(|(printer, _)| printer.as_str())).collect()
    }
}
