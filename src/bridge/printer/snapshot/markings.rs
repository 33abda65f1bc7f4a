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
    /// `connected`, `print`, `pause`, `resume`, `done`, `cancel`, `disconnected`; and `printing`,
    /// where that is how a print began.
    pub kind: String,
    /// The server's time.
    pub at: f64,
}

impl Marking {
    /// Whether a print is under way after it.
    pub fn goes_on(&self) -> bool {
        self.begins() || matches!(self.kind.as_str(), "pause" | "resume")
    }

    /// Whether a print begins with it.
    pub fn begins(&self) -> bool {
        matches!(self.kind.as_str(), "print" | "printing")
    }

    /// Whether it ends a print that is under way.
    pub fn ends(&self) -> bool {
        matches!(self.kind.as_str(), "done" | "cancel" | "disconnected" | "connected")
    }

    /// Whether it says how a print ended by itself.
    pub fn is_outcome(&self) -> bool {
        matches!(self.kind.as_str(), "done" | "cancel")
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
    /// When the last print began, in the server's time; begun anew from a pause, when it did so.
    pub print: Option<f64>,
    /// When the last print began at first, in the server's time.
    #[serde(default)]
    pub first: Option<f64>,
    /// The last print was begun at the printer, and no event told of it. A file that is sent to
    /// the card leaves the same in the log.
    #[serde(default)]
    pub by_printer: bool,
    /// The last print was cancelled.
    #[serde(default)]
    pub cancelled: bool,
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
        let course = Course::of(markings);
        Some(Self {
            last: last.clone(),
            before: before[before.len().saturating_sub(REMEMBERED)..].to_vec(),
            end: markings[begun..].iter().find(|marking| marking.ends()).cloned(),
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

/// The entries of a log that say how its last print went.
struct Course<'a> {
    /// The first beginning.
    first: Option<&'a Marking>,
    /// The last one: a print may begin anew from a pause.
    last: Option<&'a Marking>,
    /// How it ended by itself.
    outcome: Option<&'a Marking>,
}

impl<'a> Course<'a> {
    fn of(markings: &'a [Marking]) -> Self {
        let (begun, rest) = match markings.iter().rposition(Marking::begins) {
            Some(last) => markings.split_at(last + 1),
            None => (&markings[..0], markings),
        };
        let start = begun.iter().rposition(Marking::ends).map_or(0, |end| end + 1);
        let own = &begun[start..];
        let told = own.iter().rev().find(|marking| marking.kind == "print");
        Self {
            first: own.iter().find(|marking| marking.begins()),
            last: told.or(own.last()),
            outcome: rest.iter().rev().find(|marking| marking.is_outcome()),
        }
    }
}

/// The entries of a log, those that cannot be read left out; `None` where it is no log at all.
///
/// Since 2.0 OctoPrint also notes each time that it is `printing`: that says something only where
/// nothing else says that a print began.
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
    let mut under_way = false;
    let says = |marking: &Marking| {
        let repeats = marking.kind == "printing" && under_way;
        under_way = marking.goes_on() || (under_way && !marking.ends());
        !repeats
    };
    Some(entries.into_iter().filter_map(marking).filter(says).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(kinds: &[&str]) -> Standing {
        let entries =
            kinds.iter().zip(1..).map(|(kind, at)| format!(r#"{{"type":"{kind}","time":{at}}}"#));
        let entries: Vec<String> = entries.collect();
        let raw = RawValue::from_string(format!("[{}]", entries.join(","))).unwrap();
        Standing::of(&read(Some(&raw)).unwrap()).unwrap()
    }

    #[test]
    fn a_print_begun_at_the_printer_begins_with_printing() {
        let of_octoprint =
            standing(&["connected", "print", "printing", "pause", "resume", "printing"]);
        assert_eq!((of_octoprint.print, of_octoprint.by_printer), (Some(2.0), false));
        assert_eq!(of_octoprint.last.kind, "resume", "the rest says nothing");
        let of_printer = standing(&["print", "printing", "done", "printing"]);
        assert_eq!((of_printer.print, of_printer.by_printer), (Some(4.0), true));
        assert_eq!(of_printer.end, None);
        let over = standing(&["print", "printing", "done", "printing", "done", "disconnected"]);
        assert_eq!((over.print, over.end.map(|end| end.at)), (Some(4.0), Some(5.0)));
        // A file was sent to the card before.
        let after_transfer = standing(&["done", "printing", "print", "printing"]);
        assert_eq!((after_transfer.print, after_transfer.by_printer), (Some(3.0), false));
        // OctoPrint dropped what was before the pause.
        let long = standing(&["pause", "resume", "printing", "pause"]);
        assert_eq!((long.print, long.by_printer), (None, false));
    }

    #[test]
    fn a_print_begins_anew_from_a_pause_and_at_first() {
        let anew = standing(&["print", "pause", "print"]);
        assert_eq!((anew.print, anew.first), (Some(3.0), Some(1.0)));
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
}
