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
mod device;
mod events;
mod message;
mod sensors;

use serde_json::{Map, json};

use self::component::{Component, Place};
pub use self::device::{
    Components, Discovery, Groups, MOST_FILES, PrinterDevice, Profile, Published, Settings,
};
use self::message::{ORIGIN, bridge_identifier, message, printer_identifier};
pub use self::message::{
    bridge_topic, device_filter, printer_topic, published, published_anywhere,
};
use crate::topics::PrinterTopics;

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

#[cfg(test)]
mod tests;
