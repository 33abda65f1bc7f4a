//! A print ends while the broker, Home Assistant, the bridge or the line between them is away: each
//! automation fires exactly once.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::real::bridge::{Bridge, config_as_shipped};
use super::real::homeassistant::HomeAssistant;
use super::real::mosquitto::Mosquitto;
use super::real::octoprint::OctoPrint;
use super::real::proxy::Proxy;
use super::real::watcher::{Seen, Watcher, up_for};
use super::real::within;
use super::topic;

/// What waits may wait for the broker, for Home Assistant's start, and for a busy machine.
const LONG: Duration = Duration::from_secs(150);
const HEALTH: &str = "octoprint2mqtt/bridge/health";
/// The kinds that the automations listen to, and the verb of each device trigger.
const KINDS: &[(&str, &str)] =
    &[("print_started", "started"), ("print_done", "finished"), ("print_cancelled", "cancelled")];

/// A printer with Home Assistant, where one automation listens to the event entity and one to device
/// triggers, and each writes down what it was fired by.
struct Scene {
    broker: Mosquitto,
    line: Proxy,
    octoprint: OctoPrint,
    watcher: Watcher,
    home: HomeAssistant,
    bridge: Option<Bridge>,
    config: String,
    _data: tempfile::TempDir,
    /// How often each kind is to have fired each automation.
    expected: Vec<&'static str>,
}

fn online(seen: &Seen) -> bool {
    seen.topic == "octoprint2mqtt/bridge/state" && seen.payload == "online"
}

fn birth(seen: &Seen) -> bool {
    seen.topic == "homeassistant/status" && seen.payload == "online"
}

fn will(seen: &Seen) -> bool {
    seen.topic == "homeassistant/status" && seen.payload == "offline"
}

fn is_print(kind: &str) -> impl Fn(&Seen) -> bool {
    let topic = topic("print");
    move |seen| seen.topic == topic && seen.json()["event_type"] == *kind
}

fn is_event(kind: &str) -> impl Fn(&Seen) -> bool {
    let topic = topic(&format!("event/{kind}"));
    move |seen| seen.topic == topic
}

impl Scene {
    /// Starts all of it, with nothing of the configuration changed that this is about.
    async fn start() -> Self {
        let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
        // As long as the test needs them, and ten seconds.
        octoprint.upload("long.gcode", 6000).await;
        octoprint.upload("short.gcode", 100).await;
        let line = Proxy::start(broker.port).await;
        let watcher = Watcher::start(broker.port).await;
        let data = tempfile::tempdir().unwrap();
        let text =
            config_as_shipped(&line.url("mqtt"), &octoprint.url(), "name = \"Prusa MK3S\"\n");
        let text = format!("data_dir = \"{}\"\n{text}", data.path().display());
        let bridge = Some(Bridge::start(&text));
        let home = HomeAssistant::start(broker.port).await;
        home.is("sensor.prusa_mk3s_state", "operational").await;
        // The last of the bridge's own: an entity that Home Assistant adds while the broker is away is
        // an error in its log.
        home.is("sensor.octoprint_bridge_printers_printing", "0").await;
        watcher.wait("the birth of Home Assistant", birth).await;
        let scene = Self {
            broker,
            line,
            octoprint,
            watcher,
            home,
            bridge,
            config: text,
            _data: data,
            expected: Vec::new(),
        };
        scene.automate().await;
        scene
    }

    async fn automate(&self) {
        let write =
            |entry: &str| json!([{"action": "shell_command.diary", "data": {"entry": entry}}]);
        let event = json!({
            "alias": "By event", "mode": "queued", "max": 100, "conditions": [],
            "triggers": [{
                "trigger": "state", "entity_id": "event.prusa_mk3s_print",
                "not_from": "unavailable", "not_to": ["unavailable", "unknown"],
            }],
            "actions": write("event {{ trigger.to_state.attributes.event_type }}"),
        });
        let device = self.home.device("octoprint2mqtt_mk3").await.unwrap()["id"].clone();
        let trigger = |(_, verb): &(&str, &str)| json!({"trigger": "device", "domain": "mqtt", "device_id": device, "type": verb, "subtype": "Print"});
        let device = json!({
            "alias": "By device", "mode": "queued", "max": 100, "conditions": [],
            "triggers": KINDS.iter().map(trigger).collect::<Vec<_>>(),
            "actions": write("device {{ trigger.payload_json.event_type }}"),
        });
        self.home.automate("event", event).await;
        self.home.automate("device", device).await;
        self.home.is("automation.by_event", "on").await;
        self.home.is("automation.by_device", "on").await;
    }

    /// How often the automation `by` was fired by this kind.
    fn fired(&self, by: &str, kind: &str) -> usize {
        let entry = format!("{by} {kind}");
        self.home.diary().iter().filter(|written| **written == entry).count()
    }

    /// Waits until both automations were fired by one more of this kind, and by nothing twice.
    async fn fires(&mut self, kind: &'static str) {
        self.expected.push(kind);
        let expected = |kind: &str| self.expected.iter().filter(|k| **k == kind).count();
        let wanted = expected(kind);
        let heard = || async {
            (self.fired("event", kind) >= wanted && self.fired("device", kind) >= wanted)
                .then_some(())
        };
        let what = format!("automations to fire at {kind}");
        if tokio::time::timeout(LONG, within(LONG * 2, &what, heard)).await.is_err() {
            let log = self.bridge.as_ref().map(Bridge::log).unwrap_or_default();
            panic!("waited in vain for {what}: {:?}\n{log}", self.home.diary());
        }
        for (kind, _) in KINDS {
            for by in ["event", "device"] {
                assert_eq!(self.fired(by, kind), expected(kind), "{by} {kind}");
            }
        }
    }

    /// Begins a print, which both automations hear.
    async fn begin(&mut self, file: &str) {
        self.octoprint.select(file).await;
        self.octoprint.job(json!({"command": "start"})).await;
        self.fires("print_started").await;
        self.octoprint.until("Printing").await;
    }

    async fn cancel(&self) {
        self.octoprint.job(json!({"command": "cancel"})).await;
        self.octoprint.until("Operational").await;
    }

    /// One more print, from begin to end: who would fire twice has had the time for it by then.
    async fn one_more(&mut self) {
        self.begin("long.gcode").await;
        self.cancel().await;
        self.fires("print_cancelled").await;
    }

    /// The end of the print waits, for these at first; a command is answered meanwhile.
    async fn waits(&self, mark: usize, kind: &str, audience: &str) {
        let waits = |health: &Value| {
            let delivery = &health["delivery"];
            delivery["waits_for"] == *audience && delivery["for_home_assistant"] == 1
        };
        self.watcher.wait_json(mark, HEALTH, waits).await;
        let answer = self.watcher.command("rate", "auto").await;
        assert_eq!(answer["ok"], true, "{answer}");
        let seen = self.watcher.seen();
        assert!(!seen[mark..].iter().any(is_print(kind)), "{kind} should still wait");
    }

    /// The broker is down for `absence`, in which the print ends as `kind`.
    async fn broker_away(&mut self, absence: Duration, kind: &'static str) {
        let mark = self.watcher.mark();
        self.broker.kill();
        let gone = Instant::now();
        if kind == "print_cancelled" {
            self.cancel().await;
        } else {
            self.octoprint.until("Operational").await;
        }
        tokio::time::sleep_until((gone + absence).into()).await;
        self.broker.run().await;
        self.watcher.wait_from(mark, "the bridge to be back", online).await;
        self.waits(mark, kind, "subscribers").await;
        self.fires(kind).await;
        let print = self.watcher.wait_from(mark, kind, is_print(kind)).await;
        assert!(print.json()["_delayed"].is_u64(), "{}", print.payload);
    }

    /// What Home Assistant logged about the bridge, but for entities that it failed to add once and has
    /// now: it may fail while it is busy and its broker goes away, and adds them with the next discovery.
    async fn complaints(&self) -> Vec<String> {
        let registry = self.home.ask(json!({"type": "config/entity_registry/list"})).await;
        let states = self.home.states().await;
        let is_alive = |entity: &Value| {
            let is_it = |state: &&Value| state["entity_id"] == entity["entity_id"];
            states.iter().find(is_it).is_some_and(|state| {
                state["state"] != "unavailable" && state["attributes"]["restored"].is_null()
            })
        };
        let was_added = |line: &String| {
            let id = line.split("'unique_id': '").nth(1).and_then(|rest| rest.split('\'').next());
            let entities = registry.as_array().into_iter().flatten();
            line.contains("Exception in _async_setup_entity_entry_from_discovery")
                && entities.filter(|entity| entity["unique_id"].as_str() == id).any(is_alive)
        };
        let mut complaints = self.home.complaints();
        complaints.retain(|line| !was_added(line));
        complaints
    }

    async fn stop_bridge(&mut self) {
        let mut bridge = self.bridge.take().unwrap();
        bridge.process.signal("TERM");
        assert_eq!(bridge.process.ended().await, Some(0), "{}", bridge.log());
    }

    fn start_bridge(&mut self) {
        self.bridge = Some(Bridge::start(&self.config));
    }

    /// Where among what was seen from `mark` on the first such message is.
    fn place(&self, mark: usize, what: &str, matches: impl Fn(&Seen) -> bool) -> usize {
        let seen = self.watcher.seen();
        seen[mark..].iter().position(matches).unwrap_or_else(|| panic!("no {what}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Home Assistant, OctoPrint and Mosquitto: ./tests/run homeassistant"]
async fn delivery_after_a_broker_that_was_away_for_a_moment() {
    let mut scene = Scene::start().await;
    for seconds in [1, 4] {
        scene.begin("long.gcode").await;
        scene.broker_away(Duration::from_secs(seconds), "print_cancelled").await;
    }
    scene.one_more().await;
    assert_eq!(scene.complaints().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Home Assistant, OctoPrint and Mosquitto: ./tests/run homeassistant"]
async fn delivery_after_a_broker_that_was_away_for_long() {
    let mut scene = Scene::start().await;
    scene.begin("short.gcode").await;
    scene.broker_away(Duration::from_secs(40), "print_done").await;
    scene.one_more().await;
    assert_eq!(scene.complaints().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Home Assistant, OctoPrint and Mosquitto: ./tests/run homeassistant"]
async fn delivery_after_home_assistant_was_restarted_and_after_a_line_that_was_cut() {
    let mut scene = Scene::start().await;
    scene.begin("long.gcode").await;
    let mark = scene.watcher.mark();
    scene.home.stop().await;
    scene.watcher.wait_from(mark, "the will of Home Assistant", will).await;
    scene.cancel().await;
    // Other programs do not wait for Home Assistant.
    let event = scene.watcher.wait_from(mark, "PrintCancelled", is_event("PrintCancelled")).await;
    assert_eq!(event.json()["_delayed"], Value::Null, "{}", event.payload);
    scene.waits(mark, "print_cancelled", "home_assistant").await;
    scene.home.run().await;
    scene.fires("print_cancelled").await;
    let told = scene.place(mark, "print", is_print("print_cancelled"));
    assert!(scene.place(mark, "birth", birth) < told, "it waits for the birth");
    scene.one_more().await;

    // From here on, what waits at all does not come before the test has lost its patience. A broker
    // that has been up for two minutes was not started together with the bridge.
    scene.stop_bridge().await;
    up_for(scene.broker.port, Duration::from_secs(121)).await;
    scene.config += "[outbox]\nsettle = \"1h\"\n[homeassistant]\nwait = \"1h\"\n";
    let mark = scene.watcher.mark();
    scene.start_bridge();
    scene.watcher.wait_from(mark, "the bridge to be back", online).await;
    scene.begin("long.gcode").await;
    // The broker's word that it has the beginning is through before its line is cut: an answer to a
    // command comes behind it. Else it would be sent once more, which is right, and not the matter here.
    let answer = scene.watcher.command("rate", "auto").await;
    assert_eq!(answer["ok"], true, "{answer}");
    let mark = scene.watcher.mark();
    scene.line.refuse(true);
    scene.line.cut();
    let gone = Instant::now();
    scene.cancel().await;
    tokio::time::sleep_until((gone + Duration::from_secs(20)).into()).await;
    scene.line.refuse(false);
    scene.watcher.wait_from(mark, "PrintCancelled", is_event("PrintCancelled")).await;
    scene.fires("print_cancelled").await;
    let seen = scene.watcher.seen();
    let waited = |s: &&Seen| s.topic == HEALTH && s.json()["delivery"]["waits_for"].is_string();
    assert!(seen[mark..].iter().find(waited).is_none(), "nothing waits");
    let mark = scene.watcher.mark();
    scene.one_more().await;
    for kind in ["print_started", "print_cancelled"] {
        let print = scene.watcher.wait_from(mark, kind, is_print(kind)).await;
        assert_eq!(print.json()["_delayed"], Value::Null, "{}", print.payload);
    }
    assert_eq!(scene.complaints().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Home Assistant, OctoPrint and Mosquitto: ./tests/run homeassistant"]
async fn delivery_after_everything_was_restarted() {
    let mut scene = Scene::start().await;
    // The bridge sees the end, and persists it over its restart.
    scene.begin("long.gcode").await;
    scene.broker.kill();
    scene.cancel().await;
    scene.stop_bridge().await;
    scene.home.stop().await;
    let mark = scene.watcher.mark();
    scene.broker.run().await;
    scene.start_bridge();
    // Home Assistant takes its time: whoever does not need it has heard of the end before.
    scene.watcher.wait_from(mark, "PrintCancelled", is_event("PrintCancelled")).await;
    scene.waits(mark, "print_cancelled", "home_assistant").await;
    scene.home.run().await;
    scene.fires("print_cancelled").await;
    let told = scene.place(mark, "print", is_print("print_cancelled"));
    assert!(scene.place(mark, "birth", birth) < told, "it waits for the birth");

    // Nobody sees the end, and the bridge finds out afterwards.
    scene.begin("long.gcode").await;
    scene.stop_bridge().await;
    scene.cancel().await;
    scene.home.stop().await;
    scene.broker.kill();
    let mark = scene.watcher.mark();
    scene.broker.run().await;
    scene.start_bridge();
    let event = scene.watcher.wait_from(mark, "PrintCancelled", is_event("PrintCancelled")).await;
    assert_eq!(event.json()["_recovered"], true, "{}", event.payload);
    scene.waits(mark, "print_cancelled", "home_assistant").await;
    scene.home.run().await;
    scene.fires("print_cancelled").await;
    let print = scene.watcher.wait_from(mark, "print", is_print("print_cancelled")).await;
    assert_eq!(print.json()["_recovered"], true, "{}", print.payload);
    scene.one_more().await;
    assert_eq!(scene.complaints().await, Vec::<String>::new());
}
