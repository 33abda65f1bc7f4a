use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::super::Snapshot;
use super::*;
use crate::bridge::printer::snapshot::EventFields;
use crate::octoprint::EventKind;

/// The last published progress, and the clocks of both sides.
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

    /// Receives a message at `seconds` after the start, with these print time and markings.
    fn printing(&mut self, seconds: f64, spent: f64, marking: &Value) {
        self.current("Printing", seconds, spent, marking);
    }

    fn event(&mut self, kind: &EventKind) {
        self.snapshot.event(kind, &EventFields::default());
    }

    fn current(&mut self, state: &str, seconds: f64, spent: f64, marking: &Value) {
        let message = json!({"state": {"text": state}, "serverTime": self.clocks.1 + seconds,
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

    /// Returns the error of a published time that should be `at` seconds after the start.
    fn off(&self, field: &str, at: f64) -> f64 {
        let text = self.published[field].as_str().unwrap();
        let time = humantime::parse_rfc3339(text).unwrap().duration_since(UNIX_EPOCH).unwrap();
        (time.as_secs_f64() - self.clocks.0 - at).abs()
    }
}

fn print_at(at: f64) -> Value {
    json!([{"type": "connected", "time": 1.0}, {"type": "print", "time": at}])
}

#[test]
fn start_and_finish_are_right_if_either_clock_is_set() {
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
fn a_marking_from_before_the_server_was_set_back_is_ignored() {
    let mut world = World::new();
    world.printing(600.0, 600.0, &print_at(90_000.0));
    assert!(world.off("started", 0.0) < 10.0, "{}", world.published);
}

#[test]
fn without_markings_the_start_is_found_from_the_print_time() {
    let mut world = World::new();
    world.printing(100.0, 100.0, &Value::Null);
    world.printing(200.0, 200.0, &Value::Null);
    assert!(world.off("started", 0.0) < 1.0);
    world.printing(303.0, 3.0, &Value::Null);
    assert!(world.off("started", 300.0) < 1.0, "{}", world.published);
}

#[test]
fn without_markings_an_event_announces_the_next_print() {
    let mut world = World::new();
    world.printing(3.0, 3.0, &Value::Null);
    assert!(world.off("started", 0.0) < 1.0);
    // The next one follows at once, and is first seen with a longer print time.
    world.snapshot.event(&EventKind::PrintStarted, &EventFields::default());
    world.printing(20.0, 5.0, &Value::Null);
    assert!(world.off("started", 15.0) < 1.0, "{}", world.published);
    world.printing(30.0, 15.0, &Value::Null);
    assert!(world.off("started", 15.0) < 1.0, "{}", world.published);
    // With markings, those decide.
    world.printing(100.0, 90.0, &print_at(5_010.0));
    world.snapshot.event(&EventKind::PrintStarted, &EventFields::default());
    world.printing(110.0, 100.0, &print_at(5_010.0));
    assert!(world.off("started", 10.0) < 1.0, "{}", world.published);
}

#[test]
fn without_markings_a_print_that_no_message_shows_has_a_start_of_its_own() {
    let mut world = World::new();
    world.printing(3.0, 3.0, &Value::Null);
    assert!(world.off("started", 0.0) < 1.0);
    world.event(&EventKind::PrintDone);
    world.current("Operational", 10.0, 9.0, &Value::Null);
    assert!(world.off("started", 0.0) < 1.0, "{}", world.published);
    // The next one is over between two messages.
    world.event(&EventKind::PrintStarted);
    world.current("Operational", 20.0, 9.0, &Value::Null);
    assert!(world.off("started", 0.0) < 1.0, "a late one of the print before");
    world.event(&EventKind::PrintDone);
    for seconds in [31.0, 50.0] {
        world.current("Operational", seconds, 1.0, &Value::Null);
        assert!(world.off("started", 30.0) < 1.0, "{}", world.published);
    }
}

#[test]
fn a_message_without_markings_changes_nothing() {
    let mut world = World::new();
    world.printing(100.0, 90.0, &print_at(5_000.0));
    let before = world.published["started"].clone();
    assert_eq!(world.snapshot.standing().unwrap().print, Some(5_000.0));
    for odd in [Value::Null, json!(5), Value::Null] {
        world.printing(120.0, 110.0, &odd);
        assert_eq!(world.snapshot.standing(), None, "it is unknown");
    }
    world.printing(130.0, 120.0, &print_at(5_000.0));
    assert_eq!(world.published["started"], before);
    assert!(world.snapshot.standing().is_some());
}
