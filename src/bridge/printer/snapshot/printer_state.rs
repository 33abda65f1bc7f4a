//! The printer's state, and why it is in an error or disconnected (pure).

use serde::{Deserialize, Serialize};

use super::event_fields::EventFields;
use super::json::{
    LastMember, LastPayload, Raw, ReceivedOr, StateChange, StateTopic, member, object, raw_object,
    raw_text,
};
use crate::octoprint::EventKind;

/// The printer's state, as in `state` of `B/P/printer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum PrinterState {
    /// OctoPrint has no connection to the printer.
    Offline,
    /// OctoPrint is opening the connection.
    Connecting,
    /// Ready.
    Operational,
    /// A print is about to start.
    Starting,
    /// Printing.
    Printing,
    /// About to pause.
    Pausing,
    /// Paused.
    Paused,
    /// About to resume.
    Resuming,
    /// About to be cancelled.
    Cancelling,
    /// Sending the last lines.
    Finishing,
    /// A file is being transferred to the SD card.
    Transferring,
    /// In an error, or offline after one.
    Error,
    /// Neither text nor flags are known.
    #[default]
    Unknown,
}

/// The flags that decide if the text is unknown.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Flags {
    operational: Flag,
    printing: Flag,
    cancelling: Flag,
    pausing: Flag,
    resuming: Flag,
    finishing: Flag,
    closed_or_error: Flag,
    error: Flag,
    paused: Flag,
}

/// A flag of any JSON type: only `true` counts as set.
#[derive(Debug, Clone, Copy, Default)]
struct Flag(bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(value == serde_json::Value::Bool(true)))
    }
}

impl PrinterState {
    /// Returns the state for OctoPrint's text, or for its flags if the text is unknown.
    pub fn of(text: Option<&str>, flags: Flags) -> Self {
        text.and_then(Self::of_text).unwrap_or_else(|| Self::of_flags(flags))
    }

    /// Returns the state for OctoPrint's text, without flags.
    pub fn of_text_alone(text: &str) -> Self {
        Self::of(Some(text), Flags::default())
    }

    fn of_text(text: &str) -> Option<Self> {
        // Older versions append the reason: "Error: …", "Offline (Error: …)".
        if ["Error", "Offline after error", "Offline (Error"].iter().any(|is| text.starts_with(is))
        {
            return Some(Self::Error);
        }
        // Connectors may append a stage: "Starting (Auto bed leveling)".
        let word = text.split_once(" (").map_or(text, |(word, _)| word);
        Some(match word {
            "Offline" | "Closed" => Self::Offline,
            "Opening serial connection"
            | "Detecting serial connection"
            | "Opening serial port"
            | "Detecting serial port"
            | "Detecting baudrate"
            | "Detecting"
            | "Connecting" => Self::Connecting,
            "Operational" => Self::Operational,
            "Starting" | "Starting print from SD" => Self::Starting,
            "Printing" | "Printing from SD" => Self::Printing,
            "Pausing" => Self::Pausing,
            "Paused" => Self::Paused,
            "Resuming" => Self::Resuming,
            "Cancelling" => Self::Cancelling,
            "Finishing" => Self::Finishing,
            "Starting to send file to SD"
            | "Sending file to SD"
            | "Transferring file to SD"
            | "Transferring file to printer" => Self::Transferring,
            _ => return None,
        })
    }

    fn of_flags(flags: Flags) -> Self {
        let of = [
            (flags.error, Self::Error),
            (flags.closed_or_error, Self::Offline),
            (flags.cancelling, Self::Cancelling),
            (flags.pausing, Self::Pausing),
            (flags.resuming, Self::Resuming),
            (flags.finishing, Self::Finishing),
            (flags.paused, Self::Paused),
            (flags.printing, Self::Printing),
            (flags.operational, Self::Operational),
        ];
        of.into_iter().find(|(flag, _)| flag.0).map_or(Self::Unknown, |(_, state)| state)
    }

    /// Reads the state from OctoPrint's `state` object.
    pub fn read(state: &serde_json::Value) -> Self {
        let flags = Some(&state["flags"]).filter(|flags| flags.is_object());
        let flags = flags.and_then(|flags| Flags::deserialize(flags).ok()).unwrap_or_default();
        Self::of(state["text"].as_str(), flags)
    }

    /// Whether a print is on or paused; `None` if unknown. A transfer is none, despite its flags.
    pub fn print_is_on(self) -> Option<bool> {
        match self {
            Self::Starting
            | Self::Printing
            | Self::Pausing
            | Self::Paused
            | Self::Resuming
            | Self::Cancelling
            | Self::Finishing => Some(true),
            Self::Offline
            | Self::Connecting
            | Self::Operational
            | Self::Transferring
            | Self::Error => Some(false),
            Self::Unknown => None,
        }
    }

    /// Whether a print is ending. OctoPrint stays in these states for a moment after the event.
    pub fn is_winding_down(self) -> bool {
        matches!(self, Self::Cancelling | Self::Finishing)
    }

    /// Whether OctoPrint has no connection to the printer.
    pub fn is_closed(self) -> bool {
        matches!(self, Self::Offline | Self::Error)
    }
}

/// Returns the error in a state's text, as in OctoPrint 1.5.
pub(crate) fn error_in_text(text: &str) -> Option<&str> {
    let error = match text.strip_prefix("Offline (Error: ") {
        Some(error) => error.strip_suffix(')').unwrap_or(error),
        None => text.strip_prefix("Error: ")?,
    };
    Some(error).filter(|error| !error.is_empty())
}

#[derive(Debug, Default)]
pub(super) struct Condition {
    pub(super) state: PrinterState,
    /// The last `state`, for a cause that arrives after it.
    last: LastMember,
    cause: FailureCause,
    published: LastPayload,
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
    error: ReceivedOr<'a, &'a str>,
    flags: Raw<'a>,
}

impl Condition {
    pub(super) fn apply(&mut self, raw: Raw<'_>) -> Option<StateChange> {
        if !self.last.update(raw) {
            return None;
        }
        self.change()
    }

    /// Folds in an event, which may carry the cause of an error.
    pub(super) fn event(
        &mut self,
        kind: &EventKind,
        fields: &EventFields<'_>,
    ) -> Option<StateChange> {
        if self.cause.event(kind, fields) { self.change() } else { None }
    }

    /// Returns why the printer failed or was disconnected, if an event reported it.
    pub(super) fn cause(&self) -> Option<&str> {
        self.cause.text()
    }

    /// Whether no later event can name another cause.
    pub(super) fn is_cause_settled(&self) -> bool {
        self.cause.error.is_some() || self.cause.stopped || self.cause.disconnecting
    }

    fn change(&mut self) -> Option<StateChange> {
        let StateMember { text, error, flags } = object(self.last.raw());
        let decoded: Option<String> = member(text);
        self.state = PrinterState::of(decoded.as_deref(), object(flags));
        let error = raw_text(error);
        let has_error = error.is_some_and(|error| error.get() != "\"\"");
        let derived = (self.state == PrinterState::Error && !has_error)
            .then(|| decoded.as_deref().and_then(error_in_text).or(self.cause.text()));
        let error = match derived.flatten() {
            None => ReceivedOr::Received(error),
            derived => ReceivedOr::Derived(derived),
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

/// Why the printer failed or was disconnected, from events: in OctoPrint 2.0, the state loses the
/// error's text with the connection, and PrintFailed has `unknown`.
#[derive(Debug, Default)]
struct FailureCause {
    error: Option<String>,
    stopped: bool,
    disconnecting: bool,
    disconnected: bool,
}

impl FailureCause {
    /// Folds in an event. Returns whether it is relevant.
    fn event(&mut self, kind: &EventKind, fields: &EventFields<'_>) -> bool {
        match kind {
            EventKind::Error => {
                let text: Option<String> = member(fields.error);
                self.error = text.filter(|text| !text.is_empty()).or(self.error.take());
            }
            EventKind::EStop => self.stopped = true,
            EventKind::Disconnecting => self.disconnecting = true,
            EventKind::Disconnected => self.disconnected = true,
            // A new connection or print starts without a cause.
            EventKind::Connecting | EventKind::Connected | EventKind::PrintStarted => {
                *self = Self::default();
            }
            _ => return false,
        }
        true
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self { error: Some(error), .. } => Some(error),
            Self { stopped: true, .. } => Some("emergency stop"),
            Self { disconnecting: true, .. } => Some("the printer was disconnected"),
            Self { disconnected: true, .. } => Some(LOST),
            _ => None,
        }
    }
}

/// The reason of a print that failed with the printer's connection, if OctoPrint gives none.
pub(in crate::bridge::printer) const LOST: &str = "the connection to the printer was lost";

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn the_text_decides_and_the_flags_if_it_is_unknown() {
        let flags: Flags =
            serde_json::from_str(r#"{"operational":true,"printing":true,"pausing":true,"x":1}"#)
                .unwrap();
        assert_eq!(PrinterState::of(Some("Offline after error"), flags), PrinterState::Error);
        assert_eq!(PrinterState::of(Some("Sending file to SD"), flags), PrinterState::Transferring);
        assert_eq!(PrinterState::of(Some("Impression"), flags), PrinterState::Pausing);
        assert_eq!(PrinterState::of(None, Flags::default()), PrinterState::Unknown);
        let odd: Flags = serde_json::from_str(r#"{"operational":1,"paused":null}"#).unwrap();
        assert_eq!(PrinterState::of(None, odd), PrinterState::Unknown);
    }

    #[test]
    fn texts_of_connectors_are_known_with_their_stages() {
        for (text, state) in [
            ("Detecting", PrinterState::Connecting),
            ("Detecting serial connection", PrinterState::Connecting),
            ("Transferring file to printer", PrinterState::Transferring),
            ("Starting (Auto bed leveling)", PrinterState::Starting),
            ("Paused (Filament runout)", PrinterState::Paused),
            ("Offline after error (Unknown)", PrinterState::Error),
            ("Offline (Error: Too hot)", PrinterState::Error),
            ("Offline (Unknown)", PrinterState::Offline),
        ] {
            // The flags contradict the text.
            let flags: Flags =
                serde_json::from_str(r#"{"operational":true,"printing":true}"#).unwrap();
            assert_eq!(PrinterState::of(Some(text), flags), state, "{text}");
        }
    }

    #[test]
    fn the_error_of_1_5_is_in_its_text() {
        assert_eq!(error_in_text("Error: Too hot (bed)"), Some("Too hot (bed)"));
        assert_eq!(error_in_text("Offline (Error: Too hot (bed))"), Some("Too hot (bed)"));
        for none in ["Error", "Error: ", "Offline after error", "Printing"] {
            assert_eq!(error_in_text(none), None);
        }
    }

    #[test]
    fn a_print_is_on_by_text_before_flags() {
        let of = |state: serde_json::Value| PrinterState::read(&state).print_is_on();
        let flags = serde_json::json!({"operational": true, "printing": true});
        assert_eq!(
            of(serde_json::json!({"text": "Starting (stage 3)", "flags": flags})),
            Some(true)
        );
        assert_eq!(
            of(serde_json::json!({"text": "Sending file to SD", "flags": flags})),
            Some(false)
        );
        assert_eq!(of(serde_json::json!({"text": "Connecting", "flags": {}})), Some(false));
        for nothing in [serde_json::json!(null), serde_json::json!({"text": 5, "flags": [true]})] {
            assert_eq!(of(nothing), None);
        }
    }

    fn after(events: &[(&str, &str)]) -> Option<String> {
        let mut cause = FailureCause::default();
        for (kind, payload) in events {
            let payload = RawValue::from_string((*payload).to_owned()).unwrap();
            let kind = (*kind).into();
            cause.event(&kind, &EventFields::read(&kind, Some(&payload)));
        }
        cause.text().map(str::to_owned)
    }

    #[test]
    fn the_text_of_an_error_is_the_best_cause() {
        let error = ("Error", r#"{"error":"Thermal runaway"}"#);
        let (gone, stop) = (("Disconnected", "null"), ("EStop", "null"));
        let cause = |events: &[_]| after(events).unwrap();
        assert_eq!(cause(&[error, stop, gone]), "Thermal runaway");
        assert_eq!(cause(&[error, ("Error", r#"{"error":""}"#)]), "Thermal runaway");
        assert_eq!(cause(&[gone, stop]), "emergency stop");
        assert_eq!(cause(&[("Disconnecting", "null"), gone]), "the printer was disconnected");
        assert_eq!(cause(&[gone]), LOST);
        assert_eq!(after(&[error, ("Connected", "{}")]), None);
        assert_eq!(after(&[error, ("PrintStarted", "{}"), ("ZChange", "{}")]), None);
    }
}
