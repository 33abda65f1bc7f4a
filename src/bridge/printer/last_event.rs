//! The last event is known over a restart of the bridge, also where the broker forgot it.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::store::{Change, Known, Store};

const WHAT: &str = "last_event";

/// Keeps the payload of `B/P/last_event`.
#[derive(Debug)]
pub struct LastEvent {
    store: Store,
    printer: Arc<str>,
    kept: Option<Bytes>,
}

impl LastEvent {
    /// The last event from before the start of the bridge.
    pub fn restore(printer: &str, known: &Known, store: Store) -> Self {
        // Kept as JSON, so what is no JSON is no payload.
        let kept = known.get::<Box<RawValue>>(printer, WHAT);
        let kept = kept.map(|kept| Box::<str>::from(kept).into_string().into());
        Self { store, printer: printer.into(), kept }
    }

    /// Its payload; `None` where no event is known.
    pub fn payload(&self) -> Option<Bytes> {
        self.kept.clone()
    }

    /// Takes in the payload of an event; what is kept already is not written again.
    pub fn update(&mut self, payload: &Bytes) {
        if self.kept.as_ref() == Some(payload) {
            return;
        }
        self.kept = Some(payload.clone());
        let (printer, value) = (self.printer.clone(), Some(payload.clone()));
        self.store.write(vec![Change::Keep { printer, what: WHAT, value }]);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::bridge::printer::messages::event;

    const SOON: Duration = Duration::from_secs(10);

    /// The database is closed a moment after its last handle is gone.
    async fn opened(dir: &std::path::Path) -> (Store, Known) {
        loop {
            let (store, known) = Store::open(Some(dir));
            if store.keeps() {
                return (store, known);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn it_outlives_the_bridge_and_the_newest_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (store, known) = opened(dir.path()).await;
        let mut last = LastEvent::restore("mk3", &known, store.clone());
        assert_eq!(last.payload(), None);
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let done = event::last_event("PrintDone", at(1_700_000_000)).unwrap();
        last.update(&event::last_event("PrintStarted", at(1_600_000_000)).unwrap());
        last.update(&done);
        store.flush(SOON).await;
        drop((last, store));
        let (store, known) = opened(dir.path()).await;
        assert_eq!(LastEvent::restore("mk3", &known, store.clone()).payload(), Some(done));
        assert_eq!(LastEvent::restore("mini", &known, store).payload(), None);
    }
}
