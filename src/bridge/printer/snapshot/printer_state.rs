//! OctoPrint's state texts and flags as one word (pure).

use serde::{Deserialize, Serialize};

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
    /// A print is about to begin.
    Starting,
    /// Printing.
    Printing,
    /// About to pause.
    Pausing,
    /// Paused.
    Paused,
    /// About to go on.
    Resuming,
    /// About to end before the end.
    Cancelling,
    /// Sending the last lines.
    Finishing,
    /// A file is sent to the SD card.
    Transferring,
    /// Offline after an error, or in one.
    Error,
    /// Neither text nor flags say anything.
    #[default]
    Unknown,
}

/// The flags that decide where the text is unknown.
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

/// A flag of any JSON type: only `true` is set.
#[derive(Debug, Clone, Copy, Default)]
struct Flag(bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(value == serde_json::Value::Bool(true)))
    }
}

impl PrinterState {
    /// The state that OctoPrint's text means, else the one that its flags mean.
    pub fn of(text: Option<&str>, flags: Flags) -> Self {
        text.and_then(Self::of_text).unwrap_or_else(|| Self::of_flags(flags))
    }

    /// The state that OctoPrint's text means, where there are no flags.
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

    /// The state in a `state` of OctoPrint's.
    pub fn read(state: &serde_json::Value) -> Self {
        let flags = Some(&state["flags"]).filter(|flags| flags.is_object());
        let flags = flags.and_then(|flags| Flags::deserialize(flags).ok()).unwrap_or_default();
        Self::of(state["text"].as_str(), flags)
    }

    /// Whether a print is on, be it paused; `None` where this state does not tell. A file that is
    /// sent to the card is no print, though OctoPrint's flags say so.
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

    /// Whether a print that is on is about to be over. OctoPrint stays in these states for a
    /// moment after it has said so.
    pub fn is_winding_down(self) -> bool {
        matches!(self, Self::Cancelling | Self::Finishing)
    }

    /// Whether OctoPrint has no connection to the printer.
    pub fn is_closed(self) -> bool {
        matches!(self, Self::Offline | Self::Error)
    }
}

/// The error that a state's text has in it, as those of OctoPrint 1.5 do.
pub(crate) fn error_in_text(text: &str) -> Option<&str> {
    let error = match text.strip_prefix("Offline (Error: ") {
        Some(error) => error.strip_suffix(')').unwrap_or(error),
        None => text.strip_prefix("Error: ")?,
    };
    Some(error).filter(|error| !error.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_decides_and_the_flags_where_it_is_unknown() {
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
            // The flags would say otherwise.
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
    fn one_function_says_whether_a_print_is_on() {
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
}
