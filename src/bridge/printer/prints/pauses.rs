//! Pauses of prints that no event tells of, as those of some connectors of OctoPrint 2.0 (pure).

use std::time::{Duration, Instant};

use crate::bridge::printer::snapshot::PrinterState;
use crate::octoprint::EventKind;

/// How long the state may say otherwise than the events: an event may still come.
const GRACE: Duration = Duration::from_secs(1);

/// Whether the print that is on is paused, as it was told and as it is.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// As it was told; `None` while no print is on, or nothing is known.
    told: Option<bool>,
    /// Since when it is otherwise.
    otherwise: Option<Instant>,
    /// The next `current` may have been built before the last event.
    is_doubtful: bool,
}

impl Pauses {
    /// An event tells.
    pub(super) fn event(&mut self, kind: &EventKind) {
        self.told = match kind {
            EventKind::PrintPaused => Some(true),
            EventKind::PrintResumed | EventKind::PrintStarted => Some(false),
            _ => None,
        };
        (self.otherwise, self.is_doubtful) = (None, true);
    }

    /// The state of a message, which is `fresh` where it was built when it was sent.
    pub(super) fn observe(&mut self, state: PrinterState, fresh: bool, now: Instant) {
        if std::mem::take(&mut self.is_doubtful) && !fresh {
            return;
        }
        let is = match state {
            PrinterState::Paused => true,
            PrinterState::Printing => false,
            state if state.print_is_on() == Some(true) => return,
            _ => return *self = Self::default(),
        };
        if *self.told.get_or_insert(is) == is {
            self.otherwise = None;
        } else {
            self.otherwise.get_or_insert(now);
        }
    }

    /// When [`Pauses::overdue`] has something to say.
    pub(super) fn due(&self) -> Option<Instant> {
        self.otherwise.map(|since| since + GRACE)
    }

    /// Whether the print is paused, or else goes on again, which no event told; it is told then.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<bool> {
        self.due().filter(|due| now >= *due)?;
        self.otherwise = None;
        let is = !self.told?;
        self.told = Some(is);
        Some(is)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_pause_that_events_tell_is_told_once() {
        let (mut pauses, start) = (Pauses::default(), Instant::now());
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
    fn a_pause_that_no_event_tells_is_told_after_a_second() {
        let (mut pauses, start) = (Pauses::default(), Instant::now());
        pauses.observe(PrinterState::Printing, false, start);
        pauses.observe(PrinterState::Pausing, false, start);
        pauses.observe(PrinterState::Paused, false, start);
        assert_eq!((pauses.due(), pauses.overdue(start)), (Some(start + GRACE), None));
        pauses.observe(PrinterState::Paused, false, start + seconds(0.5));
        assert_eq!(pauses.overdue(start + GRACE), Some(true));
        assert_eq!((pauses.due(), pauses.overdue(start + GRACE)), (None, None));
        pauses.observe(PrinterState::Printing, false, start + seconds(2.0));
        assert_eq!(pauses.overdue(start + seconds(3.0)), Some(false));
        pauses.observe(PrinterState::Paused, false, start + seconds(4.0));
        pauses.observe(PrinterState::Printing, false, start + seconds(4.5));
        assert_eq!(pauses.due(), None, "it was a moment");
    }
}
