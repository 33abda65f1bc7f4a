//! Decides whether a parsed command may run now (pure): time is an argument. An automation in a loop
//! must not flood OctoPrint.

use std::time::{Duration, Instant};

use super::answers::CommandError;
use super::command::{Command, CommandRequest};
use super::{Rules, check};
use crate::bridge::printer::snapshot::Snapshot;
use crate::heater::{Heater, HeaterKind};

/// Number of commands allowed at once.
const BURST: u32 = 50;
/// Interval after which one more is allowed.
const REFILL: Duration = Duration::from_millis(100);
/// Error of the commands that exceed the limit.
const TOO_MANY: &str =
    "too many commands: this printer takes 50 at once, and 10 a second from then on";

/// A command that may run.
pub(super) struct Admitted {
    pub(super) command: Command,
    /// Whether the printer is known to have the command's heaters. If not, OctoPrint has to be asked:
    /// without a socket what is known may be outdated.
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

    /// Admits `request`; `snapshot` is current while the socket is `connected`.
    pub(super) fn admit(
        &mut self,
        request: &CommandRequest,
        snapshot: &Snapshot,
        connected: bool,
        now: Instant,
    ) -> Result<Admitted, CommandError> {
        let mut command = check(request, &self.rules)
            .map_err(|refusal| CommandError::new(refusal.to_string()))?;
        if !command.is_urgent() && !self.rate.allows(now) {
            return Err(CommandError::new(TOO_MANY));
        }
        if let Command::HeatersOff(heaters) = &mut command {
            if connected {
                *heaters = snapshot.heaters();
                heaters.retain(Heater::can_be_set);
            }
            let known = !heaters.is_empty();
            return Ok(Admitted { command, known });
        }
        // With a profile of one extruder, OctoPrint applies any tool to the only hotend.
        let checked = command.heater().filter(|heater| {
            !matches!(heater.kind(), HeaterKind::Tool(0) | HeaterKind::Bed | HeaterKind::Chamber)
        });
        let Some(heater) = checked else { return Ok(Admitted { command, known: true }) };
        if connected && !snapshot.is_heater(heater.as_str()) {
            return Err(CommandError::no_heater(heater));
        }
        Ok(Admitted { command, known: connected })
    }
}

/// A bucket of tokens, one a command.
#[derive(Debug)]
struct RateLimit {
    /// When the bucket was full, or will be.
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
    fn a_burst_is_followed_by_ten_a_second() {
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
