//! The power of a printer: PSU Control, or a switch at the broker, with a real OctoPrint.

use std::time::{Duration, Instant};

use crate::real::bridge::{Bridge, config};
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::OctoPrint;
use crate::real::plug::{self, COMMAND, Plug, STATE};
use crate::real::watcher::{Seen, Watcher};
use serde_json::{Value, json};

const POWER: &str = "octoprint2mqtt/mk3/power";
async fn upload(octoprint: &OctoPrint, name: &str, tenths: usize) {
    let moves = "G1 X1 F600000\nG4 P100\n".repeat(tenths);
    octoprint.upload_text(name, &format!("G28\n{moves}")).await;
}

async fn power(watcher: &Watcher, mark: usize, key: &str, value: &str) -> Value {
    watcher.wait_json(mark, POWER, |power| power[key] == *value).await
}

async fn print_event(watcher: &Watcher, mark: usize, event: &str) {
    let print = "octoprint2mqtt/mk3/print";
    watcher.wait_json(mark, print, |print| print["event_type"] == *event).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn a_switch_at_the_broker_is_switched_by_hand_and_to_print() {
    let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
    let watcher = Watcher::start(broker.port).await;
    let plug = Plug::start(broker.port).await;
    let more = format!("auto_off = true\npower_on_to_print = true\n{}", plug::keys());
    let bridge = Bridge::start(&config(&broker.url(), &octoprint.url(), &more));
    let off = power(&watcher, 0, "state", "off").await;
    assert_eq!(off, json!({"state": "off", "source": "mqtt", "auto_off": null, "off_at": null}));
    upload(&octoprint, "long.gcode", 600).await;
    upload(&octoprint, "short.gcode", 5).await;

    // The printer is off, and so OctoPrint is not connected to it.
    watcher
        .wait("online", |seen| {
            seen.topic == "octoprint2mqtt/mk3/availability" && seen.payload == "online"
        })
        .await;
    watcher.done("connection", "disconnect").await;
    let mark = watcher.mark();
    watcher.done("print", "local/long.gcode").await;
    power(&watcher, mark, "state", "on").await;
    print_event(&watcher, mark, "print_started").await;
    let told = |seen: &Seen| seen.topic == COMMAND;
    assert_eq!(watcher.wait_from(mark, "the command", told).await.payload, "ON");
    watcher.refused("power", "off", json!(409), "the printer is Printing").await;
    assert!(!watcher.seen()[mark..].iter().any(|seen| told(seen) && seen.payload == "OFF"));
    let mark = watcher.mark();
    watcher.done("power", r#"{"action":"off","force":true}"#).await;
    power(&watcher, mark, "state", "off").await;
    watcher.done("job", "cancel").await;
    print_event(&watcher, mark, "print_cancelled").await;
    assert_eq!(
        watcher.seen().iter().rev().find(|s| s.topic == POWER).unwrap().json()["auto_off"],
        json!(null)
    );

    // After a print, the countdown begins as all is cool, and can be stopped.
    let mark = watcher.mark();
    watcher.done("print", "local/short.gcode").await;
    print_event(&watcher, mark, "print_done").await;
    let counting = power(&watcher, mark, "auto_off", "countdown").await;
    assert!(counting["off_at"].is_string(), "{counting}");
    let mark = watcher.mark();
    watcher.done("power", "keep_on").await;
    let kept = watcher.wait_json(mark, POWER, |power| power["auto_off"].is_null()).await;
    assert_eq!(kept["state"], "on");

    // A switch that does not answer.
    drop(plug);
    let answer = watcher.command("power", "off").await;
    assert_eq!(answer["ok"], false);
    assert!(answer["error"].as_str().unwrap().contains(STATE), "{answer}");
    drop(bridge);
}

/// OctoPrint with a stand-in for PSU Control, or with the plugin itself, whose package is named.
async fn with_psu_control() -> OctoPrint {
    let settings = |config: String| {
        config
            + "  psucontrol: {switchingMethod: SYSTEM, onSysCommand: \"true\", offSysCommand: \"true\", disconnectOnPowerOff: true, powerOffWhenIdle: false, postOnDelay: 0.1}\n"
    };
    match std::env::var_os("OCTOPRINT2MQTT_TEST_PSU_CONTROL") {
        Some(package) => {
            OctoPrint::start_with_package("psucontrol", package.as_ref(), settings).await
        }
        None => {
            let plugin = include_str!("../real/psucontrol.py");
            OctoPrint::start_with_plugin("psucontrol.py", plugin, settings).await
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn psu_control_switches_the_power_and_a_printer_goes_off_after_its_print() {
    let (broker, octoprint) = tokio::join!(Mosquitto::start(), with_psu_control());
    let watcher = Watcher::start(broker.port).await;
    let more = "auto_off = true\npower_on_to_print = true";
    let bridge = Bridge::start(&config(&broker.url(), &octoprint.url(), more));
    watcher.wait_json(0, POWER, |power| power["state"].is_string()).await;
    // The plugin itself begins with off.
    watcher.done("power", "on").await;
    power(&watcher, 0, "state", "on").await;
    // Home Assistant learns that there is a switch.
    let device = "homeassistant/device/octoprint2mqtt_mk3/config";
    let has_switch = |device: &Value| device["components"]["power"]["platform"] == "switch";
    watcher.wait_json(0, device, has_switch).await;
    upload(&octoprint, "short.gcode", 5).await;
    let mark = watcher.mark();
    watcher.done("power", "off").await;
    let off = power(&watcher, mark, "state", "off").await;
    assert_eq!(off["source"], "psucontrol");
    let state = "octoprint2mqtt/mk3/printer";
    watcher.wait_json(mark, state, |printer| printer["state"] == "offline").await;

    let mark = watcher.mark();
    watcher.done("print", "local/short.gcode").await;
    power(&watcher, mark, "state", "on").await;
    print_event(&watcher, mark, "print_done").await;
    let counting = Instant::now();
    power(&watcher, mark, "auto_off", "countdown").await;
    let is_off = || {
        let seen = watcher.seen();
        seen.iter().rev().find(|seen| seen.topic == POWER).unwrap().json()["state"] == "off"
    };
    while !is_off() {
        assert!(counting.elapsed() < Duration::from_secs(120), "it is not switched off");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(counting.elapsed() > Duration::from_secs(50), "{:?}", counting.elapsed());
    drop(bridge);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn a_printer_without_a_switch_says_so() {
    let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
    let watcher = Watcher::start(broker.port).await;
    let bridge =
        Bridge::start(&config(&broker.url(), &octoprint.url(), "power_on_to_print = true"));
    let unknown = watcher.wait_json(0, POWER, |_| true).await;
    assert_eq!(unknown, json!({"state": null, "source": null, "auto_off": null, "off_at": null}));
    watcher
        .wait("online", |seen| {
            seen.topic == "octoprint2mqtt/mk3/availability" && seen.payload == "online"
        })
        .await;
    watcher.refused("power", "on", json!(404), "PSU Control").await;
    upload(&octoprint, "short.gcode", 5).await;
    watcher.done("print", "local/short.gcode").await;
    drop(bridge);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn a_switch_at_the_broker_is_heard_again_by_a_printer_that_changes_and_by_one_that_comes() {
    let broker = Mosquitto::start().await;
    let watcher = Watcher::start(broker.port).await;
    watcher.publish("plug/state", "ON", true).await;
    let switch = "power = { state_topic = \"plug/state\", command_topic = \"plug/set\" }";
    // OctoPrint is not needed for it.
    let text =
        |more: &str| config(&broker.url(), "http://127.0.0.1:1", &format!("{switch}\n{more}"));
    let bridge = Bridge::start(&text(""));
    let is_on = |told: &Value| told["state"] == "on";
    watcher.wait_json(0, "octoprint2mqtt/mk3/power", is_on).await;
    let mark = watcher.mark();
    bridge.change(&text("name = \"Another\""));
    watcher.wait_json(mark, "octoprint2mqtt/mk3/power", |told| told["state"].is_null()).await;
    watcher.wait_json(mark, "octoprint2mqtt/mk3/power", is_on).await;
    let other = format!("[printers.mini]\nurl = \"http://127.0.0.1:2\"\napi_key = \"K\"\n{switch}");
    bridge.change(&text(&format!("name = \"Another\"\n{other}")));
    watcher.wait_json(mark, "octoprint2mqtt/mini/power", is_on).await;
}
