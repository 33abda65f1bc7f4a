//! What OctoPrint says that tells how a print ended (pure).

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::bridge::printer::snapshot::markings::{Marking, Standing};
use crate::bridge::printer::snapshot::printer_state::error_in_text;
use crate::bridge::printer::snapshot::{PrinterState, markings};

/// A print, as far as it is known.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Print {
    /// The file's name.
    pub name: Option<String>,
    /// Its path.
    pub path: Option<String>,
    /// `local`, or the name of the printer's own storage.
    pub origin: Option<String>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Who prints it.
    pub user: Option<String>,
}

/// What a connector calls a file that it does not know yet.
const UNKNOWN_FILE: &str = "???";

impl Print {
    /// The print of a file, of which nothing is known where its connector does not know it.
    pub(super) fn known(self) -> Self {
        if self.path.as_deref() == Some(UNKNOWN_FILE) { Self::default() } else { self }
    }

    /// Whether both are of one file.
    pub(super) fn is_file_of(&self, other: &Self) -> bool {
        self.path.is_some() && self.path == other.path && self.origin == other.origin
    }

    /// Whether nothing says that they are of two files.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        self.path.is_none() || other.path.is_none() || self.path == other.path
    }
}

/// What of a `history` tells how prints went.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// OctoPrint's log; `None` where it sent none.
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
    /// Reads the payload of a `history` or `current`, each field by itself. `None` where it is no
    /// object.
    pub fn read(payload: &str) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Payload<'a> {
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
        let Payload { server_time, markings, state, job } = serde_json::from_str(payload).ok()?;
        Some(Self {
            markings: markings::read(markings),
            server_time: server_time.as_f64(),
            state: PrinterState::read(&state),
            error: error_of(&state).map(str::to_owned),
            job: job_of(&job),
        })
    }

    /// How the log stands; `None` where there is none, or an empty one.
    pub fn standing(&self) -> Option<Standing> {
        Standing::of(self.markings.as_deref()?)
    }
}

/// The printer's error, which OctoPrint 1.5 has in the text of its state.
fn error_of(state: &Value) -> Option<&str> {
    let in_text = || state["text"].as_str().and_then(error_in_text);
    state["error"].as_str().or_else(in_text)
}

/// The selected file of a `job`; `None` where there is none.
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

/// What OctoPrint remembers of a file's prints.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct FileHistory {
    /// Prints that came to their end.
    pub success: u64,
    /// Prints that did not.
    pub failure: u64,
    /// The last one: the server's time of its end, whether it succeeded, how long it took.
    pub last: Option<(f64, bool, Option<f64>)>,
}

impl FileHistory {
    /// Reads the answer to `GET /api/files/<origin>/<path>`. A file that was never printed has no
    /// history, which is one of its own.
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

    /// Reads the same of a file on the printer, whose history is the printer's own where there is
    /// one: its dates are those of the starts.
    pub fn read_of_printer(answer: &[u8]) -> Option<Self> {
        let file: Value = serde_json::from_slice(answer).ok()?;
        file["prints"].as_object()?;
        let history = Self::read(answer)?;
        let end = |(start, success, took): (f64, bool, Option<f64>)| {
            (start + took.unwrap_or_default(), success, took)
        };
        Some(Self { last: history.last.map(end), ..history })
    }

    /// Whether it has an end at `since`, in the server's time, or later.
    pub fn reaches(&self, since: f64) -> bool {
        self.last.is_some_and(|(date, ..)| date >= since)
    }

    /// How long the print took that came to its end at `end`, in seconds; the two times are not
    /// farther apart than `same`. `None` where the last print is another one.
    pub fn took(&self, end: f64, same: f64) -> Option<f64> {
        let (date, succeeded, took) = self.last?;
        took.filter(|_| succeeded && (date - end).abs() < same)
    }
}
