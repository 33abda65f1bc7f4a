//! A print of which only the file's history can tell how it ended (pure).

use super::history::FileHistory;
use super::verdict::{End, Outcome, Print, SAME};

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
}

impl Unclear {
    /// What the file's history says; `None`: the print still runs. Without a history nobody knows
    /// how it ended.
    pub fn settle(&self, history: Option<&FileHistory>) -> Option<End> {
        let end = |outcome, at, reason: Option<&str>, took| {
            let (print, reason) = (self.print.clone(), reason.map(str::to_owned));
            Some(End { print, outcome, at, reason, took })
        };
        let failed =
            |at| end(Outcome::Failed, at, self.reason.as_deref().or(Some("unknown")), None);
        let newer = history.filter(|history| self.is_newer(history)).and_then(|h| h.last);
        match newer {
            Some((at, true, took)) => end(Outcome::Done, at, None, took),
            // Another print of the same file may have been the last one: the counts tell.
            Some((at, false, _)) if self.succeeded_before(history) => {
                end(Outcome::Done, at, None, None)
            }
            Some((at, false, _)) if self.still_selected => end(Outcome::Cancelled, at, None, None),
            Some((at, false, _)) => failed(at),
            None if self.may_run => None,
            None => failed(self.now),
        }
    }

    /// Whether the file has an end that it had not when the print began. Counts tell whatever
    /// became of the server's clock; they begin anew with a file that was deleted meanwhile.
    fn is_newer(&self, history: &FileHistory) -> bool {
        let by_time = || {
            let last = history.last.map(|(date, ..)| date);
            // An end of a time to come is one of before the server's clock was set back.
            let until = self.now + if self.may_run { SAME } else { LATER };
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
