//! What is published of prints while a real OctoPrint pushes at its lowest rate.

use std::time::Duration;

use crate::real::bridge::{Bridge, config};
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::OctoPrint;
use crate::real::watcher::{Seen, Watcher};
use serde_json::{Value, json};

const PRINT: &str = "octoprint2mqtt/mk3/print";
/// Between two `current`, at the factor 12.
const GAP: Duration = Duration::from_secs(6);
const CURRENT: &str = "octoprint2mqtt/mk3/message/current";
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
        let mark = watcher.mark();
        octoprint.job(json!({"command": "start"})).await;
        watcher.wait_json(mark, PRINTER, |printer| printer["state"] == "printing").await;
        Self { _broker: broker, octoprint, _bridge: bridge, watcher }
    }
}

/// Starts the selected file, `before` the next `current` is due. Yields whether that came after the
/// event all the same though it was built before it; and the mark from which the start is seen.
async fn start(octoprint: &OctoPrint, watcher: &Watcher, before: Duration) -> (bool, usize) {
    let mark = watcher.mark();
    let current = watcher.wait_from(mark, "a current", |seen| seen.topic == CURRENT).await;
    tokio::time::sleep_until((current.at + GAP - before).into()).await;
    octoprint.job(json!({"command": "start"})).await;
    let started = |seen: &Seen| seen.topic == "octoprint2mqtt/mk3/event/PrintStarted";
    watcher.wait_from(mark, "the start", started).await;
    let after = watcher.seen()[mark..].iter().position(started).unwrap() + mark;
    let current = watcher.wait_json(after, CURRENT, |_| true).await;
    (current["state"]["text"] == "Operational", mark)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn a_print_that_runs_is_not_over_because_octoprint_pushes_rarely() {
    let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
    let watcher = Watcher::start(broker.port).await;
    let _bridge = Bridge::start(&config(&broker.url(), &octoprint.url(), ""));
    watcher.wait_json(0, PRINTER, |printer| printer["state"] == "operational").await;
    octoprint.upload("part.gcode", 120).await;
    octoprint.select("part.gcode").await;
    assert_eq!(watcher.command("rate", "12").await["ok"], true);
    // Events run ahead of the state by a moment, which has to be met: until then, each print is
    // cancelled.
    let mut late = None;
    for attempt in 0..24 {
        let before = Duration::from_millis(50 + 50 * (attempt % 8));
        let (is_late, mark) = start(&octoprint, &watcher, before).await;
        if is_late {
            late = Some(mark);
            break;
        }
        octoprint.job(json!({"command": "cancel"})).await;
        watcher.wait_json(mark, PRINT, |told| told["event_type"] == "print_cancelled").await;
        octoprint.until("Operational").await;
    }
    // The next one, which says that it prints, comes six seconds later.
    let mark = late.expect("OctoPrint says Operational after the start of a print, now and then");
    let done = |told: &Value| told["event_type"] == "print_done";
    let done = watcher.wait_json(mark, PRINT, done).await;
    assert!(done.get("_recovered").is_none(), "the event told: {done}");
    // Built after that: whatever is thought of the end by then is said.
    let after = watcher.mark();
    watcher.wait_json(after, PRINTER, |printer| printer["state"] == "operational").await;
    let types = watcher.print_events(mark);
    assert_eq!(types, ["print_started", "print_done"], "{types:?}");
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
    let types = world.watcher.print_events(0);
    let of = |wanted: &[&str]| types.iter().filter(|kind| wanted.contains(&&kind[..])).count();
    assert_eq!(of(&["print_started"]), 2, "{types:?}");
    assert_eq!(of(&["print_done", "print_failed", "print_cancelled"]), 2, "{types:?}");
}
