//! The model as the JSON of OctoPrint's messages and REST answers (pure).

use serde_json::{Map, Value, json};

use super::{Model, PART_BYTES, PART_SECONDS, State, server_time};

impl Model {
    pub(super) fn completion(&self) -> Option<f64> {
        self.done.map(|done| (done / PART_SECONDS * 100.0).min(100.0))
    }

    pub(super) fn filepos(&self) -> Option<u64> {
        self.completion().map(|percent| (percent / 100.0 * PART_BYTES as f64) as u64)
    }

    pub(in crate::simulator) fn job(&self) -> Value {
        let file = &self.file;
        let some = file.is_some();
        json!({
            "file": {"name": file, "path": file, "display": file, "origin": some.then_some("local"),
                "size": some.then_some(PART_BYTES), "date": some.then_some(1_700_000_000)},
            "estimatedPrintTime": some.then_some(PART_SECONDS),
            "averagePrintTime": self.last_print_time,
            "lastPrintTime": self.last_print_time,
            "filament": if some { json!({"tool0": {"length": 1234.5, "volume": 2.97}}) }
                else { json!({"length": null, "volume": null}) },
            "user": some.then_some("simon"),
        })
    }

    pub(in crate::simulator) fn progress(&self) -> Value {
        let left = self.done.map(|done| (PART_SECONDS - done).max(0.0) as u64);
        let running = matches!(self.state, State::Printing | State::Paused);
        json!({
            "completion": self.completion(),
            "filepos": self.filepos(),
            "printTime": self.done.map(|done| done as u64),
            "printTimeLeft": left,
            "printTimeLeftOrigin": (running && left.is_some()).then_some("analysis"),
        })
    }

    /// The state object of `current` and `history`.
    pub(in crate::simulator) fn state_object(&self) -> Value {
        let is = |state| self.state == state;
        let connected = self.state.is_connected();
        json!({
            "text": self.state.text(),
            "flags": {"operational": connected, "printing": is(State::Printing), "cancelling": false,
                "pausing": false, "resuming": false, "finishing": false,
                "closedOrError": !connected, "error": false, "paused": is(State::Paused),
                "ready": is(State::Operational), "sdReady": connected},
            "error": self.error,
        })
    }

    /// The members that `current` and `history` share.
    pub(in crate::simulator) fn snapshot(&self) -> Map<String, Value> {
        let z = (self.layer > 0 && self.state != State::Operational)
            .then(|| (self.layer as f64 * 2.0).round() / 10.0);
        let snapshot = json!({
            "state": self.state_object(),
            "job": self.job(),
            "currentZ": z,
            "progress": self.progress(),
            "offsets": {},
            "resends": {"count": 0, "transmitted": self.transmitted, "ratio": 0},
            "serverTime": server_time(),
            "markings": self.markings,
        });
        snapshot.as_object().cloned().unwrap_or_default()
    }

    pub(in crate::simulator) fn temperatures(&self) -> Value {
        let heaters = self.heaters.iter().map(|(name, heater)| {
            let reading = json!({"actual": heater.actual, "target": heater.target, "offset": 0});
            (name.clone(), reading)
        });
        Value::Object(heaters.collect())
    }

    pub(in crate::simulator) fn profiles(&self) -> Value {
        json!({"profiles": {"_default": {
            "id": "_default", "name": "Simulated", "model": "Simulated Printer", "default": true,
            "current": true, "heatedBed": true, "heatedChamber": false,
            "extruder": {"count": self.extruders, "sharedNozzle": false, "nozzleDiameter": 0.4},
        }}})
    }
}
