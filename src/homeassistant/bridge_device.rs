//! The bridge's own device.

use serde_json::json;

use super::component::Component;
use super::device::Settings;

/// The device itself has no availability, so that its sensor can say Disconnected.
pub(super) fn components(settings: &Settings) -> Vec<Component> {
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
    vec![
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
    ]
}
