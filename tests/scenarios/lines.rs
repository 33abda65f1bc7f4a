//! Lines that die without a word, and brokers that say no.

use std::time::{Duration, Instant};

use crate::real::bridge::Bridge;
use crate::real::mosquitto::Mosquitto;
use crate::real::proxy::Proxy;
use crate::real::watcher::{Seen, Watcher};
use crate::real::within;
use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};
use serde_json::json;

/// Within this a dead line must be noticed.
const NOTICED: Duration = Duration::from_secs(45);

fn topic(rest: &str) -> String {
    format!("octoprint2mqtt/mk3/{rest}")
}

fn online(seen: &Seen) -> bool {
    seen.topic == topic("availability") && seen.payload == "online"
}

async fn simulator() -> Simulator {
    octoprint2mqtt::tls::install_provider();
    Simulator::start(SimulatorOptions::default()).await.unwrap()
}

fn config(broker: &str, more: &str, octoprint: &str) -> String {
    format!(
        "[outbox]\nsettle = \"0s\"\n[mqtt]\nurl = \"{broker}\"\n{more}\n[printers.mk3]\nurl = \"{octoprint}\"\napi_key = \"SIMULATOR-KEY\"\noffline_after = \"1s\"\n"
    )
}

async fn logged(bridge: &Bridge, patience: Duration, text: &str) {
    within(patience, text, || async { bridge.log().contains(text).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn a_frozen_line_to_the_broker_is_noticed_and_nothing_is_lost() {
    let (broker, simulator) = (Mosquitto::start().await, simulator().await);
    let line = Proxy::start(broker.port).await;
    let watcher = Watcher::start(broker.port).await;
    let bridge = Bridge::start(&config(&line.url("mqtt"), "", &simulator.url()));
    watcher.wait("online", online).await;
    line.freeze(true);
    let frozen = Instant::now();
    for n in 0..100 {
        simulator.event("Counted", json!({ "n": n }));
    }
    logged(&bridge, NOTICED, "next attempt in").await;
    println!("the broker's silence was noticed after {:?}", frozen.elapsed());
    tokio::time::sleep_until((frozen + Duration::from_secs(60)).into()).await;
    let mark = watcher.mark();
    line.freeze(false);
    let last = |s: &Seen| s.topic == topic("event/Counted") && s.json()["n"] == 99;
    let seen = || async { watcher.seen()[mark..].iter().any(last).then_some(()) };
    // The attempt that is under way may still run into the void.
    within(Duration::from_secs(60), "the last event", seen).await;
    let numbers: Vec<u64> = watcher
        .seen()
        .iter()
        .filter(|seen| seen.topic == topic("event/Counted"))
        .map(|seen| {
            assert!(seen.json()["_delayed"].as_u64() >= Some(30), "{}", seen.payload);
            seen.json()["n"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn a_frozen_line_to_octoprint_is_noticed() {
    let (broker, simulator) = (Mosquitto::start().await, simulator().await);
    let line = Proxy::start(simulator.port()).await;
    let watcher = Watcher::start(broker.port).await;
    let _bridge = Bridge::start(&config(&broker.url(), "", &line.url("http")));
    watcher.wait("online", online).await;
    let mark = watcher.mark();
    line.freeze(true);
    let frozen = Instant::now();
    let offline = || async {
        let seen = watcher.seen();
        let is = |s: &Seen| s.topic == topic("availability") && s.payload == "offline";
        seen[mark..].iter().any(is).then_some(())
    };
    within(NOTICED, "offline", offline).await;
    println!("OctoPrint's silence was noticed after {:?}", frozen.elapsed());
    let mark = watcher.mark();
    line.freeze(false);
    let back = || async { watcher.seen()[mark..].iter().any(online).then_some(()) };
    within(Duration::from_secs(60), "online again", back).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn addresses_that_swallow_packets_and_names_that_do_not_exist_are_tried_again() {
    let simulator = simulator().await;
    // TEST-NET-1, where no host answers; and a name that does not resolve.
    for (address, telling) in
        [("mqtt://192.0.2.1:1883", "mqtt.url"), ("mqtt://no-such-host.invalid:1883", "mqtt.url")]
    {
        let bridge = Bridge::start(&config(address, "", &simulator.url()));
        logged(&bridge, Duration::from_secs(30), telling).await;
        logged(&bridge, Duration::from_secs(30), "next attempt in").await;
    }
    let broker = Mosquitto::start().await;
    let watcher = Watcher::start(broker.port).await;
    for address in ["http://192.0.2.1/", "http://no-such-host.invalid/"] {
        let mark = watcher.mark();
        let _bridge = Bridge::start(&config(&broker.url(), "", address));
        let waiting = |s: &Seen| s.topic == topic("socket") && s.json()["state"] == "waiting";
        let seen = || async { watcher.seen()[mark..].iter().any(waiting).then_some(()) };
        within(Duration::from_secs(60), address, seen).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn each_refusal_of_a_broker_is_logged_with_the_remedy() {
    let simulator = simulator().await;
    let broker = Mosquitto::with_password("bridge", "s3cret").await;
    let bridge = Bridge::start(&config(
        &broker.url(),
        "username = \"bridge\"\npassword = \"guess\"",
        &simulator.url(),
    ));
    logged(&bridge, Duration::from_secs(10), "mqtt.username and mqtt.password").await;
    assert!(!bridge.log().contains("guess"));
    // Slowly: a refusal does not go away by itself.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let attempts = bridge.log().matches("next attempt in").count();
    assert!(attempts <= 2, "{}", bridge.log());

    // Neither MQTT 3.1.1 nor Mosquitto says that a publication was dropped.
    let broker = Mosquitto::with_access("user bridge\ntopic read #\n").await;
    let login = "username = \"bridge\"\npassword = \"s3cret\"";
    let bridge = Bridge::start(&config(&broker.url(), login, &simulator.url()));
    logged(&bridge, Duration::from_secs(20), "access rules").await;

    // A second bridge of the same client id.
    let broker = Mosquitto::start().await;
    let first = Bridge::start(&config(&broker.url(), "", &simulator.url()));
    logged(&first, Duration::from_secs(10), "connected to the broker").await;
    let second = Bridge::start(&config(&broker.url(), "", &simulator.url()));
    let told = || async {
        let text = "another client may be using the same mqtt.client_id";
        (first.log().contains(text) || second.log().contains(text)).then_some(())
    };
    within(Duration::from_secs(30), "the hint at the second client", told).await;
}
