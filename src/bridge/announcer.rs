//! Tells Home Assistant of the bridge, and removes printers that are no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::homeassistant::{self, Components, Settings};
use crate::mqtt::{self, Broker, Kind, Options, Publication};
use crate::topics::Topic;

/// How often what was published is asked for; after that the bridge goes on without it.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// How long Home Assistant has to remove an entity before its state topic is cleared.
const CLEAR_AFTER: Duration = Duration::from_secs(2);

/// What the announcer works with.
pub struct Announcer {
    /// Discovery settings.
    pub settings: Arc<Settings>,
    /// The base topic.
    pub base: String,
    /// The ids of all printers that are configured, also of those that another bridge serves.
    pub configured: BTreeSet<String>,
    /// The bridge's way to the broker.
    pub broker: Broker,
    /// For connections beside that.
    pub options: Options,
    /// Where each printer, by its id, waits for what was published of it before the start.
    pub printers: BTreeMap<String, oneshot::Sender<Components>>,
}

impl Announcer {
    /// Waits for the broker, reads back what an earlier bridge published, publishes the bridge's
    /// own device, removes printers that are no longer configured, and lets the others go on.
    pub async fn run(mut self) {
        let mut status = self.broker.status();
        if status.wait_for(|status| status.connected).await.is_err() {
            return;
        }
        let mut published = self.read_back().await;
        let own = published.remove(&None).unwrap_or_default();
        let bridge = homeassistant::bridge(&self.settings, &own);
        self.publish(bridge.topic, bridge.payload);
        for (id, printer) in std::mem::take(&mut self.printers) {
            let components = published.remove(&Some(id)).unwrap_or_default();
            // Fails only when the bridge stops.
            let _ = printer.send(components);
        }
        let left: BTreeSet<String> = published.into_keys().flatten().collect();
        // One that moved to another bridge is that one's to publish.
        for id in left.difference(&self.configured) {
            tracing::info!(printer = id, "no longer configured, removed from Home Assistant");
            self.remove(id).await;
        }
    }

    fn publish(&self, topic: Topic, payload: bytes::Bytes) {
        self.broker.publish(Publication::new(super::hub::LANE, topic, payload, Kind::State));
    }

    async fn read_back(&self) -> BTreeMap<Option<String>, Components> {
        let filter = homeassistant::device_filter(&self.settings);
        for attempt in 1..=ATTEMPTS {
            match mqtt::retained(&self.options, &filter).await {
                Ok(messages) => {
                    return messages
                        .iter()
                        .filter_map(|m| homeassistant::published(&self.settings, &m.payload))
                        .map(|published| (published.printer, published.components))
                        .collect();
                }
                Err(error) if attempt == ATTEMPTS => {
                    tracing::warn!(
                        "discovery messages cannot be read back, so what is gone stays in Home Assistant: {error}"
                    );
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        BTreeMap::new()
    }

    /// Removes the device first, and then what its entities looked at.
    async fn remove(&self, id: &str) {
        self.publish(homeassistant::printer_topic(&self.settings, id), bytes::Bytes::new());
        let filter = format!("{}/{id}/#", self.base);
        match mqtt::retained(&self.options, &filter).await {
            Ok(messages) => {
                tokio::time::sleep(CLEAR_AFTER).await;
                for message in messages {
                    self.publish(message.topic.into(), bytes::Bytes::new());
                }
            }
            Err(error) => {
                tracing::warn!(printer = id, "its retained topics cannot be cleared: {error}");
            }
        }
    }
}
