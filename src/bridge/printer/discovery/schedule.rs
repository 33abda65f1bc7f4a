//! When a printer's discovery message is published, and with what (pure).

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::facts::Fact;
use crate::heater::Heater;
use crate::homeassistant::{self, Components, PrinterDevice, Profile, Settings};
use crate::mqtt::{Make, OWN_LANE, Publication};
use crate::topics::PrinterTopics;

/// Home Assistant loses parts of a message that follows another one closely.
const APART: Duration = Duration::from_secs(3);
/// How long to wait for the profile of a printer that nothing is known of.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// One printer's discovery.
#[derive(Debug)]
pub struct Discovery {
    settings: Arc<Settings>,
    topics: PrinterTopics,
    device: PrinterDevice,
    /// Whether it is known what to publish.
    ready: bool,
    /// What was published earlier; `None` until that is known.
    published: Option<Packed>,
    patience_ends: Instant,
    /// A hash of the last message, and when it was published.
    sent: Option<(u64, Instant)>,
    changed: bool,
}

impl Discovery {
    /// The discovery of a printer with `device.profile` as it was kept, if `known`.
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
            patience_ends: now + PATIENCE,
            sent: None,
            changed: true,
        }
    }

    /// The same begun anew, with what was kept of the printer.
    pub fn again(self, profile: Profile, now: Instant) -> Self {
        let device = PrinterDevice { profile, ..self.device };
        let published = self.published;
        Self { published, ..Self::new(self.settings, self.topics, device, self.ready, now) }
    }

    /// Takes in what was published before the start.
    pub fn read_back(&mut self, components: Components) {
        let mut known = self.components().unwrap_or_default();
        known.extend(components);
        self.published = Some(Packed::new(&known));
    }

    /// Takes in what OctoPrint answered.
    pub fn learn(&mut self, fact: Fact) {
        let before = self.device.profile.clone();
        match fact {
            Fact::Profile(Some(profile)) => {
                self.ready = true;
                self.device.profile.manufacturer = profile.manufacturer;
                self.device.profile.model = profile.model;
            }
            Fact::Profile(None) | Fact::LastPrintTimes(..) => {}
            Fact::Files(files) => self.device.profile.files = files,
            Fact::SystemCommands(commands) => self.device.profile.system_commands = commands,
        }
        self.settle(&before);
    }

    /// Takes in OctoPrint's version.
    pub fn set_version(&mut self, version: &str) {
        let before = self.device.profile.clone();
        self.device.profile.octoprint_version = Some(version.to_owned());
        self.settle(&before);
    }

    /// Takes in which heaters there are.
    pub fn set_heaters(&mut self, heaters: Vec<Heater>) {
        let before = self.device.profile.clone();
        self.device.profile.heaters = heaters;
        self.settle(&before);
    }

    fn settle(&mut self, before: &Profile) {
        self.changed |= self.device.profile != *before;
    }

    /// When [`Discovery::flush`] has something to say.
    pub fn due(&self) -> Option<Instant> {
        self.published.as_ref()?;
        if !self.changed {
            return None;
        }
        let apart = self.sent.as_ref().map(|(_, at)| *at + APART);
        let ready = (!self.ready).then_some(self.patience_ends);
        Some(apart.max(ready).unwrap_or(self.patience_ends - PATIENCE))
    }

    /// The message, if one is due that differs from the last.
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
        // In the bridge's own lane, which goes first: discovery precedes state.
        Some(Publication::made(OWN_LANE, message.topic, self.maker(message.gone)))
    }

    /// Makes the message as it is now: with a thousand printers these messages would take more
    /// memory than all else, and they are needed only when the broker is back.
    fn maker(&self, gone: Components) -> Make {
        let (settings, topics, device) =
            (self.settings.clone(), self.topics.clone(), self.device.clone());
        Make::new(move || homeassistant::printer(&settings, &topics, &device, &gone).payload)
    }

    /// What is worth keeping over a restart.
    pub fn profile(&self) -> &Profile {
        &self.device.profile
    }

    /// The components published so far, removed ones included.
    pub fn components(&self) -> Option<Components> {
        self.published.as_ref().map(Packed::components)
    }
}

/// Components, as JSON: a map of nearly a hundred of them takes four times as much memory, in each
/// of what may be a thousand printers, and is wanted only when something changes.
#[derive(Debug)]
struct Packed(Box<[u8]>);

impl Packed {
    fn new(components: &Components) -> Self {
        // Serialising texts does not fail.
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
    use crate::bridge::printer::discovery::profile::PrinterProfile;
    use crate::heater::Limits;
    use crate::homeassistant::Groups;
    use crate::topics::BridgeTopics;

    fn discovery(known: Option<&[&str]>) -> (Discovery, Instant) {
        let groups = Groups {
            bridge: true,
            job: true,
            temperature: true,
            motion: true,
            connection: true,
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
            groups,
        };
        let settings = Settings {
            prefix: "homeassistant".to_owned(),
            climate: false,
            topics: BridgeTopics::new("o"),
            identity: "o".to_owned(),
        };
        let now = Instant::now();
        let topics = PrinterTopics::new("o", "mk3");
        (Discovery::new(Arc::new(settings), topics, device, known.is_some(), now), now)
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
    fn nothing_goes_out_before_it_is_known_what_was_there() {
        let (mut discovery, now) = discovery(Some(&["tool0"]));
        assert!(discovery.due().is_none() && discovery.flush(now).is_none());
        discovery.read_back(Components::new());
        assert_eq!(tools(&discovery.flush(now).unwrap()), ["tool0"]);
        assert!(discovery.due().is_none());
    }

    #[test]
    fn an_unknown_printer_waits_for_its_profile_or_two_seconds() {
        let (mut unknown, now) = discovery(None);
        unknown.read_back(Components::new());
        assert!(unknown.flush(now).is_none());
        assert_eq!(unknown.due(), Some(now + PATIENCE));
        assert_eq!(tools(&unknown.flush(now + PATIENCE).unwrap()), ["bed", "tool0"]);
        let (mut answered, now) = discovery(None);
        answered.read_back(Components::new());
        answered.learn(profile(&["tool0", "tool1"]));
        answered.set_heaters(names(&["tool0", "tool1"]));
        assert_eq!(tools(&answered.flush(now).unwrap()), ["tool0", "tool1"]);
    }

    #[test]
    fn changes_keep_their_distance_and_what_is_gone_is_removed() {
        let (mut discovery, now) = discovery(Some(&["tool0", "tool1", "bed"]));
        discovery.read_back(Components::new());
        assert!(discovery.flush(now).is_some());
        discovery.set_heaters(names(&["tool0", "bed"]));
        assert!(discovery.flush(now + APART / 2).is_none());
        assert_eq!(discovery.due(), Some(now + APART));
        let changed = discovery.flush(now + APART).unwrap();
        assert_eq!(tools(&changed), ["bed", "tool0"]);
        let payload: Value = serde_json::from_slice(&made(&changed)).unwrap();
        assert_eq!(payload["components"]["tool1"], serde_json::json!({"platform": "sensor"}));
        discovery.set_heaters(names(&["tool0", "bed"]));
        assert!(discovery.due().is_none(), "nothing has changed");
    }
}
