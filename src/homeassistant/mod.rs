//! Home Assistant's device discovery: the entities as tables, one message a device (pure).
//!
//! Each printer is one device with one retained message, and so is the bridge, which must be
//! published first: Home Assistant makes a nameless stub of a parent that it does not know.
//!
//! Unique ids are `octoprint2mqtt_<printer>__<key>`. They do not hold the base topic, so printers
//! of two bridges that share one Home Assistant need ids that differ.

mod bridge_device;
mod buttons;
mod component;
mod controls;
mod events;
mod sensors;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::{self, RawValue};
use serde_json::{Map, Value, json};

use crate::topics::{BridgeTopics, PrinterTopics, Topic};
use component::Component;

/// The name under which Home Assistant shows where the discovery comes from.
const ORIGIN: &str = "octoprint2mqtt";
/// The key of the bridge's identity, in the first component: Home Assistant drops what it does not
/// know there, and rejects the whole message for it at the root, in the device and in the origin.
const IDENTITY: &str = "octoprint2mqtt";
/// From how many files on a select is no help any more.
pub const MOST_FILES: usize = 200;

/// Component ids and the platform of each.
pub type Components = BTreeMap<String, String>;

/// What does not depend on a printer.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Home Assistant's discovery prefix.
    pub prefix: String,
    /// Also a climate entity for each heater.
    pub climate: bool,
    /// The bridge's own topics.
    pub topics: BridgeTopics,
    /// Whose the printers are; see [`Published::identity`].
    pub identity: String,
}

/// All that the entities of one printer depend on.
#[derive(Debug, Clone, PartialEq)]
pub struct PrinterDevice {
    /// The printer's id in the configuration.
    pub id: String,
    /// Its name, which entity ids are made of.
    pub name: String,
    /// OctoPrint's address, for the link on the device page; without user and password.
    pub url: String,
    /// What OctoPrint tells of it.
    pub profile: Profile,
    /// Highest targets, in °C.
    pub limits: Limits,
    /// The slowest push rate, in steps of 500 ms.
    pub max_rate_factor: u32,
    /// Which groups of commands are obeyed: the others have no entities.
    pub groups: Groups,
}

/// What OctoPrint tells of a printer, as far as the entities depend on it. Its serde form is what
/// is kept over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// Who makes the printer.
    pub manufacturer: Option<String>,
    /// Which printer it is.
    pub model: Option<String>,
    /// OctoPrint's version.
    pub octoprint_version: Option<String>,
    /// `tool0`, `bed`, `chamber`, and what else reports a temperature.
    pub heaters: Vec<String>,
    /// Paths of the files such as `local/part.gcode`; `None` where they are not known or more than
    /// [`MOST_FILES`].
    pub files: Option<Vec<String>>,
    /// Of `restart`, `reboot` and `shutdown` those that OctoPrint is able to.
    pub system_commands: Vec<String>,
}

/// Highest targets, in °C.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Of each tool.
    pub tool: f64,
    /// Of the bed.
    pub bed: f64,
    /// Of the chamber.
    pub chamber: f64,
}

/// Groups of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the groups in the configuration")]
pub struct Groups {
    pub bridge: bool,
    pub job: bool,
    pub temperature: bool,
    pub motion: bool,
    pub connection: bool,
    pub gcode: bool,
    pub system: bool,
}

/// One discovery message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// Where it goes, retained.
    pub topic: Topic,
    /// What it says.
    pub payload: Bytes,
    /// Its components, removed ones included.
    pub components: Components,
    /// Those of them that are marked as removed.
    pub gone: Components,
}

/// A discovery message of ours, read back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Published {
    /// The printer's id; `None` is the bridge itself.
    pub printer: Option<String>,
    /// Its components, removed ones included.
    pub components: Components,
    /// Which bridge published it: its `mqtt.client_id`. `None`: an earlier version did not say.
    pub identity: Option<String>,
    /// The topic of that bridge's state.
    pub bridge_state: String,
    /// The heaters with an entity, as their topics name them.
    pub heaters: Vec<String>,
}

/// The topic of a printer's discovery message.
pub fn printer_topic(settings: &Settings, id: &str) -> Topic {
    format!("{}/device/{}/config", settings.prefix, printer_identifier(id)).into()
}

/// The topic of the bridge's discovery message.
pub fn bridge_topic(settings: &Settings) -> Topic {
    format!("{}/device/{}/config", settings.prefix, bridge_identifier(settings)).into()
}

/// The filter of all devices' discovery messages.
pub fn device_filter(settings: &Settings) -> String {
    format!("{}/device/+/config", settings.prefix)
}

fn printer_identifier(id: &str) -> String {
    format!("octoprint2mqtt_{id}")
}

/// No printer's id begins with `bridge`. A base topic of one's own means another bridge.
fn bridge_identifier(settings: &Settings) -> String {
    let state = &*settings.topics.state;
    let place = state.strip_suffix("/state").unwrap_or(state);
    match place.strip_prefix("octoprint2mqtt/bridge") {
        // The only one, or one of several: `-<index>`.
        Some(index) if !index.contains('/') => format!("octoprint2mqtt_bridge{index}"),
        _ => {
            let slug = place.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            format!("octoprint2mqtt_bridge_{slug}")
        }
    }
}

/// The bridge's device. Must be published before the printers.
pub fn bridge(settings: &Settings, gone: &Components) -> Discovery {
    let identifier = bridge_identifier(settings);
    let device = json!({
        "identifiers": [identifier],
        "name": "OctoPrint bridge",
        "manufacturer": ORIGIN,
        "model": "OctoPrint to MQTT",
        "sw_version": env!("CARGO_PKG_VERSION"),
    });
    let components = bridge_device::components(settings);
    message(settings, bridge_topic(settings), &identifier, device, None, components, gone)
}

/// A printer's device. `gone`: the components of earlier messages; those that are no more are
/// marked as removed, for leaving them out would not remove them.
pub fn printer(
    settings: &Settings,
    topics: &PrinterTopics,
    printer: &PrinterDevice,
    gone: &Components,
) -> Discovery {
    let identifier = printer_identifier(&printer.id);
    let profile = &printer.profile;
    let mut device = Map::new();
    let mut tell = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            device.insert(key.to_owned(), value.into());
        }
    };
    tell("name", Some(printer.name.clone()));
    tell("manufacturer", profile.manufacturer.clone());
    tell("model", profile.model.clone());
    tell("sw_version", profile.octoprint_version.as_ref().map(|v| format!("OctoPrint {v}")));
    tell("configuration_url", Some(printer.url.clone()));
    tell("via_device", Some(bridge_identifier(settings)));
    device.insert("identifiers".to_owned(), json!([identifier]));
    let availability = json!([
        {"topic": settings.topics.state},
        {"topic": topics.availability},
    ]);
    let place = Place { settings, topics, printer };
    let tables: [fn(&Place<'_>) -> Vec<Component>; 4] =
        [sensors::components, events::components, controls::components, buttons::components];
    let topic = printer_topic(settings, &printer.id);
    let components = tables.into_iter().flat_map(|components| components(&place));
    message(settings, topic, &identifier, device.into(), Some(availability), components, gone)
}

/// What the tables of a printer's entities look at.
struct Place<'a> {
    settings: &'a Settings,
    topics: &'a PrinterTopics,
    printer: &'a PrinterDevice,
}

impl Place<'_> {
    /// Available with the bridge alone, whether OctoPrint is there or not.
    fn with_bridge_alone(&self) -> Value {
        json!([{"topic": self.settings.topics.state}])
    }

    /// Available while `template` over the printer's state, as `state`, is true.
    fn while_state(&self, template: &str) -> Value {
        json!([
            {"topic": self.settings.topics.state},
            {"topic": self.topics.availability},
            {
                "topic": self.topics.printer,
                "value_template": format!(
                    "{{% set state = value_json.state %}}{{{{ 'online' if {template} else 'offline' }}}}"
                ),
            },
        ])
    }

    /// The heaters that OctoPrint can set.
    fn settable(&self) -> impl Iterator<Item = &String> {
        self.printer.profile.heaters.iter().filter(|heater| limit(self.printer, heater).is_some())
    }

    /// How people call a heater.
    fn heater_name(&self, heater: &str) -> String {
        let tools = self.printer.profile.heaters.iter().filter(|h| h.starts_with("tool")).count();
        match (heater, heater.strip_prefix("tool")) {
            ("bed", _) => "Bed".to_owned(),
            ("chamber", _) => "Chamber".to_owned(),
            (_, Some(_)) if tools == 1 => "Nozzle".to_owned(),
            (_, Some(index)) => format!("Tool {index}"),
            (other, None) => other.to_owned(),
        }
    }
}

/// A heater as part of a component id, which is made of letters, digits, `_` and `-`.
fn component_key(heater: &str) -> String {
    let known = matches!(heater, "bed" | "chamber") || heater.starts_with("tool");
    let slug = heater.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    if known { slug } else { format!("sensor_{slug}") }
}

/// The highest target of a heater, in °C; `None` where OctoPrint cannot set it.
fn limit(printer: &PrinterDevice, heater: &str) -> Option<f64> {
    match heater {
        "bed" => Some(printer.limits.bed),
        "chamber" => Some(printer.limits.chamber),
        tool => tool
            .strip_prefix("tool")
            .is_some_and(|index| !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit()))
            .then_some(printer.limits.tool),
    }
}

/// A number as JSON has it shortest: 120 and not 120.0.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e9 { json!(value as i64) } else { json!(value) }
}

/// A discovery message as JSON. Each component is text already: a hundred of them as values take as
/// much memory as a printer needs for all else.
#[derive(Serialize)]
struct Message {
    #[serde(skip_serializing_if = "Option::is_none")]
    availability: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    availability_mode: Option<&'static str>,
    components: BTreeMap<String, Box<RawValue>>,
    device: Value,
    origin: Value,
}

fn message(
    settings: &Settings,
    topic: Topic,
    identifier: &str,
    device: Value,
    availability: Option<Value>,
    components: impl IntoIterator<Item = Component>,
    gone: &Components,
) -> Discovery {
    let (mut known, mut removed) = (Components::new(), Components::new());
    let mut table = BTreeMap::new();
    // Values of JSON always have a text.
    let mut add = |key: String, value: Value| {
        table.extend(value::to_raw_value(&value).ok().map(|text| (key, text)));
    };
    let mut components = components.into_iter();
    let first = components.next().map(|first| first.with(IDENTITY, settings.identity.as_str()));
    for component in first.into_iter().chain(components) {
        let (key, platform, value) = component.finish(identifier);
        known.insert(key.clone(), platform);
        add(key, value);
    }
    for (key, platform) in gone {
        if !known.contains_key(key) {
            add(key.clone(), json!({ "platform": platform }));
            known.insert(key.clone(), platform.clone());
            removed.insert(key.clone(), platform.clone());
        }
    }
    let message = Message {
        availability_mode: availability.as_ref().map(|_| "all"),
        availability,
        components: table,
        device,
        origin: json!({"name": ORIGIN, "sw_version": env!("CARGO_PKG_VERSION")}),
    };
    let payload = serde_json::to_vec(&message).unwrap_or_default().into();
    Discovery { topic, payload, components: known, gone: removed }
}

/// Reads a retained discovery message back. `None` where it is not one of this bridge's place:
/// another program's, or that of a bridge with another base topic.
pub fn published(settings: &Settings, payload: &[u8]) -> Option<Published> {
    published_anywhere(payload).filter(|found| found.bridge_state == *settings.topics.state)
}

/// Reads the retained discovery message of any bridge back, whatever its base topic.
pub fn published_anywhere(payload: &[u8]) -> Option<Published> {
    let payload: Value = serde_json::from_slice(payload).ok()?;
    if payload["origin"]["name"] != ORIGIN {
        return None;
    }
    let device = payload["device"]["identifiers"][0].as_str()?.strip_prefix("octoprint2mqtt_")?;
    let components = payload["components"].as_object()?;
    // No printer's id begins with `bridge`, and the bridge's own device has no availability.
    let (printer, state) = if device.starts_with("bridge") {
        (None, &payload["components"]["state"]["state_topic"])
    } else {
        (Some(device.to_owned()), &payload["availability"][0]["topic"])
    };
    let bridge_state = state.as_str()?.to_owned();
    let identity = components.values().find_map(|component| component[IDENTITY].as_str());
    let identity = identity.map(str::to_owned);
    let heaters = components.values().filter_map(|component| {
        let (_, heater) = component["state_topic"].as_str()?.rsplit_once("/temperature/")?;
        Some(heater.to_owned())
    });
    let heaters: BTreeSet<String> = heaters.collect();
    let platform = |(key, component): (&String, &Value)| {
        Some((key.clone(), component["platform"].as_str()?.to_owned()))
    };
    let components = components.iter().filter_map(platform).collect();
    let heaters = heaters.into_iter().collect();
    Some(Published { printer, components, identity, bridge_state, heaters })
}

#[cfg(test)]
mod tests;
