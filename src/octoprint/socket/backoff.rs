//! When a socket may try to connect: a list of timeouts, and turns among sockets.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// The list of timeouts that OctoPrint documents.
pub const DEFAULT_TIMEOUTS: [Duration; 10] = {
    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
    [s(1), s(1), s(2), s(3), s(5), s(8), s(13), s(20), s(40), s(100)]
};

/// Steps through a list of timeouts; at its end gives up or repeats the last one.
#[derive(Debug, Clone)]
pub struct Backoff {
    timeouts: Vec<Duration>,
    give_up: bool,
    attempts: u32,
}

impl Backoff {
    /// Creates a back-off with the delays before consecutive attempts. After the last one, `give_up`
    /// ends the attempts; otherwise the last one is repeated (1 s if the list is empty).
    pub fn new(timeouts: Vec<Duration>, give_up: bool) -> Self {
        Self { timeouts, give_up, attempts: 0 }
    }

    /// Returns the delay before the next attempt; `None` to give up.
    pub fn next_timeout(&mut self) -> Option<Duration> {
        let index = usize::try_from(self.attempts).unwrap_or(usize::MAX);
        let timeout = match self.timeouts.get(index) {
            Some(timeout) => *timeout,
            None if self.give_up => return None,
            None => self.timeouts.last().copied().unwrap_or(Duration::from_secs(1)),
        };
        self.attempts = self.attempts.saturating_add(1);
        Some(timeout)
    }

    /// Returns the number of attempts since the last reset.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Restarts the list, after a stable connection.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// Time in which as many sockets start as may connect at once. A fast connection is made within it;
/// slow or unreachable printers must not delay the others.
const WINDOW: Duration = Duration::from_millis(30);

/// Spreads the connection attempts of the sockets that share it; cheap to clone.
///
/// After a login OctoPrint sends the temperatures of half an hour, a hundred kilobytes. A thousand
/// sockets that connect at once, at startup or when the network is back, would need more memory for
/// these than for anything else, and flood the network.
#[derive(Debug, Clone)]
pub struct Turns {
    /// When the next one would start if they were evenly spread.
    next: Arc<Mutex<Instant>>,
    gap: Duration,
}

impl Turns {
    /// Creates turns for `at_once` sockets per 30 ms; 0 counts as 1.
    pub fn new(at_once: usize) -> Self {
        let gap = WINDOW / u32::try_from(at_once).unwrap_or(u32::MAX).max(1);
        Self { next: Arc::new(Mutex::new(Instant::now())), gap }
    }

    /// Waits for a turn, in order. A cancelled wait takes none.
    pub(super) async fn take(&self) {
        let mut next = self.next.lock().await;
        let ahead = WINDOW - self.gap;
        sleep_until(next.checked_sub(ahead).unwrap_or(*next)).await;
        *next = (*next).max(Instant::now()) + self.gap;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::timeout;

    use super::*;

    fn seconds(list: &[u64]) -> Vec<Duration> {
        list.iter().map(|s| Duration::from_secs(*s)).collect()
    }

    #[test]
    fn the_documented_list() {
        let mut backoff = Backoff::new(DEFAULT_TIMEOUTS.to_vec(), true);
        let all: Vec<_> = std::iter::from_fn(|| backoff.next_timeout()).collect();
        assert_eq!(all, seconds(&[1, 1, 2, 3, 5, 8, 13, 20, 40, 100]));
        assert_eq!(backoff.next_timeout(), None);
        backoff.reset();
        assert_eq!(backoff.next_timeout(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn an_empty_list() {
        assert_eq!(Backoff::new(Vec::new(), true).next_timeout(), None);
        assert_eq!(Backoff::new(Vec::new(), false).next_timeout(), Some(Duration::from_secs(1)));
    }

    proptest! {
        #[test]
        fn goes_on_at_the_last(list in proptest::collection::vec(0u64..200, 1..12), more in 0usize..20) {
            let mut backoff = Backoff::new(seconds(&list), false);
            let expected = list.iter().copied().chain(std::iter::repeat(list[list.len() - 1]));
            for timeout in expected.take(list.len() + more) {
                prop_assert_eq!(backoff.next_timeout(), Some(Duration::from_secs(timeout)));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_window_has_the_same_number_of_turns() {
        let (turns, start) = (Turns::new(8), Instant::now());
        for _ in 0..8 {
            turns.take().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..80 {
            turns.take().await;
        }
        let took = start.elapsed();
        assert!(took >= 10 * WINDOW && took < 11 * WINDOW, "{took:?}");
        tokio::time::advance(Duration::from_secs(3600)).await;
        let later = Instant::now();
        for _ in 0..9 {
            turns.take().await;
        }
        assert!(later.elapsed() > Duration::ZERO, "unused turns do not add up");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_wait_takes_no_turn() {
        let turns = Turns::new(1);
        turns.take().await;
        for _ in 0..5 {
            assert!(timeout(WINDOW / 30, turns.take()).await.is_err());
        }
        assert!(timeout(WINDOW, turns.take()).await.is_ok());
    }
}
