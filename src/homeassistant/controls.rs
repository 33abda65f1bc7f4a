//! Entities to control: numbers, the switch, the choice of a file, texts, climate, and buttons (pure).

use serde_json::{Value, json};

use super::component::{Component, EntityContext, number};
use super::device::MOST_FILES;
use crate::heater::Heater;

/// Template that wraps the input, so that a text such as `5` or `{"value":1}` arrives as that text.
pub(super) const AS_TEXT: &str = "{{ {'value': value} | tojson }}";

pub(super) fn components(context: &EntityContext<'_>) -> Vec<Component> {
    let groups = &context.printer.groups;
    let mut components = Vec::new();
    if groups.temperature {
        components.extend(targets(context));
        if context.settings.climate {
            components.extend(climate(context));
        }
    }
    if groups.motion {
        components.push(factor(context, "feedrate", "Feed rate", "speedometer"));
        components.push(factor(context, "flowrate", "Flow rate", "waves-arrow-right"));
    }
    if groups.bridge {
        components.extend(rate(context));
    }
    if groups.job {
        components.push(file(context));
        components.push(
            Component::new("notify", "message", "Display message")
                .icon("message-text")
                .command(&*context.topics.command("message"))
                .with("command_template", AS_TEXT),
        );
    }
    if groups.gcode {
        components.push(
            Component::new("text", "gcode", "G-code")
                .icon("console-line")
                .command(&*context.topics.command("gcode"))
                .with("command_template", AS_TEXT)
                .with("max", 255)
                .config(),
        );
    }
    components.extend(buttons(context));
    components
}

/// Returns a template for a target. Omits a target that was set in OctoPrint above the bridge's
/// limit, which Home Assistant would refuse with a line in its log.
fn target(limit: &Value) -> String {
    format!(
        "value_json.target if value_json.target is number and value_json.target <= {limit} else none"
    )
}

fn targets(context: &EntityContext<'_>) -> Vec<Component> {
    let of = |(heater, limit): (&Heater, f64)| {
        let limit = number(limit);
        let name = format!("{} target", context.heater_name(heater));
        let command = context.topics.command(&format!("temperature/{heater}"));
        Component::new("number", format!("{heater}_set_target"), &name)
            .icon("thermometer-lines")
            .command(&*command)
            .state(&context.topics.temperature(heater), &target(&limit))
            .with("device_class", "temperature")
            .with("unit_of_measurement", "°C")
            .with("min", 0)
            .with("max", limit)
            .with("step", 1)
            .with("mode", "box")
    };
    context.settable().map(of).collect()
}

/// Setting a temperature heats, `off` switches off. The mode `heat` alone has no temperature, so it
/// sends an empty payload, which is not a command.
fn climate(context: &EntityContext<'_>) -> Vec<Component> {
    let of = |(heater, limit): (&Heater, f64)| {
        let limit = number(limit);
        let name = format!("{} heater", context.heater_name(heater));
        let topic = context.topics.temperature(heater);
        let command = context.topics.command(&format!("temperature/{heater}"));
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
    context.settable().map(of).collect()
}

fn factor(context: &EntityContext<'_>, key: &str, name: &str, icon: &str) -> Component {
    Component::new("number", key, name)
        .icon(icon)
        .command(&*context.topics.command(key))
        .with("command_template", "{{ value | int }}")
        .state(&context.topics.factors, &format!("value_json.{key}"))
        .with("unit_of_measurement", "%")
        .with("min", 10)
        .with("max", 500)
        .with("step", 1)
        .with("mode", "box")
}

/// Both are available while OctoPrint is away.
fn rate(context: &EntityContext<'_>) -> [Component; 2] {
    let command = context.topics.command("rate");
    let longest = f64::from(context.printer.max_rate_factor) / 2.0;
    [
        Component::new("number", "push_interval_number", "Push interval")
            .icon("timer-refresh-outline")
            .command(&*command)
            // The factor counts half seconds.
            .with("command_template", "{{ (value * 2) | round | int }}")
            .state(&context.topics.socket, "value_json.push_interval_ms / 1000")
            .with("device_class", "duration")
            .with("unit_of_measurement", "s")
            .with("min", 0.5)
            // At least one step: Home Assistant requires a maximum above the minimum.
            .with("max", number(longest.max(1.0)))
            .with("step", 0.5)
            .with("mode", "box")
            .available(context.with_bridge_alone())
            .config(),
        Component::new("switch", "adaptive_rate", "Adaptive push rate")
            .icon("speedometer")
            .command(&*command)
            .state(&context.topics.socket, "value_json.rate_mode")
            .with("payload_on", "auto")
            .with("payload_off", "hold")
            .with("state_on", "auto")
            .with("state_off", "manual")
            .available(context.with_bridge_alone())
            .config(),
    ]
}

/// The file to print next. Choosing one selects it without starting a print: a button does that.
fn file(context: &EntityContext<'_>) -> Component {
    let path = "(value_json.origin ~ '/' ~ value_json.path)";
    let (platform, key) = match &context.printer.profile.files {
        Some(files) if !files.is_empty() && files.len() <= MOST_FILES => ("select", "file_select"),
        _ => ("text", "file_path"),
    };
    let component = Component::new(platform, key, "File to print")
        .icon("file-cad")
        .command(&*context.topics.command("select"))
        .available(context.while_state("state == 'operational'"));
    match &context.printer.profile.files {
        Some(files) if platform == "select" => {
            // Home Assistant refuses a value that is not an option with a line in its log.
            let options = json!(files);
            let known = format!("value_json.path and {path} in {options}");
            component
                .state(&context.topics.job, &format!("{path} if {known} else none"))
                .with("options", options)
        }
        _ => component
            .state(
                &context.topics.job,
                &format!("{path} if value_json.path and {path} | length <= 255 else ''"),
            )
            .with("command_template", AS_TEXT)
            .with("max", 255),
    }
}

/// Condition for what needs a connected printer.
pub(super) const CONNECTED: &str = "state not in ['offline', 'connecting', 'error', 'unknown']";

fn buttons(context: &EntityContext<'_>) -> Vec<Component> {
    let groups = &context.printer.groups;
    let mut components = Vec::new();
    if groups.job {
        components.extend(job(context));
    }
    if groups.temperature {
        // With °F a number starts at 32, so 0 °C cannot be set.
        components.push(
            button(context, "heaters_off", "Heaters off", "radiator-off", "temperature/all", "off")
                .available(context.while_state(CONNECTED)),
        );
    }
    if groups.motion {
        components.push(
            button(context, "home", "Home", "home", "home", "all")
                .available(context.while_state("state == 'operational'")),
        );
    }
    if groups.connection {
        components.extend(connection(context));
    }
    if groups.bridge {
        components.push(
            button(
                context,
                "reconnect",
                "Reconnect socket",
                "connection",
                "reconnect",
                "reconnect",
            )
            .available(context.with_bridge_alone())
            .config(),
        );
    }
    if groups.system {
        components.extend(system(context));
    }
    components
}

pub(super) fn button(
    context: &EntityContext<'_>,
    key: &str,
    name: &str,
    icon: &str,
    command: &str,
    payload: &str,
) -> Component {
    Component::new("button", key, name)
        .icon(icon)
        .command(&*context.topics.command(command))
        .with("payload_press", payload)
}

fn job(context: &EntityContext<'_>) -> Vec<Component> {
    let of_job = |key: &str, name: &str, icon: &str, when: &str| {
        button(context, key, name, icon, "job", key).available(context.while_state(when))
    };
    let mut start = context.while_state("state == 'operational'");
    if let Value::Array(conditions) = &mut start {
        conditions.push(json!({
            "topic": context.topics.job,
            "value_template": "{{ 'online' if value_json.path else 'offline' }}",
        }));
    }
    vec![
        button(context, "start", "Start print", "play", "job", "start").available(start),
        of_job("pause", "Pause", "pause", "state in ['starting', 'printing', 'resuming']"),
        of_job("resume", "Resume", "play-pause", "state == 'paused'"),
        of_job(
            "cancel",
            "Cancel print",
            "stop",
            "state in ['starting', 'printing', 'pausing', 'paused', 'resuming']",
        ),
        of_job("restart", "Restart print", "restart", "state == 'paused'"),
        button(context, "print_again", "Print again", "repeat", "job", "again")
            .available(context.while_state("state == 'operational'")),
        button(
            context,
            "emergency_stop",
            "Emergency stop",
            "alert-octagon",
            "emergency_stop",
            "stop",
        )
        .available(context.while_state(CONNECTED)),
    ]
}

fn connection(context: &EntityContext<'_>) -> Vec<Component> {
    let of = |key: &str, name: &str, icon: &str, when: &str| {
        button(context, key, name, icon, "connection", key)
            .available(context.while_state(when))
            .config()
    };
    vec![
        of("connect", "Connect", "lan-connect", "state in ['offline', 'error']"),
        of("disconnect", "Disconnect", "lan-disconnect", CONNECTED),
    ]
}

fn system(context: &EntityContext<'_>) -> Vec<Component> {
    let listed =
        |command: &str| context.printer.profile.system_commands.iter().any(|c| c == command);
    [
        ("restart", "Restart OctoPrint", "restart"),
        ("reboot", "Reboot host", "restart-alert"),
        ("shutdown", "Shut down host", "power"),
    ]
    .into_iter()
    .filter(|(command, ..)| listed(command))
    .map(|(command, name, icon)| {
        button(context, &format!("system_{command}"), name, icon, "system", command).config()
    })
    .collect()
}
