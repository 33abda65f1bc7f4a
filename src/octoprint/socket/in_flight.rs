//! The messages whose handlers are not done yet: which of them are measured, and which are late.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Messages of the present generation of the throttle, in the order of their receipt.
///
/// The interval that they are measured against is the same for all of them, so that the first one
/// in the queue is always the first one to be late.
#[derive(Debug)]
pub(super) struct InFlight {
    limit: Duration,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    serial: u64,
    received: Instant,
    done: bool,
}

impl InFlight {
    /// No messages yet; those to come are measured against `limit`. To begin anew with another
    /// interval, after which what was received before is not measured any more, make a new one.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, waiting: VecDeque::new() }
    }

    /// Notes a message, with a serial number greater than all before.
    pub(super) fn received(&mut self, serial: u64, received: Instant) {
        self.waiting.push_back(Waiting { serial, received, done: false });
    }

    /// Notes that a message's handlers are done. `true`: its time may be recorded; it is of this
    /// generation and has not been reported late.
    pub(super) fn finished(&mut self, serial: u64) -> bool {
        let Ok(index) = self.waiting.binary_search_by_key(&serial, |waiting| waiting.serial) else {
            return false;
        };
        let counts =
            self.waiting.get_mut(index).is_some_and(|w| !std::mem::replace(&mut w.done, true));
        while self.waiting.front().is_some_and(|waiting| waiting.done) {
            self.waiting.pop_front();
        }
        counts
    }

    /// When the next message will be late.
    pub(super) fn next_late(&self) -> Option<Instant> {
        // Just over the limit: exactly the limit is not late.
        self.waiting.front().map(|w| w.received + self.limit + Duration::from_millis(1))
    }

    /// Takes a message that is late now, and how long it has been waiting.
    pub(super) fn take_late(&mut self, now: Instant) -> Option<Duration> {
        if self.next_late()? > now {
            return None;
        }
        let waited = now.saturating_duration_since(self.waiting.pop_front()?.received);
        while self.waiting.front().is_some_and(|waiting| waiting.done) {
            self.waiting.pop_front();
        }
        Some(waited)
    }
}

/// The processing times of the last messages, for show.
#[derive(Debug)]
pub(super) struct Latency {
    window: usize,
    times: VecDeque<Duration>,
}

impl Latency {
    pub(super) fn new(window: usize) -> Self {
        Self { window: window.max(1), times: VecDeque::new() }
    }

    pub(super) fn record(&mut self, took: Duration) {
        if self.times.len() >= self.window {
            self.times.pop_front();
        }
        self.times.push_back(took);
    }

    pub(super) fn median(&self) -> Option<Duration> {
        let mut sorted: Vec<_> = self.times.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(500);

    fn in_flight(count: u64) -> (InFlight, Instant) {
        let (mut in_flight, start) = (InFlight::new(LIMIT), Instant::now());
        (0..count).for_each(|n| in_flight.received(n, start + Duration::from_millis(n)));
        (in_flight, start)
    }

    #[test]
    fn late_once_and_then_no_more() {
        let (mut in_flight, start) = in_flight(2);
        assert_eq!(in_flight.take_late(start + LIMIT), None);
        let late = start + LIMIT + Duration::from_millis(1);
        assert_eq!(in_flight.take_late(late), Some(LIMIT + Duration::from_millis(1)));
        assert_eq!(in_flight.take_late(late), None);
        assert!(!in_flight.finished(0) && in_flight.finished(1));
        assert_eq!(in_flight.next_late(), None);
    }

    #[test]
    fn out_of_order_answers() {
        let (mut in_flight, start) = in_flight(3);
        assert!(in_flight.finished(1) && !in_flight.finished(1));
        assert!(in_flight.take_late(start + 2 * LIMIT).is_some());
        assert_eq!(in_flight.waiting.len(), 1);
        in_flight = InFlight::new(LIMIT);
        assert!(!in_flight.finished(2));
    }

    #[test]
    fn the_median_moves_with_the_window() {
        let mut latency = Latency::new(3);
        assert_eq!(latency.median(), None);
        (1..=5).for_each(|n| latency.record(Duration::from_millis(n)));
        assert_eq!(latency.median(), Some(Duration::from_millis(4)));
    }
}
