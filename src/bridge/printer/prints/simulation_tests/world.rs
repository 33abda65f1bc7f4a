//! A simulated OctoPrint, its prints as they really are, and the tracker that follows them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::Act;
use crate::bridge::printer::prints::ends::{MissedEnds, PrintEnd, Record, UnclearEnd};
use crate::bridge::printer::prints::history::{FileHistory, History, Print};
use crate::bridge::printer::prints::tracker::{Observation, Tracker};
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
    /// The server's time of its end, by its clock at that time.
    ended_at: f64,
    /// How often its end was reported.
    pub(super) reported: u32,
    /// The bridge saw it run, so must report its end.
    pub(super) seen: bool,
    /// The bridge saw it run, so knows its name.
    named: bool,
}

/// An answer to a question of the tracker, on its way.
#[derive(Debug)]
enum Reply {
    Job(u64, Option<bool>),
    Ends(u64, Vec<PrintEnd>),
}

pub(super) struct World {
    tracker: Tracker,
    persisted: Option<Record>,
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
    /// The state that waits for its turn.
    held: Option<(Value, Vec<(&'static str, f64)>)>,
    built_at: Instant,
    turn: Instant,
    without: (bool, bool, bool),
    rest: bool,
    replies: Vec<(Instant, Reply)>,
}

const STEP: Duration = Duration::from_millis(100);

impl World {
    pub(super) fn new() -> Self {
        let start = Instant::now();
        let mut world = Self {
            tracker: Tracker::new(None),
            persisted: None,
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
            replies: Vec::new(),
        };
        world.back();
        // What happens within a second of the first connection is not distinguished from the past.
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
        // No two entries have the same time.
        self.now += Duration::from_millis(20);
        let now = self.server_time();
        self.markings.retain(|(_, at)| *at > now - 1800.0);
        self.markings.push((kind, now));
        self.build();
    }

    /// OctoPrint builds its state. That is sent at its turn, unless a newer one is built.
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
        // Without a log the times are needed.
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
        let observation = Observation {
            state: self.snapshot.state(),
            standing: self.snapshot.standing(),
            server_time: self.snapshot.server_time(),
            fresh: false,
        };
        self.tracker.observe(observation, || History::read(&payload), now.instant, now.wall);
        self.persist(false);
    }

    fn back(&mut self) {
        if std::mem::replace(&mut self.connected, true) {
            return;
        }
        self.build();
        if self.without.0 || self.without.2 {
            // Without log or state the next print of a file looks like the one before.
            self.prints.iter_mut().for_each(|print| print.seen = false);
        }
        let built = self.held.clone().unwrap();
        let payload = self.payload(built);
        self.turn = self.now + Duration::from_millis(500) * u32::from(self.rate);
        let now = Now { instant: self.now, wall: self.wall() };
        self.snapshot.apply(&payload, now).unwrap();
        let history = History::read(&payload).unwrap();
        let missed = self.tracker.reconnected(&history, now.instant, now.wall);
        if let Some(print) = self.prints.last_mut().filter(|print| !print.over) {
            let running = self.tracker.print().and_then(|print| print.path.as_ref());
            let seen = running == Some(&print.file);
            (print.seen, print.named) = (print.seen || seen, print.named || seen);
        }
        self.recover(missed);
        self.persist(true);
    }

    fn persist(&mut self, changed: bool) {
        if let Some(record) = self.tracker.to_persist(changed, self.now) {
            let text = serde_json::to_string(record).unwrap();
            self.persisted = serde_json::from_str(&text).unwrap();
        }
    }

    /// The answer takes two seconds.
    fn recover(&mut self, missed: Option<MissedEnds>) {
        let Some(MissedEnds { id, mut ends, unclear }) = missed else { return };
        let resolve = |unclear: &UnclearEnd| {
            let path = unclear.print.path.clone().unwrap_or_default();
            let history = self.histories.get(&path).copied().unwrap_or_default();
            unclear.resolve(self.rest.then_some(&history))
        };
        for end in &mut ends {
            if let Some(unclear) = end.unproven.take() {
                *end = resolve(&unclear).unwrap();
            }
        }
        ends.extend(unclear.as_ref().and_then(resolve));
        self.replies.push((self.now + Duration::from_secs(2), Reply::Ends(id, ends)));
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
                let missed = self.tracker.started(print, self.now);
                self.recover(missed);
                if self.rest {
                    let known = path.as_ref().and_then(|path| self.histories.get(path));
                    self.tracker.set_counts(path.as_deref(), &known.copied().unwrap_or_default());
                }
                self.persist(true);
            }
            "pause" => {
                self.tracker.goes_on(self.now);
                self.persist(true);
            }
            _ => {
                if self.tracker.ended(&print, self.now) {
                    self.prints[index].reported += 1;
                    if let Some(record) = self.tracker.record() {
                        self.persisted = Some(record.clone());
                    }
                }
            }
        }
    }

    /// Ends the last print; `kind` is its marking.
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
                    reported: 0,
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
            // Without a log only times are left, and they do not show by which clock they are.
            Act::Set(server, ours) if self.tracker.knows_log() => {
                self.clocks.0 += f64::from(server);
                self.clocks.1 += f64::from(ours);
                // While connected, the new time is read before anything else happens.
                self.without.1 = false;
                self.build();
                while self.connected && self.held.is_some() {
                    self.pass();
                }
            }
            Act::Rate(rate) => self.rate = rate,
            Act::Without(log, time, state) => self.without = (log, time, state),
            Act::Rest(answers) => self.rest = answers,
            // If it is killed during a lookup, it may take the next print of the file for that one.
            Act::Killed if self.replies.is_empty() => {
                self.connected = false;
                self.tracker = Tracker::new(self.persisted.clone());
                self.snapshot = Snapshot::new();
            }
            Act::Again if !prints && self.prints.last().is_some_and(|print| print.reported > 0) => {
                self.event("end");
            }
            _ => {}
        }
    }

    fn pass(&mut self) {
        self.now += STEP;
        // Temperatures change all the time while the printer is connected.
        let due = self.now - self.built_at >= Duration::from_millis(500);
        if self.state != State::Offline && due {
            self.build();
        }
        if self.connected && self.now >= self.turn {
            self.current();
        }
        let arrived: Vec<_> = self.replies.extract_if(.., |(at, _)| *at <= self.now).collect();
        for (_, answer) in arrived {
            match answer {
                Reply::Job(question, running) => self.tracker.answered(question, running, self.now),
                Reply::Ends(id, ends) => {
                    let ends = self.tracker.resolved(id, ends);
                    ends.iter().for_each(|end| self.count(end));
                    self.persist(true);
                }
            }
        }
        let missed = self.tracker.overdue(self.now);
        self.recover(missed);
        if let Some(question) = self.tracker.next_question(self.now) {
            let running = matches!(self.state, State::Printing | State::Paused);
            let answer = Reply::Job(question, self.rest.then_some(running));
            self.replies.push((self.now + Duration::from_millis(300), answer));
        }
    }

    /// Counts a recovered end: it must be that of a print that is over and has none yet.
    fn count(&mut self, end: &PrintEnd) {
        let path = end.print.path.as_deref();
        let fits = |print: &Truth| {
            print.over && print.reported == 0 && path.is_none_or(|path| path == print.file)
        };
        // The start and the end of a print without a name were both missed.
        let far = |print: &Truth| {
            (print.named != path.is_some(), (print.ended_at - end.at).abs().round() as u64)
        };
        let all = self.prints.iter().enumerate().filter(|(_, print)| fits(print));
        let index = all.min_by_key(|(_, print)| far(print)).map(|(index, _)| index);
        assert!(index.is_some(), "no print ended like this: {end:?}");
        self.prints[index.unwrap()].reported += 1;
    }

    pub(super) fn check(&self) {
        for print in &self.prints {
            assert!(print.reported <= 1, "reported {} times: {print:?}", print.reported);
            assert!(print.over || print.reported == 0, "still running: {print:?}");
        }
    }
}
