//! What is published of recorded messages of OctoPrint 2.0.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has failed, and nothing is above this crate"
)]

use std::time::{Duration, Instant, UNIX_EPOCH};

use octoprint2mqtt::bridge::printer::messages::Mapping;
use octoprint2mqtt::config;
use octoprint2mqtt::octoprint::Message;
use octoprint2mqtt::receipt::Receipt;
use octoprint2mqtt::topics::PrinterTopics;
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;

/// One publication: when, in seconds from the start, on which topic below the printer's, and what.
struct Said {
    at: f64,
    topic: String,
    payload: Value,
}

/// Everything that recorded messages make the bridge say.
struct Session {
    mapping: Mapping,
    start: Instant,
    said: Vec<Said>,
}

impl Session {
    fn new() -> Self {
        let text = "[printers.mk3]\nurl = \"http://octopi.local\"\napi_key = \"key\"\n";
        let printer = config::from_toml(text).unwrap().printers.remove(0);
        let topics = PrinterTopics::new("octoprint2mqtt", "mk3");
        let mut mapping = Mapping::new(1, topics, &printer);
        mapping.snapshot.unknown();
        Self { mapping, start: Instant::now(), said: Vec::new() }
    }

    fn of(recorded: &str) -> Self {
        let mut session = Self::new();
        for line in recorded.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let at = line["t"].as_f64().unwrap();
            for (kind, payload) in line["m"].as_object().into_iter().flatten() {
                session.hear(at, kind, payload);
            }
        }
        session
    }

    fn hear(&mut self, at: f64, kind: &str, payload: &Value) {
        let since = Duration::from_secs_f64(at);
        let wall = UNIX_EPOCH + Duration::from_secs(1_800_000_000) + since;
        let now: tokio::time::Instant = (self.start + since).into();
        let message = Message::new(kind, payload.to_string().into(), now, wall, 1).unwrap();
        let receipt = Receipt::new(1, now, unbounded_channel().0);
        let (publications, odd) = self.mapping.map(&message, &receipt);
        assert!(odd.is_none(), "{odd:?}");
        for publication in publications {
            let topic = publication.topic.strip_prefix("octoprint2mqtt/mk3/").unwrap().to_owned();
            let payload = serde_json::from_slice(&publication.payload).unwrap();
            self.said.push(Said { at, topic, payload });
        }
    }

    fn event(&mut self, at: f64, kind: &str, payload: &Value) {
        self.hear(at, "event", &json!({"type": kind, "payload": payload}));
    }

    /// What was said on `topic`.
    fn on<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a Value> {
        self.said.iter().filter(move |said| said.topic == topic).map(|said| &said.payload)
    }

    /// What `B/P/last_event` told, in order.
    fn last_events(&self) -> Vec<&str> {
        self.on("last_event").map(|last| last["event"].as_str().unwrap()).collect()
    }

    /// What was said on `topic` last, at `at` or before.
    fn last(&self, topic: &str, at: f64) -> &Value {
        let mut until = self.said.iter().filter(|said| said.topic == topic && said.at <= at);
        &until.next_back().unwrap_or_else(|| panic!("nothing on {topic} until {at}")).payload
    }
}

const ERRORS: &str = include_str!("captures/octoprint2_errors.jsonl");
const PRINT: &str = include_str!("captures/octoprint2_print_pause_resume_done.jsonl");
const IDLE: &str = include_str!("captures/octoprint2_connect_idle.jsonl");
const RECONNECT: &str = include_str!("captures/octoprint2_disconnect_connect.jsonl");
const CANCEL: &str = include_str!("captures/octoprint2_cancel.jsonl");
const MOONRAKER: &str = include_str!("captures/octoprint2_moonraker.jsonl");
const CARD: &str = include_str!("captures/octoprint2_printer_storage.jsonl");
const TIMELAPSE: &str = include_str!("captures/octoprint2_timelapse.jsonl");
const UPLOAD: &str = include_str!("captures/octoprint2_upload_analysis.jsonl");

#[test]
fn the_text_of_an_error_is_unchanged() {
    let session = Session::of(ERRORS);
    let ends: Vec<(&str, &str)> = session
        .on("print")
        .filter(|print| print["event_type"] != "print_started" && print["event_type"] != "error")
        .map(|print| (&print["event_type"], print["reason"].as_str().unwrap_or_default()))
        .map(|(kind, reason)| (kind.as_str().unwrap(), reason))
        .collect();
    let runaway =
        "Thermal Runaway, system stopped! Heater_ID: bed - Printer halted. kill() called!";
    let lost = "the connection to the printer was lost";
    assert_eq!(
        ends,
        [
            ("print_failed", runaway),
            ("print_failed", lost),
            ("print_failed", "emergency stop"),
            ("print_paused", ""),
            ("print_failed", "the printer was disconnected"),
            ("print_cancelled", ""),
            ("print_cancelled", "cancelled"),
        ]
    );
    // Before each reconnection.
    for (at, error) in [(5.0, runaway), (11.0, lost), (17.0, "emergency stop")] {
        let printer = session.last("printer", at);
        assert_eq!((&printer["state"], &printer["error"]), (&json!("error"), &json!(error)));
    }
    for at in [7.0, 24.0] {
        assert_eq!(session.last("printer", at)["error"], "", "{at}");
    }
}

#[test]
fn the_health_of_the_line_is_what_resends_were() {
    let session = Session::of(IDLE);
    let expected = json!({"count": 0, "transmitted": 8, "ratio": 0, "critical": false});
    assert_eq!(session.last("resends", 9.0), &expected);
    let mut session = Session::new();
    session.hear(0.0, "current", &json!({"resends": {"count": 1, "transmitted": 9, "ratio": 11}}));
    let expected = json!({"count": 1, "transmitted": 9, "ratio": 11, "critical": null});
    assert_eq!(session.last("resends", 0.0), &expected);
}

#[test]
fn the_tool_comes_with_the_state_and_the_height_is_of_this_connection() {
    let session = Session::of(RECONNECT);
    let told: Vec<&Value> = session.on("position").collect();
    assert_eq!(told[0], &json!({"z": 0.4, "tool": 0}), "it is not known to be of another one");
    assert_eq!(told[1..], [&json!({"z": null, "tool": 0})], "kept over the reconnection");
    let session = Session::of(ERRORS);
    assert_eq!(session.last("position", 8.0)["z"], Value::Null, "nothing has moved yet");
    assert_eq!(session.last("position", 9.7)["z"], Value::Null, "the connection is closed");
    let heights: Vec<&Value> = session.on("position").map(|position| &position["z"]).collect();
    assert!(!heights[1..].contains(&&json!(0.4)), "{heights:?}");
    // Only events report Klipper's height.
    let session = Session::of(MOONRAKER);
    assert_eq!(session.last("position", 20.9), &json!({"z": 1.0, "tool": null}));
    assert_eq!(session.last("position", 44.0), &json!({"z": null, "tool": null}));
}

#[test]
fn who_prints_is_known_though_the_state_forgets_it() {
    let session = Session::of(CANCEL);
    assert_eq!(session.last("job", 9.0)["user"], "admin", "the state has none after the end");
    let session = Session::of(MOONRAKER);
    assert_eq!(session.last("job", 30.0)["user"], "admin");
    assert_eq!(session.last("job", 38.0)["user"], Value::Null, "begun at the printer");
}

#[test]
fn the_last_print_time_is_asked_for_where_the_state_has_none() {
    let mut session = Session::new();
    let job = |path: Value, more: Value| {
        let mut job = json!({"file": {"name": path, "path": path, "origin": "local"}});
        job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "job": job })
    };
    let snapshot = |session: &mut Session| session.mapping.snapshot.take_unasked();
    // Before 2.0 the state has it, and so has 2.0 before the first file.
    session.hear(0.0, "current", &job(json!("a.gcode"), json!({"lastPrintTime": 7.5})));
    assert_eq!(session.last("job", 0.0)["last_print_time"], 7.5);
    session.hear(1.0, "current", &job(Value::Null, json!({"lastPrintTime": null})));
    assert_eq!(snapshot(&mut session), None);
    session.hear(2.0, "current", &job(json!("b.gcode"), json!({"user": "me"})));
    let asked = snapshot(&mut session).unwrap();
    assert_eq!((asked.origin.as_str(), asked.path.as_str()), ("local", "b.gcode"));
    assert_eq!(session.last("job", 2.0)["last_print_time"], Value::Null);
    session.hear(3.0, "current", &job(json!("b.gcode"), json!({"user": null})));
    assert_eq!(snapshot(&mut session), None, "it is the same file");
    let written = |path: &str| json!({"storage": "local", "path": path});
    session.event(4.0, "MetadataStatisticsUpdated", &written("a.gcode"));
    assert_eq!(snapshot(&mut session), None);
    session.event(4.0, "MetadataStatisticsUpdated", &written("b.gcode"));
    let file = snapshot(&mut session).unwrap();
    assert_eq!(file, asked);
    let times = [("_default".to_owned(), 8.5), ("other".to_owned(), 3.0)].into();
    let told = |change: Option<octoprint2mqtt::bridge::printer::snapshot::StateChange>| {
        change.map(|change| {
            let job: Value = serde_json::from_slice(&change.payload).unwrap();
            job["last_print_time"].clone()
        })
    };
    let snapshot = &mut session.mapping.snapshot;
    assert_eq!(told(snapshot.set_last_print_times(file, times)), None, "which one, nobody knows");
    assert_eq!(told(snapshot.set_profile(Some("_default".to_owned()))), Some(json!(8.5)));
    assert_eq!(told(snapshot.set_profile(Some("other".to_owned()))), Some(json!(3.0)));
    session.hear(5.0, "current", &job(json!("c.gcode"), json!({})));
    assert_eq!(
        session.last("job", 5.0)["last_print_time"],
        Value::Null,
        "that was of another file"
    );
}

#[test]
fn the_last_event_of_a_print_that_begins_is_that_it_began() {
    let session = Session::of(CANCEL);
    let last: Vec<&Value> = session.on("last_event").map(|last| &last["event"]).collect();
    assert_eq!(last[..3], ["FileSelected", "PrintStarted", "Home"]);
    assert_eq!(last.iter().filter(|event| **event == "FileSelected").count(), 1, "{last:?}");
    let session = Session::of(MOONRAKER);
    let last: Vec<&Value> = session.on("last_event").map(|last| &last["event"]).collect();
    assert!(!last.iter().any(|event| **event == "PrinterControlsChanged"), "{last:?}");
}

#[test]
fn a_file_on_its_way_to_the_printer_is_no_print() {
    let session = Session::of(CARD);
    let printing = session.on("printer").filter(|printer| printer["state"] == "printing");
    assert_eq!(printing.count(), 1, "that of the file that was sent before");
    let mut session = Session::new();
    for (text, state) in [
        ("Detecting serial connection", "connecting"),
        ("Transferring file to printer", "transferring"),
        ("Starting (Auto bed leveling)", "starting"),
    ] {
        session.hear(0.0, "current", &json!({"state": {"text": text, "flags": {}, "error": ""}}));
        assert_eq!(session.last("printer", 0.0)["state"], state);
    }
}

#[test]
fn a_print_with_a_pause_is_as_ever() {
    let session = Session::of(PRINT);
    let kinds: Vec<&Value> = session.on("print").map(|print| &print["event_type"]).collect();
    assert_eq!(kinds, ["print_started", "print_paused", "print_resumed", "print_done"]);
    let started: std::collections::BTreeSet<String> = session
        .on("progress")
        .map(|progress| progress["started"].to_string())
        .filter(|started| started != "null")
        .collect();
    assert_eq!(started.len(), 1, "{started:?}");
    let states: Vec<&Value> = session.on("printer").map(|printer| &printer["state"]).collect();
    for state in ["operational", "printing", "paused"] {
        assert!(states.contains(&&json!(state)), "{states:?}");
    }
}

#[test]
fn a_print_begun_at_the_printer_has_its_own_start() {
    let session = Session::of(MOONRAKER);
    let started = |at: f64| session.last("progress", at)["started"].clone();
    let (of_octoprint, of_printer) = (started(33.0), started(40.0));
    assert!(of_octoprint.is_string() && of_printer.is_string());
    assert_ne!(of_octoprint, of_printer);
    // OctoPrint goes on to say 26 %.
    let after = session.last("progress", 43.0);
    for key in ["completion", "print_time", "print_time_left", "started", "eta", "filepos"] {
        assert_eq!(after[key], Value::Null, "{key}: {after}");
    }
    let done = session.last("progress", 35.0);
    assert_eq!((&done["completion"], &done["eta"]), (&json!(100.0), &Value::Null));
}

#[test]
fn the_start_stays_though_a_connector_tells_of_it_again() {
    let mut session = Session::new();
    let printing = |at: f64, text: &str, starts: &[f64]| {
        let markings = starts.iter().map(|time| json!({"type": "print", "time": time}));
        json!({"state": {"text": text, "flags": {}}, "serverTime": 5000.0 + at,
            "progress": {"completion": at, "printTime": 0},
            "markings": markings.collect::<Vec<_>>()})
    };
    let payload = json!({"connector": "bambu", "path": "???", "origin": "printer"});
    session.event(0.0, "PrintStarted", &payload);
    session.hear(1.0, "current", &printing(1.0, "Printing (Heating)", &[5000.0]));
    session.hear(9.0, "current", &printing(9.0, "Paused", &[5000.0, 5008.0]));
    session.hear(19.0, "current", &printing(19.0, "Printing", &[5000.0, 5008.0, 5018.0]));
    let started: std::collections::BTreeSet<String> =
        session.on("progress").map(|progress| progress["started"].to_string()).collect();
    assert_eq!(started.len(), 1, "{started:?}");
}

#[test]
fn a_heater_without_a_name_is_none() {
    let mut session = Session::new();
    let temps = json!([{"time": 1, "tool0": {"actual": 20.0, "target": 0},
        "null": {"actual": 25.0, "target": 0}}]);
    let current = json!({"state": {"text": "Operational"}, "temps": temps});
    (0..20).for_each(|at| session.hear(f64::from(at), "current", &current));
    let topics: Vec<&str> = session.said.iter().map(|said| said.topic.as_str()).collect();
    assert!(topics.contains(&"temperature/tool0") && !topics.contains(&"temperature/null"));
}

#[test]
fn an_emergency_stop_that_is_reported_late_is_still_the_cause() {
    let mut session = Session::new();
    let gone = json!({"state": {"text": "Offline after error", "error": "", "flags": {}}});
    session.event(0.0, "Disconnected", &json!({"connector": "serial"}));
    session.hear(0.1, "current", &gone);
    assert_eq!(session.last("printer", 1.0)["error"], "the connection to the printer was lost");
    session.event(0.2, "EStop", &Value::Null);
    assert_eq!(session.last("printer", 1.0)["error"], "emergency stop");
    // What OctoPrint itself says is right.
    let told = json!({"state": {"text": "Offline after error", "error": "No space", "flags": {}}});
    session.hear(2.0, "current", &told);
    assert_eq!(session.last("printer", 2.0)["error"], "No space");
    let of_1_5 = json!({"state": {"text": "Offline (Error: Too hot)", "flags": {}}});
    session.hear(3.0, "current", &of_1_5);
    assert_eq!(session.last("printer", 3.0)["error"], "Too hot");
}

#[test]
fn a_timelapse_is_told_beside_the_print_and_ends_after_it() {
    let session = Session::of(TIMELAPSE);
    let kinds: Vec<&Value> = session.on("print").map(|print| &print["event_type"]).collect();
    assert_eq!(kinds, ["print_started", "print_done"]);
    // Frames are too many to be the last event.
    assert_eq!(
        session.last_events(),
        ["FileSelected", "PrintStarted", "Home", "PrintDone", "MovieRendering", "MovieDone"]
    );
    assert_eq!(session.on("event/CaptureDone").count(), 4);
    let movie = session.last("event/MovieDone", 20.0);
    assert_eq!(
        (&movie["gcode"], &movie["movie_basename"], &movie["_event"]),
        (&json!("part.gcode"), &json!("part_20261125083602.mp4"), &json!("MovieDone"))
    );
    // Messages of these types are as OctoPrint sends them, with null for no timelapse.
    let rendered: Vec<&Value> = session.on("message/renderProgress").collect();
    assert_eq!(rendered, [&json!({"progress": 50.0}), &json!({"progress": 100.0})]);
    let configured: Vec<&Value> = session.on("message/timelapse").collect();
    assert_eq!((configured[0], configured[2]), (&Value::Null, &Value::Null));
    assert_eq!((configured.len(), &configured[1]["type"]), (3, &json!("timed")));
    // Rendering is no state of the printer, and the print's end is that of the print.
    let states: Vec<&Value> = session.on("printer").map(|printer| &printer["state"]).collect();
    assert_eq!(states, ["operational", "printing", "finishing", "operational"]);
    let progress = session.last("progress", 20.0);
    assert_eq!((&progress["completion"], &progress["eta"]), (&json!(100.0), &Value::Null));
    assert_eq!(session.last("job", 5.0)["user"], "admin", "OctoPrint loses it with the start");
}

#[test]
fn an_upload_and_its_analysis_leave_the_job_alone() {
    let session = Session::of(UPLOAD);
    let paths: Vec<&Value> = session.on("event/Upload").map(|upload| &upload["path"]).collect();
    assert_eq!(paths, ["part.gcode", "parts/thumb.gcode"]);
    let analysis = session.last("event/MetadataAnalysisFinished", 2.0);
    assert_eq!(analysis["result"]["filament"]["tool0"]["length"], 40.0, "{analysis}");
    assert_eq!(session.last("event/FileAdded", 2.0)["storage"], "local");
    // What OctoPrint does by itself is no last event, and a selection is told once.
    assert_eq!(
        session.last_events(),
        ["FileAdded", "Upload", "FileAdded", "Upload", "FileSelected"]
    );
    assert_eq!(session.on("event/FileSelected").count(), 2, "events are passed on as they come");
    assert_eq!(session.on("print").count(), 0);
    // There was no job before, and nothing to tell of it.
    assert!(session.on("job").all(|job| job["path"] == "part.gcode"));
    let selected = session.last("job", 9.0);
    assert_eq!(
        (&selected["path"], &selected["origin"], &selected["user"], &selected["size"]),
        (&json!("part.gcode"), &json!("local"), &json!("admin"), &json!(2105))
    );
    assert!(selected["estimated_print_time"].as_f64() > Some(96.0), "{selected}");
    assert_eq!(selected["filament"]["tool0"]["length"], 40.0, "{selected}");
}
