//! Values of a printer that survive a restart of the bridge.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::store::{Known, Store};

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
