//! Automations of print events.

use serde_json::{Value, json};

use super::World;
use super::real::eventually;

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
    octoprint.until("Printing").await;
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
