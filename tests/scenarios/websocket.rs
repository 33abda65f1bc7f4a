//! MQTT over WebSocket, through a real Mosquitto.

use std::time::Duration;

use crate::real::bridge::{Bridge, run};
use crate::real::mosquitto::Mosquitto;
use crate::real::watcher::{Seen, Watcher, retained};
use crate::real::{free_port, within};
use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};

/// A Mosquitto with a listener for WebSocket beside the plain one.
async fn broker(more: &str) -> (Mosquitto, u16) {
    let port = free_port();
    let options =
        format!("allow_anonymous true\nlistener {port} 127.0.0.1\nprotocol websockets\n{more}");
    (Mosquitto::with_options(&options).await, port)
}

async fn simulator() -> Simulator {
    octoprint2mqtt::tls::install_provider();
    Simulator::start(SimulatorOptions::default()).await.unwrap()
}

fn config(broker: &str, octoprint: &str) -> String {
    format!(
        "[mqtt]\nurl = \"{broker}\"\n[outbox]\nsettle = \"0s\"\n[printers.mk3]\nurl = \"{octoprint}\"\napi_key = \"SIMULATOR-KEY\"\n"
    )
}

fn online(seen: &Seen) -> bool {
    seen.topic == "octoprint2mqtt/mk3/availability" && seen.payload == "online"
}

async fn logged(bridge: &Bridge, text: &str) {
    let patience = Duration::from_secs(20);
    within(patience, text, || async { bridge.log().contains(text).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn everything_passes_and_a_restart_of_the_broker_is_survived() {
    let (mut broker, port) = broker("").await;
    let simulator = simulator().await;
    let watcher = Watcher::start(broker.port).await;
    let text = config(&format!("ws://127.0.0.1:{port}/mqtt"), &simulator.url());
    let mut bridge = Bridge::start(&text);
    watcher.wait("online", online).await;
    // Longer than one WebSocket message of the bridge.
    let discovery = |seen: &Seen| seen.topic == "homeassistant/device/octoprint2mqtt_mk3/config";
    let device = watcher.wait("the discovery message", discovery).await;
    assert!(device.payload.len() > 9_000);
    let answer = watcher.command("temperature/bed", "40").await;
    assert_eq!(answer["ok"], true, "{answer}");
    // Longer than any read buffer on the way, in either direction.
    let long = "x".repeat(200_000);
    let answer = watcher.command("message", &long).await;
    assert_eq!(answer["command"], "message");
    let info = watcher.wait("info", |seen| seen.topic == "octoprint2mqtt/bridge/info").await;
    let url = format!("ws://127.0.0.1:{port}/mqtt");
    assert!(info.payload.contains(&url), "{}", info.payload);

    let mark = watcher.mark();
    broker.kill();
    logged(&bridge, "next attempt in").await;
    broker.run().await;
    watcher.wait_from(mark, "online again", online).await;
    let (code, output) = run(&text, &["check"]).await;
    assert_eq!(code, Some(0), "{output}");
    bridge.process.signal("TERM");
    assert_eq!(bridge.process.ended().await, Some(0));
    let kept = retained(broker.port).await;
    assert_eq!(kept["octoprint2mqtt/bridge/state"], "offline");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn an_address_without_websocket_is_reported() {
    let (broker, port) = broker("").await;
    let simulator = simulator().await;
    let wrong = config(&format!("ws://127.0.0.1:{}/mqtt", broker.port), &simulator.url());
    let (code, output) = run(&wrong, &["check"]).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("no MQTT over WebSocket"), "{output}");
    // An HTTP server that is none.
    let wrong = config(&simulator.url().replace("http", "ws"), &simulator.url());
    let (_, output) = run(&wrong, &["check"]).await;
    assert!(
        output.contains("no MQTT over WebSocket: the answer to the upgrade was HTTP 4"),
        "{output}"
    );
    let wrong = config(&format!("mqtt://127.0.0.1:{port}"), &simulator.url());
    let (_, output) = run(&wrong, &["check"]).await;
    assert!(output.contains("is not an MQTT broker"), "{output}");
}
