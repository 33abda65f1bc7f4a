use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::bridge::printer::snapshot::PrinterState;
use crate::bridge::printer::snapshot::markings::{Marking, Standing};

const WALL: SystemTime = SystemTime::UNIX_EPOCH;

fn print(path: &str) -> Print {
    let text = |text: &str| Some(text.to_owned());
    Print { name: text(path), path: text(path), origin: text("local"), ..Print::default() }
}

fn log(markings: &[(&str, f64)]) -> Vec<Marking> {
    let marking = |(kind, at): &(&str, f64)| Marking { kind: (*kind).to_owned(), at: *at };
    markings.iter().map(marking).collect()
}

fn history(markings: &[(&str, f64)], state: PrinterState, server_time: f64) -> History {
    History {
        markings: Some(log(markings)),
        server_time: Some(server_time),
        state,
        error: None,
        job: Some(print("part.gcode")),
    }
}

/// A tracker of a printer that is ready, and time that goes on as it is told to.
struct World {
    tracker: Tracker,
    start: Instant,
    now: Instant,
    /// The server's clock at `start`.
    clock: f64,
    markings: Vec<(&'static str, f64)>,
    /// The printer's.
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

    fn reconnect(&mut self, state: PrinterState) -> Option<Lost> {
        let history = history(&self.markings, state, self.server_time());
        self.tracker.reconnected(&history, self.now, WALL)
    }

    fn current(&mut self, state: PrinterState) {
        let standing = Standing::of(&log(&self.markings));
        let observed = Observed {
            state,
            standing: standing.as_ref(),
            server_time: Some(self.server_time()),
            fresh: false,
        };
        let error = Some(self.error.to_owned());
        let whole = history(&self.markings, state, self.server_time());
        let whole = History { error, ..whole };
        self.tracker.observe(observed, || Some(whole), self.now, WALL);
    }

    fn start(&mut self) -> Option<Lost> {
        self.mark("print");
        self.tracker.started(print("part.gcode"), self.now)
    }

    fn end(&mut self) -> bool {
        self.tracker.ended(&print("part.gcode"), self.now)
    }
}

fn settled(lost: &Lost) -> Vec<End> {
    let unclear = lost.unclear.as_ref().and_then(|unclear| unclear.settle(None));
    lost.ends.iter().cloned().chain(unclear).collect()
}

#[test]
fn a_print_that_runs_is_not_over_because_its_first_message_is_late() {
    let mut world = World::new();
    world.start();
    // What was built before the start waited for its turn; the next one is 10 s later.
    world.pass(3.0);
    world.current(PrinterState::Operational);
    world.pass(9.9);
    assert_eq!(world.tracker.overdue(world.now), None, "one message that may be old, and time");
    assert!(world.tracker.asks(world.now).is_some(), "so OctoPrint is asked");
    world.pass(0.1);
    world.current(PrinterState::Printing);
    world.pass(100.0);
    assert_eq!(world.tracker.overdue(world.now), None);
    assert!(world.end(), "the real end is told");
}

#[test]
fn time_alone_never_ends_a_print() {
    let mut world = World::new();
    world.start();
    world.current(PrinterState::Operational);
    for _ in 0..100 {
        world.pass(60.0);
        if let Some(question) = world.tracker.asks(world.now) {
            world.tracker.answered(question, None, world.now);
        }
        assert_eq!(world.tracker.overdue(world.now), None);
    }
    assert!(world.tracker.due().is_some(), "it is asked for again");
}

#[test]
fn two_messages_that_were_built_later_end_a_print_and_so_do_one_and_an_answer() {
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
            let question = world.tracker.asks(world.now).unwrap();
            assert_eq!(world.tracker.asks(world.now), None, "one question at a time");
            world.tracker.answered(question, Some(false), world.now);
        } else {
            world.current(PrinterState::Offline);
        }
        let lost = world.tracker.overdue(world.now).unwrap();
        assert_eq!(lost.ends[0].outcome, Outcome::Failed);
        assert_eq!(
            lost.ends[0].reason.as_deref(),
            Some("the connection to the printer was lost"),
            "the log says how it ended"
        );
        assert_eq!(world.tracker.overdue(world.now), None, "once");
        assert_eq!(world.tracker.found(lost.id, settled(&lost)).len(), 1);
        assert_eq!(world.reconnect(PrinterState::Offline), None, "the log's end is told");
    }
}

#[test]
fn a_print_whose_printer_went_says_so_or_what_the_printer_said() {
    for error in ["", "Heating failed"] {
        let mut world = World::new();
        world.start();
        world.pass(1.0);
        world.current(PrinterState::Paused);
        world.tracker.disconnected(world.now);
        world.error = error;
        world.pass(5.0);
        if error.is_empty() {
            let question = world.tracker.asks(world.now).unwrap();
            world.tracker.answered(question, Some(false), world.now);
        } else {
            // The first may be older than the event.
            (0..2).for_each(|_| world.current(PrinterState::Offline));
        }
        let lost = world.tracker.overdue(world.now).unwrap();
        let ends = settled(&lost);
        let expected = if error.is_empty() {
            crate::bridge::printer::snapshot::printer_state::LOST
        } else {
            error
        };
        assert_eq!(ends[0].reason.as_deref(), Some(expected), "though the log has no end of it");
    }
}

#[test]
fn an_end_in_the_log_before_a_prints_own_entry_is_of_another_print() {
    // Nobody knew of the print that the log had under way.
    let standing = Standing::of(&log(&[("print", 9_900.0)]));
    let print = Some(print("part.gcode"));
    let record =
        Record { print, server_time: 10_000.0, standing, begun: true, ..Record::default() };
    let markings = [("print", 9_900.0), ("done", 10_001.0), ("print", 10_002.0)];
    let verdict = judge(&record, &history(&markings, PrinterState::Printing, 10_010.0), Some(10.0));
    assert_eq!((verdict.unclear, verdict.running), (None, record.print));
    assert_eq!(verdict.ends.len(), 1);
    assert_eq!(verdict.ends[0].print, Print::default());
}

#[test]
fn an_answer_that_a_print_runs_counts_and_an_old_one_does_not() {
    let mut world = World::new();
    world.start();
    world.current(PrinterState::Operational);
    world.pass(5.0);
    let question = world.tracker.asks(world.now).unwrap();
    world.tracker.answered(question, Some(true), world.now);
    world.current(PrinterState::Operational);
    world.pass(5.0);
    assert_eq!(world.tracker.overdue(world.now), None);
    let old = world.tracker.asks(world.now).unwrap();
    world.current(PrinterState::Printing);
    world.current(PrinterState::Operational);
    world.tracker.answered(old, Some(false), world.now);
    world.pass(60.0);
    assert_eq!(world.tracker.overdue(world.now), None, "asked before the last sign");
}

#[test]
fn a_print_that_runs_after_all_is_taken_up_again() {
    let mut world = World::new();
    world.start();
    world.current(PrinterState::Printing);
    world.tracker.set_counts(Some("part.gcode"), &FileHistory::default());
    for _ in 0..2 {
        world.current(PrinterState::Operational);
    }
    world.pass(5.0);
    let lost = world.tracker.overdue(world.now).unwrap();
    // While the file's history is asked for, the print shows itself.
    world.current(PrinterState::Printing);
    assert_eq!(world.tracker.found(lost.id, settled(&lost)), [], "no end is told");
    let record = world.tracker.record().unwrap();
    assert_eq!((record.print.as_ref(), record.counts), (Some(&print("part.gcode")), Some((0, 0))));
    assert!(world.end());
    // Where the end was told already, the print is taken up all the same.
    for _ in 0..2 {
        assert_eq!(world.tracker.print(), None);
        world.current(PrinterState::Printing);
        world.current(PrinterState::Printing);
    }
    assert!(world.tracker.print().is_some());
    assert!(world.end());
}

#[test]
fn what_comes_late_after_an_end_is_no_new_print() {
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
fn each_start_has_one_end_however_often_octoprint_says_it() {
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
    // Of two prints the end is of the one that it names.
    world.start();
    assert!(world.tracker.ended(&print("other.gcode"), world.now));
    assert!(world.end());
}

#[test]
fn an_end_is_told_once_whether_it_is_seen_or_recovered() {
    let mut world = World::new();
    world.start();
    world.current(PrinterState::Printing);
    world.mark("done");
    let lost = world.reconnect(PrinterState::Finishing).unwrap();
    assert_eq!(lost.ends.len(), 1);
    // The event was on its way, and comes while the recovered end waits.
    assert!(world.end());
    assert_eq!(world.tracker.found(lost.id, settled(&lost)), []);
    assert!(!world.end());
    // And the other way round.
    world.start();
    world.current(PrinterState::Printing);
    world.mark("done");
    let lost = world.reconnect(PrinterState::Finishing).unwrap();
    assert_eq!(world.tracker.found(lost.id, settled(&lost)).len(), 1);
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
    let lost = world.reconnect(PrinterState::Operational).unwrap();
    assert_eq!((lost.ends.len(), lost.ends[0].outcome), (1, Outcome::Done));
}

#[test]
fn a_print_that_ended_in_silence_is_told_when_the_next_one_begins() {
    let mut world = World::new();
    world.start();
    world.current(PrinterState::Paused);
    world.current(PrinterState::Paused);
    world.mark("disconnected");
    world.current(PrinterState::Offline);
    world.mark("connected");
    let lost = world.start().unwrap();
    assert_eq!(lost.ends.len(), 1);
    assert!(world.end(), "the new one has an end of its own");
    // One that is begun anew from a pause is one print.
    world.start();
    world.current(PrinterState::Paused);
    world.current(PrinterState::Paused);
    assert_eq!(world.start(), None);
}

#[test]
fn clocks_that_are_set_invent_and_swallow_nothing() {
    for jump in [-86_400.0, -3_600.0, 3_600.0, 1.7e9] {
        // While the line is broken.
        let mut world = World::new();
        world.start();
        world.current(PrinterState::Printing);
        world.current(PrinterState::Printing);
        world.clock += jump;
        assert_eq!(world.reconnect(PrinterState::Printing), None, "{jump}");
        world.clock += jump;
        world.mark("cancel");
        let lost = world.reconnect(PrinterState::Operational).unwrap();
        assert_eq!(lost.ends.len(), 1, "{jump}");
        world.tracker.found(lost.id, lost.ends);
        world.clock -= jump;
        assert_eq!(world.reconnect(PrinterState::Operational), None, "{jump}");
        // Between an event and the next message; the ends are seen, and then one is not.
        world.start();
        world.clock += jump;
        world.mark("done");
        assert!(world.end());
        assert_eq!(world.reconnect(PrinterState::Operational), None, "{jump}");
        world.start();
        world.current(PrinterState::Printing);
        world.clock -= jump;
        world.mark("done");
        assert_eq!(world.reconnect(PrinterState::Operational).unwrap().ends.len(), 1, "{jump}");
    }
}

#[test]
fn a_server_that_was_set_back_hides_no_end_in_the_files_history() {
    let settle = |world: &World, lost: Lost| {
        let last = Some((world.server_time() - 3.0, true, Some(60.0)));
        let history = FileHistory { success: 2, failure: 0, last };
        lost.unclear.unwrap().settle(Some(&history)).unwrap().outcome
    };
    // While the line stands: the end of the print before is of a time to come now.
    let mut world = World::new();
    world.start();
    world.current(PrinterState::Printing);
    world.mark("done");
    assert!(world.end());
    world.start();
    world.current(PrinterState::Starting);
    world.clock -= 3_600.0;
    world.pass(1.0);
    world.current(PrinterState::Printing);
    world.pass(10.0);
    (0..2).for_each(|_| world.current(PrinterState::Operational));
    world.pass(5.0);
    let lost = world.tracker.overdue(world.now).unwrap();
    assert_eq!(settle(&world, lost), Outcome::Done);
    // While it is broken.
    let mut world = World::new();
    world.start();
    world.current(PrinterState::Printing);
    world.clock -= 3_600.0;
    world.pass(600.0);
    let whole = history(&[], PrinterState::Operational, world.server_time());
    let without_log = History { markings: None, ..whole };
    let lost = world.tracker.reconnected(&without_log, world.now, WALL).unwrap();
    assert_eq!(settle(&world, lost), Outcome::Done);
}

#[test]
fn a_field_that_is_missing_costs_that_field_alone() {
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
    let lost = tracker.reconnected(&odd, world.now, WALL).unwrap();
    assert!(lost.unclear.is_some(), "the state alone says that it is over");
    // The state that does not tell ends nothing.
    let unknown = History { state: PrinterState::Unknown, ..whole };
    assert_eq!(world.tracker.reconnected(&unknown, world.now, WALL), None);
    assert!(world.tracker.print().is_some());
    assert_eq!(History::read("[]"), None);
}

#[test]
fn ends_are_told_by_our_clock() {
    let world = World::new();
    assert_eq!(world.tracker.by_our_clock(10_000.0), 0.0, "the server is 10,000 s ahead");
    let tracker = Tracker::new(None);
    assert_eq!(tracker.by_our_clock(5.5), 5.5);
}

#[test]
fn nothing_is_kept_while_ends_are_found_out() {
    let mut world = World::new();
    world.start();
    world.current(PrinterState::Printing);
    world.mark("done");
    let lost = world.reconnect(PrinterState::Operational).unwrap();
    assert!(world.tracker.to_persist(true, world.now).is_none(), "not before the end is published");
    // The line breaks again, nothing happens meanwhile, and the next print ends.
    assert_eq!(world.reconnect(PrinterState::Operational), None);
    world.tracker.started(print("other.gcode"), world.now);
    world.tracker.ended(&print("other.gcode"), world.now);
    assert!(
        world.tracker.to_persist(true, world.now).is_none() && world.tracker.record().is_none()
    );
    world.tracker.found(lost.id, settled(&lost));
    let kept = world.tracker.to_persist(true, world.now).unwrap().clone();
    let kept: Record = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
    let mut again = Tracker::new(Some(kept));
    let same = history(&world.markings, PrinterState::Operational, world.server_time());
    assert_eq!(again.reconnected(&same, world.now, WALL), None);
}
