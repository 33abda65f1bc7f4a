//! The maintenance counters that the user has named.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::print_log::{Totals, rounded};
use crate::bridge::printer::features::{FeatureParts, Scene};
use crate::bridge::printer::messages::event::PRINT;
use crate::bridge::printer::persisted::Persisted;
use crate::config::{Counter, CounterUnit};
use crate::timestamp;

/// The counters of one printer.
pub(super) struct Maintenance {
    counters: Vec<Counter>,
    /// The totals when each was done last, by its name.
    done: Persisted<BTreeMap<String, DoneAt>>,
}

/// The totals at a maintenance.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
struct DoneAt {
    /// Duration of prints, in seconds.
    seconds: f64,
    /// Length of the filament, in mm.
    filament: f64,
    prints: u64,
}

impl DoneAt {
    fn of(totals: &Totals) -> Self {
        let Totals { seconds, filament, .. } = *totals;
        Self { seconds, filament, prints: totals.prints() }
    }

    /// Returns what was used since, in this unit.
    fn used(&self, totals: &Totals, unit: CounterUnit) -> f64 {
        let used = match unit {
            CounterUnit::Hours => (totals.seconds - self.seconds) / 3600.0,
            CounterUnit::Metres => (totals.filament - self.filament) / 1000.0,
            CounterUnit::Prints => totals.prints() as f64 - self.prints as f64,
        };
        rounded(used, 2).max(0.0)
    }
}

impl Maintenance {
    pub(super) fn new(parts: &FeatureParts<'_>) -> Self {
        let id = parts.printer.id.as_str();
        let done = Persisted::restore("maintenance", id, parts.known, parts.store.clone());
        Self { counters: parts.printer.maintenance.clone(), done }
    }

    /// Publishes all counters; clears those that are no longer configured.
    pub(super) fn start(&mut self, totals: &Totals, scene: &mut Scene<'_>) {
        let mut done = self.done.get().clone();
        let is_known = |name: &String| self.counters.iter().any(|counter| counter.name == *name);
        for name in done.keys().filter(|name| !is_known(name)) {
            scene.publish_state(&scene.topics.maintenance(name), "");
        }
        done.retain(|name, _| is_known(name));
        for counter in &self.counters {
            done.entry(counter.name.clone()).or_insert_with(|| DoneAt::of(totals));
        }
        self.done.set(done);
        self.publish(totals, scene);
    }

    /// Follows a print that has ended: publishes all counters, and an event for what is due now.
    pub(super) fn advance(&self, before: &Totals, after: &Totals, scene: &mut Scene<'_>) {
        self.publish(after, scene);
        for counter in &self.counters {
            if self.is_due(counter, after) && !self.is_due(counter, before) {
                let payload = json!({
                    "event_type": "maintenance_due",
                    "name": counter.name,
                    "used": self.used(counter, after),
                    "due_after": counter.due_after,
                    "unit": counter.unit.as_str(),
                    "timestamp": timestamp::unix(scene.now.wall),
                });
                scene.publish(&scene.topics.maintenance_due, payload.to_string(), PRINT);
            }
        }
    }

    /// Begins a counter again.
    pub(super) fn reset(&mut self, name: &str, totals: &Totals, scene: &mut Scene<'_>) {
        let mut done = self.done.get().clone();
        done.insert(name.to_owned(), DoneAt::of(totals));
        self.done.set(done);
        self.publish(totals, scene);
    }

    fn publish(&self, totals: &Totals, scene: &mut Scene<'_>) {
        for counter in &self.counters {
            let payload = json!({
                "used": self.used(counter, totals),
                "due_after": counter.due_after,
                "unit": counter.unit.as_str(),
                "due": self.is_due(counter, totals),
            });
            scene.publish_state(&scene.topics.maintenance(&counter.name), payload.to_string());
        }
    }

    fn used(&self, counter: &Counter, totals: &Totals) -> f64 {
        let done = self.done.get().get(&counter.name).copied().unwrap_or_default();
        done.used(totals, counter.unit)
    }

    fn is_due(&self, counter: &Counter, totals: &Totals) -> bool {
        self.used(counter, totals) >= counter.due_after
    }
}
