//! What one printer's task knows from before it began.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::mpsc;

use super::discovery::home_assistant::HomeAssistant;
use super::prints::{self, PrintFinding, Prints};
use super::remembered::{Payload, Remembered};
use super::snapshot::{Snapshot, StateChange};
use crate::bridge::hub::watch::{Failures, Watch};
use crate::heater::Heater;
use crate::metrics::Latency;
use crate::octoprint::{Message, MessageKind};
use crate::receipt::Receipt;
use crate::store::{Known, Store};

/// What one printer's task knows from before the start, and where it keeps what it learns.
pub struct Memory {
    /// The factor that was set by hand; `None` while the rate follows the latency.
    pub rate: Remembered<Option<u32>>,
    /// The payload of `B/P/last_event`: the broker may have forgotten it.
    pub last_event: Remembered<Option<Payload>>,
    /// Which heaters have a topic, while discovery is off: Home Assistant's part knows them, too.
    pub heaters: Remembered<Vec<Heater>>,
    /// Discovery; `None` where it is off.
    pub home_assistant: Option<HomeAssistant>,
    /// The prints.
    pub prints: Prints,
    /// What is found out about them.
    pub findings: mpsc::Receiver<Box<PrintFinding>>,
    /// Where publish latencies are noted.
    pub latency: Latency,
    /// Messages that were received before tasks of the printer failed, and not looked at.
    pub left: VecDeque<(Message, Receipt)>,
    /// Watches what the printer's task spawns.
    pub watch: Watch,
    /// Tells what of that has failed.
    pub failures: Failures,
}

impl Memory {
    /// What a printer goes on from at the start of the bridge.
    pub fn recall(
        printer: &str,
        known: &Known,
        store: &Store,
        home_assistant: Option<HomeAssistant>,
        latency: Latency,
    ) -> Self {
        let (watch, failures) = Watch::new();
        let (tell, findings) = mpsc::channel(prints::MAX_FINDINGS);
        let prints = Prints::new(printer, known, store.clone(), tell, watch.clone());
        let rate = Remembered::restore("rate_factor", printer, known, store.clone());
        let last_event = Remembered::restore("last_event", printer, known, store.clone());
        let heaters = Remembered::restore("heaters", printer, known, store.clone());
        let left = VecDeque::new();
        Self {
            rate,
            last_event,
            heaters,
            home_assistant,
            prints,
            findings,
            latency,
            left,
            watch,
            failures,
        }
    }

    /// The heaters that have a topic from before.
    pub fn known_heaters(&self) -> Option<Vec<Heater>> {
        match &self.home_assistant {
            Some(home_assistant) => home_assistant.known_heaters().cloned(),
            None => Some(self.heaters.get().clone()),
        }
    }

    /// Takes in the heaters of `snapshot`. Yields which topics are to be cleared now.
    pub fn follow_heaters(&mut self, snapshot: &mut Snapshot, now: Instant) -> Vec<StateChange> {
        let cleared = snapshot.take_cleared();
        let Some(home_assistant) = &mut self.home_assistant else {
            if !snapshot.known_heaters().eq(self.heaters.get()) {
                self.heaters.set(snapshot.known_heaters().cloned().collect());
            }
            return cleared;
        };
        home_assistant.follow_heaters(snapshot, cleared, now);
        Vec::new()
    }

    /// What the next task goes on from when this one failed: what a restart of the bridge would
    /// find, and the messages that were received and not looked at.
    pub fn again(self) -> Self {
        let (watch, failures) = Watch::new();
        let (tell, findings) = mpsc::channel(prints::MAX_FINDINGS);
        let prints = self.prints.restarted(tell, watch.clone());
        let home_assistant = self.home_assistant.map(HomeAssistant::again);
        let mut left = self.left;
        // What only shows the state of an earlier connection says nothing any more.
        left.retain(|(message, _)| {
            use MessageKind::{Connected, Current, History};
            !matches!(message.kind(), Connected | Current | History)
        });
        Self { prints, home_assistant, findings, left, watch, failures, ..self }
    }
}
