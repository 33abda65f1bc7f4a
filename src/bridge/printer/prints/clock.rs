//! OctoPrint's clock, which may be set at any time, and so may ours (pure).

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Smallest jump, in seconds, that means that a clock was set.
const SET: f64 = 5.0;
/// Largest difference between the two clocks that needs no conversion, in seconds.
const AGREE: f64 = 5.0;

/// The server's clock as last read.
#[derive(Debug, Default)]
pub(super) struct ServerClock {
    /// The last reading, in Unix seconds.
    last: f64,
    /// When it was read; `None` for a reading from before the start of the bridge.
    read_at: Option<Instant>,
    /// The server's clock minus ours, in seconds.
    ahead: f64,
}

impl ServerClock {
    /// A reading from before the start of the bridge.
    pub(super) fn from(last: f64) -> Self {
        Self { last, ..Self::default() }
    }

    pub(super) fn last(&self) -> f64 {
        self.last
    }

    pub(super) fn read_at(&self) -> Option<Instant> {
        self.read_at
    }

    /// Stores a reading. Returns by how many seconds the clock was set since the previous one.
    pub(super) fn update(&mut self, reading: f64, now: Instant, wall: SystemTime) -> Option<f64> {
        let jump = reading - self.at(now);
        let set = self.read_at.is_some() && jumped(jump);
        (self.last, self.read_at) = (reading, Some(now));
        let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.ahead = reading - wall;
        set.then_some(jump)
    }

    /// The server's time at `now`.
    pub(super) fn at(&self, now: Instant) -> f64 {
        let since = self.read_at.map(|read_at| now.saturating_duration_since(read_at));
        self.last + since.unwrap_or_default().as_secs_f64()
    }

    /// Converts the reading `before` to the clock's current setting, if it was set meanwhile. The
    /// clock reads `reading` now, `away` seconds later.
    pub(super) fn restated(&self, before: f64, away: Option<f64>, reading: Option<f64>) -> f64 {
        match (away, reading) {
            (Some(away), Some(reading)) if jumped(reading - before - away) => reading - away,
            _ => before,
        }
    }

    /// Converts a time of the server to Unix seconds of our clock.
    pub(super) fn by_ours(&self, time: f64) -> f64 {
        time - if self.ahead.abs() < AGREE { 0.0 } else { self.ahead }
    }
}

fn jumped(seconds: f64) -> bool {
    seconds.abs() >= SET
}
