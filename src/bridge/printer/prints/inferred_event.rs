//! Events that OctoPrint did not send and its state or log proves: what is published of them (pure).

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::ends::{Outcome, PrintEnd};
use super::history::Print;
use super::step::{PrintResult, PrintStep, system_time};
use crate::bridge::printer::messages::event;
use crate::mqtt::Publication;
use crate::octoprint::EventKind;
use crate::topics::PrinterTopics;

impl Outcome {
    fn event(self) -> EventKind {
        match self {
            Self::Done => EventKind::PrintDone,
            Self::Failed => EventKind::PrintFailed,
            Self::Cancelled => EventKind::PrintCancelled,
        }
    }

    fn of(event: &EventKind) -> Option<Self> {
        [Self::Done, Self::Failed, Self::Cancelled].into_iter().find(|end| end.event() == *event)
    }
}

/// The start, pause, resumption or end of a print that OctoPrint sent no event for.
#[derive(Debug)]
pub struct InferredEvent {
    /// The event that OctoPrint would have sent.
    pub(super) kind: EventKind,
    pub(super) print: Print,
    /// Unix time in seconds, by the bridge's clock.
    at: f64,
    /// Duration of the print in seconds.
    took: Option<f64>,
    /// Reason for a failure.
    reason: Option<String>,
    /// Number of the end, see [`PrintResult::number`].
    number: u64,
    /// What is persisted with each publication.
    along: Option<Bytes>,
}

impl InferredEvent {
    /// An event of a print that is still running.
    pub(super) fn new(kind: EventKind, print: Print, at: f64) -> Self {
        Self { kind, print, at, took: None, reason: None, number: 0, along: None }
    }

    /// The end of a print, at `at` by the bridge's clock.
    pub(super) fn end(end: &PrintEnd, at: f64) -> Self {
        let (took, reason) = (end.took, end.reason.clone());
        Self { took, reason, ..Self::new(end.outcome.event(), end.print.clone(), at) }
    }

    /// Sets the number of the end, and what is persisted with each publication.
    pub(super) fn numbered(self, number: u64, along: Option<Bytes>) -> Self {
        Self { number, along, ..self }
    }

    /// Returns the start or end that this is, if it is one.
    pub fn step(&self) -> Option<PrintStep> {
        let result = match Outcome::of(&self.kind) {
            Some(outcome) => Some(PrintResult {
                outcome,
                took: self.took,
                reason: self.reason.clone(),
                number: self.number,
                recovered: true,
            }),
            None if self.kind == EventKind::PrintStarted => None,
            None => return None,
        };
        Some(PrintStep { print: self.print.clone(), at: system_time(self.at), result })
    }

    /// Returns what to publish.
    pub fn publications(&self, topics: &PrinterTopics, lane: usize) -> Vec<Publication> {
        let publication = |topic, payload, kind| Publication {
            along: self.along.clone(),
            ..Publication::new(lane, topic, payload, kind)
        };
        let (topic, kind) = (topics.event(self.kind.as_str()), event::event_kind(&self.kind));
        vec![
            publication(topic, self.event_payload(), kind),
            publication(topics.print.clone(), self.print_payload(), event::PRINT),
        ]
    }

    /// The payload for `B/P/event/<Type>`: the known fields, named as OctoPrint names them.
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
        // A float-to-integer cast saturates.
        self.at.max(0.0) as u64
    }
}
