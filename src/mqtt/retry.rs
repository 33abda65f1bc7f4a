//! The pause before the next attempt to reach the broker (pure but for the jitter).

use std::time::Duration;

use super::lost::Lost;

const LONGEST: Duration = Duration::from_secs(30);
/// A connection that lived this long starts the pauses anew.
const HELD: Duration = Duration::from_secs(5);

/// Growing pauses: about 0.5, 1, 2, 4 … up to 30 s, with a jitter so that many bridges do not
/// knock at a restarted broker at once.
#[derive(Debug)]
pub(super) struct Retry {
    failures: u32,
}

impl Retry {
    pub(super) fn new() -> Self {
        Self { failures: 0 }
    }

    /// The pause after an attempt that ended with `lost` after `lived`.
    pub(super) fn after(&mut self, lost: &Lost, lived: Duration) -> Duration {
        if lived >= HELD && lost.was_connected() {
            self.failures = 0;
        }
        // A refusal does not go away by itself within seconds.
        self.failures = if lost.refused() { self.failures.max(3) } else { self.failures };
        let pause = Duration::from_millis(500 << self.failures.min(6)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        pause.mul_f64(0.75 + fastrand::f64() / 4.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_thirty_seconds_and_start_anew_after_a_connection_that_held() {
        let (mut retry, lost) = (Retry::new(), Lost::TimedOut);
        let first = retry.after(&lost, Duration::ZERO);
        assert!(first <= Duration::from_millis(500));
        let mut pause = first;
        for _ in 0..20 {
            pause = retry.after(&lost, Duration::ZERO);
            assert!(pause <= LONGEST);
        }
        assert!(pause >= Duration::from_secs(22));
        let lost = Lost::Closed { soon: false, by_peer: true, cause: "reset".to_owned() };
        assert!(retry.after(&lost, HELD) <= Duration::from_millis(500));
    }
}
