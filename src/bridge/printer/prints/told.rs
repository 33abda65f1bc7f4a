//! What is published of a print that no event told of: its beginning, its pauses, its end (pure).

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::history::Print;
use super::verdict::{End, Outcome};
use crate::bridge::printer::messages::event;
use crate::mqtt::Publication;
use crate::octoprint::EventKind;
use crate::topics::PrinterTopics;

impl Outcome {
    /// OctoPrint's event.
    fn event(self) -> EventKind {
        match self {
            Self::Done => EventKind::PrintDone,
            Self::Failed => EventKind::PrintFailed,
            Self::Cancelled => EventKind::PrintCancelled,
        }
    }
}

/// What no event told of a print.
#[derive(Debug)]
pub struct Told {
    /// The event that OctoPrint would send of it.
    pub(super) kind: EventKind,
    pub(super) print: Print,
    /// When it was, in seconds since 1970 by the bridge's clock.
    at: f64,
    /// How long the print took, in seconds.
    took: Option<f64>,
    /// Why it failed.
    reason: Option<String>,
}

impl Told {
    /// What is of a print that goes on.
    pub(super) fn new(kind: EventKind, print: Print, at: f64) -> Self {
        Self { kind, print, at, took: None, reason: None }
    }

    /// An end, at `at` by the bridge's clock.
    pub(super) fn end(end: &End, at: f64) -> Self {
        let (took, reason) = (end.took, end.reason.clone());
        Self { took, reason, ..Self::new(end.outcome.event(), end.print.clone(), at) }
    }

    /// What is published of it; `along` is kept with each.
    pub fn publications(
        &self,
        topics: &PrinterTopics,
        lane: usize,
        along: Option<&Bytes>,
    ) -> Vec<Publication> {
        let publication = |topic, payload, kind| Publication {
            along: along.cloned(),
            ..Publication::new(lane, topic, payload, kind)
        };
        let (topic, kind) = (topics.event(self.kind.as_str()), event::event_kind(&self.kind));
        vec![
            publication(topic, self.event_payload(), kind),
            publication(topics.print.clone(), self.print_payload(), event::PRINT),
        ]
    }

    /// The payload for `B/P/event/<Type>`: the fields that are known, as OctoPrint names them.
    pub(super) fn event_payload(&self) -> Bytes {
        let print = &self.print;
        let fields = [
            ("name", json!(print.name)),
            ("path", json!(print.path)),
            ("origin", json!(print.origin)),
            ("size", json!(print.size)),
            ("user", json!(print.user)),
            ("time", json!(self.took)),
            ("reason", json!(self.reason)),
            ("_event", json!(self.kind.as_str())),
            ("_timestamp", json!(self.timestamp())),
            ("_recovered", json!(true)),
        ];
        let known = fields.into_iter().filter(|(_, value)| !value.is_null());
        let event: Map<String, Value> =
            known.map(|(name, value)| (name.to_owned(), value)).collect();
        Value::from(event).to_string().into()
    }

    /// The payload for `B/P/print`.
    pub(super) fn print_payload(&self) -> Bytes {
        json!({
            "event_type": event::print_type(&self.kind),
            "file": self.print.name,
            "path": self.print.path,
            "time": self.took,
            "reason": self.reason,
            "timestamp": self.timestamp(),
            "_recovered": true,
        })
        .to_string()
        .into()
    }

    fn timestamp(&self) -> u64 {
        // A float to an integer saturates.
        self.at.max(0.0) as u64
    }
}
