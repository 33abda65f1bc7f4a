//! Entities to read: sensors, binary sensors, the event entity, and device triggers (pure).

use serde_json::json;

use super::component::{self, Component, EntityContext};
use crate::heater::{Heater, HeaterKind};

/// Values of `state` in `B/P/printer`.
const STATES: &[&str] = &[
    "offline",
    "connecting",
    "operational",
    "starting",
    "printing",
    "pausing",
    "paused",
    "resuming",
    "cancelling",
    "finishing",
    "transferring",
    "error",
    "unknown",
];

/// Values of `state` in `B/P/socket`.
const SOCKET_STATES: &[&str] =
    &["disconnected", "connecting", "authenticating", "connected", "waiting", "failed"];

/// Template for the members of an object, each cut if it is long: Home Assistant stores no
/// attributes above 16 KiB. The measured text has escapes, so it is no shorter than what is stored.
const SHORT: &str = "{% set short = namespace(all={}) %}{% for name, value in value_json.items() %}{% set text = value | tojson %}{% set short.all = dict(short.all, **{name: value if text | length <= 2000 else text[:2000] ~ '…'}) %}{% endfor %}{{ short.all | tojson }}";

pub(super) fn components(context: &EntityContext<'_>) -> Vec<Component> {
    let mut components = printer(context);
    components.extend(job(context));
    components.extend(layers(context));
    components.extend(thumbnail(context));
    components.extend(temperatures(context));
    components.extend(diagnostics(context));
    components.extend(binary(context));
    components.extend(events(context));
    components
}

/// Returns a template for a text, cut to Home Assistant's longest state; null is no text.
fn text(path: &str) -> String {
    format!("({path} | string)[:255] if {path} else none")
}

fn seconds(component: Component) -> Component {
    component
        .with("device_class", "duration")
        .with("unit_of_measurement", "s")
        .with("suggested_display_precision", 0)
}

fn printer(context: &EntityContext<'_>) -> Vec<Component> {
    let topics = context.topics;
    let error = text("value_json.error");
    vec![
        Component::new("sensor", "state", "State")
            .icon("printer-3d")
            .state(&topics.printer, "value_json.state")
            .with("device_class", "enum")
            .with("options", STATES)
            .with("json_attributes_topic", &*topics.printer)
            .with(
                "json_attributes_template",
                format!("{{{{ {{'text': value_json.text, 'error': {error}}} | tojson }}}}"),
            ),
        Component::new("sensor", "height", "Height")
            .icon("arrow-expand-vertical")
            .state(&topics.position, "value_json.z")
            .with("device_class", "distance")
            .with("unit_of_measurement", "mm")
            .with("state_class", "measurement")
            .with("suggested_display_precision", 2),
        Component::new("sensor", "prompt", "Prompt")
            .icon("message-question")
            .state(&topics.prompt, &text("value_json.text"))
            .with("json_attributes_topic", &*topics.prompt),
        Component::new("sensor", "last_event", "Last event")
            .icon("history")
            .state(&topics.last_event, &text("value_json.event")),
    ]
}

fn job(context: &EntityContext<'_>) -> Vec<Component> {
    let (job, progress) = (&context.topics.job, &context.topics.progress);
    let lengths = "(value_json.filament or {}).values() | select('mapping') | map(attribute='length') | select('number') | list";
    let file = Component::new("sensor", "file", "File")
        .icon("file-cad")
        .state(job, &text("value_json.file"));
    let file = match context.printer.layers {
        true => file.with("json_attributes_topic", &*context.topics.gcode),
        false => file,
    };
    vec![
        file,
        Component::new("sensor", "progress", "Progress")
            .icon("progress-clock")
            .state(progress, "value_json.completion")
            .with("unit_of_measurement", "%")
            .with("state_class", "measurement")
            .with("suggested_display_precision", 1),
        seconds(Component::new("sensor", "print_time", "Print time"))
            .icon("timer-outline")
            .state(progress, "value_json.print_time"),
        seconds(Component::new("sensor", "time_left", "Time left"))
            .icon("timer-sand")
            .state(progress, "value_json.print_time_left"),
        Component::new("sensor", "finish_time", "Finish time")
            .icon("flag-checkered")
            .state(progress, "value_json.eta")
            .with("device_class", "timestamp"),
        Component::new("sensor", "started", "Started at")
            .icon("flag-outline")
            .state(progress, "value_json.started")
            .with("device_class", "timestamp"),
        seconds(Component::new("sensor", "estimated_total", "Estimated total"))
            .icon("timer-cog-outline")
            .state(job, "value_json.estimated_print_time | round(0) if value_json.estimated_print_time is number else none"),
        Component::new("sensor", "filament", "Filament used")
            .icon("printer-3d-nozzle")
            .with("state_topic", &**job)
            .with(
                "value_template",
                format!("{{% set lengths = {lengths} %}}{{{{ (lengths | sum / 1000) | round(2) if lengths else none }}}}"),
            )
            .with("device_class", "distance")
            .with("unit_of_measurement", "m")
            .with("suggested_display_precision", 2),
        Component::new("sensor", "file_size", "File size")
            .icon("file-outline")
            .state(job, "(value_json.size / 1000000) | round(3) if value_json.size is number else none")
            .with("device_class", "data_size")
            .with("unit_of_measurement", "MB")
            .with("suggested_display_precision", 2),
        Component::new("sensor", "user", "User")
            .icon("account")
            .state(job, &text("value_json.user")),
    ]
}

fn layers(context: &EntityContext<'_>) -> Vec<Component> {
    if !context.printer.layers {
        return Vec::new();
    }
    let topics = context.topics;
    vec![
        Component::new("sensor", "layer", "Layer")
            .icon("layers")
            .state(&topics.layer, "value_json.current")
            .with("state_class", "measurement")
            .with("json_attributes_topic", &*topics.layer)
            .with("json_attributes_template", "{{ {'z': value_json.z} | tojson }}"),
        Component::new("sensor", "total_layers", "Total layers")
            .icon("layers-triple")
            .state(&topics.layer, "value_json.total"),
        Component::new("event", "layer_change", "Layer change")
            .icon("layers-plus")
            .with("state_topic", &*topics.layer_change)
            .with("event_types", json!(["layer_change"])),
    ]
}

fn thumbnail(context: &EntityContext<'_>) -> Option<Component> {
    context.printer.thumbnails.then(|| {
        Component::new("image", "thumbnail", "Thumbnail")
            .icon("image")
            .with("image_topic", &*context.topics.thumbnail)
            // A label for both kinds of images: browsers look at the bytes.
            .with("content_type", "image/png")
    })
}

fn temperatures(context: &EntityContext<'_>) -> Vec<Component> {
    let celsius = |key: String, name: String, heater: &Heater, member: &str| {
        Component::new("sensor", key, &name)
            .state(&context.topics.temperature(heater), &format!("value_json.{member}"))
            .with("device_class", "temperature")
            .with("unit_of_measurement", "°C")
            .with("state_class", "measurement")
            .with("suggested_display_precision", 1)
    };
    let of = |heater: &Heater| {
        let name = context.heater_name(heater);
        let key = component::component_key(heater);
        let icon = match heater.kind() {
            HeaterKind::Bed => "radiator",
            HeaterKind::Chamber => "cube-outline",
            HeaterKind::Tool(_) | HeaterKind::Other => "printer-3d-nozzle-heat",
        };
        let actual = celsius(key.clone(), format!("{name} temperature"), heater, "actual");
        let target = heater.can_be_set().then(|| {
            celsius(format!("{key}_target"), format!("{name} target"), heater, "target")
                .icon("thermometer-chevron-up")
        });
        [Some(actual.icon(icon)), target].into_iter().flatten()
    };
    context.printer.profile.heaters.iter().flat_map(of).collect()
}

fn diagnostics(context: &EntityContext<'_>) -> Vec<Component> {
    let topics = context.topics;
    let alone = || context.with_bridge_alone();
    vec![
        Component::new("sensor", "resend_ratio", "Resend ratio")
            .icon("repeat")
            .state(&topics.resends, "value_json.ratio")
            .with("unit_of_measurement", "%")
            .with("state_class", "measurement")
            .diagnostic(),
        Component::new("sensor", "free_space", "Free space")
            .icon("harddisk")
            .state(
                &topics.storage,
                "(value_json.local.free / 1000000000) | round(2) if value_json.local and value_json.local.free is not none else none",
            )
            .with("device_class", "data_size")
            .with("unit_of_measurement", "GB")
            .with("state_class", "measurement")
            .with("suggested_display_precision", 1)
            .with("json_attributes_topic", &*topics.storage)
            .diagnostic(),
        Component::new("sensor", "octoprint_version", "OctoPrint version")
            .icon("tag")
            .state(&topics.server, &text("value_json.version"))
            .diagnostic(),
        Component::new("sensor", "socket", "Push socket")
            .icon("connection")
            .state(&topics.socket, "value_json.state")
            .with("device_class", "enum")
            .with("options", SOCKET_STATES)
            .with("json_attributes_topic", &*topics.socket)
            .with(
                "json_attributes_template",
                "{{ {'transport': value_json.transport, 'attempt': value_json.attempt, 'next_attempt_in': value_json.next_attempt_in, 'error': value_json.error} | tojson }}",
            )
            .available(alone())
            .diagnostic(),
        Component::new("sensor", "publish_latency", "Publish latency")
            .icon("speedometer")
            .state(&topics.socket, "value_json.publish_latency_ms")
            .with("device_class", "duration")
            .with("unit_of_measurement", "ms")
            .with("state_class", "measurement")
            .with("suggested_display_precision", 1)
            .available(alone())
            .diagnostic(),
        Component::new("sensor", "push_interval", "Push interval")
            .icon("timer-refresh-outline")
            .state(&topics.socket, "value_json.push_interval_ms")
            .with("device_class", "duration")
            .with("unit_of_measurement", "ms")
            .with("state_class", "measurement")
            .available(alone())
            .diagnostic(),
        Component::new("sensor", "last_command", "Last command")
            .icon("console")
            .state(
                &topics.last_command,
                "(value_json.command ~ ': ' ~ ('done' if value_json.ok else value_json.error))[:255]",
            )
            .with("json_attributes_topic", &*topics.last_command)
            .with("json_attributes_template", SHORT)
            .available(alone())
            .diagnostic(),
    ]
}

fn binary(context: &EntityContext<'_>) -> Vec<Component> {
    let topics = context.topics;
    let of_state = |key: &str, name: &str, condition: &str| {
        Component::new("binary_sensor", key, name).with("state_topic", &*topics.printer).with(
            "value_template",
            format!(
                "{{% set state = value_json.state %}}{{{{ none if state == 'unknown' else 'ON' if {condition} else 'OFF' }}}}"
            ),
        )
    };
    let error = text("value_json.error");
    let bad_line = context.is_since_2_0().then(|| {
        Component::new("binary_sensor", "bad_line", "Line to the printer")
            .state(
                &topics.resends,
                "none if value_json.critical is none else 'ON' if value_json.critical else 'OFF'",
            )
            .with("device_class", "problem")
            .diagnostic()
    });
    let always = vec![
        of_state(
            "printing",
            "Printing",
            "state in ['starting', 'printing', 'pausing', 'resuming', 'cancelling', 'finishing']",
        )
        .icon("printer-3d-nozzle")
        .with("device_class", "running"),
        of_state("paused", "Paused", "state == 'paused'").icon("pause-circle-outline"),
        of_state("problem", "Problem", "state == 'error' or value_json.error")
            .with("device_class", "problem")
            .with("json_attributes_topic", &*topics.printer)
            .with("json_attributes_template", format!("{{{{ {{'error': {error}}} | tojson }}}}")),
        of_state(
            "printer_connected",
            "Printer connected",
            "state not in ['offline', 'connecting', 'error']",
        )
        .with("device_class", "connectivity")
        .with("json_attributes_topic", &*topics.connection)
        .diagnostic(),
        Component::new("binary_sensor", "octoprint_connected", "OctoPrint connected")
            .with("state_topic", &*topics.availability)
            .with("payload_on", "online")
            .with("payload_off", "offline")
            .with("device_class", "connectivity")
            .available(json!([{"topic": context.settings.topics.state}]))
            .diagnostic(),
    ];
    always.into_iter().chain(bad_line).collect()
}

/// The event types of `B/P/print`, with subtype and type as the automation editor shows them, such
/// as `"Print" finished`.
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

fn events(context: &EntityContext<'_>) -> Vec<Component> {
    let topic = &*context.topics.print;
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
    let timelapse = Component::new("event", "timelapse", "Timelapse")
        .icon("movie-open")
        .with("state_topic", &*context.topics.timelapse)
        .with("event_types", json!(["timelapse_done", "timelapse_failed"]));
    let prompt = Component::new("event", "prompt_event", "Prompt")
        .icon("message-question")
        .with("state_topic", &*context.topics.prompt_event)
        .with("event_types", json!(["prompt_shown", "prompt_closed"]));
    [entity, timelapse, prompt].into_iter().chain(EVENTS.iter().map(trigger)).collect()
}
