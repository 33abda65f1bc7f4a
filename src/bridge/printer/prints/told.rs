//! What is published of beginnings and pauses of prints that only the state tells of (pure).

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::history::Print;
use super::publish::timestamp;
use crate::bridge::printer::messages::event;
use crate::mqtt::Publication;
use crate::octoprint::EventKind;
use crate::topics::PrinterTopics;

/// What only the state tells of a print.
#[derive(Debug)]
pub struct Told {
    /// The event that OctoPrint would send of it.
    pub(super) kind: EventKind,
    pub(super) print: Print,
    /// When it was, in seconds since 1970 by the bridge's clock.
    pub(super) at: f64,
}

impl Told {
    /// What is published of it.
    pub fn publications(&self, topics: &PrinterTopics, lane: usize) -> Vec<Publication> {
        let Self { kind, print, .. } = self;
        let Some(event_type) = event::print_type(kind) else { return Vec::new() };
        tracing::info!(file = print.path, event = %kind, "the printer's state tells this, and no event did");
        let topic = topics.event(kind.as_str());
        vec![
            Publication::new(lane, topic, self.event_payload(), event::event_kind(kind)),
            Publication::new(lane, topics.print.clone(), self.payload(event_type), event::PRINT),
        ]
    }

    fn event_payload(&self) -> Bytes {
        let print = &self.print;
        let fields = [
            ("name", json!(print.name)),
            ("path", json!(print.path)),
            ("origin", json!(print.origin)),
            ("size", json!(print.size)),
            ("user", json!(print.user)),
            ("_event", json!(self.kind.as_str())),
            ("_timestamp", json!(timestamp(self.at))),
            ("_recovered", json!(true)),
        ];
        let known = fields.into_iter().filter(|(_, value)| !value.is_null());
        let event: Map<String, Value> =
            known.map(|(name, value)| (name.to_owned(), value)).collect();
        Value::from(event).to_string().into()
    }

    fn payload(&self, event_type: &str) -> Bytes {
        json!({
            "event_type": event_type, "file": self.print.name, "path": self.print.path,
            "time": null, "reason": null, "timestamp": timestamp(self.at), "_recovered": true,
        })
        .to_string()
        .into()
    }
}
