//! What is said of prints while a real OctoPrint pushes as rarely as it can be told to.

mod real;

use real::bridge::{Bridge, config};
use real::mosquitto::Mosquitto;
use real::octoprint::OctoPrint;
use real::watcher::{Seen, Watcher};
use serde_json::{Value, json};

const PRINT: &str = "octoprint2mqtt/mk3/print";
const PRINTER: &str = "octoprint2mqtt/mk3/printer";

struct World {
    _broker: Mosquitto,
    octoprint: OctoPrint,
    _bridge: Bridge,
    watcher: Watcher,
}

impl World {
    /// Everything started, a `current` every six seconds, and a print of so many tenths of a second
    /// under way.
    async fn printing(tenths: usize) -> Self {
        let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
        let watcher = Watcher::start(broker.port).await;
        let bridge = Bridge::start(&config(&broker.url(), &octoprint.url(), ""));
        watcher.wait_json(0, PRINTER, |printer| printer["state"] == "operational").await;
        assert_eq!(watcher.command("rate", "12").await["ok"], true);
        octoprint.upload("part.gcode", tenths).await;
        octoprint.select("part.gcode").await;
        // The one that comes next makes the most of the gap: it has just begun.
        let mark = watcher.mark();
        let current = |seen: &Seen| seen.topic == "octoprint2mqtt/mk3/message/current";
        watcher.wait_from(mark, "a current", current).await;
        octoprint.job(json!({"command": "start"})).await;
        watcher.wait_json(mark, PRINTER, |printer| printer["state"] == "printing").await;
        Self { _broker: broker, octoprint, _bridge: bridge, watcher }
    }

    fn told(&self) -> Vec<Value> {
        self.watcher.seen().iter().filter(|s| s.topic == PRINT).map(Seen::json).collect()
    }

    fn types(&self) -> Vec<String> {
        let name = |told: &Value| told["event_type"].as_str().unwrap().to_owned();
        self.told().iter().map(name).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn a_print_that_runs_is_not_over_because_octoprint_pushes_rarely() {
    let world = World::printing(150).await;
    let done = |told: &Value| told["event_type"] == "print_done";
    let done = world.watcher.wait_json(0, PRINT, done).await;
    assert!(done["time"].as_f64().unwrap() > 12.0, "{done}");
    assert!(done.get("_recovered").is_none(), "the event told: {done}");
    // Built after that: whatever is thought of the end by then is said.
    let mark = world.watcher.mark();
    world.watcher.wait_json(mark, PRINTER, |printer| printer["state"] == "operational").await;
    assert_eq!(world.types(), ["print_started", "print_done"], "{:?}", world.told());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn the_end_of_a_print_that_no_event_tells_of_is_found_once() {
    let world = World::printing(600).await;
    world.octoprint.job(json!({"command": "pause", "action": "pause"})).await;
    world.octoprint.until("Paused").await;
    assert_eq!(world.octoprint.post("api/connection", json!({"command": "disconnect"})).await, 204);
    let failed = |told: &Value| told["event_type"] == "print_failed";
    let failed = world.watcher.wait_json(0, PRINT, failed).await;
    assert_eq!((&failed["_recovered"], &failed["file"]), (&json!(true), &json!("part.gcode")));
    assert_eq!(failed["reason"], "the connection to the printer was lost", "as the log has it");
    // The next print is another one, with an end of its own.
    let mark = world.watcher.mark();
    assert_eq!(world.octoprint.post("api/connection", json!({"command": "connect"})).await, 204);
    world.octoprint.until("Operational").await;
    world.octoprint.select("part.gcode").await;
    world.octoprint.job(json!({"command": "start"})).await;
    world.watcher.wait_json(mark, PRINTER, |printer| printer["state"] == "printing").await;
    world.octoprint.job(json!({"command": "cancel"})).await;
    let cancelled = |told: &Value| told["event_type"] == "print_cancelled";
    world.watcher.wait_json(mark, PRINT, cancelled).await;
    world.watcher.wait_json(mark, PRINTER, |printer| printer["state"] == "operational").await;
    let types = world.types();
    let of = |wanted: &[&str]| types.iter().filter(|kind| wanted.contains(&&kind[..])).count();
    assert_eq!(of(&["print_started"]), 2, "{types:?}");
    assert_eq!(of(&["print_done", "print_failed", "print_cancelled"]), 2, "{types:?}");
}
