//! Whether a command that was parsed may run now (pure): time is an argument.

use std::time::Instant;

use super::answers::Failure;
use super::command::{Asked, Command};
use super::rate_limit::{self, RateLimit};
use super::{Rules, check};
use crate::bridge::printer::snapshot::Snapshot;
use crate::heater::{Heater, HeaterKind};

/// A command that may run.
pub(super) struct Admitted {
    pub(super) command: Command,
    /// Whether the printer is known to have the heaters that it is about: without a socket what is
    /// known may be old, and OctoPrint is to be asked.
    pub(super) known: bool,
}

/// Decides which commands of one printer run.
pub(super) struct Admission {
    pub(super) rules: Rules,
    rate: RateLimit,
}

impl Admission {
    pub(super) fn new(rules: Rules, now: Instant) -> Self {
        Self { rules, rate: RateLimit::new(now) }
    }

    /// Admits what was asked; `snapshot` is current while the socket is `connected`.
    pub(super) fn admit(
        &mut self,
        asked: &Asked,
        snapshot: &Snapshot,
        connected: bool,
        now: Instant,
    ) -> Result<Admitted, Failure> {
        let mut command =
            check(asked, &self.rules).map_err(|refusal| Failure::new(refusal.to_string()))?;
        if !command.is_urgent() && !self.rate.allows(now) {
            return Err(Failure::new(rate_limit::REFUSAL));
        }
        if let Command::HeatersOff(heaters) = &mut command {
            if connected {
                *heaters = snapshot.heaters();
                heaters.retain(Heater::can_be_set);
            }
            let known = !heaters.is_empty();
            return Ok(Admitted { command, known });
        }
        // With a profile of one extruder OctoPrint lets any tool set the only hotend.
        let checked = command.heater().filter(|heater| {
            !matches!(heater.kind(), HeaterKind::Tool(0) | HeaterKind::Bed | HeaterKind::Chamber)
        });
        let Some(heater) = checked else { return Ok(Admitted { command, known: true }) };
        if connected && !snapshot.is_heater(heater.as_str()) {
            return Err(Failure::no_heater(heater));
        }
        Ok(Admitted { command, known: connected })
    }
}
