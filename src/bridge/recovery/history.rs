//! What OctoPrint says that tells how a print ended (pure).

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::Print;

/// One entry of OctoPrint's log of the last half hour.
#[derive(Debug, Clone, PartialEq)]
pub struct Marking {
    /// `connected`, `print`, `pause`, `resume`, `done`, `cancel`, `disconnected`.
    pub kind: String,
    /// The server's time.
    pub at: f64,
}

/// What of a `history` tells how prints went.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// In order.
    pub markings: Vec<Marking>,
    /// The server's time.
    pub server_time: f64,
    /// Whether a print is under way, paused or not.
    pub running: bool,
    /// Whether the printer is there and does nothing.
    pub operational: bool,
    /// The printer's error.
    pub error: Option<String>,
    /// The selected file.
    pub job: Option<Print>,
}

impl History {
    /// Reads the payload of a `history` or `current`. `None` where it has no time of the server.
    pub fn read(payload: &str) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Payload {
            server_time: f64,
            #[serde(default)]
            markings: Vec<Value>,
            #[serde(default)]
            state: Value,
            #[serde(default)]
            job: Value,
            #[serde(default)]
            #[allow(dead_code, reason = "the bulk, which is skipped")]
            logs: IgnoredAny,
        }
        let Payload { server_time, markings, state, job, .. } =
            serde_json::from_str(payload).ok()?;
        let flag = |name: &str| state["flags"][name] == true;
        let text = state["text"].as_str().unwrap_or_default();
        // A file that is sent to the card is no print, though the flags say so.
        let sending = text.contains("file to SD");
        let marking = |marking: &Value| {
            let kind = marking["type"].as_str()?.to_owned();
            Some(Marking { kind, at: marking["time"].as_f64()? })
        };
        Some(Self {
            markings: markings.iter().filter_map(marking).collect(),
            server_time,
            running: (flag("printing") || flag("paused")) && !sending,
            operational: flag("ready"),
            error: state["error"].as_str().map(str::to_owned),
            job: job_of(&job),
        })
    }
}

/// The selected file of a `job`; `None` where there is none.
pub(super) fn job_of(job: &Value) -> Option<Print> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let file = &job["file"];
    let path = text(&file["path"])?;
    Some(Print {
        name: text(&file["name"]),
        path: Some(path),
        origin: text(&file["origin"]),
        size: file["size"].as_u64(),
        user: text(&job["user"]),
    })
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
