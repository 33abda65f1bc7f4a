//! What is published of an end that nobody saw (pure).

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::verdict::{End, Outcome};
use crate::octoprint::EventKind;

impl Outcome {
    /// OctoPrint's event.
    pub fn event(self) -> EventKind {
        match self {
            Self::Done => EventKind::PrintDone,
            Self::Failed => EventKind::PrintFailed,
            Self::Cancelled => EventKind::PrintCancelled,
        }
    }

    fn print_event(self) -> &'static str {
        match self {
            Self::Done => "print_done",
            Self::Failed => "print_failed",
            Self::Cancelled => "print_cancelled",
        }
    }
}

/// The payload for `B/P/event/<Type>`: the fields that are known, as OctoPrint names them. `at` is
/// the end itself, in seconds since 1970 by the bridge's clock.
pub fn event_payload(end: &End, at: f64) -> Bytes {
    let mut event = Map::new();
    let print = &end.print;
    let fields = [
        ("name", json!(print.name)),
        ("path", json!(print.path)),
        ("origin", json!(print.origin)),
        ("size", json!(print.size)),
        ("user", json!(print.user)),
        ("time", json!(end.took)),
        ("reason", json!(end.reason)),
        ("_event", json!(end.outcome.event().as_str())),
        ("_timestamp", json!(timestamp(at))),
        ("_recovered", json!(true)),
    ];
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
        event.insert(name.to_owned(), value);
    }
    Value::from(event).to_string().into()
}

/// The payload for `B/P/print`; `at` as in [`event_payload`].
pub fn print_payload(end: &End, at: f64) -> Bytes {
    json!({
        "event_type": end.outcome.print_event(),
        "file": end.print.name,
        "path": end.print.path,
        "time": end.took,
        "reason": end.reason,
        "timestamp": timestamp(at),
        "_recovered": true,
    })
    .to_string()
    .into()
}

pub(super) fn timestamp(at: f64) -> u64 {
    // A float to an integer saturates.
    at.max(0.0) as u64
}
