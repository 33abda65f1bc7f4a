//! Controls how often OctoPrint pushes: the throttle, its mode, and the measured latency.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::status::RateMode;
use super::throttle::{Rate, Throttle};
use crate::receipt::Settled;

/// Called when the rate is too high or too low, with the measured time and the limit.
pub(super) type RateHook = Box<dyn Fn(Duration, Duration) + Send>;

/// Called with each measured processing time.
pub(super) type MeasuredHook = Box<dyn Fn(Duration) + Send>;

pub(super) enum RateChange {
    Mode(RateMode),
    Hold,
    Increase,
    Decrease,
    /// Discards the measurements of all messages received so far.
    Restart,
    OnTooLow(RateHook),
    OnTooHigh(RateHook),
    OnMeasured(MeasuredHook),
}

pub(super) struct RateControl {
    throttle: Throttle,
    mode: RateMode,
    unsettled: UnsettledMessages,
    latency: LatencyWindow,
    measured: Option<MeasuredHook>,
    /// By default one step faster.
    too_low: Option<RateHook>,
    /// By default one step slower.
    too_high: Option<RateHook>,
}

impl RateControl {
    pub(super) fn new(window: usize, max_factor: u32) -> Self {
        let throttle = Throttle::new(window, max_factor);
        let unsettled = UnsettledMessages::new(throttle.interval());
        Self {
            throttle,
            mode: RateMode::Auto,
            unsettled,
            latency: LatencyWindow::new(window),
            measured: None,
            too_low: None,
            too_high: None,
        }
    }

    pub(super) fn in_force(&self) -> (RateMode, u32) {
        (self.mode, self.throttle.factor())
    }

    pub(super) fn change(&mut self, change: RateChange) {
        match change {
            RateChange::Mode(mode) => {
                if let RateMode::Manual(factor) = mode {
                    self.throttle.set_factor(factor);
                }
                self.mode = mode;
                self.restart();
            }
            RateChange::Hold => {
                self.mode = RateMode::Manual(self.throttle.factor());
                self.restart();
            }
            RateChange::Increase => self.step(Throttle::increase_rate),
            RateChange::Decrease => self.step(Throttle::decrease_rate),
            RateChange::Restart => self.restart(),
            RateChange::OnTooLow(hook) => self.too_low = Some(hook),
            RateChange::OnTooHigh(hook) => self.too_high = Some(hook),
            RateChange::OnMeasured(hook) => self.measured = Some(hook),
        }
    }

    fn restart(&mut self) {
        self.throttle.restart();
        self.unsettled = UnsettledMessages::new(self.throttle.interval());
        self.show_manual();
    }

    fn step(&mut self, step: impl FnOnce(&mut Throttle)) {
        let factor = self.throttle.factor();
        step(&mut self.throttle);
        if self.throttle.factor() != factor {
            self.unsettled = UnsettledMessages::new(self.throttle.interval());
        }
        self.show_manual();
    }

    /// Updates the factor of manual mode to the one in force.
    fn show_manual(&mut self) {
        if let RateMode::Manual(factor) = &mut self.mode {
            *factor = self.throttle.factor();
        }
    }

    pub(super) fn received(&mut self, serial: u64, received: Instant) {
        if self.mode == RateMode::Auto {
            self.unsettled.received(serial, received);
        }
    }

    pub(super) fn settled(&mut self, settled: Settled) {
        let counts = self.unsettled.finished(settled.serial);
        let Some(took) = settled.took else { return };
        self.latency.record(took);
        if let Some(hook) = &self.measured {
            hook(took);
        }
        if counts {
            self.record(took);
        }
    }

    pub(super) fn latency(&self) -> Option<Duration> {
        self.latency.median()
    }

    /// Returns when the next message will be late.
    pub(super) fn next_late(&self) -> Option<Instant> {
        self.unsettled.next_late()
    }

    /// Records only the first late message: it may change the factor, and then the others no longer
    /// count.
    pub(super) fn record_late(&mut self) {
        if let Some(waited) = self.unsettled.take_late(Instant::now()) {
            self.record(waited);
        }
    }

    fn record(&mut self, took: Duration) {
        match self.throttle.record(took) {
            Some(Rate::TooHigh { measured, maximum }) => {
                tracing::debug!(?measured, ?maximum, "publishing is slow; lowering the push rate");
                match &self.too_high {
                    Some(hook) => hook(measured, maximum),
                    None => self.step(Throttle::decrease_rate),
                }
            }
            Some(Rate::TooLow { measured, minimum }) => {
                tracing::debug!(?measured, ?minimum, "publishing is fast; raising the push rate");
                match &self.too_low {
                    Some(hook) => hook(measured, minimum),
                    None => self.step(Throttle::increase_rate),
                }
            }
            None => {}
        }
    }
}

/// Messages since the last change of the factor, in order of arrival.
///
/// All of them have the same limit, so the first one in the queue is the first one to be late.
#[derive(Debug)]
struct UnsettledMessages {
    limit: Duration,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    serial: u64,
    received: Instant,
    done: bool,
}

impl UnsettledMessages {
    /// Creates an empty queue. Replacing the queue discards the measurements of earlier messages.
    fn new(limit: Duration) -> Self {
        Self { limit, waiting: VecDeque::new() }
    }

    /// Records a message, with a serial number greater than all before.
    fn received(&mut self, serial: u64, received: Instant) {
        self.waiting.push_back(Waiting { serial, received, done: false });
    }

    /// Records that a message was processed. Returns whether its time counts: it arrived since the
    /// last change of the factor and was not late.
    fn finished(&mut self, serial: u64) -> bool {
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

    /// Returns when the next message will be late.
    fn next_late(&self) -> Option<Instant> {
        // Exactly the limit is not late.
        self.waiting.front().map(|w| w.received + self.limit + Duration::from_millis(1))
    }

    /// Removes a message that is late and returns how long it has waited.
    fn take_late(&mut self, now: Instant) -> Option<Duration> {
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

#[derive(Debug)]
struct LatencyWindow {
    window: usize,
    times: VecDeque<Duration>,
}

impl LatencyWindow {
    fn new(window: usize) -> Self {
        Self { window: window.max(1), times: VecDeque::new() }
    }

    fn record(&mut self, took: Duration) {
        if self.times.len() >= self.window {
            self.times.pop_front();
        }
        self.times.push_back(took);
    }

    fn median(&self) -> Option<Duration> {
        let mut sorted: Vec<_> = self.times.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(500);

    fn unsettled(count: u64) -> (UnsettledMessages, Instant) {
        let (mut unsettled, start) = (UnsettledMessages::new(LIMIT), Instant::now());
        (0..count).for_each(|n| unsettled.received(n, start + Duration::from_millis(n)));
        (unsettled, start)
    }

    #[test]
    fn late_once_and_then_no_more() {
        let (mut unsettled, start) = unsettled(2);
        assert_eq!(unsettled.take_late(start + LIMIT), None);
        let late = start + LIMIT + Duration::from_millis(1);
        assert_eq!(unsettled.take_late(late), Some(LIMIT + Duration::from_millis(1)));
        assert_eq!(unsettled.take_late(late), None);
        assert!(!unsettled.finished(0) && unsettled.finished(1));
        assert_eq!(unsettled.next_late(), None);
    }

    #[test]
    fn receipts_may_settle_out_of_order() {
        let (mut unsettled, start) = unsettled(3);
        assert!(unsettled.finished(1) && !unsettled.finished(1));
        assert!(unsettled.take_late(start + 2 * LIMIT).is_some());
        assert_eq!(unsettled.waiting.len(), 1);
        unsettled = UnsettledMessages::new(LIMIT);
        assert!(!unsettled.finished(2));
    }

    #[test]
    fn the_median_moves_with_the_window() {
        let mut latency = LatencyWindow::new(3);
        assert_eq!(latency.median(), None);
        (1..=5).for_each(|n| latency.record(Duration::from_millis(n)));
        assert_eq!(latency.median(), Some(Duration::from_millis(4)));
    }
}
