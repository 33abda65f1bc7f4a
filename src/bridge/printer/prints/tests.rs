//! How prints ended that no event reported, judged from recorded and from written logs and files.

use std::time::{Instant, SystemTime};

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::bridge::printer::snapshot::PrinterState;
use crate::bridge::printer::snapshot::markings::{Marking, Standing};

/// The recorded first `history` after an absence, by case.
fn recorded(case: &str) -> History {
    let captures = include_str!("../../../../tests/captures/reconnect_after_absence.jsonl");
    let line = captures.lines().find(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["case"] == case && line["m"]["history"].is_object()
    });
    let line: Value = serde_json::from_str(line.unwrap()).unwrap();
    History::read(&line["m"]["history"].to_string()).unwrap()
}

pub(super) fn print(path: &str) -> Print {
    let text = |text: &str| Some(text.to_owned());
    Print { name: text(path), path: text(path), origin: text("local"), ..Print::default() }
}

/// The record of an absence since `since`, in the middle of a print of quick.gcode.
fn printing(since: f64) -> Record {
    Record {
        print: Some(print("quick.gcode")),
        server_time: since,
        last_end: since - 60.0,
        ..Record::default()
    }
}

/// Judges as after a restart of the bridge, which knows its absence only from the server's clock.
fn judge(record: &Record, history: &History) -> Judgement {
    let away = history.server_time.map(|now| now - record.server_time);
    super::judge(record, history, away)
}

fn outcomes(judgement: &Judgement) -> Vec<Outcome> {
    judgement.ends.iter().map(|end| end.outcome).collect()
}

#[test]
fn the_recorded_absences_are_judged_right() {
    for (case, since, outcome) in [
        ("done", 1_795_448_174.0, Outcome::Done),
        ("cancel", 1_795_448_181.5, Outcome::Cancelled),
        ("error", 1_795_448_186.0, Outcome::Failed),
        ("error_then_reconnected", 1_795_448_191.5, Outcome::Failed),
        ("paused_then_disconnected", 1_795_448_198.5, Outcome::Failed),
        ("done_then_other_selected", 1_795_448_206.0, Outcome::Done),
    ] {
        let history = recorded(case);
        let judgement = judge(&printing(since), &history);
        assert_eq!(outcomes(&judgement), [outcome], "{case}");
        assert_eq!(judgement.ends[0].print.path.as_deref(), Some("quick.gcode"), "{case}");
        assert!(
            judgement.ends[0].at > since && judgement.ends[0].at < history.server_time.unwrap()
        );
        assert_eq!((judgement.running, judgement.unclear), (None, None), "{case}");
        let known = Record { last_end: history.server_time.unwrap(), ..printing(since) };
        assert!(judge(&known, &history).ends.is_empty(), "{case}: never twice");
    }
    let judgement = judge(&printing(1_795_448_186.0), &recorded("error"));
    assert!(judgement.ends[0].reason.as_ref().is_some_and(|reason| !reason.is_empty()));
}

#[test]
fn a_print_that_started_meanwhile_is_not_taken_for_the_one_that_ended() {
    let judgement = judge(&printing(1_795_448_214.0), &recorded("done_then_restarted"));
    assert_eq!(outcomes(&judgement), [Outcome::Done]);
    assert_eq!(judgement.running.unwrap().path.as_deref(), Some("quick.gcode"));
    assert_eq!(judgement.unclear, None);
    // The one that was running before goes on.
    let same = judge(&printing(1_795_448_219.0), &recorded("done_then_restarted"));
    assert!(same.ends.is_empty() && same.unclear.is_none() && same.running.is_some());
}

#[test]
fn prints_that_started_and_ended_unseen_are_found_as_far_as_the_markings_reach() {
    let idle = Record { print: None, ..printing(1_795_448_180.0) };
    let judgement = judge(&idle, &recorded("error_then_reconnected"));
    let all = [Outcome::Cancelled, Outcome::Failed, Outcome::Failed];
    assert_eq!(outcomes(&judgement), all);
    assert!(judgement.ends.iter().all(|end| end.print == Print::default()), "no file is selected");
    let judgement = judge(&idle, &recorded("cancel"));
    assert_eq!(judgement.ends[0].print.path.as_deref(), Some("quick.gcode"), "still selected");
}

pub(super) fn log(markings: &[(&str, f64)]) -> Vec<Marking> {
    let marking = |(kind, at): &(&str, f64)| Marking { kind: (*kind).to_owned(), at: *at };
    markings.iter().map(marking).collect()
}

fn history(markings: &[(&str, f64)], job: Option<&str>, running: bool) -> History {
    History {
        markings: Some(log(markings)),
        server_time: Some(10_000.0),
        state: if running { PrinterState::Printing } else { PrinterState::Operational },
        error: Some(String::new()),
        job: job.map(print),
    }
}

#[test]
fn an_end_in_the_log_before_a_prints_own_entry_is_of_another_print() {
    // The record does not know the print that the log had under way.
    let standing = Standing::of(&log(&[("print", 9_900.0)]));
    let print = Some(print("quick.gcode"));
    let record = Record {
        print,
        server_time: 10_000.0,
        standing,
        newer_than_log: true,
        ..Record::default()
    };
    let markings = [("print", 9_900.0), ("done", 10_001.0), ("print", 10_002.0)];
    let log = history(&markings, Some("quick.gcode"), true);
    let log = History { server_time: Some(10_010.0), ..log };
    let judgement = super::judge(&record, &log, Some(10.0));
    assert_eq!((judgement.unclear, judgement.running), (None, record.print));
    assert_eq!(judgement.ends.len(), 1);
    assert_eq!(judgement.ends[0].print, Print::default());
}

#[test]
fn a_restart_of_octoprint_loses_the_print() {
    let judgement = judge(&printing(9_000.0), &history(&[("connected", 9_500.0)], None, false));
    assert_eq!(outcomes(&judgement), [Outcome::Failed]);
    assert_eq!(judgement.ends[0].reason.as_deref(), Some("OctoPrint was restarted"));
}

/// Its log is a new one then: the file's history shows an end before that.
#[test]
fn an_end_before_a_restart_of_octoprint_comes_from_the_files_history() {
    let record = Record { counts: Some((3, 2)), ..printing(9_000.0) };
    let log = [("connected", 9_500.0), ("print", 9_600.0), ("done", 9_700.0)];
    let mut judgement = judge(&record, &history(&log, Some("quick.gcode"), false));
    assert_eq!(outcomes(&judgement), [Outcome::Failed, Outcome::Done], "in order");
    let unclear = judgement.ends[0].unproven.take().unwrap();
    let resolve = |success, failure, last| {
        let history = FileHistory { success, failure, last };
        let end = unclear.resolve(Some(&history)).unwrap();
        (end.outcome, end.at, end.reason)
    };
    let failed = |reason: &str| (Outcome::Failed, 9_500.0, Some(reason.to_owned()));
    let before = Some((8_000.0, true, None));
    assert_eq!(resolve(3, 2, before), failed("OctoPrint was restarted"));
    let done = (Outcome::Done, 9_100.0, None);
    assert_eq!(resolve(4, 2, Some((9_100.0, true, Some(100.0)))), done);
    let (outcome, at, reason) = resolve(3, 3, Some((9_100.0, false, None)));
    assert_eq!((outcome, at), (Outcome::Failed, 9_100.0), "failed or cancelled");
    assert_eq!(reason.as_deref(), Some("unknown"));
    let later = resolve(4, 2, Some((9_700.0, true, None)));
    assert_eq!(later, failed("unknown"), "the last end is of the print after the restart");
    assert_eq!(unclear.resolve(None).unwrap().reason.as_deref(), Some("unknown"));
}

#[test]
fn without_markings_the_files_history_decides() {
    let away_for_long = printing(1_000.0);
    let unclear = |history: &History| judge(&away_for_long, history).unclear.unwrap();
    let idle = unclear(&history(&[], Some("quick.gcode"), false));
    let of = |date, success, took| FileHistory {
        success: 1,
        failure: 1,
        last: Some((date, success, took)),
    };
    let done = idle.resolve(Some(&of(5_000.0, true, Some(42.0)))).unwrap();
    assert_eq!((done.outcome, done.at, done.took), (Outcome::Done, 5_000.0, Some(42.0)));
    let cancelled = idle.resolve(Some(&of(5_000.0, false, None))).unwrap();
    assert_eq!(cancelled.outcome, Outcome::Cancelled, "the same file is still selected");
    let other = unclear(&history(&[], Some("other.gcode"), false));
    let failed = other.resolve(Some(&of(5_000.0, false, None))).unwrap();
    assert_eq!(failed.outcome, Outcome::Failed);
    let unknown = other.resolve(Some(&of(500.0, true, None))).unwrap();
    assert_eq!((unknown.outcome, unknown.reason.as_deref()), (Outcome::Failed, Some("unknown")));
    assert_eq!(other.resolve(None).unwrap().outcome, Outcome::Failed);
    // The same file runs: either still or again.
    let runs = unclear(&history(&[], Some("quick.gcode"), true));
    assert_eq!(runs.resolve(Some(&of(500.0, true, None))), None, "still");
    assert_eq!(runs.resolve(Some(&of(5_000.0, true, None))).unwrap().outcome, Outcome::Done);
    // Done, then printed again and failed: the counts show that.
    let counted = UnclearEnd { counts: Some((3, 2)), ..other };
    let both = FileHistory { success: 4, failure: 3, last: Some((5_000.0, false, None)) };
    assert_eq!(counted.resolve(Some(&both)).unwrap().outcome, Outcome::Done);
}

#[test]
fn the_duration_of_a_print_is_known_once_its_end_is_written() {
    let before = FileHistory { success: 1, failure: 0, last: Some((5_000.0, true, Some(42.0))) };
    assert!(!before.reaches(8_990.0), "of the print before");
    assert_eq!(before.took(9_000.0, 10.0), None);
    let written = FileHistory { last: Some((9_000.2, true, Some(43.0))), ..before };
    assert!(written.reaches(8_990.0));
    assert_eq!(written.took(9_000.0, 10.0), Some(43.0));
    let later = FileHistory { last: Some((9_500.0, true, Some(44.0))), ..before };
    assert!(later.reaches(8_990.0), "nothing to wait for");
    assert_eq!(later.took(9_000.0, 10.0), None, "another print of the same file");
    let failed = FileHistory { last: Some((9_000.2, false, None)), ..before };
    assert_eq!(failed.took(9_000.0, 10.0), None);
    assert!(!FileHistory::default().reaches(0.0));
}

#[test]
fn inferred_events_are_published_as_recovered() {
    let end = PrintEnd {
        print: print("quick.gcode"),
        outcome: Outcome::Done,
        at: 5_000.9,
        reason: None,
        took: Some(42.5),
        unproven: None,
    };
    let inferred = InferredEvent::end(&end, end.at);
    let event: Value = serde_json::from_slice(&inferred.event_payload()).unwrap();
    assert_eq!(
        event,
        serde_json::json!({"name": "quick.gcode", "path": "quick.gcode", "origin": "local",
            "time": 42.5, "_event": "PrintDone", "_timestamp": 5000, "_recovered": true})
    );
    let print: Value = serde_json::from_slice(&inferred.print_payload()).unwrap();
    assert_eq!(
        print,
        serde_json::json!({"event_type": "print_done", "file": "quick.gcode", "path": "quick.gcode",
            "time": 42.5, "reason": null, "timestamp": 5000, "_recovered": true})
    );
}

proptest! {
    #[test]
    fn nothing_is_recovered_twice(
        kinds in prop::collection::vec(
            prop::sample::select(&["print", "pause", "resume", "done", "cancel", "disconnected", "connected"][..]),
            0..12,
        ),
        since in 9_000.0f64..9_900.0,
        running: bool,
    ) {
        let markings: Vec<(&str, f64)> =
            kinds.iter().zip(0..).map(|(kind, n)| (*kind, 9_000.0 + f64::from(n) * 75.0)).collect();
        let history = history(&markings, Some("quick.gcode"), running);
        let mut tracker = Tracker::new(Some(printing(since)));
        let (now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH);
        if let Some(MissedEnds { id, mut ends, unclear }) = tracker.reconnected(&history, now, wall) {
            ends.extend(unclear.and_then(|unclear| unclear.resolve(None)));
            tracker.resolved(id, ends);
        }
        let again = tracker.reconnected(&history, now, wall);
        prop_assert_eq!(again, None);
    }
}
