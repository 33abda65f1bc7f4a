//! Follows a printer's prints, so that no start, pause or end of one is missed.

mod clock;
mod ends;
mod event_effect;
mod history;
mod inferred_event;
mod replay;
mod silence;
mod step;
mod tracker;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::mpsc;

use self::ends::MissedEnds;
pub use self::ends::{Outcome, PrintEnd, Record, UnclearEnd};
pub use self::event_effect::EventEffect;
use self::history::FileHistory;
pub use self::history::{History, Print};
pub use self::inferred_event::InferredEvent;
pub use self::replay::{Judgement, judge};
use self::silence::PauseTracker;
pub use self::step::{PrintResult, PrintStep};
pub use self::tracker::{Observation, Tracker};
use super::snapshot::json::member;
use super::snapshot::{EventFields, PrinterState, Snapshot};
use crate::bridge::watch::Watch;
use crate::causes;
use crate::journal::RECORD;
use crate::octoprint::{
    EventKind, FilePath, JobStatus, Message, MessageKind, Rest, RestError, RestErrorKind, SERIAL,
};
use crate::store::{Known, Store};
use crate::timestamp;

/// Capacity of a printer's channel of findings.
pub const MAX_FINDINGS: usize = 16;
/// Delay after the end of a print until OctoPrint writes the file's history.
const WRITE_DELAY: Duration = Duration::from_secs(1);
/// Number of requests for a file's history.
const ATTEMPTS: u32 = 5;
/// Largest difference between two times of one end, in seconds.
const TOLERANCE: f64 = 10.0;

/// The answer to a question to OctoPrint.
#[derive(Debug)]
pub enum PrintFinding {
    /// How prints ended without an event, and the id of the lookup.
    Ends(u64, Vec<PrintEnd>),
    /// Whether a print is running, if OctoPrint answered, and the id of the question.
    Job(u64, Option<bool>),
    /// The history of the file at this path, at the start of its print.
    Counts(Option<String>, FileHistory),
}

/// Follows the prints of one printer.
#[derive(Debug)]
pub struct Prints {
    tracker: Tracker,
    pauses: PauseTracker,
    store: Store,
    printer: Arc<str>,
    findings: mpsc::Sender<Box<PrintFinding>>,
    watch: Watch,
    /// The record that was persisted last.
    persisted: Option<Record>,
}

impl Prints {
    /// Continues from what is `known`. Tasks watched by `watch` send what they find to `findings`.
    pub fn new(
        printer: &str,
        known: &Known,
        store: Store,
        findings: mpsc::Sender<Box<PrintFinding>>,
        watch: Watch,
    ) -> Self {
        let persisted: Option<Record> = known.get(printer, RECORD);
        let tracker = Tracker::new(persisted.clone());
        let pauses = PauseTracker::default();
        Self { tracker, pauses, store, printer: printer.into(), findings, watch, persisted }
    }

    /// Continues from what was persisted last, as after a restart of the bridge: unfinished lookups
    /// are judged and started again.
    pub fn restarted(self, findings: mpsc::Sender<Box<PrintFinding>>, watch: Watch) -> Self {
        let tracker = Tracker::new(self.persisted.clone());
        Self { tracker, pauses: PauseTracker::default(), findings, watch, ..self }
    }

    /// Processes any message but an event, after `snapshot`; `first`: it may be the first `history`
    /// of a connection. Returns the start of a print at the printer, which no event reported.
    pub fn follow(
        &mut self,
        message: &Message,
        snapshot: &Snapshot,
        first: bool,
        rest: &Rest,
    ) -> Option<InferredEvent> {
        let (payload, wall) = (message.payload(), message.received_at());
        let now = message.received().into_std();
        match message.kind() {
            MessageKind::History if first => {
                self.reconnected(payload, now, wall, rest.clone());
                None
            }
            MessageKind::History => self.observe(payload, snapshot, true, now, wall),
            MessageKind::Current => self.observe(payload, snapshot, false, now, wall),
            _ => None,
        }
    }

    /// The first `history` of a connection.
    fn reconnected(&mut self, payload: &str, now: Instant, wall: SystemTime, rest: Rest) {
        let Some(history) = History::read(payload) else { return };
        self.pauses = PauseTracker::default();
        match self.tracker.reconnected(&history, now, wall) {
            Some(missed) => self.recover(rest, missed),
            None => self.persist(true),
        }
    }

    /// A `current`, or a `history` that is not the first of its connection.
    fn observe(
        &mut self,
        payload: &str,
        snapshot: &Snapshot,
        fresh: bool,
        now: Instant,
        wall: SystemTime,
    ) -> Option<InferredEvent> {
        let observation = Observation {
            state: snapshot.state(),
            standing: snapshot.standing(),
            server_time: snapshot.server_time(),
            fresh,
        };
        let started = self.tracker.observe(observation, || History::read(payload), now, wall);
        // The serial connector reports every pause.
        if !snapshot.is_serial() {
            self.pauses.observe(snapshot.state(), fresh, now);
        }
        self.persist(false);
        let at = snapshot.standing().filter(|_| started)?.print?;
        self.infer(EventKind::PrintStarted, self.tracker.by_our_clock(at))
    }

    /// An event of the running print that its state proves, at `at` by our clock.
    fn infer(&self, kind: EventKind, at: f64) -> Option<InferredEvent> {
        let event = InferredEvent::new(kind, self.tracker.print()?.clone(), at);
        tracing::info!(file = event.print.path, event = %event.kind, "inferred an event from the printer's state: OctoPrint did not send it");
        Some(event)
    }

    /// Processes an event.
    pub fn event(
        &mut self,
        kind: &EventKind,
        fields: &EventFields<'_>,
        now: Instant,
        rest: &Rest,
    ) -> EventEffect {
        let print = || print_of(fields);
        match kind {
            EventKind::PrintStarted => {
                let print = print();
                // The serial connector sends it only when a print starts.
                if is_of_another_connector(fields) && self.tracker.is_repeated_start(&print) {
                    self.tracker.goes_on(now);
                    return EventEffect { repeated: true, ..EventEffect::default() };
                }
                self.pauses.event(kind);
                self.ask_counts(&print, rest.clone());
                let step = PrintStep::of_event(kind, print.clone(), fields, 0);
                if let Some(missed) = self.tracker.started(print, now) {
                    self.recover(rest.clone(), missed);
                }
                self.persist(true);
                return EventEffect { step, ..EventEffect::default() };
            }
            EventKind::PrintPaused | EventKind::PrintResumed => {
                self.pauses.event(kind);
                self.tracker.goes_on(now);
                self.persist(true);
            }
            EventKind::Disconnected => self.tracker.disconnected(now),
            EventKind::PrintDone | EventKind::PrintFailed | EventKind::PrintCancelled => {
                self.pauses.event(kind);
                let print = print();
                let repeated = !self.tracker.ended(&print, now);
                let step = PrintStep::of_event(kind, print, fields, self.tracker.ends());
                let step = step.filter(|_| !repeated);
                return EventEffect { along: self.record(), repeated, step };
            }
            _ => {}
        }
        EventEffect::default()
    }

    /// Processes a finding. Returns the ends that no event reported.
    pub fn apply(&mut self, finding: PrintFinding, now: Instant) -> Vec<InferredEvent> {
        match finding {
            PrintFinding::Counts(path, history) => {
                self.tracker.set_counts(path.as_deref(), &history);
                self.persist(true);
                Vec::new()
            }
            PrintFinding::Job(question, running) => {
                self.tracker.answered(question, running, now);
                Vec::new()
            }
            PrintFinding::Ends(id, ends) => {
                let ends = self.tracker.resolved(id, ends);
                let along = self.record();
                if ends.is_empty() {
                    self.persist(true);
                }
                let before = self.tracker.ends() - ends.len() as u64;
                let inferred = |(end, number): (&PrintEnd, u64)| {
                    let event = InferredEvent::end(end, self.tracker.by_our_clock(end.at));
                    tracing::info!(file = event.print.path, event = %event.kind, "recovered the end of a print that was missed");
                    event.numbered(number, along.clone())
                };
                ends.iter().zip(before + 1..).map(inferred).collect()
            }
        }
    }

    /// Returns the last printed file, the running print's included.
    pub fn last_file(&self) -> Option<FilePath> {
        let Print { origin, path, .. } = self.tracker.last_print()?;
        let path = path.as_deref()?.trim_start_matches('/');
        FilePath::parse(&format!("{}/{path}", origin.as_deref()?))
    }

    /// When to call [`Prints::flush`].
    pub fn due(&self) -> Option<Instant> {
        [self.tracker.due(), self.pauses.due()].into_iter().flatten().min()
    }

    /// Persists the record once a minute, and follows up a print that seems to have ended without an
    /// event. Returns a pause or resumption that no event reported; `wall` is the time of day.
    pub fn flush(
        &mut self,
        now: Instant,
        wall: SystemTime,
        rest: impl FnOnce() -> Rest,
    ) -> Option<InferredEvent> {
        if let Some(missed) = self.tracker.overdue(now) {
            self.recover(rest(), missed);
        } else if let Some(question) = self.tracker.next_question(now) {
            self.ask_job(question, rest());
        }
        self.persist(false);
        let kind = match self.pauses.overdue(now)? {
            true => EventKind::PrintPaused,
            false => EventKind::PrintResumed,
        };
        self.infer(kind, timestamp::unix(wall) as f64)
    }

    fn persist(&mut self, changed: bool) {
        if let Some(record) = self.tracker.to_persist(changed, crate::clock::now()) {
            self.store.persist(&self.printer, RECORD, record);
            self.persisted = Some(record.clone());
        }
    }

    /// The record to persist with an event.
    fn record(&mut self) -> Option<Bytes> {
        let record = self.tracker.record()?;
        self.persisted = Some(record.clone());
        serde_json::to_vec(record).ok().map(Bytes::from)
    }

    fn ask_counts(&self, print: &Print, rest: Rest) {
        let (print, findings) = (print.clone(), self.findings.clone());
        self.watch.spawn("counts of prints", async move {
            if let Some(Ok(history)) = file_history(&rest, &print).await {
                // Fails only when the printer's task has ended.
                let _ = findings.send(Box::new(PrintFinding::Counts(print.path, history))).await;
            }
        });
    }

    fn ask_job(&self, question: u64, rest: Rest) {
        let findings = self.findings.clone();
        self.watch.spawn("state of the job", async move {
            let running = match rest.job_status().await {
                Ok(JobStatus { state, .. }) => {
                    state.and_then(|text| PrinterState::of_text_alone(&text).print_is_on())
                }
                Err(error) => {
                    let error = causes::text(&error);
                    tracing::debug!("cannot find out whether a print is running: {error}");
                    None
                }
            };
            // Fails only when the printer's task has ended.
            let _ = findings.send(Box::new(PrintFinding::Job(question, running))).await;
        });
    }

    fn recover(&self, rest: Rest, missed: MissedEnds) {
        let findings = self.findings.clone();
        let MissedEnds { id, ends, unclear } = missed;
        self.watch.spawn("recovery", async move {
            tokio::time::sleep(WRITE_DELAY).await;
            let ends = resolve(&rest, ends, unclear).await;
            let _ = findings.send(Box::new(PrintFinding::Ends(id, ends))).await;
        });
    }
}

/// Requests the histories of the files, which show the durations of the prints, how one ended before
/// a restart of OctoPrint, and whether the unclear one ended.
async fn resolve(
    rest: &Rest,
    mut ends: Vec<PrintEnd>,
    unclear: Option<UnclearEnd>,
) -> Vec<PrintEnd> {
    let done = ends.iter_mut().filter(|end| end.outcome == Outcome::Done);
    join_all(done.map(|end| async {
        let at = end.at;
        let history = written(rest, &end.print, |history| history.reaches(at - TOLERANCE)).await;
        end.took = history.and_then(|history| history.took(at, TOLERANCE));
    }))
    .await;
    for end in &mut ends {
        if let Some(unclear) = end.unproven.take() {
            let history = written(rest, &unclear.print, |_| true).await;
            *end = unclear.resolve(history.as_ref()).unwrap_or_else(|| end.clone());
        }
    }
    if let Some(unclear) = unclear {
        let history = written(rest, &unclear.print, |_| true).await;
        ends.extend(unclear.resolve(history.as_ref()));
    }
    ends
}

/// Requests a file's history, and again if there is no answer, or it is not complete yet: a busy
/// OctoPrint takes longer to write it.
async fn written(
    rest: &Rest,
    print: &Print,
    is_complete: impl Fn(&FileHistory) -> bool,
) -> Option<FileHistory> {
    for attempt in 1..=ATTEMPTS {
        match file_history(rest, print).await? {
            Ok(history) if is_complete(&history) || attempt == ATTEMPTS => return Some(history),
            Ok(_) => tracing::debug!("the history of the file is not written yet"),
            // No such file, or this user must not see it.
            Err(error) if matches!(error.kind(), RestErrorKind::Status { .. }) => return None,
            Err(error) => tracing::debug!(
                "cannot read the print history of the file: {}",
                causes::text(&error)
            ),
        }
        tokio::time::sleep(WRITE_DELAY * attempt).await;
    }
    None
}

/// The storages whose files have a history; in others it is unknown what its dates are.
const WITH_HISTORY: [&str; 2] = ["local", "printer"];

/// Requests a file's history. `None` if there is none: only some connectors of OctoPrint 2.0 have
/// one for files on the printer.
async fn file_history(rest: &Rest, print: &Print) -> Option<Result<FileHistory, RestError>> {
    let path = print.path.as_ref()?;
    let origin = print.origin.as_deref().filter(|origin| WITH_HISTORY.contains(origin))?;
    let file = FilePath::parse(&format!("{origin}/{path}"))?;
    match rest.file_info(&file).await {
        Ok(answer) if origin == "local" => Some(Ok(FileHistory::read(&answer).unwrap_or_default())),
        Ok(answer) => FileHistory::read_of_printer(&answer).map(Ok),
        Err(error) => Some(Err(error)),
    }
}

/// Reads the print that an event is about, each field independently.
fn print_of(fields: &EventFields<'_>) -> Print {
    let print = Print {
        name: member(fields.name),
        path: member(fields.path),
        origin: member(fields.origin),
        size: member(fields.size),
        user: member(fields.user).or_else(|| member(fields.owner)),
    };
    print.known()
}

/// Whether an event comes from another connector than the serial one. OctoPrint before 2.0 does not
/// name the connector.
fn is_of_another_connector(fields: &EventFields<'_>) -> bool {
    member(fields.connector).is_some_and(|connector: String| connector != SERIAL)
}

#[cfg(test)]
mod octoprint_2_tests;
#[cfg(test)]
mod simulation_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tracker_tests;
