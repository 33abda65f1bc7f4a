//! The throttle: evaluates a sliding window of processing times.
//!
//! OctoPrint sends a `current` at most every `factor` × 500 ms. [`Throttle`] holds the factor and
//! the last processing times, and reports when pushes come faster than they are processed, or slower
//! than necessary. It does not change the factor by itself.

use std::collections::VecDeque;
use std::time::Duration;

/// Interval between two pushes at factor 1, and the size of a step.
pub const RATE_BASE: Duration = Duration::from_millis(500);

/// Minimum number of measurements before a rate counts as too low (see [`Throttle::new`]).
const ENOUGH: usize = 5;

/// The verdict of a measurement on the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Processing took longer than the interval between two pushes.
    TooHigh {
        /// The processing time.
        measured: Duration,
        /// The interval that it exceeded.
        maximum: Duration,
    },
    /// All processing times in the window fit into the next smaller interval.
    TooLow {
        /// The longest processing time in the window.
        measured: Duration,
        /// The next smaller interval.
        minimum: Duration,
    },
}

/// The factor in force and the measurements that may change it.
#[derive(Debug, Clone)]
pub struct Throttle {
    window: usize,
    max_factor: Option<u32>,
    overlapping: bool,
    factor: u32,
    measurements: VecDeque<Duration>,
}

impl Throttle {
    /// Creates a throttle for overlapping messages: several are processed at once, and each is
    /// measured from its arrival to the end of its processing.
    ///
    /// It follows the rule of [`Throttle::original`], with three differences:
    /// - A change of the factor empties the window, and the caller must not record messages that
    ///   arrived before it. Otherwise five messages that are late for the same reason would be five
    ///   steps.
    /// - A rate is too low only after `min(5, window)` measurements, so that one fast message after
    ///   a change does not make the factor flap.
    /// - The factor never exceeds `max_factor`.
    ///
    /// A `window` or a `max_factor` of 0 counts as 1.
    pub fn new(window: usize, max_factor: u32) -> Self {
        Self { max_factor: Some(max_factor.max(1)), overlapping: true, ..Self::original(window) }
    }

    /// Creates a throttle with the rule of OctoPrint's `socket.js` and no maximum: the rate is too
    /// high when a measurement is over `factor` × 500 ms; otherwise, with a factor over 1, too low
    /// when the largest in the window is under (`factor` - 1) × 500 ms. A `window` of 0 counts as 1.
    pub fn original(window: usize) -> Self {
        Self {
            window: window.max(1),
            max_factor: None,
            overlapping: false,
            factor: 1,
            measurements: VecDeque::new(),
        }
    }

    /// Returns the factor in force, at least 1.
    pub fn factor(&self) -> u32 {
        self.factor
    }

    /// Returns the interval between two pushes at the factor in force.
    pub fn interval(&self) -> Duration {
        RATE_BASE.saturating_mul(self.factor)
    }

    /// Sets the factor, clamped between 1 and the maximum.
    pub fn set_factor(&mut self, factor: u32) {
        let factor = factor.clamp(1, self.max_factor.unwrap_or(u32::MAX));
        if factor == self.factor {
            return;
        }
        self.factor = factor;
        if self.overlapping {
            self.restart();
        }
    }

    /// Discards the measurements.
    pub fn restart(&mut self) {
        self.measurements.clear();
    }

    /// Records a processing time and returns its verdict on the rate, if any.
    pub fn record(&mut self, took: Duration) -> Option<Rate> {
        while self.measurements.len() >= self.window {
            self.measurements.pop_front();
        }
        self.measurements.push_back(took);
        let maximum = self.interval();
        if took > maximum {
            return Some(Rate::TooHigh { measured: took, maximum });
        }
        if self.factor <= 1
            || (self.overlapping && self.measurements.len() < ENOUGH.min(self.window))
        {
            return None;
        }
        let minimum = RATE_BASE.saturating_mul(self.factor - 1);
        let measured = self.measurements.iter().copied().max().unwrap_or_default();
        (measured < minimum).then_some(Rate::TooLow { measured, minimum })
    }

    /// Decreases the factor by one, to 1 at least.
    pub fn increase_rate(&mut self) {
        self.set_factor(self.factor.saturating_sub(1));
    }

    /// Increases the factor by one, to the maximum at most.
    pub fn decrease_rate(&mut self) {
        self.set_factor(self.factor.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A line-by-line port of `socket.js`.
    struct SocketJs {
        factor: u64,
        window: usize,
        last: Vec<u64>,
    }

    impl SocketJs {
        fn analyze(&mut self, measurement: u64) -> Option<(bool, u64, u64)> {
            while self.last.len() >= self.window {
                self.last.remove(0);
            }
            self.last.push(measurement);
            let limit = self.factor * 500;
            if measurement > limit {
                return Some((true, measurement, limit));
            } else if self.factor > 1 {
                let max = *self.last.iter().max().unwrap();
                let lower = (self.factor - 1) * 500;
                if max < lower {
                    return Some((false, max, lower));
                }
            }
            None
        }
    }

    fn plain(rate: Option<Rate>) -> Option<(bool, u64, u64)> {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap();
        rate.map(|rate| match rate {
            Rate::TooHigh { measured, maximum } => (true, millis(measured), millis(maximum)),
            Rate::TooLow { measured, minimum } => (false, millis(measured), millis(minimum)),
        })
    }

    #[test]
    fn limits_are_exclusive() {
        let mut throttle = Throttle::new(20, 20);
        assert_eq!(throttle.record(ms(500)), None);
        let high = Rate::TooHigh { measured: ms(501), maximum: ms(500) };
        assert_eq!(throttle.record(ms(501)), Some(high));
        throttle.set_factor(2);
        assert!((0..9).all(|_| throttle.record(ms(500)).is_none()));
    }

    #[test]
    fn too_low_needs_enough_measurements_since_the_last_change() {
        let mut throttle = Throttle::new(20, 20);
        throttle.set_factor(3);
        assert!((0..4).all(|_| throttle.record(ms(10)).is_none()));
        let low = Rate::TooLow { measured: ms(10), minimum: ms(1000) };
        assert_eq!(throttle.record(ms(10)), Some(low));
        throttle.increase_rate();
        assert!((0..4).all(|_| throttle.record(ms(10)).is_none()));
        let mut small = Throttle::new(2, 20);
        small.set_factor(2);
        assert_eq!(small.record(ms(1)), None);
        assert!(small.record(ms(1)).is_some());
    }

    #[test]
    fn the_factor_stays_in_its_bounds() {
        let mut throttle = Throttle::new(20, 3);
        throttle.increase_rate();
        assert_eq!(throttle.factor(), 1);
        (0..9).for_each(|_| throttle.decrease_rate());
        assert_eq!(throttle.factor(), 3);
        throttle.set_factor(0);
        assert_eq!(throttle.factor(), 1);
        throttle.set_factor(u32::MAX);
        assert_eq!(throttle.factor(), 3);
        let mut original = Throttle::original(0);
        (0..100).for_each(|_| original.decrease_rate());
        assert_eq!(original.factor(), 101);
        assert_eq!(Throttle::new(0, 0).factor(), 1);
    }

    proptest! {
        #[test]
        fn the_original_decides_as_socket_js(
            window in 1usize..30,
            times in proptest::collection::vec(0u64..4000, 0..300),
        ) {
            let mut ours = Throttle::original(window);
            let mut theirs = SocketJs { factor: 1, window, last: Vec::new() };
            for time in times {
                let decision = plain(ours.record(ms(time)));
                prop_assert_eq!(decision, theirs.analyze(time));
                match decision {
                    Some((true, ..)) => { ours.decrease_rate(); theirs.factor += 1; }
                    Some((false, ..)) => { ours.increase_rate(); theirs.factor -= 1; }
                    None => {}
                }
                prop_assert_eq!(u64::from(ours.factor()), theirs.factor);
            }
        }

        #[test]
        fn a_constant_latency_settles(latency in 0u64..9000, start in 1u32..=20) {
            let mut throttle = Throttle::new(20, 20);
            throttle.set_factor(start);
            for _ in 0..300 {
                match throttle.record(ms(latency)) {
                    Some(Rate::TooHigh { .. }) => throttle.decrease_rate(),
                    Some(Rate::TooLow { .. }) => throttle.increase_rate(),
                    None => {}
                }
            }
            let factor = throttle.factor();
            prop_assert!(throttle.interval() >= ms(latency));
            prop_assert!(factor == 1 || RATE_BASE * (factor - 1) <= ms(latency));
        }
    }
}
