//! `reconnect` through MQTT in every state of the socket to a real OctoPrint.

use std::time::Duration;

use crate::real::bridge::{Bridge, config};
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::OctoPrint;
use crate::real::proxy::Proxy;
use crate::real::watcher::Watcher;
use serde_json::Value;

const SOCKET: &str = "octoprint2mqtt/mk3/socket";
const RECONNECT: &str = "octoprint2mqtt/mk3/set/reconnect";

struct World {
    line: Proxy,
    watcher: Watcher,
    _bridge: Bridge,
    octoprint: OctoPrint,
    _broker: Mosquitto,
}

impl World {
    async fn start(socket: &str) -> Self {
        let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
        let line = Proxy::start(octoprint.port).await;
        let watcher = Watcher::start(broker.port).await;
        let socket = format!("[printers.mk3.socket]\n{socket}");
        let bridge = Bridge::start(&config(&broker.url(), &line.url("http"), &socket));
        let world = Self { line, watcher, _bridge: bridge, octoprint, _broker: broker };
        world.state(0, "connected").await;
        world
    }

    async fn state(&self, mark: usize, state: &str) -> Value {
        self.watcher.wait_json(mark, SOCKET, |socket| socket["state"] == state).await
    }

    /// Tells the bridge to reconnect, with nothing or with something; returns the mark before.
    async fn reconnect(&self, payload: &str) -> usize {
        let mark = self.watcher.mark();
        self.watcher.publish(RECONNECT, payload, false).await;
        let result = "octoprint2mqtt/mk3/result";
        let answer = self.watcher.wait_json(mark, result, |r| r["command"] == "reconnect").await;
        assert_eq!(answer["ok"], true, "{answer}");
        mark
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn connected_waiting_and_in_the_middle_of_connecting() {
    // Whoever waits for the list of timeouts waits in vain here.
    let world = World::start("timeouts = [600]\nconnect_timeout = \"60s\"").await;
    for payload in ["", "now", "{\"value\":true}"] {
        let mark = world.reconnect(payload).await;
        world.state(mark, "connecting").await;
        world.state(mark, "connected").await;
    }

    // In the middle of connecting: the line swallows what is sent, so no answer ever comes.
    world.line.freeze(true);
    let mark = world.reconnect("").await;
    world.state(mark, "connecting").await;
    world.line.freeze(false);
    let mark = world.reconnect("").await;
    world.state(mark, "connected").await;

    let mut world = world;
    let mark = world.watcher.mark();
    world.octoprint.kill();
    let waiting = world.state(mark, "waiting").await;
    assert_eq!(waiting["next_attempt_in"], 600, "{waiting}");
    // Still off: the wait is skipped, in vain, and the list of pauses restarts.
    let mark = world.reconnect("").await;
    world.state(mark, "connecting").await;
    let waiting = world.state(mark, "waiting").await;
    assert_eq!(waiting["attempt"], 1, "{waiting}");
    world.octoprint.run().await;
    let mark = world.reconnect("").await;
    world.state(mark, "connected").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn failed_stays_failed_until_reconnect() {
    let mut world = World::start("timeouts = [1]\ngive_up = true").await;
    let mark = world.watcher.mark();
    world.octoprint.kill();
    let failed = world.state(mark, "failed").await;
    assert!(failed["error"].is_string() && failed["next_attempt_in"].is_null(), "{failed}");
    world.octoprint.run().await;
    // Nothing happens by itself: not even in the time that the list would have taken.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let seen = world.watcher.seen();
    let last = seen.iter().rev().find(|seen| seen.topic == SOCKET).unwrap();
    assert_eq!(last.json()["state"], "failed");
    let mark = world.reconnect("").await;
    world.state(mark, "connected").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn an_octoprint_that_is_back_is_noticed_in_a_wait_of_minutes() {
    let mut world = World::start("timeouts = [600]").await;
    let mark = world.watcher.mark();
    world.octoprint.kill();
    world.state(mark, "waiting").await;
    let mark = world.watcher.mark();
    world.octoprint.run().await;
    world.state(mark, "connected").await;
}
