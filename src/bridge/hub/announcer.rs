//! Looks around before the bridge says that it is there, tells Home Assistant of the bridge, and
//! removes printers that are no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::identity::{Identity, Owners, complaint};
use crate::causes;
use crate::homeassistant::{self, Components, PublishedDevice, Settings};
use crate::mqtt::{self, Broker, Incoming, Kind, Lost, OWN_LANE, Options, Publication};
use crate::topics::{BridgeTopics, Topic};

/// How often what is retained is asked for; after that the bridge goes on without it.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// How long the bridge looks around before it says that it is there.
const LOOK: Duration = Duration::from_secs(2);
/// How long Home Assistant has to remove an entity before its state topic is cleared.
const CLEAR_AFTER: Duration = Duration::from_secs(2);

/// What the announcer works with.
pub(crate) struct Announcer {
    /// The bridge's names.
    pub identity: Identity,
    /// The base topic.
    pub base: String,
    /// What the bridge says of itself, once it is known who else is there: after that, another
    /// bridge with the same topics could not be told from this one.
    pub greeting: Vec<Publication>,
    /// The bridge's way to the broker.
    pub broker: Broker,
    /// For connections beside that.
    pub options: Options,
    /// `None` where discovery is off.
    pub devices: Option<Devices>,
}

/// What is told to Home Assistant.
pub(crate) struct Devices {
    /// Discovery settings.
    pub settings: Arc<Settings>,
    /// The ids of all printers that are configured, also of those that another bridge serves.
    pub configured: BTreeSet<String>,
    /// Where each printer, by its id, waits for what was published of it before the start.
    pub printers: BTreeMap<String, oneshot::Sender<PublishedDevice>>,
}

impl Announcer {
    /// Waits for the broker, looks who else is there and what an earlier bridge published, says
    /// that the bridge is there, publishes its device, removes printers that are its own and no
    /// longer configured, and lets the others go on.
    pub(crate) async fn run(mut self) {
        let mut status = self.broker.status();
        if status.wait_for(|status| status.connected).await.is_err() {
            return;
        }
        let greeting = std::mem::take(&mut self.greeting);
        let found = {
            let mut look = std::pin::pin!(self.look());
            let early = tokio::time::timeout(LOOK, &mut look).await.ok();
            greeting.into_iter().for_each(|publication| self.broker.publish(publication));
            match early {
                Some(found) => found,
                None => look.await,
            }
        };
        let owners = Owners::read(self.identity.clone(), &self.base, &found);
        for other in owners.others() {
            tracing::error!("{}", complaint(other, &self.base));
        }
        if let Some(devices) = self.devices.take() {
            // Parsed and let go of: a thousand of them take tens of megabytes.
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
        self.tell_twins(twins).await;
        for (id, PublishedDevice { identity, .. }) in published {
            // One that moved to another bridge is that one's to publish.
            if configured.contains(&id) {
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

    /// A printer of ours whose discovery message names another bridge, which may live.
    fn twin(
        &self,
        configured: &BTreeSet<String>,
        owners: &Owners,
        found: &PublishedDevice,
    ) -> Option<Twin> {
        let printer = found.printer.clone().filter(|id| configured.contains(id))?;
        let rest = found.bridge_state.strip_prefix(self.base.as_str());
        let here = rest.is_some_and(|rest| rest.starts_with("/bridge"));
        let identity = found.identity.as_deref();
        let lives = match identity {
            Some(identity) if owners.lives(identity) => Some(true),
            // A shard of ours, a bridge that is no more, or an earlier version.
            _ if here || identity.is_some_and(|identity| owners.own(Some(identity))) => None,
            _ => Some(false),
        }?;
        let state = found.bridge_state.clone();
        Some(Twin { printer, identity: found.identity.clone(), state, lives })
    }

    /// Says which printers of ours are printers of another bridge that lives, too.
    async fn tell_twins(&self, twins: Vec<Twin>) {
        let mut known: BTreeMap<String, bool> = BTreeMap::new();
        for Twin { printer, identity, state, lives } in twins {
            if !lives && !known.contains_key(&state) {
                let online = self.is_online(&state).await;
                known.insert(state.clone(), online);
            }
            if lives || known.get(&state).is_some_and(|online| *online) {
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
        let found = self.retained(&[state]).await.unwrap_or_default();
        found.iter().any(|message| &message.payload[..] == b"online")
    }

    async fn retained(&self, filters: &[&str]) -> Result<Vec<Incoming>, Lost> {
        mqtt::retained(&self.options, filters, &BridgeTopics::marker(&self.base)).await
    }

    fn publish(&self, topic: Topic, payload: bytes::Bytes) {
        self.broker.publish(Publication::new(OWN_LANE, topic, payload, Kind::State));
    }

    /// What is retained of bridges, and of their devices.
    async fn look(&self) -> Vec<Incoming> {
        let mut filters =
            vec![BridgeTopics::info_filter(&self.base), BridgeTopics::state_filter(&self.base)];
        filters.extend(self.devices.as_ref().map(|d| homeassistant::device_filter(&d.settings)));
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        for attempt in 1..=ATTEMPTS {
            match self.retained(&filters).await {
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

    /// Removes the device first, and then what its entities looked at.
    async fn remove(&self, settings: &Settings, id: &str) {
        self.publish(homeassistant::printer_topic(settings, id), bytes::Bytes::new());
        let filter = format!("{}/{id}/#", self.base);
        match self.retained(&[&filter]).await {
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
    /// The topic of that bridge's state.
    state: String,
    /// Whether it is known to live: where it has another base topic, its state tells.
    lives: bool,
}
