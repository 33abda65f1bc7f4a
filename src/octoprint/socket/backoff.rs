//! How long to wait before each attempt to reconnect: a list of timeouts.

use std::time::Duration;

/// OctoPrint's documented list.
pub const DEFAULT_TIMEOUTS: [Duration; 10] = {
    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
    [s(1), s(1), s(2), s(3), s(5), s(8), s(13), s(20), s(40), s(100)]
};

/// Steps through a list of timeouts; at its end gives up or goes on at the last one.
#[derive(Debug, Clone)]
pub struct Backoff {
    timeouts: Vec<Duration>,
    give_up: bool,
    attempts: u32,
}

impl Backoff {
    /// A list of the times to wait before each consecutive attempt. `give_up` says what happens
    /// after the last: `true` ends the attempts, `false` goes on at the last interval (1 s where
    /// the list is empty).
    pub fn new(timeouts: Vec<Duration>, give_up: bool) -> Self {
        Self { timeouts, give_up, attempts: 0 }
    }

    /// How long to wait before the next attempt; `None`: there is none, give up.
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

    /// How many attempts there were since the last reset.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Starts the list anew: a connection held.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
}
