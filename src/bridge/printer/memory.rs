//! The state of a printer's task that outlives it: over a restart of the task, or of the bridge.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::discovery::PrinterDiscovery;
use super::prints::{self, PrintFinding, Prints};
use super::snapshot::{Snapshot, StateChange};
use crate::bridge::hub::watch::{Failures, Watch};
use crate::heater::Heater;
use crate::metrics::Latency;
use crate::octoprint::{Message, MessageKind};
use crate::receipt::Receipt;
use crate::store::{Known, Store};

/// The state that outlives a printer's task.
pub struct Memory {
    /// The rate factor that was set by a command; `None` while the rate follows the latency.
    pub rate: Persisted<Option<u32>>,
    /// The payload of `B/P/last_event`, which the broker may have lost.
    pub last_event: Persisted<Option<JsonPayload>>,
    /// The heaters that have a topic, while discovery is off; otherwise discovery persists them.
    pub heaters: Persisted<Vec<Heater>>,
    /// Discovery; `None` if it is off.
    pub discovery: Option<PrinterDiscovery>,
    /// The prints.
    pub prints: Prints,
    /// Results of inquiries about prints.
    pub findings: mpsc::Receiver<Box<PrintFinding>>,
    /// Metric of the publish latency.
    pub latency: Latency,
    /// Messages that were received and not processed when a task of the printer failed.
    pub unprocessed: VecDeque<(Message, Receipt)>,
    /// Reports failures of what the printer's task spawns.
    pub watch: Watch,
    /// Receives the reports.
    pub failures: Failures,
}

impl Memory {
    /// Restores the persisted state at the start of the bridge.
    pub fn recall(
        printer: &str,
        known: &Known,
        store: &Store,
        discovery: Option<PrinterDiscovery>,
        latency: Latency,
    ) -> Self {
        let (watch, failures) = Watch::new();
        let (tell, findings) = mpsc::channel(prints::MAX_FINDINGS);
        Self {
            rate: Persisted::restore("rate_factor", printer, known, store.clone()),
            last_event: Persisted::restore("last_event", printer, known, store.clone()),
            heaters: Persisted::restore("heaters", printer, known, store.clone()),
            discovery,
            prints: Prints::new(printer, known, store.clone(), tell, watch.clone()),
            findings,
            latency,
            unprocessed: VecDeque::new(),
            watch,
            failures,
        }
    }

    /// Returns the heaters that have a topic from before the start.
    pub fn known_heaters(&self) -> Option<Vec<Heater>> {
        match &self.discovery {
            Some(discovery) => discovery.known_heaters().cloned(),
            None => Some(self.heaters.get().clone()),
        }
    }

    /// Stores the heaters of `snapshot`. Returns the topics to clear now.
    pub fn follow_heaters(&mut self, snapshot: &mut Snapshot, now: Instant) -> Vec<StateChange> {
        let cleared = snapshot.take_cleared();
        let Some(discovery) = &mut self.discovery else {
            if !snapshot.known_heaters().eq(self.heaters.get()) {
                self.heaters.set(snapshot.known_heaters().cloned().collect());
            }
            return cleared;
        };
        discovery.follow_heaters(snapshot, cleared, now);
        Vec::new()
    }

    /// Returns the state for the next task: what a restart would restore, and unprocessed messages.
    pub fn restart(self) -> Self {
        let (watch, failures) = Watch::new();
        let (tell, findings) = mpsc::channel(prints::MAX_FINDINGS);
        let prints = self.prints.restarted(tell, watch.clone());
        let discovery = self.discovery.map(PrinterDiscovery::restart);
        let mut unprocessed = self.unprocessed;
        // The state of an earlier connection is outdated.
        unprocessed.retain(|(message, _)| {
            use MessageKind::{Connected, Current, History};
            !matches!(message.kind(), Connected | Current | History)
        });
        Self { prints, discovery, findings, unprocessed, watch, failures, ..self }
    }
}

/// A value that is persisted when it changes.
#[derive(Debug)]
pub struct Persisted<T> {
    store: Store,
    printer: Arc<str>,
    key: &'static str,
    value: T,
}

impl<T: Default + PartialEq + Serialize + DeserializeOwned> Persisted<T> {
    /// Restores the value that was persisted under `key`.
    pub fn restore(key: &'static str, printer: &str, known: &Known, store: Store) -> Self {
        let value = known.get(printer, key).unwrap_or_default();
        Self { store, printer: printer.into(), key, value }
    }

    /// Returns the value.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// Sets the value; an unchanged one is not written again.
    pub fn set(&mut self, value: T) {
        if value != self.value {
            self.value = value;
            self.store.persist(&self.printer, self.key, &self.value);
        }
    }
}

/// A JSON payload, persisted as raw JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPayload(pub Bytes);

impl Serialize for JsonPayload {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let json: &RawValue = serde_json::from_slice(&self.0).map_err(serde::ser::Error::custom)?;
        json.serialize(out)
    }
}

impl<'de> Deserialize<'de> for JsonPayload {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let json = Box::<str>::from(Box::<RawValue>::deserialize(from)?);
        Ok(Self(json.into_string().into()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::bridge::printer::messages::event;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn the_newest_value_outlives_the_bridge() {
        let dir = tempfile::tempdir().unwrap();
        let (store, known) = Store::open(Some(dir.path()));
        let restore = |printer, known, store| {
            Persisted::<Option<JsonPayload>>::restore("last_event", printer, known, store)
        };
        let mut last = restore("mk3", &known, store.clone());
        assert_eq!(*last.get(), None);
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let payload = |kind: &str, seconds| {
            JsonPayload(event::last_event(&kind.into(), at(seconds)).unwrap())
        };
        let done = payload("PrintDone", 1_700_000_000);
        last.set(Some(payload("PrintStarted", 1_600_000_000)));
        last.set(Some(done.clone()));
        // Closes although `last` has a handle.
        store.close(SOON).await;
        let (store, known) = Store::open(Some(dir.path()));
        drop(last);
        assert_eq!(*restore("mk3", &known, store.clone()).get(), Some(done));
        assert_eq!(*restore("mini", &known, store).get(), None);
    }
}
