//! The printer's state, with the text of its error (pure).

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::cause::Cause;
use super::change::{Published, StateChange, StateTopic};
use super::json::{Known, Last, Raw, member, object, raw_object, raw_text};
use super::printer_state::{PrinterState, error_in_text};
use crate::octoprint::EventKind;

#[derive(Debug, Default)]
pub(super) struct Condition {
    pub(super) state: PrinterState,
    last: Last,
    /// As it came, for when the cause comes after it.
    raw: Option<Box<RawValue>>,
    cause: Cause,
    published: Published,
}

#[derive(Deserialize, Default)]
struct StateMember<'a> {
    #[serde(borrow, default)]
    text: Raw<'a>,
    #[serde(borrow, default)]
    error: Raw<'a>,
    #[serde(borrow, default)]
    flags: Raw<'a>,
}

#[derive(Serialize)]
struct PrinterPayload<'a> {
    state: PrinterState,
    text: Raw<'a>,
    error: Known<'a, &'a str>,
    flags: Raw<'a>,
}

impl Condition {
    /// Folds in a `state`.
    pub(super) fn apply(&mut self, raw: Raw<'_>) -> Option<StateChange> {
        if !self.last.differs(raw) {
            return None;
        }
        self.raw = raw.map(ToOwned::to_owned);
        self.change()
    }

    /// Folds in an event, which may tell why the printer is in an error.
    pub(super) fn event(
        &mut self,
        kind: &EventKind,
        payload: Option<&RawValue>,
    ) -> Option<StateChange> {
        if self.cause.event(kind, payload) { self.change() } else { None }
    }

    /// Why the printer is gone, where events told.
    pub(super) fn cause(&self) -> Option<&str> {
        self.cause.text()
    }

    fn change(&mut self) -> Option<StateChange> {
        let StateMember { text, error, flags } = object(self.raw.as_deref());
        let spoken: Option<String> = member(text);
        self.state = PrinterState::of(spoken.as_deref(), object(flags));
        let error = raw_text(error);
        let is_told = error.is_some_and(|error| error.get() != "\"\"");
        let found = || {
            let in_error = self.state == PrinterState::Error;
            in_error.then(|| spoken.as_deref().and_then(error_in_text).or(self.cause.text()))?
        };
        let error = match if is_told { None } else { found() } {
            None => Known::AsItCame(error),
            found => Known::Found(found),
        };
        let payload = PrinterPayload {
            state: self.state,
            text: raw_text(text),
            error,
            flags: raw_object(flags),
        };
        self.published.change(StateTopic::Printer, &payload)
    }
}
