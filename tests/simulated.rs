//! The bridge between simulated OctoPrints and the embedded broker: what a real OctoPrint does
//! not do on request.

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

use std::sync::Arc;
use std::time::Duration;

use in_process::InProcess;
use octoprint2mqtt::bridge::Hub;
use octoprint2mqtt::bridge::board::{Board, Card};
use octoprint2mqtt::cli::{self, demo};
use octoprint2mqtt::simulator::{Faults, Simulator, SimulatorOptions};
use octoprint2mqtt::{causes, config, tls};
use serde_json::{Value, json};
use watcher::{Seen, Watcher};

const PATIENCE: Duration = Duration::from_secs(30);
const P: &str = "octoprint2mqtt/mk3";

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

struct World {
    simulators: Vec<Simulator>,
    watcher: Watcher,
    config: String,
    /// Always there but in [`World::stop`].
    bridge: Option<InProcess>,
}

fn run(config: &str) -> Option<InProcess> {
    Some(InProcess::start(config::from_toml(config).unwrap()))
}

impl World {
    /// A broker, a watcher, the bridge, and printers with these ids, in the way `faults` has it.
    async fn start(ids: &[&str], faults: Faults) -> Self {
        Self::start_with(ids, faults, "200ms").await
    }

    /// The same with its `offline_after`.
    async fn start_with(ids: &[&str], faults: Faults, offline_after: &str) -> Self {
        tls::install_provider();
        let port = free_port();
        tokio::task::spawn_blocking(move || demo::start_broker(port)).await.unwrap().unwrap();
        let watcher = Watcher::start(port).await;
        let mut text =
            format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\n[outbox]\nsettle = \"0s\"\n");
        let mut simulators = Vec::new();
        for id in ids {
            let simulator = Simulator::start(SimulatorOptions::default()).await.unwrap();
            simulator.set_faults(faults.clone());
            let url = simulator.url();
            text += &format!(
                "[printers.{id}]\nurl = \"{url}\"\napi_key = \"SIMULATOR-KEY\"\noffline_after = \"{offline_after}\"\n"
            );
            simulators.push(simulator);
        }
        let bridge = run(&text);
        Self { simulators, watcher, config: text, bridge }
    }

    async fn stop(&mut self) {
        self.bridge.take().unwrap().stop().await;
    }

    fn start_again(&mut self) {
        self.bridge = run(&self.config);
    }

    /// Waits until `heater` is published for Home Assistant, or removed.
    async fn announced(&self, mark: usize, heater: &str, there: bool) {
        let topic = "homeassistant/device/octoprint2mqtt_mk3/config";
        let is = |discovery: &Value| {
            let entity = &discovery["components"][heater];
            entity.is_object() && entity["unique_id"].is_string() == there
        };
        self.watcher.wait_json(mark, topic, is).await;
    }

    async fn one() -> Self {
        Self::one_with("200ms").await
    }

    async fn one_with(offline_after: &str) -> Self {
        let world = Self::start_with(&["mk3"], Faults::default(), offline_after).await;
        world.socket(0, "connected").await;
        world
            .watcher
            .wait("online", |s| s.topic == topic("availability") && s.payload == "online")
            .await;
        world
    }

    async fn socket(&self, mark: usize, state: &str) -> Value {
        self.watcher.wait_json(mark, &topic("socket"), |socket| socket["state"] == *state).await
    }

    fn simulator(&self) -> &Simulator {
        &self.simulators[0]
    }

    async fn end(mut self) {
        self.stop().await;
    }
}

fn topic(rest: &str) -> String {
    format!("{P}/{rest}")
}

fn on(rest: &str) -> impl Fn(&Seen) -> bool {
    let topic = topic(rest);
    move |seen| seen.topic == topic
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_passed_over_and_the_rest_arrives() {
    let world = World::one().await;
    let mark = world.watcher.mark();
    for frame in [
        "a[null]",
        "a[5,\"text\",[]]",
        "a[{\"current\":null}]",
        "a[{\"current\":[]}]",
        "a[{\"history\":\"x\"}]",
        "a[{\"event\":5}]",
        "a[{\"event\":null},{\"plugin\":null}]",
        "a[{\"plugin\":{\"plugin\":\"appkeys\",\"data\":{\"user_token\":\"MARKER\"}}}]",
        "a[{\"tomorrow\": {\"new\" : 1.50}},{\"event\":{\"type\":\"X/+#\",\"payload\":[1]}}]",
        "a[{\"plugin\":{\"plugin\":\"psu\",\"data\":{ \"on\":true }}}]",
    ] {
        world.simulator().raw(frame);
    }
    let plugin = world.watcher.wait_from(mark, "psu", on("plugin/psu")).await;
    assert_eq!(plugin.payload, "{ \"on\":true }", "verbatim");
    let tomorrow = world.watcher.wait_from(mark, "tomorrow", on("message/tomorrow")).await;
    assert_eq!(tomorrow.payload, "{\"new\" : 1.50}");
    let event = world.watcher.wait_from(mark, "X", on("event/X___")).await;
    assert!(
        event.payload.starts_with("{\"payload\":[1],\"_event\":\"X/+#\",\"_timestamp\":"),
        "{}",
        event.payload
    );
    let seen = world.watcher.seen();
    assert!(
        seen.iter().all(|seen| !seen.payload.contains("MARKER") && !seen.topic.contains("appkeys"))
    );
    let left = seen[mark..].iter().filter(|s| on("socket")(s) && s.json()["state"] != "connected");
    assert_eq!(left.count(), 0, "the connection stays");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_are_none_and_half_characters_cost_their_field_alone() {
    let world = World::one().await;
    let mark = world.watcher.mark();
    for frame in [
        r#"a[{"current":{"state":{"text":"Printing"},"currentZ":NaN,"progress":{"completion":42.25,"printTime":-Infinity,"printTimeLeft":-300},"mark":1}}]"#,
        r#"a[{"event":{"type":"PrintDone","payload":{"name":"\udcff.gcode","time":Infinity}}}]"#,
        r#"a[{"plugin":{"plugin":"psu","data":{"watts": NaN ,"x":1.50}}}]"#,
    ] {
        world.simulator().raw(frame);
    }
    let plugin = world.watcher.wait_from(mark, "psu", on("plugin/psu")).await;
    assert_eq!(plugin.payload, r#"{"watts": null ,"x":1.50}"#);
    let done = world.watcher.wait_json(mark, &topic("event/PrintDone"), |_| true).await;
    assert_eq!((&done["name"], &done["time"]), (&json!("\u{fffd}.gcode"), &Value::Null));
    let print = world.watcher.wait_json(mark, &topic("print"), |_| true).await;
    assert_eq!((&print["event_type"], &print["time"]), (&json!("print_done"), &Value::Null));
    let current = topic("message/current");
    let current = world.watcher.wait_json(mark, &current, |current| current["mark"] == 1).await;
    assert_eq!(current["currentZ"], Value::Null);
    let progress = |progress: &Value| progress["completion"] == 42.3;
    let progress = world.watcher.wait_json(mark, &topic("progress"), progress).await;
    assert_eq!(progress["print_time_left"], Value::Null);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_makes_no_entity_and_a_sensor_that_stays_is_one() {
    let world = World::one().await;
    let mark = world.watcher.mark();
    let frame = |names: &[&str]| {
        let readings: Vec<String> = names
            .iter()
            .map(|name| format!("\"{name}\":{{\"actual\":21.5,\"target\":0}}"))
            .collect();
        let temps = readings.join(",");
        format!(
            "a[{{\"current\":{{\"state\":{{\"text\":\"Operational\"}},\"temps\":[{{\"time\":1,{temps}}}]}}}}]"
        )
    };
    for n in 0..30 {
        world.simulator().raw(&frame(&["tool0", "bed", "null", &format!("OOO{n}T")]));
    }
    // The simulated printer's own readings, which do not have it, may come between.
    for _ in 0..200 {
        world.simulator().raw(&frame(&["tool0", "bed", "A"]));
    }
    world.watcher.wait_json(mark, &topic("temperature/A"), |a| a["actual"] == 21.5).await;
    let discovery = "homeassistant/device/octoprint2mqtt_mk3/config";
    let has = |discovery: &Value| discovery["components"]["sensor_A"]["unique_id"].is_string();
    let discovery = world.watcher.wait_json(mark, discovery, has).await;
    assert!(!discovery.to_string().contains("OOO"), "{discovery}");
    let seen = world.watcher.seen();
    let noise =
        |seen: &&Seen| seen.topic.contains("temperature/OOO") || seen.topic.ends_with("/null");
    assert_eq!(seen.iter().filter(noise).count(), 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_heaters_are_switched_off_at_once() {
    let world = World::one().await;
    assert_eq!(world.watcher.command("temperature/bed", "60").await["ok"], true);
    let off = world.watcher.command("temperature/all", "off").await;
    assert_eq!(off["ok"], true, "{off}");
    let commands = world.simulator().observed().commands;
    let off = |path: &str, body: &Value| {
        commands
            .iter()
            .any(|(at, sent)| at.ends_with(path) && sent["command"] == "target" && sent == body)
    };
    assert!(off("bed", &json!({"command": "target", "target": 0.0})), "{commands:?}");
    assert!(off("tool", &json!({"command": "target", "targets": {"tool0": 0.0}})), "{commands:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topic_of_a_heater_goes_with_the_profile_and_stays_when_it_comes_back() {
    let mut world = World::one().await;
    let tool = topic("temperature/tool1");
    let heated = |tool: &Value| tool["actual"].is_number();
    world.simulator().set_extruders(2);
    world.announced(0, "tool1", true).await;
    world.watcher.wait_json(0, &tool, heated).await;
    // There and back: the topic would be cleared five seconds after it left.
    let mark = world.watcher.mark();
    world.simulator().set_extruders(1);
    world.announced(mark, "tool1", false).await;
    let mark = world.watcher.mark();
    world.simulator().set_extruders(2);
    world.announced(mark, "tool1", true).await;
    world.watcher.wait_json(mark, &tool, heated).await;
    world.simulator().set_extruders(1);
    let cleared = |seen: &Seen| seen.topic == tool && seen.payload.is_empty();
    world.watcher.wait("the topic to be cleared", cleared).await;
    assert_eq!(world.watcher.seen().iter().filter(|seen| cleared(seen)).count(), 1);
    // The same while the bridge is off: what was published is read back.
    let mark = world.watcher.mark();
    world.simulator().set_extruders(2);
    world.announced(mark, "tool1", true).await;
    world.watcher.wait_json(mark, &tool, heated).await;
    world.stop().await;
    world.simulator().set_extruders(1);
    let mark = world.watcher.mark();
    world.start_again();
    world.watcher.wait_from(mark, "the topic to be cleared", cleared).await;
    world.announced(mark, "tool1", false).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_a_change_publishes_no_state() {
    let world = World::one().await;
    let current = |z: f64| {
        format!(
            "a[{{\"current\":{{\"state\":{{\"text\":\"Printing\"}},\"currentZ\":{z},\"progress\":{{\"completion\":50}},\"x\":{z}}}}}]"
        )
    };
    let is = |z: f64| {
        move |seen: &Seen| {
            on("message/current")(seen) && seen.payload.contains(&format!("\"x\":{z}}}"))
        }
    };
    world.simulator().raw(&current(71.5));
    world.watcher.wait("the first", is(71.5)).await;
    let mark = world.watcher.mark();
    for _ in 0..20 {
        world.simulator().raw(&current(71.5));
    }
    world.simulator().raw(&current(72.5));
    world.watcher.wait_from(mark, "the last", is(72.5)).await;
    world.watcher.wait_json(mark, &topic("position"), |position| position["z"] == 72.5).await;
    let seen = world.watcher.seen();
    // The simulated printer's own `current` may come between and move it away: then it changes.
    let positions: Vec<&str> =
        seen.iter().filter(|seen| on("position")(seen)).map(|seen| &*seen.payload).collect();
    assert!(positions.windows(2).all(|pair| pair[0] != pair[1]), "{positions:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_reauth_is_one_login() {
    let world = World::one().await;
    let logins = world.simulator().observed().logins;
    world.simulator().reauth("modified", 10);
    let mark = world.watcher.mark();
    world.watcher.wait_from(mark, "auth", on("event/ClientAuthed")).await;
    assert_eq!(world.simulator().observed().logins, logins + 1);
    // A restart forgets the sessions; the socket goes on after a full login.
    world.simulator().forget_sessions();
    let mark = world.watcher.mark();
    world.simulator().reauth("stale", 3);
    world.watcher.wait_from(mark, "auth", on("event/ClientAuthed")).await;
    world.simulator().event("Home", Value::Null);
    world.watcher.wait_from(mark, "Home", on("event/Home")).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_logins_wait_and_a_starting_octoprint_is_tried_again_soon() {
    let locked = Faults { login_status: Some(429), ..Faults::default() };
    let world = World::start(&["mk3"], locked).await;
    let waiting = world.socket(0, "waiting").await;
    assert_eq!(waiting["next_attempt_in"], 600, "{waiting}");
    assert!(waiting["error"].as_str().unwrap().contains("too many failed logins"), "{waiting}");

    let mark = world.watcher.mark();
    world.simulator().set_faults(Faults { starting: true, ..Faults::default() });
    world.watcher.publish(&topic("set/reconnect"), "", false).await;
    let waiting = world.socket(mark, "waiting").await;
    assert!(waiting["next_attempt_in"].as_u64().unwrap() <= 2, "{waiting}");
    world.simulator().set_faults(Faults::default());
    world.socket(mark, "connected").await;

    let mark = world.watcher.mark();
    world.simulator().set_faults(Faults { deactivated: true, ..Faults::default() });
    world.watcher.publish(&topic("set/reconnect"), "now", false).await;
    let waiting = world.socket(mark, "waiting").await;
    assert!(waiting["error"].as_str().unwrap().contains("deactivated"), "{waiting}");
    world
        .watcher
        .wait_from(mark, "offline", |s| on("availability")(s) && s.payload == "offline")
        .await;
    let refused = world.watcher.command("job", "pause").await;
    assert_eq!((&refused["ok"], &refused["status"]), (&json!(false), &json!(403)), "{refused}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_ends_without_a_word_is_connected_again() {
    let world = World::one().await;
    let mark = world.watcher.mark();
    world.simulator().drop_sockets();
    world.socket(mark, "waiting").await;
    world.socket(mark, "connected").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_stop_waits_for_nothing_and_drops_what_waits() {
    let world = World::one().await;
    let slow = Faults { rest_delay: Duration::from_secs(1), ..Faults::default() };
    world.simulator().set_faults(slow);
    let mark = world.watcher.mark();
    for target in ["50", "51", "52"] {
        world.watcher.publish(&topic("set/temperature/bed"), target, false).await;
    }
    world.watcher.publish(&topic("set/emergency_stop"), "1", false).await;
    let answer = |command: &'static str, value: i64| {
        let watcher = &world.watcher;
        async move {
            let is = |result: &Value| result["command"] == command && result["value"] == value;
            watcher.wait_json(mark, &topic("result"), is).await
        }
    };
    assert_eq!(answer("emergency_stop", 1).await["ok"], true);
    let dropped = answer("temperature/bed", 52).await;
    assert!(dropped["error"].as_str().unwrap().contains("emergency"), "{dropped}");
    let commands = world.simulator().observed().commands;
    assert!(commands.iter().any(|(_, body)| body.to_string().contains("M112")), "{commands:?}");
    assert!(commands.iter().all(|(_, body)| body["target"] != 52.0), "{commands:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_tried_while_only_the_socket_is_away() {
    let world = World::one().await;
    // A proxy that lets no socket through any more, neither over WebSocket nor otherwise.
    world.simulator().set_faults(Faults { refuse_upgrade: true, ..Faults::default() });
    let mark = world.watcher.mark();
    world.simulator().drop_sockets();
    world
        .watcher
        .wait_from(mark, "offline", |s| on("availability")(s) && s.payload == "offline")
        .await;
    let done = world.watcher.command("temperature/bed", "50").await;
    assert_eq!(done["ok"], true, "{done}");
    // What the printer has is asked of OctoPrint.
    let refused = world.watcher.command("temperature/tool3", "50").await;
    assert!(refused["error"].as_str().unwrap().contains("no tool3"), "{refused}");
    let refused = world.watcher.command("job", "start").await;
    assert_eq!((&refused["ok"], &refused["status"]), (&json!(false), &json!(409)), "{refused}");
    let mark = world.watcher.mark();
    let done = world.watcher.command("emergency_stop", "1").await;
    assert_eq!(done["ok"], true, "{done}");
    let last = world
        .watcher
        .wait_json(mark, &topic("last_command"), |last| last["command"] == "emergency_stop")
        .await;
    let wanted = json!({"command": "emergency_stop", "value": 1, "id": null, "ok": true,
        "error": null, "status": null});
    assert_eq!(last, wanted);
    let commands = world.simulator().observed().commands;
    assert!(commands.iter().any(|(_, body)| body.to_string().contains("M112")), "{commands:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_octoprint_is_offline_at_once_and_takes_no_command() {
    // Whoever waits for it waits in vain here.
    let world = World::one_with("1h").await;
    let mark = world.watcher.mark();
    world.simulator().stop();
    world
        .watcher
        .wait_from(mark, "offline", |s| on("availability")(s) && s.payload == "offline")
        .await;
    let refused = world.watcher.command("job", "pause").await;
    assert_eq!((&refused["ok"], &refused["status"]), (&json!(false), &Value::Null), "{refused}");
    assert!(!refused["error"].as_str().unwrap().contains("unknown whether"), "{refused}");
    let refused = world.watcher.command("emergency_stop", "1").await;
    assert!(refused["error"].as_str().unwrap().contains("not sent"), "{refused}");
    // At once, in the two seconds after an attempt that failed.
    let refused = world.watcher.command("job", "pause").await;
    assert!(refused["error"].as_str().unwrap().contains("cannot be reached"), "{refused}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_printers_live_side_by_side_and_one_that_is_broken_harms_none() {
    let ids: Vec<String> = (0..25).map(|n| format!("p{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let world = World::start(&ids, Faults::default()).await;
    world.simulators[0].stop();
    for (simulator, id) in world.simulators.iter().zip(&ids).skip(1) {
        let is = |seen: &Seen| {
            seen.topic == format!("octoprint2mqtt/{id}/availability") && seen.payload == "online"
        };
        world.watcher.wait(id, is).await;
        simulator.event("Home", json!({"of": id}));
    }
    for id in &ids[1..] {
        let is = |seen: &Seen| seen.topic == format!("octoprint2mqtt/{id}/event/Home");
        let home = world.watcher.wait(id, is).await;
        assert_eq!(home.json()["of"], **id);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_the_bridge_are_answered() {
    let world = World::one().await;
    for (name, payload, status) in [
        ("health_check", "", "ok"),
        ("info", r#"{"transaction":"t1"}"#, "ok"),
        ("republish", "", "ok"),
        ("log_level", "debug", "ok"),
        ("explode", "", "error"),
    ] {
        let mark = world.watcher.mark();
        world
            .watcher
            .publish(&format!("octoprint2mqtt/bridge/request/{name}"), payload, false)
            .await;
        let response = format!("octoprint2mqtt/bridge/response/{name}");
        let answer = world.watcher.wait_json(mark, &response, |_| true).await;
        assert_eq!(answer["status"], status, "{answer}");
        if name == "info" {
            assert_eq!(answer["transaction"], "t1");
            assert_eq!(answer["data"]["printers"], json!(["mk3"]));
        }
        if name == "republish" {
            world.watcher.wait_from(mark, "all state", on("printer")).await;
        }
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_discovery_a_heater_that_left_while_the_bridge_was_off_loses_its_topic() {
    let mut world = World::one().await;
    world.stop().await;
    let dir = tempfile::tempdir().unwrap();
    let data_dir = format!("data_dir = \"{}\"\n", dir.path().display());
    world.config = format!("{data_dir}{}[homeassistant]\nenabled = false\n", world.config);
    world.simulator().set_extruders(2);
    let mark = world.watcher.mark();
    world.start_again();
    let tool1 = topic("temperature/tool1");
    let there = |seen: &Seen| seen.topic == tool1 && !seen.payload.is_empty();
    world.watcher.wait_from(mark, "tool1", there).await;
    world.stop().await;
    world.simulator().set_extruders(1);
    let mark = world.watcher.mark();
    world.start_again();
    let cleared = |seen: &Seen| seen.topic == tool1 && seen.payload.is_empty();
    world.watcher.wait_from(mark, "the topic of tool1 to be cleared", cleared).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_are_served_where_configured() {
    tls::install_provider();
    let (broker, port) = (free_port(), free_port());
    tokio::task::spawn_blocking(move || demo::start_broker(broker)).await.unwrap().unwrap();
    let simulator = Simulator::start(SimulatorOptions::default()).await.unwrap();
    let text = format!(
        "[mqtt]\nurl = \"mqtt://127.0.0.1:{broker}\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n[printers.mk3]\nurl = \"{}\"\napi_key = \"SIMULATOR-KEY\"\n",
        simulator.url()
    );
    let config = config::from_toml(&text).unwrap();
    let listen = config.http.as_ref().unwrap().listen;
    let nobody = causes::text(&cli::health::ask(listen).await.unwrap_err());
    assert!(nobody.contains("http.listen") && nobody.contains("onnection refused"), "{nobody}");
    let watcher = Watcher::start(broker).await;
    let bridge = InProcess::start(config);
    watcher.wait("online", |s| s.topic == topic("availability") && s.payload == "online").await;
    cli::health::ask(listen).await.unwrap();
    let client = reqwest::Client::new();
    for (method, path, status, of_text) in [
        (reqwest::Method::GET, "/health?verbose", 200, Some("{\"healthy\":true}")),
        (reqwest::Method::HEAD, "/health", 200, Some("")),
        (reqwest::Method::POST, "/health", 405, None),
        (reqwest::Method::GET, "/health/", 404, None),
        (reqwest::Method::HEAD, "/metrics", 200, Some("")),
        (reqwest::Method::POST, "/", 405, None),
        (reqwest::Method::POST, "/nothing", 404, None),
    ] {
        let call = format!("{method} {path}");
        let answer = client.request(method, format!("http://{listen}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), status, "{call}");
        assert_eq!(answer.headers().contains_key("allow"), status == 405, "{call}");
        let text = answer.text().await.unwrap();
        assert!(of_text.is_none_or(|expected| text == expected), "{call}: {text}");
    }
    // A port that is taken is an error that names the key.
    let again = config::from_toml(&text).unwrap();
    let taken =
        cli::run::bridge(again, Arc::new(|_| Ok(())), std::future::pending()).await.unwrap_err();
    assert!(taken.to_string().contains("http.listen"), "{taken}");
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let metrics = reqwest::get(format!("http://{listen}/metrics")).await.unwrap();
        let text = metrics.text().await.unwrap();
        let has = |line: &str| text.lines().any(|l| l == line);
        let measured = text.lines().any(|line| {
            let count =
                line.strip_prefix("octoprint2mqtt_publish_latency_seconds_count{printer=\"mk3\"} ");
            count.is_some_and(|count| count != "0")
        });
        if has("octoprint2mqtt_printer_connected{printer=\"mk3\"} 1")
            && has("octoprint2mqtt_broker_connected 1")
            && text.contains("octoprint2mqtt_printer_waiting{printer=\"mk3\"} ")
            && has("octoprint2mqtt_throttle_factor{printer=\"mk3\"} 1")
            && measured
        {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_says_how_a_print_ended_and_has_no_old_values_while_offline() {
    let mut world = World::one().await;
    world.stop().await;
    let (board, asked) = Board::new();
    let config = config::from_toml(&world.config).unwrap();
    let hub = Hub::start_shown(config, Arc::new(|_| Ok(())), Some((board.clone(), asked))).unwrap();
    let running = tokio::spawn(hub.run(std::future::pending()));
    let shown = async |what: &str, is: fn(&Card) -> bool| {
        let mut revision = board.revision();
        let seen = async {
            loop {
                let (_, cards) = board.since(0);
                match cards.into_iter().map(|update| update.card).find(is) {
                    Some(card) => return card,
                    None => revision.changed().await.unwrap(),
                }
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("{what}"))
    };
    let card = shown("readings", |card| card.online && card.temperatures.len() == 2).await;
    let heaters: Vec<&str> = card.temperatures.iter().map(|it| it.heater.as_str()).collect();
    assert_eq!(heaters, ["tool0", "bed"]);

    let file = json!({"name": "a.gcode", "path": "a.gcode", "origin": "local"});
    let mut failed = file.clone();
    failed["reason"] = json!("cancelled");
    let mark = world.watcher.mark();
    world.simulator().event("PrintStarted", file.clone());
    world.simulator().event("PrintCancelled", file);
    world.simulator().event("PrintFailed", failed);
    world.simulator().event("Home", Value::Null);
    world.watcher.wait_from(mark, "the last event", |s| s.topic == topic("event/Home")).await;
    let card = shown("an end", |card| card.last_event.is_some()).await;
    assert_eq!(card.last_event.as_deref(), Some("print_cancelled"));

    world.simulator().stop();
    let card = shown("an absence", |card| !card.online).await;
    assert_eq!((card.state.as_str(), card.completion, card.time_left), ("offline", None, None));
    assert!(card.temperatures.is_empty() && card.interval.is_none(), "{card:?}");
    running.abort();
}
