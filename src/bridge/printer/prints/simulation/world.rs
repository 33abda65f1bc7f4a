//! An OctoPrint, its prints as they really are, and the bridge that follows them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::acts::Act;
use crate::bridge::printer::prints::history::{FileHistory, History, Print};
use crate::bridge::printer::prints::pending::Lost;
use crate::bridge::printer::prints::tracker::{Observed, Tracker};
use crate::bridge::printer::prints::verdict::{End, Record, Unclear};
use crate::bridge::printer::snapshot::{Now, Snapshot};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Offline,
    Operational,
    Printing,
    Paused,
}

/// A print as it really was.
#[derive(Debug, Clone)]
pub(super) struct Truth {
    file: String,
    pub(super) over: bool,
    /// The server's time of its end, by its clock of then.
    ended_at: f64,
    /// What was told of its end.
    pub(super) told: u32,
    /// Whether the bridge must know of its end: it saw it run.
    pub(super) seen: bool,
    /// Whether the bridge knows its name: it saw it run.
    named: bool,
}

/// What is on its way to the bridge: a question of the tracker's, when its answer comes.
#[derive(Debug)]
enum Answer {
    Job(u64, Option<bool>),
    Ends(u64, Vec<End>),
}

pub(super) struct World {
    tracker: Tracker,
    kept: Option<Record>,
    snapshot: Snapshot,
    start: Instant,
    now: Instant,
    clocks: (f64, f64),
    state: State,
    pub(super) prints: Vec<Truth>,
    markings: Vec<(&'static str, f64)>,
    histories: BTreeMap<String, FileHistory>,
    connected: bool,
    rate: u8,
    /// The state that waits for its turn, as it was built, and when its turn is.
    held: Option<(Value, Vec<(&'static str, f64)>)>,
    built_at: Instant,
    turn: Instant,
    without: (bool, bool, bool),
    rest: bool,
    answers: Vec<(Instant, Answer)>,
}

const STEP: Duration = Duration::from_millis(100);

impl World {
    pub(super) fn new() -> Self {
        let start = Instant::now();
        let mut world = Self {
            tracker: Tracker::new(None),
            kept: None,
            snapshot: Snapshot::new(),
            start,
            now: start,
            clocks: (1_700_000_000.0, 1_700_000_000.0),
            state: State::Operational,
            prints: Vec::new(),
            markings: vec![("connected", 1_699_999_000.0)],
            histories: BTreeMap::new(),
            connected: false,
            rate: 1,
            held: None,
            built_at: start,
            turn: start,
            without: (false, false, false),
            rest: true,
            answers: Vec::new(),
        };
        world.back();
        // What happens within a second of the first look is not told apart from what was before.
        world.act(&Act::Pass(15));
        world
    }

    fn server_time(&self) -> f64 {
        self.clocks.0 + (self.now - self.start).as_secs_f64()
    }

    fn wall(&self) -> SystemTime {
        let seconds = self.clocks.1 + (self.now - self.start).as_secs_f64();
        SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds)
    }

    fn mark(&mut self, kind: &'static str) {
        // No two things happen at once.
        self.now += Duration::from_millis(20);
        let now = self.server_time();
        self.markings.retain(|(_, at)| *at > now - 1800.0);
        self.markings.push((kind, now));
        self.build();
    }

    /// OctoPrint builds its state; it goes out when it is its turn, unless a newer one is built.
    fn build(&mut self) {
        let text = match self.state {
            State::Offline => "Offline",
            State::Operational => "Operational",
            State::Printing => "Printing",
            State::Paused => "Paused",
        };
        let file = self.prints.last().map(|print| print.file.clone());
        let job = json!({"file": {"name": file, "path": file, "origin": "local"}});
        let state = json!({"text": text, "flags": {}, "error": ""});
        self.held = Some((json!({"state": state, "job": job}), self.markings.clone()));
        self.built_at = self.now;
    }

    fn payload(&mut self, built: (Value, Vec<(&'static str, f64)>)) -> String {
        let (mut payload, markings) = built;
        let (log, time, state) = std::mem::take(&mut self.without);
        let entry = |(kind, at): (&str, f64)| json!({"type": kind, "time": at});
        payload["markings"] =
            if log { Value::Null } else { markings.into_iter().map(entry).collect() };
        // Where there is no log, times have to do.
        if !time || log {
            payload["serverTime"] = json!(self.server_time());
        }
        if state {
            payload["state"] = Value::Null;
        }
        payload.to_string()
    }

    fn current(&mut self) {
        let Some(built) = self.held.take() else { return };
        self.turn = self.now + Duration::from_millis(500) * u32::from(self.rate);
        let payload = self.payload(built);
        let now = Now { instant: self.now, wall: self.wall() };
        self.snapshot.apply(&payload, now).unwrap();
        let observed = Observed {
            state: self.snapshot.state(),
            standing: self.snapshot.standing(),
            server_time: self.snapshot.server_time(),
            fresh: false,
        };
        self.tracker.observe(observed, || History::read(&payload), now.instant, now.wall);
        self.keep(false);
    }

    fn back(&mut self) {
        if std::mem::replace(&mut self.connected, true) {
            return;
        }
        self.build();
        if self.without.0 || self.without.2 {
            // Without log or state nobody can tell the next print of a file from the one before.
            self.prints.iter_mut().for_each(|print| print.seen = false);
        }
        let built = self.held.clone().unwrap();
        let payload = self.payload(built);
        self.turn = self.now + Duration::from_millis(500) * u32::from(self.rate);
        let now = Now { instant: self.now, wall: self.wall() };
        self.snapshot.apply(&payload, now).unwrap();
        let history = History::read(&payload).unwrap();
        let lost = self.tracker.reconnected(&history, now.instant, now.wall);
        if let Some(print) = self.prints.last_mut().filter(|print| !print.over) {
            let running = self.tracker.print().and_then(|print| print.path.as_ref());
            let seen = running == Some(&print.file);
            (print.seen, print.named) = (print.seen || seen, print.named || seen);
        }
        self.find_out(lost);
        self.keep(true);
    }

    fn keep(&mut self, changed: bool) {
        if let Some(record) = self.tracker.to_persist(changed, self.now) {
            let text = serde_json::to_string(record).unwrap();
            self.kept = serde_json::from_str(&text).unwrap();
        }
    }

    /// The answer comes after a while, and is of the moment when it comes.
    fn find_out(&mut self, lost: Option<Lost>) {
        let Some(Lost { id, mut ends, unclear }) = lost else { return };
        let settle = |unclear: &Unclear| {
            let path = unclear.print.path.clone().unwrap_or_default();
            let history = self.histories.get(&path).copied().unwrap_or_default();
            unclear.settle(self.rest.then_some(&history))
        };
        for end in &mut ends {
            if let Some(unclear) = end.unproven.take() {
                *end = settle(&unclear).unwrap();
            }
        }
        ends.extend(unclear.as_ref().and_then(settle));
        self.answers.push((self.now + Duration::from_secs(2), Answer::Ends(id, ends)));
    }

    fn event(&mut self, kind: &str) {
        if !self.connected {
            return;
        }
        let Some(index) = self.prints.len().checked_sub(1) else { return };
        let file = self.prints[index].file.clone();
        let print = Print {
            name: Some(file.clone()),
            path: Some(file),
            origin: Some("local".to_owned()),
            ..Print::default()
        };
        match kind {
            "start" => {
                (self.prints[index].seen, self.prints[index].named) = (true, true);
                let path = print.path.clone();
                let lost = self.tracker.started(print, self.now);
                self.find_out(lost);
                if self.rest {
                    let known = path.as_ref().and_then(|path| self.histories.get(path));
                    self.tracker.set_counts(path.as_deref(), &known.copied().unwrap_or_default());
                }
                self.keep(true);
            }
            "pause" => {
                self.tracker.goes_on(self.now);
                self.keep(true);
            }
            _ => {
                if self.tracker.ended(&print, self.now) {
                    self.prints[index].told += 1;
                    if let Some(record) = self.tracker.record() {
                        self.kept = Some(record.clone());
                    }
                }
            }
        }
    }

    /// The last print ends; `kind` is what the log says of it.
    fn over(&mut self, kind: &'static str, next: State, written: Option<bool>) {
        let now = self.server_time();
        let print = self.prints.last_mut().unwrap();
        (print.over, print.ended_at) = (true, now);
        if let Some(success) = written {
            let history = self.histories.entry(print.file.clone()).or_default();
            history.success += u64::from(success);
            history.failure += u64::from(!success);
            history.last = Some((now, success, None));
        }
        self.state = next;
        self.mark(kind);
    }

    pub(super) fn act(&mut self, act: &Act) {
        let prints = matches!(self.state, State::Printing | State::Paused);
        match *act {
            Act::Pass(tenths) => (0..tenths).for_each(|_| self.pass()),
            Act::Start(other) if self.state == State::Operational => {
                let file = if other { "a.gcode" } else { "b.gcode" }.to_owned();
                self.prints.push(Truth {
                    file,
                    over: false,
                    ended_at: 0.0,
                    told: 0,
                    seen: false,
                    named: false,
                });
                self.state = State::Printing;
                self.mark("print");
                self.event("start");
            }
            Act::Pause if self.state == State::Printing => {
                self.state = State::Paused;
                self.mark("pause");
                self.event("pause");
            }
            Act::Resume if self.state == State::Paused => {
                self.state = State::Printing;
                self.mark("resume");
                self.event("pause");
            }
            Act::Restart if self.state == State::Paused => {
                self.state = State::Printing;
                self.mark("print");
                self.event("start");
            }
            Act::Done if self.state == State::Printing => {
                self.over("done", State::Operational, Some(true));
                self.event("end");
            }
            Act::Cancel if prints => {
                self.over("cancel", State::Operational, Some(false));
                self.event("end");
                self.event("end");
            }
            Act::Fail(times) if self.state == State::Printing => {
                self.over("disconnected", State::Offline, Some(false));
                (0..times).for_each(|_| self.event("end"));
            }
            Act::Off if prints => {
                let printing = self.state == State::Printing;
                self.over("disconnected", State::Offline, printing.then_some(false));
                if self.connected {
                    self.tracker.disconnected(self.now);
                }
                if printing {
                    self.event("end");
                }
            }
            Act::Off if self.state == State::Operational => {
                self.state = State::Offline;
                self.mark("disconnected");
            }
            Act::On if self.state == State::Offline => {
                self.state = State::Operational;
                self.mark("connected");
            }
            Act::Reboot => {
                self.connected = false;
                let now = self.server_time();
                if let Some(print) = self.prints.last_mut().filter(|print| !print.over) {
                    (print.over, print.ended_at) = (true, now);
                }
                self.markings.clear();
                self.state = State::Operational;
                self.mark("connected");
            }
            Act::Break => self.connected = false,
            Act::Back => self.back(),
            // Where the log was missing, times have to do, and nothing tells their clocks apart.
            Act::Set(server, ours) if self.tracker.knows_log() => {
                self.clocks.0 += f64::from(server);
                self.clocks.1 += f64::from(ours);
                // While the line stands, the new time is heard before anything else happens.
                self.without.1 = false;
                self.build();
                while self.connected && self.held.is_some() {
                    self.pass();
                }
            }
            Act::Rate(rate) => self.rate = rate,
            Act::Without(log, time, state) => self.without = (log, time, state),
            Act::Rest(answers) => self.rest = answers,
            // One that is killed while it finds out how a print ended may take the next print of
            // the same file for it.
            Act::Killed if self.answers.is_empty() => {
                self.connected = false;
                self.tracker = Tracker::new(self.kept.clone());
                self.snapshot = Snapshot::new();
            }
            Act::Again if !prints && self.prints.last().is_some_and(|print| print.told > 0) => {
                self.event("end");
            }
            _ => {}
        }
    }

    fn pass(&mut self) {
        self.now += STEP;
        // Temperatures change all the time, while there is a printer.
        let due = self.now - self.built_at >= Duration::from_millis(500);
        if self.state != State::Offline && due {
            self.build();
        }
        if self.connected && self.now >= self.turn {
            self.current();
        }
        let arrived: Vec<_> = self.answers.extract_if(.., |(at, _)| *at <= self.now).collect();
        for (_, answer) in arrived {
            match answer {
                Answer::Job(question, on) => self.tracker.answered(question, on, self.now),
                Answer::Ends(id, ends) => {
                    let ends = self.tracker.found(id, ends);
                    ends.iter().for_each(|end| self.told(end));
                    self.keep(true);
                }
            }
        }
        let lost = self.tracker.overdue(self.now);
        self.find_out(lost);
        if let Some(question) = self.tracker.asks(self.now) {
            let on = matches!(self.state, State::Printing | State::Paused);
            let answer = Answer::Job(question, self.rest.then_some(on));
            self.answers.push((self.now + Duration::from_millis(300), answer));
        }
    }

    /// An end that was recovered is one of a print that is over, and of which none was told.
    fn told(&mut self, end: &End) {
        let path = end.print.path.as_deref();
        let fits = |print: &Truth| {
            print.over && print.told == 0 && path.is_none_or(|path| path == print.file)
        };
        // One without a name is one that both started and ended unseen.
        let far = |print: &Truth| {
            (print.named != path.is_some(), (print.ended_at - end.at).abs().round() as u64)
        };
        let all = self.prints.iter().enumerate().filter(|(_, print)| fits(print));
        let index = all.min_by_key(|(_, print)| far(print)).map(|(index, _)| index);
        assert!(index.is_some(), "no print ended so: {end:?}");
        self.prints[index.unwrap()].told += 1;
    }

    pub(super) fn check(&self) {
        for print in &self.prints {
            assert!(print.told <= 1, "told {} times: {print:?}", print.told);
            assert!(print.over || print.told == 0, "it still runs: {print:?}");
        }
    }
}
