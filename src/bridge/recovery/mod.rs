//! How a print ended unseen (pure).
//!
//! What was known when OctoPrint was last heard is held against the first `history` after an
//! absence. OctoPrint's `markings` decide as far as they reach back, half an hour by default; else
//! the file's print history, which has to be asked for. Times of the server are compared with
//! times of the server alone.

mod history;
mod publish;
mod tracker;

use serde::{Deserialize, Serialize};

pub use history::{FileHistory, History, Marking};
pub use publish::{event_payload, print_payload};
pub use tracker::{Tracker, Unclear};

/// Ends of one print as two sources have it are not farther apart, in seconds.
const SAME: f64 = 1.0;
/// For how long the markings can be trusted to be whole, in seconds: OctoPrint drops those older
/// than half an hour by default, a setting of the user's.
const CUTOFF: f64 = 1500.0;

/// A print, as far as it is known.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Print {
    /// The file's name.
    pub name: Option<String>,
    /// Its path.
    pub path: Option<String>,
    /// `local` or `sdcard`.
    pub origin: Option<String>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Who prints it.
    pub user: Option<String>,
}

impl Print {
    fn is_file_of(&self, other: &Self) -> bool {
        self.path.is_some() && self.path == other.path && self.origin == other.origin
    }
}

/// What is known of a printer's prints; its serde form is what is kept over a restart.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The print that runs.
    pub print: Option<Print>,
    /// The server's time when it was last heard.
    pub server_time: f64,
    /// The server's time of the last end that was published.
    pub last_end: f64,
    /// How often the file had been printed to its end and not, when the print began.
    pub counts: Option<(u64, u64)>,
}

/// How a print ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// To its end.
    Done,
    /// With an error, or nobody knows how.
    Failed,
    /// By somebody's command.
    Cancelled,
}

/// The end of a print that nobody saw.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// Which print.
    pub print: Print,
    /// How.
    pub outcome: Outcome,
    /// The server's time.
    pub at: f64,
    /// Why it failed.
    pub reason: Option<String>,
    /// How long it took, in seconds.
    pub took: Option<f64>,
}

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

/// Judges what happened since `record` was made.
pub fn judge(record: &Record, history: &History) -> Verdict {
    let mut verdict = Verdict::default();
    // The print that is under way at each marking, and whether it is the one of the record.
    let mut under_way = record.print.clone().map(|print| (print, true));
    let seen = |at: f64| at <= record.server_time;
    for marking in history.markings.iter().filter(|marking| !seen(marking.at)) {
        let ended = match marking.kind.as_str() {
            "done" => Some((Outcome::Done, None)),
            "cancel" => Some((Outcome::Cancelled, None)),
            "disconnected" => {
                let error = history.error.clone().filter(|error| !error.is_empty());
                let lost = || "the connection to the printer was lost".to_owned();
                Some((Outcome::Failed, Some(error.unwrap_or_else(lost))))
            }
            "connected" => Some((Outcome::Failed, Some("OctoPrint was restarted".to_owned()))),
            "print" => {
                // Without an end in between it is one begun anew from a pause, and goes on.
                under_way.get_or_insert((Print::default(), false));
                None
            }
            _ => None,
        };
        let Some((outcome, reason)) = ended else { continue };
        // What ends nothing is a printer that comes and goes between prints.
        let Some((print, _)) = under_way.take() else { continue };
        // An end that was seen may be newer than the last `current`.
        if marking.at > record.last_end + SAME {
            verdict.ends.push(End { print, outcome, at: marking.at, reason, took: None });
        }
    }
    name_last(&mut verdict.ends, history);
    settle(record, history, under_way, &mut verdict);
    verdict
}

/// A print that both started and ended unseen is known by its file where that is still selected.
fn name_last(ends: &mut [End], history: &History) {
    if let Some(last) = ends.last_mut()
        && last.print == Print::default()
        && !history.running
        && let Some(job) = &history.job
    {
        last.print = job.clone();
    }
}

/// What is to be thought of the print that no marking ended.
fn settle(
    record: &Record,
    history: &History,
    under_way: Option<(Print, bool)>,
    verdict: &mut Verdict,
) {
    let job = history.job.clone().unwrap_or_default();
    verdict.running = history.running.then(|| job.clone());
    let Some((print, true)) = under_way else { return };
    let away = history.server_time - record.server_time;
    // The same file may have ended and begun again where the markings do not reach back so far.
    let same = history.running && print.is_file_of(&job) && away < CUTOFF;
    if same {
        return;
    }
    verdict.unclear = Some(Unclear {
        may_run: history.running && print.is_file_of(&job),
        still_selected: history.operational
            && print.is_file_of(&job)
            && history.error.as_ref().is_none_or(String::is_empty),
        since: record.server_time.max(record.last_end),
        now: history.server_time,
        counts: record.counts,
        print,
    });
}

#[cfg(test)]
mod tests;
