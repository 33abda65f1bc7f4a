//! What one printer's task remembers over a restart of the bridge, one value at a time.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::store::{Known, Store};

/// A value that is kept in the store whenever it changes.
#[derive(Debug)]
pub struct Remembered<T> {
    store: Store,
    printer: Arc<str>,
    what: &'static str,
    value: T,
}

impl<T: Default + PartialEq + Serialize + DeserializeOwned> Remembered<T> {
    /// The value from before the start of the bridge, kept under the name `what`.
    pub fn restore(what: &'static str, printer: &str, known: &Known, store: Store) -> Self {
        let value = known.get(printer, what).unwrap_or_default();
        Self { store, printer: printer.into(), what, value }
    }

    /// The value.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// Takes in a new value; what is kept already is not written again.
    pub fn set(&mut self, value: T) {
        if value != self.value {
            self.value = value;
            self.store.persist(&self.printer, self.what, &self.value);
        }
    }
}

/// A payload that is JSON, kept as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload(pub Bytes);

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let json: &RawValue = serde_json::from_slice(&self.0).map_err(serde::ser::Error::custom)?;
        json.serialize(out)
    }
}

impl<'de> Deserialize<'de> for Payload {
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
    async fn it_outlives_the_bridge_and_the_newest_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (store, known) = Store::open(Some(dir.path()));
        let restore = |printer, known, store| {
            Remembered::<Option<Payload>>::restore("last_event", printer, known, store)
        };
        let mut last = restore("mk3", &known, store.clone());
        assert_eq!(*last.get(), None);
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let payload =
            |kind: &str, seconds| Payload(event::last_event(&kind.into(), at(seconds)).unwrap());
        let done = payload("PrintDone", 1_700_000_000);
        last.set(Some(payload("PrintStarted", 1_600_000_000)));
        last.set(Some(done.clone()));
        // At once, whatever other handles there are.
        store.close(SOON).await;
        let (store, known) = Store::open(Some(dir.path()));
        drop(last);
        assert_eq!(*restore("mk3", &known, store.clone()).get(), Some(done));
        assert_eq!(*restore("mini", &known, store).get(), None);
    }
}
