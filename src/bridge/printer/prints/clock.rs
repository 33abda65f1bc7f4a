//! OctoPrint's clock, which may be set at any time, as may ours (pure).

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A clock that jumps by so many seconds was set.
const SET: f64 = 5.0;
/// Clocks that agree so well need no conversion, in seconds.
const AGREE: f64 = 5.0;

/// The server's clock, as it was heard.
#[derive(Debug, Default)]
pub(super) struct ServerClock {
    /// What it said last.
    last: f64,
    /// When that was; `None` where it was before the start.
    heard: Option<Instant>,
    /// The server's clock less ours, in seconds.
    ahead: f64,
}

impl ServerClock {
    /// One that was heard before the start.
    pub(super) fn from(last: f64) -> Self {
        Self { last, ..Self::default() }
    }

    /// What it said last.
    pub(super) fn last(&self) -> f64 {
        self.last
    }

    /// When it was heard last.
    pub(super) fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// Takes in what it says. Yields by how much it was set since it was heard last.
    pub(super) fn hear(&mut self, says: f64, now: Instant, wall: SystemTime) -> Option<f64> {
        let jump = says - self.at(now);
        let set = self.heard.is_some() && jumped(jump);
        (self.last, self.heard) = (says, Some(now));
        let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.ahead = says - wall;
        set.then_some(jump)
    }

    /// What it says at `now`.
    pub(super) fn at(&self, now: Instant) -> f64 {
        let since = self.heard.map(|heard| now.saturating_duration_since(heard));
        self.last + since.unwrap_or_default().as_secs_f64()
    }

    /// What it said when it was heard at `before`, `away` seconds before it says `says`: by its
    /// clock of today, where it was set meanwhile.
    pub(super) fn restated(&self, before: f64, away: Option<f64>, says: Option<f64>) -> f64 {
        match (away, says) {
            (Some(away), Some(says)) if jumped(says - before - away) => says - away,
            _ => before,
        }
    }

    /// A time of it, as seconds of our clock since 1970.
    pub(super) fn by_ours(&self, time: f64) -> f64 {
        time - if self.ahead.abs() < AGREE { 0.0 } else { self.ahead }
    }
}

fn jumped(seconds: f64) -> bool {
    seconds.abs() >= SET
}
