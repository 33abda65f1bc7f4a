//! The bridge at brokers of several makes, with a simulated OctoPrint.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

mod real;

use std::collections::BTreeSet;

use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};
use real::bridge::{Bridge, run};
use real::brokers::Broker;
use real::homeassistant::HomeAssistant;
use real::proxy::Proxy;
use real::watcher::{Seen, Watcher, retained};
use real::{eventually, left_out};
use serde_json::{Value, json};

const HOME: &str = "homeassistant/device/octoprint2mqtt_";
const BIRTH: &str = "homeassistant/status";
const STATE: &str = "octoprint2mqtt/bridge/state";
/// What is retained of a bridge and its printer, among other things.
const RETAINED: &[&str] = &[
    "homeassistant/device/octoprint2mqtt_bridge/config",
    "homeassistant/device/octoprint2mqtt_mk3/config",
    "octoprint2mqtt/bridge/health",
    "octoprint2mqtt/bridge/info",
    STATE,
    "octoprint2mqtt/mk3/availability",
    "octoprint2mqtt/mk3/connection",
    "octoprint2mqtt/mk3/factors",
    "octoprint2mqtt/mk3/job",
    "octoprint2mqtt/mk3/message/connected",
    "octoprint2mqtt/mk3/position",
    "octoprint2mqtt/mk3/printer",
    "octoprint2mqtt/mk3/progress",
    "octoprint2mqtt/mk3/resends",
    "octoprint2mqtt/mk3/server",
    "octoprint2mqtt/mk3/socket",
    "octoprint2mqtt/mk3/storage",
    "octoprint2mqtt/mk3/temperature/bed",
    "octoprint2mqtt/mk3/temperature/tool0",
];
/// What is retained beside that, once something has happened.
const RETAINED_LATER: &[&str] =
    &["octoprint2mqtt/mk3/last_command", "octoprint2mqtt/mk3/last_event"];

/// What the makes of brokers differ in.
#[derive(Clone, Copy)]
struct Make {
    /// A subscription with a wildcard yields what is retained.
    retains_for_wildcards: bool,
    names: Names,
}

/// What becomes of blanks and dots in topics.
#[derive(Clone, Copy)]
enum Names {
    /// They arrive.
    Kept,
    /// A dot arrives as a slash.
    DotsAreSlashes,
    /// The broker ends the connection.
    Refused,
}

const ALL: Make = Make { retains_for_wildcards: true, names: Names::Kept };

fn topic(rest: &str) -> String {
    format!("octoprint2mqtt/mk3/{rest}")
}

fn is(topic: &str, payload: &str) -> impl Fn(&Seen) -> bool {
    move |seen| seen.topic == topic && seen.payload == payload
}

struct World {
    make: Make,
    broker: Broker,
    /// The bridge's line to the broker.
    line: Proxy,
    watcher: Watcher,
    simulator: Simulator,
    config: String,
    bridge: Option<Bridge>,
    /// How many absences there were so far.
    absences: usize,
}

/// What a failed test is understood by.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let bridge = self.bridge.as_ref().map(Bridge::log).unwrap_or_default();
            println!("the bridge:\n{bridge}\nthe broker:\n{}", self.broker.log());
        }
    }
}

impl World {
    async fn start(make: Make, broker: Broker) -> Self {
        octoprint2mqtt::tls::install_provider();
        let watcher = Watcher::start(broker.port).await;
        let line = Proxy::start(broker.port).await;
        let simulator = Simulator::start(SimulatorOptions::default()).await.unwrap();
        let config = format!(
            "[mqtt]\nurl = \"{}\"\n[outbox]\nsettle = \"0s\"\n[printers.mk3]\nurl = \"{}\"\napi_key = \"SIMULATOR-KEY\"\n",
            line.url("mqtt"),
            simulator.url()
        );
        let mut world =
            Self { make, broker, line, watcher, simulator, config, bridge: None, absences: 0 };
        world.start_bridge().await;
        world
    }

    async fn start_bridge(&mut self) {
        let mark = self.watcher.mark();
        self.bridge = Some(Bridge::start(&self.config));
        self.watcher.wait_from(mark, "online", is(&topic("availability"), "online")).await;
        self.all_again(mark).await;
    }

    async fn stop_bridge(&mut self) {
        let mark = self.watcher.mark();
        let mut bridge = self.bridge.take().unwrap();
        bridge.process.signal("TERM");
        assert_eq!(bridge.process.ended().await, Some(0), "{}", bridge.log());
        self.watcher.wait_from(mark, "offline", is(STATE, "offline")).await;
    }

    fn log(&self) -> String {
        self.bridge.as_ref().unwrap().log()
    }

    /// All that is retained comes to those who are subscribed.
    async fn all_again(&self, mark: usize) {
        for topic in RETAINED {
            let there = |seen: &Seen| seen.topic == **topic && !seen.payload.is_empty();
            self.watcher.wait_from(mark, topic, there).await;
        }
    }

    async fn event(&self, mark: usize, kind: &str) -> Value {
        self.watcher.wait_json(mark, &topic(&format!("event/{kind}")), |_| true).await
    }

    /// Messages arrive, each on its topic, and none is changed on the way.
    async fn messages_arrive(&self) {
        let mark = self.watcher.mark();
        self.simulator.raw(r#"a[{"plugin":{"plugin":"psu","data":{ "on":true ,"x":1.50}}}]"#);
        let psu = topic("plugin/psu");
        let plugin = self.watcher.wait_from(mark, "psu", |seen| seen.topic == psu).await;
        assert_eq!(plugin.payload, r#"{ "on":true ,"x":1.50}"#);
        self.simulator.event("Home", json!({"of": "mk3"}));
        assert_eq!(self.event(mark, "Home").await["of"], "mk3");
        let config = format!("{HOME}mk3/config");
        let discovery = self.watcher.wait_json(0, &config, |_| true).await;
        assert!(discovery["components"].as_object().unwrap().len() > 30, "{discovery}");
    }

    /// Names of other programs' making: some brokers do not take what MQTT allows.
    async fn names_harm_no_message(&self) {
        let mark = self.watcher.mark();
        self.simulator.event("Filament Change v1.5", json!({"n": 1}));
        self.simulator.event("Home", json!({"after": "blanks"}));
        assert_eq!(self.event(mark, "Home").await["after"], "blanks");
        let arrives = match self.make.names {
            Names::Kept => topic("event/Filament Change v1.5"),
            Names::DotsAreSlashes => topic("event/Filament Change v1/5"),
            Names::Refused => {
                let dropped = "dropped an event that is rejected even without its payload";
                assert!(self.log().contains(dropped), "{}", self.log());
                return;
            }
        };
        let event = self.watcher.wait_json(mark, &arrives, |_| true).await;
        assert_eq!(event["_event"], "Filament Change v1.5", "{event}");
    }

    /// Whoever comes later has the state at once.
    async fn a_late_subscriber_has_the_state(&self) {
        let retained_topics = || RETAINED.iter().chain(RETAINED_LATER);
        if self.make.retains_for_wildcards {
            let late = Watcher::start(self.broker.port).await;
            for topic in retained_topics() {
                late.wait(topic, |seen| seen.topic == **topic && seen.retained).await;
            }
            return;
        }
        for topic in retained_topics() {
            let late = Watcher::of(self.broker.port, topic).await;
            late.wait(topic, |seen| seen.topic == **topic && seen.retained).await;
        }
        assert!(retained(self.broker.port).await.is_empty(), "else the book is wrong");
    }

    /// At its birth message Home Assistant gets everything.
    async fn a_birth_is_answered(&self) {
        let mark = self.watcher.mark();
        self.watcher.publish(BIRTH, "online", false).await;
        self.all_again(mark).await;
    }

    async fn commands_are_answered(&self) {
        let answer = self.watcher.command("temperature/bed", "40").await;
        assert_eq!((&answer["ok"], &answer["value"]), (&json!(true), &json!(40)), "{answer}");
        let refused = self.watcher.command("temperature/bed", "4000").await;
        assert_eq!(refused["ok"], false, "{refused}");
        // Retained by mistake: it runs, and is cleared.
        let mark = self.watcher.mark();
        let command = topic("set/temperature/bed");
        self.watcher.publish(&command, "50", true).await;
        let done = |result: &Value| result["value"] == 50;
        let done = self.watcher.wait_json(mark, &topic("result"), done).await;
        assert_eq!(done["ok"], true, "{done}");
        self.watcher.wait_from(mark, "the clearing", is(&command, "")).await;
    }

    /// A command that was retained while the bridge was off does not run.
    async fn a_stale_command_does_not_run(&mut self) {
        self.stop_bridge().await;
        let command = topic("set/temperature/bed");
        self.watcher.publish(&command, "77", true).await;
        self.watcher.wait("the stale command", is(&command, "77")).await;
        let mark = self.watcher.mark();
        self.start_bridge().await;
        if self.make.retains_for_wildcards {
            let refused = self.watcher.wait_json(mark, &topic("result"), |_| true).await;
            assert_eq!(refused["ok"], false, "{refused}");
            self.watcher.wait_from(mark, "the clearing", is(&command, "")).await;
        }
        assert_eq!(self.watcher.command("temperature/bed", "45").await["ok"], true);
        let commands = self.simulator.observed().commands;
        assert!(commands.iter().all(|(_, body)| body["target"] != 77.0), "{commands:?}");
    }

    /// Events of an absence: those of an earlier one may be repeated.
    fn hundred_events(&mut self) {
        self.absences += 1;
        for n in 0..100 {
            self.simulator.event("Numbered", json!({"absence": self.absences, "n": n}));
        }
    }

    /// All of them arrive, in order. One may be repeated.
    async fn all_arrive(&self, mark: usize) {
        let ours = |event: &Value| event["absence"] == self.absences;
        let numbered = topic("event/Numbered");
        let last = |event: &Value| ours(event) && event["n"] == 99;
        self.watcher.wait_json(mark, &numbered, last).await;
        let seen = self.watcher.seen();
        let events = seen[mark..].iter().filter(|seen| seen.topic == numbered).map(Seen::json);
        let mut first = BTreeSet::new();
        let numbers = events.filter(ours).map(|event| event["n"].as_u64().unwrap());
        let numbers: Vec<u64> = numbers.filter(|n| first.insert(*n)).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    }

    async fn nothing_is_lost_with_the_line(&mut self) {
        let mark = self.watcher.mark();
        self.line.refuse(true);
        self.line.cut();
        // The broker says it: its last will.
        self.watcher.wait_from(mark, "the last will", is(STATE, "offline")).await;
        self.hundred_events();
        self.line.refuse(false);
        self.watcher.wait_from(mark, "online", is(STATE, "online")).await;
        self.all_arrive(mark).await;
    }

    async fn nothing_is_lost_with_the_broker(&mut self) {
        let (mark, subscriptions) = (self.watcher.mark(), self.watcher.subscriptions());
        self.line.refuse(true);
        self.line.cut();
        self.broker.kill();
        self.hundred_events();
        self.broker.run().await;
        let watcher = &self.watcher;
        let back = || async { (watcher.subscriptions() > subscriptions).then_some(()) };
        eventually("the watcher to be back", back).await;
        self.line.refuse(false);
        self.watcher.wait_from(mark, "online", is(STATE, "online")).await;
        self.all_arrive(mark).await;
        self.all_again(mark).await;
        self.a_late_subscriber_has_the_state().await;
    }

    /// A message over the limit costs itself alone, and the largest one below it is no trouble.
    async fn large_messages_stop_no_other(&mut self) {
        let mark = self.watcher.mark();
        let large = |bytes: usize| json!({"text": "x".repeat(bytes)});
        self.simulator.plugin("over", large(3_000_000));
        self.simulator.plugin("large", large(1_800_000));
        self.hundred_events();
        let over = self.watcher.wait_json(mark, &topic("plugin/over"), |_| true).await;
        assert!(over["_oversize"].as_u64() > Some(3_000_000), "{over}");
        self.all_arrive(mark).await;
        let is_large = |seen: &Seen| seen.topic == topic("plugin/large");
        let arrived = self.watcher.wait_from(mark, "the large message", is_large).await;
        assert!(arrived.payload.len() > 1_800_000, "{:.100}", arrived.payload);
    }

    async fn the_last_will_is_published(&mut self) {
        let mark = self.watcher.mark();
        self.bridge = None;
        self.watcher.wait_from(mark, "the last will", is(STATE, "offline")).await;
        let late = Watcher::of(self.broker.port, STATE).await;
        late.wait("the last will, retained", |s| s.retained && s.payload == "offline").await;
    }

    /// A printer that is no longer configured is removed from Home Assistant, if the broker still has it.
    async fn printers_leave(&mut self) {
        let simulator = Simulator::start(SimulatorOptions::default()).await.unwrap();
        let url = simulator.url();
        let old = format!("[printers.old]\nurl = \"{url}\"\napi_key = \"SIMULATOR-KEY\"\n");
        let without = self.config.clone();
        self.config += &old;
        let mark = self.watcher.mark();
        self.start_bridge().await;
        let config = format!("{HOME}old/config");
        self.watcher
            .wait_json(mark, &config, |discovery| discovery["components"].is_object())
            .await;
        self.stop_bridge().await;
        self.config = without;
        let mark = self.watcher.mark();
        self.start_bridge().await;
        if self.make.retains_for_wildcards {
            self.watcher.wait_from(mark, "the removal", is(&config, "")).await;
        }
    }

    async fn the_commands_of_the_program_work(&mut self) {
        let (code, output) = run(&self.config, &["check"]).await;
        assert_eq!(code, Some(0), "{output}");
        self.stop_bridge().await;
        let mark = self.watcher.mark();
        let (code, output) = run(&self.config, &["discovery", "--remove"]).await;
        assert_eq!(code, Some(0), "{output}");
        self.watcher.wait_from(mark, "the removal", is(&format!("{HOME}mk3/config"), "")).await;
    }
}

/// All of it, at a broker of this make.
async fn everything_works(name: &str, make: Make, broker: Option<Broker>) {
    let Some(broker) = broker else {
        left_out(name, "not installed: ./tests/run --long brokers");
        return;
    };
    let mut world = World::start(make, broker).await;
    world.messages_arrive().await;
    world.commands_are_answered().await;
    world.a_late_subscriber_has_the_state().await;
    world.a_birth_is_answered().await;
    world.nothing_is_lost_with_the_line().await;
    world.nothing_is_lost_with_the_broker().await;
    world.a_stale_command_does_not_run().await;
    let log = world.log();
    assert!(!log.contains("ERROR"), "{log}");
    world.names_harm_no_message().await;
    world.large_messages_stop_no_other().await;
    world.the_last_will_is_published().await;
    world.printers_leave().await;
    world.the_commands_of_the_program_work().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run --long brokers"]
async fn mosquitto() {
    everything_works("Mosquitto", ALL, Broker::mosquitto().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto 2.1: ./tests/run --long brokers"]
async fn mosquitto_2_1() {
    everything_works("Mosquitto 2.1", ALL, Broker::mosquitto_2_1().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs NATS: ./tests/run --long brokers"]
async fn nats() {
    let make = Make { names: Names::Refused, ..ALL };
    everything_works("NATS", make, Broker::nats().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ: ./tests/run --long brokers"]
async fn rabbitmq() {
    let make = Make { retains_for_wildcards: false, names: Names::DotsAreSlashes };
    everything_works("RabbitMQ", make, Broker::rabbitmq().await).await;
}

/// Home Assistant subscribes with wildcards, to which RabbitMQ sends nothing that is retained.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ and Home Assistant: ./tests/run --long brokers"]
async fn rabbitmq_with_home_assistant() {
    let Some(broker) = Broker::rabbitmq().await else {
        left_out("RabbitMQ", "not installed: ./tests/run --long brokers");
        return;
    };
    let make = Make { retains_for_wildcards: false, names: Names::DotsAreSlashes };
    let world = World::start(make, broker).await;
    let mut home = HomeAssistant::start(world.broker.port).await;
    home.is("sensor.mk3_state", "operational").await;
    home.restart().await;
    home.is("sensor.mk3_state", "operational").await;
    home.is("binary_sensor.octoprint_bridge_state", "on").await;
    assert_eq!(home.complaints(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs aedes: ./tests/run --long brokers"]
async fn aedes() {
    everything_works("aedes", ALL, Broker::aedes().await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs amqtt: ./tests/run --long brokers"]
async fn amqtt() {
    everything_works("amqtt", ALL, Broker::amqtt().await).await;
}
