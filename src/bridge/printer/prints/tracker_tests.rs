//! The prints of one printer as its messages follow each other, with silences and repeated events.

mod clocks;

use std::time::{Duration, Instant, SystemTime};

use super::tests::{log, print};
use super::*;
use crate::bridge::printer::snapshot::PrinterState;
use crate::bridge::printer::snapshot::markings::Standing;

const WALL: SystemTime = SystemTime::UNIX_EPOCH;

fn history(markings: &[(&str, f64)], state: PrinterState, server_time: f64) -> History {
    History {
        markings: Some(log(markings)),
        server_time: Some(server_time),
        state,
        error: None,
        job: Some(print("part.gcode")),
    }
}

/// A tracker of a printer that is ready, and simulated time.
struct World {
    tracker: Tracker,
    start: Instant,
    now: Instant,
    /// The server's clock at `start`.
    clock: f64,
    markings: Vec<(&'static str, f64)>,
    /// The printer's error.
    error: &'static str,
}

impl World {
    fn new() -> Self {
        let start = Instant::now();
        let mut world = Self {
            tracker: Tracker::new(None),
            start,
            now: start,
            clock: 10_000.0,
            markings: vec![("connected", 9_000.0)],
            error: "",
        };
        assert_eq!(world.reconnect(PrinterState::Operational), None);
        world
    }

    fn server_time(&self) -> f64 {
        self.clock + (self.now - self.start).as_secs_f64()
    }

    fn pass(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
    }

    fn mark(&mut self, kind: &'static str) {
        self.markings.push((kind, self.server_time()));
    }

    fn reconnect(&mut self, state: PrinterState) -> Option<MissedEnds> {
        let history = history(&self.markings, state, self.server_time());
        self.tracker.reconnected(&history, self.now, WALL)
    }

    fn current(&mut self, state: PrinterState) {
        let standing = Standing::of(&log(&self.markings));
        let observation = Observation {
            state,
            standing: standing.as_ref(),
            server_time: Some(self.server_time()),
            fresh: false,
        };
        let error = Some(self.error.to_owned());
        let whole = history(&self.markings, state, self.server_time());
        let whole = History { error, ..whole };
        self.tracker.observe(observation, || Some(whole), self.now, WALL);
    }

    fn start(&mut self) -> Option<MissedEnds> {
        self.mark("print");
        self.tracker.started(print("part.gcode"), self.now)
    }

    fn end(&mut self) -> bool {
        self.tracker.ended(&print("part.gcode"), self.now)
    }
}

fn resolved(missed: &MissedEnds) -> Vec<PrintEnd> {
    let unclear = missed.unclear.as_ref().and_then(|unclear| unclear.resolve(None));
    missed.ends.iter().cloned().chain(unclear).collect()
}

#[test]
fn a_late_message_from_before_the_start_ends_no_print() {
    let mut world = World::new();
    world.start();
    // This message was built before the start, and waited for its turn. The next one comes 10 s later.
    world.pass(3.0);
    world.current(PrinterState::Operational);
    world.pass(9.9);
    assert_eq!(world.tracker.overdue(world.now), None, "one message that may be old, and time");
    assert!(world.tracker.next_question(world.now).is_some(), "so OctoPrint is asked");
    world.pass(0.1);
    world.current(PrinterState::Printing);
    world.pass(100.0);
    assert_eq!(world.tracker.overdue(world.now), None);
    assert!(world.end(), "the real end is news");
}

#[test]
fn time_alone_never_ends_a_print() {
    let mut world = World::new();
    world.start();
    world.current(PrinterState::Operational);
    for _ in 0..100 {
        world.pass(60.0);
        if let Some(question) = world.tracker.next_question(world.now) {
            world.tracker.answered(question, None, world.now);
        }
        assert_eq!(world.tracker.overdue(world.now), None);
    }
    assert!(world.tracker.due().is_some(), "OctoPrint is asked again");
}

#[test]
fn two_later_messages_or_one_and_an_answer_end_a_print() {
    for answers in [false, true] {
        let mut world = World::new();
        world.start();
        world.pass(1.0);
        world.current(PrinterState::Paused);
        world.mark("disconnected");
        world.pass(10.0);
        world.current(PrinterState::Offline);
        world.pass(10.0);
        assert_eq!(world.tracker.overdue(world.now), None, "one is not enough");
        if answers {
            let question = world.tracker.next_question(world.now).unwrap();
            assert_eq!(world.tracker.next_question(world.now), None, "one question at a time");
            world.tracker.answered(question, Some(false), world.now);
        } else {
            world.current(PrinterState::Offline);
        }
        let missed = world.tracker.overdue(world.now).unwrap();
        assert_eq!(missed.ends[0].outcome, Outcome::Failed);
        assert_eq!(
            missed.ends[0].reason.as_deref(),
            Some("the connection to the printer was lost"),
            "from the log"
        );
        assert_eq!(world.tracker.overdue(world.now), None, "once");
        assert_eq!(world.tracker.resolved(missed.id, resolved(&missed)).len(), 1);
        assert_eq!(world.reconnect(PrinterState::Offline), None, "the log's end is no news");
    }
}

#[test]
fn a_lost_printer_or_its_error_is_the_reason_for_the_end() {
    for error in ["", "Heating failed"] {
        let mut world = World::new();
        world.start();
        world.pass(1.0);
        world.current(PrinterState::Paused);
        world.tracker.disconnected(world.now);
        world.error = error;
        world.pass(5.0);
        if error.is_empty() {
            let question = world.tracker.next_question(world.now).unwrap();
            world.tracker.answered(question, Some(false), world.now);
        } else {
            // The first may be older than the event.
            (0..2).for_each(|_| world.current(PrinterState::Offline));
        }
        let missed = world.tracker.overdue(world.now).unwrap();
        let ends = resolved(&missed);
        let expected = if error.is_empty() {
            crate::bridge::printer::snapshot::printer_state::LOST
        } else {
            error
        };
        assert_eq!(ends[0].reason.as_deref(), Some(expected), "though the log has no end of it");
    }
}

#[test]
fn an_answer_that_a_print_runs_counts_and_an_old_one_does_not() {
    let mut world = World::new();
    world.start();
    world.current(PrinterState::Operational);
    world.pass(5.0);
    let question = world.tracker.next_question(world.now).unwrap();
    world.tracker.answered(question, Some(true), world.now);
    world.current(PrinterState::Operational);
    world.pass(5.0);
    assert_eq!(world.tracker.overdue(world.now), None);
    let old = world.tracker.next_question(world.now).unwrap();
    world.current(PrinterState::Printing);
    world.current(PrinterState::Operational);
    world.tracker.answered(old, Some(false), world.now);
    world.pass(60.0);
    assert_eq!(world.tracker.overdue(world.now), None, "asked before the last sign");
}

#[test]
fn a_print_that_goes_on_after_all_is_followed_again() {
    let mut world = World::new();
    world.start();
    world.current(PrinterState::Printing);
    world.tracker.set_counts(Some("part.gcode"), &FileHistory::default());
    for _ in 0..2 {
        world.current(PrinterState::Operational);
    }
    world.pass(5.0);
    let missed = world.tracker.overdue(world.now).unwrap();
    // The print shows itself while the file's history is being requested.
    world.current(PrinterState::Printing);
    assert_eq!(world.tracker.resolved(missed.id, resolved(&missed)), [], "no end is published");
    let record = world.tracker.record().unwrap();
    assert_eq!((record.print.as_ref(), record.counts), (Some(&print("part.gcode")), Some((0, 0))));
    assert!(world.end());
    // The same if the end was published already.
    for _ in 0..2 {
        assert_eq!(world.tracker.print(), None);
        world.current(PrinterState::Printing);
        world.current(PrinterState::Printing);
    }
    assert!(world.tracker.print().is_some());
    assert!(world.end());
}

#[test]
fn late_messages_after_an_end_are_no_new_print() {
    let mut world = World::new();
    world.start();
    world.current(PrinterState::Printing);
    world.mark("done");
    assert!(world.end());
    world.current(PrinterState::Printing);
    world.current(PrinterState::Finishing);
    world.current(PrinterState::Finishing);
    assert_eq!(world.tracker.print(), None);
    world.current(PrinterState::Operational);
    assert_eq!(world.reconnect(PrinterState::Operational), None);
}

#[test]
fn each_start_has_one_end_even_if_octoprint_repeats_it() {
    let mut world = World::new();
    world.start();
    assert!(world.end());
    for _ in 0..30 {
        assert!(!world.end());
    }
    assert!(!world.tracker.ended(&Print::default(), world.now), "nor one without a file");
    world.start();
    assert!(world.end() && !world.end());
    // A restart of the bridge changes nothing.
    let record = world.tracker.record().unwrap().clone();
    let mut again = Tracker::new(Some(record));
    assert!(!again.ended(&print("part.gcode"), world.now));
    assert!(again.ended(&print("other.gcode"), world.now), "an end whose start was not seen");
    // An end belongs to the print that it names.
    world.start();
    assert!(world.tracker.ended(&print("other.gcode"), world.now));
    assert!(world.end());
}

#[test]
fn an_end_is_reported_once_whether_it_is_seen_or_recovered() {
    let mut world = World::new();
    world.start();
    world.current(PrinterState::Printing);
    world.mark("done");
    let missed = world.reconnect(PrinterState::Finishing).unwrap();
    assert_eq!(missed.ends.len(), 1);
    // The event was on its way, and comes while the recovered end waits.
    assert!(world.end());
    assert_eq!(world.tracker.resolved(missed.id, resolved(&missed)), []);
    assert!(!world.end());
    // The other way round.
    world.start();
    world.current(PrinterState::Printing);
    world.mark("done");
    let missed = world.reconnect(PrinterState::Finishing).unwrap();
    assert_eq!(world.tracker.resolved(missed.id, resolved(&missed)).len(), 1);
    assert!(!world.end());
}

#[test]
fn an_end_that_is_in_the_log_before_the_line_breaks_is_recovered() {
    let mut world = World::new();
    world.start();
    world.current(PrinterState::Printing);
    world.current(PrinterState::Printing);
    world.mark("done");
    world.current(PrinterState::Finishing);
    let missed = world.reconnect(PrinterState::Operational).unwrap();
    assert_eq!((missed.ends.len(), missed.ends[0].outcome), (1, Outcome::Done));
}

#[test]
fn a_print_that_ended_in_silence_is_reported_when_the_next_one_begins() {
    let mut world = World::new();
    world.start();
    world.current(PrinterState::Paused);
    world.current(PrinterState::Paused);
    world.mark("disconnected");
    world.current(PrinterState::Offline);
    world.mark("connected");
    let missed = world.start().unwrap();
    assert_eq!(missed.ends.len(), 1);
    assert!(world.end(), "the new one has an end of its own");
    // A print that is restarted from a pause is one print.
    world.start();
    world.current(PrinterState::Paused);
    world.current(PrinterState::Paused);
    assert_eq!(world.start(), None);
}

#[test]
fn a_missing_field_affects_no_other() {
    let mut world = World::new();
    world.start();
    world.current(PrinterState::Printing);
    let whole = history(&world.markings, PrinterState::Printing, world.server_time());
    let without = |payload: serde_json::Value| History::read(&payload.to_string()).unwrap();
    let odd = without(serde_json::json!({"markings": null, "serverTime": "x", "state": {
        "text": "Operational", "flags": null}, "job": 5}));
    assert_eq!((odd.markings.as_ref(), odd.server_time), (None, None));
    assert_eq!(odd.state, PrinterState::Operational);
    let record = world.tracker.record().unwrap().clone();
    let mut tracker = Tracker::new(Some(record));
    let missed = tracker.reconnected(&odd, world.now, WALL).unwrap();
    assert!(missed.unclear.is_some(), "only the state shows that it is over");
    // An unknown state ends nothing.
    let unknown = History { state: PrinterState::Unknown, ..whole };
    assert_eq!(world.tracker.reconnected(&unknown, world.now, WALL), None);
    assert!(world.tracker.print().is_some());
    assert_eq!(History::read("[]"), None);
}

#[test]
fn nothing_is_persisted_during_a_lookup() {
    let mut world = World::new();
    world.start();
    world.current(PrinterState::Printing);
    world.mark("done");
    let missed = world.reconnect(PrinterState::Operational).unwrap();
    assert!(world.tracker.to_persist(true, world.now).is_none(), "not before the end is published");
    // The connection breaks again, nothing happens meanwhile, and the next print ends.
    assert_eq!(world.reconnect(PrinterState::Operational), None);
    world.tracker.started(print("other.gcode"), world.now);
    world.tracker.ended(&print("other.gcode"), world.now);
    assert!(
        world.tracker.to_persist(true, world.now).is_none() && world.tracker.record().is_none()
    );
    world.tracker.resolved(missed.id, resolved(&missed));
    let persisted = world.tracker.to_persist(true, world.now).unwrap().clone();
    let persisted: Record =
        serde_json::from_str(&serde_json::to_string(&persisted).unwrap()).unwrap();
    let mut again = Tracker::new(Some(persisted));
    let same = history(&world.markings, PrinterState::Operational, world.server_time());
    assert_eq!(again.reconnected(&same, world.now, WALL), None);
}
