//! What waits for subscribers that are not back yet, and what does not wait: with a real broker, a
//! simulated OctoPrint, and a Home Assistant of which only the birth and the will are there.
//! `tests/homeassistant/delivery.rs` has the real one.

use std::path::Path;
use std::time::Duration;

use crate::real;
use crate::real::bridge::Bridge;
use crate::real::mosquitto::Mosquitto;
use crate::real::proxy::Proxy;
use crate::real::watcher::{Seen, Watcher, up_for};
use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};
use serde_json::{Value, json};

const STATUS: &str = "homeassistant/status";

fn topic(rest: &str) -> String {
    format!("octoprint2mqtt/mk3/{rest}")
}

/// A broker, the line to it, a printer, the bridge, and a subscriber that is always there.
struct Scene {
    broker: Mosquitto,
    line: Proxy,
    simulator: Simulator,
    watcher: Watcher,
    config: String,
    bridge: Option<Bridge>,
    _data: tempfile::TempDir,
    /// Number of prints that were started: each has its own name.
    prints: usize,
}

impl Scene {
    /// At this broker, with `sections` added to the configuration.
    async fn at(broker: Mosquitto, sections: &str) -> Self {
        octoprint2mqtt::tls::install_provider();
        let simulator = Simulator::start(SimulatorOptions::default()).await.unwrap();
        let line = Proxy::start(broker.port).await;
        let watcher = Watcher::start(broker.port).await;
        let data = tempfile::tempdir().unwrap();
        let config = format!(
            "data_dir = \"{}\"\n{sections}\n[mqtt]\nurl = \"{}\"\n[log]\nlevel = \"debug\"\n[printers.mk3]\nurl = \"{}\"\napi_key = \"SIMULATOR-KEY\"\n",
            data.path().display(),
            line.url("mqtt"),
            simulator.url(),
        );
        let mut scene =
            Self { broker, line, simulator, watcher, config, bridge: None, _data: data, prints: 0 };
        scene.start_bridge().await;
        scene
    }

    async fn with(sections: &str) -> Self {
        Self::at(Mosquitto::start().await, sections).await
    }

    /// Starts the bridge, and waits until the printer is there and commands are obeyed.
    async fn start_bridge(&mut self) {
        let mark = self.watcher.mark();
        self.bridge = Some(Bridge::start(&self.config));
        self.back(mark).await;
        let online = |s: &Seen| s.topic == topic("availability") && s.payload == "online";
        self.watcher.wait_from(mark, "the printer to be online", online).await;
    }

    async fn restart_bridge(&mut self) {
        let mut bridge = self.bridge.take().unwrap();
        bridge.process.signal("TERM");
        assert_eq!(bridge.process.ended().await, Some(0), "{}", bridge.log());
        self.start_bridge().await;
    }

    /// Waits until the bridge has come to the broker, and answers a command.
    async fn back(&self, mark: usize) {
        let online = |s: &Seen| s.topic == "octoprint2mqtt/bridge/state" && s.payload == "online";
        self.watcher.wait_from(mark, "the bridge to be online", online).await;
        self.answers().await;
    }

    async fn answers(&self) {
        let answer = self.watcher.command("rate", "auto").await;
        assert_eq!(answer["ok"], true, "{answer}");
    }

    /// Restarts the broker, does `meanwhile` before the bridge is let back to it, and waits for the
    /// bridge.
    async fn restart_broker(&mut self, meanwhile: impl AsyncFnOnce(&Self)) {
        self.line.refuse(true);
        self.broker.kill();
        let before = self.watcher.subscriptions();
        self.broker.run().await;
        real::eventually("the watcher to be back", || async {
            (self.watcher.subscriptions() > before).then_some(())
        })
        .await;
        meanwhile(self).await;
        let mark = self.watcher.mark();
        self.line.refuse(false);
        self.back(mark).await;
    }

    /// Cuts the line to the broker, which stays; does `meanwhile`; waits for the bridge.
    async fn cut_line(&mut self, meanwhile: impl AsyncFnOnce(&Self)) {
        self.line.refuse(true);
        self.line.cut();
        meanwhile(self).await;
        let mark = self.watcher.mark();
        self.line.refuse(false);
        self.back(mark).await;
    }

    /// A word of Home Assistant, which the bridge does not hear if its line is cut.
    async fn says(&self, status: &str, retain: bool) {
        let mark = self.watcher.mark();
        self.watcher.publish(STATUS, status, retain).await;
        let said = |s: &Seen| s.topic == STATUS && s.payload == status;
        self.watcher.wait_from(mark, "the word of Home Assistant", said).await;
    }

    /// The same while the bridge listens: it has heard it once it answers what came after it.
    async fn home_assistant(&self, status: &str) {
        self.says(status, false).await;
        self.answers().await;
    }

    /// Begins a print; returns the name of its file.
    fn begin(&mut self) -> String {
        self.prints += 1;
        let name = format!("{}.gcode", self.prints);
        self.simulator.event("PrintStarted", json!({"name": name, "path": name}));
        name
    }

    fn told(name: &str) -> impl Fn(&Seen) -> bool {
        let (topic, name) = (topic("print"), name.to_owned());
        move |seen| seen.topic == topic && seen.json()["file"] == *name
    }

    /// A print's beginning goes out at once: it does not say that it was held.
    async fn nothing_waits(&mut self) {
        let mark = self.watcher.mark();
        let name = self.begin();
        let print = self.watcher.wait_from(mark, "the print", Self::told(&name)).await;
        assert_eq!(print.json()["_delayed"], Value::Null, "{}", print.payload);
    }

    /// A print's beginning waits, while whoever needs no Home Assistant hears of it and commands are
    /// answered. Returns the name of its file.
    async fn waits(&mut self) -> String {
        let mark = self.watcher.mark();
        let name = self.begin();
        let event = topic("event/PrintStarted");
        let heard = |s: &Seen| s.topic == event && s.json()["name"] == *name;
        self.watcher.wait_from(mark, "the event", heard).await;
        self.answers().await;
        let seen = self.watcher.seen();
        assert!(!seen[mark..].iter().any(Self::told(&name)), "the print should wait");
        name
    }

    /// `bridge/health` says what the bridge has decided of Home Assistant.
    async fn decides(&self, word: &str) {
        let health = "octoprint2mqtt/bridge/health";
        let last = || async {
            let seen = self.watcher.seen();
            let last = seen.iter().rfind(|seen| seen.topic == health)?;
            (last.json()["delivery"]["home_assistant"] == *word).then_some(())
        };
        real::eventually(word, last).await;
    }

    /// What waited comes, and says that it is late.
    async fn comes(&self, name: &str, patience: Duration) {
        let came = || async { self.watcher.seen().into_iter().find(|seen| Self::told(name)(seen)) };
        let print = real::within(patience, "the print that waits", came).await;
        assert!(print.json()["_delayed"].is_u64(), "{}", print.payload);
    }
}

/// What waits for this long at all does not come before a test has lost its patience.
const HOUR: &str = "[outbox]\nsettle = \"1h\"\n[homeassistant]\nwait = \"1h\"\n";
/// Subscribers are not waited for, Home Assistant is.
const HOME_ALONE: &str = "[outbox]\nsettle = \"0s\"\n[homeassistant]\nwait = \"1h\"\n";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn a_subscriber_that_is_back_after_ten_seconds_gets_every_event() {
    let mut scene = Scene::with("").await;
    let last = |seen: &Seen| seen.topic == topic("event/Counted") && seen.json()["n"] == 99;
    scene.broker.kill();
    for n in 0..50 {
        scene.simulator.event("Counted", json!({ "n": n }));
        scene.simulator.plugin("counted", json!({ "n": n }));
        scene.simulator.raw(&format!("a[{{\"counted\":{{\"n\":{n}}}}}]"));
    }
    let before = scene.watcher.subscriptions();
    scene.broker.run().await;
    let mark = scene.watcher.mark();
    scene.back(mark).await;
    // What comes while the others wait stays behind them.
    for n in 50..100 {
        scene.simulator.event("Counted", json!({ "n": n }));
        scene.simulator.plugin("counted", json!({ "n": n }));
        scene.simulator.raw(&format!("a[{{\"counted\":{{\"n\":{n}}}}}]"));
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let late = Watcher::start(scene.broker.port).await;
    late.wait("the last event", last).await;
    for kind in ["event/Counted", "plugin/counted", "message/counted"] {
        let topic = topic(kind);
        let all = |seen: &[Seen]| -> Vec<u64> {
            let on = seen.iter().filter(|seen| seen.topic == topic);
            on.map(|seen| seen.json()["n"].as_u64().unwrap()).collect()
        };
        let came = || async { (all(&late.seen()).len() >= 100).then_some(()) };
        real::eventually(kind, came).await;
        assert_eq!(all(&late.seen()), (0..100).collect::<Vec<_>>(), "{kind}");
    }
    assert!(scene.watcher.subscriptions() > before, "the broker was away");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn nothing_waits_for_a_home_assistant_that_is_not_used() {
    // Once it was: that is remembered in the data directory, and counts no more.
    let mut scene = Scene::with(HOME_ALONE).await;
    scene.home_assistant("online").await;
    scene.home_assistant("offline").await;
    scene.waits().await;
    scene.config = scene.config.replace("[homeassistant]\n", "[homeassistant]\nenabled = false\n");
    scene.restart_bridge().await;
    scene.nothing_waits().await;
    scene.restart_broker(async |_| ()).await;
    scene.nothing_waits().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn nothing_waits_for_a_home_assistant_that_was_never_seen() {
    let mut scene = Scene::with(HOME_ALONE).await;
    scene.nothing_waits().await;
    scene.restart_broker(async |_| ()).await;
    scene.nothing_waits().await;
    scene.restart_bridge().await;
    scene.nothing_waits().await;
    // A birth that somebody else has retained says nothing of a Home Assistant that is there now.
    let retained = async |scene: &Scene| scene.says("online", true).await;
    scene.restart_broker(retained).await;
    scene.nothing_waits().await;
    scene.restart_broker(retained).await;
    scene.nothing_waits().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn a_home_assistant_that_is_gone_for_good_is_waited_for_once() {
    let wait = Duration::from_secs(10);
    let mut scene = Scene::with(&HOME_ALONE.replace("1h", "10s")).await;
    scene.home_assistant("online").await;
    scene.nothing_waits().await;
    scene.home_assistant("offline").await;
    scene.decides("away").await;
    let name = scene.waits().await;
    scene.comes(&name, wait + real::PATIENCE).await;
    scene.decides("given_up").await;
    scene.nothing_waits().await;
    scene.restart_bridge().await;
    scene.nothing_waits().await;
    scene.restart_broker(async |_| ()).await;
    scene.nothing_waits().await;
    // Until it is there again.
    scene.home_assistant("online").await;
    scene.nothing_waits().await;
    scene.home_assistant("offline").await;
    let name = scene.waits().await;
    scene.home_assistant("online").await;
    scene.comes(&name, real::PATIENCE).await;
    scene.nothing_waits().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn a_birth_that_was_missed_is_waited_for_two_minutes_at_most() {
    let mut scene = Scene::with(HOME_ALONE).await;
    // No birth can have been missed at a broker that has only just started.
    up_for(scene.broker.port, Duration::from_secs(10)).await;
    scene.home_assistant("online").await;
    scene.nothing_waits().await;
    scene.home_assistant("offline").await;
    scene.cut_line(async |scene| scene.says("online", false).await).await;
    let name = scene.waits().await;
    scene.comes(&name, Duration::from_secs(120) + real::PATIENCE).await;
    scene.nothing_waits().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn a_retained_birth_releases_nothing() {
    let mut scene = Scene::with(HOME_ALONE).await;
    scene.home_assistant("online").await;
    scene.home_assistant("offline").await;
    let name = scene.waits().await;
    // The bridge receives it again as it subscribes.
    scene.cut_line(async |scene| scene.says("online", true).await).await;
    let other = scene.waits().await;
    let mark = scene.watcher.mark();
    assert!(!scene.watcher.seen().iter().any(Scene::told(&name)), "the print still waits");
    scene.home_assistant("online").await;
    scene.comes(&name, real::PATIENCE).await;
    scene.comes(&other, real::PATIENCE).await;
    let seen = scene.watcher.seen();
    let place = |name: &str| seen[mark..].iter().position(Scene::told(name)).unwrap();
    assert!(place(&name) < place(&other), "in order");
    scene.nothing_waits().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn a_retained_will_counts_as_one_that_was_heard() {
    let mut scene = Scene::with(HOME_ALONE).await;
    up_for(scene.broker.port, Duration::from_secs(10)).await;
    scene.home_assistant("online").await;
    scene.decides("online").await;
    // The broker sends it before the bridge knows for how long the broker has been up.
    scene.cut_line(async |scene| scene.says("offline", true).await).await;
    scene.decides("away").await;
    let name = scene.waits().await;
    scene.home_assistant("online").await;
    scene.comes(&name, real::PATIENCE).await;
    scene.decides("online").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn a_first_attempt_that_fails_does_not_hide_that_the_host_was_restarted() {
    let mut scene = Scene::with(HOME_ALONE).await;
    scene.home_assistant("online").await;
    up_for(scene.broker.port, Duration::from_secs(10)).await;
    let mut bridge = scene.bridge.take().unwrap();
    bridge.process.signal("TERM");
    assert_eq!(bridge.process.ended().await, Some(0), "{}", bridge.log());
    scene.line.refuse(true);
    let mark = scene.watcher.mark();
    let bridge = Bridge::start(&scene.config);
    let failed = || async { bridge.log().contains("is not an MQTT broker").then_some(()) };
    real::eventually("an attempt that failed", failed).await;
    scene.bridge = Some(bridge);
    scene.line.refuse(false);
    scene.back(mark).await;
    scene.decides("perhaps_away").await;
    let name = scene.waits().await;
    scene.home_assistant("online").await;
    scene.comes(&name, real::PATIENCE).await;
}

/// A broker that lets everybody do everything, but for `$SYS`, of which it sends nothing.
async fn silent_of_itself(dir: &Path) -> Mosquitto {
    let rules = dir.join("rules");
    std::fs::write(&rules, "topic readwrite #\n").unwrap();
    let options = format!("allow_anonymous true\nacl_file {}\n", rules.display());
    Mosquitto::with_options(&options).await
}

/// One that refuses the subscription to `$SYS`, as EMQX does.
async fn refusing_itself(dir: &Path) -> Mosquitto {
    let allowed = |kind: &str| json!({"acltype": kind, "topic": "#", "allow": true});
    let kinds = ["publishClientSend", "publishClientReceive", "subscribePattern"];
    let mut access = kinds.map(allowed).to_vec();
    // There, `#` is everything.
    access.push(
        json!({"acltype": "subscribePattern", "topic": "$SYS/#", "priority": 1, "allow": false}),
    );
    let rules = json!({
        "defaultACLAccess": {"publishClientSend": false, "publishClientReceive": false, "subscribe": false, "unsubscribe": true},
        "anonymousGroup": "all", "clients": [],
        "groups": [{"groupname": "all", "roles": [{"rolename": "all"}]}],
        "roles": [{"rolename": "all", "acls": access}],
    });
    let file = dir.join("rules.json");
    std::fs::write(&file, rules.to_string()).unwrap();
    let libraries = Path::new("/usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    let plugin = [libraries.as_path(), Path::new("/usr/lib")]
        .map(|directory| directory.join("mosquitto_dynamic_security.so"))
        .into_iter()
        .find(|path| path.exists())
        .expect("Mosquitto's dynamic security plugin is installed");
    let options = format!(
        "allow_anonymous true\nplugin {}\nplugin_opt_config_file {}\n",
        plugin.display(),
        file.display()
    );
    Mosquitto::with_options(&options).await
}

/// The bridge comes to a broker of which it does not learn since when it is there.
async fn without_uptime(broker: Mosquitto) {
    let mut scene = Scene::at(broker, HOUR).await;
    scene.nothing_waits().await;
    scene.home_assistant("online").await;
    scene.nothing_waits().await;
    scene.restart_bridge().await;
    scene.nothing_waits().await;
    let log = scene.bridge.as_ref().unwrap().log();
    let warned =
        |line: &&str| (line.contains("WARN") || line.contains("ERROR")) && line.contains("SYS");
    assert_eq!(log.lines().find(warned), None, "a refusal is no fault");
    // It counts as restarted, so that subscribers are waited for, and no longer than it is set.
    scene.config = scene.config.replace("settle = \"1h\"", "settle = \"5s\"");
    scene.restart_bridge().await;
    scene.cut_line(async |_| ()).await;
    let mark = scene.watcher.mark();
    let name = scene.begin();
    let event = topic("event/PrintStarted");
    let heard = |s: &Seen| s.topic == event && s.json()["name"] == *name;
    let event = scene.watcher.wait_from(mark, "the event", heard).await;
    assert!(event.json()["_delayed"].is_u64(), "{}", event.payload);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn a_broker_that_says_nothing_of_itself_is_not_waited_for_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    without_uptime(silent_of_itself(dir.path()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn a_broker_that_refuses_to_tell_of_itself_is_not_waited_for_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    without_uptime(refusing_itself(dir.path()).await).await;
}
