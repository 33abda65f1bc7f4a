//! What clocks that are set do to the times of day of a print.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::markings::Standing;
use super::*;

/// What is published of the progress so far, and both sides' clocks.
struct World {
    snapshot: Snapshot,
    start: Instant,
    /// The bridge's clock at the start, and the server's, in Unix seconds.
    clocks: (f64, f64),
    published: Value,
}

impl World {
    fn new() -> Self {
        let clocks = (1_800_000_000.0, 5_000.0);
        let (snapshot, start) = (Snapshot::new(), Instant::now());
        Self { snapshot, start, clocks, published: Value::Null }
    }

    /// A message of a print that goes on since `seconds`, with a `print` marking at `marking`.
    fn printing(&mut self, seconds: f64, spent: f64, marking: &Value) {
        let message = json!({"state": {"text": "Printing"}, "serverTime": self.clocks.1 + seconds,
            "markings": marking, "progress": {"completion": 50, "printTime": spent as u64,
            "printTimeLeft": 1000}});
        let since = Duration::from_secs_f64(seconds);
        let wall = UNIX_EPOCH + Duration::from_secs_f64(self.clocks.0 + seconds);
        let now = Now { instant: self.start + since, wall };
        for change in self.snapshot.apply(&message.to_string(), now).unwrap() {
            if change.topic == StateTopic::Progress {
                self.published = serde_json::from_slice(&change.payload).unwrap();
            }
        }
    }

    /// By how much a published time is off, given where it belongs, in seconds after the start.
    fn off(&self, field: &str, at: f64) -> f64 {
        let text = self.published[field].as_str().unwrap();
        let told = humantime::parse_rfc3339(text).unwrap().duration_since(UNIX_EPOCH).unwrap();
        let told = told.as_secs_f64();
        (told - self.clocks.0 - at).abs()
    }
}

fn print_at(at: f64) -> Value {
    json!([{"type": "connected", "time": 1.0}, {"type": "print", "time": at}])
}

#[test]
fn start_and_finish_are_right_though_either_clock_is_set() {
    for jump in [-90.0, 90.0, 86_400.0, -86_400.0, -1.7e9, 1e9] {
        for ours in [true, false] {
            let mut world = World::new();
            world.printing(100.0, 100.0, &print_at(5_000.0));
            assert!(world.off("started", 0.0) < 1.0 && world.off("eta", 1_100.0) < 60.0);
            let clock = if ours { &mut world.clocks.0 } else { &mut world.clocks.1 };
            *clock += jump;
            world.printing(110.0, 110.0, &print_at(5_000.0));
            assert!(world.off("started", 0.0) < 10.0, "{jump} {ours} {}", world.published);
            assert!(world.off("eta", 1_110.0) < 60.0, "{jump} {ours} {}", world.published);
        }
    }
}

#[test]
fn a_marking_of_before_the_server_was_set_back_is_not_believed() {
    let mut world = World::new();
    world.printing(600.0, 600.0, &print_at(90_000.0));
    assert!(world.off("started", 0.0) < 10.0, "{}", world.published);
}

#[test]
fn without_markings_the_print_time_tells_and_begins_anew_with_each_print() {
    let mut world = World::new();
    world.printing(100.0, 100.0, &Value::Null);
    world.printing(200.0, 200.0, &Value::Null);
    assert!(world.off("started", 0.0) < 1.0);
    world.printing(303.0, 3.0, &Value::Null);
    assert!(world.off("started", 300.0) < 1.0, "{}", world.published);
}

#[test]
fn without_markings_an_event_tells_that_a_print_begins() {
    let mut world = World::new();
    world.printing(3.0, 3.0, &Value::Null);
    assert!(world.off("started", 0.0) < 1.0);
    // The next one follows at once, and is seen only when it has gone on for longer.
    world.snapshot.event(&EventKind::PrintStarted, None);
    world.printing(20.0, 5.0, &Value::Null);
    assert!(world.off("started", 15.0) < 1.0, "{}", world.published);
    world.printing(30.0, 15.0, &Value::Null);
    assert!(world.off("started", 15.0) < 1.0, "{}", world.published);
    // Where there is a log, it tells.
    world.printing(100.0, 90.0, &print_at(5_010.0));
    world.snapshot.event(&EventKind::PrintStarted, None);
    world.printing(110.0, 100.0, &print_at(5_010.0));
    assert!(world.off("started", 10.0) < 1.0, "{}", world.published);
}

#[test]
fn a_log_that_is_missing_once_changes_nothing() {
    let mut world = World::new();
    world.printing(100.0, 90.0, &print_at(5_000.0));
    let before = world.published["started"].clone();
    assert_eq!(world.snapshot.standing().unwrap().print, Some(5_000.0));
    for odd in [Value::Null, json!(5), Value::Null] {
        world.printing(120.0, 110.0, &odd);
        assert_eq!(world.snapshot.standing(), None, "it says nothing");
    }
    world.printing(130.0, 120.0, &print_at(5_000.0));
    assert_eq!(world.published["started"], before);
    assert!(world.snapshot.standing().is_some());
}

#[test]
fn the_log_says_whether_a_print_is_under_way_and_what_ended_it() {
    let standing = |kinds: &[&str]| {
        let entries: Vec<Value> =
            kinds.iter().zip(1..).map(|(kind, at)| json!({"type": kind, "time": at})).collect();
        let raw = serde_json::value::to_raw_value(&entries).unwrap();
        Standing::of(&markings::read(Some(&raw)).unwrap())
    };
    let end = |kinds: &[&str]| standing(kinds).unwrap().end.map(|end| end.at);
    assert_eq!(standing(&[]), None);
    assert_eq!(end(&["connected"]), Some(1.0));
    assert_eq!(end(&["connected", "print"]), None);
    assert_eq!(end(&["pause"]), None, "the print's own entry is dropped after a while");
    assert_eq!(end(&["print", "pause", "disconnected", "connected"]), Some(3.0));
    assert_eq!(end(&["print", "done", "print", "cancel"]), Some(4.0));
    let odd = serde_json::value::to_raw_value(&json!([null, 5, {"type": "done", "time": "x"}]));
    assert_eq!(markings::read(Some(&odd.unwrap())), Some(Vec::new()));
    assert_eq!(markings::read(None), None);
}
