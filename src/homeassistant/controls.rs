//! What can be set: numbers, the switch, the choice of a file, texts, climate.

use serde_json::json;

use super::component::{Component, Place, number};
use super::device::MOST_FILES;
use crate::heater::Heater;

/// Wraps what was typed, so that a text such as `5` or `{"value":1}` arrives as that text.
const AS_TEXT: &str = "{{ {'value': value} | tojson }}";

pub(super) fn components(place: &Place<'_>) -> Vec<Component> {
    let groups = &place.printer.groups;
    let mut components = Vec::new();
    if groups.temperature {
        components.extend(targets(place));
        if place.settings.climate {
            components.extend(climate(place));
        }
    }
    if groups.motion {
        components.push(factor(place, "feedrate", "Feed rate", "speedometer"));
        components.push(factor(place, "flowrate", "Flow rate", "waves-arrow-right"));
    }
    if groups.bridge {
        components.extend(rate(place));
    }
    if groups.job {
        components.push(file(place));
        components.push(
            Component::new("notify", "message", "Display message")
                .icon("message-text")
                .command(&*place.topics.command("message"))
                .with("command_template", AS_TEXT),
        );
    }
    if groups.gcode {
        components.push(
            Component::new("text", "gcode", "G-code")
                .icon("console-line")
                .command(&*place.topics.command("gcode"))
                .with("command_template", AS_TEXT)
                .with("max", 255)
                .config(),
        );
    }
    components
}

/// A target, unless it is one that Home Assistant would refuse with a line in its log: one that
/// was set in OctoPrint over the limit here.
fn target(limit: &serde_json::Value) -> String {
    format!(
        "value_json.target if value_json.target is number and value_json.target <= {limit} else none"
    )
}

fn targets(place: &Place<'_>) -> Vec<Component> {
    let of = |(heater, limit): (&Heater, f64)| {
        let limit = number(limit);
        let name = format!("{} target", place.heater_name(heater));
        let command = place.topics.command(&format!("temperature/{heater}"));
        Component::new("number", format!("{heater}_set_target"), &name)
            .icon("thermometer-lines")
            .command(&*command)
            .state(&place.topics.temperature(heater), &target(&limit))
            .with("device_class", "temperature")
            .with("unit_of_measurement", "°C")
            .with("min", 0)
            .with("max", limit)
            .with("step", 1)
            .with("mode", "box")
    };
    place.settable().map(of).collect()
}

/// Setting a temperature heats, `off` switches off. There is no temperature to heat to by the mode
/// alone: it sends nothing then, which the bridge takes for no command.
fn climate(place: &Place<'_>) -> Vec<Component> {
    let of = |(heater, limit): (&Heater, f64)| {
        let limit = number(limit);
        let name = format!("{} heater", place.heater_name(heater));
        let topic = place.topics.temperature(heater);
        let command = place.topics.command(&format!("temperature/{heater}"));
        Component::new("climate", format!("{heater}_climate"), &name)
            .icon("radiator")
            .with("modes", json!(["off", "heat"]))
            .with("mode_state_topic", &*topic)
            .with(
                "mode_state_template",
                "{{ none if value_json.target is none else 'heat' if value_json.target > 0 else 'off' }}",
            )
            .with("mode_command_topic", &*command)
            .with("mode_command_template", "{{ 'off' if value == 'off' else '' }}")
            .with("action_topic", &*topic)
            .with(
                "action_template",
                "{{ none if value_json.target is none else 'off' if value_json.target == 0 else 'heating' if value_json.actual is number and value_json.actual < value_json.target - 2 else 'idle' }}",
            )
            .with("current_temperature_topic", &*topic)
            .with("current_temperature_template", "{{ value_json.actual }}")
            .with("temperature_state_topic", &*topic)
            .with("temperature_state_template", "{{ value_json.target }}")
            .with("temperature_command_topic", &*command)
            .with("min_temp", 0)
            .with("max_temp", limit)
            .with("temp_step", 1)
            .with("precision", 0.1)
            .with("temperature_unit", "C")
    };
    place.settable().map(of).collect()
}

fn factor(place: &Place<'_>, key: &str, name: &str, icon: &str) -> Component {
    Component::new("number", key, name)
        .icon(icon)
        .command(&*place.topics.command(key))
        .with("command_template", "{{ value | int }}")
        .state(&place.topics.factors, &format!("value_json.{key}"))
        .with("unit_of_measurement", "%")
        .with("min", 10)
        .with("max", 500)
        .with("step", 1)
        .with("mode", "box")
}

/// Both work while OctoPrint is away.
fn rate(place: &Place<'_>) -> [Component; 2] {
    let command = place.topics.command("rate");
    let longest = f64::from(place.printer.max_rate_factor) / 2.0;
    [
        Component::new("number", "push_interval_number", "Push interval")
            .icon("timer-refresh-outline")
            .command(&*command)
            // A factor is worth half a second.
            .with("command_template", "{{ (value * 2) | round | int }}")
            .state(&place.topics.socket, "value_json.push_interval_ms / 1000")
            .with("device_class", "duration")
            .with("unit_of_measurement", "s")
            .with("min", 0.5)
            // One step at least: Home Assistant wants a maximum over the minimum.
            .with("max", number(longest.max(1.0)))
            .with("step", 0.5)
            .with("mode", "box")
            .available(place.with_bridge_alone())
            .config(),
        Component::new("switch", "adaptive_rate", "Adaptive push rate")
            .icon("speedometer")
            .command(&*command)
            .state(&place.topics.socket, "value_json.rate_mode")
            .with("payload_on", "auto")
            .with("payload_off", "hold")
            .with("state_on", "auto")
            .with("state_off", "manual")
            .available(place.with_bridge_alone())
            .config(),
    ]
}

/// The file to print next. Choosing one selects it and never starts a print: there is a button
/// for that.
fn file(place: &Place<'_>) -> Component {
    let path = "(value_json.origin ~ '/' ~ value_json.path)";
    let (platform, key) = match &place.printer.profile.files {
        Some(files) if !files.is_empty() && files.len() <= MOST_FILES => ("select", "file_select"),
        _ => ("text", "file_path"),
    };
    let component = Component::new(platform, key, "File to print")
        .icon("file-cad")
        .command(&*place.topics.command("select"))
        .available(place.while_state("state == 'operational'"));
    match &place.printer.profile.files {
        Some(files) if platform == "select" => {
            // What is not among the options would be refused with a line in the log.
            let options = json!(files);
            let known = format!("value_json.path and {path} in {options}");
            component
                .state(&place.topics.job, &format!("{path} if {known} else none"))
                .with("options", options)
        }
        _ => component
            .state(
                &place.topics.job,
                &format!("{path} if value_json.path and {path} | length <= 255 else ''"),
            )
            .with("command_template", AS_TEXT)
            .with("max", 255),
    }
}
