//! What OctoPrint reports about prints and how they ended (pure).

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::bridge::printer::snapshot::markings::{Marking, Standing};
use crate::bridge::printer::snapshot::printer_state::error_in_text;
use crate::bridge::printer::snapshot::{PrinterState, markings};

/// A print; unknown fields are `None`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Print {
    /// The file's name.
    pub name: Option<String>,
    /// The file's path.
    pub path: Option<String>,
    /// `local`, or the name of the printer's own storage.
    pub origin: Option<String>,
    /// The file's size in bytes.
    pub size: Option<u64>,
    /// The user who started it.
    pub user: Option<String>,
}

/// Path that a connector reports while it does not know the file.
const UNKNOWN_FILE: &str = "???";

impl Print {
    /// Clears all fields if the connector does not know the file yet.
    pub(super) fn known(self) -> Self {
        if self.path.as_deref() == Some(UNKNOWN_FILE) { Self::default() } else { self }
    }

    /// Whether both are known to be of one file.
    pub(super) fn is_file_of(&self, other: &Self) -> bool {
        self.path.is_some() && self.path == other.path && self.origin == other.origin
    }

    /// Whether both may be of one file.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        self.path.is_none() || other.path.is_none() || self.path == other.path
    }
}

/// The part of a `history` that shows what happened to prints.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// OctoPrint's log; `None` if it sent none.
    pub markings: Option<Vec<Marking>>,
    /// The server's time.
    pub server_time: Option<f64>,
    /// The printer's state.
    pub state: PrinterState,
    /// The printer's error.
    pub error: Option<String>,
    /// The selected file.
    pub job: Option<Print>,
}

impl History {
    /// Parses the payload of a `history` or `current`, each field independently. `None` unless it is
    /// an object.
    pub fn read(payload: &str) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct HistoryPayload<'a> {
            #[serde(default)]
            server_time: Value,
            #[serde(borrow, default)]
            markings: Option<&'a RawValue>,
            #[serde(default)]
            state: Value,
            #[serde(default)]
            job: Value,
        }
        if !payload.trim_start().starts_with('{') {
            return None;
        }
        let HistoryPayload { server_time, markings, state, job } =
            serde_json::from_str(payload).ok()?;
        Some(Self {
            markings: markings::read(markings),
            server_time: server_time.as_f64(),
            state: PrinterState::read(&state),
            error: error_of(&state).map(str::to_owned),
            job: job_of(&job),
        })
    }

    /// The state of the log; `None` if it is missing or empty.
    pub fn standing(&self) -> Option<Standing> {
        Standing::of(self.markings.as_deref()?)
    }
}

/// The printer's error, which OctoPrint 1.5 includes in the text of its state.
fn error_of(state: &Value) -> Option<&str> {
    let in_text = || state["text"].as_str().and_then(error_in_text);
    state["error"].as_str().or_else(in_text)
}

/// The selected file of a `job`.
fn job_of(job: &Value) -> Option<Print> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let file = &job["file"];
    let path = text(&file["path"])?;
    let print = Print {
        name: text(&file["name"]),
        path: Some(path),
        origin: text(&file["origin"]),
        size: file["size"].as_u64(),
        user: text(&job["user"]),
    };
    Some(print.known())
}

/// A file's print history in OctoPrint.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct FileHistory {
    /// Number of successful prints.
    pub success: u64,
    /// Number of other prints.
    pub failure: u64,
    /// The last one: the server's time of its end, whether it succeeded, its duration in seconds.
    pub last: Option<(f64, bool, Option<f64>)>,
}

impl FileHistory {
    /// Parses the answer to `GET /api/files/<origin>/<path>`. A file that was never printed has an
    /// empty history.
    pub fn read(answer: &[u8]) -> Option<Self> {
        let file: Value = serde_json::from_slice(answer).ok()?;
        let prints = &file.as_object()?.get("prints").cloned().unwrap_or_default();
        let count = |name: &str| prints[name].as_u64().unwrap_or_default();
        let last = &prints["last"];
        let last = last["date"]
            .as_f64()
            .map(|date| (date, last["success"] == true, last["printTime"].as_f64()));
        Some(Self { success: count("success"), failure: count("failure"), last })
    }

    /// Parses the same for a file on the printer. Its history, if there is one, is the printer's own,
    /// whose dates are those of the starts.
    pub fn read_of_printer(answer: &[u8]) -> Option<Self> {
        let file: Value = serde_json::from_slice(answer).ok()?;
        file["prints"].as_object()?;
        let history = Self::read(answer)?;
        let end = |(start, success, took): (f64, bool, Option<f64>)| {
            (start + took.unwrap_or_default(), success, took)
        };
        Some(Self { last: history.last.map(end), ..history })
    }

    /// Whether the last end is at `since`, in the server's time, or later.
    pub fn reaches(&self, since: f64) -> bool {
        self.last.is_some_and(|(date, ..)| date >= since)
    }

    /// Returns the duration in seconds of the print that succeeded at `end`, within `tolerance`
    /// seconds. `None` if the last print is another one.
    pub fn took(&self, end: f64, tolerance: f64) -> Option<f64> {
        let (date, succeeded, took) = self.last?;
        took.filter(|_| succeeded && (date - end).abs() < tolerance)
    }
}
