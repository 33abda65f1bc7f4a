//! The simulated printer and its job (pure except for the server's clock).

mod view;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

/// Printing time of the part in seconds, without heating.
pub(super) const PART_SECONDS: f64 = 80.0;
pub(super) const PART_BYTES: u64 = 1_234_567;
pub(super) const LAYERS: f64 = 40.0;
/// Rate of heating and cooling, in °C per second.
const HEATING: f64 = 8.0;
const ROOM: f64 = 21.3;
/// The print loop: the progress at which it pauses, the pause and the rest between prints in seconds.
const LOOP_PAUSE_AT: f64 = 0.5;
const LOOP_PAUSE: f64 = 8.0;
const LOOP_REST: f64 = 15.0;
/// Seconds before the first print, in which clients can connect.
const LOOP_BEGIN: f64 = 3.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Offline,
    OfflineAfterError,
    Operational,
    Printing,
    Paused,
}

impl State {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Offline => "Offline",
            Self::OfflineAfterError => "Offline after error",
            Self::Operational => "Operational",
            Self::Printing => "Printing",
            Self::Paused => "Paused",
        }
    }

    pub(super) fn is_connected(self) -> bool {
        !matches!(self, Self::Offline | Self::OfflineAfterError)
    }
}

#[derive(Debug, Clone, Copy)]
struct SimulatedHeater {
    actual: f64,
    target: f64,
}

/// The simulated printer.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) state: State,
    error: String,
    heaters: BTreeMap<String, SimulatedHeater>,
    extruders: usize,
    pub(super) file: Option<String>,
    /// Seconds of printing done; `None` if nothing was printed since the selection.
    done: Option<f64>,
    started: f64,
    layer: i64,
    /// Seconds in this state.
    resting: f64,
    paused_once: bool,
    print_loop: bool,
    markings: Vec<Value>,
    transmitted: u64,
    last_print_time: Option<f64>,
    pub(super) temps: Vec<Value>,
    events: Vec<(String, Value)>,
    /// Number of changes that `current` shows.
    pub(super) changes: u64,
}

/// The server's time, in Unix seconds.
pub(super) fn server_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The state does not allow the command.
#[derive(Clone, Copy)]
pub(super) struct Conflict;

impl Model {
    /// Sets the profile's extruders. The firmware still reports those that it had before.
    pub(super) fn set_extruders(&mut self, extruders: usize) {
        self.extruders = extruders;
        for index in 0..extruders {
            let cold = SimulatedHeater { actual: ROOM, target: 0.0 };
            self.heaters.entry(format!("tool{index}")).or_insert(cold);
        }
    }

    pub(super) fn new(extruders: usize, print_loop: bool) -> Self {
        let cold = SimulatedHeater { actual: ROOM, target: 0.0 };
        let tools = (0..extruders).map(|index| (format!("tool{index}"), cold));
        let mut model = Self {
            state: State::Operational,
            error: String::new(),
            heaters: tools.chain([("bed".to_owned(), cold)]).collect(),
            extruders,
            file: None,
            done: None,
            started: 0.0,
            layer: 0,
            resting: 0.0,
            paused_once: false,
            print_loop,
            markings: Vec::new(),
            transmitted: 8,
            last_print_time: None,
            temps: Vec::new(),
            events: Vec::new(),
            changes: 0,
        };
        model.mark("connected", "Connected");
        model.events.clear();
        model
    }

    pub(super) fn take_events(&mut self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.events)
    }

    fn fire(&mut self, kind: &str, payload: Value) {
        self.events.push((kind.to_owned(), payload));
        self.changes += 1;
    }

    fn mark(&mut self, kind: &str, label: &str) {
        let time = server_time();
        self.markings.push(json!({"type": kind, "label": label, "time": time}));
        self.fire("ChartMarked", json!({"type": kind, "label": label}));
    }

    /// Sends the event of a short-lived state, as OctoPrint's comm layer does.
    fn pass(&mut self, id: &str, text: &str) {
        self.fire("PrinterStateChanged", json!({"state_id": id, "state_string": text}));
    }

    fn job_payload(&self) -> Map<String, Value> {
        let name = self.file.clone().unwrap_or_default();
        let payload = json!({
            "name": name, "path": name, "origin": "local", "size": PART_BYTES,
            "owner": "simon", "user": "simon",
        });
        payload.as_object().cloned().unwrap_or_default()
    }

    fn fire_job(&mut self, kind: &str, more: Value) {
        let mut payload = self.job_payload();
        if let Value::Object(more) = more {
            payload.extend(more);
        }
        self.fire(kind, Value::Object(payload));
    }

    /// Simulates this many seconds.
    pub(super) fn step(&mut self, seconds: f64) {
        self.resting += seconds;
        if !self.state.is_connected() {
            return;
        }
        self.heat(seconds);
        if self.state == State::Printing {
            self.print(seconds);
        }
        if self.print_loop {
            self.run_loop();
        }
    }

    fn heat(&mut self, seconds: f64) {
        let mut moved = false;
        for heater in self.heaters.values_mut() {
            let goal = heater.target.max(ROOM);
            let step = (HEATING * seconds).min((goal - heater.actual).abs());
            heater.actual += step.copysign(goal - heater.actual);
            moved |= step > 0.0;
        }
        self.changes += u64::from(moved);
        let mut entry = Map::new();
        entry.insert("time".to_owned(), json!(server_time() as u64));
        for (name, heater) in &self.heaters {
            let actual = (heater.actual * 100.0).round() / 100.0;
            entry.insert(name.clone(), json!({"actual": actual, "target": heater.target}));
        }
        entry.insert("chamber".to_owned(), json!({"actual": null, "target": null}));
        self.temps.push(Value::Object(entry));
        let surplus = self.temps.len().saturating_sub(300);
        self.temps.drain(..surplus);
    }

    fn print(&mut self, seconds: f64) {
        self.transmitted += 1;
        self.changes += 1;
        let warm = self.heaters.values().all(|heater| heater.actual >= heater.target - 1.0);
        if !warm {
            return;
        }
        let done = self.done.unwrap_or(0.0) + seconds;
        self.done = Some(done);
        let layer = (done / PART_SECONDS * LAYERS) as i64 + 1;
        if layer != self.layer {
            let z = |layer: i64| (layer as f64 * 2.0).round() / 10.0;
            let old = (self.layer > 0).then(|| z(self.layer));
            self.fire("ZChange", json!({"new": z(layer), "old": old}));
            self.layer = layer;
        }
        if done >= PART_SECONDS {
            self.finish();
        }
    }

    fn finish(&mut self) {
        self.pass("FINISHING", "Finishing");
        let time = server_time() - self.started;
        self.done = Some(PART_SECONDS);
        self.last_print_time = Some(time);
        self.set_targets(&[("tool0", 0.0), ("bed", 0.0)]);
        self.mark("done", "Done");
        self.fire_job("PrintDone", json!({"time": time}));
        self.enter(State::Operational);
        self.fire_statistics();
    }

    fn fire_statistics(&mut self) {
        let path = self.file.clone();
        self.fire("MetadataStatisticsUpdated", json!({"storage": "local", "path": path}));
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.resting = 0.0;
        let id = match state {
            State::Offline | State::OfflineAfterError => "OFFLINE",
            State::Operational => "OPERATIONAL",
            State::Printing => "PRINTING",
            State::Paused => "PAUSED",
        };
        self.pass(id, if id == "OFFLINE" { "Offline" } else { state.text() });
    }

    /// Starts, pauses and resumes prints as a user would; none of that can be refused here.
    fn run_loop(&mut self) {
        let rest = if self.done.is_none() { LOOP_BEGIN } else { LOOP_REST };
        let half = self.done >= Some(PART_SECONDS * LOOP_PAUSE_AT);
        let _ = match self.state {
            State::Operational if self.resting >= rest => {
                self.select("calibration_cube.gcode").and_then(|()| self.start())
            }
            State::Printing if half && !self.paused_once => self.pause(),
            State::Paused if self.resting >= LOOP_PAUSE => self.resume(),
            _ => Ok(()),
        };
    }

    pub(super) fn set_targets(&mut self, targets: &[(&str, f64)]) {
        for (name, target) in targets {
            if let Some(heater) = self.heaters.get_mut(*name) {
                heater.target = *target;
                self.changes += 1;
            }
        }
    }

    pub(super) fn select(&mut self, file: &str) -> Result<(), Conflict> {
        if self.state != State::Operational {
            return Err(Conflict);
        }
        self.file = Some(file.to_owned());
        self.done = None;
        self.fire_job("FileSelected", json!({"size": null}));
        Ok(())
    }

    pub(super) fn start(&mut self) -> Result<(), Conflict> {
        if self.state != State::Operational {
            return Err(Conflict);
        }
        if self.file.is_none() {
            // OctoPrint accepts this, too, and does nothing.
            return Ok(());
        }
        self.done = Some(0.0);
        self.layer = 0;
        self.started = server_time();
        self.paused_once = false;
        self.set_targets(&[("tool0", 210.0), ("bed", 60.0)]);
        self.pass("STARTING", "Starting");
        self.fire_job("PrintStarted", json!({}));
        self.mark("print", "Start");
        self.enter(State::Printing);
        self.fire("Home", Value::Null);
        Ok(())
    }

    pub(super) fn pause(&mut self) -> Result<(), Conflict> {
        match self.state {
            State::Paused => return Ok(()),
            State::Printing => {}
            _ => return Err(Conflict),
        }
        self.paused_once = true;
        self.pass("PAUSING", "Pausing");
        let progress = self.completion().unwrap_or(0.0) as i64;
        self.fire_job("PrintPaused", json!({"progress": progress, "fileposition": self.filepos()}));
        self.mark("pause", "Pause");
        self.enter(State::Paused);
        Ok(())
    }

    pub(super) fn resume(&mut self) -> Result<(), Conflict> {
        match self.state {
            State::Printing => return Ok(()),
            State::Paused => {}
            _ => return Err(Conflict),
        }
        self.pass("RESUMING", "Resuming");
        self.fire_job("PrintResumed", json!({}));
        self.mark("resume", "Resume");
        self.enter(State::Printing);
        Ok(())
    }

    pub(super) fn restart(&mut self) -> Result<(), Conflict> {
        if self.state != State::Paused {
            return Err(Conflict);
        }
        self.state = State::Operational;
        self.start()
    }

    pub(super) fn cancel(&mut self) -> Result<(), Conflict> {
        if !matches!(self.state, State::Printing | State::Paused) {
            return Err(Conflict);
        }
        let time = json!({"time": server_time() - self.started, "reason": "cancelled"});
        self.fire_job("PrintCancelling", json!({}));
        self.pass("CANCELLING", "Cancelling");
        self.fire_job("PrintCancelled", json!({"time": time["time"]}));
        self.mark("cancel", "Cancel");
        self.fire_statistics();
        self.fire_job("PrintFailed", time);
        self.done = None;
        self.enter(State::Operational);
        Ok(())
    }

    pub(super) fn disconnect(&mut self, error: Option<&str>) {
        if !self.state.is_connected() {
            return;
        }
        let printing = self.state == State::Printing;
        self.mark("disconnected", "Disconnected");
        self.fire("Disconnected", Value::Null);
        self.enter(if error.is_some() { State::OfflineAfterError } else { State::Offline });
        if printing {
            let time = server_time() - self.started;
            self.fire_job("PrintFailed", json!({"time": time, "reason": "error", "error": error}));
        }
        self.error = error.unwrap_or_default().to_owned();
        (self.file, self.done) = (None, None);
        self.heaters.values_mut().for_each(|heater| heater.target = 0.0);
        self.temps.push(json!({"time": server_time() as u64}));
    }

    pub(super) fn connect(&mut self) {
        if self.state.is_connected() {
            return;
        }
        self.error.clear();
        self.fire("Connecting", Value::Null);
        self.mark("connected", "Connected");
        self.fire("Connected", json!({"port": "VIRTUAL", "baudrate": 115_200}));
        self.enter(State::Operational);
    }
}
