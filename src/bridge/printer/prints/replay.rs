//! What the first `history` after an absence says of the prints meanwhile (pure).

use super::history::{History, Print};
use super::verdict::{End, Outcome, RESTARTED, Record, SAME, Unclear};
use crate::bridge::printer::snapshot::markings::{Marking, Standing};
use crate::bridge::printer::snapshot::printer_state::LOST;

/// For how long the markings can be trusted to be whole, in seconds: OctoPrint drops those older
/// than half an hour by default, a setting of the user's.
const CUTOFF: f64 = 1500.0;

/// What follows from the first `history` after an absence.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdict {
    /// Ends that the markings tell of, in order.
    pub ends: Vec<End>,
    /// A print that may have ended, which only the file's history can tell.
    pub unclear: Option<Unclear>,
    /// The print that runs now.
    pub running: Option<Print>,
}

/// The markings that are new, and how that is known.
struct News<'a> {
    markings: &'a [Marking],
    by: By,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// They follow the last one that was known.
    Order,
    /// The last one that was known is gone, so what is there is newer.
    Absence,
    /// Nothing but their times tells.
    Time,
    /// There are no markings.
    Nothing,
}

/// Judges what happened since `record` was made, `away` seconds ago where that is known.
pub fn judge(record: &Record, history: &History, away: Option<f64>) -> Verdict {
    let news = news(record, history);
    let mut verdict = Verdict::default();
    let open = replay(record, history, &news, &mut verdict.ends);
    name_last(&mut verdict.ends, history);
    settle(record, history, open, (news.by, away), &mut verdict);
    verdict
}

fn news<'a>(record: &Record, history: &'a History) -> News<'a> {
    let Some(markings) = history.markings.as_deref() else {
        return News { markings: &[], by: By::Nothing };
    };
    let known = record.standing.as_ref().map(|standing| &standing.last);
    let known = markings.iter().rposition(|marking| known.is_some_and(|last| marking.is(last)));
    let after = &markings[known.map_or(0, |known| known + 1)..];
    if record.standing.is_none() || record.gap {
        let new = |marking: &Marking| marking.at > record.server_time;
        let first = after.iter().position(new).unwrap_or(after.len());
        return News { markings: &after[first..], by: By::Time };
    }
    News { markings: after, by: if known.is_some() { By::Order } else { By::Absence } }
}

/// Goes through the news; yields the print of the record unless it ended.
fn replay(
    record: &Record,
    history: &History,
    news: &News<'_>,
    ends: &mut Vec<End>,
) -> Option<Print> {
    let mut open = record.print.clone();
    // The end of a print may be in the log before the event comes, which never came then.
    if news.by != By::Nothing
        && !record.begun
        && let Some(end) = record.standing.as_ref().and_then(|standing| standing.end.as_ref())
        && let Some(print) = open.take()
    {
        ends.push(end_of(print, end, history));
    }
    let by_order = news.by == By::Order;
    let mut told = if news.by == By::Time { 0 } else { record.told };
    let under_way_then = record.standing.as_ref().is_some_and(|standing| standing.end.is_none());
    // What looks like the beginning of a print may be a file that was sent to the card.
    let mut may_be_file = record.standing.as_ref().is_some_and(|standing| standing.by_printer);
    let print_then = under_way_then && !may_be_file;
    // One that began after the log was read last has an entry of its own there.
    let mut under_way = match (&open, record.begun) {
        (Some(_), false) => true,
        (Some(_), true) => news.by == By::Time || (by_order && print_then),
        (None, _) => told > 0 && under_way_then,
    };
    // Its entry is still to come: the one that is under way there is another one.
    let mut other = by_order && record.begun && open.is_some() && print_then;
    may_be_file &= open.is_none();
    let anew = news.by == By::Absence && record.begun;
    // No end was told since the log was read last: none that follows is.
    let knew = news.by == By::Absence && record.told == 0;
    // After a clock was set back, old entries may outlive the last one.
    let old = |marking: &Marking| {
        let to_come = history.server_time.is_some_and(|now| marking.at > now + SAME);
        let had = record.standing.as_ref().is_some_and(|log| log.had(marking));
        !by_order && (had || (news.by == By::Time && to_come))
    };
    for marking in news.markings.iter().filter(|marking| !old(marking)) {
        // Where the log is a new one, the print's own entry may be gone with the old one.
        let later = anew && open.is_some() && marking.at > record.began;
        under_way |= later;
        if marking.begins() {
            // Without an end in between it is one begun anew from a pause, and goes on.
            (under_way, other) = (true, false);
            may_be_file = marking.kind == "printing" && open.is_none();
        } else if marking.ends() && under_way && may_be_file && !marking.is_outcome() {
            under_way = false;
        } else if marking.ends() && under_way {
            // What ends nothing is a printer that comes and goes between prints.
            let early = !(by_order || later || knew)
                && (marking.at <= record.last_end + SAME || record.is_told(marking.at));
            let before = news.by == By::Time && record.begun && marking.at < record.began;
            // No event tells of an end in a restart of OctoPrint.
            let restart = later && marking.kind == "connected";
            if (told > 0 && !restart) || early || before {
                told = told.saturating_sub(1);
                // By time, the one that is told is one before the print of the record.
                under_way = news.by == By::Time && open.is_some();
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
    if news.by == By::Absence && !under_way && open.is_none() && still_runs(record, history) {
        // An old entry: no print began after it, and the print is on.
        let own = |end: &mut End| record.print.as_ref() == Some(&end.print);
        open = ends.pop_if(own).map(|end| end.print);
    }
    open
}

fn still_runs(record: &Record, history: &History) -> bool {
    let same =
        record.print.as_ref().zip(history.job.as_ref()).is_some_and(|(a, b)| a.is_file_of(b));
    same && history.state.print_is_on() == Some(true) && !history.state.is_winding_down()
}

fn end_of(print: Print, marking: &Marking, history: &History) -> End {
    let (outcome, reason) = match marking.kind.as_str() {
        "done" => (Outcome::Done, None),
        "cancel" => (Outcome::Cancelled, None),
        "connected" => (Outcome::Failed, Some(RESTARTED.to_owned())),
        _ => {
            let error = history.error.clone().filter(|error| !error.is_empty());
            (Outcome::Failed, Some(error.unwrap_or_else(|| LOST.to_owned())))
        }
    };
    End { print, outcome, at: marking.at, reason, took: None, unproven: None }
}

/// OctoPrint was restarted, and its log begins anew: that the print ended before that, and how,
/// only its file's history can tell.
fn before_restart(record: &Record, end: &End) -> Unclear {
    Unclear {
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

/// How a print ended whose end the log has, though no event told; `error` is the printer's.
pub(super) fn end_in_log(print: &Print, standing: &Standing, error: Option<String>) -> Option<End> {
    let history = History { error, ..History::default() };
    Some(end_of(print.clone(), standing.end.as_ref()?, &history))
}

/// A print that both started and ended unseen is known by its file where that is still selected.
fn name_last(ends: &mut [End], history: &History) {
    if let Some(last) = ends.last_mut()
        && last.print == Print::default()
        && history.state.print_is_on() == Some(false)
        && let Some(job) = &history.job
    {
        last.print = job.clone();
    }
}

/// The print that runs, as `history` has it.
pub(super) fn running(history: &History, open: Option<&Print>) -> Option<Print> {
    match history.state.print_is_on() {
        // An OctoPrint that has said how the print ended is not ready at once.
        Some(true) if history.state.is_winding_down() => {
            let over = match history.standing() {
                Some(standing) => standing.end.is_some(),
                None => open.is_none(),
            };
            (!over).then(|| history.job.clone().unwrap_or_default())
        }
        Some(true) => Some(history.job.clone().unwrap_or_default()),
        Some(false) => None,
        // Then the log has to do.
        None => open.cloned().or_else(|| {
            let log = history.standing()?;
            (log.end.is_none() && log.print.is_some()).then(|| history.job.clone()).flatten()
        }),
    }
}

/// What is to be thought of the print that no marking ended.
fn settle(
    record: &Record,
    history: &History,
    open: Option<Print>,
    (by, away): (By, Option<f64>),
    verdict: &mut Verdict,
) {
    let job = history.job.clone().unwrap_or_default();
    verdict.running = running(history, open.as_ref());
    let Some(print) = open else { return };
    // A state that does not tell is no evidence: the next one may.
    let nothing_said = history.state.print_is_on().is_none();
    let may_run = verdict.running.is_some() && print.is_file_of(&job);
    // The same file may have ended and begun again where the markings do not reach back so far.
    let whole = match by {
        By::Order => true,
        By::Absence | By::Time => away.is_some_and(|away| (0.0..CUTOFF).contains(&away)),
        By::Nothing => false,
    };
    if nothing_said || (may_run && whole) {
        return;
    }
    verdict.unclear = Some(Unclear {
        may_run,
        still_selected: history.state
            == crate::bridge::printer::snapshot::PrinterState::Operational
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
