//! What one printer's task does so that no end of a print is missed.

mod clock;
mod history;
mod pauses;
mod pending;
mod replay;
mod silence;
mod told;
mod tracker;
mod verdict;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::mpsc;

use self::history::FileHistory;
pub use self::history::History;
pub use self::history::Print;
use self::pauses::Pauses;
use self::pending::Lost;
pub use self::replay::{Verdict, judge};
pub use self::told::Told;
pub use self::tracker::{Observed, Tracker};
pub use self::verdict::{End, Outcome, Record, Unclear};
use super::snapshot::{PrinterState, Snapshot};
use crate::bridge::hub::watch::Watch;
use crate::causes;
use crate::journal::RECORD;
use crate::mqtt::Publication;
use crate::octoprint::{
    EventKind, FilePath, JobStatus, Message, MessageKind, Rest, RestError, RestErrorKind, SERIAL,
};
use crate::store::{Known, Store};
use crate::timestamp;
use crate::topics::PrinterTopics;

/// Most findings about its prints that wait for a printer.
pub const FOUND: usize = 16;
/// OctoPrint writes a file's history some moments after the end of the print.
const WRITTEN: Duration = Duration::from_secs(1);
/// How often a file's history is asked for where no answer comes.
const ATTEMPTS: u32 = 5;
/// Two times of one end are not farther apart than this, in seconds.
const SAME: f64 = 10.0;

/// What was found out.
#[derive(Debug)]
pub enum Found {
    /// How prints ended that nobody saw end, and which question that answers.
    Ends(u64, Vec<End>),
    /// Whether a print is on, where OctoPrint said so, and which question that answers.
    Job(u64, Option<bool>),
    /// What was known of the file at the start of its print.
    Counts(Option<String>, FileHistory),
}

/// What follows from an event.
#[derive(Debug, Default)]
pub struct Followed {
    /// What is to be kept along with its publication.
    pub along: Option<Bytes>,
    /// This was told of the print before.
    pub repeated: bool,
}

/// Follows the prints of one printer.
#[derive(Debug)]
pub struct Prints {
    tracker: Tracker,
    pauses: Pauses,
    store: Store,
    printer: Arc<str>,
    found: mpsc::Sender<Box<Found>>,
    watch: Watch,
    /// The record as it was kept last.
    kept: Option<Record>,
}

impl Prints {
    /// Goes on from what `known` has; what is found out goes to `found`. `watch` watches how.
    pub fn new(
        printer: &str,
        known: &Known,
        store: Store,
        found: mpsc::Sender<Box<Found>>,
        watch: Watch,
    ) -> Self {
        let kept: Option<Record> = known.get(printer, RECORD);
        let tracker = Tracker::new(kept.clone());
        let pauses = Pauses::default();
        Self { tracker, pauses, store, printer: printer.into(), found, watch, kept }
    }

    /// Goes on from what was kept last, as a restart of the bridge would: what was being found out
    /// is judged and found out again.
    pub fn again(self, found: mpsc::Sender<Box<Found>>, watch: Watch) -> Self {
        let (tracker, pauses) = (Tracker::new(self.kept.clone()), Pauses::default());
        Self { tracker, pauses, found, watch, ..self }
    }

    /// Any message but an event, as `snapshot` has it; `first` where it is of a new connection.
    /// Yields the print that was begun at the printer, which no event told.
    pub fn follow(
        &mut self,
        message: &Message,
        snapshot: &Snapshot,
        first: bool,
        rest: &Rest,
    ) -> Option<Told> {
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
        self.pauses = Pauses::default();
        match self.tracker.reconnected(&history, now, wall) {
            Some(lost) => self.find_out(rest, lost),
            None => self.persist(true),
        }
    }

    /// A `current`, or a `history` that is not the first of its connection, as `snapshot` has it.
    fn observe(
        &mut self,
        payload: &str,
        snapshot: &Snapshot,
        fresh: bool,
        now: Instant,
        wall: SystemTime,
    ) -> Option<Told> {
        let observed = Observed {
            state: snapshot.state(),
            standing: snapshot.standing(),
            server_time: snapshot.server_time(),
            fresh,
        };
        let begun = self.tracker.observe(observed, || History::read(payload), now, wall);
        // The serial connector tells of every pause.
        if !snapshot.is_serial() {
            self.pauses.observe(snapshot.state(), fresh, now);
        }
        self.persist(false);
        let at = snapshot.standing().filter(|_| begun)?.print?;
        self.told(EventKind::PrintStarted, self.tracker.by_our_clock(at))
    }

    /// What the state tells of the print that runs, at `at` by our clock.
    fn told(&self, kind: EventKind, at: f64) -> Option<Told> {
        let told = Told::new(kind, self.tracker.print()?.clone(), at);
        tracing::info!(file = told.print.path, event = %told.kind, "the printer's state tells this, and no event did");
        Some(told)
    }

    /// An event.
    pub fn event(
        &mut self,
        kind: &EventKind,
        payload: Option<&str>,
        now: Instant,
        rest: &Rest,
    ) -> Followed {
        let print = || payload.and_then(print_of).unwrap_or_default();
        match kind {
            EventKind::PrintStarted => {
                let print = print();
                // The serial connector says so only of a print that begins.
                if payload.is_some_and(is_of_another_connector)
                    && self.tracker.is_told_again(&print)
                {
                    self.tracker.goes_on(now);
                    return Followed { along: None, repeated: true };
                }
                self.pauses.event(kind);
                self.ask_counts(&print, rest.clone());
                if let Some(lost) = self.tracker.started(print, now) {
                    self.find_out(rest.clone(), lost);
                }
                self.persist(true);
            }
            EventKind::PrintPaused | EventKind::PrintResumed => {
                self.pauses.event(kind);
                self.tracker.goes_on(now);
                self.persist(true);
            }
            EventKind::Disconnected => self.tracker.disconnected(now),
            EventKind::PrintDone | EventKind::PrintFailed | EventKind::PrintCancelled => {
                self.pauses.event(kind);
                let repeated = !self.tracker.ended(&print(), now);
                return Followed { along: self.record(), repeated };
            }
            _ => {}
        }
        Followed::default()
    }

    /// Takes in what was found out; yields what is to be published.
    pub fn take(
        &mut self,
        found: Found,
        topics: &PrinterTopics,
        lane: usize,
        now: Instant,
    ) -> Vec<Publication> {
        match found {
            Found::Counts(path, history) => {
                self.tracker.set_counts(path.as_deref(), &history);
                self.persist(true);
                Vec::new()
            }
            Found::Job(question, on) => {
                self.tracker.answered(question, on, now);
                Vec::new()
            }
            Found::Ends(id, ends) => {
                let ends = self.tracker.found(id, ends);
                let along = self.record();
                if ends.is_empty() {
                    self.persist(true);
                }
                let publications = |end: &End| {
                    let told = Told::end(end, self.tracker.by_our_clock(end.at));
                    tracing::info!(file = told.print.path, event = %told.kind, "recovered the end of a print that was missed");
                    told.publications(topics, lane, along.as_ref())
                };
                ends.iter().flat_map(publications).collect()
            }
        }
    }

    /// When [`Prints::flush`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        [self.tracker.due(), self.pauses.due()].into_iter().flatten().min()
    }

    /// Keeps what is to be kept once a minute, and looks after a print that ended in silence.
    /// Yields a pause or its end, which no event told; `wall` is the time of day.
    pub fn flush(
        &mut self,
        now: Instant,
        wall: SystemTime,
        rest: impl FnOnce() -> Rest,
    ) -> Option<Told> {
        if let Some(lost) = self.tracker.overdue(now) {
            self.find_out(rest(), lost);
        } else if let Some(question) = self.tracker.asks(now) {
            self.ask_job(question, rest());
        }
        self.persist(false);
        let kind = match self.pauses.overdue(now)? {
            true => EventKind::PrintPaused,
            false => EventKind::PrintResumed,
        };
        self.told(kind, timestamp::unix(wall) as f64)
    }

    fn persist(&mut self, changed: bool) {
        if let Some(record) = self.tracker.to_persist(changed, crate::clock::now()) {
            self.store.persist(&self.printer, RECORD, record);
            self.kept = Some(record.clone());
        }
    }

    /// What is kept along with an event.
    fn record(&mut self) -> Option<Bytes> {
        let record = self.tracker.record()?;
        self.kept = Some(record.clone());
        serde_json::to_vec(record).ok().map(Bytes::from)
    }

    fn ask_counts(&self, print: &Print, rest: Rest) {
        let (print, found) = (print.clone(), self.found.clone());
        self.watch.spawn("counts of prints", async move {
            if let Some(Ok(history)) = ask(&rest, &print).await {
                // Fails only when the printer's task has ended.
                let _ = found.send(Box::new(Found::Counts(print.path, history))).await;
            }
        });
    }

    fn ask_job(&self, question: u64, rest: Rest) {
        let found = self.found.clone();
        self.watch.spawn("state of the job", async move {
            let on = match rest.job_status().await {
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
            let _ = found.send(Box::new(Found::Job(question, on))).await;
        });
    }

    fn find_out(&self, rest: Rest, lost: Lost) {
        let found = self.found.clone();
        let Lost { id, ends, unclear } = lost;
        self.watch.spawn("recovery", async move {
            tokio::time::sleep(WRITTEN).await;
            let ends = find_out(&rest, ends, unclear).await;
            let _ = found.send(Box::new(Found::Ends(id, ends))).await;
        });
    }
}

/// Asks for the histories of the files, which say how long a print took, how one ended before
/// OctoPrint was restarted, and whether one that is unclear ended.
async fn find_out(rest: &Rest, mut ends: Vec<End>, unclear: Option<Unclear>) -> Vec<End> {
    let done = ends.iter_mut().filter(|end| end.outcome == Outcome::Done);
    join_all(done.map(|end| async {
        let at = end.at;
        let history = settled(rest, &end.print, |history| history.reaches(at - SAME)).await;
        end.took = history.and_then(|history| history.took(at, SAME));
    }))
    .await;
    for end in &mut ends {
        if let Some(unclear) = end.unproven.take() {
            let history = settled(rest, &unclear.print, |_| true).await;
            *end = unclear.settle(history.as_ref()).unwrap_or_else(|| end.clone());
        }
    }
    if let Some(unclear) = unclear {
        let history = settled(rest, &unclear.print, |_| true).await;
        ends.extend(unclear.settle(history.as_ref()));
    }
    ends
}

/// A file's history; asked for again while no answer comes, or one that is not `written` yet: an
/// OctoPrint that has much to do takes its time.
async fn settled(
    rest: &Rest,
    print: &Print,
    written: impl Fn(&FileHistory) -> bool,
) -> Option<FileHistory> {
    for attempt in 1..=ATTEMPTS {
        match ask(rest, print).await? {
            Ok(history) if written(&history) || attempt == ATTEMPTS => return Some(history),
            Ok(_) => tracing::debug!("the history of the file is not written yet"),
            // No such file, or not for this user to see.
            Err(error) if matches!(error.kind(), RestErrorKind::Status { .. }) => return None,
            Err(error) => tracing::debug!(
                "cannot read the print history of the file: {}",
                causes::text(&error)
            ),
        }
        tokio::time::sleep(WRITTEN * attempt).await;
    }
    None
}

/// `None` where there is nothing to ask: of files on the card only some connectors of OctoPrint 2.0
/// have a history.
async fn ask(rest: &Rest, print: &Print) -> Option<Result<FileHistory, RestError>> {
    let path = print.path.as_ref()?;
    let origin = print.origin.as_deref().filter(|origin| *origin != "sdcard")?;
    let file = FilePath::parse(&format!("{origin}/{path}"))?;
    match rest.file_info(&file).await {
        Ok(answer) if origin == "local" => Some(Ok(FileHistory::read(&answer).unwrap_or_default())),
        Ok(answer) => FileHistory::read_of_printer(&answer).map(Ok),
        Err(error) => Some(Err(error)),
    }
}

/// The print that an event is about; each field by itself.
fn print_of(payload: &str) -> Option<Print> {
    let job: serde_json::Value = serde_json::from_str(payload).ok()?;
    let text = |name: &str| job[name].as_str().map(str::to_owned);
    let print = Print {
        name: text("name"),
        path: text("path"),
        origin: text("origin"),
        size: job["size"].as_u64(),
        user: text("user").or_else(|| text("owner")),
    };
    Some(print.known())
}

/// Whether an event comes from another connector than the serial one. Before 2.0 none is named.
fn is_of_another_connector(payload: &str) -> bool {
    let event: serde_json::Value = serde_json::from_str(payload).unwrap_or_default();
    event["connector"].as_str().is_some_and(|connector| connector != SERIAL)
}

#[cfg(test)]
mod octoprint_2_tests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tracker_tests;
