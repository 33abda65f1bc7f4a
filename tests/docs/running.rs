//! The chapters on topics, commands and metrics, held against a bridge that runs between a
//! simulated OctoPrint and the embedded broker.

#[path = "../real/in_process.rs"]
mod in_process;
#[path = "../real/watcher.rs"]
#[allow(dead_code, reason = "the tests with real programs use the rest")]
mod watcher;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use in_process::InProcess;
use octoprint2mqtt::cli::demo;
use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};
use octoprint2mqtt::topics::{BridgeTopics, PrinterTopics};
use octoprint2mqtt::{config, tls};
use serde_json::{Value, json};
use watcher::{Watcher, retained};

use super::book::{chapter, code, only_code, rows, same};

const PATIENCE: Duration = Duration::from_secs(60);
const TOPICS: &str = "reference/topics";
const COMMANDS: &str = "reference/commands";
const METRICS: &str = "reference/metrics";

/// An entity of the user's own, with the key that stands for all of them.
const ENTITY: &str = "[printers.p.entities.light]\ntype = \"switch\"\non = { gcode = [\"M355 S1\"] }\noff = { gcode = [\"M355 S0\"] }\n";

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A bridge with one printer, `P`, below `B`.
struct World {
    port: u16,
    http: u16,
    watcher: Watcher,
    simulator: Simulator,
    bridge: InProcess,
}

impl World {
    /// All groups of commands are allowed, or none.
    async fn start(allowed: bool) -> Self {
        tls::install_provider();
        let (port, http) = (free_port(), free_port());
        tokio::task::spawn_blocking(move || demo::start_broker(port)).await.unwrap().unwrap();
        let watcher = Watcher::start(port).await;
        // A print takes longer than its file is read after its start.
        let options = SimulatorOptions { print_loop: true, speed: 2.0, ..Default::default() };
        let simulator = Simulator::start(options).await.unwrap();
        let groups =
            ["bridge", "job", "temperature", "motion", "connection", "power", "gcode", "system"];
        let groups = groups.map(|group| format!("{group} = {allowed}")).join(", ");
        let text = format!(
            "[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\nbase_topic = \"B\"\n[outbox]\nsettle = \"0s\"\n[http]\nlisten = \"127.0.0.1:{http}\"\n[printers.p]\nurl = \"{}\"\napi_key = \"SIMULATOR-KEY\"\ncommands = {{ {groups} }}\nmaintenance = {{ nozzle = \"1 prints\" }}\n{ENTITY}",
            simulator.url()
        );
        let config = config::from_toml(&text).unwrap();
        let bridge = InProcess::start(config);
        watcher.wait("online", |s| s.topic == "B/p/availability" && s.payload == "online").await;
        Self { port, http, watcher, simulator, bridge }
    }

    async fn end(self) {
        self.bridge.stop().await;
    }

    async fn answer(&self, command: &str) -> Value {
        self.answer_to(command, "x").await
    }

    async fn answer_to(&self, command: &str, payload: &str) -> Value {
        let mark = self.watcher.mark();
        self.watcher.publish(&format!("B/p/set/{command}"), payload, false).await;
        let is_its = |result: &Value| result["command"] == *command;
        self.watcher.wait_json(mark, "B/p/result", is_its).await
    }

    async fn request(&self, name: &str, payload: &str) -> Value {
        let mark = self.watcher.mark();
        self.watcher.publish(&format!("B/bridge/request/{name}"), payload, false).await;
        self.watcher.wait_json(mark, &format!("B/bridge/response/{name}"), |_| true).await
    }
}

/// A topic of the chapter: whether it is retained, and its payload's description.
type Documented = BTreeMap<String, (bool, String)>;

fn documented() -> Documented {
    let rows = rows(TOPICS, ["topic", "retained", "payload"]);
    let row = |[topic, retained, payload]: [String; 3]| {
        let is_retained = match retained.as_str() {
            "yes" => true,
            "no" => false,
            other => panic!("{topic}: retained is {other:?}"),
        };
        (only_code(&topic), (is_retained, payload))
    };
    rows.into_iter().map(row).collect()
}

/// Whether a topic is one that `pattern` stands for: `<…>` stands for one level.
fn matches(pattern: &str, topic: &str) -> bool {
    let topic = topic.replace("B/p/", "B/P/");
    let (pattern, topic): (Vec<_>, Vec<_>) =
        (pattern.split('/').collect(), topic.split('/').collect());
    pattern.len() == topic.len()
        && pattern.iter().zip(topic).all(|(level, there)| level.starts_with('<') || *level == there)
}

/// The row of a topic: the one that names it, else the one with a level that stands for it.
fn row_of<'d>(documented: &'d Documented, topic: &str) -> Option<&'d str> {
    let fits = documented.keys().filter(|pattern| matches(pattern, topic));
    fits.min_by_key(|pattern| pattern.matches('<').count()).map(String::as_str)
}

/// The keys that a payload is documented to have: those in the first `{…}`, which are always there,
/// and all that stand in backticks.
fn keys(payload: &str) -> Option<(BTreeSet<String>, BTreeSet<String>)> {
    let spans = code(payload);
    let object = spans.first().filter(|span| span.starts_with('{') && !span.contains('…'))?;
    let always: BTreeSet<String> =
        object.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    let mentioned = always.iter().cloned().chain(spans).collect();
    Some((always, mentioned))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_topic_that_is_published_is_listed_and_every_listed_one_is_published() {
    let documented = documented();
    let world = World::start(true).await;
    // At QoS 0, the history of the first connection may be lost; the next one has another.
    let mark = world.watcher.mark();
    world.simulator.drop_sockets();
    world.watcher.reconnected(mark, "B/p").await;
    world.simulator.plugin("psu", json!({"on": true}));
    let prompt = json!({"action": "show", "text": "Which?", "choices": ["A", "B"]});
    world.simulator.plugin("action_command_prompt", prompt);
    world.simulator.raw("a[{\"tomorrow\":{}}]");
    world.simulator.event("MovieDone", json!({"movie_basename": "a.mp4"}));
    world.simulator.event("PrintDone", json!({"name": "other.gcode", "path": "other.gcode"}));
    world.answer("home").await;
    world.answer_to("snapshot", "all").await;
    world.request("info", "").await;
    let bases = |topic: &str| {
        topic.starts_with("B/") && !topic.contains("/set/") && !topic.contains("/request/")
    };
    let deadline = Instant::now() + PATIENCE;
    let seen = loop {
        let seen: Vec<_> = world.watcher.seen().into_iter().filter(|s| bases(&s.topic)).collect();
        let rows: BTreeSet<_> = seen.iter().filter_map(|s| row_of(&documented, &s.topic)).collect();
        if rows.len() == documented.len() {
            break seen;
        }
        let unseen: Vec<_> = documented.keys().filter(|row| !rows.contains(row.as_str())).collect();
        assert!(Instant::now() < deadline, "documented, and never published: {unseen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    for message in &seen {
        let topic = &message.topic;
        let row = row_of(&documented, topic).unwrap_or_else(|| panic!("{topic} is not documented"));
        let Some((always, mentioned)) = keys(&documented[row].1) else { continue };
        // What is cleared has an empty payload.
        if let Value::Object(object) = message.json() {
            let had: BTreeSet<String> = object.keys().cloned().collect();
            assert!(
                always.is_subset(&had),
                "{topic}: {always:?} are documented, {had:?} are there"
            );
            let odd: Vec<_> = had
                .iter()
                .filter(|key| !mentioned.contains(*key) && !key.starts_with('_'))
                .collect();
            assert!(odd.is_empty(), "{topic}: {odd:?} are not documented");
        }
    }
    let kept: BTreeSet<String> =
        retained(world.port).await.into_keys().filter(|t| bases(t)).collect();
    let kept: BTreeSet<String> =
        kept.iter().filter_map(|topic| row_of(&documented, topic)).map(str::to_owned).collect();
    let said = documented.iter().filter(|(_, (retained, _))| *retained);
    same("retained topics", &said.map(|(topic, _)| topic.clone()).collect(), &kept);
    world.end().await;
}

/// The topics of the code that no run may have published, such as a new one that is rare.
#[test]
fn every_topic_that_the_code_names_is_listed() {
    let documented = documented();
    let text = format!("{:?} {:?}", PrinterTopics::new("B", "P"), BridgeTopics::new("B"));
    let quoted = text.split('"').skip(1).step_by(2);
    let named: Vec<&str> = quoted.filter(|topic| !["B/P", "B/bridge"].contains(topic)).collect();
    assert!(named.len() > 15, "{text}");
    for topic in named {
        assert!(documented.contains_key(topic), "{topic} is not documented");
    }
}

#[test]
fn topics_that_are_read_are_listed() {
    let listed: BTreeSet<String> =
        rows(TOPICS, ["topic", "see"]).iter().map(|[topic, _]| only_code(topic)).collect();
    let printer = PrinterTopics::new("B", "P");
    let own = BridgeTopics::new("B");
    let config = config::from_toml("[printers.p]\nurl = \"http://h\"\napi_key = \"k\"\n").unwrap();
    let home = config.without_secrets()["homeassistant"].clone();
    let text = |key: &str| home[key].as_str().unwrap().to_owned();
    let existing = [
        printer.command_filter().replace('#', "<command>"),
        own.request_filter().replace('+', "<name>"),
        BridgeTopics::marker("B").to_string(),
        BridgeTopics::info_filter("B"),
        BridgeTopics::state_filter("B"),
        text("status_topic"),
        format!("{}/device/+/config", text("discovery_prefix")),
        "$SYS/broker/uptime".to_owned(),
    ];
    same("topics that are read", &listed, &existing.into());
}

/// The names after `known are ` in an error.
fn known(error: &Value) -> BTreeSet<String> {
    let text = error.as_str().unwrap_or_default();
    let (_, names) = text.split_once("known are ").unwrap_or_else(|| panic!("{text}"));
    names.split(", ").map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_and_its_group_is_listed() {
    let world = World::start(false).await;
    let listed = rows(COMMANDS, ["command", "group"]);
    let names: BTreeSet<String> = listed.iter().map(|[name, _]| only_code(name)).collect();
    assert_eq!(names.len(), listed.len(), "a command is listed twice");
    same(COMMANDS, &names, &known(&world.answer("nonsense").await["error"]));
    for [name, group] in listed {
        let name = only_code(&name).replace("<heater>", "bed").replace("<key>", "light");
        let answer = world.answer(&name).await;
        let told = format!("commands.{} = true", only_code(&group));
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(error.contains(&told), "{name} is not of this group: {answer}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_listed() {
    let world = World::start(true).await;
    let listed = rows(COMMANDS, ["request", "answer"]);
    let names: BTreeSet<String> = listed.iter().map(|[name, _]| only_code(name)).collect();
    same(COMMANDS, &names, &known(&world.request("nonsense", "").await["error"]));
    for name in names {
        let value = if name == "history" { "p" } else { "debug" };
        let answer = world.request(&name, value).await;
        // The bridge of this test is not the one of a file, so that it has no printers to add.
        let is_of_pairing = ["discover", "pair", "remove"].contains(&name.as_str());
        let refused =
            answer["error"].as_str().is_some_and(|error| error.contains("pairing = true"));
        assert_eq!(
            (answer["status"] == "ok", refused),
            (!is_of_pairing, is_of_pairing),
            "{answer}"
        );
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_listed_with_its_type_and_labels() {
    let world = World::start(true).await;
    let url = format!("http://127.0.0.1:{}/metrics", world.http);
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let existing = kinds.map(|(name, kind)| {
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        let is_labelled = |line: &str| line.starts_with(&name) && line.contains("printer=\"p\"");
        let label = if text.lines().any(is_labelled) { "printer" } else { "" };
        format!("{name} {kind} {label}")
    });
    let listed = rows(METRICS, ["metric", "type", "labels"]);
    let listed = listed.iter().map(|[name, kind, labels]| {
        format!("{} {kind} {}", only_code(name), code(labels).join(", "))
    });
    same(METRICS, &listed.collect(), &existing.collect());
    assert!(chapter(METRICS).contains("/health"));
    world.end().await;
}
