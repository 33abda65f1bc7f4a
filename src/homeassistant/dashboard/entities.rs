//! The entity ids that Home Assistant makes from discovery messages (pure).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::slug::Slugs;

/// Longest entity id, in characters.
const MAX_LENGTH: usize = 255;

/// One entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entity {
    /// Such as `sensor.mk3_state`.
    pub(super) id: String,
    /// Its own name, without the device's.
    pub(super) name: String,
    pub(super) platform: String,
    device_class: Option<String>,
}

/// A device with its entities.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) name: String,
    /// By key, as in the discovery message.
    entities: BTreeMap<String, Entity>,
    /// Why the ids may be others in Home Assistant.
    pub(super) doubt: Option<Doubt>,
}

/// A printer in the dashboard.
pub(super) struct Member {
    pub(super) id: String,
    pub(super) device: Device,
}

impl Member {
    /// Returns the path of the printer's view. No number alone: that would be the index of a view.
    pub(super) fn path(&self) -> String {
        format!("printer-{}", self.id)
    }
}

/// Why entity ids may be others in Home Assistant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// The name has characters of which it is not known what becomes of them.
    Characters,
    /// Another device has the same entity ids: the one that is discovered first gets them.
    Twin,
}

impl Device {
    /// Returns the entity of a key.
    pub(super) fn entity(&self, key: &str) -> Option<&Entity> {
        self.entities.get(key)
    }

    /// Returns the id of the entity of a key.
    pub(super) fn id(&self, key: &str) -> Option<&str> {
        self.entity(key).map(|entity| entity.id.as_str())
    }

    /// Returns the entities of a platform.
    pub(super) fn of_platform(&self, platform: &str) -> impl Iterator<Item = &Entity> {
        self.entities.values().filter(move |entity| entity.platform == platform)
    }

    /// Returns the measured temperatures.
    pub(super) fn temperatures(&self) -> impl Iterator<Item = &Entity> {
        self.entities.iter().filter(|(key, _)| !key.ends_with("_target")).filter_map(
            |(_, entity)| {
                (entity.platform == "sensor" && entity.is_temperature()).then_some(entity)
            },
        )
    }

    /// Returns the targets that can be set.
    pub(super) fn targets(&self) -> impl Iterator<Item = &Entity> {
        self.of_platform("number").filter(|entity| entity.is_temperature())
    }
}

impl Entity {
    fn is_temperature(&self) -> bool {
        self.device_class.as_deref() == Some("temperature")
    }
}

/// Gives out entity ids, each once.
pub(super) struct EntityIds {
    slugs: Slugs,
    taken: BTreeSet<String>,
}

impl EntityIds {
    pub(super) fn new() -> Self {
        Self { slugs: Slugs::new(), taken: BTreeSet::new() }
    }

    /// Reads a device's discovery message, and gives its entities their ids.
    pub(super) fn device(&mut self, message: &[u8]) -> Device {
        let message: Value = serde_json::from_slice(message).unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let name = text(&message["device"]["name"]).unwrap_or_default();
        let mut device = Device { name, ..Device::default() };
        let components = message["components"].as_object();
        for (key, component) in components.into_iter().flatten() {
            // Device triggers are no entities, and what is removed has no name.
            let is_entity = component["unique_id"].is_string();
            let is_enabled = component["enabled_by_default"] != false;
            let platform = text(&component["platform"]);
            let (Some(name), Some(platform)) = (text(&component["name"]), platform) else {
                continue;
            };
            if !is_entity || !is_enabled {
                continue;
            }
            let (id, doubt) = self.assign(&platform, &format!("{} {name}", device.name));
            device.doubt = device.doubt.or(doubt);
            let device_class = text(&component["device_class"]);
            device.entities.insert(key.clone(), Entity { id, name, platform, device_class });
        }
        device
    }

    fn assign(&mut self, platform: &str, name: &str) -> (String, Option<Doubt>) {
        let slug = self.slugs.slug(name);
        let doubt = (!slug.is_exact).then_some(Doubt::Characters);
        let wanted = format!("{platform}.{}", slug.text);
        // Slugs are ASCII.
        let cut = |length: usize| wanted.get(..length).unwrap_or(&wanted).to_owned();
        let first = cut(MAX_LENGTH);
        if self.taken.insert(first.clone()) {
            return (first, doubt);
        }
        let numbered = (2..).map(|number: u32| {
            let suffix = format!("_{number}");
            cut(MAX_LENGTH - suffix.len()) + &suffix
        });
        let free = numbered.into_iter().find(|id| self.taken.insert(id.clone()));
        (free.unwrap_or(first), doubt.or(Some(Doubt::Twin)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(name: &str) -> Vec<u8> {
        json!({"device": {"name": name}, "components": {
            "state": {"platform": "sensor", "name": "State", "unique_id": "a"},
            "bed": {"platform": "sensor", "name": "Bed temperature", "unique_id": "b",
                "device_class": "temperature"},
            "bed_target": {"platform": "sensor", "name": "Bed target", "unique_id": "c",
                "device_class": "temperature"},
            "bed_set_target": {"platform": "number", "name": "Bed target", "unique_id": "d",
                "device_class": "temperature"},
            "hidden": {"platform": "sensor", "name": "Hidden", "unique_id": "e",
                "enabled_by_default": false},
            "gone": {"platform": "sensor"},
            "trigger_x": {"platform": "device_automation", "type": "x"},
        }})
        .to_string()
        .into_bytes()
    }

    #[test]
    fn ids_are_made_of_both_names_and_numbered_if_taken() {
        let mut ids = EntityIds::new();
        let first = ids.device(&message("Käthe"));
        assert_eq!(first.id("state"), Some("sensor.kathe_state"));
        assert_eq!(first.id("bed_set_target"), Some("number.kathe_bed_target"));
        assert_eq!(
            (first.id("hidden"), first.id("gone"), first.id("trigger_x")),
            (None, None, None)
        );
        assert_eq!(first.doubt, None);
        let second = ids.device(&message("kathe!"));
        assert_eq!(second.id("state"), Some("sensor.kathe_state_2"));
        assert_eq!(second.doubt, Some(Doubt::Twin));
        assert_eq!(ids.device(&message("KÄTHE")).id("state"), Some("sensor.kathe_state_3"));
        assert_eq!(ids.device(&message("拓竹")).doubt, Some(Doubt::Characters));
        assert_eq!(ids.device(b"no JSON"), Device::default());
    }

    #[test]
    fn a_name_above_the_limit_is_cut() {
        let mut ids = EntityIds::new();
        let (first, second) = (ids.device(&message(&"x".repeat(300))), message(&"x".repeat(301)));
        let first = first.id("bed").unwrap();
        assert_eq!((first.len(), &first[..8]), (255, "sensor.x"));
        assert!(first.ends_with('x'), "{first}");
        // The first device has three sensors whose names end in the part that is cut.
        let second = ids.device(&second);
        let second = second.id("bed").unwrap();
        assert_eq!((second.len(), second.ends_with("x_4")), (255, true));
    }

    #[test]
    fn temperatures_and_targets_are_found() {
        let device = EntityIds::new().device(&message("MK3"));
        let names = |entities: Vec<&Entity>| -> Vec<String> {
            entities.into_iter().map(|entity| entity.id.clone()).collect()
        };
        assert_eq!(names(device.temperatures().collect()), ["sensor.mk3_bed_temperature"]);
        assert_eq!(names(device.targets().collect()), ["number.mk3_bed_target"]);
    }
}
