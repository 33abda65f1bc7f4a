//! What people import: blueprints and the dashboard.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::real::gcode::{picture, sliced};
use super::real::homeassistant::HomeAssistant;
use super::real::watcher::Watcher;
use super::real::{self, eventually};
use super::{World, entities};

/// The image of the selected file.
const THUMBNAIL: &str = "image.prusa_mk3s_thumbnail";

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
        json!({
            "print_event": event, "prompt": "sensor.prusa_mk3s_prompt",
            "actions": publish("filament", "{{ file }}|{{ prompt_text }}|{{ prompt_choices }}"),
        }),
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
    // It leaves the nozzle hot.
    let text = sliced(2, 5).text.replace("M104 S0\n", "");
    octoprint.upload_text("sliced.gcode", &text).await;
    octoprint.select("sliced.gcode").await;
    let pictured = || async { (home.image(THUMBNAIL).await == picture()).then_some(()) };
    eventually("the thumbnail", pictured).await;
    octoprint.job(json!({"command": "start"})).await;
    let finished =
        || async { fired(&world.watcher).into_iter().find(|(name, _)| name == "finished") };
    let (_, told) = eventually("the notification", finished).await;
    let told: Vec<&str> = told.split('|').collect();
    assert_eq!(told[..3], ["print_done", "Print done", "sliced.gcode"], "{told:?}");
    assert!(told[3].starts_with("0:00:"), "{told:?}");
    let address = format!("/api/image_proxy/{THUMBNAIL}?token=");
    assert!(told[4].starts_with(&address), "{told:?}");
    home.is("input_boolean.plug", "on").await;
    home.act("number/set_value", "number.prusa_mk3s_nozzle_target", json!({"value": 0})).await;
    home.is("input_boolean.plug", "off").await;

    octoprint.select("part.gcode").await;
    octoprint.job(json!({"command": "start"})).await;
    home.is(printing, "on").await;
    octoprint.post("api/printer/command", json!({"command": "M600"})).await;
    let announced = || async {
        let told = "a print|Filament change|[]";
        fired(&world.watcher).contains(&("filament".into(), told.into())).then_some(())
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
pub(crate) fn entities_of(dashboard: &Value, found: &mut BTreeSet<String>) {
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

/// Adds a dashboard as `/printers-3d`.
pub(crate) async fn add_dashboard(home: &HomeAssistant, dashboard: &Value) {
    home.ask(json!({"type": "lovelace/dashboards/create", "url_path": "printers-3d", "title": "3D printers",
        "icon": "mdi:printer-3d", "show_in_sidebar": true, "require_admin": false, "mode": "storage"}))
        .await;
    home.ask(
        json!({"type": "lovelace/config/save", "url_path": "printers-3d", "config": dashboard}),
    )
    .await;
}

/// Takes pictures of these pages, by name, for the book. `clicks` are texts to click on, with the
/// page and the end of the address that each leads to. Fails where a card shows an error.
pub(crate) async fn take_pictures(home: &HomeAssistant, pages: Value, clicks: Value) {
    let directory = std::env::var("OCTOPRINT2MQTT_TEST_PICTURES").expect("a directory");
    let directory = std::path::absolute(directory).unwrap();
    let names: Vec<String> = pages.as_object().unwrap().keys().cloned().collect();
    let given = json!({
        "url": format!("http://127.0.0.1:{}", home.port),
        "token": home.token,
        "client_id": real::homeassistant::CLIENT_ID,
        "directory": directory,
        "pages": pages,
        "clicks": clicks,
    });
    let python = std::env::var("OCTOPRINT2MQTT_TEST_PLAYWRIGHT").expect("a Python with playwright");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/homeassistant/pictures.py");
    let done = tokio::task::spawn_blocking(move || {
        std::process::Command::new(python).arg(script).arg(given.to_string()).status().unwrap()
    });
    assert!(done.await.unwrap().success(), "Home Assistant said:\n{}", home.log());
    for name in names {
        let bytes = std::fs::metadata(directory.join(format!("{name}.png"))).unwrap().len();
        assert!(bytes > 30_000, "{name} is empty: {bytes} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Home Assistant, OctoPrint and Mosquitto: ./tests/run homeassistant"]
async fn the_dashboard_names_entities_that_there_are() {
    let world = World::start_named("MK3", "").await;
    let dashboard = world.home.yaml("homeassistant/dashboard.yaml");
    add_dashboard(&world.home, &dashboard).await;
    let mut named = BTreeSet::new();
    entities_of(&dashboard, &mut named);
    assert!(named.len() > 20, "{named:?}");
    eventually("all of them", || async {
        entities(&world.home, "mk3").await.is_superset(&named).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium too, and a directory for them: ./tests/run pictures"]
async fn pictures_of_the_device_page_and_the_dashboard() {
    let world = World::start_named("MK3", "").await;
    let (home, octoprint) = (&world.home, &world.octoprint);
    add_dashboard(home, &home.yaml("homeassistant/dashboard.yaml")).await;
    home.act("number/set_value", "number.mk3_bed_target", json!({"value": 60})).await;
    home.act("number/set_value", "number.mk3_nozzle_target", json!({"value": 215})).await;
    octoprint.select("part.gcode").await;
    octoprint.job(json!({"command": "start"})).await;
    let far = |s: &Value| s["state"].as_str().and_then(|s| s.parse().ok()) > Some(20.0);
    home.wait("sensor.mk3_progress", far).await;
    let device = home.device("octoprint2mqtt_mk3").await.unwrap()["id"].clone();
    let device = format!("/config/devices/device/{}", device.as_str().unwrap());
    take_pictures(home, json!({"dashboard": "/printers-3d/mk3", "device": device}), json!([]))
        .await;
}
