//! The answers to the commands of one printer.

use serde::Serialize;
use serde_json::Value;

use super::Asked;
use crate::bridge::oversize;
use crate::causes;
use crate::heater::Heater;
use crate::mqtt::{Broker, Kind, Publication};
use crate::octoprint::RestError;
use crate::topics::Topic;

/// The largest value and text in the retained answer, in bytes.
const BRIEF: usize = 256;
/// The longest error there.
const ERROR: usize = 1024;

/// Why a command was not carried out.
#[derive(Debug, Clone)]
pub struct Failure {
    pub(super) error: String,
    pub(super) status: Option<u16>,
}

impl Failure {
    /// A failure that the bridge itself sees.
    pub fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), status: None }
    }

    /// A failure that OctoPrint sees, in other words than its own.
    pub fn with_status(error: impl Into<String>, status: u16) -> Self {
        Self { error: error.into(), status: Some(status) }
    }

    /// OctoPrint cannot be reached, so nothing was sent.
    pub fn unreached(reason: &str) -> Self {
        Self::new(format!(
            "OctoPrint cannot be reached ({reason}); commands are not kept for later"
        ))
    }

    /// The printer has no such heater.
    pub fn no_heater(heater: &Heater) -> Self {
        Self::new(format!("this printer has no {heater}"))
    }

    /// A question that comes before the command got no answer, so the command was not sent.
    pub fn unasked(error: &RestError) -> Self {
        let status = error.status();
        let error = causes::text(error);
        Self { error: format!("not sent, for its check failed: {error}"), status }
    }

    /// The look that comes after the command got no answer.
    pub fn unseen(error: &RestError) -> Self {
        let status = error.status();
        let error = causes::text(error);
        let told = format!("OctoPrint took the command, but whether it obeyed is unknown: {error}");
        Self { error: told, status }
    }
}

impl From<RestError> for Failure {
    fn from(error: RestError) -> Self {
        let (status, told) = (error.status(), causes::text(&error));
        let error = match (error.outcome_unknown(), status) {
            (false, _) => told,
            (true, None) => {
                format!("no answer came, so it is unknown whether OctoPrint obeyed: {told}")
            }
            (true, Some(_)) => {
                format!("only a proxy answered, so it is unknown whether OctoPrint obeyed: {told}")
            }
        };
        Self { error, status }
    }
}

/// Where the commands of one printer are answered.
#[derive(Clone)]
pub struct Answers {
    /// The printer's lane in the outbox.
    pub lane: usize,
    /// `B/P/result`.
    pub topic: Topic,
    /// `B/P/last_command`.
    pub last: Topic,
    /// The way there.
    pub broker: Broker,
}

#[derive(Serialize)]
struct Done<'a> {
    #[serde(flatten)]
    asked: &'a Asked,
    ok: bool,
}

#[derive(Serialize)]
struct NotDone<'a> {
    #[serde(flatten)]
    asked: &'a Asked,
    ok: bool,
    error: &'a str,
    status: Option<u16>,
}

impl Answers {
    /// Publishes the answer to `asked`, and logs a failure.
    pub fn answer(&self, asked: &Asked, outcome: &Result<(), Failure>) {
        match outcome {
            Ok(()) => tracing::debug!(command = asked.command, "done"),
            Err(Failure { error, .. }) => {
                tracing::warn!(command = asked.command, error, "a command failed");
            }
        }
        // Maps with text keys always have a JSON form.
        for (topic, payload, kind) in [
            (&self.topic, whole(asked, outcome), Kind::ANSWER),
            (&self.last, brief(asked, outcome), Kind::State),
        ] {
            let answer = Publication::new(self.lane, topic.clone(), payload, kind);
            self.broker.publish(oversize::fit_answer(answer, self.broker.limit()));
        }
    }
}

fn whole(asked: &Asked, outcome: &Result<(), Failure>) -> Vec<u8> {
    match outcome {
        Ok(()) => serde_json::to_vec(&Done { asked, ok: true }),
        Err(Failure { error, status }) => {
            serde_json::to_vec(&NotDone { asked, ok: false, error, status: *status })
        }
    }
    .unwrap_or_default()
}

/// The answer as it is retained: with every key, and without what is large.
fn brief(asked: &Asked, outcome: &Result<(), Failure>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Brief<'a> {
        #[serde(flatten)]
        asked: &'a Asked,
        ok: bool,
        error: Option<&'a str>,
        status: Option<u16>,
    }
    let asked = Asked {
        command: cut(&asked.command, BRIEF).to_owned(),
        value: small(&asked.value),
        id: small(&asked.id),
    };
    let (ok, error, status) = match outcome {
        Ok(()) => (true, None, None),
        Err(Failure { error, status }) => (false, Some(cut(error, ERROR)), *status),
    };
    serde_json::to_vec(&Brief { asked: &asked, ok, error, status }).unwrap_or_default()
}

/// A value that is small enough; a long text is cut, anything else that is large is left out.
fn small(value: &Value) -> Value {
    match value {
        Value::String(text) => cut(text, BRIEF).into(),
        value if value.to_string().len() <= BRIEF => value.clone(),
        _ => Value::Null,
    }
}

/// At most so many bytes of a text, whole characters.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::octoprint::RestErrorKind;

    fn asked(value: Value, id: Value) -> Asked {
        Asked { command: "gcode".to_owned(), value, id }
    }

    fn read(payload: &[u8]) -> Value {
        serde_json::from_slice(payload).unwrap()
    }

    #[test]
    fn the_retained_answer_has_every_key_and_no_bulk() {
        let small = asked(json!("M117 x"), json!(7));
        assert_eq!(
            read(&brief(&small, &Ok(()))),
            json!({"command": "gcode", "value": "M117 x", "id": 7, "ok": true, "error": null,
                "status": null})
        );
        let refused = Err(Failure::with_status("no", 409));
        assert_eq!(read(&brief(&small, &refused))["status"], 409);
        assert_eq!(read(&brief(&small, &refused))["error"], "no");
        let text = asked(json!("ä".repeat(5000)), json!("i".repeat(5000)));
        let told = read(&brief(&text, &Err(Failure::new("e".repeat(5000)))));
        assert_eq!(told["value"], "ä".repeat(128), "whole characters");
        assert_eq!(told["id"], "i".repeat(256));
        assert_eq!(told["error"], "e".repeat(1024));
        let lines = asked(json!(vec!["G28"; 100]), json!({"a": vec![1; 200]}));
        let told = read(&brief(&lines, &Ok(())));
        assert_eq!((&told["value"], &told["id"]), (&Value::Null, &Value::Null));
        // The answer itself keeps all of it.
        assert_eq!(read(&whole(&lines, &Ok(())))["value"].as_array().unwrap().len(), 100);
    }

    #[test]
    fn what_may_have_reached_octoprint_is_unknown_and_the_rest_is_refused() {
        let status = |status| RestErrorKind::Status { status, text: "x".to_owned() };
        for (kind, unknown) in [
            (RestErrorKind::NotSent, false),
            (RestErrorKind::Unanswered, true),
            (status(409), false),
            // haproxy: no server is there; the others: it did not answer.
            (status(503), false),
            (status(502), true),
            (status(504), true),
        ] {
            let failure = Failure::from(RestError::new(kind, "api/job").caused_by("reset"));
            assert_eq!(failure.error.contains("unknown whether"), unknown, "{failure:?}");
            assert!(failure.error.ends_with(": reset"), "{failure:?}");
        }
        let error = RestError::new(RestErrorKind::Unanswered, "api/job").caused_by("reset");
        for failure in [Failure::unasked(&error), Failure::unseen(&error)] {
            assert!(failure.error.ends_with(": reset"), "{failure:?}");
        }
    }
}
