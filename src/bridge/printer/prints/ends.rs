//! What is known of a printer's prints, and how a print ended that no event reported (pure).
//!
//! After an absence, what was known when OctoPrint was last heard is compared with the first
//! `history`. That was built after the login, so it proves the present state. OctoPrint's log of
//! markings decides as far as it reaches back, half an hour by default; beyond that the file's
//! print history does, which has to be requested. On a live connection a print is over without an
//! event only if two messages or answers built after the last sign of the print say so.
//!
//! No clock decides: markings are distinguished by their order, and times of the server are
//! compared with times of the server only.

use serde::{Deserialize, Serialize};

use super::history::{FileHistory, Print};
use crate::bridge::printer::snapshot::markings::Standing;

/// Largest difference between two sources' times of one end, in seconds.
pub(super) const SAME: f64 = 1.0;

/// Reason for the failure of a print that was running when OctoPrint restarted.
pub(super) const RESTARTED: &str = "OctoPrint was restarted";

/// Number of published ends that are remembered.
const REMEMBERED: usize = 4;

/// What is known of a printer's prints; persisted in its serde form.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The running print.
    pub print: Option<Print>,
    /// The last reading of the server's clock.
    pub server_time: f64,
    /// The server's time of the last published end.
    pub last_end: f64,
    /// The file's successful and failed prints when the running print started.
    pub counts: Option<(u64, u64)>,
    /// OctoPrint's log when it was last known for sure.
    pub standing: Option<Standing>,
    /// The running print started after `standing`, so the log's last end is not its own.
    #[serde(rename = "begun")]
    pub newer_than_log: bool,
    /// When it started, by the server's clock at that time, which is also the log's.
    #[serde(rename = "began")]
    pub started_at: f64,
    /// A connection since then came without a log, so it is unknown which of its entries were
    /// reported.
    pub gap: bool,
    /// Number of ends after `standing` that were reported: they are not news in the log.
    #[serde(rename = "told")]
    pub reported_ends: u32,
    /// The prints whose ends were published last, each once, newest first.
    pub ended: Vec<Print>,
    /// The times of the last ends by the server's clock at that time: as in the log, even if the
    /// clock was set since.
    pub ended_at: Vec<f64>,
    /// Number of ends that were published since the printer is known.
    pub ends: u64,
}

impl Record {
    /// Records that the end of `print` is published.
    pub(super) fn note_end(&mut self, print: Print) {
        self.ended.retain(|ended| *ended != print);
        self.ended.insert(0, print);
        self.ended.truncate(REMEMBERED);
    }

    /// Records that an end at `at`, in the server's time, is published.
    pub(super) fn note_end_at(&mut self, at: f64) {
        self.ended_at.insert(0, at);
        self.ended_at.truncate(REMEMBERED);
        self.last_end = self.last_end.max(at);
    }

    /// Counts the end of the running print, if its marking is still to come.
    pub(super) fn count_end(&mut self) {
        let under_way = self.standing.as_ref().is_some_and(|standing| standing.end.is_none());
        if self.newer_than_log || under_way {
            self.reported_ends += 1;
        }
        (self.newer_than_log, self.counts) = (false, None);
    }

    /// Stores the log. Returns whether a restart must know of that.
    pub(super) fn update_standing(&mut self, standing: &Standing) -> bool {
        let is_new_end = self.standing.as_ref().is_none_or(|old| old.end != standing.end);
        let includes_print = standing.end.is_none() || is_new_end;
        let changed = self.reported_ends > 0 || (self.newer_than_log && includes_print);
        if includes_print {
            self.newer_than_log = false;
        }
        (self.reported_ends, self.gap) = (0, false);
        if self.standing.as_ref() != Some(standing) {
            self.standing = Some(standing.clone());
        }
        changed
    }

    /// Whether the log's end at `at` is one of the last that were published.
    pub(super) fn is_published(&self, at: f64) -> bool {
        self.ended_at.iter().any(|published| (published - at).abs() < SAME)
    }
}

/// How a print ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Successfully.
    Done,
    /// With an error, or in an unknown way.
    Failed,
    /// By a user's command.
    Cancelled,
}

/// The end of a print that no event reported.
#[derive(Debug, Clone, PartialEq)]
pub struct PrintEnd {
    /// Which print.
    pub print: Print,
    /// How it ended.
    pub outcome: Outcome,
    /// The server's time.
    pub at: f64,
    /// Reason for a failure.
    pub reason: Option<String>,
    /// Duration of the print in seconds.
    pub took: Option<f64>,
    /// What to check in the file's history: the print may have ended earlier, in another way.
    pub unproven: Option<UnclearEnd>,
}

/// Largest delay, in seconds, of an end's time after the last reading of the server's clock: the
/// file's history is requested some moments after that reading.
const LATER: f64 = 60.0;

/// A print for which only the file's history can show whether and how it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct UnclearEnd {
    /// Which print.
    pub print: Print,
    /// The same file is being printed now.
    pub may_run: bool,
    /// Its file is still selected, the printer is ready, and there is no error.
    pub still_selected: bool,
    /// Since when nothing is known, in the server's time.
    pub since: f64,
    /// The server's current time.
    pub now: f64,
    /// The file's successful and failed prints when the print started.
    pub counts: Option<(u64, u64)>,
    /// Reason for a failure; `None` if unknown.
    pub reason: Option<String>,
    /// OctoPrint restarted at `now`, which ended the print at the latest.
    pub restarted: bool,
}

impl UnclearEnd {
    /// Returns the end that the file's history shows, `None` if the print is still running. Without
    /// a history its outcome is unknown.
    pub fn resolve(&self, history: Option<&FileHistory>) -> Option<PrintEnd> {
        let end = |outcome, at, reason: Option<&str>, took| {
            let (print, reason) = (self.print.clone(), reason.map(str::to_owned));
            Some(PrintEnd { print, outcome, at, reason, took, unproven: None })
        };
        let failed =
            |at| end(Outcome::Failed, at, self.reason.as_deref().or(Some("unknown")), None);
        let newer = history.filter(|history| self.is_newer(history)).and_then(|h| h.last);
        match newer {
            // The last end is of a later print of the file.
            Some((at, ..)) if self.restarted && at > self.now + SAME => failed(self.now),
            Some((at, true, took)) => end(Outcome::Done, at, None, took),
            // The last one may be another print of the same file, which the counts show.
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

    /// Whether the file has an end that it did not have when the print started. Counts show that
    /// even if the server's clock was set; they restart with a file that was deleted meanwhile.
    fn is_newer(&self, history: &FileHistory) -> bool {
        let by_time = || {
            let last = history.last.map(|(date, ..)| date);
            // An end in the future is one from before the server's clock was set back.
            let until = self.now + if self.may_run || self.restarted { SAME } else { LATER };
            last.is_some_and(|date| date > self.since && date <= until)
        };
        let now = history.success + history.failure;
        match self.counts.map(|(success, failure)| success + failure) {
            Some(before) if now >= before => now > before,
            _ => by_time(),
        }
    }

    /// Whether the file succeeded once since the print started, and failed after that.
    fn succeeded_before(&self, history: Option<&FileHistory>) -> bool {
        match (self.counts, history) {
            (Some((success, failure)), Some(now)) => {
                now.success == success + 1 && now.failure == failure + 1
            }
            _ => false,
        }
    }
}

/// Prints that ended without an event: ends that are known, and one that has to be looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct MissedEnds {
    /// For [`Tracker::resolved`](super::Tracker::resolved).
    pub id: u64,
    /// The known ends.
    pub ends: Vec<PrintEnd>,
    /// The print to look up in its file's history.
    pub unclear: Option<UnclearEnd>,
}

/// The lookups under way, oldest first.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    open: Vec<Lookup>,
    last_id: u64,
}

/// A lookup of how prints ended.
#[derive(Debug)]
pub(super) struct Lookup {
    id: u64,
    /// The last of the prints.
    pub(super) print: Print,
    /// The file's successful and failed prints when that print started.
    pub(super) counts: Option<(u64, u64)>,
    /// The only proof of the end is that nothing is being printed: a print that goes on refutes it.
    doubtful: bool,
    /// The event arrived after all.
    pub(super) reported: bool,
}

impl Lookup {
    fn may_go_on(&self) -> bool {
        self.doubtful && !self.reported
    }
}

impl Lookups {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn start(&mut self, ends: Vec<PrintEnd>, unclear: Option<UnclearEnd>) -> MissedEnds {
        self.last_id += 1;
        let last = unclear.as_ref().map(|unclear| &unclear.print);
        self.open.push(Lookup {
            id: self.last_id,
            print: last.or(ends.last().map(|end| &end.print)).cloned().unwrap_or_default(),
            counts: unclear.as_ref().and_then(|unclear| unclear.counts),
            doubtful: ends.is_empty(),
            reported: false,
        });
        MissedEnds { id: self.last_id, ends, unclear }
    }

    /// Removes a lookup that has its answer; `None` if it was withdrawn because the print goes on.
    pub(super) fn finish(&mut self, id: u64) -> Option<Lookup> {
        let index = self.open.iter().position(|lookup| lookup.id == id)?;
        Some(self.open.remove(index))
    }

    /// Notes an event for the end of `print`. Returns whether that end was being looked up.
    pub(super) fn note_event(&mut self, print: &Print) -> bool {
        let matches = |lookup: &&mut Lookup| !lookup.reported && lookup.print.may_be(print);
        let lookup = self.open.iter_mut().rev().find(matches);
        lookup.map(|lookup| lookup.reported = true).is_some()
    }

    /// Whether a print may go on after all.
    pub(super) fn may_go_on(&self) -> bool {
        self.open.iter().any(Lookup::may_go_on)
    }

    /// Withdraws the lookup for a print of the file in `job`, which is running.
    pub(super) fn withdraw(&mut self, job: &Print) -> Option<Lookup> {
        let matches = |lookup: &Lookup| lookup.may_go_on() && lookup.print.may_be(job);
        let index = self.open.iter().rposition(matches)?;
        Some(self.open.remove(index))
    }
}
