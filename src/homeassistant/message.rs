//! Writes discovery messages, and reads them back (pure).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::value::{self, RawValue};
use serde_json::{Value, json};

use super::component::Component;
use super::device::{Components, DiscoveryMessage, PublishedDevice, Settings};
use crate::heater::Heater;
use crate::ordered;
use crate::topics::Topic;

/// Name of the origin, as shown by Home Assistant.
pub(super) const ORIGIN: &str = "octoprint2mqtt";
/// Key of the bridge's identity in the first component. Home Assistant ignores unknown keys there,
/// but rejects the whole message for one at the root, in the device or in the origin.
pub(super) const IDENTITY: &str = "octoprint2mqtt";

/// Returns the topic of a printer's discovery message.
pub fn printer_topic(settings: &Settings, id: &str) -> Topic {
    format!("{}/device/{}/config", settings.prefix, printer_identifier(id)).into()
}

/// Returns the topic of the bridge's discovery message.
pub fn bridge_topic(settings: &Settings) -> Topic {
    format!("{}/device/{}/config", settings.prefix, bridge_identifier(settings)).into()
}

/// Returns the filter of all devices' discovery messages.
pub fn device_filter(settings: &Settings) -> String {
    format!("{}/device/+/config", settings.prefix)
}

pub(super) fn printer_identifier(id: &str) -> String {
    format!("octoprint2mqtt_{id}")
}

/// Returns the identifier of the bridge's device; another base topic means another bridge. No
/// printer's id starts with `bridge`.
pub(super) fn bridge_identifier(settings: &Settings) -> String {
    let state = &*settings.topics.state;
    let place = state.strip_suffix("/state").unwrap_or(state);
    match place.strip_prefix("octoprint2mqtt/bridge") {
        // The only bridge, or one of several with `-<index>`.
        Some(index) if !index.contains('/') => format!("octoprint2mqtt_bridge{index}"),
        _ => {
            let slug = place.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            format!("octoprint2mqtt_bridge_{slug}")
        }
    }
}

/// A discovery message as JSON. Components are kept as text: a hundred of them as values would take
/// as much memory as a printer needs for everything else.
#[derive(Serialize)]
struct DevicePayload {
    #[serde(skip_serializing_if = "Option::is_none")]
    availability: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    availability_mode: Option<&'static str>,
    components: BTreeMap<String, Box<RawValue>>,
    device: Value,
    origin: Value,
}

pub(super) fn message(
    settings: &Settings,
    topic: Topic,
    identifier: &str,
    device: Value,
    availability: Option<Value>,
    components: impl IntoIterator<Item = Component>,
    gone: &Components,
) -> DiscoveryMessage {
    let (mut known, mut removed) = (Components::new(), Components::new());
    let mut table = BTreeMap::new();
    // Fails for no JSON value.
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
    let message = DevicePayload {
        availability_mode: availability.as_ref().map(|_| "all"),
        availability,
        components: table,
        device,
        origin: json!({"name": ORIGIN, "sw_version": env!("CARGO_PKG_VERSION")}),
    };
    let payload = serde_json::to_vec(&message).unwrap_or_default().into();
    DiscoveryMessage { topic, payload, components: known, gone: removed }
}

/// Reads a retained discovery message. `None` if it is another program's, or that of a bridge with
/// another base topic.
pub fn published(settings: &Settings, payload: &[u8]) -> Option<PublishedDevice> {
    published_anywhere(payload).filter(|found| found.bridge_state == *settings.topics.state)
}

/// Reads a retained discovery message of any bridge, whatever its base topic.
pub fn published_anywhere(payload: &[u8]) -> Option<PublishedDevice> {
    let payload: Value = serde_json::from_slice(payload).ok()?;
    if payload["origin"]["name"] != ORIGIN {
        return None;
    }
    let device = payload["device"]["identifiers"][0].as_str()?.strip_prefix("octoprint2mqtt_")?;
    let components = payload["components"].as_object()?;
    // No printer's id starts with `bridge`, and the bridge's own device has no availability.
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
        Heater::read(heater)
    });
    let heaters: BTreeSet<Heater> = heaters.collect();
    let platform = |(key, component): (&String, &Value)| {
        Some((key.clone(), component["platform"].as_str()?.to_owned()))
    };
    let components = ordered::map(components.iter().filter_map(platform));
    let heaters = heaters.into_iter().collect();
    Some(PublishedDevice { printer, components, identity, bridge_state, heaters })
}
