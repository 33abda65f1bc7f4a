//! When a printer's discovery message is published, and its content (pure).

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::facts::Fact;
use crate::heater::Heater;
use crate::homeassistant::{self, Components, PrinterDevice, Profile, Settings};
use crate::mqtt::{Make, OWN_LANE, Publication};
use crate::topics::PrinterTopics;

/// Minimum interval: Home Assistant loses parts of a message that follows another closely.
const INTERVAL: Duration = Duration::from_secs(3);
/// How long to wait for the profile of a printer without a known one.
pub const PROFILE_WAIT: Duration = Duration::from_secs(2);

/// Makes one printer's discovery messages.
#[derive(Debug)]
pub struct DiscoverySchedule {
    settings: Arc<Settings>,
    topics: PrinterTopics,
    device: PrinterDevice,
    /// Whether the profile is known.
    ready: bool,
    /// The components published so far; `None` until those from before the start are known.
    published: Option<Packed>,
    started: Instant,
    sent: Option<(u64, Instant)>,
    changed: bool,
}

impl DiscoverySchedule {
    /// Starts with the persisted `device.profile`, if it is `known`.
    pub fn new(
        settings: Arc<Settings>,
        topics: PrinterTopics,
        mut device: PrinterDevice,
        known: bool,
        now: Instant,
    ) -> Self {
        if !known {
            device.profile.heaters = Heater::assumed();
        }
        Self {
            settings,
            topics,
            device,
            ready: known,
            published: None,
            started: now,
            sent: None,
            changed: true,
        }
    }

    /// Restarts with the persisted profile.
    pub fn restart(self, profile: Profile, now: Instant) -> Self {
        let device = PrinterDevice { profile, ..self.device };
        let published = self.published;
        Self { published, ..Self::new(self.settings, self.topics, device, self.ready, now) }
    }

    /// Adds what was published before the start.
    pub fn read_back(&mut self, components: Components) {
        let mut known = self.components().unwrap_or_default();
        known.extend(components);
        self.published = Some(Packed::new(&known));
    }

    /// Applies an answer of OctoPrint.
    pub fn learn(&mut self, fact: Fact) {
        let before = self.device.profile.clone();
        self.ready |= matches!(fact, Fact::Profile(Some(_)));
        fact.apply_to(&mut self.device.profile);
        self.note_change(&before);
    }

    /// Sets OctoPrint's version.
    pub fn set_version(&mut self, version: &str) {
        let before = self.device.profile.clone();
        self.device.profile.octoprint_version = Some(version.to_owned());
        self.note_change(&before);
    }

    /// Sets the heaters.
    pub fn set_heaters(&mut self, heaters: Vec<Heater>) {
        let before = self.device.profile.clone();
        self.device.profile.heaters = heaters;
        self.note_change(&before);
    }

    fn note_change(&mut self, before: &Profile) {
        self.changed |= self.device.profile != *before;
    }

    /// Returns when [`DiscoverySchedule::flush`] may return a message.
    pub fn due(&self) -> Option<Instant> {
        self.published.as_ref()?;
        if !self.changed {
            return None;
        }
        let next = self.sent.as_ref().map(|(_, at)| *at + INTERVAL);
        let ready = (!self.ready).then_some(self.started + PROFILE_WAIT);
        Some(next.max(ready).unwrap_or(self.started))
    }

    /// Returns the message, if one is due that differs from the last.
    pub fn flush(&mut self, now: Instant) -> Option<Publication> {
        if self.due()? > now {
            return None;
        }
        self.changed = false;
        let gone = self.components().unwrap_or_default();
        let message = homeassistant::printer(&self.settings, &self.topics, &self.device, &gone);
        let hash = hash(&message.payload);
        if self.sent.is_some_and(|(sent, _)| sent == hash) {
            return None;
        }
        self.sent = Some((hash, now));
        self.published = Some(Packed::new(&message.components));
        // In the bridge's own lane, which is sent first: discovery precedes state.
        Some(Publication::made(OWN_LANE, message.topic, self.maker(message.gone)))
    }

    /// Makes the payload on demand: queued ones of a thousand printers would take too much memory.
    fn maker(&self, gone: Components) -> Make {
        let (settings, topics, device) =
            (self.settings.clone(), self.topics.clone(), self.device.clone());
        Make::new(move || homeassistant::printer(&settings, &topics, &device, &gone).payload)
    }

    /// Returns what to persist of the device.
    pub fn profile(&self) -> &Profile {
        &self.device.profile
    }

    /// Returns the components published so far, removed ones included.
    pub fn components(&self) -> Option<Components> {
        self.published.as_ref().map(Packed::components)
    }
}

/// Components as JSON: as a map, those of a thousand printers take four times as much memory.
#[derive(Debug)]
struct Packed(Box<[u8]>);

impl Packed {
    fn new(components: &Components) -> Self {
        // Serialising strings does not fail.
        Self(serde_json::to_vec(components).unwrap_or_default().into())
    }

    fn components(&self) -> Components {
        serde_json::from_slice(&self.0).unwrap_or_default()
    }
}

fn hash(payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(payload);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::bridge::printer::discovery::printer_profile::PrinterProfile;
    use crate::heater::Limits;
    use crate::homeassistant::{CameraSource, Extras, Groups};
    use crate::topics::BridgeTopics;

    fn schedule(known: Option<&[&str]>) -> (DiscoverySchedule, Instant) {
        let groups = Groups {
            bridge: true,
            job: true,
            temperature: true,
            motion: true,
            connection: true,
            power: true,
            gcode: false,
            system: false,
        };
        let heaters = names(known.unwrap_or_default());
        let device = PrinterDevice {
            id: "mk3".to_owned(),
            name: "MK3".to_owned(),
            url: "http://h/".to_owned(),
            profile: Profile { heaters, ..Profile::default() },
            limits: Limits { tool: 300.0, bed: 120.0, chamber: 80.0 },
            max_rate_factor: 20,
            camera: CameraSource::Webcams,
            layers: true,
            thumbnails: true,
            groups,
            entities: Arc::default(),
            extras: Extras::default(),
        };
        let settings = Settings {
            prefix: "homeassistant".to_owned(),
            climate: false,
            topics: BridgeTopics::new("o"),
            identity: "o".to_owned(),
        };
        let now = Instant::now();
        let topics = PrinterTopics::new("o", "mk3");
        (DiscoverySchedule::new(Arc::new(settings), topics, device, known.is_some(), now), now)
    }

    fn names(heaters: &[&str]) -> Vec<Heater> {
        heaters.iter().filter_map(|name| Heater::read(name)).collect()
    }

    fn profile(heaters: &[&str]) -> Fact {
        let heaters = names(heaters);
        Fact::Profile(Some(PrinterProfile { id: None, heaters, manufacturer: None, model: None }))
    }

    fn made(publication: &Publication) -> bytes::Bytes {
        publication.make.as_ref().unwrap().payload()
    }

    fn tools(publication: &Publication) -> Vec<String> {
        let payload: Value = serde_json::from_slice(&made(publication)).unwrap();
        let components = payload["components"].as_object().unwrap();
        let is = |key: &str| ["tool0", "tool1", "bed", "chamber", "sensor_A"].contains(&key);
        components
            .iter()
            .filter(|(key, component)| is(key) && component.as_object().unwrap().len() > 1)
            .map(|(key, _)| key.clone())
            .collect()
    }

    #[test]
    fn nothing_is_published_before_what_was_published_is_known() {
        let (mut schedule, now) = schedule(Some(&["tool0"]));
        assert!(schedule.due().is_none() && schedule.flush(now).is_none());
        schedule.read_back(Components::new());
        assert_eq!(tools(&schedule.flush(now).unwrap()), ["tool0"]);
        assert!(schedule.due().is_none());
    }

    #[test]
    fn an_unknown_printer_waits_for_its_profile_or_two_seconds() {
        let (mut unknown, now) = schedule(None);
        unknown.read_back(Components::new());
        assert!(unknown.flush(now).is_none());
        assert_eq!(unknown.due(), Some(now + PROFILE_WAIT));
        assert_eq!(tools(&unknown.flush(now + PROFILE_WAIT).unwrap()), ["bed", "tool0"]);
        let (mut answered, now) = schedule(None);
        answered.read_back(Components::new());
        answered.learn(profile(&["tool0", "tool1"]));
        answered.set_heaters(names(&["tool0", "tool1"]));
        assert_eq!(tools(&answered.flush(now).unwrap()), ["tool0", "tool1"]);
    }

    #[test]
    fn changes_are_published_at_intervals_and_removed_components_are_cleared() {
        let (mut schedule, now) = schedule(Some(&["tool0", "tool1", "bed"]));
        schedule.read_back(Components::new());
        assert!(schedule.flush(now).is_some());
        schedule.set_heaters(names(&["tool0", "bed"]));
        assert!(schedule.flush(now + INTERVAL / 2).is_none());
        assert_eq!(schedule.due(), Some(now + INTERVAL));
        let changed = schedule.flush(now + INTERVAL).unwrap();
        assert_eq!(tools(&changed), ["bed", "tool0"]);
        let payload: Value = serde_json::from_slice(&made(&changed)).unwrap();
        assert_eq!(payload["components"]["tool1"], serde_json::json!({"platform": "sensor"}));
        schedule.set_heaters(names(&["tool0", "bed"]));
        assert!(schedule.due().is_none(), "nothing has changed");
    }
}
