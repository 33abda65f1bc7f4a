//! Reconstructs from the first `history` after an absence what happened to the prints (pure).

use super::ends::{Outcome, PrintEnd, RESTARTED, Record, SAME, UnclearEnd};
use super::history::{History, Print};
use crate::bridge::printer::snapshot::PrinterState;
use crate::bridge::printer::snapshot::markings::{Marking, Standing};
use crate::bridge::printer::snapshot::printer_state::LOST;

/// Longest absence, in seconds, after which the markings are trusted to be complete: OctoPrint drops
/// those older than half an hour by default, which users can change.
const CUTOFF: f64 = 1500.0;

/// What the first `history` after an absence shows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Judgement {
    /// Ends according to the markings, in order.
    pub ends: Vec<PrintEnd>,
    /// A print that may have ended, which only the file's history can show.
    pub unclear: Option<UnclearEnd>,
    /// The running print.
    pub running: Option<Print>,
}

/// The new markings, and how they are known to be new.
struct NewMarkings<'a> {
    markings: &'a [Marking],
    basis: Basis,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Basis {
    /// They follow the last known one.
    Order,
    /// The last known one is gone, so all others are newer.
    Absence,
    /// Only their times show it.
    Time,
    /// There are no markings.
    Nothing,
}

/// Judges what happened since `record` was made, `away` seconds ago if that is known.
pub fn judge(record: &Record, history: &History, away: Option<f64>) -> Judgement {
    let new = new_markings(record, history);
    let mut judgement = Judgement::default();
    let open = replay(record, history, &new, &mut judgement.ends);
    name_last(&mut judgement.ends, history);
    settle(record, history, open, (new.basis, away), &mut judgement);
    judgement
}

fn new_markings<'a>(record: &Record, history: &'a History) -> NewMarkings<'a> {
    let Some(markings) = history.markings.as_deref() else {
        return NewMarkings { markings: &[], basis: Basis::Nothing };
    };
    let known = record.standing.as_ref().map(|standing| &standing.last);
    let known = markings.iter().rposition(|marking| known.is_some_and(|last| marking.is(last)));
    let after = &markings[known.map_or(0, |known| known + 1)..];
    if record.standing.is_none() || record.gap {
        let new = |marking: &Marking| marking.at > record.server_time;
        let first = after.iter().position(new).unwrap_or(after.len());
        return NewMarkings { markings: &after[first..], basis: Basis::Time };
    }
    NewMarkings {
        markings: after,
        basis: if known.is_some() { Basis::Order } else { Basis::Absence },
    }
}

/// Goes through the new markings, and collects the `ends`. Returns the record's print unless it ended.
fn replay(
    record: &Record,
    history: &History,
    new: &NewMarkings<'_>,
    ends: &mut Vec<PrintEnd>,
) -> Option<Print> {
    let mut open = record.print.clone();
    // The log may list the end of a print before its event, which then never came.
    if new.basis != Basis::Nothing
        && !record.newer_than_log
        && let Some(end) = record.standing.as_ref().and_then(|standing| standing.end.as_ref())
        && let Some(print) = open.take()
    {
        ends.push(end_of(print, end, history));
    }
    let by_order = new.basis == Basis::Order;
    let mut reported = if new.basis == Basis::Time { 0 } else { record.reported_ends };
    let under_way_then = record.standing.as_ref().is_some_and(|standing| standing.end.is_none());
    // What looks like the start of a print may be a file transfer to the SD card.
    let mut may_be_file = record.standing.as_ref().is_some_and(|standing| standing.by_printer);
    let print_then = under_way_then && !may_be_file;
    // A print that started after the log was last read has its own entry there.
    let mut under_way = match (&open, record.newer_than_log) {
        (Some(_), false) => true,
        (Some(_), true) => new.basis == Basis::Time || (by_order && print_then),
        (None, _) => reported > 0 && under_way_then,
    };
    // Its entry is still to come: the print that the log has under way is another one.
    let mut other = by_order && record.newer_than_log && open.is_some() && print_then;
    may_be_file &= open.is_none();
    let is_new_log = new.basis == Basis::Absence && record.newer_than_log;
    // No end was reported since the log was last read, so none of the new ones was.
    let none_reported = new.basis == Basis::Absence && record.reported_ends == 0;
    // After the clock was set back, old entries may outlive the last known one.
    let old = |marking: &Marking| {
        let in_future = history.server_time.is_some_and(|now| marking.at > now + SAME);
        let had = record.standing.as_ref().is_some_and(|log| log.had(marking));
        !by_order && (had || (new.basis == Basis::Time && in_future))
    };
    for marking in new.markings.iter().filter(|marking| !old(marking)) {
        // In a new log, the print's own entry may be missing: it went with the old log.
        let later = is_new_log && open.is_some() && marking.at > record.started_at;
        under_way |= later;
        if marking.begins() {
            // Without an end in between it is a print restarted from a pause, which goes on.
            (under_way, other) = (true, false);
            may_be_file = marking.kind == "printing" && open.is_none();
        } else if marking.ends() && under_way && may_be_file && !marking.is_outcome() {
            under_way = false;
        } else if marking.ends() && under_way {
            // Other `connected` and `disconnected` are the printer's between prints.
            let early = !(by_order || later || none_reported)
                && (marking.at <= record.last_end + SAME || record.is_published(marking.at));
            let before =
                new.basis == Basis::Time && record.newer_than_log && marking.at < record.started_at;
            // A restart of OctoPrint sends no event for the end.
            let restart = later && marking.kind == "connected";
            if (reported > 0 && !restart) || early || before {
                reported = reported.saturating_sub(1);
                // By time, the reported end is that of a print before the record's.
                under_way = new.basis == Basis::Time && open.is_some();
                continue;
            }
            under_way = false;
            let ended = if other { None } else { open.take() };
            let mut end = end_of(ended.unwrap_or_default(), marking, history);
            if marking.kind == "connected" && record.print.as_ref() == Some(&end.print) {
                end.unproven = Some(before_restart(record, &end));
            }
            ends.push(end);
        }
    }
    if new.basis == Basis::Absence && !under_way && open.is_none() && still_runs(record, history) {
        // An old entry: no print started after it, and the record's print is running.
        let own = |end: &mut PrintEnd| record.print.as_ref() == Some(&end.print);
        open = ends.pop_if(own).map(|end| end.print);
    }
    open
}

fn still_runs(record: &Record, history: &History) -> bool {
    let same =
        record.print.as_ref().zip(history.job.as_ref()).is_some_and(|(a, b)| a.is_file_of(b));
    same && history.state.print_is_on() == Some(true) && !history.state.is_winding_down()
}

fn end_of(print: Print, marking: &Marking, history: &History) -> PrintEnd {
    let (outcome, reason) = match marking.kind.as_str() {
        "done" => (Outcome::Done, None),
        "cancel" => (Outcome::Cancelled, None),
        "connected" => (Outcome::Failed, Some(RESTARTED.to_owned())),
        _ => {
            let error = history.error.clone().filter(|error| !error.is_empty());
            (Outcome::Failed, Some(error.unwrap_or_else(|| LOST.to_owned())))
        }
    };
    PrintEnd { print, outcome, at: marking.at, reason, took: None, unproven: None }
}

/// OctoPrint restarted with a new log: whether and how the print ended before that, only its file's
/// history can show.
fn before_restart(record: &Record, end: &PrintEnd) -> UnclearEnd {
    UnclearEnd {
        print: end.print.clone(),
        may_run: false,
        still_selected: false,
        since: record.server_time.max(record.last_end),
        now: end.at,
        counts: record.counts,
        reason: None,
        restarted: true,
    }
}

/// Returns how a print ended according to the log, without an event; `error` is the printer's.
pub(super) fn end_in_log(
    print: &Print,
    standing: &Standing,
    error: Option<String>,
) -> Option<PrintEnd> {
    let history = History { error, ..History::default() };
    Some(end_of(print.clone(), standing.end.as_ref()?, &history))
}

/// Names the last print, if its start and its end were both missed, by the file that is still selected.
fn name_last(ends: &mut [PrintEnd], history: &History) {
    if let Some(last) = ends.last_mut()
        && last.print == Print::default()
        && history.state.print_is_on() == Some(false)
        && let Some(job) = &history.job
    {
        last.print = job.clone();
    }
}

/// Returns the print that is running according to `history`.
pub(super) fn running(history: &History, open: Option<&Print>) -> Option<Print> {
    match history.state.print_is_on() {
        // OctoPrint stays in these states for a moment after it reported the end.
        Some(true) if history.state.is_winding_down() => {
            let over = match history.standing() {
                Some(standing) => standing.end.is_some(),
                None => open.is_none(),
            };
            (!over).then(|| history.job.clone().unwrap_or_default())
        }
        Some(true) => Some(history.job.clone().unwrap_or_default()),
        Some(false) => None,
        // Only the log is left as evidence.
        None => open.cloned().or_else(|| {
            let log = history.standing()?;
            (log.end.is_none() && log.print.is_some()).then(|| history.job.clone()).flatten()
        }),
    }
}

/// Judges the print that no marking ended.
fn settle(
    record: &Record,
    history: &History,
    open: Option<Print>,
    (basis, away): (Basis, Option<f64>),
    judgement: &mut Judgement,
) {
    let job = history.job.clone().unwrap_or_default();
    judgement.running = running(history, open.as_ref());
    let Some(print) = open else { return };
    // An unknown state is no evidence; the next one may be.
    let is_unknown = history.state.print_is_on().is_none();
    let may_run = judgement.running.is_some() && print.is_file_of(&job);
    // The same file may have been restarted if the markings do not reach back far enough.
    let whole = match basis {
        Basis::Order => true,
        Basis::Absence | Basis::Time => away.is_some_and(|away| (0.0..CUTOFF).contains(&away)),
        Basis::Nothing => false,
    };
    if is_unknown || (may_run && whole) {
        return;
    }
    judgement.unclear = Some(UnclearEnd {
        may_run,
        still_selected: history.state == PrinterState::Operational
            && print.is_file_of(&job)
            && history.error.as_ref().is_none_or(String::is_empty),
        since: record.server_time.max(record.last_end),
        now: history.server_time.unwrap_or(record.server_time + away.unwrap_or_default()),
        counts: record.counts,
        reason: None,
        restarted: false,
        print,
    });
}
