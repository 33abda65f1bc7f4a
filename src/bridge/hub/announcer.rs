//! Announces the bridge, once it knows of other ones, and removes printers that are not configured.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::departure::{Belongings, CLEAR_AFTER};
use crate::bridge::identity::{Identity, Owners, conflict};
use crate::causes;
use crate::config::Config;
use crate::homeassistant::{self, Components, PublishedDevice, Settings};
use crate::mqtt::{Incoming, Kind, OWN_LANE, Publication};
use crate::topics::{BridgeTopics, Topic};

/// Number of attempts to read retained messages, after which the bridge continues without them.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// Longest wait for retained messages before the bridge publishes its state.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Announces the bridge, once, and removes printers that are no longer configured.
pub(crate) struct Announcer {
    pub identity: Identity,
    /// The bridge's state and info. Published after those of other bridges are read, because it may
    /// overwrite those of a bridge with the same topics.
    pub greeting: Vec<Publication>,
    /// The broker, and how to read what it retains.
    pub belongings: Belongings,
    /// The configuration that is in force.
    pub in_force: watch::Receiver<Arc<Config>>,
    /// `None` if discovery is off.
    pub devices: Option<Devices>,
}

/// What is announced to Home Assistant.
pub(crate) struct Devices {
    pub settings: Arc<Settings>,
    /// Ids of all configured printers, those of other shards included.
    pub configured: BTreeSet<String>,
    /// By printer id, where to send what was published of the printer before the start.
    pub printers: BTreeMap<String, oneshot::Sender<PublishedDevice>>,
}

impl Announcer {
    /// Waits for the broker, reads what other bridges and earlier runs published, announces the
    /// bridge, passes to each printer what was published of it, and removes its own printers that
    /// are no longer configured.
    pub(crate) async fn run(mut self) {
        let mut status = self.belongings.broker.status();
        if status.wait_for(|status| status.connected).await.is_err() {
            return;
        }
        let greeting = std::mem::take(&mut self.greeting);
        let found = {
            let mut read = std::pin::pin!(self.read_bridges());
            let early = tokio::time::timeout(READ_TIMEOUT, &mut read).await.ok();
            greeting
                .into_iter()
                .for_each(|publication| self.belongings.broker.publish(publication));
            match early {
                Some(found) => found,
                None => read.await,
            }
        };
        let owners = Owners::read(self.identity.clone(), &self.belongings.base, &found);
        for other in owners.others() {
            tracing::error!("{}", conflict(other, &self.belongings.base));
        }
        if let Some(devices) = self.devices.take() {
            // Parsed and dropped: a thousand of them take tens of megabytes.
            let found = found
                .into_iter()
                .filter_map(|message| homeassistant::published_anywhere(&message.payload));
            self.announce(devices, &owners, found.collect()).await;
        }
    }

    async fn announce(&self, devices: Devices, owners: &Owners, found: Vec<PublishedDevice>) {
        let Devices { settings, configured, printers } = devices;
        let twins: Vec<Twin> =
            found.iter().filter_map(|found| self.twin(&configured, owners, found)).collect();
        let mut own = Components::new();
        let mut published = BTreeMap::new();
        for found in found {
            if found.bridge_state != *settings.topics.state {
                continue;
            }
            match found.printer.clone() {
                None => own = found.components,
                Some(id) => drop(published.insert(id, found)),
            }
        }
        let bridge = homeassistant::bridge(&settings, &own);
        self.publish(bridge.topic, bridge.payload);
        for (id, printer) in printers {
            // Fails only when the bridge stops.
            let _ = printer.send(published.remove(&id).unwrap_or_default());
        }
        self.report_twins(twins).await;
        for (id, PublishedDevice { identity, .. }) in published {
            // Another shard publishes it, or it was added meanwhile.
            if configured.contains(&id) || self.in_force.borrow().all_printers.contains(&id) {
                continue;
            }
            if !owners.own(identity.as_deref()) {
                tracing::info!(
                    printer = id,
                    bridge = identity,
                    "skipped a printer that belongs to another bridge"
                );
                continue;
            }
            tracing::info!(printer = id, "no longer configured, removed from Home Assistant");
            self.remove(&settings, &id).await;
        }
    }

    /// Returns a printer of ours whose discovery message names another bridge, which may be alive.
    fn twin(
        &self,
        configured: &BTreeSet<String>,
        owners: &Owners,
        found: &PublishedDevice,
    ) -> Option<Twin> {
        let printer = found.printer.clone().filter(|id| configured.contains(id))?;
        let rest = found.bridge_state.strip_prefix(&*self.belongings.base);
        let here = rest.is_some_and(|rest| rest.starts_with("/bridge"));
        let identity = found.identity.as_deref();
        let is_alive = match identity {
            Some(identity) if owners.is_alive(identity) => Some(true),
            // A shard of ours, a bridge that is gone, or an earlier version.
            _ if here || identity.is_some_and(|identity| owners.own(Some(identity))) => None,
            _ => Some(false),
        }?;
        let state = found.bridge_state.clone();
        Some(Twin { printer, identity: found.identity.clone(), state, is_alive })
    }

    /// Logs which printers of ours are also printers of another live bridge.
    async fn report_twins(&self, twins: Vec<Twin>) {
        let mut known: BTreeMap<String, bool> = BTreeMap::new();
        for Twin { printer, identity, state, is_alive } in twins {
            if !is_alive && !known.contains_key(&state) {
                let online = self.is_online(&state).await;
                known.insert(state.clone(), online);
            }
            if is_alive || known.get(&state).is_some_and(|online| *online) {
                tracing::error!(
                    printer,
                    bridge = identity,
                    state,
                    "another bridge has a printer of the same id, and Home Assistant takes both for one; give one of them another id"
                );
            }
        }
    }

    async fn is_online(&self, state: &str) -> bool {
        let found = self.belongings.read(&[state]).await.unwrap_or_default();
        found.iter().any(|message| &message.payload[..] == b"online")
    }

    fn publish(&self, topic: Topic, payload: bytes::Bytes) {
        self.belongings.broker.publish(Publication::new(OWN_LANE, topic, payload, Kind::State));
    }

    /// Reads the retained messages of all bridges and their devices.
    async fn read_bridges(&self) -> Vec<Incoming> {
        let mut filters = vec![
            BridgeTopics::info_filter(&self.belongings.base),
            BridgeTopics::state_filter(&self.belongings.base),
        ];
        filters.extend(self.devices.as_ref().map(|d| homeassistant::device_filter(&d.settings)));
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        for attempt in 1..=ATTEMPTS {
            match self.belongings.read(&filters).await {
                Ok(messages) => return messages,
                Err(error) if attempt == ATTEMPTS => {
                    let error = causes::text(&error);
                    tracing::warn!(
                        "cannot read back retained messages, so removed devices stay in Home Assistant: {error}"
                    );
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        Vec::new()
    }

    /// Removes the device, then clears the topics of its entities.
    async fn remove(&self, settings: &Settings, id: &str) {
        self.publish(homeassistant::printer_topic(settings, id), bytes::Bytes::new());
        let filter = format!("{}/{id}/#", self.belongings.base);
        match self.belongings.read(&[&filter]).await {
            Ok(messages) => {
                tokio::time::sleep(CLEAR_AFTER).await;
                for topic in messages.iter().filter_map(Incoming::own_topic) {
                    self.publish(topic, bytes::Bytes::new());
                }
            }
            Err(error) => {
                let error = causes::text(&error);
                tracing::warn!(printer = id, "cannot clear its retained topics: {error}");
            }
        }
    }
}

/// A printer of ours that is also one of another bridge.
struct Twin {
    printer: String,
    identity: Option<String>,
    /// The state topic of that bridge.
    state: String,
    /// Whether that bridge is known to be alive; if it has another base topic, its state decides.
    is_alive: bool,
}
