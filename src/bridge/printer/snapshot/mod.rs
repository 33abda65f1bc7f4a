//! One printer's state, folded from OctoPrint's messages; says what changed (pure).
//!
//! Every field is decoded by itself: one that OctoPrint sends in a form unknown today costs that
//! field, not the others.

mod change;
mod heaters;
pub(crate) mod json;
pub mod markings;
mod printer_state;
mod progress;
mod roster;

use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::change::Published;
pub use self::change::{Now, StateChange, StateTopic};
use self::heaters::Heaters;
pub use self::json::NotAnObject;
use self::json::{
    Last, MOST_BYTES, MOST_SECONDS, Raw, member, number, object, raw_number, raw_object, raw_text,
    whole_object,
};
use self::markings::Standing;
pub use self::printer_state::PrinterState;
use self::progress::Progress;
use crate::heater::Heater;
use crate::octoprint::EventKind;

/// Heights that can be, in mm.
const MILLIMETRES: (f64, f64) = (-100_000.0, 100_000.0);

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
    #[serde(borrow, default)]
    offsets: Raw<'a>,
    #[serde(borrow, default)]
    resends: Raw<'a>,
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
    state: PrinterState,
    last_state: Last,
    printer: Published,
    last_job: Last,
    job: Published,
    progress: Progress,
    last_markings: Last,
    /// How OctoPrint's log stands, as the last message had it.
    standing: Option<Standing>,
    heaters: Heaters,
    position: Published,
    z: Option<f64>,
    tool: Option<i64>,
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
        changes.extend(self.apply_state(None));
        changes.extend(self.apply_job(None));
        changes.extend(self.progress.unknown());
        changes.extend(self.position());
        changes.extend(self.apply_resends(None));
        changes.extend(self.factors(None, None));
        changes.extend(self.apply_server("{}").ok().flatten());
        changes
    }

    /// Folds in a `current` payload.
    pub fn apply(&mut self, payload: &str, now: Now) -> Result<Vec<StateChange>, NotAnObject> {
        self.fold(payload, now, true)
    }

    /// Folds in a `history` payload, whose readings may be old: they make no heater.
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
        changes.extend(self.apply_state(update.state));
        changes.extend(self.apply_job(update.job));
        let server_time = member(update.server_time);
        self.server_time = server_time;
        self.take_markings(update.markings);
        let marking = self.standing.as_ref().and_then(|standing| standing.print);
        changes.extend(self.progress.apply(update.progress, self.state, marking, server_time, now));
        let (temps, offsets) = (update.temps, update.offsets);
        let current = current.then_some(now.instant);
        changes.extend(self.heaters.apply(temps, offsets, self.state, current));
        self.z = number(update.current_z, MILLIMETRES);
        changes.extend(self.position());
        changes.extend(self.apply_resends(update.resends));
        Ok(changes)
    }

    /// Folds in an event's type and payload: what `current` does not carry.
    pub fn event(&mut self, kind: &EventKind, payload: Option<&RawValue>) -> Vec<StateChange> {
        #[derive(Deserialize)]
        struct ToolChange {
            new: i64,
        }
        let changed = match kind {
            EventKind::ToolChange => {
                let tool = member::<ToolChange>(payload).map(|change| change.new);
                self.tool = tool.filter(|tool| (0..=255).contains(tool));
                self.position()
            }
            // The firmware starts with its own factors and tool, whatever was commanded before.
            EventKind::Connected | EventKind::PrinterReset => {
                self.tool = None;
                return [self.position(), self.factors(None, None)].into_iter().flatten().collect();
            }
            _ => None,
        };
        changed.into_iter().collect()
    }

    /// Folds in a `connected` payload.
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
        self.state
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

    fn apply_state(&mut self, raw: Raw<'_>) -> Option<StateChange> {
        #[derive(Deserialize, Default)]
        struct StateMember<'a> {
            #[serde(borrow, default)]
            text: Raw<'a>,
            #[serde(borrow, default)]
            error: Raw<'a>,
            #[serde(borrow, default)]
            flags: Raw<'a>,
        }
        #[derive(Serialize)]
        struct PrinterPayload<'a> {
            state: PrinterState,
            text: Raw<'a>,
            error: Raw<'a>,
            flags: Raw<'a>,
        }
        if !self.last_state.differs(raw) {
            return None;
        }
        let StateMember { text, error, flags } = object(raw);
        let spoken: Option<String> = member(text);
        self.state = PrinterState::of(spoken.as_deref(), object(flags));
        let (text, error, flags) = (raw_text(text), raw_text(error), raw_object(flags));
        self.printer
            .change(StateTopic::Printer, &PrinterPayload { state: self.state, text, error, flags })
    }

    fn apply_job(&mut self, raw: Raw<'_>) -> Option<StateChange> {
        #[derive(Deserialize, Default)]
        struct FileMember<'a> {
            #[serde(borrow, default)]
            name: Raw<'a>,
            #[serde(borrow, default)]
            path: Raw<'a>,
            #[serde(borrow, default)]
            origin: Raw<'a>,
            #[serde(borrow, default)]
            size: Raw<'a>,
        }
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase")]
        struct JobMember<'a> {
            #[serde(borrow, default)]
            file: Raw<'a>,
            #[serde(borrow, default)]
            user: Raw<'a>,
            #[serde(borrow, default)]
            estimated_print_time: Raw<'a>,
            #[serde(borrow, default)]
            last_print_time: Raw<'a>,
            #[serde(borrow, default)]
            filament: Raw<'a>,
        }
        #[derive(Serialize)]
        struct Out<'a> {
            file: Raw<'a>,
            path: Raw<'a>,
            origin: Raw<'a>,
            size: Raw<'a>,
            user: Raw<'a>,
            estimated_print_time: Raw<'a>,
            last_print_time: Raw<'a>,
            filament: Raw<'a>,
        }
        if !self.last_job.differs(raw) {
            return None;
        }
        let job: JobMember<'_> = object(raw);
        let FileMember { name, path, origin, size } = object(job.file);
        let seconds = |raw| raw_number(raw, (0.0, MOST_SECONDS));
        let out = Out {
            file: raw_text(name),
            path: raw_text(path),
            origin: raw_text(origin),
            size: raw_number(size, (0.0, MOST_BYTES)),
            user: raw_text(job.user),
            estimated_print_time: seconds(job.estimated_print_time),
            last_print_time: seconds(job.last_print_time),
            filament: raw_object(job.filament),
        };
        self.job.change(StateTopic::Job, &out)
    }

    fn position(&mut self) -> Option<StateChange> {
        #[derive(Serialize)]
        struct Position {
            z: Option<f64>,
            tool: Option<i64>,
        }
        self.position.change(StateTopic::Position, &Position { z: self.z, tool: self.tool })
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
        }
        if !self.last_resends.differs(raw) {
            return None;
        }
        let Resends { count, transmitted, ratio } = object(raw);
        let resends = Resends {
            count: raw_number(count, (0.0, MOST_BYTES)),
            transmitted: raw_number(transmitted, (0.0, MOST_BYTES)),
            ratio: raw_number(ratio, (0.0, 100.0)),
        };
        self.resends.change(StateTopic::Resends, &resends)
    }
}

#[cfg(test)]
mod clock_tests;
#[cfg(test)]
mod tests;
