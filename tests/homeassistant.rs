//! A real Home Assistant with a real broker, a real OctoPrint and the bridge between.

mod real;

use std::collections::BTreeSet;

use real::bridge::{Bridge, config};
use real::homeassistant::HomeAssistant;
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
    "button.prusa_mk3s_home",
    "button.prusa_mk3s_pause",
    "button.prusa_mk3s_reconnect_socket",
    "button.prusa_mk3s_restart_print",
    "button.prusa_mk3s_resume",
    "button.prusa_mk3s_start_print",
    "event.prusa_mk3s_print",
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
    "sensor.prusa_mk3s_filament_used",
    "sensor.prusa_mk3s_file",
    "sensor.prusa_mk3s_file_size",
    "sensor.prusa_mk3s_finish_time",
    "sensor.prusa_mk3s_height",
    "sensor.prusa_mk3s_last_command",
    "sensor.prusa_mk3s_last_event",
    "sensor.prusa_mk3s_nozzle_target",
    "sensor.prusa_mk3s_nozzle_temperature",
    "sensor.prusa_mk3s_octoprint_version",
    "sensor.prusa_mk3s_print_time",
    "sensor.prusa_mk3s_progress",
    "sensor.prusa_mk3s_publish_latency",
    "sensor.prusa_mk3s_push_interval",
    "sensor.prusa_mk3s_push_socket",
    "sensor.prusa_mk3s_resend_ratio",
    "sensor.prusa_mk3s_started_at",
    "sensor.prusa_mk3s_state",
    "sensor.prusa_mk3s_time_left",
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
    assert_eq!(device["sw_version"], "OctoPrint 1.11.8");
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
        ("sensor.prusa_mk3s_octoprint_version", "1.11.8"),
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

/// The event types, and how each is brought about at OctoPrint.
const VERBS: &[(&str, &str, &str)] = &[
    ("started", "Print", "print_started"),
    ("paused", "Print", "print_paused"),
    ("resumed", "Print", "print_resumed"),
    ("cancelled", "Print", "print_cancelled"),
    ("finished", "Print", "print_done"),
    ("failed", "Print", "print_failed"),
    ("reported", "Error", "error"),
    ("requested", "Filament change", "filament_change"),
];

/// Publishes `fired/<name>` with the event type.
fn publishes(name: &str) -> Value {
    json!([{"action": "mqtt.publish", "data": {"topic": format!("fired/{name}"), "payload": "1", "qos": 1}}])
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Home Assistant, OctoPrint and Mosquitto: ./tests/run homeassistant"]
async fn automations_fire_exactly_once_a_print_event_and_never_at_a_restart() {
    let mut world = World::start("").await;
    let device = world.home.device("octoprint2mqtt_mk3").await.unwrap()["id"].clone();
    let question = json!({"type": "device_automation/trigger/list", "device_id": device});
    let offered = world.home.ask(question).await;
    for (verb, noun, kind) in VERBS {
        let offers =
            |t: &Value| t["domain"] == "mqtt" && t["type"] == *verb && t["subtype"] == *noun;
        assert!(offered.as_array().unwrap().iter().any(offers), "{verb} {noun}");
        let trigger = json!({"trigger": "device", "domain": "mqtt", "device_id": device, "type": verb, "subtype": noun});
        world
            .home
            .automate(
                &format!("device_{kind}"),
                json!({
                    "alias": format!("Device {kind}"), "triggers": [trigger], "conditions": [],
                    "actions": publishes(&format!("device/{kind}")), "mode": "queued",
                }),
            )
            .await;
        world.home.automate(&format!("event_{kind}"), json!({
            "alias": format!("Event {kind}"), "mode": "queued",
            "triggers": [{"trigger": "state", "entity_id": "event.prusa_mk3s_print", "not_from": "unavailable", "not_to": ["unavailable", "unknown"]}],
            "conditions": [{"condition": "state", "entity_id": "event.prusa_mk3s_print", "attribute": "event_type", "state": kind}],
            "actions": publishes(&format!("event/{kind}")),
        }))
        .await;
    }
    for (_, _, kind) in VERBS {
        world.home.is(&format!("automation.event_{kind}"), "on").await;
    }
    let octoprint = &world.octoprint;
    let fired = |kind: &'static str, count: usize| {
        let watcher = &world.watcher;
        move || async move {
            let of = |how: &str| {
                let topic = format!("fired/{how}/{kind}");
                watcher.seen().iter().filter(|seen| seen.topic == topic).count()
            };
            (of("device") >= count && of("event") >= count).then_some(())
        }
    };
    octoprint.select("part.gcode").await;
    octoprint.job(json!({"command": "start"})).await;
    eventually("started", fired("print_started", 1)).await;
    octoprint.job(json!({"command": "pause", "action": "pause"})).await;
    eventually("paused", fired("print_paused", 1)).await;
    octoprint.until("Paused").await;
    octoprint.job(json!({"command": "pause", "action": "resume"})).await;
    eventually("resumed", fired("print_resumed", 1)).await;
    octoprint.until("Printing").await;
    octoprint.job(json!({"command": "cancel"})).await;
    eventually("cancelled", fired("print_cancelled", 1)).await;
    octoprint.until("Operational").await;
    for count in 1..=2 {
        octoprint.select("other.gcode").await;
        octoprint.job(json!({"command": "start"})).await;
        eventually("finished", fired("print_done", count)).await;
        octoprint.until("Operational").await;
    }
    octoprint.select("part.gcode").await;
    octoprint.job(json!({"command": "start"})).await;
    octoprint.until("Printing").await;
    let fault = "!!DEBUG:trigger_fatal_error_marlin";
    octoprint.post("api/printer/command", json!({"command": fault})).await;
    eventually("failed", fired("print_failed", 1)).await;
    eventually("error", fired("error", 1)).await;

    // All sides go and come back: nothing fires.
    world.home.restart().await;
    world.home.is("sensor.prusa_mk3s_state", "error").await;
    world.broker.kill();
    world.broker.run().await;
    world.octoprint.kill();
    world.home.is("binary_sensor.prusa_mk3s_octoprint_connected", "off").await;
    world.octoprint.run().await;
    world.home.is("binary_sensor.prusa_mk3s_octoprint_connected", "on").await;
    world.home.is("sensor.prusa_mk3s_state", "operational").await;
    // An event that follows shows that those before it would have been seen.
    world.octoprint.select("other.gcode").await;
    world.octoprint.job(json!({"command": "start"})).await;
    let watcher = &world.watcher;
    let count = |how: &str, kind: &str| {
        let topic = format!("fired/{how}/{kind}");
        watcher.seen().iter().filter(|seen| seen.topic == topic).count()
    };
    let both = |kind: &'static str, times: usize| {
        let count = &count;
        move || async move {
            (count("event", kind) >= times && count("device", kind) >= times).then_some(())
        }
    };
    eventually("one more end", both("print_done", 3)).await;
    // Last, for the virtual printer does not go on after it.
    world.octoprint.until("Operational").await;
    world.octoprint.post("api/printer/command", json!({"command": "M600"})).await;
    eventually("the filament change", both("filament_change", 1)).await;
    for how in ["device", "event"] {
        for (kind, times) in [
            ("print_started", 5),
            ("print_paused", 1),
            ("print_resumed", 1),
            ("print_cancelled", 1),
            ("print_done", 3),
            ("print_failed", 1),
            ("error", 1),
            ("filament_change", 1),
        ] {
            assert_eq!(count(how, kind), times, "{how} {kind}");
        }
    }
    assert_eq!(world.home.complaints(), Vec::<String>::new());
}

/// An automation of one of the blueprints.
async fn use_blueprint(home: &HomeAssistant, name: &str, input: Value) {
    let path = format!("octoprint2mqtt/{name}.yaml");
    let automation = json!({"alias": name, "use_blueprint": {"path": path, "input": input}});
    home.automate(name, automation).await;
    home.is(&format!("automation.{name}"), "on").await;
}

/// The published messages below `fired/`, as topic and payload.
fn fired(watcher: &Watcher) -> Vec<(String, String)> {
    let seen = watcher.seen();
    let of = |seen: &real::watcher::Seen| {
        Some((seen.topic.strip_prefix("fired/")?.to_owned(), seen.payload.clone()))
    };
    seen.iter().filter_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Home Assistant, OctoPrint and Mosquitto: ./tests/run homeassistant"]
async fn the_blueprints_import_and_run() {
    let mut world = World::start("").await;
    let home = &world.home;
    let known = home.ask(json!({"type": "blueprint/list", "domain": "automation"})).await;
    let files = std::fs::read_dir("homeassistant/blueprints/automation/octoprint2mqtt").unwrap();
    let mut count = 0;
    for file in files {
        let name = file.unwrap().file_name().into_string().unwrap();
        let blueprint = &known[format!("octoprint2mqtt/{name}")];
        assert!(blueprint["metadata"]["name"].is_string(), "{name}: {blueprint}");
        count += 1;
    }
    assert_eq!(count, 5);
    let smoke = json!({"name": "Smoke", "unique_id": "smoke", "state_topic": "smoke"});
    let config = "homeassistant/binary_sensor/smoke/config";
    world.watcher.publish(config, &smoke.to_string(), true).await;
    world.watcher.publish("smoke", "OFF", true).await;
    home.is("binary_sensor.smoke", "off").await;

    let (event, printing) = ("event.prusa_mk3s_print", "binary_sensor.prusa_mk3s_printing");
    let publish = |name: &str, payload: &str| {
        let topic = format!("fired/{name}");
        json!([{"action": "mqtt.publish", "data": {"topic": topic, "payload": payload, "qos": 1}}])
    };
    let told = "{{ outcome }}|{{ outcome_text }}|{{ file }}|{{ duration }}|{{ picture }}";
    use_blueprint(
        home,
        "print_finished",
        json!({"print_event": event, "actions": publish("finished", told)}),
    )
    .await;
    use_blueprint(
        home,
        "power_off_when_cool",
        json!({"print_event": event, "printing": printing, "plug": "input_boolean.plug",
            "nozzle": "sensor.prusa_mk3s_nozzle_temperature", "temperature": 40}),
    )
    .await;
    use_blueprint(
        home,
        "pause_on_sensor",
        json!({"sensor": ["binary_sensor.smoke"], "printing": printing,
            "pause": "button.prusa_mk3s_pause", "actions": publish("smoke", "paused")}),
    )
    .await;
    use_blueprint(
        home,
        "filament_change",
        json!({"print_event": event, "actions": publish("filament", "{{ file }}")}),
    )
    .await;
    // In life some minutes.
    use_blueprint(
        home,
        "unavailable_while_printing",
        json!({"printing": printing, "minutes": 0, "actions": publish("gone", "gone")}),
    )
    .await;

    let octoprint = &world.octoprint;
    octoprint.select("part.gcode").await;
    octoprint.job(json!({"command": "start"})).await;
    home.is(printing, "on").await;
    world.watcher.publish("smoke", "ON", true).await;
    octoprint.until("Paused").await;
    octoprint.job(json!({"command": "cancel"})).await;
    octoprint.until("Operational").await;
    home.is("sensor.prusa_mk3s_state", "operational").await;

    // Hot at its end, so the plug stays on until the nozzle is cool.
    home.act("number/set_value", "number.prusa_mk3s_nozzle_target", json!({"value": 60})).await;
    let hot = |s: &Value| s["state"].as_str().and_then(|s| s.parse().ok()) > Some(50.0);
    home.wait("sensor.prusa_mk3s_nozzle_temperature", hot).await;
    octoprint.select("other.gcode").await;
    octoprint.job(json!({"command": "start"})).await;
    let finished =
        || async { fired(&world.watcher).into_iter().find(|(name, _)| name == "finished") };
    let (_, told) = eventually("the notification", finished).await;
    let told: Vec<&str> = told.split('|').collect();
    assert_eq!(told[..3], ["print_done", "Print done", "other.gcode"], "{told:?}");
    assert!(told[3].starts_with("0:00:0") && told[4].is_empty(), "{told:?}");
    home.is("input_boolean.plug", "on").await;
    home.act("number/set_value", "number.prusa_mk3s_nozzle_target", json!({"value": 0})).await;
    home.is("input_boolean.plug", "off").await;

    octoprint.select("part.gcode").await;
    octoprint.job(json!({"command": "start"})).await;
    home.is(printing, "on").await;
    octoprint.post("api/printer/command", json!({"command": "M600"})).await;
    let announced = || async {
        fired(&world.watcher).contains(&("filament".into(), "a print".into())).then_some(())
    };
    eventually("the announcement", announced).await;
    world.octoprint.kill();
    let gone =
        || async { fired(&world.watcher).contains(&("gone".into(), "gone".into())).then_some(()) };
    eventually("the alert", gone).await;
    let fired: Vec<String> = fired(&world.watcher).into_iter().map(|(name, _)| name).collect();
    assert_eq!(fired, ["smoke", "finished", "filament", "gone"], "each once");
}

/// The ids of entities that a dashboard names.
fn entities_of(dashboard: &Value, found: &mut BTreeSet<String>) {
    match dashboard {
        Value::String(text) => {
            let domains = ["sensor.", "binary_sensor.", "button.", "number.", "select.", "event."];
            // `button.press` is an action.
            if domains.iter().any(|domain| text.starts_with(domain)) && text != "button.press" {
                found.insert(text.clone());
            }
        }
        Value::Array(items) => items.iter().for_each(|item| entities_of(item, found)),
        Value::Object(items) => items.values().for_each(|item| entities_of(item, found)),
        _ => {}
    }
}

/// Adds the dashboard of this package.
async fn add_dashboard(home: &HomeAssistant) -> Value {
    let dashboard = home.yaml("homeassistant/dashboard.yaml").await;
    home.ask(json!({"type": "lovelace/dashboards/create", "url_path": "printers-3d", "title": "3D printers",
        "icon": "mdi:printer-3d", "show_in_sidebar": true, "require_admin": false, "mode": "storage"}))
        .await;
    home.ask(
        json!({"type": "lovelace/config/save", "url_path": "printers-3d", "config": dashboard}),
    )
    .await;
    dashboard
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Home Assistant, OctoPrint and Mosquitto: ./tests/run homeassistant"]
async fn the_dashboard_names_entities_that_there_are() {
    let world = World::start_named("MK3", "").await;
    let dashboard = add_dashboard(&world.home).await;
    let mut named = BTreeSet::new();
    entities_of(&dashboard, &mut named);
    assert!(named.len() > 20, "{named:?}");
    eventually("all of them", || async {
        entities(&world.home, "mk3").await.is_superset(&named).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium too, and writes homeassistant/pictures: ./tests/run pictures"]
async fn pictures_of_the_device_page_and_the_dashboard() {
    let world = World::start_named("MK3", "").await;
    let (home, octoprint) = (&world.home, &world.octoprint);
    add_dashboard(home).await;
    home.act("number/set_value", "number.mk3_bed_target", json!({"value": 60})).await;
    home.act("number/set_value", "number.mk3_nozzle_target", json!({"value": 215})).await;
    octoprint.select("part.gcode").await;
    octoprint.job(json!({"command": "start"})).await;
    let far = |s: &Value| s["state"].as_str().and_then(|s| s.parse().ok()) > Some(20.0);
    home.wait("sensor.mk3_progress", far).await;
    let device = home.device("octoprint2mqtt_mk3").await.unwrap()["id"].clone();
    let pages = json!({
        "url": format!("http://127.0.0.1:{}", home.port),
        "token": home.token,
        "client_id": real::homeassistant::CLIENT_ID,
        "directory": concat!(env!("CARGO_MANIFEST_DIR"), "/homeassistant/pictures"),
        "pages": {
            "dashboard": "/printers-3d/mk3",
            "device": format!("/config/devices/device/{}", device.as_str().unwrap()),
        },
    });
    let python = std::env::var("OCTOPRINT2MQTT_TEST_PLAYWRIGHT").expect("a Python with playwright");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/homeassistant/pictures.py");
    let done = tokio::task::spawn_blocking(move || {
        std::process::Command::new(python).arg(script).arg(pages.to_string()).status().unwrap()
    });
    assert!(done.await.unwrap().success());
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
