//! What the whole bridge publishes of prints and the last event, with events that no OctoPrint sends
//! on request.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

#[path = "real/in_process.rs"]
mod in_process;
#[path = "real/watcher.rs"]
#[allow(dead_code, reason = "the tests with real programs use the rest")]
mod watcher;

use std::time::Duration;

use in_process::InProcess;
use octoprint2mqtt::cli::demo;
use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};
use octoprint2mqtt::{config, tls};
use serde_json::{Value, json};
use watcher::{Seen, Watcher};

const PATIENCE: Duration = Duration::from_secs(30);
const PRINT: &str = "octoprint2mqtt/mk3/print";
const LAST_EVENT: &str = "octoprint2mqtt/mk3/last_event";

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A broker, and a watcher of it.
async fn broker() -> (u16, Watcher) {
    tls::install_provider();
    let port = free_port();
    tokio::task::spawn_blocking(move || demo::start_broker(port)).await.unwrap().unwrap();
    (port, Watcher::start(port).await)
}

fn start(port: u16, url: &str, data_dir: &std::path::Path) -> InProcess {
    let text = format!(
        "data_dir = \"{}\"\n[outbox]\nsettle = \"0s\"\n[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\n[printers.mk3]\nurl = \"{url}\"\napi_key = \"SIMULATOR-KEY\"\noctoprint_mqtt_topic = \"octoPrint/\"\n",
        data_dir.display()
    );
    InProcess::start(config::from_toml(&text).unwrap())
}

async fn online(watcher: &Watcher) {
    let online =
        |seen: &Seen| seen.topic == "octoprint2mqtt/mk3/availability" && seen.payload == "online";
    watcher.wait("online", online).await;
}

/// A bridge that is online, and what is around it.
struct World {
    watcher: Watcher,
    simulator: Simulator,
    bridge: InProcess,
    _data: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let (port, watcher) = broker().await;
        let data = tempfile::tempdir().unwrap();
        let simulator = Simulator::start(SimulatorOptions::default()).await.unwrap();
        let bridge = start(port, &simulator.url(), data.path());
        online(&watcher).await;
        Self { watcher, simulator, bridge, _data: data }
    }
}

fn file() -> Value {
    json!({"name": "a.gcode", "path": "a.gcode", "origin": "local"})
}

fn types(watcher: &Watcher) -> Vec<Value> {
    let seen = watcher.seen();
    seen.iter().filter(|s| s.topic == PRINT).map(|s| s.json()["event_type"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_start_has_one_end_and_raw_events_repeat() {
    let World { watcher, simulator, bridge, _data } = World::start().await;
    let file = file();
    let with = |more: Value| {
        let mut payload = file.clone();
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        payload
    };
    simulator.event("PrintStarted", file.clone());
    for _ in 0..30 {
        simulator.event("PrintFailed", with(json!({"reason": "error", "error": "Klipper"})));
    }
    // A cancel: two events, which are one; and where the first one is missing, it is one too.
    simulator.event("PrintStarted", file.clone());
    simulator.event("PrintCancelled", file.clone());
    simulator.event("PrintFailed", with(json!({"reason": "cancelled"})));
    simulator.event("PrintStarted", file.clone());
    simulator.event("PrintFailed", with(json!({"reason": "cancelled"})));
    simulator.event("PrintStarted", file.clone());
    simulator.event("PrintDone", with(json!({"time": 5.0})));
    watcher.wait_json(0, PRINT, |print| print["event_type"] == "print_done").await;
    let told = types(&watcher);
    let ends = ["print_failed", "print_cancelled", "print_cancelled", "print_done"];
    let expected: Vec<&str> = ends.into_iter().flat_map(|end| ["print_started", end]).collect();
    assert_eq!(told, expected);
    let raw = |topic: &str| watcher.seen().iter().filter(|seen| seen.topic == topic).count();
    assert_eq!(raw("octoprint2mqtt/mk3/event/PrintFailed"), 32, "raw events repeat");
    assert_eq!(raw("octoPrint/event/PrintFailed"), 32);
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_lost_the_last_event_gets_it_again_from_a_new_bridge() {
    let data = tempfile::tempdir().unwrap();
    let simulator = Simulator::start(SimulatorOptions::default()).await.unwrap();
    let (port, watcher) = broker().await;
    let bridge = start(port, &simulator.url(), data.path());
    online(&watcher).await;
    simulator.event("Alert", json!({"text": "x"}));
    let is_alert = |last: &Value| last["event"] == "Alert";
    let last = watcher.wait_json(0, LAST_EVENT, is_alert).await;
    bridge.stop().await;
    // Another broker knows nothing, and OctoPrint cannot be reached: nothing new comes.
    simulator.stop();
    let (port, watcher) = broker().await;
    let bridge = start(port, &simulator.url(), data.path());
    assert_eq!(watcher.wait_json(0, LAST_EVENT, |_| true).await, last);
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_of_a_failed_print_may_come_after_its_failure() {
    let World { watcher, simulator, bridge, _data } = World::start().await;
    let file = file();
    let mut failed = file.clone();
    failed["reason"] = "error".into();
    failed["error"] = "unknown".into();
    let start = || simulator.event("PrintStarted", file.clone());
    let fail = || simulator.event("PrintFailed", failed.clone());
    // Before it, after it, and never.
    start();
    simulator.event("Error", json!({"error": "Too cold"}));
    fail();
    start();
    fail();
    simulator.event("Error", json!({"error": "Too hot"}));
    start();
    fail();
    simulator.event("Disconnected", json!({}));
    simulator.event("EStop", json!({}));
    start();
    fail();
    // It is not taken for the next print's.
    start();
    simulator.event("Error", json!({"error": "Too late"}));
    fail();
    start();
    fail();
    let reasons = || -> Vec<Value> {
        let seen = watcher.seen();
        let prints = seen.iter().filter(|seen| seen.topic == PRINT).map(Seen::json);
        let failed = prints.filter(|print| print["event_type"] == "print_failed");
        failed.map(|print| print["reason"].clone()).collect()
    };
    let all = tokio::time::timeout(PATIENCE, async {
        while reasons().len() < 6 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    all.await.expect("all six ends");
    let expected = ["Too cold", "Too hot", "emergency stop", "unknown", "Too late", "unknown"];
    assert_eq!(reasons(), expected);
    bridge.stop().await;
}
