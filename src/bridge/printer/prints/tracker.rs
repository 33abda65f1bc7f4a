//! Follows the prints of one printer, and decides what of them to persist and recover (pure).

use std::time::{Duration, Instant, SystemTime};

use super::clock::ServerClock;
use super::ends::{Lookups, MissedEnds, PrintEnd, Record, UnclearEnd};
use super::history::{FileHistory, History, Print};
use super::replay::{Judgement, end_in_log, judge, running};
use super::silence::Silence;
use crate::bridge::printer::snapshot::PrinterState;
use crate::bridge::printer::snapshot::markings::Standing;
use crate::bridge::printer::snapshot::printer_state::LOST;

/// Interval for persisting the record while nothing happens but printing.
const PERSIST_EVERY: Duration = Duration::from_secs(60);
/// Longest time, in seconds, by which the end in a file's history may precede the last sign of the
/// print: the sign may have been on its way.
const ON_ITS_WAY: f64 = 5.0;
/// Number of messages that must show a print before it counts as one without an event.
const SIGHTINGS: u8 = 2;

/// The part of a `current` or `history` that matters here.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// The printer's state.
    pub state: PrinterState,
    /// OctoPrint's log, if it was included.
    pub standing: Option<&'a Standing>,
    /// The server's time.
    pub server_time: Option<f64>,
    /// A `history`, which is built when it is sent. A `current` may have waited for its turn, and
    /// so be older than an event that came before it.
    pub fresh: bool,
}

/// Tracks one printer's prints.
#[derive(Debug, Default)]
pub struct Tracker {
    record: Record,
    /// Whether anything is known from before.
    known: bool,
    clock: ServerClock,
    persisted_at: Option<Instant>,
    /// The record has changes that a restart must know.
    unpersisted: bool,
    /// The next `current` is built after the last event of a print.
    certain: bool,
    silence: Option<Silence>,
    /// Counts the signs of prints, so that an answer to an older question is recognised.
    signs: u64,
    /// The server's time of the last sign.
    sign_at: f64,
    /// Number of messages that showed a print that no event reported.
    sightings: u8,
    lookups: Lookups,
}

impl Tracker {
    /// Continues from the persisted record.
    pub fn new(persisted: Option<Record>) -> Self {
        let known = persisted.is_some();
        let record = persisted.unwrap_or_default();
        Self { known, clock: ServerClock::from(record.server_time), record, ..Self::default() }
    }

    /// Returns the record to persist with an end that is published. `None` while other ends are
    /// being looked up: after a restart they would count as reported.
    pub fn record(&self) -> Option<&Record> {
        self.lookups.is_empty().then_some(&self.record)
    }

    /// Number of ends that were published since the printer is known.
    pub fn ends(&self) -> u64 {
        self.record.ends
    }

    /// The running print.
    pub fn print(&self) -> Option<&Print> {
        self.record.print.as_ref()
    }

    /// The running print, else the one whose end was published last.
    pub fn last_print(&self) -> Option<&Print> {
        self.print().or_else(|| self.record.ended.first())
    }

    #[cfg(test)]
    pub(super) fn knows_log(&self) -> bool {
        self.record.standing.is_some() && !self.record.gap
    }

    /// Processes the first `history` of a connection, and returns the ends that were missed. Until
    /// [`Tracker::resolved`] nothing is persisted, so that a restart judges again.
    pub fn reconnected(
        &mut self,
        history: &History,
        now: Instant,
        wall: SystemTime,
    ) -> Option<MissedEnds> {
        let before = self.clock.last();
        let read_at = self.clock.read_at();
        let away = match (read_at, history.server_time) {
            (Some(read_at), _) => Some(now.saturating_duration_since(read_at).as_secs_f64()),
            (None, Some(server_time)) => Some(server_time - before),
            (None, None) => None,
        };
        self.update_clock(history.server_time, now, wall);
        // Across a restart of the bridge it is unknown by how much the clock was set.
        let away_here = away.filter(|_| read_at.is_some());
        let server_time = self.clock.restated(before, away_here, history.server_time);
        let was = Record { server_time, ..self.record.clone() };
        // A clock that was set forward makes OctoPrint drop more of its log.
        let by_server = history.server_time.map(|server_time| server_time - before);
        let away = away.map(|away| by_server.map_or(away, |by_server| by_server.max(away)));
        let judgement = if self.known {
            judge(&was, history, away)
        } else {
            Judgement { running: running(history, None), ..Judgement::default() }
        };
        let same = match (&self.record.print, &judgement.running) {
            (Some(before), Some(now)) => {
                judgement.ends.is_empty() && (before.is_file_of(now) || before == now)
            }
            _ => false,
        };
        if !same {
            self.record.counts = None;
        }
        self.record.print = judgement.running;
        if !self.known {
            // What happened before the first connection is not reported.
            self.record.last_end = self.record.server_time;
        }
        (self.known, self.certain, self.silence, self.sightings) = (true, true, None, 0);
        if history.markings.is_some() {
            self.record.standing = history.standing();
            self.record.reported_ends = 0;
            let over = self.record.standing.as_ref().is_some_and(|standing| standing.end.is_some());
            self.record.newer_than_log = self.record.print.is_some() && over;
        } else if !same {
            // The known log precedes this print by an unknown time.
            self.record.newer_than_log = self.record.print.is_some();
        }
        self.record.gap = history.markings.is_none();
        if !same {
            self.record.started_at = self.record.server_time;
        }
        self.note_sign();
        if judgement.ends.is_empty() && judgement.unclear.is_none() {
            return None;
        }
        Some(self.lookups.start(judgement.ends, judgement.unclear))
    }

    /// Processes the ends that lookup `id` found. Returns the ends to publish.
    pub fn resolved(&mut self, id: u64, mut ends: Vec<PrintEnd>) -> Vec<PrintEnd> {
        let Some(lookup) = self.lookups.finish(id) else { return Vec::new() };
        if lookup.reported && ends.last().is_some_and(|end| end.print.may_be(&lookup.print)) {
            ends.pop();
        }
        if let Some(print) = &self.record.print
            && print.may_be(&lookup.print)
            && !ends.is_empty()
        {
            // The counts are those of the print before.
            self.record.counts = None;
        }
        ends.iter().for_each(|end| self.record.note_end_at(end.at));
        self.record.ends += ends.len() as u64;
        // OctoPrint may repeat the event of the last one; the others are older.
        if let Some(last) = ends.last() {
            self.record.note_end(last.print.clone());
        }
        ends
    }

    /// Converts a time of the server to Unix seconds of our clock.
    pub fn by_our_clock(&self, server_time: f64) -> f64 {
        self.clock.by_ours(server_time)
    }

    /// Processes a `current`, or a `history` that is not the first of its connection; `read` parses
    /// the rest of it on demand. Returns whether a print was started at the printer, which no event
    /// reported.
    pub fn observe(
        &mut self,
        observation: Observation<'_>,
        read: impl FnOnce() -> Option<History>,
        now: Instant,
        wall: SystemTime,
    ) -> bool {
        self.update_clock(observation.server_time, now, wall);
        let certain = std::mem::replace(&mut self.certain, true) || observation.fresh;
        if let Some(standing) = observation.standing.filter(|_| certain) {
            self.unpersisted |= self.record.update_standing(standing);
        }
        match observation.state.print_is_on() {
            Some(true) => return self.observe_print(certain, observation, read),
            Some(false) if self.record.print.is_some() => {
                let silence = self.silence.get_or_insert_with(|| Silence::new(now));
                if certain {
                    silence.add_evidence(read().and_then(|history| history.error));
                }
            }
            Some(false) => self.sightings = 0,
            None => {}
        }
        false
    }

    /// Processes a state that shows a print. Returns whether that was started at the printer.
    fn observe_print(
        &mut self,
        certain: bool,
        observation: Observation<'_>,
        read: impl FnOnce() -> Option<History>,
    ) -> bool {
        if !certain && self.silence.as_ref().is_some_and(Silence::has_evidence) {
            // Built before the event that contradicts it.
            return false;
        }
        self.note_sign();
        if self.record.print.is_some() {
            return false;
        }
        // A message built before the end shows the print, and so does, for a moment, one built
        // after it.
        let clear = certain && !observation.state.is_winding_down();
        let in_log = |log: &Standing| log.by_printer && log.end.is_none();
        let by_printer = clear && observation.standing.is_some_and(in_log);
        let enough = by_printer || (clear && self.sightings + 1 >= SIGHTINGS);
        if !enough && !self.lookups.may_go_on() {
            self.sightings += u8::from(clear);
            return false;
        }
        let job = read().and_then(|history| history.job).unwrap_or_default();
        let goes_on = self.lookups.withdraw(&job);
        let is_news = by_printer && goes_on.is_none();
        if let Some(lookup) = goes_on {
            // It was not over.
            (self.record.print, self.record.counts) = (Some(lookup.print), lookup.counts);
        } else if enough {
            (self.record.print, self.record.counts) = (Some(job), None);
        } else {
            self.sightings += u8::from(clear);
            return false;
        }
        self.record.newer_than_log = observation.standing.is_none_or(|log| log.end.is_some());
        self.record.started_at = self.record.server_time;
        (self.sightings, self.unpersisted) = (0, true);
        is_news
    }

    /// Whether a `PrintStarted` for `print` is about the print that is already running: some
    /// connectors send it each time that the print's state changes.
    pub fn is_repeated_start(&mut self, print: &Print) -> bool {
        let seems_over = self.silence.as_ref().is_some_and(Silence::has_evidence);
        let running = self.record.print.as_mut().filter(|running| running.may_be(print));
        match running {
            Some(running) if !seems_over => {
                if running.path.is_none() {
                    *running = print.clone();
                }
                true
            }
            _ => false,
        }
    }

    /// Processes the start of a print. Returns the previous print if that ended without an event.
    pub fn started(&mut self, print: Print, now: Instant) -> Option<MissedEnds> {
        let silence = self.silence.take().filter(Silence::has_evidence);
        let before = self.record.print.take();
        let before = before.filter(|before| silence.is_some() || !before.may_be(&print));
        let error = silence.and_then(|silence| silence.error);
        let missed = before.map(|before| self.end_without_event(before, error, now));
        self.record.print = Some(print);
        self.record.counts = None;
        (self.record.newer_than_log, self.record.started_at) = (true, self.clock.at(now));
        (self.certain, self.sightings) = (false, 0);
        self.note_sign();
        self.sign_at = self.clock.at(now);
        missed
    }

    /// Processes the event that the printer is gone, and with it the print. The event for how that
    /// ended may or may not follow.
    pub fn disconnected(&mut self, now: Instant) {
        self.certain = false;
        if self.record.print.is_some() {
            let silence = self.silence.get_or_insert_with(|| Silence::new(now));
            silence.add_evidence(Some(LOST.to_owned()));
        }
    }

    /// Processes an event that shows that a print goes on.
    pub fn goes_on(&mut self, now: Instant) {
        (self.certain, self.silence) = (false, None);
        self.note_sign();
        self.sign_at = self.clock.at(now);
    }

    /// Stores how often the file of the running print was printed before.
    pub fn set_counts(&mut self, path: Option<&str>, history: &FileHistory) {
        if let Some(print) = &self.record.print
            && print.path.as_deref() == path
        {
            self.record.counts = Some((history.success, history.failure));
        }
    }

    /// Processes the event for the end of a print. Returns whether that is news: some OctoPrints
    /// repeat it.
    pub fn ended(&mut self, print: &Print, now: Instant) -> bool {
        (self.certain, self.sightings) = (false, 0);
        let at = self.clock.at(now);
        if let Some(open) = self.record.print.take_if(|open| open.may_be(print)) {
            self.record.ends += 1;
            self.record.note_end(open);
            self.record.note_end_at(at);
            self.silence = None;
            self.record.count_end();
            return true;
        }
        if self.record.ended.iter().any(|ended| ended.may_be(print)) {
            return false;
        }
        if !self.lookups.note_event(print) {
            // Its start was not seen: the end is in the log already, or in the next one.
            let end = self.record.standing.as_ref().and_then(|standing| standing.end.as_ref());
            let listed = end.is_some_and(|end| (at - end.at).abs() < ON_ITS_WAY);
            self.record.reported_ends += u32::from(!listed);
        }
        self.record.note_end(print.clone());
        self.record.note_end_at(at);
        self.record.ends += 1;
        true
    }

    /// Returns a question's id if OctoPrint has to be asked now whether a print is running.
    pub fn next_question(&mut self, now: Instant) -> Option<u64> {
        let ask = self.silence.as_mut().is_some_and(|silence| silence.should_ask(now));
        ask.then_some(self.signs)
    }

    /// Processes OctoPrint's answer to `question`, `None` if it gave none.
    pub fn answered(&mut self, question: u64, running: Option<bool>, now: Instant) {
        if question != self.signs {
            return;
        }
        if running == Some(true) {
            self.goes_on(now);
        } else if let Some(silence) = &mut self.silence {
            silence.answered(running.is_some(), now);
        }
    }

    /// When something has to be done or persisted.
    pub fn due(&self) -> Option<Instant> {
        let idle = self.record.print.is_none() || !self.lookups.is_empty();
        let persist = self.persisted_at.filter(|_| !idle).map(|at| at + PERSIST_EVERY);
        let silence = self.silence.as_ref().and_then(Silence::due);
        [persist, silence].into_iter().flatten().min()
    }

    /// Returns a print that is proven to have ended without an event, as one does if its printer is
    /// switched off during a pause.
    pub fn overdue(&mut self, now: Instant) -> Option<MissedEnds> {
        let silence = self.silence.take_if(|silence| silence.is_proven(now))?;
        let print = self.record.print.take()?;
        Some(self.end_without_event(print, silence.error, now))
    }

    fn end_without_event(
        &mut self,
        print: Print,
        error: Option<String>,
        now: Instant,
    ) -> MissedEnds {
        let own = self.record.standing.as_ref().filter(|_| !self.record.newer_than_log);
        let end = own.and_then(|standing| end_in_log(&print, standing, error.clone()));
        let missed = match end {
            Some(end) => self.lookups.start(vec![end], None),
            None => {
                let unclear = UnclearEnd {
                    print,
                    may_run: false,
                    still_selected: false,
                    since: self.record.last_end.max(self.sign_at - ON_ITS_WAY),
                    now: self.clock.at(now),
                    counts: self.record.counts,
                    reason: error,
                    restarted: false,
                };
                self.lookups.start(Vec::new(), Some(unclear))
            }
        };
        self.record.count_end();
        missed
    }

    /// Returns the record if it has to be persisted: it `changed`, or the interval has passed.
    pub fn to_persist(&mut self, changed: bool, now: Instant) -> Option<&Record> {
        let running = self.record.print.is_some();
        let old = self.persisted_at.is_none_or(|at| now >= at + PERSIST_EVERY);
        let changed = changed || self.unpersisted;
        if !self.lookups.is_empty() || !self.known || !(changed || (running && old)) {
            return None;
        }
        (self.persisted_at, self.unpersisted) = (Some(now), false);
        Some(&self.record)
    }

    fn note_sign(&mut self) {
        self.signs += 1;
        self.silence = None;
        self.sign_at = self.record.server_time;
    }

    /// Stores the server's time. Remembered times follow a clock that was set.
    fn update_clock(&mut self, server_time: Option<f64>, now: Instant, wall: SystemTime) {
        let Some(server_time) = server_time else { return };
        if let Some(jump) = self.clock.update(server_time, now, wall) {
            self.record.last_end += jump;
            self.sign_at += jump;
        }
        self.record.server_time = server_time;
    }
}
