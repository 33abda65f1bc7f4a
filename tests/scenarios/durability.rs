//! What waits and what was missed, over crashes and absences, with the real programs.

use std::time::Duration;

use crate::real;
use crate::real::bridge::{Bridge, config};
use crate::real::eventually;
use crate::real::mosquitto::Mosquitto;
use crate::real::octoprint::OctoPrint;
use crate::real::proxy::Proxy;
use crate::real::sockjs::SockJs;
use crate::real::watcher::{Seen, Watcher};
use octoprint2mqtt::simulator::{Simulator, SimulatorOptions};
use serde_json::{Value, json};

fn topic(rest: &str) -> String {
    format!("octoprint2mqtt/mk3/{rest}")
}

fn online(seen: &Seen) -> bool {
    seen.topic == topic("availability") && seen.payload == "online"
}

/// The ends of prints among what was seen, as event type and whether it was recovered. One that was
/// on its way when the bridge was killed may come once more, and says so.
fn ends(seen: &[Seen]) -> Vec<(String, bool)> {
    let mut ends: Vec<Value> = Vec::new();
    for mut print in seen.iter().filter(|seen| seen.topic == topic("print")).map(Seen::json) {
        let again = print.as_object_mut().unwrap().remove("_delayed").is_some();
        let kind = print["event_type"].as_str().unwrap();
        let is_end = ["print_done", "print_failed", "print_cancelled"].contains(&kind);
        if is_end && !(again && ends.contains(&print)) {
            ends.push(print);
        }
    }
    ends.iter()
        .map(|print| {
            let kind = print["event_type"].as_str().unwrap().to_owned();
            (kind, print["_recovered"] == true)
        })
        .collect()
}

fn with_data_dir(dir: &std::path::Path, config: &str) -> String {
    format!("data_dir = \"{}\"\n{config}", dir.display())
}

fn simulated(broker: &str, simulator: &Simulator) -> String {
    let url = simulator.url();
    format!(
        "[outbox]\nsettle = \"0s\"\n[mqtt]\nurl = \"{broker}\"\n[printers.mk3]\nurl = \"{url}\"\napi_key = \"SIMULATOR-KEY\"\n"
    )
}

/// The numbers of the events `Counted`, in order of arrival, each with whether it says that it is
/// late.
fn counted(seen: &[Seen]) -> Vec<(u64, bool)> {
    seen.iter()
        .filter(|seen| seen.topic == topic("event/Counted"))
        .map(Seen::json)
        .map(|event| (event["n"].as_u64().unwrap(), event["_delayed"].is_u64()))
        .collect()
}

/// All of them there, the first ones of each in order, and what came again says that it is late.
fn whole(arrived: &[(u64, bool)], count: u64) {
    let mut next = 0;
    for &(n, delayed) in arrived {
        if n == next {
            next += 1;
        } else {
            assert!(n < next, "{n} came before {next}");
            assert!(delayed, "{n} came again and does not say so");
        }
    }
    assert_eq!(next, count, "some are missing");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn undelivered_events_survive_a_kill() {
    octoprint2mqtt::tls::install_provider();
    let mut broker = Mosquitto::start().await;
    let simulator = Simulator::start(SimulatorOptions::default()).await.unwrap();
    let data = tempfile::tempdir().unwrap();
    let text = with_data_dir(data.path(), &simulated(&broker.url(), &simulator));
    let watcher = Watcher::start(broker.port).await;
    let mut bridge = Bridge::start(&text);
    watcher.wait("online", online).await;
    broker.kill();
    for n in 0..1000 {
        simulator.event("Counted", json!({ "n": n }));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // By then the last one is on the disk: written once a second at most.
    tokio::time::sleep(Duration::from_secs(3)).await;
    bridge.process.signal("KILL");
    bridge.process.ended().await;
    broker.run().await;
    let watcher = Watcher::start(broker.port).await;
    let _bridge = Bridge::start(&text);
    let last = |seen: &Seen| seen.topic == topic("event/Counted") && seen.json()["n"] == 999;
    watcher.wait("the last event", last).await;
    let arrived = counted(&watcher.seen());
    assert_eq!(arrived, (0..1000).map(|n| (n, true)).collect::<Vec<_>>(), "all, in order, late");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn a_printer_that_was_taken_out_and_put_back_delivers_nothing_of_old() {
    octoprint2mqtt::tls::install_provider();
    let mut broker = Mosquitto::start().await;
    let simulator = Simulator::start(SimulatorOptions::default()).await.unwrap();
    let data = tempfile::tempdir().unwrap();
    let text = with_data_dir(data.path(), &simulated(&broker.url(), &simulator));
    let watcher = Watcher::start(broker.port).await;
    let mut bridge = Bridge::start(&text);
    watcher.wait("online", online).await;
    broker.kill();
    simulator.event("Counted", json!({ "n": 0 }));
    // It is on the disk within a second or two; the clean stop writes what is left.
    bridge.process.signal("TERM");
    assert_eq!(bridge.process.ended().await, Some(0));
    broker.run().await;

    let mut other = Bridge::start(&text.replace("[printers.mk3]", "[printers.other]"));
    let there =
        |seen: &Seen| seen.topic == "octoprint2mqtt/other/availability" && seen.payload == "online";
    watcher.wait("the other printer", there).await;
    other.process.signal("TERM");
    assert_eq!(other.process.ended().await, Some(0));
    let mark = watcher.mark();
    let _bridge = Bridge::start(&text);
    watcher.wait_from(mark, "online", online).await;
    simulator.event("Counted", json!({ "n": 1 }));
    let new = |seen: &Seen| seen.topic == topic("event/Counted") && seen.json()["n"] == 1;
    watcher.wait_from(mark, "the new event", new).await;
    assert_eq!(counted(&watcher.seen()), [(1, false)]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto: ./tests/run real"]
async fn a_broker_that_restarts_fifty_times_loses_nothing() {
    octoprint2mqtt::tls::install_provider();
    let mut broker = Mosquitto::start().await;
    let simulator = Simulator::start(SimulatorOptions::default()).await.unwrap();
    let line = Proxy::start(broker.port).await;
    let watcher = Watcher::start(broker.port).await;
    let bridge = Bridge::start(&simulated(&line.url("mqtt"), &simulator));
    watcher.wait("online", online).await;
    let events = {
        let simulator = simulator.clone();
        tokio::spawn(async move {
            for n in 0..10_000 {
                simulator.event("Counted", json!({ "n": n }));
                tokio::time::sleep(Duration::from_millis(29)).await;
            }
        })
    };
    for _ in 0..50 {
        // Five minutes in all.
        tokio::time::sleep(Duration::from_millis(5200)).await;
        let before = watcher.subscriptions();
        line.refuse(true);
        broker.kill();
        broker.run().await;
        // Who is to count them must be back before the bridge is.
        eventually("the watcher to be back", || async {
            (watcher.subscriptions() > before).then_some(())
        })
        .await;
        line.refuse(false);
        let mark = watcher.mark();
        watcher
            .wait_from(mark, "the bridge to be back", |seen| {
                seen.topic == "octoprint2mqtt/bridge/state" && seen.payload == "online"
            })
            .await;
    }
    events.await.unwrap();
    let last = |seen: &Seen| seen.topic == topic("event/Counted") && seen.json()["n"] == 9999;
    watcher.wait("the last event", last).await;
    whole(&counted(&watcher.seen()), 10_000);
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", bridge.process.0.id())).unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap());
}

/// The events from the start of the first print on, but for those that differ from socket to socket
/// and those of the analysis of files, which goes on beside the print at its own pace.
fn of_the_print(events: &[(String, bool)]) -> Vec<(String, bool)> {
    let other = |kind: &str| {
        kind.starts_with("Client") || kind.starts_with("Metadata") || kind == "UserLoggedIn"
    };
    let start = events.iter().position(|(kind, _)| kind == "PrintStarted").unwrap();
    // The last upload ends it: its analysis was waited for.
    let end = events.iter().rposition(|(kind, _)| kind == "Upload").unwrap();
    events[start..=end].iter().filter(|(kind, _)| !other(kind)).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn every_event_of_a_broker_that_was_away_during_a_print_arrives() {
    let (broker, octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
    let line = Proxy::start(broker.port).await;
    let watcher = Watcher::start(broker.port).await;
    let _bridge = Bridge::start(&config(&line.url("mqtt"), &octoprint.url(), ""));
    watcher.wait("online", online).await;
    let beside = SockJs::start(&octoprint.url()).await;
    octoprint.upload("part.gcode", 900).await;
    octoprint.select("part.gcode").await;
    let mark = watcher.mark();
    octoprint.job(json!({"command": "start"})).await;
    watcher.wait_json(mark, &topic("print"), |p| p["event_type"] == "print_started").await;
    // A print that is still starting cannot be paused.
    octoprint.until("Printing").await;
    line.refuse(true);
    line.cut();
    octoprint.job(json!({"command": "pause", "action": "pause"})).await;
    octoprint.until("Paused").await;
    octoprint.job(json!({"command": "pause", "action": "resume"})).await;
    octoprint.until("Printing").await;
    // Ten events a second come from the print itself.
    let events = || beside.messages().iter().filter(|(kind, _)| kind == "event").count();
    let before = events();
    let enough = || async { (events() > before + 500).then_some(()) };
    real::within(Duration::from_secs(150), "500 events", enough).await;
    octoprint.job(json!({"command": "cancel"})).await;
    octoprint.until("Operational").await;
    line.refuse(false);
    octoprint.upload("end.gcode", 1).await;
    let end = |payload: &str| payload.contains("end.gcode");
    let analysed = topic("event/MetadataAnalysisFinished");
    watcher.wait("the end", |seen| seen.topic == analysed && end(&seen.payload)).await;

    let sent: Vec<(String, bool)> = beside
        .messages()
        .iter()
        .filter(|(kind, _)| kind == "event")
        .map(|(_, text)| {
            let event: Value = serde_json::from_str(text).unwrap();
            (event["type"].as_str().unwrap().to_owned(), false)
        })
        .collect();
    let seen = watcher.seen();
    let arrived: Vec<(String, bool)> = seen
        .iter()
        .filter_map(|seen| {
            let kind = seen.topic.strip_prefix(&topic("event/"))?.to_owned();
            Some((kind, seen.json()["_delayed"].is_u64()))
        })
        .collect();
    let (said, sent) = (sent.clone(), of_the_print(&sent));
    // All of them, in order; what comes in between was on its way when the line broke, comes a
    // second time and says so.
    let mut next = 0;
    for (kind, late) in of_the_print(&arrived) {
        if sent.get(next).is_some_and(|(expected, _)| *expected == kind) {
            next += 1;
        } else {
            // It may be one of those before the start of the print.
            let known = said.iter().any(|(earlier, _)| *earlier == kind);
            assert!(late && known, "{kind} is not {:?}, the {next}th", sent.get(next));
        }
    }
    assert_eq!(next, sent.len(), "the rest is missing: {:?}", &sent[next..]);
    assert_eq!(ends(&seen), [("print_cancelled".to_owned(), false)]);
    watcher.wait_json(0, &topic("printer"), |printer| printer["state"] == "operational").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mosquitto and OctoPrint: ./tests/run real"]
async fn missed_ends_are_published_once() {
    let (broker, mut octoprint) = tokio::join!(Mosquitto::start(), OctoPrint::start());
    let line = Proxy::start(octoprint.port).await;
    let data = tempfile::tempdir().unwrap();
    let text = with_data_dir(
        data.path(),
        &config(&broker.url(), &line.url("http"), "[printers.mk3.socket]\ntimeouts = [1]"),
    );
    let watcher = Watcher::start(broker.port).await;
    let mut bridge = Bridge::start(&text);
    watcher.wait("online", online).await;
    octoprint.upload("part.gcode", 40).await;
    octoprint.upload("long.gcode", 900).await;
    let recovered = |kind: &'static str| {
        move |print: &Value| print["event_type"] == kind && print["_recovered"] == true
    };

    // The line is cut for the end of a print.
    let start = |file: &'static str| {
        let (watcher, octoprint) = (&watcher, &octoprint);
        async move {
            let mark = watcher.mark();
            octoprint.select(file).await;
            octoprint.job(json!({"command": "start"})).await;
            let started = |p: &Value| p["event_type"] == "print_started";
            watcher.wait_json(mark, &topic("print"), started).await;
            // The state itself may never have been another in between.
            let printing = |p: &Value| p["state"]["flags"]["printing"] == true;
            watcher.wait_json(mark, &topic("message/current"), printing).await;
        }
    };
    start("part.gcode").await;
    line.refuse(true);
    line.cut();
    octoprint.until("Operational").await;
    let mark = watcher.mark();
    line.refuse(false);
    let done = watcher.wait_json(mark, &topic("print"), recovered("print_done")).await;
    assert_eq!(done["file"], "part.gcode");
    assert!(done["time"].as_f64() > Some(1.0), "{done}");
    let event = watcher
        .wait_json(mark, &topic("event/PrintDone"), |event| event["_recovered"] == true)
        .await;
    assert_eq!(event["path"], "part.gcode");
    assert!(event["_timestamp"].is_u64() && event["origin"] == "local", "{event}");

    // A cancel, and another print that runs when the line is back.
    start("long.gcode").await;
    line.refuse(true);
    line.cut();
    octoprint.job(json!({"command": "cancel"})).await;
    octoprint.until("Operational").await;
    octoprint.job(json!({"command": "start"})).await;
    octoprint.until("Printing").await;
    let mark = watcher.mark();
    line.refuse(false);
    watcher.wait_json(mark, &topic("print"), recovered("print_cancelled")).await;

    // The bridge is killed in this print, and started after its end.
    bridge.process.signal("KILL");
    bridge.process.ended().await;
    octoprint.job(json!({"command": "cancel"})).await;
    octoprint.until("Operational").await;
    let mark = watcher.mark();
    let mut bridge = Bridge::start(&text);
    watcher.wait_json(mark, &topic("print"), recovered("print_cancelled")).await;

    // Killed repeatedly: nothing is published twice.
    for _ in 0..2 {
        bridge.process.signal("KILL");
        bridge.process.ended().await;
        let mark = watcher.mark();
        bridge = Bridge::start(&text);
        watcher.wait_from(mark, "online", online).await;
    }

    // One that the bridge sees.
    start("part.gcode").await;
    let mark = watcher.mark();
    watcher.wait_json(mark, &topic("print"), |p| p["event_type"] == "print_done").await;

    // OctoPrint is killed in a print, and forgets it.
    start("long.gcode").await;
    octoprint.kill();
    let mark = watcher.mark();
    octoprint.run().await;
    let lost = watcher.wait_json(mark, &topic("print"), recovered("print_failed")).await;
    assert_eq!(lost["reason"], "OctoPrint was restarted", "{lost}");

    // The printer is switched off in a pause, which OctoPrint passes over in silence.
    let mark = watcher.mark();
    octoprint.select("long.gcode").await;
    octoprint.job(json!({"command": "start"})).await;
    octoprint.until("Printing").await;
    octoprint.job(json!({"command": "pause", "action": "pause"})).await;
    octoprint.until("Paused").await;
    octoprint.post("api/connection", json!({"command": "disconnect"})).await;
    watcher.wait_json(mark, &topic("print"), recovered("print_failed")).await;

    let all: Vec<(String, bool)> = ends(&watcher.seen());
    let told: Vec<(&str, bool)> = all.iter().map(|(kind, r)| (kind.as_str(), *r)).collect();
    assert_eq!(
        told,
        [
            ("print_done", true),
            ("print_cancelled", true),
            ("print_cancelled", true),
            ("print_done", false),
            ("print_failed", true),
            ("print_failed", true),
        ]
    );
}
