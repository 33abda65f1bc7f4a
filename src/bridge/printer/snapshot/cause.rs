//! Why the printer is gone, or in an error, as events tell it (pure).
//!
//! OctoPrint 2.0 has the error's text in the event alone: in the state it is gone once the
//! connection is closed, and the end of the print has `unknown`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{Raw, member, object};
use crate::octoprint::EventKind;

/// Why the printer is gone.
#[derive(Debug, Default)]
pub(super) struct Cause {
    error: Option<String>,
    stopped: bool,
    disconnecting: bool,
    disconnected: bool,
}

impl Cause {
    /// Folds in an event's type and payload. Yields whether it says anything of this.
    pub(super) fn event(&mut self, kind: &EventKind, payload: Option<&RawValue>) -> bool {
        #[derive(Deserialize, Default)]
        struct ErrorEvent<'a> {
            #[serde(borrow, default)]
            error: Raw<'a>,
        }
        match kind {
            EventKind::Error => {
                let text: Option<String> = member(object::<ErrorEvent<'_>>(payload).error);
                self.error = text.filter(|text| !text.is_empty()).or(self.error.take());
            }
            EventKind::EStop => self.stopped = true,
            EventKind::Disconnecting => self.disconnecting = true,
            EventKind::Disconnected => self.disconnected = true,
            // What was before is no cause of what comes.
            EventKind::Connecting | EventKind::Connected | EventKind::PrintStarted => {
                *self = Self::default();
            }
            _ => return false,
        }
        true
    }

    /// The cause, where one is known.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self { error: Some(error), .. } => Some(error),
            Self { stopped: true, .. } => Some("emergency stop"),
            Self { disconnecting: true, .. } => Some("the printer was disconnected"),
            Self { disconnected: true, .. } => Some(LOST),
            _ => None,
        }
    }
}

/// Why a print failed whose printer is gone, where OctoPrint says no more.
pub(in crate::bridge::printer) const LOST: &str = "the connection to the printer was lost";

#[cfg(test)]
mod tests {
    use super::*;

    fn after(events: &[(&str, &str)]) -> Option<String> {
        let mut cause = Cause::default();
        for (kind, payload) in events {
            let payload = RawValue::from_string((*payload).to_owned()).unwrap();
            cause.event(&(*kind).into(), Some(&payload));
        }
        cause.text().map(str::to_owned)
    }

    #[test]
    fn the_text_of_an_error_says_most() {
        let error = ("Error", r#"{"error":"Thermal runaway"}"#);
        let (gone, stop) = (("Disconnected", "null"), ("EStop", "null"));
        let told = |events: &[_]| after(events).unwrap();
        assert_eq!(told(&[error, stop, gone]), "Thermal runaway");
        assert_eq!(told(&[error, ("Error", r#"{"error":""}"#)]), "Thermal runaway");
        assert_eq!(told(&[gone, stop]), "emergency stop");
        assert_eq!(told(&[("Disconnecting", "null"), gone]), "the printer was disconnected");
        assert_eq!(told(&[gone]), LOST);
        assert_eq!(after(&[error, ("Connected", "{}")]), None);
        assert_eq!(after(&[error, ("PrintStarted", "{}"), ("ZChange", "{}")]), None);
    }
}
