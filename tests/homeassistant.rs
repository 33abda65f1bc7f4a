//! A real Home Assistant with a real broker, a real OctoPrint and the bridge between.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

#[path = "homeassistant/automations.rs"]
mod automations;
#[path = "homeassistant/delivery.rs"]
mod delivery;
#[path = "homeassistant/fleet.rs"]
mod fleet;
#[path = "homeassistant/for_people.rs"]
mod for_people;
#[path = "homeassistant/layers.rs"]
mod layers;
#[path = "homeassistant/own.rs"]
mod own;
#[path = "homeassistant/power.rs"]
mod power;
mod real;

use std::collections::BTreeSet;

use real::bridge::{Bridge, config};
use real::homeassistant::{HomeAssistant, is_complaint};
use real::mosquitto::Mosquitto;
use real::octoprint::OctoPrint;
use real::watcher::Watcher;
use real::{eventually, octoprint};
use serde_json::{Value, json};

fn topic(rest: &str) -> String {
    format!("octoprint2mqtt/mk3/{rest}")
}

struct World {
    broker: Mosquitto,
    octoprint: OctoPrint,
    watcher: Watcher,
    home: HomeAssistant,
    _bridge: Bridge,
}

impl World {
    async fn start(more: &str) -> Self {
        Self::start_named("Prusa MK3S", more).await
    }

    async fn start_named(name: &str, more: &str) -> Self {
        let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
        octoprint.upload("part.gcode", 300).await;
        octoprint.upload("other.gcode", 3).await;
        let watcher = Watcher::start(broker.port).await;
        let more = format!("name = \"{name}\"\n{more}");
        let bridge = Bridge::start(&config(&broker.url(), &octoprint.url(), &more));
        let home = HomeAssistant::start(broker.port).await;
        let state = format!("sensor.{}_state", name.to_lowercase().replace(' ', "_"));
        home.is(&state, "operational").await;
        Self { broker, octoprint, watcher, home, _bridge: bridge }
    }

    async fn press(&self, button: &str) {
        let entity = format!("button.prusa_mk3s_{button}");
        self.home.act("button/press", &entity, json!({})).await;
    }
}

/// Every entity of a printer with one extruder: all groups but G-code and system.
const ENTITIES: &[&str] = &[
    "binary_sensor.prusa_mk3s_octoprint_connected",
    "binary_sensor.prusa_mk3s_paused",
    "binary_sensor.prusa_mk3s_printer_connected",
    "binary_sensor.prusa_mk3s_printing",
    "binary_sensor.prusa_mk3s_problem",
    "button.prusa_mk3s_cancel_print",
    "button.prusa_mk3s_connect",
    "button.prusa_mk3s_disconnect",
    "button.prusa_mk3s_emergency_stop",
    "button.prusa_mk3s_heaters_off",
    "button.prusa_mk3s_home",
    "button.prusa_mk3s_pause",
    "button.prusa_mk3s_preheat_abs",
    "button.prusa_mk3s_preheat_pla",
    "button.prusa_mk3s_print_again",
    "button.prusa_mk3s_reconnect_socket",
    "button.prusa_mk3s_refresh_sd_card",
    "button.prusa_mk3s_restart_print",
    "button.prusa_mk3s_resume",
    "button.prusa_mk3s_start_print",
    "event.prusa_mk3s_layer_change",
    "event.prusa_mk3s_print",
    "event.prusa_mk3s_prompt",
    "event.prusa_mk3s_timelapse",
    "image.prusa_mk3s_thumbnail",
    "notify.prusa_mk3s_display_message",
    "number.prusa_mk3s_bed_target",
    "number.prusa_mk3s_feed_rate",
    "number.prusa_mk3s_flow_rate",
    "number.prusa_mk3s_nozzle_target",
    "number.prusa_mk3s_push_interval",
    "select.prusa_mk3s_file_to_print",
    "sensor.prusa_mk3s_bed_target",
    "sensor.prusa_mk3s_bed_temperature",
    "sensor.prusa_mk3s_estimated_total",
    "sensor.prusa_mk3s_filament_total",
    "sensor.prusa_mk3s_filament_used",
    "sensor.prusa_mk3s_filament_weight",
    "sensor.prusa_mk3s_file",
    "sensor.prusa_mk3s_file_size",
    "sensor.prusa_mk3s_finish_time",
    "sensor.prusa_mk3s_free_space",
    "sensor.prusa_mk3s_height",
    "sensor.prusa_mk3s_last_command",
    "sensor.prusa_mk3s_last_event",
    "sensor.prusa_mk3s_layer",
    "sensor.prusa_mk3s_last_print",
    "sensor.prusa_mk3s_nozzle_target",
    "sensor.prusa_mk3s_nozzle_temperature",
    "sensor.prusa_mk3s_octoprint_version",
    "sensor.prusa_mk3s_print_hours",
    "sensor.prusa_mk3s_print_time",
    "sensor.prusa_mk3s_prints_cancelled",
    "sensor.prusa_mk3s_prints_done",
    "sensor.prusa_mk3s_prints_failed",
    "sensor.prusa_mk3s_progress",
    "sensor.prusa_mk3s_prompt",
    "sensor.prusa_mk3s_publish_latency",
    "sensor.prusa_mk3s_push_interval",
    "sensor.prusa_mk3s_push_socket",
    "sensor.prusa_mk3s_resend_ratio",
    "sensor.prusa_mk3s_started_at",
    "sensor.prusa_mk3s_state",
    "sensor.prusa_mk3s_time_left",
    "sensor.prusa_mk3s_total_layers",
    "sensor.prusa_mk3s_user",
    "switch.prusa_mk3s_adaptive_push_rate",
];

async fn entities(home: &HomeAssistant, of: &str) -> BTreeSet<String> {
    let states = home.states().await;
    let ids = states.iter().map(|state| state["entity_id"].as_str().unwrap().to_owned());
    ids.filter(|id| id.contains(&format!(".{of}_"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Home Assistant, OctoPrint and Mosquitto: ./tests/run homeassistant"]
async fn the_printer_appears_by_itself_and_everything_works() {
    let world = World::start("").await;
    let (home, octoprint) = (&world.home, &world.octoprint);
    let expected: BTreeSet<String> = ENTITIES.iter().map(|id| (*id).to_owned()).collect();
    eventually("all entities", || async {
        (entities(home, "prusa_mk3s").await == expected).then_some(())
    })
    .await;
    let device = home.device("octoprint2mqtt_mk3").await.unwrap();
    assert_eq!(device["name"], "Prusa MK3S");
    let version = octoprint.version().await;
    assert_eq!(device["sw_version"], format!("OctoPrint {version}"));
    assert_eq!(device["configuration_url"], format!("{}/", octoprint.url()));
    let bridge = home.device("octoprint2mqtt_bridge").await.unwrap();
    assert_eq!(device["via_device_id"], bridge["id"]);
    home.is("binary_sensor.octoprint_bridge_state", "on").await;
    home.is("sensor.octoprint_bridge_version", env!("CARGO_PKG_VERSION")).await;

    // Idle.
    for (entity, state) in [
        ("binary_sensor.prusa_mk3s_printing", "off"),
        ("binary_sensor.prusa_mk3s_paused", "off"),
        ("binary_sensor.prusa_mk3s_problem", "off"),
        ("binary_sensor.prusa_mk3s_printer_connected", "on"),
        ("binary_sensor.prusa_mk3s_octoprint_connected", "on"),
        ("sensor.prusa_mk3s_octoprint_version", &version),
        ("sensor.prusa_mk3s_push_socket", "connected"),
        ("sensor.prusa_mk3s_push_interval", "500"),
        ("number.prusa_mk3s_push_interval", "0.5"),
        ("switch.prusa_mk3s_adaptive_push_rate", "on"),
        ("sensor.prusa_mk3s_file", "unknown"),
        ("sensor.prusa_mk3s_finish_time", "unknown"),
        ("select.prusa_mk3s_file_to_print", "unknown"),
        ("button.prusa_mk3s_pause", "unavailable"),
        ("button.prusa_mk3s_cancel_print", "unavailable"),
        ("button.prusa_mk3s_start_print", "unavailable"),
        ("button.prusa_mk3s_connect", "unavailable"),
        ("number.prusa_mk3s_feed_rate", "unknown"),
    ] {
        home.is(entity, state).await;
    }
    let number = |state: &Value| state["state"].as_str().and_then(|s| s.parse::<f64>().ok());
    home.wait("sensor.prusa_mk3s_bed_temperature", |s| number(s) > Some(15.0)).await;

    // Whatever is set arrives in OctoPrint, and comes back.
    home.act("number/set_value", "number.prusa_mk3s_bed_target", json!({"value": 45})).await;
    home.is("number.prusa_mk3s_bed_target", "45.0").await;
    home.is("sensor.prusa_mk3s_bed_target", "45.0").await;
    assert_eq!(octoprint.get("api/printer").await["temperature"]["bed"]["target"], 45.0);
    home.act("number/set_value", "number.prusa_mk3s_nozzle_target", json!({"value": 60})).await;
    home.is("number.prusa_mk3s_nozzle_target", "60.0").await;
    home.act("number/set_value", "number.prusa_mk3s_feed_rate", json!({"value": 110})).await;
    home.is("number.prusa_mk3s_feed_rate", "110").await;
    home.act("number/set_value", "number.prusa_mk3s_flow_rate", json!({"value": 95})).await;
    home.is("number.prusa_mk3s_flow_rate", "95").await;
    home.act("number/set_value", "number.prusa_mk3s_push_interval", json!({"value": 1.5})).await;
    home.is("number.prusa_mk3s_push_interval", "1.5").await;
    home.is("switch.prusa_mk3s_adaptive_push_rate", "off").await;
    let switch = "switch.prusa_mk3s_adaptive_push_rate";
    home.act("switch/turn_on", switch, json!({})).await;
    home.is(switch, "on").await;
    home.act("switch/turn_off", switch, json!({})).await;
    home.is(switch, "off").await;
    home.act("switch/turn_on", switch, json!({})).await;
    let mark = world.watcher.mark();
    let notify = "notify.prusa_mk3s_display_message";
    home.act("notify/send_message", notify, json!({"message": "5"})).await;
    let answered = |r: &Value| r["command"] == "message";
    let result = world.watcher.wait_json(mark, &topic("result"), answered).await;
    assert_eq!(result["ok"], true, "{result}");
    world.press("home").await;
    let mark = world.watcher.mark();
    world.press("reconnect_socket").await;
    world.watcher.wait_json(mark, &topic("socket"), |s| s["state"] == "connecting").await;
    home.is("sensor.prusa_mk3s_push_socket", "connected").await;

    // The life of a print, each step by its button.
    let select = "select.prusa_mk3s_file_to_print";
    let options = home.state(select).await["attributes"]["options"].clone();
    assert_eq!(options, json!(["local/other.gcode", "local/part.gcode"]));
    home.act("select/select_option", select, json!({"option": "local/part.gcode"})).await;
    home.is(select, "local/part.gcode").await;
    home.is("sensor.prusa_mk3s_file", "part.gcode").await;
    assert_eq!(octoprint.get("api/job").await["state"], "Operational", "nothing is started");
    world.press("start_print").await;
    octoprint.until("Printing").await;
    home.is("sensor.prusa_mk3s_state", "printing").await;
    home.is("binary_sensor.prusa_mk3s_printing", "on").await;
    home.wait("sensor.prusa_mk3s_progress", |s| number(s) > Some(0.0)).await;
    home.wait("sensor.prusa_mk3s_print_time", |s| number(s).is_some()).await;
    home.wait("sensor.prusa_mk3s_started_at", |s| s["state"].as_str().unwrap().contains('T')).await;
    home.wait("sensor.prusa_mk3s_height", |s| number(s) == Some(0.2)).await;
    home.wait("sensor.prusa_mk3s_file_size", |s| number(s).is_some()).await;
    world.press("pause").await;
    octoprint.until("Paused").await;
    home.is("binary_sensor.prusa_mk3s_paused", "on").await;
    world.press("resume").await;
    octoprint.until("Printing").await;
    world.press("pause").await;
    octoprint.until("Paused").await;
    world.press("restart_print").await;
    octoprint.until("Printing").await;
    world.press("cancel_print").await;
    octoprint.until("Operational").await;
    let is = |kind: &'static str| move |s: &Value| s["attributes"]["event_type"] == kind;
    let event = home.wait("event.prusa_mk3s_print", is("print_cancelled")).await;
    assert_eq!(event["attributes"]["file"], "part.gcode");
    home.is("sensor.prusa_mk3s_last_event", "PrintFailed").await;
    home.act("select/select_option", select, json!({"option": "local/other.gcode"})).await;
    home.is(select, "local/other.gcode").await;
    world.press("start_print").await;
    home.wait("event.prusa_mk3s_print", is("print_done")).await;
    home.is("sensor.prusa_mk3s_prints_done", "1").await;
    let last = home.wait("sensor.prusa_mk3s_last_print", |s| s["state"] == "done").await;
    assert_eq!(last["attributes"]["file"], "other.gcode");

    // A command that OctoPrint refuses shows up.
    octoprint.until("Operational").await;
    world.watcher.publish(&topic("set/job"), "pause", false).await;
    let last =
        home.wait("sensor.prusa_mk3s_last_command", |s| s["attributes"]["ok"] == false).await;
    assert!(last["state"].as_str().unwrap().starts_with("job: "), "{last}");
    assert_eq!(last["attributes"]["status"], 409);

    world.press("disconnect").await;
    octoprint.until("Offline").await;
    home.is("sensor.prusa_mk3s_state", "offline").await;
    home.is("binary_sensor.prusa_mk3s_printer_connected", "off").await;
    home.is("sensor.prusa_mk3s_bed_temperature", "unknown").await;
    home.is("button.prusa_mk3s_home", "unavailable").await;
    world.press("connect").await;
    octoprint.until("Operational").await;
    home.is("number.prusa_mk3s_feed_rate", "unknown").await;
    world.press("emergency_stop").await;
    octoprint.until("Offline after error").await;
    let problem = home.wait("binary_sensor.prusa_mk3s_problem", |s| s["state"] == "on").await;
    assert!(problem["attributes"]["error"].as_str().unwrap().contains("M112"), "{problem}");
    assert_eq!(home.complaints(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Home Assistant, OctoPrint and Mosquitto: ./tests/run homeassistant"]
async fn restarts_extruders_and_removal() {
    let (mut broker, first, mut second) = tokio::join!(
        Mosquitto::start(),
        OctoPrint::start(),
        OctoPrint::start_with(|config| config.replace(
            "virtual_printer: {enabled: true",
            "virtual_printer: {numExtruders: 2, sharedNozzle: false, enabled: true"
        ))
    );
    let two = json!({"profile": {"model": "Prusa XL", "extruder": {"count": 2, "offsets": [[0, 0], [20, 0]]}}});
    assert_eq!(second.patch("api/printerprofiles/_default", two).await, 200);
    let key = octoprint::KEY;
    let more = format!(
        "name = \"MK3\"\n[printers.xl]\nname = \"XL\"\nurl = \"{}\"\napi_key = \"{key}\"\noffline_after = \"1s\"\ncommands = {{ gcode = true }}\n[homeassistant]\nclimate = true",
        second.url()
    );
    let data = tempfile::tempdir().unwrap();
    let dir = format!("data_dir = \"{}\"\n", data.path().display());
    let text = dir + &config(&broker.url(), &first.url(), &more);
    let mut bridge = Bridge::start(&text);
    let mut home = HomeAssistant::start(broker.port).await;
    home.is("sensor.xl_state", "operational").await;
    home.is("sensor.mk3_state", "operational").await;
    let number = |s: &Value| s["state"].as_str().is_some_and(|s| s.parse::<f64>().is_ok());
    home.wait("sensor.xl_tool_1_temperature", number).await;
    let device = home.device("octoprint2mqtt_xl").await.unwrap();
    assert_eq!((&device["manufacturer"], &device["model"]), (&json!("Prusa"), &json!("XL")));
    let before = entities(&home, "xl").await;
    for entity in ["climate.xl_bed_heater", "climate.xl_tool_1_heater", "text.xl_g_code"] {
        assert!(before.contains(entity), "{entity} in {before:?}");
    }
    assert!(!entities(&home, "mk3").await.contains("text.mk3_g_code"));

    // Climate: a temperature heats, off switches off, and heat alone does nothing.
    let climate = "climate.xl_tool_1_heater";
    home.act("climate/set_hvac_mode", climate, json!({"hvac_mode": "heat"})).await;
    home.act("climate/set_temperature", climate, json!({"temperature": 55})).await;
    home.wait(climate, |s| s["state"] == "heat" && s["attributes"]["temperature"] == 55.0).await;
    home.is("number.xl_tool_1_target", "55.0").await;
    home.act("climate/set_hvac_mode", climate, json!({"hvac_mode": "off"})).await;
    home.is(climate, "off").await;

    // Restarts of each side.
    home.restart().await;
    home.is("sensor.xl_state", "operational").await;
    assert_eq!(entities(&home, "xl").await, before);
    broker.kill();
    home.is("sensor.xl_state", "unavailable").await;
    broker.run().await;
    home.is("sensor.xl_state", "operational").await;
    second.kill();
    home.is("sensor.xl_state", "unavailable").await;
    home.is("binary_sensor.xl_octoprint_connected", "off").await;
    home.is("sensor.mk3_state", "operational").await;

    // The bridge knows the printer that is off from its data directory.
    bridge.process.signal("TERM");
    assert_eq!(bridge.process.ended().await, Some(0), "{}", bridge.log());
    home.is("binary_sensor.octoprint_bridge_state", "off").await;
    home.is("sensor.mk3_state", "unavailable").await;
    let mut bridge = Bridge::start(&text);
    home.is("sensor.mk3_state", "operational").await;
    home.is("binary_sensor.xl_octoprint_connected", "off").await;
    assert_eq!(entities(&home, "xl").await, before);
    second.run().await;
    home.is("sensor.xl_state", "operational").await;

    // One extruder less: its entities go.
    let one = json!({"profile": {"extruder": {"count": 1, "offsets": [[0, 0]]}}});
    assert_eq!(second.patch("api/printerprofiles/_default", one).await, 200);
    home.wait("sensor.xl_tool_1_temperature", Value::is_null).await;
    home.wait(climate, Value::is_null).await;
    let renamed = |s: &Value| s["attributes"]["friendly_name"] == "XL Nozzle temperature";
    home.wait("sensor.xl_tool_0_temperature", |s| number(s) && renamed(s)).await;

    // A printer that is no longer configured goes, with what was retained of it.
    bridge.process.signal("TERM");
    assert_eq!(bridge.process.ended().await, Some(0), "{}", bridge.log());
    let without: String = text.split("[printers.xl]").next().unwrap().to_owned()
        + "[homeassistant]\nclimate = true\n";
    let _bridge = Bridge::start(&without);
    home.wait("sensor.xl_state", Value::is_null).await;
    home.is("sensor.mk3_state", "operational").await;
    assert!(home.device("octoprint2mqtt_xl").await.is_none());
    let port = broker.port;
    eventually("all of it to be cleared", || async move {
        let left = real::watcher::retained(port).await;
        (!left.keys().any(|topic| topic.contains("/xl/") || topic.contains("_xl/"))).then_some(())
    })
    .await;
    assert_eq!(home.complaints(), Vec::<String>::new());
}

#[test]
fn only_lines_that_name_what_is_ours_are_complaints() {
    let line = |level: &str, text: &str| {
        format!(
            "2025-04-11 12:00:00.000 {level} (MainThread) [homeassistant.components.mqtt] {text}"
        )
    };
    for text in [
        "failed to receive on socket: [Errno 32] Broken pipe",
        "Error returned from MQTT server: The connection was lost.",
    ] {
        assert!(!is_complaint(&line("ERROR", text)), "{text}");
    }
    for text in [
        "Invalid state message 'x' from 'octoprint2mqtt/mk3/printer'",
        "Exception raised while updating state of sensor.xl_state",
        "Template variable error: 'x' is undefined when rendering '{{ value_json.x }}'",
    ] {
        assert!(is_complaint(&line("WARNING", text)), "{text}");
        assert!(!is_complaint(&line("INFO", text)), "{text}");
    }
}
