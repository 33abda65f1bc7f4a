//! One printer's state, folded from OctoPrint's messages; returns what changed (pure).
//!
//! Every field is decoded separately: one of an unexpected form does not affect the others.

mod estimate;
mod event_fields;
mod heaters;
mod job;
pub(crate) mod json;
pub mod markings;
mod position;
pub(in crate::bridge::printer) mod printer_state;
mod progress;
mod roster;
mod surroundings;

use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};

pub use self::event_fields::EventFields;
pub use self::heaters::HeaterReading;
use self::heaters::Heaters;
use self::job::SelectedFile;
pub use self::job::{Filament, FileId, JobFile, LastPrintTimes};
use self::json::{
    LastPayload, LastRaw, MAX_BYTES, Present, Raw, member, object, raw_number, whole_object,
};
pub use self::json::{NotAnObject, Now, StateChange, StateTopic};
use self::markings::Standing;
use self::position::Position;
use self::printer_state::Condition;
pub use self::printer_state::PrinterState;
use self::progress::{LastPrint, Progress};
use self::surroundings::Surroundings;
pub use self::surroundings::{Space, Storages};
use crate::heater::Heater;
use crate::octoprint::{EventKind, PrinterConnection, SERIAL};

/// The members of `current` and `history` to decode, without the bulk: `logs` and `messages`.
#[derive(Deserialize)]
struct Update<'a> {
    #[serde(borrow, default)]
    state: Raw<'a>,
    #[serde(borrow, default)]
    job: Raw<'a>,
    #[serde(borrow, default)]
    progress: Raw<'a>,
    #[serde(borrow, default, rename = "currentZ")]
    current_z: Raw<'a>,
    #[serde(borrow, default, rename = "currentTool")]
    current_tool: Present<'a>,
    #[serde(borrow, default)]
    offsets: Raw<'a>,
    #[serde(borrow, default)]
    resends: Raw<'a>,
    /// The name of `resends` since OctoPrint 2.0.
    #[serde(borrow, default)]
    health: Raw<'a>,
    #[serde(borrow, default)]
    temps: Raw<'a>,
    #[serde(borrow, default)]
    markings: Raw<'a>,
    #[serde(borrow, default, rename = "serverTime")]
    server_time: Raw<'a>,
}

/// One printer's state.
#[derive(Debug, Default)]
pub struct Snapshot {
    condition: Condition,
    job: SelectedFile,
    progress: Progress,
    /// A file and the slicer's time for it, in seconds.
    slicer_time: Option<(FileId, f64)>,
    last_markings: LastRaw,
    /// OctoPrint's log, as of the last message.
    standing: Option<Standing>,
    heaters: Heaters,
    /// The connector that OctoPrint uses for the printer.
    connector: Option<String>,
    position: Position,
    factors: LastPayload,
    /// The server's time of the last message, in Unix seconds.
    server_time: Option<f64>,
    /// Feed and flow rate as last set by commands, in percent.
    commanded: (Option<u32>, Option<u32>),
    last_resends: LastRaw,
    resends: LastPayload,
    server: LastPayload,
    surroundings: Surroundings,
}

impl Snapshot {
    /// A snapshot without any state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns every topic with nulls, except for heaters: the state before OctoPrint was reached.
    pub fn unknown(&mut self) -> Vec<StateChange> {
        let mut changes = Vec::new();
        changes.extend(self.condition.apply(None));
        changes.extend(self.job.apply(None));
        changes.extend(self.progress.unknown());
        changes.extend(self.position.change());
        changes.extend(self.apply_resends(None));
        changes.extend(self.factors(None, None));
        changes.extend(self.apply_server("{}").ok().flatten());
        changes.extend(self.set_connection(PrinterConnection::default()));
        changes.extend(self.set_storages(&Storages::default()));
        changes
    }

    /// Folds in a `current` payload.
    ///
    /// # Errors
    /// [`NotAnObject`], and nothing changes.
    pub fn apply(&mut self, payload: &str, now: Now) -> Result<Vec<StateChange>, NotAnObject> {
        self.fold(payload, now, true)
    }

    /// Folds in a `history` payload. Its readings may be old and add no heaters.
    ///
    /// # Errors
    /// As [`Snapshot::apply`].
    pub fn apply_history(
        &mut self,
        payload: &str,
        now: Now,
    ) -> Result<Vec<StateChange>, NotAnObject> {
        self.fold(payload, now, false)
    }

    fn fold(
        &mut self,
        payload: &str,
        now: Now,
        current: bool,
    ) -> Result<Vec<StateChange>, NotAnObject> {
        let update: Update<'_> = whole_object(payload)?;
        let mut changes = Vec::new();
        changes.extend(self.condition.apply(update.state));
        changes.extend(self.job.apply(update.job));
        let state = self.condition.state;
        let server_time = member(update.server_time);
        self.server_time = server_time;
        self.apply_markings(update.markings);
        let print = self.last_print();
        let slicer_time = self.slicer_time();
        let progress = &mut self.progress;
        let change = progress.apply(update.progress, state, print, slicer_time, server_time, now);
        changes.extend(change);
        let (temps, offsets) = (update.temps, update.offsets);
        let current = current.then_some(now.instant);
        changes.extend(self.heaters.apply(temps, offsets, state, current));
        changes.extend(self.position.apply(update.current_z, update.current_tool, state));
        changes.extend(self.apply_resends(update.health.or(update.resends)));
        Ok(changes)
    }

    /// Folds in an event, for what `current` does not carry.
    pub fn event(&mut self, kind: &EventKind, fields: &EventFields<'_>) -> Vec<StateChange> {
        if matches!(kind, EventKind::Connecting | EventKind::FileSelected | EventKind::PrintStarted)
        {
            self.note_connector(member(fields.connector));
        }
        match kind {
            EventKind::PrintStarted => self.progress.print_started(),
            EventKind::PrintDone | EventKind::PrintFailed | EventKind::PrintCancelled => {
                self.progress.print_ended();
            }
            _ => {}
        }
        // The firmware starts with its default factors.
        let factors = match kind {
            EventKind::Connected | EventKind::PrinterReset => self.factors(None, None),
            _ => None,
        };
        let gone = *kind == EventKind::Disconnected;
        let connection = gone.then(|| self.set_connection(PrinterConnection::default())).flatten();
        let condition = self.condition.event(kind, fields);
        let (job, position) = (self.job.event(kind, fields), self.position.event(kind, fields));
        [condition, job, position, factors, connection].into_iter().flatten().collect()
    }

    fn slicer_time(&self) -> Option<f64> {
        let (of, seconds) = self.slicer_time.as_ref()?;
        self.job_file().filter(|job| job.file == *of).map(|_| *seconds)
    }

    /// Sets the slicer's time for printing `file`, in seconds; it counts from the next message on.
    pub fn set_slicer_time(&mut self, file: FileId, seconds: Option<f64>) {
        self.slicer_time = seconds.map(|seconds| (file, seconds));
    }

    /// Returns the selected file.
    pub fn job_file(&self) -> Option<&JobFile> {
        self.job.job_file()
    }

    /// Returns the position in the file that is printed, in bytes.
    pub fn filepos(&self) -> Option<u64> {
        self.progress.filepos()
    }

    /// The last print in the log, where connectors other than the serial one may repeat its start.
    fn last_print(&self) -> LastPrint {
        let Some(standing) = &self.standing else { return LastPrint::default() };
        let marking = if self.is_serial() { standing.print } else { standing.first };
        LastPrint { marking, cancelled: standing.cancelled }
    }

    /// Whether OctoPrint uses its serial connector, the only one before 2.0, as far as is known.
    pub fn is_serial(&self) -> bool {
        self.connector.as_deref().is_none_or(|connector| connector == SERIAL)
    }

    /// Remembers the last known connector, over disconnects too.
    fn note_connector(&mut self, connector: Option<String>) {
        let known = connector.filter(|connector| connector != "unknown");
        self.connector = known.or(self.connector.take());
    }

    /// Returns why the printer failed or was disconnected, if an event reported it.
    pub fn cause(&self) -> Option<&str> {
        self.condition.cause()
    }

    /// Whether that is known for sure: a lost connection may be the consequence of an error that an
    /// event names later.
    pub fn is_cause_settled(&self) -> bool {
        self.condition.is_cause_settled()
    }

    /// Returns the last readings of the heaters.
    pub fn readings(&self) -> impl Iterator<Item = (&Heater, HeaterReading)> {
        self.heaters.readings()
    }

    /// Whether a `FileSelected` repeats the one before it.
    pub fn is_selected_again(&self, fields: &EventFields<'_>) -> bool {
        self.job.is_selected_again(fields)
    }

    /// Returns the file whose last print times must be asked for, once.
    pub fn take_unasked(&mut self) -> Option<FileId> {
        self.job.take_unasked()
    }

    /// Sets the last print times of a file, from its statistics.
    pub fn set_last_print_times(
        &mut self,
        file: FileId,
        times: LastPrintTimes,
    ) -> Option<StateChange> {
        self.job.set_times(file, times)
    }

    /// Sets how OctoPrint is connected to the printer, which also answers [`Snapshot::is_serial`].
    pub fn set_connection(&mut self, connection: PrinterConnection) -> Option<StateChange> {
        let change = self.surroundings.set_connection(&connection);
        self.note_connector(connection.connector);
        change
    }

    /// Sets the free space of each storage.
    pub fn set_storages(&mut self, storages: &Storages) -> Option<StateChange> {
        self.surroundings.set_storages(storages)
    }

    /// Sets the id of the current printer profile.
    pub fn set_profile(&mut self, id: Option<String>) -> Option<StateChange> {
        self.job.set_profile(id)
    }

    /// Folds in a `connected` payload.
    ///
    /// # Errors
    /// As [`Snapshot::apply`].
    pub fn apply_server(&mut self, payload: &str) -> Result<Option<StateChange>, NotAnObject> {
        #[derive(Deserialize, Serialize)]
        struct Server<'a> {
            #[serde(borrow, default)]
            version: Raw<'a>,
            #[serde(borrow, default)]
            display_version: Raw<'a>,
            #[serde(borrow, default)]
            branch: Raw<'a>,
            #[serde(borrow, default)]
            python_version: Raw<'a>,
            #[serde(borrow, default)]
            safe_mode: Raw<'a>,
            #[serde(borrow, default)]
            online: Raw<'a>,
        }
        let server: Server<'_> = whole_object(payload)?;
        Ok(self.server.change(StateTopic::Server, &server))
    }

    /// Sets the feed rate that OctoPrint accepted, in percent.
    pub fn set_feedrate(&mut self, percent: u32) -> Option<StateChange> {
        self.factors(Some(percent), self.commanded.1)
    }

    /// Sets the flow rate that OctoPrint accepted, in percent.
    pub fn set_flowrate(&mut self, percent: u32) -> Option<StateChange> {
        self.factors(self.commanded.0, Some(percent))
    }

    fn factors(&mut self, feedrate: Option<u32>, flowrate: Option<u32>) -> Option<StateChange> {
        #[derive(Serialize)]
        struct Factors {
            feedrate: Option<u32>,
            flowrate: Option<u32>,
        }
        self.commanded = (feedrate, flowrate);
        self.factors.change(StateTopic::Factors, &Factors { feedrate, flowrate })
    }

    /// Returns a change that was held back to limit its frequency, if it is due.
    pub fn flush(&mut self, now: Now) -> Option<StateChange> {
        self.progress.flush(now.instant)
    }

    /// Returns when [`Snapshot::flush`] may return a change.
    pub fn due(&self) -> Option<Instant> {
        self.progress.due()
    }

    /// Adds heaters from before the start; those that the profile rules out are cleared.
    pub fn restore_heaters(&mut self, heaters: Vec<Heater>) {
        self.heaters.restore(heaters);
    }

    /// Sets the profile's heaters, and clears those it lost; `None` if this user may not see it.
    pub fn set_profile_heaters(&mut self, heaters: Option<Vec<Heater>>) {
        self.heaters.set_profile(heaters);
    }

    /// Returns the topics to clear, of what is no longer a heater, once.
    pub fn take_cleared(&mut self) -> Vec<StateChange> {
        self.heaters.take_cleared()
    }

    /// Returns the known heaters, those of the printer profile first.
    pub fn known_heaters(&self) -> impl Iterator<Item = &Heater> + Clone {
        self.heaters.roster().known()
    }

    /// Returns the known heaters, else those that nearly every printer has.
    pub fn heaters(&self) -> Vec<Heater> {
        self.heaters.roster().heaters()
    }

    /// Whether `name` is a heater of this printer.
    pub fn is_heater(&self, name: &str) -> bool {
        self.heaters.roster().is_heater(name)
    }

    /// Returns the printer's state.
    pub fn state(&self) -> PrinterState {
        self.condition.state
    }

    /// Returns when the current print ends, as published.
    pub fn finish_time(&self) -> Option<SystemTime> {
        self.progress.finish_time()
    }

    /// Returns the progress of the print, in percent.
    pub fn completion(&self) -> Option<f64> {
        self.progress.completion()
    }

    /// Returns when the print started, by the bridge's clock.
    pub fn print_started(&self) -> Option<SystemTime> {
        self.progress.started()
    }

    /// Returns the filament that the selected file needs, if its path is `path`.
    pub fn filament(&self, path: &str) -> Option<Filament> {
        self.job.filament(path)
    }

    /// Returns the server's time of the last `current` or `history`, in Unix seconds.
    pub fn server_time(&self) -> Option<f64> {
        self.server_time
    }

    /// Returns the summary of OctoPrint's log; `None` if the last message had none or an empty one.
    pub fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }

    fn apply_markings(&mut self, raw: Raw<'_>) {
        if self.last_markings.differs(raw) {
            self.standing = markings::read(raw).as_deref().and_then(Standing::of);
        }
    }

    fn apply_resends(&mut self, raw: Raw<'_>) -> Option<StateChange> {
        #[derive(Deserialize, Serialize, Default)]
        struct Resends<'a> {
            #[serde(borrow, default)]
            count: Raw<'a>,
            #[serde(borrow, default)]
            transmitted: Raw<'a>,
            #[serde(borrow, default)]
            ratio: Raw<'a>,
            #[serde(borrow, default)]
            critical: Raw<'a>,
        }
        if !self.last_resends.differs(raw) {
            return None;
        }
        let Resends { count, transmitted, ratio, critical } = object(raw);
        let resends = Resends {
            count: raw_number(count, (0.0, MAX_BYTES)),
            transmitted: raw_number(transmitted, (0.0, MAX_BYTES)),
            ratio: raw_number(ratio, (0.0, 100.0)),
            critical: critical.filter(|raw| member::<bool>(Some(raw)).is_some()),
        };
        self.resends.change(StateTopic::Resends, &resends)
    }
}

#[cfg(test)]
mod tests;
