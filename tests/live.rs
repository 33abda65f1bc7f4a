//! Printers come, change and go while the bridge runs, without touching the others.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

#[path = "real/watcher.rs"]
#[allow(dead_code, reason = "the tests with real programs use the rest")]
mod watcher;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use octoprint2mqtt::bridge::Hub;
use octoprint2mqtt::bridge::board::{Board, CardUpdate, PageRequest};
use octoprint2mqtt::bridge::reload::ConfigFollower;
use octoprint2mqtt::cli::demo;
use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};
use octoprint2mqtt::{config, tls};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use watcher::{Seen, Watcher};

const PATIENCE: Duration = Duration::from_secs(30);
const INFO: &str = "octoprint2mqtt/bridge/info";

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A printer of the configuration, and more keys.
fn printer(id: &str, simulator: &Simulator, more: &str) -> String {
    let url = simulator.url();
    format!("[printers.{id}]\nurl = \"{url}\"\napi_key = \"SIMULATOR-KEY\"\n{more}\n")
}

struct World {
    port: u16,
    watcher: Watcher,
    board: Board,
    file: PathBuf,
    /// What all configurations begin with.
    head: String,
    reload: mpsc::Sender<()>,
    stop: oneshot::Sender<()>,
    run: tokio::task::JoinHandle<()>,
    dir: tempfile::TempDir,
}

impl World {
    /// A broker, a watcher, and a bridge with these printers.
    async fn start(printers: &str) -> Self {
        tls::install_provider();
        let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
        tokio::task::spawn_blocking(move || demo::start_broker(port)).await.unwrap().unwrap();
        let watcher = Watcher::start(port).await;
        let data = dir.path().join("data");
        let head = format!(
            "data_dir = {data:?}\n[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\n[outbox]\nsettle = \"0s\"\n"
        );
        let file = dir.path().join("config.toml");
        std::fs::write(&file, format!("{head}{printers}")).unwrap();
        let loaded = config::load(Some(&file), []).unwrap();
        let (path, (reload, requests)) = (file.clone(), mpsc::channel(1));
        let (board, asked) = Board::new();
        let shown = Some((board.clone(), asked));
        let mut hub = Hub::start_shown(loaded.config, Arc::new(|_| Ok(())), shown).unwrap();
        let read = Arc::new(move || Ok(config::load(Some(&path), [])?));
        hub.follow_config(ConfigFollower::new(read, loaded.files, requests));
        let (stop, stopped) = oneshot::channel::<()>();
        let run = tokio::spawn(async move {
            hub.run(async move { drop(stopped.await) }).await.unwrap();
        });
        Self { port, watcher, board, file, head, reload, stop, run, dir }
    }

    /// Changes the configuration, and has it read at once.
    async fn change(&self, printers: &str) {
        std::fs::write(&self.file, format!("{}{printers}", self.head)).unwrap();
        self.reload.send(()).await.unwrap();
    }

    async fn online(&self, mark: usize, id: &str) {
        let topic = format!("octoprint2mqtt/{id}/availability");
        self.watcher
            .wait_from(mark, &topic, |seen| seen.topic == topic && seen.payload == "online")
            .await;
    }

    async fn info(&self, mark: usize, is: impl Fn(&Value) -> bool) -> Value {
        self.watcher.wait_json(mark, INFO, is).await
    }

    /// Waits until nothing of a printer is retained.
    async fn gone(&self, id: &str) {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let late = Watcher::start(self.port).await;
            let mark = late.mark();
            late.publish("octoprint2mqtt-test/end", "x", false).await;
            late.wait_from(mark, "end", |seen| seen.topic == "octoprint2mqtt-test/end").await;
            let (below, device) = (
                format!("octoprint2mqtt/{id}/"),
                format!("homeassistant/device/octoprint2mqtt_{id}/config"),
            );
            let of_printer = |seen: &Seen| seen.topic.starts_with(&below) || seen.topic == device;
            let left: Vec<Seen> = late.seen().into_iter().filter(of_printer).collect();
            if left.is_empty() {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{left:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the board shows of a printer.
    fn card(&self, id: &str) -> Option<CardUpdate> {
        self.board.since(0).1.into_iter().find(|update| update.card.id == id)
    }

    /// Waits until the board shows a printer so.
    async fn shown(&self, id: &str, is: impl Fn(&CardUpdate) -> bool) {
        let mut revision = self.board.revision();
        let shown = async {
            while !self.card(id).is_some_and(|card| is(&card)) {
                revision.changed().await.unwrap();
            }
        };
        let shown = tokio::time::timeout(PATIENCE, shown).await;
        assert!(shown.is_ok(), "{:?}", self.card(id).map(|update| update.card));
    }

    /// Sends a command, and returns its answer.
    async fn command(&self, id: &str, name: &str, payload: &str) -> Value {
        let mark = self.watcher.mark();
        self.watcher.publish(&format!("octoprint2mqtt/{id}/set/{name}"), payload, false).await;
        let result = format!("octoprint2mqtt/{id}/result");
        self.watcher.wait_json(mark, &result, |_| true).await
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.run.await.unwrap();
        drop(self.dir);
    }
}

async fn simulator() -> Simulator {
    Simulator::start(SimulatorOptions::default()).await.unwrap()
}

#[tokio::test]
async fn printers_come_change_and_go_and_the_others_notice_nothing() {
    let [a, b] = [simulator().await, simulator().await];
    let of_a = printer("a", &a, "");
    let world = World::start(&of_a).await;
    world.online(0, "a").await;

    let mark = world.watcher.mark();
    world.change(&format!("{of_a}{}", printer("b", &b, ""))).await;
    world.online(mark, "b").await;
    world.info(mark, |info| info["printers"] == json!(["a", "b"])).await;
    let device = "homeassistant/device/octoprint2mqtt_b/config";
    world.watcher.wait_json(mark, device, |told| told["device"]["name"] == "b").await;
    let answer = world.command("b", "rate", "4").await;
    assert_eq!(answer["ok"], true, "{answer}");
    let fleet = "octoprint2mqtt/bridge/fleet";
    world.watcher.wait_json(mark, fleet, |fleet| fleet["idle"] == 2).await;

    // Another name, and without a group of commands.
    let mark = world.watcher.mark();
    let more = "name = \"Bee\"\ncommands = { bridge = false }";
    world.change(&format!("{of_a}{}", printer("b", &b, more))).await;
    world.online(mark, "b").await;
    world.watcher.wait_json(mark, device, |told| told["device"]["name"] == "Bee").await;
    let answer = world.command("b", "rate", "2").await;
    assert_eq!(answer["ok"], false, "{answer}");

    let mark = world.watcher.mark();
    world.change(&of_a).await;
    world.watcher.wait_from(mark, "removal", |s| s.topic == device && s.payload.is_empty()).await;
    world.watcher.wait_json(mark, fleet, |fleet| fleet["total"] == 1).await;
    world.gone("b").await;
    // Nothing of it is published again.
    let mark = world.watcher.mark();
    world.watcher.publish("octoprint2mqtt/bridge/request/republish", "", false).await;
    world.watcher.wait_json(mark, fleet, |fleet| fleet["total"] == 1).await;
    let device_of_a = "homeassistant/device/octoprint2mqtt_a/config";
    world.watcher.wait_json(mark, device_of_a, |told| told["device"]["name"] == "a").await;
    world.gone("b").await;

    assert_eq!((a.observed().logins, a.observed().subscriptions.len()), (1, 1), "untouched");
    let of_a = |seen: &&Seen| seen.topic == "octoprint2mqtt/a/availability";
    let availability = world.watcher.seen();
    let availability: Vec<&str> =
        availability.iter().filter(of_a).map(|seen| seen.payload.as_str()).collect();
    assert_eq!(availability.last(), Some(&"online"));
    assert!(
        availability.iter().skip_while(|word| **word == "offline").all(|word| *word == "online")
    );
    world.end().await;
}

#[tokio::test]
async fn an_invalid_configuration_is_reported_and_the_one_before_stays() {
    let a = simulator().await;
    let of_a = printer("a", &a, "");
    let world = World::start(&of_a).await;
    world.online(0, "a").await;
    let is_refused = |part: &'static str| {
        move |info: &Value| info["config_error"].as_str().is_some_and(|text| text.contains(part))
    };
    for (broken, part) in [
        ("[printers.b]\nurl = \"http://b\"\n".to_owned(), "printers.b.api_key"),
        (printer("b", &a, ""), "the url of printers"),
        (
            "[printers.b]\nurl = \"https://b\"\napi_key = \"MARKER\"\ntls = { ca_file = \"/nowhere\" }\n".to_owned(),
            "/nowhere",
        ),
    ] {
        let mark = world.watcher.mark();
        world.change(&format!("{of_a}{broken}")).await;
        let info = world.info(mark, is_refused(part)).await;
        assert_eq!(info["printers"], json!(["a"]));
        assert!(!info.to_string().contains("MARKER"));
    }
    // The printers that were added are in data_dir.
    let mark = world.watcher.mark();
    let moved = format!("data_dir = {:?}\n", world.dir.path().join("other"));
    let rest = world.head.split_once('\n').unwrap().1;
    std::fs::write(&world.file, format!("{moved}{rest}")).unwrap();
    world.reload.send(()).await.unwrap();
    let info = world.info(mark, is_refused("data_dir or shard")).await;
    assert_eq!(info["printers"], json!(["a"]));
    let mark = world.watcher.mark();
    world.change(&of_a).await;
    world.info(mark, |info| info["config_error"].is_null()).await;
    assert_eq!(a.observed().logins, 1);
    world.end().await;
}

#[tokio::test]
async fn a_bridge_starts_without_printers_and_takes_them_later() {
    let world = World::start("").await;
    world.info(0, |info| info["printers"] == json!([])).await;
    let a = simulator().await;
    let mark = world.watcher.mark();
    world.change(&printer("a", &a, "")).await;
    world.online(mark, "a").await;
    // Removed, and added again before it is gone.
    let mark = world.watcher.mark();
    world.change("").await;
    world.info(mark, |info| info["printers"] == json!([])).await;
    world.change(&printer("a", &a, "name = \"Again\"")).await;
    world.online(mark, "a").await;
    let device = "homeassistant/device/octoprint2mqtt_a/config";
    world.watcher.wait_json(mark, device, |told| told["device"]["name"] == "Again").await;
    let answer = world.command("a", "rate", "4").await;
    assert_eq!(answer["ok"], true, "{answer}");
    world.end().await;
}

#[tokio::test]
async fn what_is_counted_survives_a_change_and_not_a_removal() {
    let a = simulator().await;
    let world = World::start(&printer("a", &a, "")).await;
    world.online(0, "a").await;
    a.event("PrintStarted", json!({"name": "x.gcode", "path": "x.gcode", "origin": "local"}));
    a.event(
        "PrintDone",
        json!({"name": "x.gcode", "path": "x.gcode", "origin": "local", "time": 5.0}),
    );
    let statistics = "octoprint2mqtt/a/statistics";
    let done = |count: u64| move |told: &Value| told["prints_done"] == count;
    world.watcher.wait_json(0, statistics, done(1)).await;
    let mark = world.watcher.mark();
    world.change(&printer("a", &a, "filament_price = 20")).await;
    world.watcher.wait_json(mark, statistics, done(1)).await;
    world.online(mark, "a").await;
    world.change("").await;
    world.gone("a").await;
    let mark = world.watcher.mark();
    world.change(&printer("a", &a, "")).await;
    world.watcher.wait_json(mark, statistics, done(0)).await;
    world.end().await;
}

#[tokio::test]
async fn the_board_shows_the_printers_and_the_page_changes_those_that_were_added() {
    let [a, b] = [simulator().await, simulator().await];
    let world = World::start(&printer("a", &a, "")).await;
    let data = world.dir.path().join("data");
    std::fs::write(data.join("printers.toml"), printer("b", &b, "name = \"Bee\"")).unwrap();
    world.reload.send(()).await.unwrap();
    world.shown("b", |b| b.card.online && b.card.state == "operational").await;
    let card = world.card("b").unwrap().card;
    assert_eq!((card.name.as_str(), card.added, card.socket.as_str()), ("Bee", true, "connected"));
    assert_eq!((card.url, card.interval), (b.url(), Some(500)));
    assert_eq!(card.commands.get("gcode"), Some(&false));
    assert!(card.temperatures.iter().any(|heater| heater.heater == "tool0"));
    let path = json!({"name": "x.gcode", "path": "x.gcode", "origin": "local"});
    b.event("PrintStarted", path.clone());
    world.shown("b", |b| b.card.last_event.as_deref() == Some("print_started")).await;

    let rename =
        |id: &str, name: &str| PageRequest::Rename { id: id.to_owned(), name: name.to_owned() };
    world.board.ask(rename("b", " Bea ")).await.unwrap();
    world.shown("b", |b| b.card.name == "Bea" && b.card.online).await;
    let groups = |names: &[(&str, bool)]| PageRequest::Groups {
        id: "b".to_owned(),
        groups: names.iter().map(|(name, on)| ((*name).to_owned(), *on)).collect(),
    };
    world.board.ask(groups(&[("gcode", true), ("job", false)])).await.unwrap();
    world.shown("b", |b| b.card.commands["gcode"] && !b.card.commands["job"]).await;
    let refused = [
        (rename("a", "x"), "printer a is of the configuration file"),
        (rename("c", "x"), "there is no printer \"c\""),
        (rename("b", "A"), "there is a printer with this name, a"),
        (rename("b", "  "), "name: expected"),
        (groups(&[("fun", true)]), "there is no group of commands \"fun\""),
        (PageRequest::Remove("a".to_owned()), "printer a is of the configuration file"),
    ];
    for (request, why) in refused {
        let error = world.board.ask(request).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let checked = world.board.ask(PageRequest::Check).await.unwrap();
    let is_well = |what: &str| {
        let of = |line: &&Value| line["what"].as_str().is_some_and(|it| it.contains(what));
        checked.as_array().unwrap().iter().find(of).is_some_and(|line| line["ok"] == true)
    };
    assert!(is_well("broker") && is_well("push socket"), "{checked}");

    world.board.ask(PageRequest::Remove("b".to_owned())).await.unwrap();
    world.gone("b").await;
    assert!(world.card("b").is_none() && world.card("a").is_some());
    world.end().await;
}

#[tokio::test]
async fn the_page_lets_clients_of_the_broker_pair_for_five_minutes() {
    let world = World::start("").await;
    world.info(0, |info| info["printers"] == json!([])).await;
    let ask = async |payload: &str| {
        let mark = world.watcher.mark();
        world.watcher.publish("octoprint2mqtt/bridge/request/pair", payload, false).await;
        world.watcher.wait_json(mark, "octoprint2mqtt/bridge/response/pair", |_| true).await
    };
    assert!(ask("ftp://x").await["error"].as_str().unwrap().contains("pairing over MQTT is off"));
    let opened = world.board.ask(PageRequest::AllowMqttPairing).await.unwrap();
    assert_eq!(opened["seconds"], 300);
    assert!(ask("ftp://x").await["error"].as_str().unwrap().contains("url: expected"));
    world.end().await;
}
