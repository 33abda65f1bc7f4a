//! Persists events while the broker is slow or away.

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::api::PersistEvents;
use crate::mqtt::outbox::Outbox;

/// Where events are persisted, if they are, and those that are being written.
pub(super) struct Persister {
    persist: Option<PersistEvents>,
    /// The lanes and the sequences of those that are written together.
    unwritten: FuturesUnordered<BoxFuture<'static, Vec<(usize, u64)>>>,
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
        let changes = outbox.take_unpersisted();
        if changes.is_empty() {
            return;
        }
        let mut waiting = Vec::new();
        for change in &changes {
            match change.along {
                Some(_) => waiting.push((change.lane, change.sequence)),
                None => outbox.release(change.lane, change.sequence),
            }
        }
        match persist(changes) {
            Some(written) => self.unwritten.push(Box::pin(async move {
                // If the store has failed, the events are still published.
                let _ = written.await;
                waiting
            })),
            None => {
                waiting.into_iter().for_each(|(lane, sequence)| outbox.release(lane, sequence));
            }
        }
    }

    /// Returns the next events that are written; `None` if there are none to wait for.
    pub(super) async fn next(&mut self) -> Option<Vec<(usize, u64)>> {
        self.unwritten.next().await
    }

    pub(super) fn has_written(&self) -> bool {
        self.unwritten.is_empty()
    }
}
