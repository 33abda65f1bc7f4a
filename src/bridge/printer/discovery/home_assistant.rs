//! What one printer's task does for Home Assistant.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::facts::Fact;
use super::schedule::Discovery;
use crate::bridge::printer::snapshot::{Snapshot, StateChange, StateTopic};
use crate::clock;
use crate::config;
use crate::heater::Heater;
use crate::homeassistant::{Groups, PrinterDevice, Profile, PublishedDevice, Settings};
use crate::mqtt::Publication;
use crate::octoprint::Message;
use crate::store::{Known, Store};
use crate::topics::PrinterTopics;

const PROFILE: &str = "profile";
const COMPONENTS: &str = "components";
/// How long after its entity a state topic is cleared: an entity that is still there would
/// complain of an empty state. More than discovery messages are apart.
const CLEAR_AFTER: Duration = Duration::from_secs(5);

/// A printer's discovery, what of it is kept, and what must not be cleared before it.
#[derive(Debug)]
pub struct HomeAssistant {
    discovery: Discovery,
    store: Store,
    printer: Arc<str>,
    kept: Profile,
    /// Yields what was published before the start, once.
    read_back: Option<oneshot::Receiver<PublishedDevice>>,
    clears: Vec<(Instant, StateChange)>,
    /// The known heaters that Home Assistant was told of.
    announced: Vec<Heater>,
}

impl HomeAssistant {
    /// The discovery of `printer`, with what `known` has of it. `read_back` yields what was
    /// published before the start, without which nothing is.
    pub fn new(
        settings: Arc<Settings>,
        topics: PrinterTopics,
        printer: &config::Printer,
        (store, known): (Store, &Known),
        read_back: oneshot::Receiver<PublishedDevice>,
    ) -> Self {
        let profile: Option<Profile> = known.get(&printer.id, PROFILE);
        let kept = profile.clone().unwrap_or_default();
        let device = device(printer, kept.clone());
        let now = clock::now();
        let mut discovery = Discovery::new(settings, topics, device, profile.is_some(), now);
        if let Some(components) = known.get(&printer.id, COMPONENTS) {
            discovery.read_back(components);
        }
        let printer = printer.id.as_str().into();
        let (read_back, clears, announced) = (Some(read_back), Vec::new(), Vec::new());
        Self { discovery, store, printer, kept, read_back, clears, announced }
    }

    /// The same begun anew, from what was kept.
    pub fn again(self) -> Self {
        let discovery = self.discovery.again(self.kept.clone(), clock::now());
        Self { discovery, announced: Vec::new(), ..self }
    }

    /// The heaters that are kept from before the start.
    pub fn known_heaters(&self) -> Option<&Vec<Heater>> {
        Some(&self.kept.heaters).filter(|heaters| !heaters.is_empty())
    }

    /// Waits for what was published before the start; for ever when that is known. Yields the
    /// heaters of it.
    pub async fn read_back(&mut self) -> Vec<Heater> {
        let Some(read_back) = &mut self.read_back else { return std::future::pending().await };
        // The other end is gone only when the bridge stops.
        let PublishedDevice { components, heaters, .. } = read_back.await.unwrap_or_default();
        self.read_back = None;
        self.discovery.read_back(components);
        heaters
    }

    /// Takes in what OctoPrint answered.
    pub fn learn(&mut self, fact: Fact) {
        self.discovery.learn(fact);
    }

    /// Takes in OctoPrint's version from a `connected` message.
    pub fn greet(&mut self, connected: &Message) {
        #[derive(serde::Deserialize)]
        struct Greeting {
            version: String,
        }
        if let Ok(Greeting { version }) = connected.json() {
            self.discovery.set_version(&version);
        }
    }

    /// Takes in which heaters there are, and clears the topics of those that are none any more, but
    /// only when their entities are gone.
    pub fn follow_heaters(&mut self, snapshot: &Snapshot, cleared: Vec<StateChange>, now: Instant) {
        // One that is back keeps its topic.
        self.clears.retain(|(_, change)| match &change.topic {
            StateTopic::Temperature(heater) => !snapshot.is_heater(heater.as_str()),
            _ => true,
        });
        self.clears.extend(cleared.into_iter().map(|change| (now + CLEAR_AFTER, change)));
        if !snapshot.known_heaters().eq(&self.announced) {
            self.announced = snapshot.known_heaters().cloned().collect();
            self.discovery.set_heaters(snapshot.heaters());
        }
    }

    /// When there is something to do.
    pub fn due(&self) -> Option<Instant> {
        // Discovery that waits for what was there is not due yet.
        let discovery = self.discovery.due().filter(|_| self.read_back.is_none());
        let clear = self.clears.first().map(|(at, _)| *at);
        [discovery, clear].into_iter().flatten().min()
    }

    /// What is to be published now: the discovery message, and state topics to be cleared.
    pub fn flush(&mut self, now: Instant) -> (Option<Publication>, Vec<StateChange>) {
        let discovery = if self.read_back.is_none() { self.discovery.flush(now) } else { None };
        if discovery.is_some() {
            self.persist();
        }
        let due = self.clears.iter().take_while(|(at, _)| *at <= now).count();
        let clears = self.clears.drain(..due).map(|(_, change)| change).collect();
        (discovery, clears)
    }

    fn persist(&mut self) {
        self.kept = self.discovery.profile().clone();
        self.store.persist(&self.printer, PROFILE, &self.kept);
        if let Some(components) = self.discovery.components() {
            self.store.persist(&self.printer, COMPONENTS, &components);
        }
    }
}

/// The part of a printer's device that the configuration says.
pub fn device(printer: &config::Printer, profile: Profile) -> PrinterDevice {
    let groups = printer.commands;
    PrinterDevice {
        id: printer.id.clone(),
        name: printer.name.clone(),
        url: printer.url.to_string(),
        profile,
        limits: printer.limits,
        max_rate_factor: printer.socket.max_rate_factor,
        groups: Groups {
            bridge: groups.bridge,
            job: groups.job,
            temperature: groups.temperature,
            motion: groups.motion,
            connection: groups.connection,
            gcode: groups.gcode,
            system: groups.system,
        },
    }
}
