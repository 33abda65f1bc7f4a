//! Follows the prints of one printer, and says what of them is to be kept and recovered (pure).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{End, FileHistory, History, Outcome, Print, Record, Verdict, judge};

/// How often the record is kept while nothing happens but printing.
const KEEP_EVERY: Duration = Duration::from_secs(60);
/// For how long a print may seem to have ended without an event: events come before the state
/// that they cause, and never much later.
const GRACE: Duration = Duration::from_secs(5);

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
}

impl Unclear {
    /// What the file's history says; `None`: the print still runs. Without a history nobody knows
    /// how it ended.
    pub fn settle(&self, history: Option<&FileHistory>) -> Option<End> {
        let end = |outcome, at, reason: Option<&str>, took| {
            let (print, reason) = (self.print.clone(), reason.map(str::to_owned));
            Some(End { print, outcome, at, reason, took })
        };
        let newer = history.and_then(|h| h.last).filter(|(date, ..)| *date > self.since);
        match newer {
            Some((at, true, took)) => end(Outcome::Done, at, None, took),
            // Another print of the same file may have been the last one: the counts tell.
            Some((at, false, _)) if self.succeeded_before(history) => {
                end(Outcome::Done, at, None, None)
            }
            Some((at, false, _)) if self.still_selected => end(Outcome::Cancelled, at, None, None),
            Some((at, false, _)) => end(Outcome::Failed, at, Some("unknown"), None),
            None if self.may_run => None,
            None => end(Outcome::Failed, self.now, Some("unknown"), None),
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

/// One printer's prints.
#[derive(Debug, Default)]
pub struct Tracker {
    record: Record,
    /// Whether anything is known from before.
    known: bool,
    /// The server's clock less ours, in seconds.
    offset: f64,
    kept_at: Option<Instant>,
    /// Since when a print seems to have ended without an event.
    silent_since: Option<Instant>,
    /// How many absences there were whose ends are still being found out.
    recovering: u32,
}

impl Tracker {
    /// Goes on from what was kept.
    pub fn new(kept: Option<Record>) -> Self {
        Self { known: kept.is_some(), record: kept.unwrap_or_default(), ..Self::default() }
    }

    /// What is to be kept with an end that is published. `None` while other ends are still being
    /// found out: after a restart they would count as told.
    pub fn record(&self) -> Option<&Record> {
        (self.recovering == 0).then_some(&self.record)
    }

    /// The first `history` of a connection: what happened meanwhile. Until [`Tracker::recovered`]
    /// nothing is kept, so that a restart judges again.
    pub fn reconnected(&mut self, history: &History, wall: SystemTime) -> Verdict {
        let verdict = if self.known {
            judge(&self.record, history)
        } else {
            let running = history.running.then(|| history.job.clone().unwrap_or_default());
            Verdict { running, ..Verdict::default() }
        };
        self.silent_since = None;
        let same = match (&self.record.print, &verdict.running) {
            (Some(before), Some(now)) => verdict.ends.is_empty() && before.is_file_of(now),
            _ => false,
        };
        if !same {
            self.record.counts = None;
        }
        self.record.print = verdict.running.clone();
        if !self.known {
            // Nothing that happened before the first look is ours to tell.
            self.record.last_end = history.server_time;
        }
        self.known = true;
        self.recovering += u32::from(!verdict.ends.is_empty() || verdict.unclear.is_some());
        self.observe(history.server_time, wall);
        verdict
    }

    /// The ends of the absence are known and about to be published.
    pub fn recovered(&mut self, ends: &[End]) {
        self.recovering = self.recovering.saturating_sub(1);
        for end in ends {
            self.record.last_end = self.record.last_end.max(end.at);
        }
    }

    /// Takes in the server's time of a `current` or `history`.
    pub fn observe(&mut self, server_time: f64, wall: SystemTime) {
        self.record.server_time = server_time;
        self.offset = server_time - unix(wall);
    }

    /// Takes in whether the state looks as if a print were under way.
    pub fn looks(&mut self, running: bool, now: Instant) {
        if running || self.record.print.is_none() {
            self.silent_since = None;
        } else {
            self.silent_since.get_or_insert(now);
        }
    }

    /// A print began.
    pub fn started(&mut self, print: Print) {
        self.record.print = Some(print);
        self.record.counts = None;
        self.silent_since = None;
    }

    /// How often the file of the print that runs was printed before.
    pub fn set_counts(&mut self, path: Option<&str>, history: &FileHistory) {
        if let Some(print) = &self.record.print
            && print.path.as_deref() == path
        {
            self.record.counts = Some((history.success, history.failure));
        }
    }

    /// A print ended, and the event that says so is about to be published.
    pub fn ended(&mut self, wall: SystemTime) {
        self.record.print = None;
        self.silent_since = None;
        self.record.last_end = self.record.last_end.max(unix(wall) + self.offset);
    }

    /// When [`Tracker::overdue`] or [`Tracker::keep`] has something to say.
    pub fn due(&self) -> Option<Instant> {
        let keep = self.kept_at.filter(|_| self.record.print.is_some() && self.recovering == 0);
        let silent = self.silent_since.map(|since| since + GRACE);
        [keep.map(|at| at + KEEP_EVERY), silent].into_iter().flatten().min()
    }

    /// A print that ended without an event, as one does whose printer is switched off during a
    /// pause.
    pub fn overdue(&mut self, now: Instant) -> Option<Unclear> {
        if self.silent_since.is_none_or(|since| now < since + GRACE) {
            return None;
        }
        self.silent_since = None;
        let print = self.record.print.take()?;
        self.recovering += 1;
        Some(Unclear {
            may_run: false,
            still_selected: false,
            since: self.record.last_end.max(self.record.server_time - 2.0 * GRACE.as_secs_f64()),
            now: self.record.server_time,
            counts: self.record.counts.take(),
            print,
        })
    }

    /// Whether the record is to be kept: `changed`, or so long after the last time.
    pub fn keep(&mut self, changed: bool, now: Instant) -> Option<&Record> {
        let running = self.record.print.is_some();
        let old = self.kept_at.is_none_or(|at| now >= at + KEEP_EVERY);
        if self.recovering > 0 || !self.known || !(changed || (running && old)) {
            return None;
        }
        self.kept_at = Some(now);
        Some(&self.record)
    }
}

fn unix(wall: SystemTime) -> f64 {
    wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
