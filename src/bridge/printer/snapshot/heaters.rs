//! The temperatures of each heater (pure).

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::json::{
    LastPayload, LastRaw, Raw, StateChange, StateTopic, last_element, members, number, object,
};
use super::printer_state::PrinterState;
use super::roster::Roster;
use crate::heater::Heater;
use crate::ordered;

/// Minimum change of the actual temperature that is published, in °C.
const MIN_CHANGE: f64 = 0.2;
/// Valid temperatures, in °C.
const CELSIUS: (f64, f64) = (-273.2, 5_000.0);
/// Valid offsets, which OctoPrint accepts, in °C.
const OFFSETS: (f64, f64) = (-50.0, 50.0);

#[derive(Debug, Default)]
pub(super) struct Heaters {
    // Boxed: a map node has room for eleven, and most printers have two or three.
    heaters: BTreeMap<Heater, Box<Temperatures>>,
    /// Decides which names are heaters.
    roster: Roster,
    /// The known heaters at the last sweep.
    known: Vec<Heater>,
    /// Topics to clear, of what is no longer a heater.
    cleared: Vec<StateChange>,
    last_offsets: LastRaw,
    offsets: BTreeMap<String, f64>,
}

/// One heater's last and last published values.
#[derive(Debug, Default)]
struct Temperatures {
    current: HeaterReading,
    published: HeaterReading,
    payload: LastPayload,
}

/// The temperatures of a heater, in °C.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct HeaterReading {
    /// The measured one.
    pub actual: Option<f64>,
    /// The one that is wanted; 0 if it is off.
    pub target: Option<f64>,
    /// What OctoPrint adds to targets.
    pub offset: Option<f64>,
}

#[derive(Deserialize, Default)]
struct Temperature<'a> {
    #[serde(borrow, default)]
    actual: Raw<'a>,
    #[serde(borrow, default)]
    target: Raw<'a>,
}

impl Heaters {
    /// Folds in readings; those of a `current`, with its time, also decide which names are heaters.
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
                Some((name.into_owned(), number(Some(raw), OFFSETS)?))
            };
            self.offsets = ordered::map(offsets.into_iter().filter_map(read));
        }
        self.read(temps, state, current);
        if state.is_closed() {
            // `history` has the readings of the last half hour, even if the printer is off.
            self.heaters.values_mut().for_each(|heater| heater.current = HeaterReading::default());
        }
        let offsets = &self.offsets;
        let mut changes = Vec::new();
        for (heater, temperatures) in &mut self.heaters {
            let reading = &mut temperatures.current;
            let running = reading.actual.is_some() || reading.target.is_some();
            let offset = || offsets.get(heater.as_str()).copied().unwrap_or(0.0);
            reading.offset = running.then(|| tenths(offset()));
            changes.extend(temperatures.change(heater));
        }
        changes
    }

    /// Reads the last entry of the message, which is the newest.
    fn read(&mut self, temps: Raw<'_>, state: PrinterState, current: Option<Instant>) {
        let Some(entry) = members(last_element(temps)) else { return };
        self.heaters.values_mut().for_each(|heater| heater.current = HeaterReading::default());
        let readings = || entry.iter().map(|(name, raw)| (&**name, HeaterReading::of(raw)));
        if let Some(now) = current {
            let reporting = readings().filter(|(_, reading)| reading.is_some());
            reporting.for_each(|(name, _)| self.roster.reports(name));
            if self.roster.end_message(now, !state.is_closed()) {
                self.sweep();
            }
        }
        for (name, reading) in readings() {
            if let Some(known) = self.heaters.get_mut(name) {
                known.current = reading.unwrap_or_default();
            } else if let Some(current) = reading
                && self.roster.is_heater(name)
                && let Some(heater) = Heater::read(name)
            {
                let temperatures = Temperatures { current, ..Temperatures::default() };
                self.heaters.insert(heater, Box::new(temperatures));
            }
        }
    }

    /// Clears the topics of what is no longer a heater.
    fn sweep(&mut self) {
        let roster = &self.roster;
        let is_gone = |heater: &&Heater| !roster.is_heater(heater.as_str());
        let mut gone: Vec<Heater> = self.known.iter().filter(is_gone).cloned().collect();
        gone.extend(self.heaters.keys().filter(is_gone).cloned());
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

    /// Returns the last readings.
    pub(super) fn readings(&self) -> impl Iterator<Item = (&Heater, HeaterReading)> {
        self.heaters.iter().map(|(heater, temperatures)| (heater, temperatures.current))
    }

    pub(super) fn restore(&mut self, heaters: Vec<Heater>) {
        let rejected = self.roster.restore(heaters);
        rejected.into_iter().for_each(|heater| self.clear(heater));
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

impl HeaterReading {
    /// Reads a reading; `None` if it has no number.
    fn of(raw: &serde_json::value::RawValue) -> Option<Self> {
        let temperature: Temperature<'_> = object(Some(raw));
        let actual = number(temperature.actual, CELSIUS).map(tenths);
        let target = number(temperature.target, CELSIUS).map(tenths);
        (actual.is_some() || target.is_some()).then_some(Self { actual, target, offset: None })
    }
}

impl Temperatures {
    fn change(&mut self, heater: &Heater) -> Option<StateChange> {
        let (current, published) = (self.current, self.published);
        let moved = match (current.actual, published.actual) {
            // Both are multiples of a tenth; the small margin absorbs their binary form.
            (Some(now), Some(before)) => (now - before).abs() >= MIN_CHANGE - 1e-6,
            (now, before) => now != before,
        };
        let set = (current.target, current.offset) != (published.target, published.offset);
        if !moved && !set {
            return None;
        }
        self.published = current;
        self.payload.change(StateTopic::Temperature(heater.clone()), &current)
    }
}

fn tenths(celsius: f64) -> f64 {
    // No negative zero, which is a different text for the same temperature.
    (celsius * 10.0).round() / 10.0 + 0.0
}
