//! The printer's power in Home Assistant.

use serde_json::{Value, json};

use super::World;
use super::real::plug::{self, Plug};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Home Assistant, OctoPrint and Mosquitto: ./tests/run homeassistant"]
async fn the_power_is_a_switch_that_stays_on_during_a_print() {
    let world = World::start(&format!("auto_off = true\n{}", plug::keys())).await;
    let _plug = Plug::start(world.broker.port).await;
    let (home, octoprint) = (&world.home, &world.octoprint);
    let (power, off_at) = ("switch.prusa_mk3s_power", "sensor.prusa_mk3s_automatic_power_off");
    home.is(power, "off").await;
    home.is(off_at, "unknown").await;
    home.act("switch/turn_on", power, json!({})).await;
    home.is(power, "on").await;
    octoprint.select("part.gcode").await;
    octoprint.job(json!({"command": "start"})).await;
    home.is("sensor.prusa_mk3s_state", "printing").await;
    let mark = world.watcher.mark();
    home.act("switch/turn_off", power, json!({})).await;
    let refused = |result: &Value| result["command"] == "power" && result["status"] == 409;
    world.watcher.wait_json(mark, &super::topic("result"), refused).await;
    home.is(power, "on").await;

    octoprint.job(json!({"command": "cancel"})).await;
    let counts = |state: &Value| state["state"].as_str().is_some_and(|at| at.starts_with("20"));
    home.wait(off_at, counts).await;
    world.press("keep_power_on").await;
    home.is(off_at, "unknown").await;
    home.act("switch/turn_off", power, json!({})).await;
    home.is(power, "off").await;
    assert_eq!(home.complaints(), Vec::<String>::new());
}
