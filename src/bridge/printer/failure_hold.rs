//! A print that failed, and whose reason may still come (pure).
//!
//! In OctoPrint 2.0, PrintFailed has the error `unknown`. The event that has the text (Error), or
//! that says why (EStop), is sent by another thread: mostly before PrintFailed, at times a moment
//! after it.

use std::time::{Duration, Instant};

use super::snapshot::EventFields;
use crate::octoprint::{EventKind, Message, MessageKind};

/// Time to wait for the reason: less than the time after which a print without an event of its end
/// counts as ended.
const WAIT: Duration = Duration::from_millis(700);

/// Holds one PrintFailed.
#[derive(Debug, Default)]
pub(super) struct FailureHold(Option<(Message, Instant)>);

impl FailureHold {
    /// Whether this event should be held until its reason is known.
    pub(super) fn wants(kind: &EventKind, fields: &EventFields<'_>) -> bool {
        let is_unknown = fields.error.is_some_and(|error| error.get() == "\"unknown\"");
        *kind == EventKind::PrintFailed && is_unknown
    }

    pub(super) fn hold(&mut self, failed: Message, now: Instant) {
        self.0 = Some((failed, now + WAIT));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.0.as_ref().map(|(_, due)| *due)
    }

    /// Takes what is held, if the message that comes next no longer belongs to the failed print, or
    /// makes its reason forgotten.
    pub(super) fn take_before(
        &mut self,
        kind: &MessageKind,
        event: Option<&EventKind>,
    ) -> Option<Message> {
        let is_next = match event {
            Some(event) => matches!(
                event,
                EventKind::Connecting
                    | EventKind::Connected
                    | EventKind::PrintStarted
                    | EventKind::PrintDone
                    | EventKind::PrintFailed
                    | EventKind::PrintCancelled
            ),
            None => matches!(kind, MessageKind::Connected | MessageKind::History),
        };
        if is_next { self.take() } else { None }
    }

    /// Takes what is held, if it has waited long enough.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Message> {
        if self.due().is_some_and(|due| due <= now) { self.take() } else { None }
    }

    pub(super) fn take(&mut self) -> Option<Message> {
        self.0.take().map(|(message, _)| message)
    }
}
