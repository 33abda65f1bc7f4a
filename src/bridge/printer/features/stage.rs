//! A scene for the unit tests of features.

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Background, Feature, FeatureFinding, FeatureParts, Scene, present};
use crate::bridge::fleet_report::FleetReporter;
use crate::bridge::printer::power::PowerState;
use crate::bridge::printer::snapshot::{Now, Snapshot};
use crate::bridge::watch::Watch;
use crate::config;
use crate::octoprint::{Rest, RestOptions};
use crate::store::{Known, Store};
use crate::topics::PrinterTopics;

/// A printer without OctoPrint: any REST call fails.
pub(crate) struct Stage {
    /// The time, which tests may change.
    pub(crate) now: Now,
    /// The printer's state.
    pub(crate) snapshot: Snapshot,
    topics: PrinterTopics,
    rest: Rest,
}

impl Stage {
    /// An idle printer.
    pub(crate) fn new() -> Self {
        Self {
            now: present(),
            snapshot: Snapshot::new(),
            topics: PrinterTopics::new("octoprint2mqtt", "mk3"),
            rest: Rest::new(RestOptions::unreachable()).unwrap(),
        }
    }

    /// Runs `play`. Returns topic and payload of what was published, the topic below that of the
    /// printer or whole; an empty payload, or one that is no JSON, is null.
    pub(crate) fn run(&mut self, play: impl FnOnce(&mut Scene<'_>)) -> Vec<(String, Value)> {
        let mut scene = Scene::new(self.now, &self.snapshot, (&self.topics, 1), &self.rest);
        play(&mut scene);
        let said = |publication: crate::mqtt::Publication| {
            let topic =
                publication.topic.strip_prefix("octoprint2mqtt/mk3/").unwrap_or(&publication.topic);
            let payload = serde_json::from_slice(&publication.payload).unwrap_or_default();
            (topic.to_owned(), payload)
        };
        scene.into_publications().into_iter().map(said).collect()
    }

    /// Passes an event to `feature`.
    pub(crate) fn event(
        &mut self,
        feature: &mut dyn Feature,
        kind: &str,
        payload: &Value,
    ) -> Vec<(String, Value)> {
        let text = json!({"type": kind, "payload": payload}).to_string();
        self.run(|scene| feature.event(&serde_json::from_str(&text).unwrap(), scene))
    }
}

/// The printer `mk3`, with these lines of its table.
pub(crate) fn printer(lines: &str) -> config::Printer {
    let text =
        format!("[printers.mk3]\nurl = \"http://127.0.0.1:1\"\napi_key = \"KEY\"\n{lines}\n");
    std::sync::Arc::unwrap_or_clone(config::from_toml(&text).unwrap().printers.remove(0))
}

/// What a feature is made of; what its work in the background finds is dropped.
pub(crate) fn parts<'a>(
    printer: &'a config::Printer,
    known: &'a Known,
    store: &'a Store,
) -> FeatureParts<'a> {
    parts_with(printer, known, store).0
}

/// The same with a receiver of what work in the background finds.
pub(crate) fn parts_with<'a>(
    printer: &'a config::Printer,
    known: &'a Known,
    store: &'a Store,
) -> (FeatureParts<'a>, mpsc::Receiver<Box<FeatureFinding>>) {
    let (background, found) = Background::new(Watch::new().0);
    let fleet = FleetReporter::new(0, mpsc::unbounded_channel().0);
    let power = PowerState::unknown();
    (FeatureParts { printer, known, store, background, fleet, power }, found)
}
