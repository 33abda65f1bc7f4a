//! Entities of the printer's power (pure).

use super::component::{Component, EntityContext};
use super::controls::button;

/// State of the power, as `on` or `off`.
const STATE: &str = "value_json.state";

pub(super) fn components(context: &EntityContext<'_>) -> Vec<Component> {
    let extras = &context.printer.extras;
    if !extras.power_switch && !context.printer.profile.psu_control {
        return Vec::new();
    }
    let mut components = vec![power(context)];
    if extras.auto_off {
        components.push(
            available(context, Component::new("sensor", "power_off_at", "Automatic power off"))
                .icon("power-plug-off")
                .with("device_class", "timestamp")
                .state(&context.topics.power, "value_json.off_at"),
        );
        if context.printer.groups.power {
            let keep_on =
                button(context, "keep_power_on", "Keep power on", "power", "power", "keep_on");
            components.push(available(context, keep_on));
        }
    }
    components
}

/// A switch, or a sensor where commands are not allowed.
fn power(context: &EntityContext<'_>) -> Component {
    let power = match context.printer.groups.power {
        true => Component::new("switch", "power", "Power")
            .command(&*context.topics.command("power"))
            .with("state_on", "on")
            .with("state_off", "off")
            .with("device_class", "outlet"),
        false => Component::new("binary_sensor", "powered", "Power").with("device_class", "power"),
    };
    available(context, power)
        .icon("power-plug")
        .state(&context.topics.power, STATE)
        .with("payload_on", "on")
        .with("payload_off", "off")
}

/// A switch at the broker needs no OctoPrint.
fn available(context: &EntityContext<'_>, component: Component) -> Component {
    match context.printer.extras.power_switch {
        true => component.available(context.with_bridge_alone()),
        false => component,
    }
}
