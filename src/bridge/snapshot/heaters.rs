//! Temperatures, each heater by itself (pure).

use std::collections::{BTreeMap, BTreeSet};

use super::json::{Last, Raw, last_element, member, members, object};
use super::{Change, PrinterState, Published, Topic};
use serde::{Deserialize, Serialize};

/// How far the actual temperature moves, in °C, before it is published.
const MOVED: f64 = 0.2;

#[derive(Debug, Default)]
pub(super) struct Heaters {
    // Boxed: a map has room for eleven, and most printers have two or three.
    heaters: BTreeMap<String, Box<Heater>>,
    /// Of the printer profile in force; empty until it is known.
    profile: BTreeSet<String>,
    /// Of a former profile and not of this one: ignored though the firmware may report them.
    gone: BTreeSet<String>,
    last_offsets: Last,
    offsets: BTreeMap<String, f64>,
}

#[derive(Debug, Default)]
struct Heater {
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
    pub(super) fn apply(
        &mut self,
        temps: Raw<'_>,
        offsets: Raw<'_>,
        state: PrinterState,
    ) -> Vec<Change> {
        if self.last_offsets.differs(offsets)
            && let Some(offsets) = member(offsets)
        {
            self.offsets = offsets;
        }
        self.read(temps);
        if state.is_closed() {
            // `history` brings the readings of the last half hour, also of a printer that is off.
            self.heaters.values_mut().for_each(|heater| heater.now = Reading::default());
        }
        let offsets = &self.offsets;
        let mut changes = Vec::new();
        for (name, heater) in &mut self.heaters {
            let running = heater.now.actual.is_some() || heater.now.target.is_some();
            heater.now.offset = running.then(|| tenths(offsets.get(name).copied().unwrap_or(0.0)));
            changes.extend(heater.change(name));
        }
        changes
    }

    /// The last entry is how it is now; earlier ones of the same message are passed over.
    fn read(&mut self, temps: Raw<'_>) {
        let Some(entry) = members(last_element(temps)) else { return };
        self.heaters.values_mut().for_each(|heater| heater.now = Reading::default());
        for (name, raw) in entry {
            if name == "time" || self.gone.contains(&*name) {
                continue;
            }
            let temperature: Temperature<'_> = object(Some(raw));
            let actual = member(temperature.actual).map(tenths);
            let target = member(temperature.target).map(tenths);
            let reading = Reading { actual, target, offset: None };
            if let Some(heater) = self.heaters.get_mut(&*name) {
                heater.now = reading;
            } else if actual.is_some() || target.is_some() {
                let heater = Heater { now: reading, ..Heater::default() };
                self.heaters.insert(name.into_owned(), Box::new(heater));
            }
        }
    }

    pub(super) fn set_profile(&mut self, heaters: Vec<String>) -> Vec<Change> {
        let profile: BTreeSet<String> = heaters.into_iter().collect();
        let before = std::mem::replace(&mut self.profile, profile);
        self.gone.extend(before);
        self.gone.retain(|heater| !self.profile.contains(heater));
        let mut changes = Vec::new();
        for name in &self.gone {
            if self.heaters.remove(name).is_some() {
                let topic = Topic::Temperature(name.clone());
                changes.push(Change { topic, payload: bytes::Bytes::new() });
            }
        }
        changes
    }

    pub(super) fn reported(&self) -> impl Iterator<Item = &str> + Clone {
        self.heaters.keys().map(String::as_str)
    }

    pub(super) fn knows(&self, heater: &str) -> bool {
        self.heaters.contains_key(heater) || self.profile.contains(heater)
    }
}

impl Heater {
    fn change(&mut self, name: &str) -> Option<Change> {
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
        self.published.change(Topic::Temperature(name.to_owned()), &self.out)
    }
}

fn tenths(celsius: f64) -> f64 {
    // No negative zero: it would be another text for the same temperature.
    (celsius * 10.0).round() / 10.0 + 0.0
}
