//! Statistics and history of prints over restarts of the whole bridge, with events that no OctoPrint
//! sends on request.

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
const STATISTICS: &str = "octoprint2mqtt/mk3/statistics";
const HISTORY: &str = "octoprint2mqtt/mk3/history";
const NOZZLE: &str = "octoprint2mqtt/mk3/maintenance/nozzle";

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

struct World {
    watcher: Watcher,
    simulator: Simulator,
    config: String,
    _data: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        tls::install_provider();
        let port = free_port();
        tokio::task::spawn_blocking(move || demo::start_broker(port)).await.unwrap().unwrap();
        let watcher = Watcher::start(port).await;
        let simulator = Simulator::start(SimulatorOptions::default()).await.unwrap();
        let data = tempfile::tempdir().unwrap();
        let config = format!(
            "data_dir = \"{}\"\n[outbox]\nsettle = \"0s\"\n[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\n[printers.mk3]\nurl = \"{}\"\napi_key = \"SIMULATOR-KEY\"\nmaintenance = {{ nozzle = \"3 prints\" }}\n",
            data.path().display(),
            simulator.url()
        );
        Self { watcher, simulator, config, _data: data }
    }

    /// Starts the bridge, and waits until it is online.
    async fn start(&self) -> InProcess {
        let mark = self.watcher.mark();
        let bridge = InProcess::start(config::from_toml(&self.config).unwrap());
        let online = |seen: &Seen| {
            seen.topic == "octoprint2mqtt/mk3/availability" && seen.payload == "online"
        };
        self.watcher.wait_from(mark, "online", online).await;
        bridge
    }

    fn event(&self, kind: &str, more: &Value) {
        let mut payload = json!({"name": "a.gcode", "path": "a.gcode", "origin": "local"});
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.simulator.event(kind, payload);
    }

    async fn counted(&self, mark: usize, done: u64, failed: u64, cancelled: u64) -> Value {
        let is = |told: &Value| {
            told["prints_done"] == done
                && told["prints_failed"] == failed
                && told["prints_cancelled"] == cancelled
        };
        self.watcher.wait_json(mark, STATISTICS, is).await
    }

    async fn request(&self, payload: &str) -> Value {
        let mark = self.watcher.mark();
        self.watcher.publish("octoprint2mqtt/bridge/request/history", payload, false).await;
        self.watcher.wait_json(mark, "octoprint2mqtt/bridge/response/history", |_| true).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_print_counts_once_whatever_is_repeated() {
    let world = World::new().await;
    let bridge = world.start().await;
    let first = world.counted(0, 0, 0, 0).await;
    assert_eq!((&first["print_hours"], &first["persistent"]), (&json!(0.0), &json!(true)));
    world.event("PrintStarted", &json!({}));
    for _ in 0..5 {
        world.event("PrintFailed", &json!({"reason": "error", "error": "Klipper", "time": 36.0}));
    }
    // A cancel: two events, which are one.
    world.event("PrintStarted", &json!({}));
    world.event("PrintCancelled", &json!({"time": 36.0}));
    world.event("PrintFailed", &json!({"reason": "cancelled", "time": 36.0}));
    world.event("PrintStarted", &json!({}));
    world.event("PrintDone", &json!({"time": 72.0}));
    let counted = world.counted(0, 1, 1, 1).await;
    assert_eq!(counted["print_hours"], 0.04);
    let three = |told: &Value| told["prints"].as_array().is_some_and(|all| all.len() == 3);
    let history = world.watcher.wait_json(0, HISTORY, three).await;
    let results: Vec<&Value> =
        history["prints"].as_array().unwrap().iter().map(|print| &print["result"]).collect();
    assert_eq!(results, ["done", "cancelled", "failed"]);
    assert_eq!(history["prints"][2]["reason"], "Klipper");
    world.watcher.wait_json(0, NOZZLE, |told| told["due"] == true && told["used"] == 3.0).await;
    let due = "octoprint2mqtt/mk3/maintenance_due";
    let event = world.watcher.wait_json(0, due, |_| true).await;
    assert_eq!(
        (&event["name"], &event["event_type"]),
        (&json!("nozzle"), &json!("maintenance_due"))
    );
    bridge.stop().await;

    // The next bridge goes on with all of that, also with the repetition of what it had.
    let mark = world.watcher.mark();
    let bridge = world.start().await;
    assert_eq!(world.counted(mark, 1, 1, 1).await["since"], first["since"]);
    world.watcher.wait_json(mark, NOZZLE, |told| told["due"] == true).await;
    world.event("PrintDone", &json!({"time": 72.0}));
    world.event("PrintStarted", &json!({}));
    world.event("PrintDone", &json!({"time": 72.0}));
    world.counted(mark, 2, 1, 1).await;
    let answer = world.request(r#"{"printer":"mk3","transaction":5}"#).await;
    assert_eq!((&answer["status"], &answer["transaction"]), (&json!("ok"), &json!(5)));
    assert_eq!(answer["data"]["prints"].as_array().unwrap().len(), 4, "{answer}");
    let csv = world.request(r#"{"printer":"mk3","format":"csv"}"#).await;
    let csv = csv["data"]["csv"].as_str().unwrap().to_owned();
    assert!(csv.starts_with("file,path,started,ended,result,"), "{csv}");
    assert_eq!(csv.matches("a.gcode,a.gcode,").count(), 4, "{csv}");
    let unknown = world.request("mini").await;
    assert_eq!(unknown["status"], "error");
    assert!(unknown["error"].as_str().unwrap().contains("mini"), "{unknown}");
    let mark = world.watcher.mark();
    world.watcher.done("maintenance", "nozzle").await;
    let reset = world.watcher.wait_json(mark, NOZZLE, |told| told["used"] == 0.0).await;
    assert_eq!(reset["due"], false);
    world.watcher.refused("maintenance", "belts", Value::Null, "expected one of nozzle").await;
    bridge.stop().await;
}
