//! Printers are added and removed over MQTT, with a real OctoPrint whose user clicks Allow.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::authorize::decide;
use crate::real::bridge::Bridge;
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::OctoPrint;
use crate::real::sockjs::SockJs;
use crate::real::watcher::Watcher;
use crate::real::{eventually, free_port};

const INFO: &str = "octoprint2mqtt/bridge/info";

struct World {
    broker: Mosquitto,
    watcher: Watcher,
    data: tempfile::TempDir,
    bridge: Bridge,
}

impl World {
    async fn start(more: &str) -> Self {
        let broker = Mosquitto::start().await;
        let watcher = Watcher::start(broker.port).await;
        let data = tempfile::tempdir().unwrap();
        let bridge = Bridge::start(&config(&broker, &data, more));
        watcher.wait_json(0, INFO, |info| info["printers"] == json!([])).await;
        Self { broker, watcher, data, bridge }
    }

    /// Sends a request to the bridge, and returns its first answer, and from where to look on.
    async fn ask(&self, name: &str, payload: &Value) -> (Value, usize) {
        let mark = self.watcher.mark();
        let topic = format!("octoprint2mqtt/bridge/request/{name}");
        self.watcher.publish(&topic, &payload.to_string(), false).await;
        (self.answer(mark, name, |_| true).await, mark)
    }

    async fn answer(&self, mark: usize, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        let topic = format!("octoprint2mqtt/bridge/response/{name}");
        self.watcher.wait_json(mark, &topic, is).await
    }

    async fn online(&self, mark: usize, id: &str) {
        let topic = format!("octoprint2mqtt/{id}/availability");
        self.watcher.wait_from(mark, "online", |s| s.topic == topic && s.payload == "online").await;
    }

    fn printers(&self) -> String {
        std::fs::read_to_string(self.data.path().join("printers.toml")).unwrap_or_default()
    }
}

fn config(broker: &Mosquitto, data: &tempfile::TempDir, more: &str) -> String {
    let (data, url) = (data.path(), broker.url());
    format!(
        "data_dir = {data:?}\n{more}\n[outbox]\nsettle = \"0s\"\n[log]\nlevel = \"debug\"\n[mqtt]\nurl = \"{url}\"\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn a_printer_is_added_with_a_click_survives_a_restart_and_is_removed() {
    let (octoprint, mut world) = tokio::join!(OctoPrint::start(), World::start("pairing = true"));
    let pages = SockJs::start(&octoprint.url()).await;
    let request = json!({"url": octoprint.url(), "name": "Prusa MK3S", "transaction": 7});
    let (answer, mark) = world.ask("pair", &request).await;
    assert_eq!(
        (
            &answer["status"],
            &answer["data"]["state"],
            &answer["data"]["id"],
            &answer["transaction"]
        ),
        (&json!("ok"), &json!("waiting"), &json!("prusa_mk3s"), &json!(7)),
        "{answer}"
    );
    // One at a time.
    let (busy, _) = world.ask("pair", &json!("http://127.0.0.1:1")).await;
    assert!(busy["error"].as_str().unwrap().contains("another printer is being added"), "{busy}");
    assert_eq!(world.printers(), "");
    decide(&octoprint, &pages, 0, true).await;
    let allowed = world.answer(mark, "pair", |answer| answer["data"]["state"] == "allowed").await;
    assert_eq!(allowed["transaction"], 7);
    world.online(mark, "prusa_mk3s").await;
    let device = "homeassistant/device/octoprint2mqtt_prusa_mk3s/config";
    world.watcher.wait_json(mark, device, |it| it["device"]["name"] == "Prusa MK3S").await;

    let path = world.data.path().join("printers.toml");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let printers: toml::Table = world.printers().parse().unwrap();
    let key = printers["printers"]["prusa_mk3s"]["api_key"].as_str().unwrap().to_owned();
    let told = |world: &World| world.watcher.seen().iter().any(|s| s.payload.contains(&key));
    assert!(!told(&world) && !world.bridge.log().contains(&key), "the key is in data_dir alone");

    // The same one again, and names that are taken.
    let (known, _) = world.ask("pair", &json!(octoprint.url())).await;
    assert_eq!(known["error"], "this OctoPrint is printer prusa_mk3s already");
    let (taken, _) =
        world.ask("pair", &json!({"url": "http://127.0.0.1:1", "name": "prusa mk3s"})).await;
    assert!(taken["error"].as_str().unwrap().contains("with this name"), "{taken}");

    world.bridge.process.signal("TERM");
    world.bridge.process.ended().await;
    let mark = world.watcher.mark();
    world.bridge = Bridge::start(&config(&world.broker, &world.data, "pairing = true"));
    world.online(mark, "prusa_mk3s").await;

    let (removed, mark) = world.ask("remove", &json!({"id": "prusa_mk3s"})).await;
    assert_eq!(removed["data"]["id"], "prusa_mk3s", "{removed}");
    world.watcher.wait_json(mark, INFO, |info| info["printers"] == json!([])).await;
    world.watcher.wait_from(mark, "removal", |s| s.topic == device && s.payload.is_empty()).await;
    assert!(!world.printers().contains("prusa_mk3s"));
    let (unknown, _) = world.ask("remove", &json!("prusa_mk3s")).await;
    assert_eq!(unknown["error"], "there is no printer \"prusa_mk3s\"");
    assert!(!told(&world) && !world.bridge.log().contains(&key));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn what_is_denied_or_is_no_octoprint_is_not_added() {
    let (octoprint, world) = tokio::join!(OctoPrint::start(), World::start("pairing = true"));
    let pages = SockJs::start(&octoprint.url()).await;
    let (_, mark) = world.ask("pair", &json!(octoprint.url())).await;
    decide(&octoprint, &pages, 0, false).await;
    let denied = world.answer(mark, "pair", |answer| answer["status"] == "error").await;
    assert!(denied["error"].as_str().unwrap().contains("denied"), "{denied}");
    // Nobody there, a broker, a page that does not exist: the answers are the same.
    let somewhere = [
        format!("http://127.0.0.1:{}", free_port()),
        format!("http://127.0.0.1:{}", world.broker.port),
        format!("{}/nowhere", octoprint.url()),
    ];
    for url in somewhere {
        let (answer, _) = world.ask("pair", &json!({ "url": url })).await;
        assert_eq!(answer["error"], "not an OctoPrint", "{answer}");
    }
    for url in ["file:///etc/passwd", "octopi.local", "ftp://octopi.local"] {
        let (answer, _) = world.ask("pair", &json!({ "url": url })).await;
        let error = answer["error"].as_str().unwrap();
        assert!(error.starts_with("url: expected the address of OctoPrint"), "{answer}");
    }
    assert_eq!(world.printers(), "");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn without_pairing_it_is_refused_and_a_retained_request_is_cleared() {
    let world = World::start("").await;
    for (name, payload) in
        [("discover", json!("")), ("pair", json!("http://127.0.0.1:1")), ("remove", json!("mk3"))]
    {
        let (answer, _) = world.ask(name, &payload).await;
        assert!(answer["error"].as_str().unwrap().contains("pairing = true"), "{answer}");
    }
    let topic = "octoprint2mqtt/bridge/request/remove";
    let mut world = world;
    let mark = world.watcher.mark();
    world.bridge.process.signal("TERM");
    world.bridge.process.ended().await;
    let before = world.watcher.mark();
    world.watcher.publish(topic, "mk3", true).await;
    world.watcher.wait_from(before, "the request", |seen| seen.topic == topic).await;
    world.bridge = Bridge::start(&config(&world.broker, &world.data, "pairing = true"));
    let refused = world.answer(mark, "remove", |answer| answer["status"] == "error").await;
    assert!(refused["error"].as_str().unwrap().contains("retained"), "{refused}");
    // One that was sent with the retain flag while the bridge ran, too.
    let (answer, _) = {
        let mark = world.watcher.mark();
        world.watcher.publish(topic, "mk3", true).await;
        (world.answer(mark, "remove", |_| true).await, mark)
    };
    assert_eq!(answer["error"], "there is no printer \"mk3\"");
    eventually("the request to be cleared", || async {
        let late = Watcher::of(world.broker.port, topic).await;
        late.publish(topic, "end", false).await;
        late.wait_from(0, "end", |seen| seen.payload == "end").await;
        late.seen().iter().all(|seen| !seen.retained).then_some(())
    })
    .await;
}
