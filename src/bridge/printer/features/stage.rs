//! A scene for the unit tests of features.

use serde_json::{Value, json};

use super::{Feature, Scene, present};
use crate::bridge::printer::snapshot::{Now, Snapshot};
use crate::octoprint::{Rest, RestOptions};
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

    /// Runs `play`. Returns topic and payload of what was published, below the printer's topic; an
    /// empty payload is null.
    pub(crate) fn run(&mut self, play: impl FnOnce(&mut Scene<'_>)) -> Vec<(String, Value)> {
        let mut scene = Scene::new(self.now, &self.snapshot, (&self.topics, 1), &self.rest);
        play(&mut scene);
        let said = |publication: crate::mqtt::Publication| {
            let topic = publication.topic.strip_prefix("octoprint2mqtt/mk3/").unwrap_or_default();
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
