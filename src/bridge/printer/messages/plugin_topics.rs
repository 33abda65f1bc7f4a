//! The topics of the OctoPrint-MQTT plugin, for users who migrate from it (pure).
//!
//! Events, temperatures, progress and the plugin's own `mqtt` topic, below a configurable prefix,
//! so that what was built on the plugin continues to work.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::bridge::printer::snapshot::EventFields;
use crate::bridge::printer::snapshot::json::member;
use crate::octoprint::EventKind;
use crate::timestamp;
use crate::topics::{Topic, segment};

/// Makes the plugin's publications of one printer.
#[derive(Debug)]
pub struct OctoPrintMqtt {
    /// Ends with a slash.
    prefix: String,
    temperatures: BTreeMap<String, (Value, Value)>,
    progress: Option<(Value, i64)>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PluginUpdate {
    temps: Vec<BTreeMap<String, Value>>,
    job: PluginJob,
    progress: PluginProgress,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PluginJob {
    file: PluginFile,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PluginFile {
    origin: Value,
    path: Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PluginProgress {
    completion: Option<f64>,
}

impl OctoPrintMqtt {
    /// Publishes below `prefix`, which ends with a slash.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), temperatures: BTreeMap::new(), progress: None }
    }

    fn topic(&self, rest: &str) -> Topic {
        Topic::from(format!("{}{rest}", self.prefix))
    }

    /// Returns the topic of an event; its payload is that of `B/P/event/<Type>`.
    pub fn event_topic(&self, kind: &str) -> Topic {
        self.topic(&format!("event/{}", segment(kind)))
    }

    /// Returns the retained `mqtt` topic, and its payload: whether OctoPrint is connected.
    pub fn connection(&self, online: bool) -> (Topic, Bytes) {
        let text = if online { "connected" } else { "disconnected" };
        (self.topic("mqtt"), Bytes::from_static(text.as_bytes()))
    }

    /// Returns the topics that a `current` or `history` changes; clears those of former heaters.
    pub fn state(
        &mut self,
        payload: &str,
        at: SystemTime,
        is_heater: impl Fn(&str) -> bool,
    ) -> Vec<(Topic, Bytes)> {
        // A malformed payload is logged where the bridge's own state is made.
        let update: PluginUpdate = serde_json::from_str(payload).unwrap_or_default();
        let mut changes = Vec::new();
        for (heater, value) in update.temps.last().into_iter().flatten() {
            let reading = (value["actual"].clone(), value["target"].clone());
            let ignored = !is_heater(heater) || !(reading.0.is_number() || reading.1.is_number());
            if ignored || self.temperatures.get(heater) == Some(&reading) {
                continue;
            }
            let payload = json!({"_timestamp": timestamp::unix(at), "actual": reading.0, "target": reading.1});
            changes.push((
                self.topic(&format!("temperature/{}", segment(heater))),
                Bytes::from(payload.to_string()),
            ));
            self.temperatures.insert(heater.clone(), reading);
        }
        let gone = self.temperatures.keys().filter(|heater| !is_heater(heater));
        for heater in gone.cloned().collect::<Vec<_>>() {
            changes.push((self.topic(&format!("temperature/{}", segment(&heater))), Bytes::new()));
            self.temperatures.remove(&heater);
        }
        changes.extend(self.printing(update, at));
        changes
    }

    /// Returns the progress that an event changes: the plugin starts at 0, and ends at 100.
    pub fn progress_of(
        &mut self,
        kind: &EventKind,
        fields: &EventFields<'_>,
        at: SystemTime,
    ) -> Option<(Topic, Bytes)> {
        let percent = match kind {
            EventKind::PrintStarted | EventKind::FileSelected => 0,
            EventKind::PrintDone => 100,
            _ => return None,
        };
        let file = PluginFile {
            origin: member(fields.origin).unwrap_or_default(),
            path: member(fields.path)?,
        };
        if *kind == EventKind::PrintStarted {
            // A new print publishes 0 again.
            self.progress = None;
        }
        self.progress(file, percent, at)
    }

    /// Returns the progress in whole percents, like the plugin.
    fn printing(&mut self, update: PluginUpdate, at: SystemTime) -> Option<(Topic, Bytes)> {
        let percent = update.progress.completion?.clamp(0.0, 100.0).floor() as i64;
        self.progress(update.job.file, percent, at)
    }

    fn progress(
        &mut self,
        file: PluginFile,
        percent: i64,
        at: SystemTime,
    ) -> Option<(Topic, Bytes)> {
        let PluginFile { origin, path } = file;
        if self.progress.as_ref() == Some(&(path.clone(), percent)) {
            return None;
        }
        let payload = json!({
            "_timestamp": timestamp::unix(at), "location": origin, "path": path, "progress": percent,
        });
        self.progress = Some((path, percent));
        Some((self.topic("progress/printing"), Bytes::from(payload.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::octoprint::Event;

    #[test]
    fn topics_are_those_of_the_plugin_and_only_changes_are_published() {
        let mut plugin = OctoPrintMqtt::new("octoPrint/");
        let at = SystemTime::UNIX_EPOCH;
        let current = json!({
            "temps": [{"time": 1, "tool0": {"actual": 21.3, "target": 0.0},
                       "chamber": {"actual": null, "target": null}}],
            "job": {"file": {"origin": "local", "path": "d/a.gcode"}},
            "progress": {"completion": 41.9}})
        .to_string();
        let changes: Vec<(String, Value)> = plugin
            .state(&current, at, |heater| heater == "tool0")
            .into_iter()
            .map(|(topic, payload)| (topic.to_string(), serde_json::from_slice(&payload).unwrap()))
            .collect();
        assert_eq!(
            changes,
            [
                (
                    "octoPrint/temperature/tool0".to_owned(),
                    json!({"_timestamp": 0, "actual": 21.3, "target": 0.0})
                ),
                (
                    "octoPrint/progress/printing".to_owned(),
                    json!({"_timestamp": 0, "location": "local", "path": "d/a.gcode", "progress": 41})
                ),
            ]
        );
        assert_eq!(plugin.state(&current, at, |heater| heater == "tool0"), []);
        let changes = plugin.state("null", at, |_| false);
        assert_eq!(changes, [("octoPrint/temperature/tool0".into(), Bytes::new())]);
        assert_eq!(&*plugin.event_topic("PrintDone"), "octoPrint/event/PrintDone");
        assert_eq!(&plugin.connection(true).1[..], b"connected");
    }

    #[test]
    fn progress_moves_with_whole_percents_and_with_the_ends_of_a_print() {
        let mut plugin = OctoPrintMqtt::new("octoPrint/");
        let at = SystemTime::UNIX_EPOCH;
        let mut published = Vec::new();
        let mut note = |changes: Vec<(Topic, Bytes)>| {
            for (topic, payload) in changes {
                assert_eq!(&*topic, "octoPrint/progress/printing");
                let payload: Value = serde_json::from_slice(&payload).unwrap();
                published.push(payload["progress"].as_i64().unwrap());
            }
        };
        let event = |plugin: &mut OctoPrintMqtt, kind: &str| {
            let text = json!({"type": kind, "payload": {"origin": "local", "path": "a.gcode"}});
            let text = text.to_string();
            let event: Event<'_> = serde_json::from_str(&text).unwrap();
            let fields = EventFields::read(&event.kind, event.payload);
            plugin.progress_of(&event.kind, &fields, at).into_iter().collect()
        };
        note(event(&mut plugin, "PrintStarted"));
        for tenths in 0..31 {
            let file = json!({"origin": "local", "path": "a.gcode"});
            let completion = 0.2 * f64::from(tenths);
            let current = json!({"job": {"file": file}, "progress": {"completion": completion}});
            note(plugin.state(&current.to_string(), at, |_| true));
        }
        note(event(&mut plugin, "PrintDone"));
        note(event(&mut plugin, "PrintStarted"));
        assert_eq!(published, [0, 1, 2, 3, 4, 5, 6, 100, 0]);
    }
}
