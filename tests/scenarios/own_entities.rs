//! Entities of the user's own with a real OctoPrint and a plugin of one file.

use crate::real::bridge::{Bridge, config};
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::{OctoPrint, PASSWORD, USER};
use crate::real::watcher::{Watcher, retained};
use serde_json::{Value, json};

const PLUGIN: &str = include_str!("lamp.py");

/// What is not published is read all the same.
const ENTITIES: &str = r#"publish = { plugins = [], events = [] }
[printers.mk3.socket]
terminal = true
[printers.mk3.entities.lamp]
type = "switch"
from = "plugin/lamp"
when = { pointer = "/kind", equals = "lamp" }
value = "/lamp/on"
on = { plugin = "lamp", body = { command = "lights_on" } }
off = { plugin = "lamp", body = { command = "lights_off" } }
[printers.mk3.entities.level]
type = "number"
from = "plugin/lamp"
value = "/levels/0"
set = { plugin = "lamp", method = "PATCH", path = "outputs/3", body = { level = "{value}" } }
[printers.mk3.entities.blink]
type = "button"
press = { plugin = "lamp", method = "GET", query = { times = 3 } }
[printers.mk3.entities.blinked]
type = "event"
from = "plugin/lamp"
when = { pointer = "/kind", equals = "blink" }
[printers.mk3.entities.broken]
type = "button"
press = { plugin = "lamp", body = { command = "broken" } }
[printers.mk3.entities.nowhere]
type = "button"
press = { plugin = "no_such_plugin" }
[printers.mk3.entities.case_light]
type = "switch"
on = { gcode = ["M355 S1", "M355"] }
off = { gcode = ["M355 S0"] }
[printers.mk3.entities.sd_ready]
type = "binary_sensor"
from = ["message/current", "message/history"]
value = "/state/flags/sdReady"
[printers.mk3.entities.connected]
type = "event"
from = ["event/Connected", "event/Disconnected"]
value = "/_event"
events = ["Connected", "Disconnected"]
"#;

fn topic(rest: &str) -> String {
    format!("octoprint2mqtt/mk3/{rest}")
}

struct World {
    watcher: Watcher,
    broker: Mosquitto,
    octoprint: OctoPrint,
    _bridge: Bridge,
}

impl World {
    /// With an API key, or with user and password, where calls need OctoPrint's CSRF token.
    async fn start(with_password: bool) -> Self {
        let octoprint = OctoPrint::start_with_plugin("lamp.py", PLUGIN, |config| config);
        let (broker, octoprint) = tokio::join!(Mosquitto::start(), octoprint);
        let watcher = Watcher::start(broker.port).await;
        let mut text = config(&broker.url(), &octoprint.url(), ENTITIES);
        if with_password {
            let key = text.lines().find(|line| line.starts_with("api_key")).unwrap().to_owned();
            let login = format!("username = \"{USER}\"\npassword = \"{PASSWORD}\"");
            text = text.replace(&key, &login);
        }
        let bridge = Bridge::start(&text);
        watcher.wait("online", |s| s.topic == topic("availability") && s.payload == "online").await;
        Self { watcher, broker, octoprint, _bridge: bridge }
    }

    /// Waits for a state after `mark`.
    async fn state(&self, mark: usize, key: &str, value: Value) {
        let topic = topic(&format!("entity/{key}"));
        self.watcher.wait_json(mark, &topic, |state| *state == json!({ "value": value })).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn a_plugin_is_read_and_controlled() {
    for with_password in [false, true] {
        let world = World::start(with_password).await;
        let watcher = &world.watcher;
        world.state(0, "lamp", json!(null)).await;
        world.state(0, "case_light", json!(null)).await;
        world.state(0, "sd_ready", json!(true)).await;

        let mark = watcher.mark();
        watcher.done("entity/lamp", "ON").await;
        world.state(mark, "lamp", json!(true)).await;
        world.state(mark, "level", json!(40)).await;
        watcher.done("entity/level", "75").await;
        world.state(mark, "level", json!(75)).await;
        watcher.done("entity/lamp", "OFF").await;
        world.state(mark, "lamp", json!(false)).await;
        let mark = watcher.mark();
        watcher.done("entity/blink", "press").await;
        let blinked = topic("entity/blinked");
        let event = watcher.wait_json(mark, &blinked, |event| !event["data"].is_null()).await;
        assert_eq!(event["event_type"], "blinked");
        assert_eq!(event["data"], json!({"kind": "blink", "times": "3"}));

        watcher.refused("entity/broken", "press", json!(409), "").await;
        watcher.refused("entity/nowhere", "press", json!(400), "no_such_plugin").await;
        watcher.refused("entity/level", "101", Value::Null, "0…100").await;
        watcher.refused("entity/sd_ready", "ON", Value::Null, "unknown command").await;
        watcher.sends("Send:", "entity/case_light", "ON", &["M355 S1", "M355"]).await;
        world.state(mark, "case_light", json!(true)).await;
        let seen = watcher.seen();
        assert!(!seen.iter().any(|seen| seen.topic.contains("/plugin/")), "it is not published");
        let kept = retained(world.broker.port).await;
        assert_eq!(kept[&topic("entity/lamp")], r#"{"value":false}"#);
        assert!(!kept.contains_key(&blinked), "an event is not retained");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn what_needs_the_printer_is_refused_without_it() {
    let world = World::start(false).await;
    world.watcher.done("connection", "disconnect").await;
    world.octoprint.until("Offline").await;
    let connected = topic("entity/connected");
    let is_gone = |event: &Value| event["event_type"] == "Disconnected";
    world.watcher.wait_json(0, &connected, is_gone).await;
    world.watcher.refused("entity/case_light", "ON", json!(409), "").await;
    world.watcher.done("entity/lamp", "ON").await;
}
