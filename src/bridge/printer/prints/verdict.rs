//! How prints go on, and how one ended unseen (pure).
//!
//! What was known when OctoPrint was last heard is held against the first `history` after an
//! absence, which was built after the login and proves by itself what is. OctoPrint's markings
//! decide as far as they reach back, half an hour by default; else the file's print history, which
//! has to be asked for. On a connection that stands, a print is over without an event only where
//! that was said twice by what was built after the last sign of the print.
//!
//! No clock decides: the markings are told apart by their order, and times of the server are
//! compared with times of the server alone.

use serde::{Deserialize, Serialize};

use crate::bridge::printer::snapshot::markings::Standing;

/// Ends of one print as two sources have it are not farther apart, in seconds.
pub(super) const SAME: f64 = 1.0;

/// So many ends that were published are remembered.
const REMEMBERED: usize = 4;

/// A print, as far as it is known.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Print {
    /// The file's name.
    pub name: Option<String>,
    /// Its path.
    pub path: Option<String>,
    /// `local` or `sdcard`.
    pub origin: Option<String>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Who prints it.
    pub user: Option<String>,
}

impl Print {
    /// Whether both are of one file.
    pub(super) fn is_file_of(&self, other: &Self) -> bool {
        self.path.is_some() && self.path == other.path && self.origin == other.origin
    }

    /// Whether nothing says that they are of two files.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        self.path.is_none() || other.path.is_none() || self.path == other.path
    }
}

/// What is known of a printer's prints; its serde form is what is kept over a restart.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The print that runs.
    pub print: Option<Print>,
    /// The server's time when it was last heard.
    pub server_time: f64,
    /// The server's time of the last end that was published.
    pub last_end: f64,
    /// How often the file had been printed to its end and not, when the print began.
    pub counts: Option<(u64, u64)>,
    /// How OctoPrint's log stood when it was last known for sure.
    pub standing: Option<Standing>,
    /// The print that runs began after that, so the log's last end is not its own.
    pub begun: bool,
    /// The server's time when it did, by its clock of then, which is the log's.
    pub began: f64,
    /// A connection began without a log since: nobody knows what of it is told.
    pub gap: bool,
    /// So many prints ended after that whose end is known.
    pub told: u32,
    /// The prints whose ends were published last, each once, the newest first.
    pub ended: Vec<Print>,
    /// When prints ended last, by the server's clock of then: as the log has it, whatever became
    /// of the clock.
    pub ended_at: Vec<f64>,
}

impl Record {
    /// The end of `print` is published.
    pub(super) fn note_end(&mut self, print: Print) {
        self.ended.retain(|ended| *ended != print);
        self.ended.insert(0, print);
        self.ended.truncate(REMEMBERED);
    }

    /// An end is published that was at `at`, in the server's time.
    pub(super) fn note_end_at(&mut self, at: f64) {
        self.ended_at.insert(0, at);
        self.ended_at.truncate(REMEMBERED);
        self.last_end = self.last_end.max(at);
    }

    /// Whether the end that the log has at `at` is one of those that were published last.
    pub(super) fn is_told(&self, at: f64) -> bool {
        self.ended_at.iter().any(|told| (told - at).abs() < SAME)
    }
}

/// How a print ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// To its end.
    Done,
    /// With an error, or nobody knows how.
    Failed,
    /// By somebody's command.
    Cancelled,
}

/// The end of a print that nobody saw.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// Which print.
    pub print: Print,
    /// How.
    pub outcome: Outcome,
    /// The server's time.
    pub at: f64,
    /// Why it failed.
    pub reason: Option<String>,
    /// How long it took, in seconds.
    pub took: Option<f64>,
}
