//! What the broker has of a printer: read when it comes, cleared when it leaves.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::causes;
use crate::homeassistant::{self, PublishedDevice, Settings};
use crate::mqtt::{self, Broker, Incoming, Kind, Lost, OWN_LANE, Options, Publication};
use crate::topics::{BridgeTopics, Topic};

/// Time for Home Assistant to remove an entity before its state topic is cleared.
pub(super) const CLEAR_AFTER: Duration = Duration::from_secs(2);
/// Pause between two attempts to read retained messages, and to vacate a lane.
const PAUSE: Duration = Duration::from_secs(1);
/// Number of attempts to read retained messages.
const ATTEMPTS: u32 = 3;

/// Most further connections at a time.
pub(super) const MAX_CONNECTIONS: usize = 2;

/// Reads and clears what the broker has of one printer; cheap to clone.
#[derive(Clone)]
pub(super) struct Belongings {
    pub(super) base: Arc<str>,
    pub(super) broker: Broker,
    /// Options for further connections.
    pub(super) options: Arc<Options>,
    /// `None` if discovery is off.
    pub(super) discovery: Option<Arc<Settings>>,
    /// Bounds the further connections.
    pub(super) turns: Arc<Semaphore>,
}

impl Belongings {
    /// Returns what was announced of a printer before; nothing if it cannot be read.
    pub(super) async fn announced(&self, printer: &str) -> PublishedDevice {
        let Some(settings) = &self.discovery else { return PublishedDevice::default() };
        let found = self.found(printer, settings).await;
        found.filter(|found| is_of(found, settings)).unwrap_or_default()
    }

    /// Returns what any bridge has announced of a printer.
    async fn found(&self, printer: &str, settings: &Settings) -> Option<PublishedDevice> {
        let topic = homeassistant::printer_topic(settings, printer);
        let found = self.retained(printer, &topic).await;
        let of_printer = |message: Incoming| homeassistant::published_anywhere(&message.payload);
        found.into_iter().find_map(of_printer)
    }

    /// Removes a printer from Home Assistant, clears its topics, and waits until its lane is empty,
    /// for which the broker must be there.
    pub(super) async fn clear(&self, printer: &str, lane: usize) {
        let publish = |lane: usize, topic: Topic| {
            let nothing = bytes::Bytes::new();
            self.broker.publish(Publication::new(lane, topic, nothing, Kind::State));
        };
        if let Some(settings) = &self.discovery {
            let found = self.found(printer, settings).await;
            // Another bridge may have the printer now.
            if found.is_none_or(|found| is_of(&found, settings)) {
                // Discovery is published in the bridge's own lane, which must not publish it again.
                publish(OWN_LANE, homeassistant::printer_topic(settings, printer));
            }
            tokio::time::sleep(CLEAR_AFTER).await;
        }
        self.broker.clear_states(lane);
        // Of earlier runs.
        let found = self.retained(printer, &format!("{}/{printer}/#", self.base)).await;
        found.iter().filter_map(Incoming::own_topic).for_each(|topic| publish(lane, topic));
        while !self.broker.vacate(lane).await {
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn retained(&self, printer: &str, filter: &str) -> Vec<Incoming> {
        // Never closed, so that this cannot fail.
        let _turn = self.turns.acquire().await;
        let mut status = self.broker.status();
        for attempt in 1..=ATTEMPTS {
            // Fails only when the bridge ends.
            if status.wait_for(|status| status.connected).await.is_err() {
                break;
            }
            match self.read(&[filter]).await {
                Ok(messages) => return messages,
                Err(error) if attempt == ATTEMPTS => {
                    let error = causes::text(&error);
                    tracing::warn!(printer, "cannot read its retained topics: {error}");
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        Vec::new()
    }

    /// Reads what is retained below `filters`.
    pub(super) async fn read(&self, filters: &[&str]) -> Result<Vec<Incoming>, Lost> {
        mqtt::retained(&self.options, filters, &BridgeTopics::marker(&self.base)).await
    }
}

/// Whether a device was announced by the bridge with these settings.
fn is_of(found: &PublishedDevice, settings: &Settings) -> bool {
    found.bridge_state == *settings.topics.state
}
