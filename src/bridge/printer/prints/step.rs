//! Starts and ends of prints, each once, whether or not an event reported them (pure).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ends::Outcome;
use super::history::Print;
use crate::bridge::printer::snapshot::EventFields;
use crate::bridge::printer::snapshot::json::{MAX_SECONDS, member, number as number_within};
use crate::octoprint::EventKind;

/// The start or the end of a print.
#[derive(Debug, Clone, PartialEq)]
pub struct PrintStep {
    /// Which print.
    pub print: Print,
    /// When, by the bridge's clock; `None`: just now, as an event reports it.
    pub at: Option<SystemTime>,
    /// How it ended; `None` if it started.
    pub result: Option<PrintResult>,
}

/// How a print ended.
#[derive(Debug, Clone, PartialEq)]
pub struct PrintResult {
    /// In which way.
    pub outcome: Outcome,
    /// Duration of the print in seconds, if OctoPrint reported it.
    pub took: Option<f64>,
    /// Reason for a failure.
    pub reason: Option<String>,
    /// Number of this end, counted from the first one that was published of this printer. After a
    /// crash the same end may come again, with the same number.
    pub number: u64,
    /// No event reported it.
    pub recovered: bool,
}

impl PrintStep {
    /// The step that an event reports; `number`: that of the end, if it is one.
    pub(super) fn of_event(
        kind: &EventKind,
        print: Print,
        fields: &EventFields<'_>,
        number: u64,
    ) -> Option<Self> {
        let text = |raw| member::<String>(raw);
        let outcome = match kind {
            EventKind::PrintStarted => return Some(Self { print, at: None, result: None }),
            EventKind::PrintDone => Outcome::Done,
            EventKind::PrintCancelled => Outcome::Cancelled,
            EventKind::PrintFailed if text(fields.reason).as_deref() == Some("cancelled") => {
                Outcome::Cancelled
            }
            EventKind::PrintFailed => Outcome::Failed,
            _ => return None,
        };
        let reason = text(fields.error).or_else(|| text(fields.reason));
        let result = PrintResult {
            outcome,
            took: number_within(fields.time, (0.0, MAX_SECONDS)),
            reason: reason.filter(|_| outcome == Outcome::Failed),
            number,
            recovered: false,
        };
        Some(Self { print, at: None, result: Some(result) })
    }
}

/// Returns a time in Unix seconds as a system time; `None` if there is no such time.
pub(super) fn system_time(unix: f64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(unix).ok()?)
}
