//! Follows the prints of one printer, and says what of them is to be kept and recovered (pure).

use std::time::{Duration, Instant, SystemTime};

use super::clock::ServerClock;
use super::history::{FileHistory, History, Print};
use super::pending::{Lost, Pending};
use super::replay::{Verdict, end_in_log, judge, running};
use super::silence::Silence;
use super::verdict::{End, Record, Unclear};
use crate::bridge::printer::snapshot::PrinterState;
use crate::bridge::printer::snapshot::markings::Standing;
use crate::bridge::printer::snapshot::printer_state::LOST;

/// How often the record is kept while nothing happens but printing.
const PERSIST_EVERY: Duration = Duration::from_secs(60);
/// The end of a print is not written into its file's history earlier than so long before the last
/// sign of the print, in seconds: that sign may have been on its way.
const ON_ITS_WAY: f64 = 5.0;
/// So often must a print be seen that no event told of, before it counts as one.
const SEEN: u8 = 2;

/// What a `current` or `history` says that matters here.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The printer's state.
    pub state: PrinterState,
    /// How OctoPrint's log stands, where it came along.
    pub standing: Option<&'a Standing>,
    /// The server's time.
    pub server_time: Option<f64>,
    /// A `history`, which is built when it is sent. A `current` may have waited for its turn, and
    /// is older than an event that came before it.
    pub fresh: bool,
}

/// One printer's prints.
#[derive(Debug, Default)]
pub struct Tracker {
    record: Record,
    /// Whether anything is known from before.
    known: bool,
    clock: ServerClock,
    persisted_at: Option<Instant>,
    /// Since the record was kept, something changed that a restart must know.
    unpersisted: bool,
    /// The next `current` is built after the last event of a print.
    certain: bool,
    silence: Option<Silence>,
    /// Counts the signs of prints, so that an answer to an older question is known.
    signs: u64,
    /// The server's time of the last sign.
    sign_at: f64,
    /// How often a print was seen that no event told of.
    seen: u8,
    pending: Pending,
}

impl Tracker {
    /// Goes on from what was kept.
    pub fn new(kept: Option<Record>) -> Self {
        let known = kept.is_some();
        let record = kept.unwrap_or_default();
        Self { known, clock: ServerClock::from(record.server_time), record, ..Self::default() }
    }

    /// What is to be kept with an end that is published. `None` while other ends are still being
    /// found out: after a restart they would count as told.
    pub fn record(&self) -> Option<&Record> {
        self.pending.is_empty().then_some(&self.record)
    }

    /// The print that runs.
    pub fn print(&self) -> Option<&Print> {
        self.record.print.as_ref()
    }

    #[cfg(test)]
    pub(super) fn knows_log(&self) -> bool {
        self.record.standing.is_some() && !self.record.gap
    }

    /// The first `history` of a connection: what happened meanwhile. Until [`Tracker::found`]
    /// nothing is kept, so that a restart judges again.
    pub fn reconnected(
        &mut self,
        history: &History,
        now: Instant,
        wall: SystemTime,
    ) -> Option<Lost> {
        let before = self.clock.last();
        let heard = self.clock.heard();
        let away = match (heard, history.server_time) {
            (Some(heard), _) => Some(now.saturating_duration_since(heard).as_secs_f64()),
            (None, Some(server_time)) => Some(server_time - before),
            (None, None) => None,
        };
        self.hear(history.server_time, now, wall);
        // Before the start nobody heard by how much it was set.
        let away_here = away.filter(|_| heard.is_some());
        let server_time = self.clock.restated(before, away_here, history.server_time);
        let was = Record { server_time, ..self.record.clone() };
        // A clock that was set forward makes OctoPrint drop more of its log.
        let by_server = history.server_time.map(|server_time| server_time - before);
        let away = away.map(|away| by_server.map_or(away, |by_server| by_server.max(away)));
        let verdict = if self.known {
            judge(&was, history, away)
        } else {
            Verdict { running: running(history, None), ..Verdict::default() }
        };
        let same = match (&self.record.print, &verdict.running) {
            (Some(before), Some(now)) => {
                verdict.ends.is_empty() && (before.is_file_of(now) || before == now)
            }
            _ => false,
        };
        if !same {
            self.record.counts = None;
        }
        self.record.print = verdict.running;
        if !self.known {
            // Nothing that happened before the first look is ours to tell.
            self.record.last_end = self.record.server_time;
        }
        (self.known, self.certain, self.silence, self.seen) = (true, true, None, 0);
        if history.markings.is_some() {
            self.record.standing = history.standing();
            self.record.told = 0;
            let over = self.record.standing.as_ref().is_some_and(|standing| standing.end.is_some());
            self.record.begun = self.record.print.is_some() && over;
        } else if !same {
            // The log has what comes before this print, and nobody knows how much.
            self.record.begun = self.record.print.is_some();
        }
        self.record.gap = history.markings.is_none();
        if !same {
            self.record.began = self.record.server_time;
        }
        self.sign();
        if verdict.ends.is_empty() && verdict.unclear.is_none() {
            return None;
        }
        Some(self.pending.ask(verdict.ends, verdict.unclear))
    }

    /// The ends of `id` are known; yields those that are about to be published.
    pub fn found(&mut self, id: u64, mut ends: Vec<End>) -> Vec<End> {
        let Some(asked) = self.pending.answered(id) else { return Vec::new() };
        if asked.told && ends.last().is_some_and(|end| end.print.may_be(&asked.print)) {
            ends.pop();
        }
        if let Some(print) = &self.record.print
            && print.may_be(&asked.print)
            && !ends.is_empty()
        {
            // They are of the print before.
            self.record.counts = None;
        }
        ends.iter().for_each(|end| self.record.note_end_at(end.at));
        // What is said of it again is no news; the others are older.
        if let Some(last) = ends.last() {
            self.record.note_end(last.print.clone());
        }
        ends
    }

    /// A time of the server's, as seconds of our clock since 1970.
    pub fn by_our_clock(&self, server_time: f64) -> f64 {
        self.clock.by_ours(server_time)
    }

    /// Takes in a `current`, or a `history` that is not the first of its connection. `read` reads
    /// the rest of it, where that is needed. Yields whether a print was begun at the printer, which
    /// no event told.
    pub fn observe(
        &mut self,
        observed: Observed<'_>,
        read: impl FnOnce() -> Option<History>,
        now: Instant,
        wall: SystemTime,
    ) -> bool {
        self.hear(observed.server_time, now, wall);
        let certain = std::mem::replace(&mut self.certain, true) || observed.fresh;
        if let Some(standing) = observed.standing.filter(|_| certain) {
            self.take_standing(standing);
        }
        match observed.state.print_is_on() {
            Some(true) => return self.looks_on(certain, observed, read),
            Some(false) if self.record.print.is_some() => {
                let silence = self.silence.get_or_insert_with(|| Silence::new(now));
                if certain {
                    silence.add(read().and_then(|history| history.error));
                }
            }
            Some(false) => self.seen = 0,
            None => {}
        }
        false
    }

    fn take_standing(&mut self, standing: &Standing) {
        let record = &mut self.record;
        let end = |standing: &Standing| standing.end.clone();
        let ended_anew = record.standing.as_ref().is_none_or(|old| end(old) != standing.end);
        if standing.end.is_none() || ended_anew {
            self.unpersisted |= record.begun;
            record.begun = false;
        }
        self.unpersisted |= record.told > 0;
        (record.told, record.gap) = (0, false);
        if record.standing.as_ref() != Some(standing) {
            record.standing = Some(standing.clone());
        }
    }

    /// A print is on. Yields whether it is one that was begun at the printer.
    fn looks_on(
        &mut self,
        certain: bool,
        observed: Observed<'_>,
        read: impl FnOnce() -> Option<History>,
    ) -> bool {
        if !certain && self.silence.as_ref().is_some_and(Silence::is_said) {
            // It was built before the event that says otherwise.
            return false;
        }
        self.sign();
        if self.record.print.is_some() {
            return false;
        }
        // What was built before the end says that the print is on; so does, for a moment, what was
        // built after it.
        let clear = certain && !observed.state.is_winding_down();
        let in_log = |log: &Standing| log.by_printer && log.end.is_none();
        let by_printer = clear && observed.standing.is_some_and(in_log);
        let enough = by_printer || (clear && self.seen + 1 >= SEEN);
        if !enough && !self.pending.may_go_on() {
            self.seen += u8::from(clear);
            return false;
        }
        let job = read().and_then(|history| history.job).unwrap_or_default();
        let goes_on = self.pending.goes_on(&job);
        let is_news = by_printer && goes_on.is_none();
        if let Some(asked) = goes_on {
            // It was not over.
            (self.record.print, self.record.counts) = (Some(asked.print), asked.counts);
        } else if enough {
            (self.record.print, self.record.counts) = (Some(job), None);
        } else {
            self.seen += u8::from(clear);
            return false;
        }
        self.record.begun = observed.standing.is_none_or(|standing| standing.end.is_some());
        self.record.began = self.record.server_time;
        (self.seen, self.unpersisted) = (0, true);
        is_news
    }

    /// Whether an event says of the print that runs that it began, as some connectors do each time
    /// that its state changes.
    pub fn is_told_again(&mut self, print: &Print) -> bool {
        let is_said = self.silence.as_ref().is_some_and(Silence::is_said);
        let running = self.record.print.as_mut().filter(|running| running.may_be(print));
        match running {
            Some(running) if !is_said => {
                if running.path.is_none() {
                    *running = print.clone();
                }
                true
            }
            _ => false,
        }
    }

    /// A print began. Yields the one before, where that ended unseen.
    pub fn started(&mut self, print: Print, now: Instant) -> Option<Lost> {
        let silence = self.silence.take().filter(Silence::is_said);
        let before = self.record.print.take();
        let before = before.filter(|before| silence.is_some() || !before.may_be(&print));
        let error = silence.and_then(|silence| silence.error);
        let lost = before.map(|before| self.over(before, error, now));
        self.record.print = Some(print);
        self.record.counts = None;
        (self.record.begun, self.record.began) = (true, self.server_time(now));
        (self.certain, self.seen) = (false, 0);
        self.sign();
        self.sign_at = self.server_time(now);
        lost
    }

    /// The printer is gone, as an event says, and so is what it printed: the event that says how
    /// that ended may follow, or not.
    pub fn disconnected(&mut self, now: Instant) {
        self.certain = false;
        if self.record.print.is_some() {
            self.silence.get_or_insert_with(|| Silence::new(now)).add(Some(LOST.to_owned()));
        }
    }

    /// A print goes on, as an event says.
    pub fn goes_on(&mut self, now: Instant) {
        (self.certain, self.silence) = (false, None);
        self.sign();
        self.sign_at = self.server_time(now);
    }

    /// How often the file of the print that runs was printed before.
    pub fn set_counts(&mut self, path: Option<&str>, history: &FileHistory) {
        if let Some(print) = &self.record.print
            && print.path.as_deref() == path
        {
            self.record.counts = Some((history.success, history.failure));
        }
    }

    /// An event says that a print ended. Yields whether that is news: some OctoPrints say it again
    /// and again.
    pub fn ended(&mut self, print: &Print, now: Instant) -> bool {
        (self.certain, self.seen) = (false, 0);
        if let Some(open) = self.record.print.take_if(|open| open.may_be(print)) {
            self.record.note_end(open);
            self.record.note_end_at(self.server_time(now));
            self.silence = None;
            self.count_end();
            return true;
        }
        if self.record.ended.iter().any(|ended| ended.may_be(print)) {
            return false;
        }
        if !self.pending.told(print) {
            // Nobody saw it run: its end is in the log already, or comes with the next one.
            let at = self.server_time(now);
            let end = self.record.standing.as_ref().and_then(|standing| standing.end.as_ref());
            let listed = end.is_some_and(|end| (at - end.at).abs() < ON_ITS_WAY);
            self.record.told += u32::from(!listed);
        }
        self.record.note_end(print.clone());
        self.record.note_end_at(self.server_time(now));
        true
    }

    /// The print that was on is over: its marking comes later where the log has none of it yet.
    fn count_end(&mut self) {
        let record = &mut self.record;
        let under_way = record.standing.as_ref().is_some_and(|standing| standing.end.is_none());
        if record.begun || under_way {
            record.told += 1;
        }
        record.begun = false;
        record.counts = None;
    }

    /// Whether OctoPrint is to be asked whether a print is on; yields what the answer is to carry.
    pub fn asks(&mut self, now: Instant) -> Option<u64> {
        let asks = self.silence.as_mut().is_some_and(|silence| silence.asks(now));
        asks.then_some(self.signs)
    }

    /// OctoPrint's answer, `None` where it gave none.
    pub fn answered(&mut self, signs: u64, on: Option<bool>, now: Instant) {
        if signs != self.signs {
            return;
        }
        if on == Some(true) {
            self.goes_on(now);
        } else if let Some(silence) = &mut self.silence {
            silence.answered(on.is_some(), now);
        }
    }

    /// When there is something to do, or to keep.
    pub fn due(&self) -> Option<Instant> {
        let keep =
            self.persisted_at.filter(|_| self.record.print.is_some() && self.pending.is_empty());
        let silence = self.silence.as_ref().and_then(Silence::due);
        [keep.map(|at| at + PERSIST_EVERY), silence].into_iter().flatten().min()
    }

    /// A print that ended without an event, as one does whose printer is switched off during a
    /// pause.
    pub fn overdue(&mut self, now: Instant) -> Option<Lost> {
        let silence = self.silence.take_if(|silence| silence.is_proven(now))?;
        let print = self.record.print.take()?;
        Some(self.over(print, silence.error, now))
    }

    /// `print` ended, and no event said how.
    fn over(&mut self, print: Print, error: Option<String>, now: Instant) -> Lost {
        let counts = self.record.counts;
        let own = self.record.standing.as_ref().filter(|_| !self.record.begun);
        let end = own.and_then(|standing| end_in_log(&print, standing, error.clone()));
        let since = self.record.last_end.max(self.sign_at - ON_ITS_WAY);
        let lost = match end {
            Some(end) => self.pending.ask(vec![end], None),
            None => {
                let (may_run, still_selected) = (false, false);
                let now = self.server_time(now);
                let reason = error;
                let restarted = false;
                let unclear = Unclear {
                    print,
                    may_run,
                    still_selected,
                    since,
                    now,
                    counts,
                    reason,
                    restarted,
                };
                self.pending.ask(Vec::new(), Some(unclear))
            }
        };
        self.count_end();
        lost
    }

    /// Whether the record is to be kept: `changed`, or so long after the last time.
    pub fn to_persist(&mut self, changed: bool, now: Instant) -> Option<&Record> {
        let running = self.record.print.is_some();
        let old = self.persisted_at.is_none_or(|at| now >= at + PERSIST_EVERY);
        let changed = changed || self.unpersisted;
        if !self.pending.is_empty() || !self.known || !(changed || (running && old)) {
            return None;
        }
        (self.persisted_at, self.unpersisted) = (Some(now), false);
        Some(&self.record)
    }

    /// There is a sign of a print.
    fn sign(&mut self) {
        self.signs += 1;
        self.silence = None;
        self.sign_at = self.record.server_time;
    }

    /// Takes in the server's time. What is remembered in it follows a clock that was set.
    fn hear(&mut self, server_time: Option<f64>, now: Instant, wall: SystemTime) {
        let Some(server_time) = server_time else { return };
        if let Some(jump) = self.clock.hear(server_time, now, wall) {
            self.record.last_end += jump;
            self.sign_at += jump;
        }
        self.record.server_time = server_time;
    }

    /// What the server's clock says now.
    fn server_time(&self, now: Instant) -> f64 {
        self.clock.at(now)
    }
}
