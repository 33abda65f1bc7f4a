//! What really happens to the printer and its prints, and what OctoPrint reports of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Where the server's clock stands at first.
const EPOCH: f64 = 1_700_000_000.0;
/// Two pushes of the state are at least so far apart.
const INTERVAL: Duration = Duration::from_millis(500);
/// Age at which OctoPrint drops entries of its log, in seconds.
const CUTOFF: f64 = 1800.0;

/// The network between OctoPrint and the bridge.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    #[default]
    Up,
    /// Every connection ends at once.
    Broken,
    /// Nothing comes through.
    Frozen,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Offline,
    #[default]
    Operational,
    Printing,
    Paused,
}

/// A print as it really is.
#[derive(Debug, Clone)]
pub struct Print {
    pub path: &'static str,
    /// How it ended, in the topic's words, and when, by the server's clock at that time.
    pub end: Option<(&'static str, f64)>,
    /// The bridge received a message that shows it running.
    pub seen: bool,
    /// The bridge received the event of its end.
    pub heard: bool,
    /// The ends that were published of it.
    pub published: Vec<String>,
}

struct Connection {
    number: usize,
    out: mpsc::UnboundedSender<Vec<u8>>,
    /// Logged in, so that it carries something.
    subscribed: bool,
    wants_state: bool,
    throttle: u32,
}

/// Which fields the next state lacks.
#[derive(Debug, Default, Clone, Copy)]
pub struct Without {
    pub log: bool,
    pub time: bool,
    pub state: bool,
}

pub struct World {
    pub line: Line,
    pub rest: bool,
    pub state: State,
    pub prints: Vec<Print>,
    pub without: Without,
    /// The last state that was sent had a log.
    pub log_known: bool,
    /// Pushes are at least so many intervals apart, whatever the client wants.
    pub slow: u32,
    /// How many connections there were, and how many of them have carried a `history`.
    pub opened: usize,
    pub proven: usize,
    /// How often a state was sent.
    pub pushes: u64,
    start: Instant,
    clock: f64,
    error: &'static str,
    file: Option<&'static str>,
    markings: Vec<(&'static str, f64)>,
    /// By path: successes, failures, the last one.
    histories: BTreeMap<&'static str, (u64, u64, f64, bool)>,
    connection: Option<Connection>,
    /// Messages to push, and when.
    held: Option<Value>,
    turn: Instant,
    built: Instant,
    story: Vec<String>,
}

impl Default for World {
    fn default() -> Self {
        let start = Instant::now();
        Self {
            line: Line::Up,
            rest: true,
            state: State::Operational,
            prints: Vec::new(),
            without: Without::default(),
            log_known: false,
            slow: 1,
            opened: 0,
            proven: 0,
            pushes: 0,
            start,
            clock: EPOCH,
            error: "",
            file: None,
            markings: vec![("connected", EPOCH - 1000.0)],
            histories: BTreeMap::new(),
            connection: None,
            held: None,
            turn: start,
            built: start,
            story: Vec::new(),
        }
    }
}

impl World {
    pub fn tell(&mut self, what: &str) {
        let at = self.start.elapsed().as_secs_f64();
        self.story.push(format!("{at:.2} {what:.400}"));
    }

    /// What happened, a line each.
    pub fn story(&self) -> String {
        self.story.join("\n")
    }

    pub fn server_time(&self) -> f64 {
        self.clock + self.start.elapsed().as_secs_f64()
    }

    /// Whether a client is logged in and hears what is said.
    pub fn is_heard(&self) -> bool {
        self.line == Line::Up && self.connection.as_ref().is_some_and(|one| one.subscribed)
    }

    /// Whether there is any connection.
    pub fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    pub fn is_printing(&self) -> bool {
        matches!(self.state, State::Printing | State::Paused)
    }

    pub(super) fn opened(&mut self, out: mpsc::UnboundedSender<Vec<u8>>) -> usize {
        self.opened += 1;
        self.tell("a connection");
        let (number, subscribed, wants_state) = (self.opened, false, true);
        self.connection = Some(Connection { number, out, subscribed, wants_state, throttle: 1 });
        self.opened
    }

    pub(super) fn closed(&mut self, number: usize) {
        if self.connection.as_ref().is_some_and(|one| one.number == number) {
            self.tell("the client closed it");
            self.connection = None;
        }
    }

    /// What the client says on a connection.
    pub(super) fn heard(&mut self, number: usize, text: &str) {
        self.tell(text);
        if self.line != Line::Up {
            return;
        }
        let Some(connection) = self.connection.as_mut().filter(|one| one.number == number) else {
            return;
        };
        let mut greets = false;
        if text.contains("\\\"auth\\\"") {
            greets = !std::mem::replace(&mut connection.subscribed, true);
        } else if text.contains("\\\"subscribe\\\"") {
            let wants = !text.contains("\\\"state\\\":false");
            let changed = std::mem::replace(&mut connection.wants_state, wants) != wants;
            greets = changed && wants && connection.subscribed;
        } else if let Some(at) = text.find("\\\"throttle\\\":") {
            let digits: String =
                text[at + 13..].trim_start().chars().take_while(char::is_ascii_digit).collect();
            connection.throttle = digits.parse().unwrap_or(1).max(1);
        }
        if greets {
            self.greet();
        }
    }

    /// The first `history` of a connection.
    fn greet(&mut self) {
        if self.without.log || self.without.state {
            // Without log or state the next print of a file looks like the one before.
            self.prints.iter_mut().for_each(|print| print.seen = false);
        }
        let has_state = !self.without.state;
        self.held = Some(self.built_now());
        self.push_state("history");
        self.proven = self.opened;
        let now_runs = self.prints.last_mut().filter(|print| print.end.is_none());
        if let Some(print) = now_runs.filter(|_| has_state) {
            print.seen = true;
        }
    }

    fn built_now(&mut self) -> Value {
        self.built = Instant::now();
        let text = match self.state {
            State::Offline if self.error.is_empty() => "Offline",
            State::Offline => "Offline after error",
            State::Operational => "Operational",
            State::Printing => "Printing",
            State::Paused => "Paused",
        };
        let origin = self.file.map(|_| "local");
        let markings: Vec<Value> =
            self.markings.iter().map(|(kind, at)| json!({"type": kind, "time": at})).collect();
        json!({
            "state": {"text": text, "flags": {}, "error": self.error},
            "job": {"file": {"name": self.file, "path": self.file, "origin": origin}},
            "markings": markings,
            "progress": {"completion": 12.5, "printTime": 5},
            "temps": [{"time": 1, "tool0": {"actual": 21.3, "target": 0}}],
        })
    }

    /// OctoPrint builds its state; it goes out when it is its turn, unless a newer one is built.
    pub fn build(&mut self) {
        self.held = Some(self.built_now());
    }

    fn push_state(&mut self, kind: &str) {
        let unwanted = self.connection.as_ref().is_some_and(|one| !one.wants_state);
        if kind == "current" && unwanted {
            return;
        }
        let Some(mut payload) = self.held.take() else { return };
        let without = std::mem::take(&mut self.without);
        self.log_known = !without.log;
        if without.log {
            payload["markings"] = Value::Null;
        }
        // Where there is no log, times have to do.
        if !without.time || without.log {
            payload["serverTime"] = json!(self.server_time());
        }
        if without.state {
            payload["state"] = Value::Null;
        }
        let factor = self.connection.as_ref().map_or(1, |one| one.throttle).max(self.slow);
        self.turn = Instant::now() + INTERVAL * factor;
        self.pushes += 1;
        self.send(json!({kind: payload}).to_string().as_bytes());
    }

    /// Sends one message, where somebody hears it.
    pub fn send(&mut self, message: &[u8]) {
        self.raw([b"a[", message, b"]"].concat());
    }

    /// Sends a frame, where somebody hears it.
    pub fn raw(&mut self, frame: Vec<u8>) {
        if self.is_heard() {
            self.tell(&String::from_utf8_lossy(&frame[..frame.len().min(600)]));
            // Fails only when the client is just going.
            let _ = self.connection.as_ref().unwrap().out.send(frame);
        }
    }

    /// Until when nothing happens by itself, at most `until`.
    pub fn next(&self, until: Instant) -> Instant {
        let rebuilt = self.built + Duration::from_secs(4);
        let pushed = if self.waits() { self.turn } else { rebuilt };
        until.min(pushed.max(Instant::now() + Duration::from_millis(1)))
    }

    /// Does what is due.
    pub fn pass(&mut self) {
        // Temperatures change all the time, while there is a printer.
        let changed = self.built.elapsed() >= Duration::from_secs(4);
        if changed && self.state != State::Offline {
            self.build();
        } else if changed {
            self.built = Instant::now();
        }
        if self.is_heard() && Instant::now() >= self.turn {
            self.push_state("current");
        }
    }

    fn mark(&mut self, kind: &'static str) {
        let now = self.server_time();
        self.markings.retain(|(_, at)| *at > now - CUTOFF);
        self.markings.push((kind, now));
        self.build();
    }

    fn event(&mut self, kind: &str, payload: &Value) {
        self.send(json!({"event": {"type": kind, "payload": payload}}).to_string().as_bytes());
    }

    fn file_event(&mut self, kind: &str, path: &str, more: &Value) {
        let mut payload = json!({"name": path, "path": path, "origin": "local", "user": "admin"});
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.event(kind, &payload);
    }

    pub fn start(&mut self, path: &'static str) {
        if self.state != State::Operational {
            return;
        }
        let seen = self.is_heard();
        self.prints.push(Print { path, end: None, seen, heard: false, published: Vec::new() });
        (self.state, self.file) = (State::Printing, Some(path));
        self.mark("print");
        self.file_event("PrintStarted", path, &json!({}));
    }

    pub fn pause(&mut self, pause: bool) {
        let (from, to, kind, mark) = match pause {
            true => (State::Printing, State::Paused, "PrintPaused", "pause"),
            false => (State::Paused, State::Printing, "PrintResumed", "resume"),
        };
        if self.state == from {
            self.state = to;
            self.mark(mark);
            self.file_event(kind, self.prints.last().unwrap().path, &json!({}));
        }
    }

    /// A print is restarted from a pause.
    pub fn restart(&mut self) {
        if self.state == State::Paused {
            self.state = State::Printing;
            self.mark("print");
            self.file_event("PrintStarted", self.prints.last().unwrap().path, &json!({}));
        }
    }

    /// The last print ends as `end`; yields its path. `success`: what its file's history says.
    fn over(
        &mut self,
        end: &'static str,
        mark: &'static str,
        success: Option<bool>,
    ) -> &'static str {
        let (now, heard) = (self.server_time(), self.is_heard());
        let print = self.prints.last_mut().unwrap();
        (print.end, print.heard) = (Some((end, now)), heard);
        let path = print.path;
        if let Some(success) = success {
            let history = self.histories.entry(path).or_default();
            let (successes, failures) =
                (history.0 + u64::from(success), history.1 + u64::from(!success));
            *history = (successes, failures, now, success);
        }
        if mark == "disconnected" {
            (self.state, self.file) = (State::Offline, None);
        } else {
            self.state = State::Operational;
        }
        self.mark(mark);
        path
    }

    pub fn done(&mut self) {
        if self.state == State::Printing {
            let path = self.over("print_done", "done", Some(true));
            self.file_event("PrintDone", path, &json!({"time": 5.0}));
        }
    }

    pub fn cancel(&mut self) {
        if self.is_printing() {
            let path = self.over("print_cancelled", "cancel", Some(false));
            self.file_event("PrintCancelled", path, &json!({}));
            self.file_event("PrintFailed", path, &json!({"reason": "cancelled"}));
        }
    }

    /// The firmware gives up, and OctoPrint says so `times` times.
    pub fn fail(&mut self, times: usize) {
        if self.state == State::Printing {
            self.error = "Thermal Runaway";
            let path = self.over("print_failed", "disconnected", Some(false));
            self.event("Error", &json!({"error": self.error, "reason": "firmware"}));
            self.event("Disconnected", &Value::Null);
            for _ in 0..times {
                let more = json!({"reason": "error", "error": self.error});
                self.file_event("PrintFailed", path, &more);
            }
        }
    }

    /// OctoPrint says the end of the last print once more.
    pub fn again(&mut self) {
        let published = self.prints.last().filter(|print| !print.published.is_empty());
        if let Some((path, (end, _))) = published.and_then(|print| Some((print.path, print.end?))) {
            let kind = match end {
                "print_done" => "PrintDone",
                "print_cancelled" => "PrintCancelled",
                _ => "PrintFailed",
            };
            self.file_event(kind, path, &json!({"time": 5.0}));
        }
    }

    /// The printer is switched off. A paused print ends without an event then.
    pub fn off(&mut self) {
        match self.state {
            State::Printing => {
                let path = self.over("print_failed", "disconnected", Some(false));
                self.event("Disconnected", &Value::Null);
                self.file_event("PrintFailed", path, &json!({"reason": "error"}));
            }
            State::Paused => {
                self.over("print_failed", "disconnected", None);
                self.event("Disconnected", &Value::Null);
            }
            State::Operational => {
                (self.state, self.file) = (State::Offline, None);
                self.mark("disconnected");
                self.event("Disconnected", &Value::Null);
            }
            State::Offline => {}
        }
    }

    pub fn on(&mut self) {
        if self.state == State::Offline {
            (self.state, self.error) = (State::Operational, "");
            self.mark("connected");
            self.event("Connected", &json!({"port": "VIRTUAL", "baudrate": 0}));
        }
    }

    /// OctoPrint is restarted: nothing is logged of a print that ran.
    pub fn reboot(&mut self) {
        self.connection = None;
        let now = self.server_time();
        if let Some(print) = self.prints.last_mut().filter(|print| print.end.is_none()) {
            print.end = Some(("print_failed", now));
        }
        self.markings.clear();
        (self.state, self.error, self.file) = (State::Operational, "", None);
        self.mark("connected");
    }

    pub fn cut(&mut self, line: Line) {
        self.line = line;
        if line != Line::Frozen {
            self.connection = None;
        }
    }

    /// Sets the server's clock, if the bridge can notice it.
    pub fn set_clock(&mut self, seconds: f64) {
        if self.log_known {
            self.clock += seconds;
            self.without.time = false;
            self.build();
        }
    }

    pub fn waits(&self) -> bool {
        self.held.is_some()
            && self.is_heard()
            && self.connection.as_ref().is_some_and(|one| one.wants_state)
    }

    pub(super) fn job_answer(&self) -> String {
        let text = match self.state {
            State::Offline => "Offline",
            State::Operational => "Operational",
            State::Printing => "Printing",
            State::Paused => "Paused",
        };
        json!({"state": text, "job": {"file": {"path": self.file}}, "progress": {}}).to_string()
    }

    pub(super) fn file_answer(&self, path: &str) -> Option<String> {
        let known = self.prints.iter().any(|print| print.path == path);
        let mut answer = json!({"name": path, "path": path, "origin": "local"});
        if let Some((success, failure, date, succeeded)) = self.histories.get(path) {
            let mut last = json!({"date": date, "success": succeeded});
            if *succeeded {
                last["printTime"] = json!(5.0);
            }
            answer["prints"] = json!({"success": success, "failure": failure, "last": last});
        }
        known.then(|| answer.to_string())
    }
}
