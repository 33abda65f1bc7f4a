//! Whether a command that was parsed may run now (pure): time is an argument. An automation in a loop
//! must not flood OctoPrint.

use std::time::{Duration, Instant};

use super::answers::Failure;
use super::command::{Asked, Command};
use super::{Rules, check};
use crate::bridge::printer::snapshot::Snapshot;
use crate::heater::{Heater, HeaterKind};

/// Commands that may come at once.
const BURST: u32 = 50;
/// How long it takes until one more may come.
const REFILL: Duration = Duration::from_millis(100);
/// What is said of those that are too many.
const TOO_MANY: &str =
    "too many commands: this printer takes 50 at once, and 10 a second from then on";

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
            return Err(Failure::new(TOO_MANY));
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

/// A bucket of tokens, one a command.
#[derive(Debug)]
struct RateLimit {
    /// When the bucket was or will be full.
    full: Instant,
}

impl RateLimit {
    /// A full bucket.
    fn new(now: Instant) -> Self {
        Self { full: now }
    }

    /// Takes a token, if there is one.
    fn allows(&mut self, now: Instant) -> bool {
        let full = self.full.max(now) + REFILL;
        let fits = full <= now + REFILL * BURST;
        if fits {
            self.full = full;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_ten_a_second() {
        let start = Instant::now();
        let mut limit = RateLimit::new(start);
        assert!((0..BURST).all(|_| limit.allows(start)));
        assert!(!limit.allows(start));
        let later = start + Duration::from_secs(1);
        assert_eq!((0..20).filter(|_| limit.allows(later)).count(), 10);
        let much_later = later + Duration::from_secs(60);
        assert_eq!((0..60).filter(|_| limit.allows(much_later)).count(), 50);
    }
}
