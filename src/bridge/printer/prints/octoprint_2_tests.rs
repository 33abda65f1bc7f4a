//! Prints of OctoPrint 2.0: begun at the printer, told of again and again, with a history there.

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::*;
use crate::bridge::printer::snapshot::PrinterState;
use crate::bridge::printer::snapshot::markings::{self, Marking, Standing};

fn print(path: &str) -> Print {
    let text = |text: &str| Some(text.to_owned());
    Print { name: text(path), path: text(path), origin: text("printer"), ..Print::default() }
}

/// A log as OctoPrint sends it, one entry a second from 1000.0 on.
fn log(kinds: &[&str]) -> Vec<Marking> {
    let entry = |(at, kind)| json!({"type": kind, "time": f64::from(at)});
    let entries: Vec<Value> = (1000..).zip(kinds).map(entry).collect();
    let raw = serde_json::value::to_raw_value(&entries).unwrap();
    markings::read(Some(&raw)).unwrap()
}

/// A tracker that looked at OctoPrint when this was its log and its state.
struct Looked {
    tracker: Tracker,
    now: Instant,
}

impl Looked {
    fn at(kinds: &[&str], state: PrinterState) -> Self {
        let (tracker, now) = (Tracker::new(None), Instant::now());
        let mut looked = Self { tracker, now };
        assert_eq!(looked.back(kinds, state), None);
        looked
    }

    /// The first `history` of a connection, a minute later.
    fn back(&mut self, kinds: &[&str], state: PrinterState) -> Option<Lost> {
        self.now += Duration::from_secs(60);
        let history = History {
            markings: Some(log(kinds)),
            server_time: Some(1000.0 + kinds.len() as f64),
            state,
            error: None,
            job: Some(print("cube.gcode")),
        };
        self.tracker.reconnected(&history, self.now, SystemTime::UNIX_EPOCH)
    }

    fn current(&mut self, kinds: &[&str], state: PrinterState) -> bool {
        self.now += Duration::from_secs(1);
        let standing = Standing::of(&log(kinds));
        let observed = Observed {
            state,
            standing: standing.as_ref(),
            server_time: Some(1000.0 + kinds.len() as f64),
            fresh: false,
        };
        let job = || Some(History { job: Some(print("cube.gcode")), ..History::default() });
        self.tracker.observe(observed, job, self.now, SystemTime::UNIX_EPOCH)
    }
}

#[test]
fn a_print_begun_at_the_printer_is_one_from_its_start_to_its_end() {
    use PrinterState::{Operational, Printing};
    let before = ["connected", "print", "printing", "done"];
    let running = ["connected", "print", "printing", "done", "printing"];
    let over = ["connected", "print", "printing", "done", "printing", "done"];
    let mut looked = Looked::at(&before, Operational);
    assert!(!looked.current(&before, Operational));
    assert!(looked.current(&running, Printing), "its start is news");
    assert!(!looked.current(&running, Printing), "once");
    assert_eq!(looked.tracker.print(), Some(&print("cube.gcode")));
    assert!(looked.tracker.ended(&print("cube.gcode"), looked.now));
    assert!(!looked.current(&over, Operational));

    // Its end is missed.
    let mut looked = Looked::at(&before, Operational);
    assert!(looked.current(&running, Printing));
    let lost = looked.back(&over, Operational).unwrap();
    let [end] = &lost.ends[..] else { panic!("{lost:?}") };
    assert_eq!((end.outcome, &end.print), (Outcome::Done, &print("cube.gcode")));
    assert_eq!((end.at, lost.unclear), (1005.0, None));

    // All of it is missed.
    let mut looked = Looked::at(&before, Operational);
    let lost = looked.back(&over, Operational).unwrap();
    assert_eq!((lost.ends.len(), lost.ends[0].outcome), (1, Outcome::Done));
}

#[test]
fn a_file_that_was_sent_to_the_card_is_no_print_that_ended() {
    use PrinterState::{Offline, Operational, Printing, Transferring};
    let before = ["connected"];
    let sent = ["connected", "printing"];
    let mut looked = Looked::at(&before, Operational);
    assert!(!looked.current(&sent, Transferring) && !looked.current(&sent, Operational));
    assert_eq!(looked.back(&["connected", "printing", "disconnected"], Offline), None);
    // The same while nobody looked.
    let mut looked = Looked::at(&before, Operational);
    let gone = ["connected", "printing", "disconnected", "connected"];
    assert_eq!(looked.back(&gone, Operational), None);
    // A print that follows it is one.
    let mut looked = Looked::at(&sent, Operational);
    assert_eq!(looked.tracker.started(print("cube.gcode"), looked.now), None);
    assert!(!looked.current(&["connected", "printing", "print", "printing"], Printing));
    let over = ["connected", "printing", "print", "printing", "disconnected"];
    let lost = looked.back(&over, Offline).unwrap();
    assert_eq!((lost.ends.len(), lost.ends[0].outcome), (1, Outcome::Failed));
    assert_eq!(lost.ends[0].print, print("cube.gcode"));
}

#[test]
fn a_print_that_is_told_again_is_the_same_also_when_its_file_becomes_known() {
    let mut looked = Looked::at(&["connected"], PrinterState::Operational);
    assert!(!looked.tracker.is_told_again(&print("cube.gcode")), "none runs");
    let unknown = print_of(r#"{"name":"???","path":"???","origin":"printer"}"#).unwrap();
    assert_eq!((&unknown.path, &unknown.name), (&None, &None));
    assert_eq!(looked.tracker.started(unknown, looked.now), None);
    assert!(looked.tracker.is_told_again(&print("cube.gcode")));
    assert_eq!(looked.tracker.print(), Some(&print("cube.gcode")));
    assert!(!looked.tracker.is_told_again(&print("other.gcode")));
    assert!(looked.tracker.ended(&print("cube.gcode"), looked.now));
    assert!(!looked.tracker.is_told_again(&print("cube.gcode")), "it is over: a new one");
}

#[test]
fn the_history_of_a_file_on_the_printer_has_starts() {
    let file = json!({"prints": {"success": 2, "failure": 1,
        "last": {"date": 1000.0, "success": true, "printTime": 60.0}}});
    let history = FileHistory::read_of_printer(file.to_string().as_bytes()).unwrap();
    assert_eq!(history.last, Some((1060.0, true, Some(60.0))));
    assert_eq!((history.success, history.failure), (2, 1));
    for none in [json!({"prints": null}), json!({})] {
        assert_eq!(FileHistory::read_of_printer(none.to_string().as_bytes()), None);
    }
}
