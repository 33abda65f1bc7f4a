//! The last prints of a printer and the totals over all of them, as they are persisted (pure).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bridge::printer::prints::Outcome;
use crate::timestamp;

/// Number of prints that are kept.
pub(super) const KEPT: usize = 100;

/// Sums over all prints.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Totals {
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) cancelled: u64,
    /// Duration, in seconds.
    pub(super) seconds: f64,
    /// Length of the filament, in mm, as far as it is known.
    pub(super) filament: f64,
    /// Its weight, in grams.
    pub(super) weight: f64,
}

impl Totals {
    /// Returns the number of prints.
    pub(super) fn prints(&self) -> u64 {
        self.done + self.failed + self.cancelled
    }
}

/// A print that has ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PrintEntry {
    pub(super) file: Option<String>,
    pub(super) path: Option<String>,
    /// In Unix seconds.
    pub(super) started: Option<u64>,
    /// In Unix seconds.
    pub(super) ended: u64,
    /// `done`, `failed` or `cancelled`.
    pub(super) result: String,
    /// In seconds.
    pub(super) duration: Option<f64>,
    /// In mm.
    pub(super) filament: Option<f64>,
    /// In grams.
    pub(super) weight: Option<f64>,
    pub(super) cost: Option<f64>,
    pub(super) reason: Option<String>,
    pub(super) recovered: bool,
    /// Number of this end among all that were published.
    pub(super) number: u64,
}

/// Largest difference between two times of one end, in seconds.
const TOLERANCE: u64 = 5;

impl PrintEntry {
    /// Names and values as published.
    pub(super) fn fields(&self) -> [(&'static str, Value); 11] {
        let time = |unix: u64| system_time(unix).and_then(timestamp::rfc3339);
        let metres = |millimetres: f64| rounded(millimetres / 1000.0, 2);
        [
            ("file", json!(self.file)),
            ("path", json!(self.path)),
            ("started", json!(self.started.and_then(time))),
            ("ended", json!(time(self.ended))),
            ("result", json!(self.result)),
            ("duration", json!(self.duration)),
            ("filament_m", json!(self.filament.map(metres))),
            ("filament_g", json!(self.weight)),
            ("cost", json!(self.cost)),
            ("reason", json!(self.reason)),
            ("recovered", json!(self.recovered)),
        ]
    }

    fn published(&self) -> Value {
        let fields = self.fields().map(|(name, value)| (name.to_owned(), value));
        Value::Object(fields.into_iter().collect())
    }
}

/// What is persisted of a printer's prints.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PrintLog {
    /// Since when prints are counted, in Unix seconds.
    pub(super) since: Option<u64>,
    /// Number of the last end that was counted.
    pub(super) counted: u64,
    pub(super) totals: Totals,
    /// The last prints, oldest first.
    pub(super) prints: Vec<PrintEntry>,
}

impl PrintLog {
    /// Whether a recovered end was counted before the bridge, or a task of it, was ended in the
    /// middle. Its number tells, unless other ends were being looked up then: ends are numbered in
    /// the order in which they become known.
    pub(super) fn has(&self, end: &PrintEntry) -> bool {
        let same = |known: &&PrintEntry| {
            known.path == end.path || known.path.is_none() || end.path.is_none()
        };
        let numbered = |known: &&PrintEntry| known.number == end.number;
        let at_that_time = |known: &&PrintEntry| {
            known.result == end.result && known.ended.abs_diff(end.ended) <= TOLERANCE
        };
        let of_number = self.prints.iter().rev().find(numbered).filter(same);
        (end.number <= self.counted && of_number.is_some())
            || self.prints.iter().filter(same).any(|known| at_that_time(&known))
    }

    /// Adds a print.
    pub(super) fn add(&mut self, print: PrintEntry) {
        let totals = &mut self.totals;
        match print.result.as_str() {
            DONE => totals.done += 1,
            CANCELLED => totals.cancelled += 1,
            _ => totals.failed += 1,
        }
        totals.seconds += print.duration.unwrap_or_default();
        totals.filament += print.filament.unwrap_or_default();
        totals.weight += print.weight.unwrap_or_default();
        if self.prints.len() >= KEPT {
            self.prints.drain(..=self.prints.len() - KEPT);
        }
        self.prints.push(print);
    }

    /// Returns the last `most` prints as published, newest first.
    pub(super) fn newest(&self, most: usize) -> Vec<Value> {
        self.prints.iter().rev().take(most).map(PrintEntry::published).collect()
    }
}

const DONE: &str = "done";
const FAILED: &str = "failed";
const CANCELLED: &str = "cancelled";

/// Returns the name of a result.
pub(super) fn result_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => DONE,
        Outcome::Failed => FAILED,
        Outcome::Cancelled => CANCELLED,
    }
}

/// Returns a time in Unix seconds as a system time; `None` if there is no such time.
pub(super) fn system_time(unix: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(unix))
}

/// Rounds to so many decimals.
pub(super) fn rounded(value: f64, decimals: i32) -> f64 {
    let factor = 10_f64.powi(decimals);
    (value * factor).round() / factor
}
