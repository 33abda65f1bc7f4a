//! What is published of an end that nobody saw (pure).

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::{End, Outcome};

impl Outcome {
    /// OctoPrint's event.
    pub fn event(self) -> &'static str {
        match self {
            Self::Done => "PrintDone",
            Self::Failed => "PrintFailed",
            Self::Cancelled => "PrintCancelled",
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

/// The payload for `B/P/event/<Type>`: the fields that are known, as OctoPrint names them.
pub fn event_payload(end: &End) -> Bytes {
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
        ("_event", json!(end.outcome.event())),
        ("_timestamp", json!(timestamp(end))),
        ("_recovered", json!(true)),
    ];
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
        event.insert(name.to_owned(), value);
    }
    Value::from(event).to_string().into()
}

/// The payload for `B/P/print`.
pub fn print_payload(end: &End) -> Bytes {
    json!({
        "event_type": end.outcome.print_event(),
        "file": end.print.name,
        "path": end.print.path,
        "time": end.took,
        "reason": end.reason,
        "timestamp": timestamp(end),
        "_recovered": true,
    })
    .to_string()
    .into()
}

/// The end itself, in whole Unix seconds.
pub fn timestamp(end: &End) -> u64 {
    // A time of a server's clock, which is after 1970.
    end.at.max(0.0) as u64
}
