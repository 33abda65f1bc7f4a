//! A print that seems to be over though no event said so (pure).

use std::time::{Duration, Instant};

/// For how long a print may seem to have ended without an event: events come before the state
/// that they cause, and mostly not much later.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait after OctoPrint did not say whether a print is on.
const AGAIN: Duration = Duration::from_secs(10);
/// So often must it be said that no print is on, by what was built after the last sign of it.
const ENOUGH: u8 = 2;

/// What speaks for the end of a print that no event told of.
#[derive(Debug)]
pub(super) struct Silence {
    since: Instant,
    evidence: u8,
    /// When OctoPrint is to be asked; `None` while an answer is waited for.
    ask_at: Option<Instant>,
    /// The printer's error.
    pub(super) error: Option<String>,
}

impl Silence {
    /// The first message that shows no print; it proves nothing by itself.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, evidence: 0, ask_at: Some(now + GRACE), error: None }
    }

    /// No print is on, said by what was built after the last sign of it; and the printer's error.
    pub(super) fn add(&mut self, error: Option<String>) {
        self.evidence = self.evidence.saturating_add(1);
        self.error = error.filter(|error| !error.is_empty()).or(self.error.take());
    }

    /// Whether it was said at all.
    pub(super) fn is_said(&self) -> bool {
        self.evidence > 0
    }

    /// OctoPrint's answer to the question whether a print is on: not, or nothing at all.
    pub(super) fn answered(&mut self, over: bool, now: Instant) {
        self.evidence = self.evidence.saturating_add(u8::from(over));
        self.ask_at = Some(now + if over { GRACE } else { AGAIN });
    }

    /// Whether the print is over.
    pub(super) fn is_proven(&self, now: Instant) -> bool {
        self.evidence >= ENOUGH && now >= self.since + GRACE
    }

    /// Whether OctoPrint is to be asked now; once for each answer.
    pub(super) fn asks(&mut self, now: Instant) -> bool {
        let asks = self.evidence < ENOUGH && self.ask_at.is_some_and(|at| now >= at);
        if asks {
            self.ask_at = None;
        }
        asks
    }

    /// When there is something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.evidence >= ENOUGH { Some(self.since + GRACE) } else { self.ask_at }
    }
}
