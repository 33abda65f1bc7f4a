//! Home Assistant's device discovery: tables of entities, one message per device (pure).
//!
//! Each printer is a device with one retained message, and so is the bridge, which must be
//! published first: Home Assistant creates a nameless stub for a parent it does not know.
//!
//! Unique ids are `octoprint2mqtt_<printer>__<key>`. They do not contain the base topic, so
//! printers of two bridges that share one Home Assistant need different ids.
//!
//! ```
//! use octoprint2mqtt::homeassistant::{self, Components, Settings};
//! use octoprint2mqtt::topics::BridgeTopics;
//!
//! let settings = Settings {
//!     prefix: "homeassistant".to_owned(),
//!     climate: false,
//!     topics: BridgeTopics::new("octoprint2mqtt"),
//!     identity: "octoprint2mqtt".to_owned(),
//! };
//! let message = homeassistant::bridge(&settings, &Components::new());
//! assert!(message.topic.starts_with("homeassistant/device/"));
//! assert!(message.gone.is_empty(), "no component of an earlier message is missing");
//! ```

mod camera;
mod component;
mod controls;
mod dashboard;
mod device;
mod message;
mod offered;
mod own;
mod power;
mod sensors;
mod statistics;

use serde_json::{Map, json};

use self::component::{Component, EntityContext};
pub use self::dashboard::{DashboardParts, dashboard};
pub use self::device::{
    CameraSource, Components, ControlButton, DiscoveryMessage, Extras, Groups, MOST_CONTROLS,
    MOST_FILES, MOST_PRESETS, PrinterDevice, Profile, PublishedDevice, Settings,
};
use self::message::{ORIGIN, bridge_identifier, message, printer_identifier};
pub use self::message::{
    bridge_topic, device_filter, printer_topic, published, published_anywhere,
};
use crate::topics::PrinterTopics;

/// Returns the message of the bridge's device, which must be published before the printers'.
pub fn bridge(settings: &Settings, gone: &Components) -> DiscoveryMessage {
    let identifier = bridge_identifier(settings);
    let device = json!({
        "identifiers": [identifier],
        "name": format!("OctoPrint bridge{}", shard(settings)),
        "manufacturer": ORIGIN,
        "model": "OctoPrint to MQTT",
        "sw_version": env!("CARGO_PKG_VERSION"),
    });
    let components = bridge_components(settings);
    message(settings, bridge_topic(settings), &identifier, device, None, components, gone)
}

/// Returns the message of a printer's device. `gone`: the components of earlier messages; those
/// that no longer exist are marked as removed, since omitting them would not remove them.
pub fn printer(
    settings: &Settings,
    topics: &PrinterTopics,
    printer: &PrinterDevice,
    gone: &Components,
) -> DiscoveryMessage {
    let identifier = printer_identifier(&printer.id);
    let profile = &printer.profile;
    let mut device = Map::new();
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            device.insert(key.to_owned(), value.into());
        }
    };
    set("name", Some(printer.name.clone()));
    set("manufacturer", profile.manufacturer.clone());
    set("model", profile.model.clone());
    set("sw_version", profile.octoprint_version.as_ref().map(|v| format!("OctoPrint {v}")));
    set("configuration_url", Some(printer.url.clone()));
    set("via_device", Some(bridge_identifier(settings)));
    device.insert("identifiers".to_owned(), json!([identifier]));
    let availability = json!([
        {"topic": settings.topics.state},
        {"topic": topics.availability},
    ]);
    let context = EntityContext { settings, topics, printer };
    let tables: [fn(&EntityContext<'_>) -> Vec<Component>; 7] = [
        sensors::components,
        controls::components,
        camera::components,
        offered::components,
        power::components,
        statistics::components,
        own::components,
    ];
    let topic = printer_topic(settings, &printer.id);
    let components = tables.into_iter().flat_map(|components| components(&context));
    message(settings, topic, &identifier, device.into(), Some(availability), components, gone)
}

/// Returns what tells this bridge from others that share its printers: ` 1`, and nothing for the
/// first one, as for the only one.
fn shard(settings: &Settings) -> String {
    let name = settings.topics.state.rsplit('/').nth(1).unwrap_or_default();
    name.strip_prefix("bridge-").map(|index| format!(" {index}")).unwrap_or_default()
}

/// Entities of the bridge. The device has no availability, so that its sensor can show
/// Disconnected.
fn bridge_components(settings: &Settings) -> Vec<Component> {
    let topics = &settings.topics;
    let sensor = |key: &str, name: &str, icon: &str, topic: &str, template: &str| {
        Component::new("sensor", key, name)
            .icon(icon)
            .state(topic, template)
            .available(json!([{"topic": topics.state}]))
            .diagnostic()
    };
    let health = &topics.health;
    let counted = |component: Component, class: &str| component.with("state_class", class);
    let of_bridge = vec![
        Component::new("binary_sensor", "state", "State")
            .with("state_topic", &*topics.state)
            .with("payload_on", "online")
            .with("payload_off", "offline")
            .with("device_class", "connectivity")
            .diagnostic(),
        sensor("version", "Version", "tag", &topics.info, "value_json.version"),
        counted(
            sensor(
                "printers",
                "Connected printers",
                "printer-3d",
                health,
                "value_json.printers.values() | selectattr('socket', 'eq', 'connected') | list | count",
            ),
            "measurement",
        ),
        counted(
            sensor(
                "published",
                "Messages published",
                "upload",
                health,
                "value_json.broker.published",
            ),
            "total_increasing",
        ),
        counted(
            sensor(
                "dropped",
                "Messages dropped",
                "upload-off",
                health,
                "value_json.broker.dropped",
            ),
            "total_increasing",
        ),
    ];
    of_bridge.into_iter().chain(fleet(settings)).collect()
}

/// Entities for what the bridge's printers do.
fn fleet(settings: &Settings) -> Vec<Component> {
    let (topic, available) = (&settings.topics.fleet, json!([{"topic": settings.topics.state}]));
    let count = |key: &str, name: &str, icon: &str| {
        Component::new("sensor", key, name)
            .icon(icon)
            .state(topic, &format!("value_json.{key}"))
            .with("state_class", "measurement")
            .available(available.clone())
    };
    vec![
        count("printing", "Printers printing", "printer-3d-nozzle"),
        count("paused", "Printers paused", "pause-circle-outline"),
        count("idle", "Printers idle", "printer-3d"),
        count("offline", "Printers offline", "printer-3d-off"),
        count("error", "Printers with errors", "alert-circle-outline")
            .with("json_attributes_topic", &**topic)
            .with(
                "json_attributes_template",
                "{{ {'printers': value_json.errors | map(attribute='name') | list} | tojson }}",
            ),
        Component::new("sensor", "next_to_finish", "Next to finish")
            .icon("flag-checkered")
            .state(topic, "value_json.next.eta if value_json.next else none")
            .with("device_class", "timestamp")
            .with("json_attributes_topic", &**topic)
            .with(
                "json_attributes_template",
                "{% set next = value_json.next or {'printer': none, 'name': none} %}{{ {'printer': next.printer, 'printer_name': next.name} | tojson }}",
            )
            .available(available),
    ]
}

#[cfg(test)]
mod tests;
