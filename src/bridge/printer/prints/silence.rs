//! Prints whose state contradicts the events that OctoPrint sent: pauses and ends that no event
//! reported (pure).

use std::time::{Duration, Instant};

use crate::bridge::printer::snapshot::PrinterState;
use crate::octoprint::EventKind;

/// Delay before a print counts as ended without an event. Events come before the state that they
/// cause, and mostly not much before.
const END_GRACE: Duration = Duration::from_secs(5);
/// Delay before OctoPrint is asked again after it did not say whether a print is running.
const RETRY: Duration = Duration::from_secs(10);
/// Pieces of evidence that prove an end. Each must have been built after the last sign of the
/// print.
const PROOF: u8 = 2;
/// Time for which the state may contradict the events: a pause's event may still arrive.
const PAUSE_GRACE: Duration = Duration::from_secs(1);

/// The evidence for the end of a print that no event reported.
#[derive(Debug)]
pub(super) struct Silence {
    since: Instant,
    evidence: u8,
    /// When to ask OctoPrint; `None` while an answer is outstanding.
    ask_at: Option<Instant>,
    /// The printer's error.
    pub(super) error: Option<String>,
}

impl Silence {
    /// Starts at the first message that shows no print. That message alone proves nothing.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, evidence: 0, ask_at: Some(now + END_GRACE), error: None }
    }

    /// Adds a message, built after the last sign of the print, that shows no print; `error` is the
    /// printer's.
    pub(super) fn add_evidence(&mut self, error: Option<String>) {
        self.evidence = self.evidence.saturating_add(1);
        self.error = error.filter(|error| !error.is_empty()).or(self.error.take());
    }

    pub(super) fn has_evidence(&self) -> bool {
        self.evidence > 0
    }

    /// Records OctoPrint's answer on whether a print is running: no (`over`), or no answer at all.
    pub(super) fn answered(&mut self, over: bool, now: Instant) {
        self.evidence = self.evidence.saturating_add(u8::from(over));
        self.ask_at = Some(now + if over { END_GRACE } else { RETRY });
    }

    /// Whether the print is over.
    pub(super) fn is_proven(&self, now: Instant) -> bool {
        self.evidence >= PROOF && now >= self.since + END_GRACE
    }

    /// Whether to ask OctoPrint now; true once per answer.
    pub(super) fn should_ask(&mut self, now: Instant) -> bool {
        let ask = self.evidence < PROOF && self.ask_at.is_some_and(|at| now >= at);
        if ask {
            self.ask_at = None;
        }
        ask
    }

    /// When the next step is due.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.evidence >= PROOF { Some(self.since + END_GRACE) } else { self.ask_at }
    }
}

/// Finds pauses of the running print that no event reports, as with some connectors of OctoPrint
/// 2.0.
#[derive(Debug, Default)]
pub(super) struct PauseTracker {
    /// Whether the print was last reported as paused; `None` without a print, or while unknown.
    reported: Option<bool>,
    /// Since when the state contradicts that.
    contradicted_since: Option<Instant>,
    /// The next `current` may have been built before the last event.
    is_doubtful: bool,
}

impl PauseTracker {
    pub(super) fn event(&mut self, kind: &EventKind) {
        self.reported = match kind {
            EventKind::PrintPaused => Some(true),
            EventKind::PrintResumed | EventKind::PrintStarted => Some(false),
            _ => None,
        };
        (self.contradicted_since, self.is_doubtful) = (None, true);
    }

    /// Observes the state of a message; `fresh`: it was built when it was sent.
    pub(super) fn observe(&mut self, state: PrinterState, fresh: bool, now: Instant) {
        if std::mem::take(&mut self.is_doubtful) && !fresh {
            return;
        }
        let is_paused = match state {
            PrinterState::Paused => true,
            PrinterState::Printing => false,
            state if state.print_is_on() == Some(true) => return,
            _ => return *self = Self::default(),
        };
        if *self.reported.get_or_insert(is_paused) == is_paused {
            self.contradicted_since = None;
        } else {
            self.contradicted_since.get_or_insert(now);
        }
    }

    /// When [`PauseTracker::overdue`] next returns something.
    pub(super) fn due(&self) -> Option<Instant> {
        self.contradicted_since.map(|since| since + PAUSE_GRACE)
    }

    /// Returns `true` for a pause and `false` for a resumption that no event reported. The caller
    /// reports it.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<bool> {
        self.due().filter(|due| now >= *due)?;
        self.contradicted_since = None;
        let is_paused = !self.reported?;
        self.reported = Some(is_paused);
        Some(is_paused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_pause_that_events_report_is_reported_once() {
        let (mut pauses, start) = (PauseTracker::default(), Instant::now());
        pauses.event(&EventKind::PrintStarted);
        pauses.observe(PrinterState::Printing, false, start);
        pauses.event(&EventKind::PrintPaused);
        // Built before the event.
        pauses.observe(PrinterState::Printing, false, start);
        pauses.observe(PrinterState::Paused, false, start + seconds(0.5));
        assert_eq!(pauses.due(), None);
        pauses.event(&EventKind::PrintDone);
        pauses.observe(PrinterState::Operational, false, start);
        pauses.observe(PrinterState::Paused, false, start);
        assert_eq!(pauses.due(), None, "another print, of which nothing is known");
    }

    #[test]
    fn a_pause_that_no_event_reports_is_reported_after_a_second() {
        let (mut pauses, start) = (PauseTracker::default(), Instant::now());
        pauses.observe(PrinterState::Printing, false, start);
        pauses.observe(PrinterState::Pausing, false, start);
        pauses.observe(PrinterState::Paused, false, start);
        assert_eq!((pauses.due(), pauses.overdue(start)), (Some(start + PAUSE_GRACE), None));
        pauses.observe(PrinterState::Paused, false, start + seconds(0.5));
        assert_eq!(pauses.overdue(start + PAUSE_GRACE), Some(true));
        assert_eq!((pauses.due(), pauses.overdue(start + PAUSE_GRACE)), (None, None));
        pauses.observe(PrinterState::Printing, false, start + seconds(2.0));
        assert_eq!(pauses.overdue(start + seconds(3.0)), Some(false));
        pauses.observe(PrinterState::Paused, false, start + seconds(4.0));
        pauses.observe(PrinterState::Printing, false, start + seconds(4.5));
        assert_eq!(pauses.due(), None, "the pause was too short");
    }
}
