//! How prints go on, and how one ended unseen (pure).
//!
//! What was known when OctoPrint was last heard is held against the first `history` after an
//! absence, which was built after the login and proves by itself what is. OctoPrint's markings
//! decide as far as they reach back, half an hour by default; else the file's print history, which
//! has to be asked for. On a connection that stands, a print is over without an event only where
//! that was said twice by what was built after the last sign of the print.
//!
//! No clock decides: the markings are told apart by their order, and times of the server are
//! compared with times of the server alone.

use serde::{Deserialize, Serialize};

use super::history::{FileHistory, Print};
use crate::bridge::printer::snapshot::markings::Standing;

/// Ends of one print as two sources have it are not farther apart, in seconds.
pub(super) const SAME: f64 = 1.0;

/// Why a print failed that was on when OctoPrint was restarted.
pub(super) const RESTARTED: &str = "OctoPrint was restarted";

/// So many ends that were published are remembered.
const REMEMBERED: usize = 4;

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
    /// How OctoPrint's log stood when it was last known for sure.
    pub standing: Option<Standing>,
    /// The print that runs began after that, so the log's last end is not its own.
    pub begun: bool,
    /// The server's time when it did, by its clock of then, which is the log's.
    pub began: f64,
    /// A connection began without a log since: nobody knows what of it is told.
    pub gap: bool,
    /// So many prints ended after that whose end is known.
    pub told: u32,
    /// The prints whose ends were published last, each once, the newest first.
    pub ended: Vec<Print>,
    /// When prints ended last, by the server's clock of then: as the log has it, whatever became
    /// of the clock.
    pub ended_at: Vec<f64>,
}

impl Record {
    /// The end of `print` is published.
    pub(super) fn note_end(&mut self, print: Print) {
        self.ended.retain(|ended| *ended != print);
        self.ended.insert(0, print);
        self.ended.truncate(REMEMBERED);
    }

    /// An end is published that was at `at`, in the server's time.
    pub(super) fn note_end_at(&mut self, at: f64) {
        self.ended_at.insert(0, at);
        self.ended_at.truncate(REMEMBERED);
        self.last_end = self.last_end.max(at);
    }

    /// Whether the end that the log has at `at` is one of those that were published last.
    pub(super) fn is_told(&self, at: f64) -> bool {
        self.ended_at.iter().any(|told| (told - at).abs() < SAME)
    }
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
    /// It may have ended before, in another way: what its file's history is to be asked.
    pub unproven: Option<Unclear>,
}

/// An end may be so much later than what the server's clock said when it was last heard, in
/// seconds: the file's history is asked for some moments after that.
const LATER: f64 = 60.0;

/// A print of which only the file's history can tell whether and how it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Unclear {
    /// Which print.
    pub print: Print,
    /// The same file is being printed now.
    pub may_run: bool,
    /// Its file is still selected, the printer is ready, and there is no error.
    pub still_selected: bool,
    /// Since when nothing is known, in the server's time.
    pub since: f64,
    /// The server's time.
    pub now: f64,
    /// How often the file had been printed when the print began.
    pub counts: Option<(u64, u64)>,
    /// Why it failed, if it did; `None` where nobody knows.
    pub reason: Option<String>,
    /// OctoPrint was restarted at `now`, which ended the print at the latest.
    pub restarted: bool,
}

impl Unclear {
    /// What the file's history says; `None`: the print still runs. Without a history nobody knows
    /// how it ended.
    pub fn settle(&self, history: Option<&FileHistory>) -> Option<End> {
        let end = |outcome, at, reason: Option<&str>, took| {
            let (print, reason) = (self.print.clone(), reason.map(str::to_owned));
            Some(End { print, outcome, at, reason, took, unproven: None })
        };
        let failed =
            |at| end(Outcome::Failed, at, self.reason.as_deref().or(Some("unknown")), None);
        let newer = history.filter(|history| self.is_newer(history)).and_then(|h| h.last);
        match newer {
            // The last end is of a later print of the file.
            Some((at, ..)) if self.restarted && at > self.now + SAME => failed(self.now),
            Some((at, true, took)) => end(Outcome::Done, at, None, took),
            // Another print of the same file may have been the last one: the counts tell.
            Some((at, false, _)) if self.succeeded_before(history) => {
                end(Outcome::Done, at, None, None)
            }
            Some((at, false, _)) if self.still_selected => end(Outcome::Cancelled, at, None, None),
            Some((at, false, _)) => failed(at),
            None if self.may_run => None,
            None if self.restarted && history.is_some() => {
                end(Outcome::Failed, self.now, Some(RESTARTED), None)
            }
            None => failed(self.now),
        }
    }

    /// Whether the file has an end that it had not when the print began. Counts tell whatever
    /// became of the server's clock; they begin anew with a file that was deleted meanwhile.
    fn is_newer(&self, history: &FileHistory) -> bool {
        let by_time = || {
            let last = history.last.map(|(date, ..)| date);
            // An end of a time to come is one of before the server's clock was set back.
            let until = self.now + if self.may_run || self.restarted { SAME } else { LATER };
            last.is_some_and(|date| date > self.since && date <= until)
        };
        let now = history.success + history.failure;
        match self.counts.map(|(success, failure)| success + failure) {
            Some(before) if now >= before => now > before,
            _ => by_time(),
        }
    }

    /// Whether the file came to its end once since the print began, and failed after that.
    fn succeeded_before(&self, history: Option<&FileHistory>) -> bool {
        match (self.counts, history) {
            (Some((success, failure)), Some(now)) => {
                now.success == success + 1 && now.failure == failure + 1
            }
            _ => false,
        }
    }
}
