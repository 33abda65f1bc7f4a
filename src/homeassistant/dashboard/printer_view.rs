//! The view of one printer (pure).

use serde_json::{Value, json};

use super::cards::{section, tile, while_in, while_printing, with};
use super::entities::{Device, Entity, Member};

/// Colours of temperatures, in turn.
const COLORS: &[&str] = &["deep-orange", "blue", "amber", "purple", "teal"];

pub(super) fn view(printer: &Member, is_subview: bool, has_mini_graph_card: bool) -> Value {
    let device = &printer.device;
    let temperatures = temperatures(device, has_mini_graph_card);
    let sections = [print(device), pictures(device), temperatures, printer_section(device)];
    let view = json!({
        "type": "sections",
        "title": device.name,
        "path": printer.path(),
        "max_columns": 3,
        "sections": sections.into_iter().flatten().collect::<Vec<_>>(),
    });
    if is_subview { with(view, json!({"subview": true})) } else { view }
}

fn print(device: &Device) -> Option<Value> {
    let connected = device.id("octoprint_connected");
    let connected = connected.map(|id| json!({"type": "entity", "entity": id}));
    let problem = device
        .id("problem")
        .map(|id| while_in(json!({"type": "entity", "entity": id, "color": "red"}), id, &["on"]));
    let badges: Vec<Value> = connected.into_iter().chain(problem).collect();
    let heading = json!({"type": "heading", "heading": "Print",
        "icon": "mdi:printer-3d-nozzle", "badges": badges});
    let of = |key: &str, name: &str, columns| Some(tile(device.entity(key)?, name, columns));
    let gauge = device.id("progress").map(|id| {
        json!({"type": "gauge", "entity": id, "name": "Progress", "min": 0, "max": 100,
            "grid_options": {"columns": 12}})
    });
    let while_on = |card: Option<Value>| card.map(|card| while_printing(card, device));
    let cards = [
        of("state", "State", 6),
        of("file", "File", 6),
        gauge,
        while_on(of("finish_time", "Finished", 6)),
        while_on(of("time_left", "Time left", 6)),
        file(device),
        confirmed(device, "start", "Start", "green", 12, "Is the bed clear?"),
        pressed(device, "pause", "Pause", "amber"),
        pressed(device, "resume", "Resume", "green"),
        confirmed(device, "cancel", "Cancel", "red", 6, "Cancel this print?"),
    ];
    section(heading, cards.into_iter().flatten().collect())
}

/// The file to print, while none is printed.
fn file(device: &Device) -> Option<Value> {
    let select = device.entity("file_select").map(|select| {
        with(tile(select, "File to print", 12), json!({"features": [{"type": "select-options"}]}))
    });
    let path = || {
        let entity = device.entity("file_path")?;
        Some(
            json!({"type": "entities", "entities": [{"entity": entity.id, "name": "File to print"}]}),
        )
    };
    Some(while_in(select.or_else(path)?, device.id("state")?, &["operational"]))
}

/// A button, which is shown while it can act.
fn button(entity: &Entity, name: &str, color: &str, columns: u8) -> Value {
    let available = json!([
        {"condition": "state", "entity": entity.id, "state_not": "unavailable"},
    ]);
    let members = json!({"hide_state": true, "color": color, "visibility": available});
    with(tile(entity, name, columns), members)
}

fn pressed(device: &Device, key: &str, name: &str, color: &str) -> Option<Value> {
    let button = button(device.entity(key)?, name, color, 6);
    Some(with(button, json!({"tap_action": {"action": "toggle"}})))
}

/// A button that asks first.
fn confirmed(
    device: &Device,
    key: &str,
    name: &str,
    color: &str,
    columns: u8,
    question: &str,
) -> Option<Value> {
    let entity = device.entity(key)?;
    let action = json!({
        "action": "perform-action",
        "perform_action": "button.press",
        "target": {"entity_id": entity.id},
        "confirmation": {"text": question},
    });
    Some(with(button(entity, name, color, columns), json!({"tap_action": action})))
}

/// What the printer's cameras and images show.
fn pictures(device: &Device) -> Option<Value> {
    let picture = |entity: &Entity| {
        json!({"type": "picture-entity", "entity": entity.id, "name": entity.name,
            "show_state": false, "grid_options": {"columns": 12}})
    };
    let all = device.of_platform("camera").chain(device.of_platform("image"));
    let heading = json!({"type": "heading", "heading": "Pictures", "icon": "mdi:camera"});
    section(heading, all.map(picture).collect())
}

fn temperatures(device: &Device, has_mini_graph_card: bool) -> Option<Value> {
    let colors = COLORS.iter().cycle();
    let current = device
        .temperatures()
        .zip(colors)
        .map(|(entity, color)| with(tile(entity, short(entity), 6), json!({"color": color})));
    let target = |entity: &Entity| {
        let input = json!({"features": [{"type": "numeric-input", "style": "buttons"}]});
        with(tile(entity, &entity.name, 12), input)
    };
    let graphed = |entity: &Entity| json!({"entity": entity.id, "name": short(entity)});
    let graphed: Vec<Value> = device.temperatures().map(graphed).collect();
    let graph = (!graphed.is_empty()).then(|| match has_mini_graph_card {
        // A point each half minute, without the smoothing that hides overshoots.
        true => {
            json!({"type": "custom:mini-graph-card", "name": "Temperatures", "hours_to_show": 2,
            "points_per_hour": 120, "line_width": 2, "smoothing": false, "entities": graphed,
            "show": {"icon": false, "state": false, "labels": true, "fill": false}})
        }
        false => json!({"type": "history-graph", "hours_to_show": 2, "entities": graphed}),
    });
    let off = device.entity("heaters_off").map(|off| {
        with(button(off, "Heaters off", "blue", 12), json!({"tap_action": {"action": "toggle"}}))
    });
    let heading = json!({"type": "heading", "heading": "Temperatures", "icon": "mdi:thermometer"});
    let cards = current.chain(device.targets().map(target)).chain(off).chain(graph);
    section(heading, cards.collect())
}

/// The name of a temperature without that word.
fn short(entity: &Entity) -> &str {
    entity.name.strip_suffix(" temperature").unwrap_or(&entity.name)
}

/// Key and name of what is listed.
const LISTED: &[(&str, &str)] = &[
    ("height", "Height"),
    ("print_time", "Print time"),
    ("filament", "Filament"),
    ("feedrate", "Feed rate"),
    ("flowrate", "Flow rate"),
    ("print", "Last print event"),
    ("last_command", "Last command"),
];

fn printer_section(device: &Device) -> Option<Value> {
    let row = |(key, name): &(&str, &str)| Some(json!({"entity": device.id(key)?, "name": name}));
    let rows: Vec<Value> = LISTED.iter().filter_map(row).collect();
    let list = (!rows.is_empty()).then(|| json!({"type": "entities", "entities": rows}));
    let cards = [
        list,
        confirmed(
            device,
            "emergency_stop",
            "Emergency stop",
            "red",
            12,
            "Stop the printer at once?",
        ),
        confirmed(device, "home", "Home", "blue", 12, "Is nothing in the way?"),
        confirmed(
            device,
            "connect",
            "Connect the printer",
            "blue",
            12,
            "Many boards reset when the port is opened. Connect?",
        ),
    ];
    let heading = json!({"type": "heading", "heading": "Printer", "icon": "mdi:tune"});
    section(heading, cards.into_iter().flatten().collect())
}
