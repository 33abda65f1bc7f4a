//! One printer's state, folded from OctoPrint's messages; says what changed (pure).
//!
//! Every field is decoded by itself: one that OctoPrint sends in a form unknown today costs that
//! field, not the others.

pub(in crate::bridge::printer) mod cause;
mod change;
mod condition;
mod heaters;
mod job;
pub(crate) mod json;
pub mod markings;
mod position;
pub(in crate::bridge::printer) mod printer_state;
mod progress;
mod roster;

use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::change::Published;
pub use self::change::{Now, StateChange, StateTopic};
use self::condition::Condition;
use self::heaters::Heaters;
use self::job::SelectedFile;
pub use self::job::{FileId, LastPrintTimes};
pub use self::json::NotAnObject;
use self::json::{Last, MOST_BYTES, Present, Raw, member, object, raw_number, whole_object};
use self::markings::Standing;
use self::position::Position;
pub use self::printer_state::PrinterState;
use self::progress::{LastPrint, Progress};
use crate::heater::Heater;
use crate::octoprint::{EventKind, SERIAL};

/// The members of `current` and `history` that are looked at. `logs` and `messages`, the bulk,
/// are not.
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
    /// What `resends` is since OctoPrint 2.0.
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
    last_markings: Last,
    /// How OctoPrint's log stands, as the last message had it.
    standing: Option<Standing>,
    heaters: Heaters,
    /// The connector over which OctoPrint reaches the printer.
    connector: Option<String>,
    position: Position,
    factors: Published,
    /// The server's time of the last message, in Unix seconds.
    server_time: Option<f64>,
    /// Feed and flow rate as last commanded, in percent.
    commanded: (Option<u32>, Option<u32>),
    last_resends: Last,
    resends: Published,
    server: Published,
}

impl Snapshot {
    /// A printer of which nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known before OctoPrint was ever reached: every topic with nulls, heaters left out.
    pub fn unknown(&mut self) -> Vec<StateChange> {
        let mut changes = Vec::new();
        changes.extend(self.condition.apply(None));
        changes.extend(self.job.apply(None));
        changes.extend(self.progress.unknown());
        changes.extend(self.position.change());
        changes.extend(self.apply_resends(None));
        changes.extend(self.factors(None, None));
        changes.extend(self.apply_server("{}").ok().flatten());
        changes
    }

    /// Folds in a `current` payload.
    ///
    /// # Errors
    /// [`NotAnObject`] changes nothing.
    pub fn apply(&mut self, payload: &str, now: Now) -> Result<Vec<StateChange>, NotAnObject> {
        self.fold(payload, now, true)
    }

    /// Folds in a `history` payload, whose readings may be old: they make no heater.
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
        self.take_markings(update.markings);
        let print = self.last_print();
        changes.extend(self.progress.apply(update.progress, state, print, server_time, now));
        let (temps, offsets) = (update.temps, update.offsets);
        let current = current.then_some(now.instant);
        changes.extend(self.heaters.apply(temps, offsets, state, current));
        changes.extend(self.position.apply(update.current_z, update.current_tool, state));
        changes.extend(self.apply_resends(update.health.or(update.resends)));
        Ok(changes)
    }

    /// Folds in an event's type and payload: what `current` does not carry.
    pub fn event(&mut self, kind: &EventKind, payload: Option<&RawValue>) -> Vec<StateChange> {
        if matches!(kind, EventKind::Connecting | EventKind::FileSelected | EventKind::PrintStarted)
        {
            self.take_connector(payload);
        }
        if *kind == EventKind::PrintStarted {
            self.progress.begin();
        }
        // The firmware starts with its own factors, whatever was commanded before.
        let factors = match kind {
            EventKind::Connected | EventKind::PrinterReset => self.factors(None, None),
            _ => None,
        };
        let condition = self.condition.event(kind, payload);
        let (job, position) = (self.job.event(kind, payload), self.position.event(kind, payload));
        [condition, job, position, factors].into_iter().flatten().collect()
    }

    /// What OctoPrint's log says of the last print. Connectors other than the serial one may tell of
    /// its start again and again.
    fn last_print(&self) -> LastPrint {
        let Some(standing) = &self.standing else { return LastPrint::default() };
        let marking = if self.is_serial() { standing.print } else { standing.first };
        LastPrint { marking, cancelled: standing.cancelled }
    }

    /// Whether OctoPrint reaches the printer over its serial connector, as far as is known; before
    /// 2.0 there is no other.
    pub fn is_serial(&self) -> bool {
        self.connector.as_deref().is_none_or(|connector| connector == SERIAL)
    }

    fn take_connector(&mut self, payload: Option<&RawValue>) {
        #[derive(Deserialize, Default)]
        struct OfConnector<'a> {
            #[serde(borrow, default)]
            connector: Raw<'a>,
        }
        let connector: Option<String> = member(object::<OfConnector<'_>>(payload).connector);
        let known = connector.filter(|connector| connector != "unknown");
        self.connector = known.or(self.connector.take());
    }

    /// Why the printer is gone, where events told.
    pub fn cause(&self) -> Option<&str> {
        self.condition.cause()
    }

    /// Whether a `FileSelected` says no more than the one before it.
    pub fn is_selected_again(&self, payload: Option<&RawValue>) -> bool {
        self.job.is_selected_again(payload)
    }

    /// The file of which the last print time is to be asked for, once.
    pub fn take_unasked(&mut self) -> Option<FileId> {
        self.job.take_unasked()
    }

    /// How long a file took to print last time, as its statistics have it.
    pub fn set_last_print_times(
        &mut self,
        file: FileId,
        times: LastPrintTimes,
    ) -> Option<StateChange> {
        self.job.set_times(file, times)
    }

    /// The id of the printer profile in force.
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

    /// The feed rate as OctoPrint took it, in percent; the flow rate stays as it was.
    pub fn set_feedrate(&mut self, percent: u32) -> Option<StateChange> {
        self.factors(Some(percent), self.commanded.1)
    }

    /// The flow rate as OctoPrint took it, in percent; the feed rate stays as it was.
    pub fn set_flowrate(&mut self, percent: u32) -> Option<StateChange> {
        self.factors(self.commanded.0, Some(percent))
    }

    /// Feed and flow rate as last commanded, in percent.
    fn factors(&mut self, feedrate: Option<u32>, flowrate: Option<u32>) -> Option<StateChange> {
        #[derive(Serialize)]
        struct Factors {
            feedrate: Option<u32>,
            flowrate: Option<u32>,
        }
        self.commanded = (feedrate, flowrate);
        self.factors.change(StateTopic::Factors, &Factors { feedrate, flowrate })
    }

    /// What a limit on frequency held back until now.
    pub fn flush(&mut self, now: Now) -> Option<StateChange> {
        self.progress.flush(now.instant)
    }

    /// When [`Snapshot::flush`] has something to say.
    pub fn due(&self) -> Option<Instant> {
        self.progress.due()
    }

    /// The heaters from before the start; those that the printer profile says are none are cleared.
    pub fn restore_heaters(&mut self, heaters: Vec<Heater>) {
        self.heaters.restore(heaters);
    }

    /// The printer profile says which heaters there are: those of the former profile that are
    /// gone are cleared. `None`: this user may not see it.
    pub fn set_profile_heaters(&mut self, heaters: Option<Vec<Heater>>) {
        self.heaters.set_profile(heaters);
    }

    /// The topics of what is no heater any more, once.
    pub fn take_cleared(&mut self) -> Vec<StateChange> {
        self.heaters.take_cleared()
    }

    /// The heaters that are known, those of the printer profile first.
    pub fn known_heaters(&self) -> impl Iterator<Item = &Heater> + Clone {
        self.heaters.roster().known()
    }

    /// The heaters: those that are known, else what nearly every printer has.
    pub fn heaters(&self) -> Vec<Heater> {
        self.heaters.roster().heaters()
    }

    /// Whether `name` is a heater of this printer.
    pub fn is_heater(&self, name: &str) -> bool {
        self.heaters.roster().is_heater(name)
    }

    /// The printer's state.
    pub fn state(&self) -> PrinterState {
        self.condition.state
    }

    /// The server's time of the last `current` or `history`, in Unix seconds.
    pub fn server_time(&self) -> Option<f64> {
        self.server_time
    }

    /// How OctoPrint's log stands; `None` where the last message had none, or an empty one.
    pub fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }

    fn take_markings(&mut self, raw: Raw<'_>) {
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
            count: raw_number(count, (0.0, MOST_BYTES)),
            transmitted: raw_number(transmitted, (0.0, MOST_BYTES)),
            ratio: raw_number(ratio, (0.0, 100.0)),
            critical: critical.filter(|raw| member::<bool>(Some(raw)).is_some()),
        };
        self.resends.change(StateTopic::Resends, &resends)
    }
}

#[cfg(test)]
mod clock_tests;
#[cfg(test)]
mod tests;
