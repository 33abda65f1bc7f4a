//! OctoPrint's `markings`: its log of connections and prints (pure).
//!
//! Every `current` and `history` has the whole log, in the order in which things happened. Its
//! times are the server's, whose clock may be set meanwhile: rely on the order, not on the times.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::json::{Raw, member, object};

/// Tolerance for equal times, in seconds, which may differ a little after they were stored.
const TOLERANCE: f64 = 0.001;

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Marking {
    /// `connected`, `print`, `pause`, `resume`, `done`, `cancel`, `disconnected`; and `printing`,
    /// if a print started with it.
    pub kind: String,
    /// The server's time, in Unix seconds.
    pub at: f64,
}

impl Marking {
    /// Whether a print is in progress after it.
    pub fn goes_on(&self) -> bool {
        self.begins() || matches!(self.kind.as_str(), "pause" | "resume")
    }

    /// Whether a print starts with it.
    pub fn begins(&self) -> bool {
        matches!(self.kind.as_str(), "print" | "printing")
    }

    /// Whether it ends a print that is in progress.
    pub fn ends(&self) -> bool {
        matches!(self.kind.as_str(), "done" | "cancel" | "disconnected" | "connected")
    }

    /// Whether it is the outcome of a print, not the end of its connection.
    pub fn is_outcome(&self) -> bool {
        matches!(self.kind.as_str(), "done" | "cancel")
    }

    /// Whether both are the same entry.
    pub fn is(&self, other: &Self) -> bool {
        self.kind == other.kind && (self.at - other.at).abs() < TOLERANCE
    }
}

/// Maximum number of remembered entries: a few prints in half an hour, with their pauses.
const MAX_REMEMBERED: usize = 24;

/// A summary of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The last entry.
    pub last: Marking,
    /// The entry that ended the last print; `None` while one is in progress.
    pub end: Option<Marking>,
    /// When the last print started or was restarted from a pause, in the server's time.
    pub print: Option<f64>,
    /// When the last print started, regardless of restarts from a pause, in the server's time.
    #[serde(default)]
    pub first: Option<f64>,
    /// Whether the last print was started at the printer, without an event. A transfer to the SD
    /// card leaves the same in the log.
    #[serde(default)]
    pub by_printer: bool,
    /// Whether the last print was cancelled.
    #[serde(default)]
    pub cancelled: bool,
    /// The entries before the last one. OctoPrint drops entries by their time: if its clock was
    /// set, old ones may outlive newer ones.
    #[serde(default)]
    pub before: Vec<Marking>,
}

impl Standing {
    /// Summarises a log; `None` if it is empty.
    pub fn of(markings: &[Marking]) -> Option<Self> {
        let (last, before) = markings.split_last()?;
        let after_print = markings.iter().rposition(Marking::goes_on).map_or(0, |last| last + 1);
        let course = Course::of(markings);
        Some(Self {
            last: last.clone(),
            before: before[before.len().saturating_sub(MAX_REMEMBERED)..].to_vec(),
            end: markings[after_print..].iter().find(|marking| marking.ends()).cloned(),
            print: course.last.map(|marking| marking.at),
            first: course.first.map(|marking| marking.at),
            by_printer: course.last.is_some_and(|marking| marking.kind == "printing"),
            cancelled: course.outcome.is_some_and(|marking| marking.kind == "cancel"),
        })
    }

    /// Whether the log had this entry.
    pub fn had(&self, marking: &Marking) -> bool {
        self.last.is(marking) || self.before.iter().any(|before| before.is(marking))
    }
}

/// The entries of the last print of a log.
struct Course<'a> {
    first: Option<&'a Marking>,
    /// The last start: a print may be restarted from a pause.
    last: Option<&'a Marking>,
    outcome: Option<&'a Marking>,
}

impl<'a> Course<'a> {
    fn of(markings: &'a [Marking]) -> Self {
        let (started, rest) = match markings.iter().rposition(Marking::begins) {
            Some(last) => markings.split_at(last + 1),
            None => (&markings[..0], markings),
        };
        let start = started.iter().rposition(Marking::ends).map_or(0, |end| end + 1);
        let own = &started[start..];
        let by_octoprint = own.iter().rev().find(|marking| marking.kind == "print");
        Self {
            first: own.iter().find(|marking| marking.begins()),
            last: by_octoprint.or(own.last()),
            outcome: rest.iter().rev().find(|marking| marking.is_outcome()),
        }
    }
}

/// Reads the entries of a log, without malformed ones; `None` if it is no log at all. The
/// `printing` that OctoPrint repeats since 2.0 counts only if no other entry started the print.
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
    let mut in_progress = false;
    let counts = |marking: &Marking| {
        let repeats = marking.kind == "printing" && in_progress;
        in_progress = marking.goes_on() || (in_progress && !marking.ends());
        !repeats
    };
    Some(entries.into_iter().filter_map(marking).filter(counts).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The log with these entries, at 1 s, 2 s, …
    fn log(kinds: &[&str]) -> Vec<Marking> {
        let entry = |(kind, at): (&&str, i32)| json!({"type": kind, "time": at});
        let entries: Vec<Value> = kinds.iter().zip(1..).map(entry).collect();
        read(Some(&serde_json::value::to_raw_value(&entries).unwrap())).unwrap()
    }

    fn standing(kinds: &[&str]) -> Standing {
        Standing::of(&log(kinds)).unwrap()
    }

    #[test]
    fn a_print_started_at_the_printer_starts_with_printing() {
        let of_octoprint =
            standing(&["connected", "print", "printing", "pause", "resume", "printing"]);
        assert_eq!((of_octoprint.print, of_octoprint.by_printer), (Some(2.0), false));
        assert_eq!(of_octoprint.last.kind, "resume", "the other entry does not count");
        let of_printer = standing(&["print", "printing", "done", "printing"]);
        assert_eq!((of_printer.print, of_printer.by_printer), (Some(4.0), true));
        assert_eq!(of_printer.end, None);
        let over = standing(&["print", "printing", "done", "printing", "done", "disconnected"]);
        assert_eq!((over.print, over.end.map(|end| end.at)), (Some(4.0), Some(5.0)));
        // A file was sent to the card before.
        let after_transfer = standing(&["done", "printing", "print", "printing"]);
        assert_eq!((after_transfer.print, after_transfer.by_printer), (Some(3.0), false));
        // OctoPrint dropped the entries before the pause.
        let long = standing(&["pause", "resume", "printing", "pause"]);
        assert_eq!((long.print, long.by_printer), (None, false));
    }

    #[test]
    fn a_print_that_was_restarted_from_a_pause_has_two_starts() {
        let restarted = standing(&["print", "pause", "print"]);
        assert_eq!((restarted.print, restarted.first), (Some(3.0), Some(1.0)));
        let next = standing(&["print", "cancel", "print", "printing", "print"]);
        assert_eq!((next.print, next.first), (Some(5.0), Some(3.0)));
    }

    #[test]
    fn the_last_print_was_cancelled_or_not() {
        assert!(standing(&["print", "cancel"]).cancelled);
        assert!(standing(&["print", "done", "printing", "cancel", "disconnected"]).cancelled);
        for kinds in [
            &["print", "cancel", "print"][..],
            &["print", "cancel", "done"],
            &["cancel", "printing"],
        ] {
            assert!(!standing(kinds).cancelled, "{kinds:?}");
        }
    }

    #[test]
    fn the_end_of_the_last_print_is_missing_while_one_is_in_progress() {
        let end = |kinds: &[&str]| standing(kinds).end.map(|end| end.at);
        assert_eq!(Standing::of(&[]), None);
        assert_eq!(end(&["connected"]), Some(1.0));
        assert_eq!(end(&["connected", "print"]), None);
        assert_eq!(end(&["pause"]), None, "the print's own entry is dropped after a while");
        assert_eq!(end(&["print", "pause", "disconnected", "connected"]), Some(3.0));
        assert_eq!(end(&["print", "done", "print", "cancel"]), Some(4.0));
        let odd = serde_json::value::to_raw_value(&json!([null, 5, {"type": "done", "time": "x"}]));
        assert_eq!(read(Some(&odd.unwrap())), Some(Vec::new()));
        assert_eq!(read(None), None);
    }
}
