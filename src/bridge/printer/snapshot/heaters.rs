//! Temperatures, each heater by itself (pure).

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::change::{Published, StateChange, StateTopic};
use super::json::{Last, Raw, last_element, members, number, object};
use super::printer_state::PrinterState;
use super::roster::Roster;
use crate::heater::Heater;
use crate::ordered;

/// How far the actual temperature moves, in °C, before it is published.
const MOVED: f64 = 0.2;
/// Temperatures that can be, in °C.
const CELSIUS: (f64, f64) = (-273.2, 5_000.0);
/// Offsets that OctoPrint takes, in °C.
const OFFSET: (f64, f64) = (-50.0, 50.0);

#[derive(Debug, Default)]
pub(super) struct Heaters {
    // Boxed: a map has room for eleven, and most printers have two or three.
    heaters: BTreeMap<Heater, Box<Temperatures>>,
    /// Decides what is a heater.
    roster: Roster,
    /// The heaters that were known last.
    known: Vec<Heater>,
    /// Topics of what is no heater any more.
    cleared: Vec<StateChange>,
    last_offsets: Last,
    offsets: BTreeMap<String, f64>,
}

/// What one heater is read as, and what of it is published.
#[derive(Debug, Default)]
struct Temperatures {
    now: Reading,
    out: Reading,
    published: Published,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
struct Reading {
    actual: Option<f64>,
    target: Option<f64>,
    offset: Option<f64>,
}

#[derive(Deserialize, Default)]
struct Temperature<'a> {
    #[serde(borrow, default)]
    actual: Raw<'a>,
    #[serde(borrow, default)]
    target: Raw<'a>,
}

impl Heaters {
    /// Folds in the readings of a message; of a `current` they also decide what is a heater.
    pub(super) fn apply(
        &mut self,
        temps: Raw<'_>,
        offsets: Raw<'_>,
        state: PrinterState,
        current: Option<Instant>,
    ) -> Vec<StateChange> {
        if self.last_offsets.differs(offsets)
            && let Some(offsets) = members(offsets)
        {
            let read = |(name, raw): (std::borrow::Cow<'_, str>, _)| {
                Some((name.into_owned(), number(Some(raw), OFFSET)?))
            };
            self.offsets = ordered::map(offsets.into_iter().filter_map(read));
        }
        self.read(temps, state, current);
        if state.is_closed() {
            // `history` brings the readings of the last half hour, also of a printer that is off.
            self.heaters.values_mut().for_each(|heater| heater.now = Reading::default());
        }
        let offsets = &self.offsets;
        let mut changes = Vec::new();
        for (heater, temperatures) in &mut self.heaters {
            let now = &mut temperatures.now;
            let running = now.actual.is_some() || now.target.is_some();
            let offset = || offsets.get(heater.as_str()).copied().unwrap_or(0.0);
            now.offset = running.then(|| tenths(offset()));
            changes.extend(temperatures.change(heater));
        }
        changes
    }

    /// The last entry is how it is now; earlier ones of the same message are passed over.
    fn read(&mut self, temps: Raw<'_>, state: PrinterState, current: Option<Instant>) {
        let Some(entry) = members(last_element(temps)) else { return };
        self.heaters.values_mut().for_each(|heater| heater.now = Reading::default());
        let readings = || entry.iter().map(|(name, raw)| (&**name, Reading::of(raw)));
        if let Some(now) = current {
            let reporting = readings().filter(|(_, reading)| reading.is_some());
            reporting.for_each(|(name, _)| self.roster.reports(name));
            if self.roster.all_read(now, !state.is_closed()) {
                self.sweep();
            }
        }
        for (name, reading) in readings() {
            if let Some(known) = self.heaters.get_mut(name) {
                known.now = reading.unwrap_or_default();
            } else if let Some(now) = reading
                && self.roster.is_heater(name)
                && let Some(heater) = Heater::read(name)
            {
                let temperatures = Temperatures { now, ..Temperatures::default() };
                self.heaters.insert(heater, Box::new(temperatures));
            }
        }
    }

    /// Clears the topics of what is no heater any more.
    fn sweep(&mut self) {
        let roster = &self.roster;
        let none = |heater: &&Heater| !roster.is_heater(heater.as_str());
        let mut gone: Vec<Heater> = self.known.iter().filter(none).cloned().collect();
        gone.extend(self.heaters.keys().filter(none).cloned());
        gone.sort();
        gone.dedup();
        self.known = roster.known().cloned().collect();
        gone.into_iter().for_each(|heater| self.clear(heater));
    }

    fn clear(&mut self, heater: Heater) {
        self.heaters.remove(&heater);
        let topic = StateTopic::Temperature(heater);
        self.cleared.push(StateChange { topic, payload: bytes::Bytes::new() });
    }

    pub(super) fn restore(&mut self, heaters: Vec<Heater>) {
        let none = self.roster.restore(heaters);
        none.into_iter().for_each(|heater| self.clear(heater));
        self.sweep();
    }

    pub(super) fn set_profile(&mut self, heaters: Option<Vec<Heater>>) {
        self.roster.set_profile(heaters);
        self.sweep();
    }

    pub(super) fn take_cleared(&mut self) -> Vec<StateChange> {
        std::mem::take(&mut self.cleared)
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }
}

impl Reading {
    /// `None` where there is no number.
    fn of(raw: &serde_json::value::RawValue) -> Option<Self> {
        let temperature: Temperature<'_> = object(Some(raw));
        let actual = number(temperature.actual, CELSIUS).map(tenths);
        let target = number(temperature.target, CELSIUS).map(tenths);
        (actual.is_some() || target.is_some()).then_some(Self { actual, target, offset: None })
    }
}

impl Temperatures {
    fn change(&mut self, heater: &Heater) -> Option<StateChange> {
        let moved = match (self.now.actual, self.out.actual) {
            // Both are multiples of a tenth; the small margin absorbs their binary form.
            (Some(now), Some(out)) => (now - out).abs() >= MOVED - 1e-6,
            (now, out) => now != out,
        };
        let set = (self.now.target, self.now.offset) != (self.out.target, self.out.offset);
        if !moved && !set {
            return None;
        }
        self.out = self.now;
        self.published.change(StateTopic::Temperature(heater.clone()), &self.out)
    }
}

fn tenths(celsius: f64) -> f64 {
    // No negative zero: it would be another text for the same temperature.
    (celsius * 10.0).round() / 10.0 + 0.0
}
