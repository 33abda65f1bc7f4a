//! Requests to the bridge and their answers, in the form of zigbee2mqtt (pure).

use serde_json::{Value, json};

use super::newcomer::PairRequest;
use crate::causes::{Cause, text};

/// What a request asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Whether the bridge is alive.
    HealthCheck,
    /// The payload of `B/bridge/info`.
    Info,
    /// Publish discovery and all state again.
    Republish,
    /// Set the log level or filter until the next restart.
    LogLevel(String),
    /// The last prints of a printer, which answers itself.
    History(HistoryRequest),
    /// Find OctoPrints in the network.
    Discover,
    /// Ask an OctoPrint for a key, and add it as a printer.
    Pair(PairRequest),
    /// Remove the printer with this id, which was added.
    Remove(String),
    /// Unknown request or invalid value, with the reason.
    Refused(String),
}

/// A request for the last prints of a printer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRequest {
    /// The printer's id.
    pub printer: String,
    /// The form of the answer.
    pub format: HistoryFormat,
}

/// The form of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryFormat {
    /// A list of objects.
    Json,
    /// A text.
    Csv,
}

/// A request and the `transaction` that its answer echoes.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The request.
    pub request: Request,
    /// Any JSON; `None` if none was given.
    pub transaction: Option<Value>,
}

/// Parses a request: `name` is from the topic; the payload is empty, a bare value or JSON.
pub fn parse(name: &str, payload: &[u8]) -> Parsed {
    let text = String::from_utf8_lossy(payload);
    let text = text.trim();
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    let (value, transaction) = match value {
        Value::Object(mut object) => {
            let transaction = object.remove("transaction");
            let value = object.remove("value").or_else(|| object.remove(name));
            (value.unwrap_or(Value::Object(object)), transaction)
        }
        value => (value, None),
    };
    Parsed { request: request(name, &value), transaction }
}

type ParseValue = fn(&Value) -> Request;

/// All requests: name and parser of the value.
const REQUESTS: &[(&str, ParseValue)] = &[
    ("health_check", |_| Request::HealthCheck),
    ("info", |_| Request::Info),
    ("republish", |_| Request::Republish),
    ("log_level", log_level),
    ("history", history),
    ("discover", |_| Request::Discover),
    ("pair", pair),
    ("remove", remove),
];

fn request(name: &str, value: &Value) -> Request {
    match REQUESTS.iter().find(|(known, _)| *known == name) {
        Some((_, parse)) => parse(value),
        None => {
            let known: Vec<&str> = REQUESTS.iter().map(|(known, _)| *known).collect();
            let known = known.join(", ");
            Request::Refused(format!("unknown request {name:?}; known are {known}"))
        }
    }
}

fn log_level(value: &Value) -> Request {
    match value.as_str().filter(|level| !level.is_empty()) {
        Some(level) => Request::LogLevel(level.to_owned()),
        None => Request::Refused(
            "no log level given; expected error, warn, info, debug, trace or a filter".into(),
        ),
    }
}

/// The value is the printer's id, or an object with it as `printer`, and perhaps a `format`.
fn history(value: &Value) -> Request {
    let format = match value["format"].as_str() {
        None if value["format"].is_null() => Some(HistoryFormat::Json),
        Some("json") => Some(HistoryFormat::Json),
        Some("csv") => Some(HistoryFormat::Csv),
        _ => None,
    };
    let printer = value.as_str().or(value["printer"].as_str()).filter(|id| !id.is_empty());
    match printer.zip(format) {
        Some((printer, format)) => {
            Request::History(HistoryRequest { printer: printer.to_owned(), format })
        }
        None => Request::Refused(
            "expected the id of a printer, or an object such as {\"printer\":\"mk3\",\"format\":\"csv\"} with the format json or csv"
                .into(),
        ),
    }
}

fn pair(value: &Value) -> Request {
    match PairRequest::read(value) {
        Some(request) => Request::Pair(request),
        None => Request::Refused(
            "expected an object such as {\"url\":\"http://octopi.local\",\"name\":\"Prusa\",\"id\":\"mk3\"}; name and id may be left out"
                .into(),
        ),
    }
}

/// The value is the printer's id, or an object with it as `id`.
fn remove(value: &Value) -> Request {
    match value.as_str().or(value["id"].as_str()).filter(|id| !id.is_empty()) {
        Some(id) => Request::Remove(id.to_owned()),
        None => Request::Refused(
            "expected the id of a printer, or an object such as {\"id\":\"mk3\"}".into(),
        ),
    }
}

/// Returns the answer to a request.
pub fn answer(outcome: Result<Value, Cause>, transaction: Option<Value>) -> Vec<u8> {
    let mut answer = match outcome {
        Ok(data) => json!({"data": data, "status": "ok"}),
        Err(error) => json!({"data": {}, "status": "error", "error": text(&*error)}),
    };
    if let Some(transaction) = transaction {
        answer["transaction"] = transaction;
    }
    answer.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_empty_bare_or_json() {
        assert_eq!(parse("info", b"").request, Request::Info);
        let level = Request::LogLevel("debug".to_owned());
        assert_eq!(parse("log_level", b"debug").request, level);
        let asked = parse("log_level", br#"{"value":"debug","transaction":7}"#);
        assert_eq!(asked, Parsed { request: level, transaction: Some(Value::from(7)) });
        assert!(matches!(parse("log_level", b"{}").request, Request::Refused(_)));
        assert!(matches!(parse("restart", b"").request, Request::Refused(_)));
    }

    #[test]
    fn a_history_is_asked_for_by_the_printer() {
        let of = |format| Request::History(HistoryRequest { printer: "mk3".to_owned(), format });
        let parsed = |payload: &str| parse("history", payload.as_bytes()).request;
        assert_eq!(parsed("mk3"), of(HistoryFormat::Json));
        assert_eq!(parsed(r#"{"value":"mk3"}"#), of(HistoryFormat::Json));
        assert_eq!(parsed(r#"{"printer":"mk3"}"#), of(HistoryFormat::Json));
        let csv = parse("history", br#"{"printer":"mk3","format":"csv","transaction":7}"#);
        assert_eq!(csv.request, of(HistoryFormat::Csv));
        assert_eq!(csv.transaction, Some(Value::from(7)));
        for bad in ["", "{}", "7", r#"{"printer":"mk3","format":"xml"}"#, r#"{"printer":7}"#] {
            assert!(matches!(parsed(bad), Request::Refused(_)), "{bad}");
        }
    }

    #[test]
    fn a_printer_is_added_by_its_address_and_removed_by_its_id() {
        let Request::Pair(pair) = parse("pair", br#"{"url":"http://a","name":"A"}"#).request else {
            panic!("pair")
        };
        assert_eq!((pair.url.expose(), pair.name.as_deref()), ("http://a", Some("A")));
        assert!(matches!(parse("pair", b"http://a").request, Request::Pair(_)));
        for payload in [&b"mk3"[..], br#"{"id":"mk3"}"#, br#"{"value":"mk3"}"#] {
            assert_eq!(parse("remove", payload).request, Request::Remove("mk3".to_owned()));
        }
        for (name, bad) in [
            ("pair", ""),
            ("pair", "{}"),
            ("pair", r#"{"url":7}"#),
            ("remove", ""),
            ("remove", "7"),
        ] {
            assert!(matches!(parse(name, bad.as_bytes()).request, Request::Refused(_)), "{bad}");
        }
        assert_eq!(parse("discover", b"").request, Request::Discover);
    }

    #[test]
    fn the_transaction_is_echoed() {
        let answer = answer(Err("no".into()), Some(Value::from("x")));
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(
            answer,
            json!({"data": {}, "status": "error", "error": "no", "transaction": "x"})
        );
    }
}
