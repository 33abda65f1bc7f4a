//! Messages that a broker will not take, or that MQTT cannot carry: they cost themselves alone.

use std::time::Duration;

use crate::real::bridge::Bridge;
use crate::real::mosquitto::Mosquitto;
use crate::real::watcher::{Seen, Watcher};
use crate::real::{left_out, within};
use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};
use serde_json::{Value, json};

/// The guilty one is found by connections that end, with pauses between them.
const LONG: Duration = Duration::from_secs(180);

fn on(topic: &str) -> impl Fn(&Seen) -> bool {
    let topic = format!("octoprint2mqtt/{topic}");
    move |seen| seen.topic == topic
}

/// A broker, two printers, the bridge, and a subscriber.
struct Scene {
    broker: Mosquitto,
    /// `bad` is the printer whose OctoPrint sends what it should not.
    bad: Simulator,
    good: Simulator,
    watcher: Watcher,
    config: String,
    bridge: Bridge,
    _data: tempfile::TempDir,
    /// How many events each printer has sent that must arrive.
    sent: u64,
}

impl Scene {
    /// At this broker, with `more` in the configuration's table `mqtt`.
    async fn at(broker: Mosquitto, more: &str) -> Self {
        octoprint2mqtt::tls::install_provider();
        let bad = Simulator::start(SimulatorOptions::default()).await.unwrap();
        let good = Simulator::start(SimulatorOptions::default()).await.unwrap();
        let watcher = Watcher::start(broker.port).await;
        let data = tempfile::tempdir().unwrap();
        let mut config = format!(
            "data_dir = \"{}\"\n[outbox]\nsettle = \"0s\"\n[mqtt]\nurl = \"{}\"\n{more}\n",
            data.path().display(),
            broker.url()
        );
        for (id, simulator) in [("bad", &bad), ("good", &good)] {
            let url = simulator.url();
            config += &format!("[printers.{id}]\nurl = \"{url}\"\napi_key = \"SIMULATOR-KEY\"\n");
        }
        let bridge = Bridge::start(&config);
        let scene = Self { broker, bad, good, watcher, config, bridge, _data: data, sent: 0 };
        scene.online(0).await;
        scene
    }

    async fn online(&self, mark: usize) {
        for id in ["bad", "good"] {
            let topic = format!("octoprint2mqtt/{id}/availability");
            let online = |seen: &Seen| seen.topic == topic && seen.payload == "online";
            self.watcher.wait_from(mark, "the printer to be online", online).await;
        }
    }

    /// One event of each printer that must arrive.
    fn count(&mut self) {
        for simulator in [&self.good, &self.bad] {
            simulator.event("Counted", json!({"n": self.sent}));
        }
        self.sent += 1;
    }

    /// The numbers of one printer's events that have arrived, in order; those that came again say so.
    fn counted(&self, id: &str) -> Vec<u64> {
        let mut numbers = Vec::new();
        for seen in
            self.watcher.seen().iter().filter(|seen| on(&format!("{id}/event/Counted"))(seen))
        {
            let event = seen.json();
            let n = event["n"].as_u64().unwrap();
            if numbers.contains(&n) {
                assert!(event["_delayed"].is_u64(), "{n} came again and does not say so");
            } else {
                numbers.push(n);
            }
        }
        numbers
    }

    /// All events that must arrive do, in order, and commands are answered.
    async fn all_arrive(&self) {
        for id in ["good", "bad"] {
            let all: Vec<u64> = (0..self.sent).collect();
            let arrived = || async { (self.counted(id).len() >= all.len()).then_some(()) };
            let waited = tokio::time::timeout(LONG, within(LONG * 2, "all events", arrived)).await;
            assert!(
                waited.is_ok(),
                "{id}: {:?} of {}\n{}",
                self.counted(id),
                self.sent,
                self.log()
            );
            assert_eq!(self.counted(id), all, "{id}");
        }
        // A command that comes between two connections is lost: by now the last one is there.
        for id in ["good", "bad"] {
            let mark = self.watcher.mark();
            self.watcher.publish(&format!("octoprint2mqtt/{id}/set/rate"), "auto", false).await;
            self.watcher.wait_from(mark, "the answer", on(&format!("{id}/result"))).await;
        }
    }

    /// What the bridge has logged, without what is none of a person's business.
    fn log(&self) -> String {
        let log = self.bridge.log();
        log.lines().map(|line| format!("{line:.800}\n")).collect()
    }

    /// The log names this topic with its size and the likely cause, and blames no other client.
    fn blames(&self, topic: &str) {
        let log = self.log();
        let says = |line: &&str| {
            line.contains(topic) && line.contains("bytes=") && line.contains("max_packet_size")
        };
        assert!(log.lines().any(|line| says(&line)), "{log}");
        assert!(!log.contains("another client"), "{log}");
    }

    async fn restart_bridge(&mut self) {
        self.bridge.process.signal("TERM");
        assert_eq!(self.bridge.process.ended().await, Some(0), "{}", self.bridge.log());
        let mark = self.watcher.mark();
        self.bridge = Bridge::start(&self.config);
        self.online(mark).await;
    }
}

/// Names that MQTT cannot carry in a topic, or that make one too long: each arrives under another.
async fn names(broker: Mosquitto) {
    let mut scene = Scene::at(broker, "").await;
    scene.count();
    let long = "n".repeat(70_000);
    for name in ["X\u{fffe}", "X\u{fdd0}", "X\u{1ffff}", "X\u{0}", "X\u{85}", "", long.as_str()] {
        scene.bad.event(name, json!({"name": name}));
        scene.bad.plugin(name, json!({"name": name}));
        let message = json!([{ name: {"name": name} }]);
        scene.bad.raw(&format!("a{message}"));
        scene.count();
    }
    // A heater of that name, until it is taken for one.
    for n in 0..20 {
        let temps = json!([{"time": n, long.as_str(): {"actual": n, "target": 0}, "X\u{fffe}": {"actual": n, "target": 0}}]);
        scene.bad.raw(&format!("a{}", json!([{"current": {"temps": temps}}])));
    }
    scene.count();
    scene.all_arrive().await;
    let seen = scene.watcher.seen();
    let carried = |name: &str| {
        let of = |seen: &&Seen| {
            seen.topic.starts_with("octoprint2mqtt/bad/event/") && seen.json()["_event"] == *name
        };
        seen.iter().find(of).unwrap_or_else(|| panic!("no event {name:.10?}")).topic.clone()
    };
    assert_eq!(carried("X\u{fffe}"), "octoprint2mqtt/bad/event/X_");
    assert_eq!(carried(""), "octoprint2mqtt/bad/event/_");
    let cut = carried(&long);
    let segment = cut.strip_prefix("octoprint2mqtt/bad/event/").unwrap();
    assert!(segment.len() < 220 && segment.starts_with("nnn"), "{segment}");
    assert!(seen.iter().all(|seen| seen.topic.len() <= 1000), "a topic is too long");
    assert!(!scene.log().contains("another client"), "{}", scene.log());
}

/// An event that the broker would not take, of which the bridge knows that: `_oversize` instead.
async fn oversize_is_reported(broker: Mosquitto, more: &str, size: usize) {
    let mut scene = Scene::at(broker, more).await;
    scene.count();
    let padding = "x".repeat(size);
    scene.bad.event("Huge", json!({"padding": padding}));
    scene.bad.plugin("huge", json!({"padding": padding}));
    scene.bad.raw(&format!("a{}", json!([{"huge": {"padding": padding}}])));
    scene.bad.event("PrintStarted", json!({"name": padding, "path": padding}));
    scene.count();
    scene.all_arrive().await;
    let first = |topic: &str| {
        let seen = scene.watcher.seen();
        let first = seen.iter().find(|seen| on(topic)(seen));
        first.unwrap_or_else(|| panic!("no {topic}")).json()
    };
    let event = first("bad/event/Huge");
    assert_eq!(event["_event"], "Huge");
    assert!(event["_timestamp"].is_u64(), "{event}");
    for told in [&event, &first("bad/plugin/huge"), &first("bad/message/huge")] {
        assert!(told["_oversize"].as_u64() > Some(size as u64), "{told}");
        assert_eq!(told["padding"], Value::Null);
    }
    let print = first("bad/print");
    assert_eq!(print["event_type"], "print_started", "it is made whole");
    assert!(
        print["file"].as_str().is_some_and(|file| file.len() <= 1100 && file.starts_with("xxx"))
    );
    scene.blames("event/Huge");
    // On one connection: nothing was tried that the broker refuses.
    let seen = scene.watcher.seen();
    let births = |seen: &&Seen| seen.topic == "octoprint2mqtt/bridge/state" && !seen.retained;
    assert_eq!(seen.iter().filter(births).count(), 1, "{}", scene.log());
}

/// An event that the broker does not take, of which the bridge did not know: it is found out, while
/// it is sent live and again after a restart of all, from the data directory.
async fn guilty_is_found(broker: Mosquitto, more: &str, size: usize) {
    let mut scene = Scene::at(broker, more).await;
    let huge = json!({"padding": "x".repeat(size)});
    for _ in 0..5 {
        scene.count();
    }
    scene.bad.event("Huge", huge.clone());
    for _ in 0..5 {
        scene.count();
    }
    scene.all_arrive().await;
    scene.blames("event/Huge");

    // It waits in the data directory among others, and everything is restarted.
    scene.broker.kill();
    scene.count();
    scene.bad.event("Enormous", huge);
    scene.count();
    // By then the last one is on the disk.
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.bridge.process.signal("TERM");
    assert_eq!(scene.bridge.process.ended().await, Some(0), "{}", scene.log());
    let mark = scene.watcher.mark();
    scene.broker.run().await;
    scene.bridge = Bridge::start(&scene.config);
    scene.online(mark).await;
    scene.count();
    scene.all_arrive().await;
    scene.blames("event/Enormous");
    // It is over: nothing of it is left for the next start.
    scene.restart_bridge().await;
    scene.count();
    scene.all_arrive().await;
    assert!(!scene.log().contains("Enormous"), "it was dropped for good: {}", scene.log());
}

/// What a broker takes, in the words of its own configuration.
const SMALL: &str = "allow_anonymous true\nmax_packet_size 100000\nsys_interval 1\n";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn names_that_no_topic_can_carry_stop_no_message() {
    names(Mosquitto::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn an_oversize_message_is_replaced_by_a_report() {
    let broker = Mosquitto::with_options(SMALL).await;
    oversize_is_reported(broker, "max_packet_size = \"95KB\"", 150_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn a_message_that_the_broker_does_not_take_is_found_and_dropped() {
    guilty_is_found(Mosquitto::with_options(SMALL).await, "", 150_000).await;
}

/// Mosquitto 2.1, or a word that it is not there.
async fn mosquitto_2_1(test: &str) -> Option<Mosquitto> {
    let broker = Mosquitto::start_2_1().await;
    if broker.is_none() {
        left_out(test, "Mosquitto 2.1 is not installed: ./tests/run --long real");
    }
    broker
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto 2.1: ./tests/run --long real"]
async fn long_names_that_no_topic_can_carry_with_mosquitto_2_1() {
    if let Some(broker) = mosquitto_2_1("names").await {
        names(broker).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto 2.1: ./tests/run --long real"]
async fn long_oversize_messages_with_mosquitto_2_1_as_shipped() {
    if let Some(broker) = mosquitto_2_1("oversize messages").await {
        oversize_is_reported(broker, "", 2_100_000).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto 2.1: ./tests/run --long real"]
async fn long_messages_that_mosquitto_2_1_does_not_take() {
    if let Some(broker) = mosquitto_2_1("messages that it does not take").await {
        guilty_is_found(broker, "max_packet_size = \"5MB\"", 2_100_000).await;
    }
}
