//! Discovery messages held against Home Assistant's own schemas and template engine.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

#[path = "discovery/own.rs"]
mod own;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use octoprint2mqtt::bridge::printer::messages::Mapping;
use octoprint2mqtt::bridge::printer::socket_report::SocketReport;
use octoprint2mqtt::config;
use octoprint2mqtt::heater::{Heater, Limits};
use octoprint2mqtt::homeassistant::{
    CameraSource, Components, ControlButton, Extras, Groups, PrinterDevice, Profile, Settings,
    bridge, printer,
};
use octoprint2mqtt::octoprint::{Message, Status};
use octoprint2mqtt::receipt::Receipt;
use octoprint2mqtt::topics::{BridgeTopics, PrinterTopics};
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::Instant;

fn settings(climate: bool) -> Settings {
    let topics = BridgeTopics::new("octoprint2mqtt");
    let identity = "octoprint2mqtt".to_owned();
    Settings { prefix: "homeassistant".to_owned(), climate, topics, identity }
}

fn device(id: &str, heaters: &[&str], on: bool) -> PrinterDevice {
    PrinterDevice {
        id: id.to_owned(),
        name: format!("Printer {id}"),
        url: "https://example.org/octoprint/".to_owned(),
        profile: Profile {
            manufacturer: Some("Prusa".to_owned()),
            model: Some("i3 MK3S".to_owned()),
            octoprint_version: Some("2.0.0".to_owned()),
            heaters: heaters.iter().filter_map(|name| Heater::read(name)).collect(),
            files: on.then(|| {
                vec!["local/a \"b\" {{ %} ü.gcode".to_owned(), "local/fast.gcode".to_owned()]
            }),
            system_commands: ["restart", "reboot", "shutdown"].map(str::to_owned).to_vec(),
            webcams: ["front", "ü top"].map(str::to_owned).to_vec(),
            controls: ["Fans/Off", "Clean {{ nozzle %} ü", "5"]
                .map(|name| ControlButton { name: name.to_owned(), asks: name == "5" })
                .to_vec(),
            presets: vec!["PLA {{ %} ü".to_owned(), "ABS".to_owned()],
            sd_card: true,
            updates: true,
            psu_control: true,
            prompt_choices: vec!["Purge {{ %} more".to_owned(), "5".to_owned()],
        },
        limits: Limits { tool: 300.0, bed: 120.5, chamber: 80.0 },
        max_rate_factor: 20,
        camera: CameraSource::Webcams,
        layers: true,
        thumbnails: true,
        groups: Groups {
            bridge: on,
            job: true,
            temperature: on,
            motion: on,
            connection: on,
            power: on,
            gcode: on,
            system: on,
        },
        entities: if on { own::entities() } else { Default::default() },
        extras: Extras {
            maintenance: if on { vec!["hot_end".to_owned()] } else { Vec::new() },
            // The power of one is switched by PSU Control, and that of the others at the broker.
            power_switch: heaters.len() != 2,
            auto_off: true,
        },
    }
}

/// Every kind of device, each with an id of its own; the last one is two extruders gone to one.
fn devices() -> Vec<(PrinterDevice, bool, Components)> {
    let two: &[&str] = &["tool0", "tool1", "bed", "chamber", "A", "x y/z"];
    let one: &[&str] = &["tool0", "bed"];
    let mut devices = Vec::new();
    for heaters in [one, two, &[]] {
        for on in [true, false] {
            for climate in [true, false] {
                let id = format!("p{}", devices.len());
                devices.push((device(&id, heaters, on), climate, Components::new()));
            }
        }
    }
    let before = discover(&device("gone", two, true), true, &Components::new()).components;
    devices.push((device("gone", one, true), true, before));
    devices
}

fn discover(
    device: &PrinterDevice,
    climate: bool,
    gone: &Components,
) -> octoprint2mqtt::homeassistant::DiscoveryMessage {
    let topics = PrinterTopics::new("octoprint2mqtt", &device.id);
    printer(&settings(climate), &topics, device, gone)
}

fn run(script: &str, arguments: &[&str], input: &str) -> String {
    let bin = std::env::var_os("OCTOPRINT2MQTT_TEST_HASS").map_or_else(
        || {
            let home = std::env::var("HOME").unwrap();
            PathBuf::from(home).join(".cache/octoprint2mqtt/homeassistant-2025.4.4/bin")
        },
        PathBuf::from,
    );
    let mut child = Command::new(bin.join("python"))
        .arg(format!("{}/tests/homeassistant/{script}", env!("CARGO_MANIFEST_DIR")))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Home Assistant is installed");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
#[ignore = "needs Home Assistant: ./tests/run homeassistant"]
fn every_message_passes_the_schemas_of_home_assistant() {
    let mut messages = vec![bridge(&settings(false), &Components::new())];
    messages.extend(devices().iter().map(|(d, climate, gone)| discover(d, *climate, gone)));
    let lines: Vec<String> = messages
        .iter()
        .map(|message| {
            let payload: Value = serde_json::from_slice(&message.payload).unwrap();
            json!({"topic": message.topic, "payload": payload}).to_string()
        })
        .collect();
    let text = run("validate-discovery.py", &["--strict", "--quiet"], &lines.join("\n"));
    assert!(text.contains("0 warnings, 0 errors"), "{text}");
}

/// What the state topics of a printer say: nothing known, and all of the recorded sessions.
fn states(id: &str) -> BTreeMap<String, BTreeSet<String>> {
    let config = format!(
        "[mqtt]\nurl = \"mqtt://h\"\n[printers.{id}]\nurl = \"http://h\"\napi_key = \"k\"\n"
    );
    let config = config::from_toml(&config).unwrap();
    let topics = PrinterTopics::new("octoprint2mqtt", id);
    let mut said: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut say = |topic: &str, payload: &[u8]| {
        let payload = String::from_utf8(payload.to_vec()).unwrap();
        said.entry(topic.to_owned()).or_default().insert(payload);
    };
    let mut mapping = Mapping::new(1, topics.clone(), &config.printers[0]);
    let heaters = vec![Heater::tool(0), Heater::tool(1), Heater::bed(), Heater::chamber()];
    mapping.snapshot.set_profile_heaters(Some(heaters));
    for change in mapping.snapshot.unknown() {
        let publication = mapping.state(change);
        say(&publication.topic, &publication.payload);
    }
    for (recorded, connection) in [
        include_str!("captures/connect_idle.jsonl"),
        include_str!("captures/print_done.jsonl"),
        include_str!("captures/two_tools_chamber_shared_nozzle.jsonl"),
        include_str!("captures/printer_errors_and_disconnects.jsonl"),
        include_str!("captures/pause_resume_restart_cancel.jsonl"),
        include_str!("captures/octoprint2_errors.jsonl"),
        include_str!("captures/octoprint2_moonraker.jsonl"),
    ]
    .into_iter()
    .zip(1..)
    {
        for line in recorded.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            for (kind, payload) in line["m"].as_object().into_iter().flatten() {
                let payload = payload.to_string().into();
                let (now, wall) = (Instant::now(), SystemTime::now());
                let message = Message::new(kind.as_str(), payload, now, wall, connection).unwrap();
                let receipt = Receipt::new(1, now, unbounded_channel().0);
                let (publications, _) = mapping.map(&message, &receipt);
                publications.iter().for_each(|p| say(&p.topic, &p.payload));
            }
        }
    }
    if let Some(change) = mapping.snapshot.set_feedrate(110) {
        let publication = mapping.state(change);
        say(&publication.topic, &publication.payload);
    }
    let bad = json!({"count": 50, "transmitted": 90, "ratio": 55, "critical": true});
    say(&topics.resends, bad.to_string().as_bytes());
    for connection in [
        json!({"connector": "serial", "temperature_offsets": true, "job_on_hold": true}),
        json!({"connector": null, "temperature_offsets": null, "job_on_hold": null}),
    ] {
        say(&topics.connection, connection.to_string().as_bytes());
    }
    let space = json!({"free": 70_759_133_184u64, "total": 270_553_174_016u64});
    for storage in [
        json!({"local": space, "printer": space}),
        json!({"local": null, "printer": null}),
        json!({"local": {"free": null, "total": 5}, "printer": null}),
    ] {
        say(&topics.storage, storage.to_string().as_bytes());
    }
    let socket = SocketReport::default().update(&Status::default(), std::time::Instant::now());
    say(&topics.socket, &socket.unwrap());
    let connected = json!({
        "state": "connected", "transport": "websocket", "attempt": 0, "next_attempt_in": null,
        "error": null, "rate_mode": "manual", "rate_factor": 4, "push_interval_ms": 2000,
        "publish_latency_ms": 1.5,
    });
    say(&topics.socket, connected.to_string().as_bytes());
    for result in [
        json!({"command": "job", "value": "pause", "id": null, "ok": true, "error": null, "status": null}),
        json!({"command": "gcode", "value": "M117", "id": 5, "ok": false, "error": "x".repeat(400), "status": 409}),
        json!({"command": "gcode", "value": vec!["ä".repeat(255); 100], "id": "x".repeat(9000), "ok": true}),
        json!({"command": "select", "value": {"a": null}, "id": null, "ok": false, "error": "no", "status": null}),
    ] {
        say(&topics.last_command, result.to_string().as_bytes());
    }
    for (key, payload) in own::states() {
        say(&topics.entity(&key), payload.to_string().as_bytes());
    }
    for payload in ["online", "offline"] {
        say(&topics.availability, payload.as_bytes());
        say("octoprint2mqtt/bridge/state", payload.as_bytes());
    }
    // Sensors of firmware that the recorded sessions do not have, and a target over its limit.
    for heater in ["A", "x y/z", "chamber", "tool0"].into_iter().filter_map(Heater::read) {
        for payload in [
            json!({"actual": 25.1, "target": null, "offset": null}),
            json!({"actual": 25.1, "target": 999.0, "offset": 0.0}),
            json!({"actual": null, "target": null, "offset": null}),
        ] {
            say(&topics.temperature(&heater), payload.to_string().as_bytes());
        }
    }
    more_of(&topics, &mut say);
    let (job, long) = (&topics.job, "n".repeat(300));
    for (file, size) in [("fast.gcode", json!(1234)), (long.as_str(), json!(0)), ("", json!(null))]
    {
        let payload = json!({
            "file": file, "path": file, "origin": "local", "size": size, "user": long,
            "estimated_print_time": 12.5, "last_print_time": null,
            "filament": {"tool0": {"length": 1234.5, "volume": 1.0}, "tool1": null},
        });
        say(job, payload.to_string().as_bytes());
    }
    for filament in [json!(null), json!({}), json!({"length": null, "volume": null})] {
        let payload = json!({
            "file": null, "path": null, "origin": null, "size": null, "user": null,
            "estimated_print_time": null, "last_print_time": null, "filament": filament,
        });
        say(job, payload.to_string().as_bytes());
    }
    said
}

/// What neither the recorded sessions nor the snapshot have.
fn more_of(topics: &PrinterTopics, say: &mut impl FnMut(&str, &[u8])) {
    let (timelapse, change) = (&topics.timelapse, &topics.layer_change);
    for kind in ["timelapse_done", "timelapse_failed"] {
        let payload = json!({
            "event_type": kind, "file": "a.gcode", "movie": "a.mp4", "url": null, "reason": null,
            "timestamp": 1_700_000_000,
        });
        say(timelapse, payload.to_string().as_bytes());
    }
    let payload = json!({
        "event_type": "layer_change", "layer": 2, "total": 9, "z": 0.4, "timestamp": 1_700_000_000,
    });
    say(change, payload.to_string().as_bytes());
    for payload in [
        json!({"current": 2, "total": 9, "z": 0.4}),
        json!({"current": null, "total": null, "z": null}),
    ] {
        say(&topics.layer, payload.to_string().as_bytes());
    }
    offered(topics, say);
    counted(topics, say);
    let slicer = octoprint2mqtt::gcode::SlicerInfo::default();
    say(&topics.gcode, &serde_json::to_vec(&slicer).unwrap());
    for picture in [topics.snapshot.clone(), topics.snapshot_of("ü top")] {
        say(&picture, b"a picture");
    }
}

/// What the printer asks, and OctoPrint's update.
fn offered(topics: &PrinterTopics, say: &mut impl FnMut(&str, &[u8])) {
    for (text, choices) in [
        (json!("Which?"), json!(["A \"b\"", "C"])),
        (json!("Which?"), json!([])),
        (json!(null), json!(null)),
    ] {
        let prompt = json!({"text": text, "choices": choices, "since": "2026-11-23T15:27:05Z"});
        say(&topics.prompt, prompt.to_string().as_bytes());
    }
    for kind in ["prompt_shown", "prompt_closed"] {
        let event = json!({"event_type": kind, "text": "Which?", "choices": [], "timestamp": 1});
        say(&topics.prompt_event, event.to_string().as_bytes());
    }
    for (state, off_at) in
        [(json!("on"), json!("2026-11-23T15:27:05Z")), (json!(null), json!(null))]
    {
        let power = json!({"state": state, "source": "mqtt", "auto_off": null, "off_at": off_at});
        say(&topics.power, power.to_string().as_bytes());
    }
    for (installed, latest) in [(json!("1.11.8"), json!("2.0.0")), (json!(null), json!(null))] {
        let update = json!({"installed_version": installed, "latest_version": latest,
            "release_url": null, "title": "OctoPrint", "in_progress": false});
        say(&topics.update, update.to_string().as_bytes());
    }
}

/// Statistics, the last prints, and maintenance.
fn counted(topics: &PrinterTopics, say: &mut impl FnMut(&str, &[u8])) {
    let statistics = json!({"prints_done": 2, "prints_failed": 0, "prints_cancelled": 1,
        "print_hours": 1.25, "filament_m": 12.5, "filament_g": 37.0, "since": null,
        "persistent": true});
    say(&topics.statistics, statistics.to_string().as_bytes());
    let print = |result: &str| {
        json!({"file": "a.gcode", "path": "a.gcode", "started": null, "result": result,
            "ended": "2026-11-23T15:27:05Z", "cost": null})
    };
    for prints in [json!([]), json!([print("done"), print("failed")]), json!([print("cancelled")])]
    {
        say(&topics.print_history, json!({ "prints": prints }).to_string().as_bytes());
    }
    for (used, due) in [(json!(3.5), true), (json!(0), false)] {
        let counter = json!({"used": used, "due": due, "due_after": 300, "unit": "h"});
        say(&topics.maintenance("hot_end"), counter.to_string().as_bytes());
    }
    let event = json!({"event_type": "maintenance_due", "name": "hot_end", "timestamp": 1});
    say(&topics.maintenance_due, event.to_string().as_bytes());
}

#[test]
#[ignore = "needs Home Assistant: ./tests/run homeassistant"]
fn every_template_renders_what_its_platform_takes() {
    let mut said = BTreeMap::new();
    let mut payloads: Vec<Value> = Vec::new();
    for (device, climate, gone) in devices() {
        said.extend(states(&device.id));
        let discovery = discover(&device, climate, &gone);
        payloads.push(serde_json::from_slice(&discovery.payload).unwrap());
    }
    let own = bridge(&settings(false), &Components::new());
    payloads.push(serde_json::from_slice(&own.payload).unwrap());
    let health = json!({
        "uptime": 5, "memory": null,
        "broker": {"connected": true, "reconnects": 0, "published": 7, "acknowledged": 7, "waiting": 0, "dropped": 0},
        "printers": {"mk3": {"socket": "connected"}, "mini": {"socket": "waiting"}},
    });
    said.insert("octoprint2mqtt/bridge/health".into(), [health.to_string()].into());
    let fleet = |next: Value, errors: Value| {
        json!({"total": 3, "printing": 1, "paused": 0, "idle": 1, "offline": 0, "error": 1,
            "next": next, "errors": errors})
        .to_string()
    };
    let next = json!({"printer": "mk3", "name": "MK3 \"x\"", "eta": "2026-11-23T15:27:05Z"});
    let fleets = [
        fleet(next, json!([{"printer": "a", "name": "A's"}, {"printer": "b", "name": "B"}])),
        fleet(json!(null), json!([])),
    ];
    said.insert("octoprint2mqtt/bridge/fleet".into(), fleets.into());
    let info = json!({"version": "0.1.0"});
    said.insert("octoprint2mqtt/bridge/info".into(), [info.to_string()].into());
    let text = run(
        "render-templates.py",
        &[],
        &json!({"discovery": payloads, "states": said}).to_string(),
    );
    assert!(text.contains(" 0 wrong, 0 topics without a payload"), "{text}");
}
