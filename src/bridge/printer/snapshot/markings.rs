//! OctoPrint's log of what became of the printer and its prints (pure).
//!
//! It comes whole in every `current` and `history`, in the order in which things happened. Their
//! times are the server's, whose clock may be set meanwhile: the order tells, not the times.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::json::{Raw, member, object};

/// Times that are the same, in seconds: what is written and read again may differ a little.
const SAME: f64 = 0.001;

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Marking {
    /// `connected`, `print`, `pause`, `resume`, `done`, `cancel`, `disconnected`.
    pub kind: String,
    /// The server's time.
    pub at: f64,
}

impl Marking {
    /// Whether a print is under way after it.
    pub fn goes_on(&self) -> bool {
        matches!(self.kind.as_str(), "print" | "pause" | "resume")
    }

    /// Whether it ends a print that is under way.
    pub fn ends(&self) -> bool {
        matches!(self.kind.as_str(), "done" | "cancel" | "disconnected" | "connected")
    }

    /// Whether it is this entry.
    pub fn is(&self, other: &Self) -> bool {
        self.kind == other.kind && (self.at - other.at).abs() < SAME
    }
}

/// So many entries of a log are remembered: a few prints in half an hour, with their pauses.
const REMEMBERED: usize = 24;

/// How the log stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Its last entry.
    pub last: Marking,
    /// The entry that ended the last print; `None` while one is under way.
    pub end: Option<Marking>,
    /// When the last print began, in the server's time.
    pub print: Option<f64>,
    /// The last entries before the last one. OctoPrint drops entries by their time, which a clock
    /// that is set makes anything: old ones may outlive newer ones.
    #[serde(default)]
    pub before: Vec<Marking>,
}

impl Standing {
    /// Of a log; `None` where it is empty.
    pub fn of(markings: &[Marking]) -> Option<Self> {
        let (last, before) = markings.split_last()?;
        let begun = markings.iter().rposition(Marking::goes_on).map_or(0, |last| last + 1);
        Some(Self {
            last: last.clone(),
            before: before[before.len().saturating_sub(REMEMBERED)..].to_vec(),
            end: markings[begun..].iter().find(|marking| marking.ends()).cloned(),
            print: markings.iter().rev().find(|m| m.kind == "print").map(|m| m.at),
        })
    }

    /// Whether the log had this entry.
    pub fn had(&self, marking: &Marking) -> bool {
        self.last.is(marking) || self.before.iter().any(|before| before.is(marking))
    }
}

/// The entries of a log, those that cannot be read left out; `None` where it is no log at all.
pub fn read(raw: Option<&RawValue>) -> Option<Vec<Marking>> {
    #[derive(Deserialize, Default)]
    struct Entry<'a> {
        #[serde(borrow, default)]
        r#type: Raw<'a>,
        #[serde(borrow, default)]
        time: Raw<'a>,
    }
    let entries: Vec<&RawValue> = member(raw)?;
    let marking = |raw: &RawValue| {
        let entry: Entry<'_> = object(Some(raw));
        Some(Marking { kind: member(entry.r#type)?, at: member(entry.time)? })
    };
    Some(entries.into_iter().filter_map(marking).collect())
}
