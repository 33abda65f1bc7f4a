//! Every command to a real OctoPrint, and what its virtual printer was sent.

use crate::real::bridge::{Bridge, config};
use crate::real::eventually;
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::OctoPrint;
use crate::real::watcher::Watcher;
use serde_json::{Value, json};

fn topic(rest: &str) -> String {
    format!("octoprint2mqtt/mk3/{rest}")
}

struct World {
    octoprint: OctoPrint,
    watcher: Watcher,
    _broker: Mosquitto,
    _bridge: Bridge,
}

impl World {
    async fn start() -> Self {
        let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
        let watcher = Watcher::start(broker.port).await;
        let more = "limits = { chamber = 60 }\n[printers.mk3.socket]\nterminal = true\n[printers.mk3.commands]\ngcode = true\nsystem = true";
        let bridge = Bridge::start(&config(&broker.url(), &octoprint.url(), more));
        watcher.wait("online", |s| s.topic == topic("availability") && s.payload == "online").await;
        Self { octoprint, watcher, _broker: broker, _bridge: bridge }
    }

    /// As [`Watcher::sends`], with what this version's lines of the terminal begin with.
    async fn sends(&self, command: &str, payload: &str, sent: &[&str]) {
        self.watcher.sends("Send:", command, payload, sent).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn the_printer_is_sent_what_was_asked_for() {
    let world = World::start().await;
    world.sends("message", "Layer 5; done\nG28", &["M117 Layer 5, done G28"]).await;
    world.sends("message", "42", &["M117 42"]).await;
    world.sends("home", "all", &["G28"]).await;
    world.sends("home", "x z", &["G28 X0 Z0"]).await;
    world.sends("jog", r#"{"x":10,"y":-5.5,"speed":3000}"#, &["G91", "X10", "Y-5.5"]).await;
    world.sends("extrude", "-3", &["E-3"]).await;
    world.sends("gcode", "G4 P1\nM115", &["G4 P1", "M115"]).await;
    world.sends("feedrate", "110", &["M220 S110"]).await;
    let factors = topic("factors");
    world
        .watcher
        .wait_json(0, &factors, |f| *f == json!({"feedrate": 110, "flowrate": null}))
        .await;
    world.sends("flowrate", r#"{"value":95,"id":1}"#, &["M221 S95"]).await;
    world.watcher.wait_json(0, &factors, |f| *f == json!({"feedrate": 110, "flowrate": 95})).await;

    world.watcher.done("offset/bed", "5").await;
    world.watcher.done("offset/tool0", "-2.5").await;
    let octoprint = &world.octoprint;
    eventually("the offsets", || async move {
        let printer = octoprint.get("api/printer").await;
        let temperature = &printer["temperature"];
        (temperature["bed"]["offset"] == 5.0 && temperature["tool0"]["offset"] == -2.5)
            .then_some(())
    })
    .await;
    world.watcher.wait_json(0, &topic("temperature/bed"), |bed| bed["offset"] == 5.0).await;

    world.watcher.refused("offset/bed", "60", Value::Null, "-50…50").await;
    world.watcher.refused("offset/tool3", "1", Value::Null, "no tool3").await;
    world.watcher.refused("temperature/chamber", "50", json!(409), "").await;
    world.watcher.refused("feedrate", "5", Value::Null, "10…500").await;
    world.watcher.refused("jog", "{}", Value::Null, "at least one axis").await;
    world.watcher.refused("system", "restart", json!(404), "settings").await;
    world.watcher.refused("system", "explode", Value::Null, "reboot").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn files_are_selected_and_printed_and_the_printer_comes_and_goes() {
    let world = World::start().await;
    let octoprint = &world.octoprint;
    octoprint.upload("Teil ä (1).gcode", 600).await;
    octoprint.upload("other.gcode", 600).await;
    world.watcher.done("select", "local/Teil ä (1).gcode").await;
    let job = octoprint.get("api/job").await;
    assert_eq!(job["job"]["file"]["path"], "Teil ä (1).gcode", "{job}");
    assert_eq!(job["state"], "Operational", "selecting starts nothing");
    world.watcher.refused("select", "local/missing.gcode", json!(404), "no such file").await;
    world.watcher.refused("select", "missing.gcode", Value::Null, "local/").await;
    world.watcher.done("print", "local/other.gcode").await;
    octoprint.until("Printing").await;
    assert_eq!(octoprint.get("api/job").await["job"]["file"]["path"], "other.gcode");
    world.watcher.refused("select", "local/other.gcode", json!(409), "while it prints").await;
    world.watcher.refused("home", "all", json!(409), "").await;
    world.watcher.refused("extrude", "5", json!(409), "").await;
    world.watcher.done("job", "cancel").await;
    octoprint.until("Operational").await;

    world.watcher.done("connection", "disconnect").await;
    octoprint.until("Offline").await;
    world.watcher.refused("home", "all", json!(409), "").await;
    world.watcher.done("connection", "connect").await;
    octoprint.until("Operational").await;
    let factors = topic("factors");
    world.watcher.wait_json(0, &factors, |f| f["feedrate"].is_null()).await;
}
