//! Entities of the user's own, and what is counted, in Home Assistant.

use serde_json::{Value, json};

use super::World;

const ENTITIES: &str = r#"
maintenance = { belts = "1 prints" }
[printers.mk3.entities.done]
type = "sensor"
from = "message/current"
value = "/progress/completion"
unit = "%"
[printers.mk3.entities.busy]
type = "binary_sensor"
from = "message/current"
value = "/state/flags/printing"
[printers.mk3.entities.began]
type = "event"
from = "event/PrintStarted"
[printers.mk3.entities.beep]
type = "button"
press = { gcode = ["M300"] }
[printers.mk3.entities.light]
type = "switch"
on = { gcode = ["M355 S1"] }
off = { gcode = ["M355 S0"] }
[printers.mk3.entities.fan]
type = "number"
set = { gcode = ["M106 S{value}"] }
max = 255
[printers.mk3.entities.mode]
type = "select"
set = { gcode = ["M117 {value}"] }
options = ["quiet", "fast"]
"#;

fn entity(of: &str) -> String {
    of.replace('.', ".prusa_mk3s_")
}

/// Whether the state is this number.
fn is_number(state: &Value, number: f64) -> bool {
    state["state"].as_str().and_then(|state| state.parse().ok()) == Some(number)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Home Assistant, OctoPrint and Mosquitto: ./tests/run homeassistant"]
async fn own_entities_show_and_send() {
    let world = World::start(ENTITIES).await;
    let (home, octoprint) = (&world.home, &world.octoprint);
    home.is(&entity("binary_sensor.busy"), "off").await;
    home.is(&entity("event.began"), "unknown").await;
    for (action, state) in [("switch/turn_on", "on"), ("switch/turn_off", "off")] {
        home.act(action, &entity("switch.light"), json!({})).await;
        home.is(&entity("switch.light"), state).await;
    }
    home.act("number/set_value", &entity("number.fan"), json!({"value": 128})).await;
    home.wait(&entity("number.fan"), |state| is_number(state, 128.0)).await;
    home.act("select/select_option", &entity("select.mode"), json!({"option": "fast"})).await;
    home.is(&entity("select.mode"), "fast").await;
    let mark = world.watcher.mark();
    world.press("beep").await;
    let pressed = |result: &Value| result["command"] == "entity/beep" && result["ok"] == true;
    world.watcher.wait_json(mark, &super::topic("result"), pressed).await;

    home.wait(&entity("sensor.prints_done"), |state| is_number(state, 0.0)).await;
    octoprint.select("other.gcode").await;
    octoprint.job(json!({"command": "start"})).await;
    let began = |state: &Value| state["attributes"]["event_type"] == "began";
    home.wait(&entity("event.began"), began).await;
    home.wait(&entity("sensor.done"), |state| is_number(state, 100.0)).await;
    home.wait(&entity("sensor.prints_done"), |state| is_number(state, 1.0)).await;
    home.is(&entity("sensor.last_print"), "done").await;
    home.is(&entity("binary_sensor.belts_due"), "on").await;
    world.press("belts_done").await;
    home.is(&entity("binary_sensor.belts_due"), "off").await;
    assert_eq!(home.complaints(), Vec::<String>::new());
}
