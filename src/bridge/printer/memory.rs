//! The state of a printer's task that outlives it: over a restart of the task, or of the bridge.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::mpsc;

use super::discovery::PrinterDiscovery;
use super::features::Features;
use super::features::list::FEATURES;
use super::persisted::{JsonPayload, Persisted};
use super::power::PowerState;
use super::prints::{self, PrintFinding, Prints};
use super::snapshot::{Snapshot, StateChange};
use crate::bridge::fleet_report::FleetReporter;
use crate::bridge::watch::{Failures, Watch};
use crate::config;
use crate::heater::Heater;
use crate::metrics::Latency;
use crate::octoprint::{Message, MessageKind};
use crate::receipt::Receipt;
use crate::store::{Known, Store};

/// The state that outlives a printer's task.
pub struct Memory {
    /// The rate factor that was set by a command; `None` while the rate follows the latency.
    pub rate: Persisted<Option<u32>>,
    /// The payload of `B/P/last_event`, which the broker may have lost.
    pub last_event: Persisted<Option<JsonPayload>>,
    /// The heaters that have a topic, while discovery is off; otherwise discovery persists them.
    pub heaters: Persisted<Vec<Heater>>,
    /// Discovery; `None` if it is off.
    pub discovery: Option<PrinterDiscovery>,
    /// The prints.
    pub prints: Prints,
    /// Results of inquiries about prints.
    pub findings: mpsc::Receiver<Box<PrintFinding>>,
    /// What the printer offers beyond its state and its prints.
    pub features: Features,
    /// Whether the printer's power is on.
    pub power: PowerState,
    /// Metric of the publish latency.
    pub latency: Latency,
    /// Messages that were received and not processed when a task of the printer failed.
    pub unprocessed: VecDeque<(Message, Receipt)>,
    /// Reports failures of what the printer's task spawns.
    pub watch: Watch,
    /// Receives the reports.
    pub failures: Failures,
}

impl Memory {
    /// Restores the persisted state at the start of the bridge.
    pub fn recall(
        config: &config::Printer,
        known: &Known,
        store: &Store,
        discovery: Option<PrinterDiscovery>,
        latency: Latency,
        fleet: FleetReporter,
    ) -> Self {
        let (watch, failures) = Watch::new();
        let (tell, findings) = mpsc::channel(prints::MAX_FINDINGS);
        let power = PowerState::unknown();
        let printer = config.id.as_str();
        Self {
            rate: Persisted::restore("rate_factor", printer, known, store.clone()),
            last_event: Persisted::restore("last_event", printer, known, store.clone()),
            heaters: Persisted::restore("heaters", printer, known, store.clone()),
            discovery,
            prints: Prints::new(printer, known, store.clone(), tell, watch.clone()),
            findings,
            features: Features::new(
                config,
                known,
                store,
                watch.clone(),
                (fleet, power.clone()),
                FEATURES,
            ),
            power,
            latency,
            unprocessed: VecDeque::new(),
            watch,
            failures,
        }
    }

    /// Returns the heaters that have a topic from before the start.
    pub fn known_heaters(&self) -> Option<Vec<Heater>> {
        match &self.discovery {
            Some(discovery) => discovery.known_heaters().cloned(),
            None => Some(self.heaters.get().clone()),
        }
    }

    /// Stores the heaters of `snapshot`. Returns the topics to clear now.
    pub fn follow_heaters(&mut self, snapshot: &mut Snapshot, now: Instant) -> Vec<StateChange> {
        let cleared = snapshot.take_cleared();
        let Some(discovery) = &mut self.discovery else {
            if !snapshot.known_heaters().eq(self.heaters.get()) {
                self.heaters.set(snapshot.known_heaters().cloned().collect());
            }
            return cleared;
        };
        discovery.follow_heaters(snapshot, cleared, now);
        Vec::new()
    }

    /// Returns the state for the next task: what a restart would restore, and unprocessed messages.
    pub fn restart(self) -> Self {
        let (watch, failures) = Watch::new();
        let (tell, findings) = mpsc::channel(prints::MAX_FINDINGS);
        let prints = self.prints.restarted(tell, watch.clone());
        let features = self.features.restarted(watch.clone());
        let discovery = self.discovery.map(PrinterDiscovery::restart);
        let mut unprocessed = self.unprocessed;
        // The state of an earlier connection is outdated.
        unprocessed.retain(|(message, _)| {
            use MessageKind::{Connected, Current, History};
            !matches!(message.kind(), Connected | Current | History)
        });
        Self { prints, features, discovery, findings, unprocessed, watch, failures, ..self }
    }
}
