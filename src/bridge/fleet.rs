//! What all printers of this bridge do, counted: the payload of `B/bridge/fleet` (pure).

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use serde::Serialize;

use crate::timestamp;

/// Maximum number of printers that `errors` names.
const MAX_NAMED: usize = 20;

/// What a printer does, in the words of `B/bridge/fleet`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Occupation {
    /// A print is on, and not paused.
    Printing,
    /// A print is paused.
    Paused,
    /// OctoPrint is connected to the printer, and no print is on.
    Idle,
    /// OctoPrint cannot be reached, or is not connected to the printer.
    #[default]
    Offline,
    /// OctoPrint reports an error.
    Error,
}

/// What the fleet knows of one printer; offline at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Duty {
    /// What the printer does.
    pub occupation: Occupation,
    /// When its print ends.
    pub finish_time: Option<SystemTime>,
}

impl Duty {
    /// When a print ends that is on: a paused one waits for somebody.
    fn next(&self) -> Option<SystemTime> {
        self.finish_time.filter(|_| self.occupation == Occupation::Printing)
    }
}

/// All printers of this bridge. A change costs no walk over them.
#[derive(Debug, Default)]
pub struct Fleet {
    /// By the printer's number.
    members: BTreeMap<usize, CountedPrinter>,
    /// Number of printers, by occupation.
    counts: [usize; 5],
    /// When prints end, the next one first, and the number of each printer.
    finishing: BTreeSet<(SystemTime, usize)>,
    /// The numbers of printers with an error.
    errors: BTreeSet<usize>,
}

#[derive(Debug)]
struct CountedPrinter {
    id: String,
    name: String,
    duty: Duty,
}

#[derive(Serialize)]
struct FleetPayload<'a> {
    total: usize,
    printing: usize,
    paused: usize,
    idle: usize,
    offline: usize,
    error: usize,
    next: Option<NextToFinish<'a>>,
    errors: Vec<NamedPrinter<'a>>,
}

#[derive(Serialize)]
struct NamedPrinter<'a> {
    printer: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct NextToFinish<'a> {
    #[serde(flatten)]
    printer: NamedPrinter<'a>,
    eta: Option<String>,
}

impl Fleet {
    /// Adds a printer, which is offline at first.
    pub fn join(&mut self, number: usize, id: String, name: String) {
        self.leave(number);
        self.counts[Occupation::Offline as usize] += 1;
        self.members.insert(number, CountedPrinter { id, name, duty: Duty::default() });
    }

    /// Removes a printer.
    pub fn leave(&mut self, number: usize) {
        self.apply(number, Duty::default());
        if self.members.remove(&number).is_some() {
            self.counts[Occupation::Offline as usize] -= 1;
        }
    }

    /// Notes what a printer does now.
    pub fn apply(&mut self, number: usize, duty: Duty) {
        let Some(member) = self.members.get_mut(&number) else { return };
        let before = std::mem::replace(&mut member.duty, duty);
        self.counts[before.occupation as usize] -= 1;
        self.counts[duty.occupation as usize] += 1;
        if let Some(at) = before.next() {
            self.finishing.remove(&(at, number));
        }
        self.finishing.extend(duty.next().map(|at| (at, number)));
        if duty.occupation == Occupation::Error {
            self.errors.insert(number);
        } else {
            self.errors.remove(&number);
        }
    }

    /// Returns the payload of `B/bridge/fleet`.
    pub fn payload(&self) -> Vec<u8> {
        let count = |occupation| self.counts[occupation as usize];
        let next = self.finishing.first().and_then(|(at, number)| {
            Some(NextToFinish { printer: self.named(*number)?, eta: timestamp::rfc3339(*at) })
        });
        let payload = FleetPayload {
            total: self.members.len(),
            printing: count(Occupation::Printing),
            paused: count(Occupation::Paused),
            idle: count(Occupation::Idle),
            offline: count(Occupation::Offline),
            error: count(Occupation::Error),
            next,
            errors: self.errors.iter().take(MAX_NAMED).filter_map(|n| self.named(*n)).collect(),
        };
        // Numbers and strings only, so this cannot fail.
        serde_json::to_vec(&payload).unwrap_or_default()
    }

    fn named(&self, number: usize) -> Option<NamedPrinter<'_>> {
        let CountedPrinter { id, name, .. } = self.members.get(&number)?;
        Some(NamedPrinter { printer: id, name })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn fleet(printers: usize) -> Fleet {
        let mut fleet = Fleet::default();
        (0..printers).for_each(|n| fleet.join(n, format!("p{n:02}"), format!("P {n}")));
        fleet
    }

    fn payload(fleet: &Fleet) -> Value {
        serde_json::from_slice(&fleet.payload()).unwrap()
    }

    fn duty(occupation: Occupation, finish: Option<u64>) -> Duty {
        let finish_time = finish.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        Duty { occupation, finish_time }
    }

    #[test]
    fn printers_are_counted_and_the_next_to_finish_is_named() {
        let mut fleet = fleet(6);
        let start = payload(&fleet);
        assert_eq!((&start["total"], &start["offline"]), (&json!(6), &json!(6)));
        assert_eq!((&start["next"], &start["errors"]), (&Value::Null, &json!([])));
        fleet.apply(0, duty(Occupation::Printing, Some(7_200)));
        fleet.apply(1, duty(Occupation::Printing, Some(3_600)));
        // A paused print ends when somebody resumes it.
        fleet.apply(2, duty(Occupation::Paused, Some(60)));
        fleet.apply(3, duty(Occupation::Printing, None));
        fleet.apply(4, duty(Occupation::Error, None));
        let expected = json!({
            "total": 6, "printing": 3, "paused": 1, "idle": 0, "offline": 1, "error": 1,
            "next": {"printer": "p01", "name": "P 1", "eta": "1970-01-01T01:00:00Z"},
            "errors": [{"printer": "p04", "name": "P 4"}],
        });
        assert_eq!(payload(&fleet), expected);
        fleet.apply(1, duty(Occupation::Idle, None));
        fleet.apply(4, duty(Occupation::Offline, None));
        let after = payload(&fleet);
        assert_eq!((&after["next"]["printer"], &after["idle"]), (&json!("p00"), &json!(1)));
        assert_eq!((&after["errors"], &after["offline"]), (&json!([]), &json!(2)));
        fleet.apply(6, duty(Occupation::Idle, None));
        assert_eq!(payload(&fleet), after, "there is no such printer");
    }

    #[test]
    fn a_printer_that_left_is_not_counted_and_its_number_is_used_again() {
        let mut fleet = fleet(2);
        fleet.apply(0, duty(Occupation::Printing, Some(60)));
        fleet.apply(1, duty(Occupation::Error, None));
        [0, 1, 1].into_iter().for_each(|number| fleet.leave(number));
        let empty = payload(&Fleet::default());
        assert_eq!(payload(&fleet), empty);
        assert_eq!(empty["total"], 0);
        fleet.join(1, "new".to_owned(), "New".to_owned());
        fleet.apply(1, duty(Occupation::Error, None));
        assert_eq!(payload(&fleet)["errors"], json!([{"printer": "new", "name": "New"}]));
        assert_eq!(payload(&fleet)["total"], 1);
    }

    #[test]
    fn the_payload_names_few_errors() {
        let mut fleet = fleet(30);
        (0..30).for_each(|index| fleet.apply(index, duty(Occupation::Error, None)));
        let payload = payload(&fleet);
        assert_eq!(payload["error"], 30);
        assert_eq!(payload["errors"].as_array().unwrap().len(), MAX_NAMED);
    }

    proptest! {
        #[test]
        fn counts_and_the_next_follow_any_changes(
            changes in prop::collection::vec((0..4_usize, 0..5_usize, prop::option::of(0..9_u64)), 0..60)
        ) {
            use Occupation::{Error, Idle, Offline, Paused, Printing};
            let mut fleet = fleet(4);
            let mut known = [Duty::default(); 4];
            for (index, occupation, finish) in changes {
                known[index] = duty([Printing, Paused, Idle, Offline, Error][occupation], finish);
                fleet.apply(index, known[index]);
            }
            let payload = payload(&fleet);
            for (word, occupation) in [("printing", Printing), ("paused", Paused), ("idle", Idle),
                ("offline", Offline), ("error", Error)] {
                let count = known.iter().filter(|duty| duty.occupation == occupation).count();
                prop_assert_eq!(&payload[word], count);
            }
            let next = known.iter().enumerate().filter_map(|(n, duty)| Some((duty.next()?, n))).min();
            let next = next.map(|(_, index)| json!(format!("p{index:02}")));
            prop_assert_eq!(&payload["next"]["printer"], &next.unwrap_or_default());
        }
    }
}
