//! What happens: the event entity, and device triggers for the automation editor.

use super::component::{Component, Place};

/// The event types of `B/P/print`, and how the automation editor reads: `"Print" finished`.
const EVENTS: &[(&str, &str, &str)] = &[
    ("print_started", "Print", "started"),
    ("print_done", "Print", "finished"),
    ("print_failed", "Print", "failed"),
    ("print_cancelled", "Print", "cancelled"),
    ("print_paused", "Print", "paused"),
    ("print_resumed", "Print", "resumed"),
    ("filament_change", "Filament change", "requested"),
    ("error", "Error", "reported"),
];

pub(super) fn components(place: &Place<'_>) -> Vec<Component> {
    let topic = &*place.topics.print;
    let types: Vec<&str> = EVENTS.iter().map(|(kind, ..)| *kind).collect();
    let entity = Component::new("event", "print", "Print")
        .icon("printer-3d")
        .with("state_topic", topic)
        .with("event_types", types);
    let trigger = |(kind, noun, verb): &(&str, &str, &str)| {
        Component::nameless("device_automation", format!("trigger_{kind}"))
            .with("automation_type", "trigger")
            .with("topic", topic)
            .with("value_template", "{{ value_json.event_type }}")
            .with("payload", *kind)
            .with("type", *verb)
            .with("subtype", *noun)
    };
    std::iter::once(entity).chain(EVENTS.iter().map(trigger)).collect()
}
