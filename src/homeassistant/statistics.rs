//! Entities of a printer's totals, its last print, and its maintenance counters (pure).

use serde_json::json;

use super::component::{Component, EntityContext};

pub(super) fn components(context: &EntityContext<'_>) -> Vec<Component> {
    let mut components = totals(context);
    for name in &context.printer.extras.maintenance {
        components.extend(maintenance(context, name));
    }
    if !context.printer.extras.maintenance.is_empty() {
        components.push(
            Component::new("event", "maintenance_due", "Maintenance due")
                .icon("wrench-clock")
                .with("state_topic", &*context.topics.maintenance_due)
                .with("event_types", json!(["maintenance_due"]))
                .available(context.with_bridge_alone()),
        );
    }
    components
}

fn totals(context: &EntityContext<'_>) -> Vec<Component> {
    let total = |key: &str, name: &str, icon: &str, value: &str| {
        Component::new("sensor", key, name)
            .icon(icon)
            .state(&context.topics.statistics, &format!("value_json.{value}"))
            .with("state_class", "total_increasing")
            .available(context.with_bridge_alone())
    };
    vec![
        total("prints_done", "Prints done", "printer-3d", "prints_done"),
        total("prints_failed", "Prints failed", "printer-3d-nozzle-alert", "prints_failed"),
        total("prints_cancelled", "Prints cancelled", "printer-3d-off", "prints_cancelled"),
        total("print_hours", "Print hours", "timer-outline", "print_hours")
            .with("device_class", "duration")
            .with("unit_of_measurement", "h")
            .with("suggested_display_precision", 1),
        total("filament_total", "Filament total", "printer-3d-nozzle", "filament_m")
            .with("device_class", "distance")
            .with("unit_of_measurement", "m")
            .with("suggested_display_precision", 1),
        total("filament_weight", "Filament weight", "weight-gram", "filament_g")
            .with("device_class", "weight")
            .with("unit_of_measurement", "g")
            .with("suggested_display_precision", 0),
        Component::new("sensor", "last_print", "Last print")
            .icon("history")
            .state(
                &context.topics.print_history,
                "value_json.prints[0].result if value_json.prints else none",
            )
            .with("device_class", "enum")
            .with("options", json!(["done", "failed", "cancelled"]))
            .with("json_attributes_topic", &*context.topics.print_history)
            .with(
                "json_attributes_template",
                "{{ (value_json.prints[0] if value_json.prints else {}) | tojson }}",
            )
            .available(context.with_bridge_alone()),
    ]
}

fn maintenance(context: &EntityContext<'_>, name: &str) -> Vec<Component> {
    let topic = context.topics.maintenance(name);
    let shown = shown(name);
    let due =
        Component::new("binary_sensor", format!("maintenance_{name}"), &format!("{shown} due"))
            .state(&topic, "'ON' if value_json.due else 'OFF'")
            .with("device_class", "problem")
            .with("json_attributes_topic", &*topic)
            .available(context.with_bridge_alone());
    let used =
        Component::new("sensor", format!("maintenance_{name}_used"), &format!("{shown} used"))
            .icon("wrench-clock")
            .state(&topic, "value_json.used")
            .with("state_class", "total_increasing")
            .with("json_attributes_topic", &*topic)
            .available(context.with_bridge_alone())
            .diagnostic();
    let done = context.printer.groups.bridge.then(|| {
        Component::new("button", format!("maintenance_{name}_done"), &format!("{shown} done"))
            .icon("wrench-check")
            .command(&*context.topics.command("maintenance"))
            .with("payload_press", name)
            .available(context.with_bridge_alone())
            .config()
    });
    [due, used].into_iter().chain(done).collect()
}

/// Returns a counter's name for people: `hot_end` is "Hot end".
fn shown(name: &str) -> String {
    let mut words = name.replace(['_', '-'], " ");
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words
}
