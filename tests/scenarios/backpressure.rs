//! A broker that is slower than the printer: what is bounded, what is conflated, what is whole.

use std::time::Duration;

use crate::real::bridge::Bridge;
use crate::real::mosquitto::Mosquitto;
use crate::real::proxy::Proxy;
use crate::real::watcher::{Seen, Watcher};
use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};
use serde_json::json;

const ROUNDS: usize = 3000;

fn topic(rest: &str) -> String {
    format!("octoprint2mqtt/mk3/{rest}")
}

fn on<'s>(seen: &'s [Seen], rest: &str) -> Vec<&'s Seen> {
    let topic = topic(rest);
    seen.iter().filter(|seen| seen.topic == topic).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn events_stay_whole_and_state_is_conflated() {
    octoprint2mqtt::tls::install_provider();
    let broker = Mosquitto::start().await;
    let simulator = Simulator::start(SimulatorOptions::default()).await.unwrap();
    let line = Proxy::start(broker.port).await;
    let watcher = Watcher::start(broker.port).await;
    let bridge = Bridge::start(&format!(
        "[outbox]\nsettle = \"0s\"\n[mqtt]\nurl = \"{}\"\n[printers.mk3]\nurl = \"{}\"\napi_key = \"SIMULATOR-KEY\"\n",
        line.url("mqtt"),
        simulator.url()
    ));
    watcher.wait("online", |s| s.topic == topic("availability") && s.payload == "online").await;
    let mark = watcher.mark();
    // A third of what will come.
    line.throttle(100_000);
    let padding = "x".repeat(300);
    let mut turns = tokio::time::interval(Duration::from_millis(1));
    for round in 0..ROUNDS {
        turns.tick().await;
        simulator.event("Padded", json!({"round": round, "padding": padding}));
        // 0 to 300 °C: each one is worth a publication.
        let actual = (round % 1000) as f64 * 0.3;
        let temps = json!([{"time": round, "bed": {"actual": actual, "target": round}}]);
        let current = json!([{"current": {"temps": temps, "padding": padding}}]);
        simulator.raw(&format!("a{current}"));
    }
    // What waits is what counts; that it goes out as slowly proves no more.
    line.throttle(1_000_000);
    let last =
        |seen: &Seen| seen.topic == topic("event/Padded") && seen.json()["round"] == ROUNDS - 1;
    watcher.wait_from(mark, "the last event", last).await;
    let bed = |seen: &Seen| {
        seen.topic == topic("temperature/bed") && seen.json()["target"] == (ROUNDS - 1) as f64
    };
    watcher.wait_from(mark, "the newest temperature", bed).await;

    let seen = watcher.seen().split_off(mark);
    let rounds: Vec<usize> = on(&seen, "event/Padded")
        .iter()
        .map(|seen| seen.json()["round"].as_u64().unwrap() as usize)
        .collect();
    assert_eq!(rounds, (0..ROUNDS).collect::<Vec<_>>(), "all, once, in order");
    let late = on(&seen, "event/Padded").iter().filter(|s| s.json()["_delayed"].is_u64()).count();
    assert!(late > ROUNDS / 10, "what waited says so: {late}");
    for conflated in ["message/current", "temperature/bed"] {
        let count = on(&seen, conflated).len();
        assert!(count < ROUNDS / 2, "{conflated}: {count} of {ROUNDS}");
    }
    let health = watcher
        .wait_json(0, "octoprint2mqtt/bridge/health", |health| health["memory"].is_number())
        .await;
    println!("memory at the start: {}", health["memory"]);
    let memory = resident(bridge.process.0.id());
    assert!(memory < 64 * 1024 * 1024, "{memory} bytes resident");
}

/// Resident memory of a process, in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
