//! Answers to the commands of one printer.

use serde::Serialize;
use serde_json::Value;

use super::CommandRequest;
use crate::bridge::oversize;
use crate::causes;
use crate::heater::Heater;
use crate::mqtt::{Broker, Kind, Publication};
use crate::octoprint::RestError;
use crate::topics::Topic;

/// Maximum size of a value or text in the retained answer, in bytes.
const BRIEF: usize = 256;
/// Maximum length of an error there, in bytes.
const ERROR: usize = 1024;

/// Why a command was not carried out.
#[derive(Debug, Clone)]
pub struct CommandError {
    pub(super) error: String,
    pub(super) status: Option<u16>,
}

impl CommandError {
    /// A failure that the bridge itself detects.
    pub fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), status: None }
    }

    /// A failure that OctoPrint reported, in the bridge's words.
    pub fn with_status(error: impl Into<String>, status: u16) -> Self {
        Self { error: error.into(), status: Some(status) }
    }

    /// OctoPrint cannot be reached, so nothing was sent.
    pub fn unreached(reason: &str) -> Self {
        Self::new(format!("OctoPrint cannot be reached ({reason}); commands are not queued"))
    }

    /// The printer has no such heater.
    pub fn no_heater(heater: &Heater) -> Self {
        Self::new(format!("this printer has no {heater}"))
    }

    /// A check before the command failed, so the command was not sent.
    pub fn not_sent(error: &RestError) -> Self {
        let status = error.status();
        let error = causes::text(error);
        Self { error: format!("not sent, because the check before it failed: {error}"), status }
    }

    /// The check after the command failed, so its effect is unknown.
    pub fn unconfirmed(error: &RestError) -> Self {
        let status = error.status();
        let error = causes::text(error);
        let error =
            format!("OctoPrint took the command, but whether it obeyed is unknown: {error}");
        Self { error, status }
    }
}

impl From<RestError> for CommandError {
    fn from(error: RestError) -> Self {
        let (status, text) = (error.status(), causes::text(&error));
        let error = match (error.outcome_unknown(), status) {
            (false, _) => text,
            (true, None) => {
                format!("no answer came, so it is unknown whether OctoPrint obeyed: {text}")
            }
            (true, Some(_)) => {
                format!("only a proxy answered, so it is unknown whether OctoPrint obeyed: {text}")
            }
        };
        Self { error, status }
    }
}

/// Publishes the answers to the commands of one printer.
#[derive(Clone)]
pub struct Answers {
    /// The printer's lane in the outbox.
    pub lane: usize,
    /// `B/P/result`.
    pub topic: Topic,
    /// `B/P/last_command`.
    pub last: Topic,
    /// The broker.
    pub broker: Broker,
}

/// The answer to a command that succeeded.
#[derive(Serialize)]
struct SuccessPayload<'a> {
    #[serde(flatten)]
    request: &'a CommandRequest,
    ok: bool,
}

/// The answer with every key.
#[derive(Serialize)]
struct FullPayload<'a> {
    #[serde(flatten)]
    request: &'a CommandRequest,
    ok: bool,
    error: Option<&'a str>,
    status: Option<u16>,
}

impl Answers {
    /// Publishes the answer to `request`, and logs a failure.
    pub fn answer(&self, request: &CommandRequest, outcome: &Result<(), CommandError>) {
        match outcome {
            Ok(()) => tracing::debug!(command = request.command, "done"),
            Err(CommandError { error, .. }) => {
                tracing::warn!(command = request.command, error, "a command failed");
            }
        }
        // Maps with text keys always have a JSON form.
        for (topic, payload, kind) in [
            (&self.topic, whole(request, outcome), Kind::ANSWER),
            (&self.last, brief(request, outcome), Kind::State),
        ] {
            let answer = Publication::new(self.lane, topic.clone(), payload, kind);
            self.broker.publish(oversize::fit_answer(answer, self.broker.limit()));
        }
    }
}

fn whole(request: &CommandRequest, outcome: &Result<(), CommandError>) -> Vec<u8> {
    match outcome {
        Ok(()) => serde_json::to_vec(&SuccessPayload { request, ok: true }),
        Err(CommandError { error, status }) => {
            let (ok, error, status) = (false, Some(error.as_str()), *status);
            serde_json::to_vec(&FullPayload { request, ok, error, status })
        }
    }
    .unwrap_or_default()
}

/// The retained answer, without large values.
fn brief(request: &CommandRequest, outcome: &Result<(), CommandError>) -> Vec<u8> {
    let request = CommandRequest {
        command: cut(&request.command, BRIEF).to_owned(),
        value: small(&request.value),
        id: small(&request.id),
    };
    let (ok, error, status) = match outcome {
        Ok(()) => (true, None, None),
        Err(CommandError { error, status }) => (false, Some(cut(error, ERROR)), *status),
    };
    serde_json::to_vec(&FullPayload { request: &request, ok, error, status }).unwrap_or_default()
}

/// Truncates a long text, and replaces any other large value by null.
fn small(value: &Value) -> Value {
    match value {
        Value::String(text) => cut(text, BRIEF).into(),
        value if value.to_string().len() <= BRIEF => value.clone(),
        _ => Value::Null,
    }
}

/// Truncates a text to at most `most` bytes of whole characters.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::octoprint::RestErrorKind;

    fn read_request(value: Value, id: Value) -> CommandRequest {
        CommandRequest { command: "gcode".to_owned(), value, id }
    }

    fn read(payload: &[u8]) -> Value {
        serde_json::from_slice(payload).unwrap()
    }

    #[test]
    fn the_retained_answer_has_every_key_and_no_large_value() {
        let small = read_request(json!("M117 x"), json!(7));
        assert_eq!(
            read(&brief(&small, &Ok(()))),
            json!({"command": "gcode", "value": "M117 x", "id": 7, "ok": true, "error": null,
                "status": null})
        );
        let refused = Err(CommandError::with_status("no", 409));
        assert_eq!(read(&brief(&small, &refused))["status"], 409);
        assert_eq!(read(&brief(&small, &refused))["error"], "no");
        let text = read_request(json!("ä".repeat(5000)), json!("i".repeat(5000)));
        let answer = read(&brief(&text, &Err(CommandError::new("e".repeat(5000)))));
        assert_eq!(answer["value"], "ä".repeat(128), "whole characters");
        assert_eq!(answer["id"], "i".repeat(256));
        assert_eq!(answer["error"], "e".repeat(1024));
        let lines = read_request(json!(vec!["G28"; 100]), json!({"a": vec![1; 200]}));
        let answer = read(&brief(&lines, &Ok(())));
        assert_eq!((&answer["value"], &answer["id"]), (&Value::Null, &Value::Null));
        // The answer itself has all of it.
        assert_eq!(read(&whole(&lines, &Ok(())))["value"].as_array().unwrap().len(), 100);
    }

    #[test]
    fn the_outcome_is_unknown_if_the_command_may_have_reached_octoprint() {
        let status = |status| RestErrorKind::Status { status, text: "x".to_owned() };
        for (kind, unknown) in [
            (RestErrorKind::NotSent, false),
            (RestErrorKind::Unanswered, true),
            (status(409), false),
            // 503 is haproxy's answer without a server; with the others the server did not answer.
            (status(503), false),
            (status(502), true),
            (status(504), true),
        ] {
            let failure = CommandError::from(RestError::new(kind, "api/job").caused_by("reset"));
            assert_eq!(failure.error.contains("unknown whether"), unknown, "{failure:?}");
            assert!(failure.error.ends_with(": reset"), "{failure:?}");
        }
        let error = RestError::new(RestErrorKind::Unanswered, "api/job").caused_by("reset");
        for failure in [CommandError::not_sent(&error), CommandError::unconfirmed(&error)] {
            assert!(failure.error.ends_with(": reset"), "{failure:?}");
        }
    }
}
