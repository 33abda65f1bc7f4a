//! One printer's discovery by Home Assistant: its messages, and what is persisted of them.

pub mod facts;
pub mod files;
pub mod printer_profile;
pub mod questions;
pub mod schedule;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use self::facts::Fact;
use self::schedule::DiscoverySchedule;
use crate::bridge::printer::messages::version_of;
use crate::bridge::printer::snapshot::{Snapshot, StateChange, StateTopic};
use crate::clock;
use crate::config;
use crate::heater::Heater;
use crate::homeassistant::{
    CameraSource, Extras, Groups, PrinterDevice, Profile, PublishedDevice, Settings,
};
use crate::mqtt::Publication;
use crate::octoprint::Message;
use crate::store::{Known, Store};
use crate::topics::PrinterTopics;

const PROFILE: &str = "profile";
const COMPONENTS: &str = "components";
/// Delay between the removal of an entity and the clearing of its state topic: an entity that still
/// exists would log an error about the empty state. Longer than the interval of discovery messages.
const CLEAR_AFTER: Duration = Duration::from_secs(5);

/// A printer's discovery, with what is persisted of it, and the topics to clear after it.
#[derive(Debug)]
pub struct PrinterDiscovery {
    schedule: DiscoverySchedule,
    store: Store,
    printer: Arc<str>,
    persisted: Profile,
    /// Delivers what was published before the start, once.
    read_back: Option<oneshot::Receiver<PublishedDevice>>,
    clears: Vec<(Instant, StateChange)>,
    announced: Vec<Heater>,
}

impl PrinterDiscovery {
    /// The discovery of `printer`, with what was persisted in `known`. `read_back` delivers what
    /// was published before the start, without which nothing is published.
    pub fn new(
        settings: Arc<Settings>,
        topics: PrinterTopics,
        printer: &config::Printer,
        (store, known): (Store, &Known),
        read_back: oneshot::Receiver<PublishedDevice>,
    ) -> Self {
        let profile: Option<Profile> = known.get(&printer.id, PROFILE);
        let persisted = profile.clone().unwrap_or_default();
        let device = device(printer, persisted.clone());
        let (known_profile, now) = (profile.is_some(), clock::now());
        let mut schedule = DiscoverySchedule::new(settings, topics, device, known_profile, now);
        if let Some(components) = known.get(&printer.id, COMPONENTS) {
            schedule.read_back(components);
        }
        let printer = printer.id.as_str().into();
        let (read_back, clears, announced) = (Some(read_back), Vec::new(), Vec::new());
        Self { schedule, store, printer, persisted, read_back, clears, announced }
    }

    /// Restarts from what was persisted.
    pub fn restart(self) -> Self {
        let schedule = self.schedule.restart(self.persisted.clone(), clock::now());
        Self { schedule, announced: Vec::new(), ..self }
    }

    /// Returns the heaters that were persisted.
    pub fn known_heaters(&self) -> Option<&Vec<Heater>> {
        Some(&self.persisted.heaters).filter(|heaters| !heaters.is_empty())
    }

    /// Waits for what was published before the start, and returns its heaters; resolves only once.
    pub async fn read_back(&mut self) -> Vec<Heater> {
        let Some(read_back) = &mut self.read_back else { return std::future::pending().await };
        // The sender is dropped only when the bridge stops.
        let PublishedDevice { components, heaters, .. } = read_back.await.unwrap_or_default();
        self.read_back = None;
        self.schedule.read_back(components);
        heaters
    }

    /// Applies an answer of OctoPrint.
    pub fn learn(&mut self, fact: Fact) {
        self.schedule.learn(fact);
    }

    /// Applies OctoPrint's version from a `connected` message.
    pub fn greet(&mut self, connected: &Message) {
        if let Some(version) = version_of(connected) {
            self.schedule.set_version(&version);
        }
    }

    /// Applies the heaters of `snapshot`; clears the topics in `cleared` after their entities.
    pub fn follow_heaters(&mut self, snapshot: &Snapshot, cleared: Vec<StateChange>, now: Instant) {
        // The topic of a heater that is back stays.
        self.clears.retain(|(_, change)| match &change.topic {
            StateTopic::Temperature(heater) => !snapshot.is_heater(heater.as_str()),
            _ => true,
        });
        self.clears.extend(cleared.into_iter().map(|change| (now + CLEAR_AFTER, change)));
        if !snapshot.known_heaters().eq(&self.announced) {
            self.announced = snapshot.known_heaters().cloned().collect();
            self.schedule.set_heaters(snapshot.heaters());
        }
    }

    /// Returns when [`PrinterDiscovery::flush`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        // Nothing is due before what was published is read back.
        let message = self.schedule.due().filter(|_| self.read_back.is_none());
        let clear = self.clears.first().map(|(at, _)| *at);
        [message, clear].into_iter().flatten().min()
    }

    /// Returns what to publish now: the discovery message, and state topics to clear.
    pub fn flush(&mut self, now: Instant) -> (Option<Publication>, Vec<StateChange>) {
        let message = if self.read_back.is_none() { self.schedule.flush(now) } else { None };
        if message.is_some() {
            self.persist();
        }
        let due = self.clears.iter().take_while(|(at, _)| *at <= now).count();
        let clears = self.clears.drain(..due).map(|(_, change)| change).collect();
        (message, clears)
    }

    fn persist(&mut self) {
        self.persisted = self.schedule.profile().clone();
        self.store.persist(&self.printer, PROFILE, &self.persisted);
        if let Some(components) = self.schedule.components() {
            self.store.persist(&self.printer, COMPONENTS, &components);
        }
    }
}

fn camera_source(camera: &config::Camera) -> CameraSource {
    match camera.enabled {
        false => CameraSource::Off,
        true if camera.uses_webcams() => CameraSource::Webcams,
        true => CameraSource::Own,
    }
}

/// Returns a printer's device, as configured.
pub fn device(printer: &config::Printer, profile: Profile) -> PrinterDevice {
    let groups = printer.commands;
    PrinterDevice {
        id: printer.id.clone(),
        name: printer.name.clone(),
        url: printer.url.to_string(),
        profile,
        limits: printer.limits,
        max_rate_factor: printer.socket.max_rate_factor,
        camera: camera_source(&printer.camera),
        layers: printer.layers,
        thumbnails: printer.thumbnails,
        groups: Groups {
            bridge: groups.bridge,
            job: groups.job,
            temperature: groups.temperature,
            motion: groups.motion,
            connection: groups.connection,
            power: groups.power,
            gcode: groups.gcode,
            system: groups.system,
        },
        entities: printer.entities.clone(),
        extras: Extras {
            maintenance: printer.maintenance.iter().map(|counter| counter.name.clone()).collect(),
            power_switch: printer.power.is_some(),
            auto_off: printer.auto_off,
        },
    }
}
