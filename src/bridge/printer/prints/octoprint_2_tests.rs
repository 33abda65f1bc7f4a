//! Prints of OctoPrint 2.0: started at the printer, with repeated events and a history there.

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

/// A tracker of a connected OctoPrint with a given log and state.
struct Connected {
    tracker: Tracker,
    now: Instant,
}

impl Connected {
    fn at(kinds: &[&str], state: PrinterState) -> Self {
        let (tracker, now) = (Tracker::new(None), Instant::now());
        let mut connected = Self { tracker, now };
        assert_eq!(connected.back(kinds, state), None);
        connected
    }

    /// The first `history` of a connection, a minute later.
    fn back(&mut self, kinds: &[&str], state: PrinterState) -> Option<MissedEnds> {
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
        let observation = Observation {
            state,
            standing: standing.as_ref(),
            server_time: Some(1000.0 + kinds.len() as f64),
            fresh: false,
        };
        let job = || Some(History { job: Some(print("cube.gcode")), ..History::default() });
        self.tracker.observe(observation, job, self.now, SystemTime::UNIX_EPOCH)
    }
}

#[test]
fn a_print_started_at_the_printer_is_followed_from_start_to_end() {
    use PrinterState::{Operational, Printing};
    let before = ["connected", "print", "printing", "done"];
    let running = ["connected", "print", "printing", "done", "printing"];
    let over = ["connected", "print", "printing", "done", "printing", "done"];
    let mut connected = Connected::at(&before, Operational);
    assert!(!connected.current(&before, Operational));
    assert!(connected.current(&running, Printing), "its start is news");
    assert!(!connected.current(&running, Printing), "once");
    assert_eq!(connected.tracker.print(), Some(&print("cube.gcode")));
    assert!(connected.tracker.ended(&print("cube.gcode"), connected.now));
    assert!(!connected.current(&over, Operational));

    // Its end is missed.
    let mut connected = Connected::at(&before, Operational);
    assert!(connected.current(&running, Printing));
    let missed = connected.back(&over, Operational).unwrap();
    let [end] = &missed.ends[..] else { panic!("{missed:?}") };
    assert_eq!((end.outcome, &end.print), (Outcome::Done, &print("cube.gcode")));
    assert_eq!((end.at, missed.unclear), (1005.0, None));

    // All of it is missed.
    let mut connected = Connected::at(&before, Operational);
    let missed = connected.back(&over, Operational).unwrap();
    assert_eq!((missed.ends.len(), missed.ends[0].outcome), (1, Outcome::Done));
}

#[test]
fn a_file_transfer_to_the_card_is_no_print() {
    use PrinterState::{Offline, Operational, Printing, Transferring};
    let before = ["connected"];
    let sent = ["connected", "printing"];
    let mut connected = Connected::at(&before, Operational);
    assert!(!connected.current(&sent, Transferring) && !connected.current(&sent, Operational));
    assert_eq!(connected.back(&["connected", "printing", "disconnected"], Offline), None);
    // The same during an absence.
    let mut connected = Connected::at(&before, Operational);
    let gone = ["connected", "printing", "disconnected", "connected"];
    assert_eq!(connected.back(&gone, Operational), None);
    // A print that follows it is one.
    let mut connected = Connected::at(&sent, Operational);
    assert_eq!(connected.tracker.started(print("cube.gcode"), connected.now), None);
    assert!(!connected.current(&["connected", "printing", "print", "printing"], Printing));
    let over = ["connected", "printing", "print", "printing", "disconnected"];
    let missed = connected.back(&over, Offline).unwrap();
    assert_eq!((missed.ends.len(), missed.ends[0].outcome), (1, Outcome::Failed));
    assert_eq!(missed.ends[0].print, print("cube.gcode"));
}

#[test]
fn a_repeated_start_is_of_the_same_print_even_when_its_file_becomes_known() {
    let mut connected = Connected::at(&["connected"], PrinterState::Operational);
    assert!(!connected.tracker.is_repeated_start(&print("cube.gcode")), "none is running");
    let unknown = print_of(
        &serde_json::from_str(r#"{"name":"???","path":"???","origin":"printer"}"#).unwrap(),
    );
    assert_eq!((&unknown.path, &unknown.name), (&None, &None));
    assert_eq!(connected.tracker.started(unknown, connected.now), None);
    assert!(connected.tracker.is_repeated_start(&print("cube.gcode")));
    assert_eq!(connected.tracker.print(), Some(&print("cube.gcode")));
    assert!(!connected.tracker.is_repeated_start(&print("other.gcode")));
    assert!(connected.tracker.ended(&print("cube.gcode"), connected.now));
    assert!(!connected.tracker.is_repeated_start(&print("cube.gcode")), "it is over: a new one");
}

#[test]
fn the_history_of_a_file_on_the_printer_is_dated_by_starts() {
    let file = json!({"prints": {"success": 2, "failure": 1,
        "last": {"date": 1000.0, "success": true, "printTime": 60.0}}});
    let history = FileHistory::read_of_printer(file.to_string().as_bytes()).unwrap();
    assert_eq!(history.last, Some((1060.0, true, Some(60.0))));
    assert_eq!((history.success, history.failure), (2, 1));
    for none in [json!({"prints": null}), json!({})] {
        assert_eq!(FileHistory::read_of_printer(none.to_string().as_bytes()), None);
    }
}
