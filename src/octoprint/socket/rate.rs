//! How often OctoPrint is to push: the throttle, who steers it, and what is measured.

use std::time::Duration;

use tokio::time::Instant;

use super::in_flight::InFlight;
use super::status::RateMode;
use super::throttle::{Rate, Throttle};

/// What is called when the rate does not fit, with the measured time and the limit.
pub(super) type RateHook = Box<dyn Fn(Duration, Duration) + Send>;

/// A change of the rate, or of what changes it.
pub(super) enum RateChange {
    Mode(RateMode),
    /// The factor in force holds, as if it had been set by hand.
    Hold,
    Increase,
    Decrease,
    /// What was received until now is not measured any more.
    Restart,
    OnTooLow(RateHook),
    OnTooHigh(RateHook),
}

/// The throttle and who steers it.
pub(super) struct RateControl {
    throttle: Throttle,
    mode: RateMode,
    in_flight: InFlight,
    /// `None`: one step faster.
    too_low: Option<RateHook>,
    /// `None`: one step slower.
    too_high: Option<RateHook>,
}

impl RateControl {
    pub(super) fn new(window: usize, max_factor: u32) -> Self {
        let throttle = Throttle::new(window, max_factor);
        let in_flight = InFlight::new(throttle.interval());
        Self { throttle, mode: RateMode::Auto, in_flight, too_low: None, too_high: None }
    }

    /// Who sets the factor, and the factor in force.
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
        }
    }

    fn restart(&mut self) {
        self.throttle.restart();
        self.in_flight = InFlight::new(self.throttle.interval());
        self.show_manual();
    }

    fn step(&mut self, step: impl FnOnce(&mut Throttle)) {
        let generation = self.throttle.generation();
        step(&mut self.throttle);
        if self.throttle.generation() != generation {
            self.in_flight = InFlight::new(self.throttle.interval());
        }
        self.show_manual();
    }

    /// A factor set by hand shows as what is in force.
    fn show_manual(&mut self) {
        if let RateMode::Manual(factor) = &mut self.mode {
            *factor = self.throttle.factor();
        }
    }

    /// Notes a message, with a serial number greater than all before.
    pub(super) fn received(&mut self, serial: u64, received: Instant) {
        if self.mode == RateMode::Auto {
            self.in_flight.received(serial, received);
        }
    }

    /// A message's handlers are done, having taken `took` if that is to be measured.
    pub(super) fn finished(&mut self, serial: u64, took: Option<Duration>) {
        let counts = self.in_flight.finished(serial);
        if let Some(took) = took.filter(|_| counts) {
            self.record(took);
        }
    }

    /// When the next message will be late.
    pub(super) fn next_late(&self) -> Option<Instant> {
        self.in_flight.next_late()
    }

    /// Records the first message that is late by now, and no other: it may change the factor, and
    /// then the others do not count any more.
    pub(super) fn record_late(&mut self) {
        if let Some(waited) = self.in_flight.take_late(Instant::now()) {
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
