//! Persists events while the broker is slow or away.

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::api::PersistEvents;
use crate::mqtt::outbox::Outbox;

/// Where events are persisted, if they are, and those that are being written.
pub(super) struct Persister {
    persist: Option<PersistEvents>,
    /// The lane and the sequence of each.
    unwritten: FuturesUnordered<BoxFuture<'static, (usize, u64)>>,
}

impl Persister {
    pub(super) fn new(persist: Option<PersistEvents>) -> Self {
        Self { persist, unwritten: FuturesUnordered::new() }
    }

    pub(super) fn is_on(&self) -> bool {
        self.persist.is_some()
    }

    /// Persists events that need it, and removes those that no longer do.
    pub(super) fn persist(&mut self, outbox: &mut Outbox) {
        let Some(persist) = &mut self.persist else { return };
        for change in outbox.take_unpersisted() {
            let place = (change.lane, change.sequence);
            match persist(change) {
                Some(written) => self.unwritten.push(Box::pin(async move {
                    // If the store has failed, the event is still published.
                    let _ = written.await;
                    place
                })),
                None => outbox.release(place.0, place.1),
            }
        }
    }

    /// Returns the next event that is written; `None` if there is none to wait for.
    pub(super) async fn next(&mut self) -> Option<(usize, u64)> {
        self.unwritten.next().await
    }

    pub(super) fn has_written(&self) -> bool {
        self.unwritten.is_empty()
    }
}
