//! The view of all printers (pure).

use serde_json::{Value, json};

use super::cards::{section, tile, while_printing, with};
use super::entities::{Device, Member};

/// Counts of the fleet: key, name and colour of each tile.
const COUNTS: &[(&str, &str, &str)] = &[
    ("printing", "Printing", "green"),
    ("idle", "Idle", "blue"),
    ("paused", "Paused", "amber"),
    ("error", "With errors", "red"),
    ("offline", "Offline", "grey"),
];

pub(super) fn view(bridges: &[Device], printers: &[Member]) -> Value {
    let fleets = bridges.iter().filter_map(|bridge| fleet(bridge, bridges.len() > 1));
    let sections: Vec<Value> = fleets.chain(printers.iter().filter_map(printer)).collect();
    json!({
        "type": "sections",
        "title": "All printers",
        "path": "all",
        "icon": "mdi:printer-3d",
        "max_columns": 4,
        "sections": sections,
    })
}

fn fleet(bridge: &Device, has_siblings: bool) -> Option<Value> {
    let heading = if has_siblings { bridge.name.as_str() } else { "Printers" };
    let heading = json!({"type": "heading", "heading": heading, "icon": "mdi:printer-3d"});
    let count = |(key, name, color): &(&str, &str, &str)| {
        Some(with(tile(bridge.entity(key)?, name, 6), json!({"color": color})))
    };
    let next = bridge.entity("next_to_finish").map(|next| {
        let content = json!({"state_content": ["printer_name", "state"], "color": "green"});
        with(tile(next, "Next to finish", 12), content)
    });
    section(heading, COUNTS.iter().filter_map(count).chain(next).collect())
}

fn printer(printer: &Member) -> Option<Value> {
    let device = &printer.device;
    // Relative to the dashboard, whose path is not known here.
    let open = json!({"action": "navigate", "navigation_path": printer.path()});
    let problem = device.id("problem").map(|problem| {
        json!({"type": "entity", "entity": problem, "color": "red", "visibility": [
            {"condition": "state", "entity": problem, "state": "on"}]})
    });
    let heading = json!({
        "type": "heading",
        "heading": device.name,
        "icon": "mdi:printer-3d-nozzle",
        "tap_action": open,
        "badges": problem.into_iter().collect::<Vec<_>>(),
    });
    let state = device.entity("state").map(|state| {
        with(tile(state, "State", 12), json!({"tap_action": open, "icon_tap_action": open}))
    });
    let while_on =
        |key: &str, name: &str| Some(while_printing(tile(device.entity(key)?, name, 6), device));
    let progress = [while_on("progress", "Progress"), while_on("finish_time", "Finished")];
    section(heading, state.into_iter().chain(progress.into_iter().flatten()).collect())
}
