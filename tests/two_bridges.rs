//! Bridges beside each other at the embedded broker: each removes only what is its own.

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

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use in_process::InProcess;
use octoprint2mqtt::bridge::check;
use octoprint2mqtt::cli::{demo, discovery};
use octoprint2mqtt::config::{self, Config};
use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};
use octoprint2mqtt::tls;
use serde_json::json;
use watcher::{Watcher, retained};

const PATIENCE: Duration = Duration::from_secs(30);

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What all bridges of this program have logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone())
            .init();
        log
    })
}

/// Waits for a line of the log that has all of `parts`.
async fn logged(parts: &[&str]) {
    eventually(&format!("{parts:?} in the log"), || async move {
        let text = String::from_utf8_lossy(&log().0.lock().unwrap()).into_owned();
        text.lines().any(|line| parts.iter().all(|part| line.contains(part)))
    })
    .await;
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut is: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !is().await {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct World {
    port: u16,
    simulators: [Simulator; 2],
    watcher: Watcher,
}

impl World {
    async fn start() -> Self {
        tls::install_provider();
        log();
        let port = free_port();
        tokio::task::spawn_blocking(move || demo::start_broker(port)).await.unwrap().unwrap();
        let watcher = Watcher::start(port).await;
        let simulator = || async { Simulator::start(SimulatorOptions::default()).await.unwrap() };
        let simulators = [simulator().await, simulator().await];
        Self { port, simulators, watcher }
    }

    /// A bridge called `name` below `base` with these printers.
    fn config(&self, name: &str, base: &str, ids: &[&str], data_dir: Option<&Path>) -> Config {
        let mut text =
            data_dir.map(|dir| format!("data_dir = \"{}\"\n", dir.display())).unwrap_or_default();
        text += &format!(
            "[mqtt]\nurl = \"mqtt://127.0.0.1:{}\"\nclient_id = \"{name}\"\nbase_topic = \"{base}\"\n[outbox]\nsettle = \"0s\"\n",
            self.port
        );
        for (id, simulator) in ids.iter().zip(&self.simulators) {
            let url = simulator.url();
            text += &format!("[printers.{id}]\nurl = \"{url}\"\napi_key = \"SIMULATOR-KEY\"\n");
        }
        config::from_toml(&text).unwrap()
    }

    /// Runs a bridge; it is there when the first of its printers is discovered as its own and
    /// online.
    async fn bridge(&self, config: Config) -> InProcess {
        let mark = self.watcher.mark();
        let (name, id) = (config.mqtt.client_id.clone(), config.printers[0].id.clone());
        let base = config.mqtt.base_topic.clone();
        let bridge = InProcess::start(config);
        let (topic, own) = (device(&id), format!("\"octoprint2mqtt\":\"{name}\""));
        let is = |seen: &watcher::Seen| seen.topic == topic && seen.payload.contains(&own);
        self.watcher.wait_from(mark, "its discovery", is).await;
        let topic = format!("{base}/{id}/availability");
        let is = |seen: &watcher::Seen| seen.topic == topic && seen.payload == "online";
        self.watcher.wait_from(mark, "its printer online", is).await;
        bridge
    }

    /// Puts a printer there as a bridge of that identity would have left it.
    async fn leave(&self, id: &str, identity: Option<&str>) {
        let mut state = json!({"platform": "sensor", "unique_id": format!("x_{id}")});
        if let Some(identity) = identity {
            state["octoprint2mqtt"] = identity.into();
        }
        let payload = json!({
            "origin": {"name": "octoprint2mqtt"},
            "device": {"identifiers": [format!("octoprint2mqtt_{id}")]},
            "availability": [{"topic": "b/bridge/state"}, {"topic": format!("b/{id}/availability")}],
            "components": {"state": state},
        });
        self.watcher.publish(&device(id), &payload.to_string(), true).await;
        self.watcher.publish(&format!("b/{id}/job"), "{}", true).await;
        self.there(id).await;
    }

    async fn gone(&self, id: &str) {
        eventually(&format!("{id} to go"), || async { self.topics(id).await == [false; 2] }).await;
    }

    async fn there(&self, id: &str) {
        eventually(&format!("{id} to come"), || async { self.topics(id).await == [true; 2] }).await;
    }

    /// Whether its discovery message and its job are retained.
    async fn topics(&self, id: &str) -> [bool; 2] {
        let retained = retained(self.port).await;
        [device(id), format!("b/{id}/job")].map(|topic| retained.contains_key(&topic))
    }
}

fn device(id: &str) -> String {
    format!("homeassistant/device/octoprint2mqtt_{id}/config")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_bridge_leaves_the_printers_of_the_first_alone_and_says_what_is_wrong() {
    let world = World::start().await;
    // One that says nothing of its owner, one of a bridge that is no more, and one of the second's.
    for (id, identity) in [("earlier", None), ("stranger", Some("third")), ("zz", Some("second"))] {
        world.leave(id, identity).await;
    }
    // The first bridge removes what says nothing, so it is put there again once that is done.
    let first = world.bridge(world.config("first", "b", &["p1"], None)).await;
    world.gone("earlier").await;
    world.leave("earlier", None).await;
    let findings = Mutex::new(Vec::new());
    let well = world.config("first", "b", &["p1"], None);
    assert!(check::run(&well, |finding| findings.lock().unwrap().push(finding)).await);

    let second = world.config("second", "b", &["p2"], None);
    assert!(!check::run(&second, |finding| findings.lock().unwrap().push(finding)).await);
    let findings = findings.into_inner().unwrap();
    let why = findings.into_iter().find_map(|finding| finding.outcome.err()).unwrap().to_string();
    assert!(why.contains("\"first\"") && why.contains("mqtt.base_topic"), "{why}");

    let running = world.bridge(second.clone()).await;
    // The last that it looks at: its own goes, all others stay.
    world.gone("zz").await;
    for id in ["p1", "earlier", "stranger"] {
        assert_eq!(world.topics(id).await, [true; 2], "{id}");
    }
    logged(&["ERROR", "another bridge", "\"first\"", "\"b\""]).await;
    // The first one hears of the second, too.
    logged(&["ERROR", "another bridge", "\"second\"", "\"b\""]).await;

    // Removing by hand obeys the same.
    let both = world.config("second", "b", &["p1", "p2"], None);
    let removed = discovery::remove(&both).await.unwrap();
    let topics: Vec<&str> = removed.topics.iter().map(|topic| &**topic).collect();
    assert!(topics.contains(&device("p2").as_str()), "{topics:?}");
    let left = [(device("p1").as_str().into(), Some("first".to_owned()))];
    assert_eq!(removed.left, left);
    for id in ["p1", "stranger"] {
        assert_eq!(world.topics(id).await, [true; 2], "{id}");
    }
    // Of the two, `bridge/info` names the second, who was the last to say who it is.
    world.leave("earlier", None).await;
    running.stop().await;
    first.stop().await;

    // With no other bridge there, what names no owner counts as its own; what a stranger owns does not.
    let alone = world.bridge(second).await;
    world.gone("earlier").await;
    assert_eq!(world.topics("p1").await, [true; 2]);
    assert_eq!(world.topics("stranger").await, [true; 2]);
    alone.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_whose_name_changed_removes_what_it_published_under_the_old_one() {
    let (world, before) = (World::start().await, tempfile::tempdir().unwrap());
    let old = world.config("old", "b", &["kept", "taken"], Some(before.path()));
    world.bridge(old).await.stop().await;
    world.there("taken").await;
    let strange = world.bridge(world.config("strange", "b", &["kept"], None)).await;
    strange.stop().await;
    // The database itself is let go of some moments after the end.
    let dir = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(before.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    let renamed = world.bridge(world.config("new", "b", &["kept"], Some(dir.path()))).await;
    world.gone("taken").await;
    world.there("kept").await;
    let info = retained(world.port).await["b/bridge/info"].clone();
    assert!(info.contains("\"identity\":\"new\""), "{info}");
    renamed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_printer_of_two_bridges_is_an_error_in_the_log() {
    let world = World::start().await;
    let first = world.bridge(world.config("one", "b", &["twin"], None)).await;
    let second = world.bridge(world.config("two", "elsewhere", &["twin"], None)).await;
    logged(&["ERROR", "a printer of the same id", "printer=\"twin\"", "b/bridge/state"]).await;
    second.stop().await;
    first.stop().await;
    let alone = world.bridge(world.config("three", "b", &["twin"], None)).await;
    alone.stop().await;
    let text = String::from_utf8_lossy(&log().0.lock().unwrap()).into_owned();
    let twins = text.lines().filter(|line| line.contains("a printer of the same id")).count();
    assert_eq!(twins, 1, "bridges that are no more are none");
}
