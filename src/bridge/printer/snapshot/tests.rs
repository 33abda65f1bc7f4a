//! The snapshot, with recorded messages of a real OctoPrint.

use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use serde_json::{Value, json};

use serde_json::value::RawValue;

use super::*;

fn captured(name: &str) -> Vec<(f64, String, String)> {
    #[derive(Deserialize)]
    struct Line<'a> {
        #[serde(default)]
        t: f64,
        #[serde(borrow, default)]
        m: std::collections::BTreeMap<String, &'a RawValue>,
    }
    let path = format!("{}/tests/captures/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .flat_map(|line| {
            let Line { t, m } = serde_json::from_str(line).unwrap();
            m.into_iter()
                .map(move |(kind, raw)| (t, kind, raw.get().to_owned()))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Clocks with a fixed wall clock time at the start.
struct Clock {
    instant: Instant,
}

impl Clock {
    fn new() -> Self {
        Self { instant: Instant::now() }
    }

    fn at(&self, seconds: f64) -> Now {
        let since = Duration::from_secs_f64(seconds);
        let start = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        Now { instant: self.instant + since, wall: start + since }
    }
}

/// Returns all changes that a capture causes, as (seconds, topic, value).
fn fold(name: &str) -> Vec<(f64, StateTopic, Value)> {
    let (mut snapshot, clock) = (Snapshot::new(), Clock::new());
    let mut changes = Vec::new();
    for (t, kind, payload) in captured(name) {
        if kind != "current" && kind != "history" {
            continue;
        }
        let now = clock.at(t);
        let applied = match kind.as_str() {
            "history" => snapshot.apply_history(&payload, now),
            _ => snapshot.apply(&payload, now),
        };
        for change in applied.unwrap() {
            changes.push((t, change.topic, serde_json::from_slice(&change.payload).unwrap()));
        }
    }
    changes
}

fn of<'a>(changes: &'a [(f64, StateTopic, Value)], topic: &StateTopic) -> Vec<&'a Value> {
    changes.iter().filter(|(_, t, _)| t == topic).map(|(_, _, value)| value).collect()
}

fn names(names: &[&str]) -> Vec<Heater> {
    names.iter().filter_map(|name| Heater::read(name)).collect()
}

fn state(text: &str, flags: &Value) -> String {
    json!({"state": {"text": text, "flags": flags, "error": ""}}).to_string()
}

#[test]
fn a_print_from_start_to_end() {
    let changes = fold("print_done");
    let states: Vec<&str> = of(&changes, &StateTopic::Printer)
        .iter()
        .map(|printer| printer["state"].as_str().unwrap())
        .collect();
    assert_eq!(states.first(), Some(&"operational"));
    assert!(states.contains(&"printing"), "{states:?}");
    assert_eq!(states.last(), Some(&"operational"));
    let progress = of(&changes, &StateTopic::Progress);
    let last = progress.last().unwrap();
    assert_eq!(last["completion"], 100.0);
    assert_eq!(last["eta"], Value::Null, "a finished print has no finish time");
    let started: Vec<&Value> =
        progress.iter().map(|p| &p["started"]).filter(|started| !started.is_null()).collect();
    assert!(!started.is_empty() && started.iter().all(|s| *s == started[0]), "{started:?}");
    let job = of(&changes, &StateTopic::Job);
    assert!(job.last().unwrap()["file"].as_str().unwrap().ends_with(".gcode"));
}

#[test]
fn every_payload_differs_from_the_one_before() {
    for name in ["print_done", "pause_resume_restart_cancel", "two_tools_chamber_shared_nozzle"] {
        let changes = fold(name);
        for (index, (_, topic, value)) in changes.iter().enumerate() {
            let before = changes[..index].iter().rev().find(|(_, t, _)| t == topic);
            assert!(before.is_none_or(|(_, _, before)| before != value), "{name} {topic:?}");
        }
    }
}

#[test]
fn a_message_without_a_change_changes_nothing() {
    let (mut snapshot, clock) = (Snapshot::new(), Clock::new());
    let currents = captured("print_done").into_iter().filter(|(_, kind, _)| kind == "current");
    for (t, _, payload) in currents {
        snapshot.apply(&payload, clock.at(t)).unwrap();
        assert_eq!(snapshot.apply(&payload, clock.at(t)).unwrap(), []);
    }
}

#[test]
fn a_cancellation_clears_the_progress() {
    let changes = fold("pause_resume_restart_cancel");
    // The recorded cancels were at 14.5 s and 20.6 s; another print follows.
    let after = |cancel: f64| {
        let progress = changes.iter().filter(|(_, topic, _)| *topic == StateTopic::Progress);
        progress.clone().find(|(t, _, _)| *t > cancel).map(|(_, _, value)| value.clone()).unwrap()
    };
    assert_eq!(after(20.6)["completion"], Value::Null);
    let last = after(14.5);
    for key in ["completion", "print_time", "print_time_left", "started", "eta"] {
        assert_eq!(last[key], Value::Null, "{key}");
    }
    let states: Vec<&Value> =
        of(&changes, &StateTopic::Printer).iter().map(|p| &p["state"]).collect();
    assert!(states.contains(&&json!("paused")), "{states:?}");
}

#[test]
fn heaters_follow_the_readings_and_are_null_without_the_printer() {
    let (mut snapshot, clock) = (Snapshot::new(), Clock::new());
    let on = json!({"state": {"text": "Operational"}, "offsets": {"bed": 5},
        "temps": [{"time": 1, "tool0": {"actual": 21.26, "target": 0},
        "bed": {"actual": 20.04, "target": 60.0}, "chamber": {"actual": null, "target": null},
        "A": {"actual": 30.0, "target": null}}]});
    snapshot.set_profile_heaters(Some(names(&["tool0", "bed", "chamber"])));
    let first = snapshot.apply(&on.to_string(), clock.at(0.0)).unwrap();
    for _ in 0..8 {
        assert_eq!(snapshot.apply(&on.to_string(), clock.at(0.0)).unwrap(), []);
    }
    let tenth = snapshot.apply(&on.to_string(), clock.at(0.0)).unwrap();
    let changes = [first, tenth].concat();
    let heater = |changes: &[StateChange], name: &str| -> Option<Value> {
        let topic = StateTopic::Temperature(Heater::read(name)?);
        let change = changes.iter().find(|change| change.topic == topic)?;
        Some(serde_json::from_slice(&change.payload).unwrap())
    };
    assert_eq!(
        heater(&changes, "tool0"),
        Some(json!({"actual": 21.3, "target": 0.0, "offset": 0.0}))
    );
    assert_eq!(
        heater(&changes, "bed"),
        Some(json!({"actual": 20.0, "target": 60.0, "offset": 5.0}))
    );
    assert_eq!(heater(&changes, "A"), Some(json!({"actual": 30.0, "target": null, "offset": 0.0})));
    assert_eq!(heater(&changes, "chamber"), None, "it never had a number");

    let step = |actual: f64| {
        json!({"state": {"text": "Operational"}, "offsets": {"bed": 5},
            "temps": [{"time": 2, "tool0": {"actual": actual, "target": 0},
            "bed": {"actual": 20.0, "target": 60.0}, "A": {"actual": 30.0, "target": null}}]})
        .to_string()
    };
    let temperatures = |changes: Vec<StateChange>| {
        changes.iter().filter(|c| matches!(c.topic, StateTopic::Temperature(_))).count()
    };
    assert_eq!(temperatures(snapshot.apply(&step(21.4), clock.at(1.0)).unwrap()), 0);
    assert_eq!(temperatures(snapshot.apply(&step(21.5), clock.at(2.0)).unwrap()), 1);

    let off = json!({"state": {"text": "Offline"}, "temps": [{"time": 3}]}).to_string();
    let changes = snapshot.apply(&off, clock.at(3.0)).unwrap();
    let nothing = json!({"actual": null, "target": null, "offset": null});
    assert_eq!(heater(&changes, "tool0"), Some(nothing.clone()));
    assert_eq!(heater(&changes, "bed"), Some(nothing));
    assert_eq!(temperatures(snapshot.apply(&off, clock.at(4.0)).unwrap()), 0);
}

#[test]
fn heaters_that_leave_the_profile_are_cleared() {
    let (mut snapshot, clock) = (Snapshot::new(), Clock::new());
    let two = |t: f64| {
        json!({"state": {"text": "Operational"}, "temps": [{"time": t,
        "tool0": {"actual": 20.0, "target": 0}, "tool1": {"actual": t, "target": 0}}]})
        .to_string()
    };
    snapshot.set_profile_heaters(Some(names(&["tool0", "tool1"])));
    snapshot.apply(&two(1.0), clock.at(0.0)).unwrap();
    snapshot.set_profile_heaters(Some(names(&["tool0"])));
    let cleared = snapshot.take_cleared();
    let gone = StateTopic::Temperature(Heater::tool(1));
    assert_eq!(cleared, [StateChange { topic: gone.clone(), payload: bytes::Bytes::new() }]);
    let changes = snapshot.apply(&two(50.0), clock.at(1.0)).unwrap();
    assert!(changes.iter().all(|change| change.topic != gone), "{changes:?}");
    assert_eq!(snapshot.take_cleared(), []);
}

#[test]
fn an_hour_of_silence_clears_the_topic_of_a_heater_that_is_not_in_the_profile() {
    let (mut snapshot, clock) = (Snapshot::new(), Clock::new());
    snapshot.set_profile_heaters(Some(names(&["tool0"])));
    let heat = json!({"actual": 20.0, "target": 0});
    let mut read = |t: f64, sensors: Value| {
        let text = json!({"state": {"text": "Operational"}, "temps": [sensors]}).to_string();
        snapshot.apply(&text, clock.at(t)).unwrap();
        snapshot.take_cleared()
    };
    (0..10).for_each(|t| drop(read(f64::from(t), json!({"tool0": heat, "A": heat}))));
    let seconds = (10..3_700).filter(|t| {
        let cleared = read(f64::from(*t), json!({"tool0": heat}));
        cleared.iter().any(
            |change| matches!(&change.topic, StateTopic::Temperature(heater) if *heater == *"A"),
        )
    });
    assert_eq!(seconds.collect::<Vec<_>>(), [3_609]);
    assert!(!snapshot.is_heater("A"));
}

#[test]
fn invalid_numbers_become_null_without_affecting_others() {
    let (mut snapshot, clock) = (Snapshot::new(), Clock::new());
    let mut apply = |completion: f64, time: f64, left: f64| -> Vec<(StateTopic, Value)> {
        let odd = json!({"state": {"text": "Printing", "error": 5, "flags": [1]},
            "currentZ": 1e300, "resends": {"count": -1, "transmitted": 5, "ratio": 1e300},
            "job": {"file": {"name": "a", "path": ["b"], "size": -1}, "estimatedPrintTime": -5.0,
                "lastPrintTime": 1e12, "user": {}, "filament": 7},
            "temps": [{"tool0": {"actual": 1e308, "target": 200.0}, "bed": {"actual": 1e300}}],
            "offsets": {"tool0": null, "bed": 4},
            "progress": {"completion": completion, "printTime": time, "printTimeLeft": left,
                "filepos": -1}});
        let changes = snapshot.apply(&odd.to_string(), clock.at(0.0)).unwrap();
        let read = |c: StateChange| (c.topic, serde_json::from_slice(&c.payload).unwrap());
        changes.into_iter().map(read).collect()
    };
    let of = |changes: &[(StateTopic, Value)], topic: StateTopic| -> Value {
        changes.iter().find(|(found, _)| *found == topic).map(|(_, v)| v.clone()).unwrap()
    };
    let changes = apply(100.4, -300.0, 1e12);
    let progress = of(&changes, StateTopic::Progress);
    assert_eq!(progress["completion"], 100.0);
    for key in ["print_time", "print_time_left", "eta", "filepos"] {
        assert_eq!(progress[key], Value::Null, "{key}");
    }
    let job = of(&changes, StateTopic::Job);
    assert_eq!(job["file"], "a");
    for key in ["path", "size", "estimated_print_time", "last_print_time", "user", "filament"] {
        assert_eq!(job[key], Value::Null, "{key}");
    }
    let tool = of(&changes, StateTopic::Temperature(Heater::tool(0)));
    assert_eq!(tool, json!({"actual": null, "target": 200.0, "offset": 0.0}));
    assert!(changes.iter().all(|(topic, _)| *topic != StateTopic::Temperature(Heater::bed())));
    assert_eq!(of(&changes, StateTopic::Position)["z"], Value::Null);
    let resends = json!({"count": null, "transmitted": 5, "ratio": null, "critical": null});
    assert_eq!(of(&changes, StateTopic::Resends), resends);
    let printer = of(&changes, StateTopic::Printer);
    assert_eq!((&printer["error"], &printer["flags"]), (&Value::Null, &Value::Null));
    let progress = of(&apply(250.0, 3.4e8, 10.0), StateTopic::Progress);
    assert_eq!(
        (&progress["completion"], &progress["print_time"], &progress["print_time_left"]),
        (&Value::Null, &Value::Null, &json!(10))
    );
    assert_eq!(of(&apply(-0.04, 1.0, 1.0), StateTopic::Progress)["completion"], 0.0);
}

#[test]
fn times_change_every_ten_seconds_and_the_finish_time_by_a_minute() {
    let (mut snapshot, clock) = (Snapshot::new(), Clock::new());
    let printing = |time: u32, left: u32| {
        json!({"state": {"text": "Printing"}, "serverTime": 5000.0 + f64::from(time),
            "markings": [{"type": "print", "time": 5000.0}],
            "progress": {"completion": 50.04, "filepos": 10, "printTime": time,
            "printTimeLeft": left, "printTimeLeftOrigin": "linear"}})
        .to_string()
    };
    let mut progress = |t: f64, left: u32| {
        let changes = snapshot.apply(&printing(t as u32, left), clock.at(t)).unwrap();
        let change = changes.into_iter().find(|change| change.topic == StateTopic::Progress)?;
        Some(serde_json::from_slice::<Value>(&change.payload).unwrap())
    };
    let first = progress(100.0, 1000).unwrap();
    assert_eq!(first["completion"], 50.0);
    assert_eq!(first["started"], "2027-01-15T08:00:00Z");
    assert_eq!(first["eta"], "2027-01-15T08:18:20Z");
    assert_eq!(progress(105.0, 990), None, "only times moved");
    let later = progress(110.0, 1049).unwrap();
    assert_eq!(later["eta"], first["eta"], "moved by less than a minute");
    assert_eq!(later["print_time"], 110);
    let moved = progress(111.0, 1050).unwrap();
    assert_eq!(moved["eta"], "2027-01-15T08:19:21Z");
    assert_eq!(progress(112.0, 1049), None);
    assert_eq!(snapshot.due(), Some(clock.at(121.0).instant));
    assert!(snapshot.flush(clock.at(121.0)).is_some());
    assert_eq!(snapshot.due(), None);
}

#[test]
fn a_malformed_field_does_not_affect_others() {
    let (mut snapshot, clock) = (Snapshot::new(), Clock::new());
    let odd = json!({"state": 5, "job": {"file": [], "user": "me"}, "currentZ": "high",
        "progress": {"completion": "half", "printTime": 12.6}, "temps": {"time": 1},
        "offsets": null, "resends": null, "markings": [null, {"type": 1}]});
    let changes = snapshot.apply(&odd.to_string(), clock.at(0.0)).unwrap();
    let job = changes.iter().find(|change| change.topic == StateTopic::Job).unwrap();
    let job: Value = serde_json::from_slice(&job.payload).unwrap();
    assert_eq!((&job["file"], &job["user"]), (&Value::Null, &json!("me")));
    let progress = changes.iter().find(|change| change.topic == StateTopic::Progress).unwrap();
    let progress: Value = serde_json::from_slice(&progress.payload).unwrap();
    assert_eq!((&progress["completion"], &progress["print_time"]), (&Value::Null, &json!(13)));
    for no_object in ["null", "[]", "5", "\"x\"", "{"] {
        assert!(snapshot.apply(no_object, clock.at(1.0)).is_err(), "{no_object}");
    }
}

#[test]
fn every_topic_has_every_key_before_anything_is_known() {
    let mut snapshot = Snapshot::new();
    let unknown = snapshot.unknown();
    let keys: Vec<(StateTopic, Vec<String>)> = unknown
        .into_iter()
        .map(|change| {
            let value: serde_json::Map<String, Value> =
                serde_json::from_slice(&change.payload).unwrap();
            (change.topic, value.keys().cloned().collect())
        })
        .collect();
    assert_eq!(keys.len(), 9, "{keys:?}");
    let of = |topic| &keys.iter().find(|(t, _)| *t == topic).unwrap().1;
    assert_eq!(of(StateTopic::Printer), &["error", "flags", "state", "text"]);
    assert_eq!(of(StateTopic::Position), &["tool", "z"]);
    assert_eq!(of(StateTopic::Resends), &["count", "critical", "ratio", "transmitted"]);
    assert_eq!(of(StateTopic::Factors), &["feedrate", "flowrate"]);
    let connection = ["connector", "job_on_hold", "temperature_offsets"];
    assert_eq!(of(StateTopic::Connection), &connection);
    assert_eq!(of(StateTopic::Storage), &["local", "printer"]);
}

#[test]
fn the_tool_and_the_factors_are_of_one_connection_of_the_printer() {
    let mut snapshot = Snapshot::new();
    snapshot.unknown();
    let payload = RawValue::from_string(r#"{"old":0,"new":1}"#.to_owned()).unwrap();
    let changes = snapshot
        .event(&EventKind::ToolChange, &EventFields::read(&EventKind::ToolChange, Some(&payload)));
    assert_eq!(&changes[0].payload[..], br#"{"z":null,"tool":1}"#);
    snapshot.factors(Some(120), None);
    let topics: Vec<StateTopic> = snapshot
        .event(&EventKind::Connected, &EventFields::default())
        .into_iter()
        .map(|change| change.topic)
        .collect();
    assert_eq!(topics, [StateTopic::Position, StateTopic::Factors]);
}

#[test]
fn an_error_with_a_lost_printer_is_an_error() {
    let mut snapshot = Snapshot::new();
    let text = state("Offline after error", &json!({"closedOrError": true, "error": false}));
    snapshot.apply(&text, Clock::new().at(0.0)).unwrap();
    assert_eq!(snapshot.state(), PrinterState::Error);
}

proptest! {
    /// Any mutation of a recorded message is applied or rejected, and every payload is JSON.
    #[test]
    fn mutated_messages_do_no_harm(
        pick in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let messages = captured("connect_idle");
        let (_, _, payload) = pick.get(&messages);
        let mut bytes = payload.clone().into_bytes();
        for (index, byte) in edits {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        let mut snapshot = Snapshot::new();
        let text = String::from_utf8_lossy(&bytes);
        for change in snapshot.apply(&text, Clock::new().at(0.0)).into_iter().flatten() {
            prop_assert!(serde_json::from_slice::<Value>(&change.payload).is_ok());
        }
    }
}

#[test]
fn the_connector_is_known_from_the_connection_and_over_a_disconnect() {
    let mut snapshot = Snapshot::default();
    let connection = |connector: &str| PrinterConnection {
        connector: Some(connector.to_owned()),
        ..PrinterConnection::default()
    };
    assert!(snapshot.set_connection(connection("moonraker")).is_some());
    assert!(!snapshot.is_serial());
    let changes = snapshot.event(&EventKind::Disconnected, &EventFields::default());
    let change = changes.iter().find(|change| change.topic == StateTopic::Connection).unwrap();
    let payload: Value = serde_json::from_slice(&change.payload).unwrap();
    assert_eq!(payload["connector"], Value::Null);
    snapshot.set_connection(connection("unknown"));
    assert!(!snapshot.is_serial(), "the last known one");
}
