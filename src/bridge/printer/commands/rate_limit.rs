//! How many commands a printer takes (pure): an automation in a loop must not flood OctoPrint.

use std::time::{Duration, Instant};

/// Commands that may come at once.
const BURST: u32 = 50;
/// How long it takes until one more may come.
const REFILL: Duration = Duration::from_millis(100);
/// What is said of those that are too many.
pub const REFUSAL: &str =
    "too many commands: this printer takes 50 at once, and 10 a second from then on";

/// A bucket of tokens, one a command.
#[derive(Debug)]
pub struct RateLimit {
    /// When the bucket was or will be full.
    full: Instant,
}

impl RateLimit {
    /// A full bucket.
    pub fn new(now: Instant) -> Self {
        Self { full: now }
    }

    /// Takes a token, if there is one.
    pub fn allows(&mut self, now: Instant) -> bool {
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
