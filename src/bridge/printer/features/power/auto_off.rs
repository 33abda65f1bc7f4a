//! When to switch a printer off after a print (pure).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::bridge::printer::snapshot::{HeaterReading, PrinterState};
use crate::heater::{Heater, HeaterKind};

/// Temperature below which a hotend is cool, in °C.
const COOL: f64 = 50.0;
/// Time between the moment when all hotends are cool, and the switch.
pub(super) const COUNTDOWN: Duration = Duration::from_secs(60);

/// Follows a printer after a print until its power is switched off.
#[derive(Debug, Default)]
pub(super) struct AutoOff {
    stage: AutoOffStage,
    /// The last targets, in °C: only a new one means that somebody uses the printer.
    targets: BTreeMap<Heater, f64>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum AutoOffStage {
    /// Nothing is to be switched off.
    #[default]
    Idle,
    /// The hotends are hot, or it is not known how hot they are.
    Cooling,
    /// The power is switched off then.
    Countdown(Instant),
}

impl AutoOff {
    pub(super) fn stage(&self) -> AutoOffStage {
        self.stage
    }

    /// A print has ended.
    pub(super) fn arm(&mut self) {
        self.stage = AutoOffStage::Cooling;
    }

    /// Somebody wants the power to stay on, or it is off.
    pub(super) fn cancel(&mut self) {
        self.stage = AutoOffStage::Idle;
    }

    /// What the printer does is not known any more.
    pub(super) fn lose_sight(&mut self) {
        if self.stage != AutoOffStage::Idle {
            self.stage = AutoOffStage::Cooling;
        }
    }

    /// Follows the printer's state and temperatures.
    pub(super) fn observe<'a>(
        &mut self,
        state: PrinterState,
        readings: impl Iterator<Item = (&'a Heater, HeaterReading)>,
        now: Instant,
    ) {
        let (mut is_heated, mut hotends, mut cool) = (false, 0, 0);
        for (heater, reading) in readings {
            if let Some(target) = reading.target {
                let before = self.targets.insert(heater.clone(), target);
                is_heated |= target > 0.0 && before.is_some_and(|before| before != target);
            }
            if matches!(heater.kind(), HeaterKind::Tool(_)) {
                hotends += 1;
                cool += u32::from(reading.actual.is_some_and(|actual| actual < COOL));
            }
        }
        if self.stage == AutoOffStage::Idle {
            return;
        }
        // The end of a print is reported while OctoPrint still finishes it.
        let is_printing = state.print_is_on() == Some(true) && !state.is_winding_down();
        if is_heated || is_printing {
            self.stage = AutoOffStage::Idle;
        } else if hotends == 0 || cool < hotends {
            self.stage = AutoOffStage::Cooling;
        } else if self.stage == AutoOffStage::Cooling {
            self.stage = AutoOffStage::Countdown(now + COUNTDOWN);
        }
    }

    /// Whether the power is to be switched off now; once.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = matches!(self.stage, AutoOffStage::Countdown(at) if at <= now);
        if is_due {
            self.stage = AutoOffStage::Idle;
        }
        is_due
    }

    pub(super) fn due(&self) -> Option<Instant> {
        match self.stage {
            AutoOffStage::Countdown(at) => Some(at),
            AutoOffStage::Idle | AutoOffStage::Cooling => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Play {
        auto_off: AutoOff,
        now: Instant,
    }

    impl Play {
        fn new() -> Self {
            Self { auto_off: AutoOff::default(), now: Instant::now() }
        }

        /// A second later, the printer is like this: actual and target of each heater.
        fn observe(&mut self, state: PrinterState, heaters: &[(&str, f64, f64)]) -> AutoOffStage {
            self.now += Duration::from_secs(1);
            let readings: Vec<(Heater, HeaterReading)> = heaters
                .iter()
                .map(|(name, actual, target)| {
                    let (actual, target) = (Some(*actual), Some(*target));
                    (Heater::read(name).unwrap(), HeaterReading { actual, target, offset: None })
                })
                .collect();
            let readings = readings.iter().map(|(heater, reading)| (heater, *reading));
            self.auto_off.observe(state, readings, self.now);
            self.auto_off.stage()
        }
    }

    use PrinterState::{Finishing, Offline, Operational, Paused, Printing};

    #[test]
    fn the_power_goes_off_a_minute_after_all_hotends_are_cool() {
        let mut play = Play::new();
        play.observe(
            Printing,
            &[("tool0", 200.0, 200.0), ("tool1", 40.0, 0.0), ("bed", 60.0, 60.0)],
        );
        play.auto_off.arm();
        let hot = [("tool0", 200.0, 200.0), ("tool1", 40.0, 0.0), ("bed", 60.0, 60.0)];
        assert_eq!(play.observe(Finishing, &hot), AutoOffStage::Cooling, "its own targets");
        let off = |actual| [("tool0", actual, 0.0), ("tool1", 40.0, 0.0), ("bed", 60.0, 60.0)];
        assert_eq!(play.observe(Operational, &off(50.0)), AutoOffStage::Cooling);
        let counting = AutoOffStage::Countdown(play.now + Duration::from_secs(1) + COUNTDOWN);
        assert_eq!(play.observe(Operational, &off(49.9)), counting, "the bed may be warm");
        assert_eq!(play.observe(Operational, &off(48.0)), counting, "it counts on");
        assert_eq!(play.auto_off.due(), Some(play.now - Duration::from_secs(1) + COUNTDOWN));
        assert!(!play.auto_off.take_due(play.now));
        assert!(play.auto_off.take_due(play.now + COUNTDOWN));
        assert!(!play.auto_off.take_due(play.now + COUNTDOWN), "once");
    }

    #[test]
    fn a_new_print_a_pause_or_a_new_target_cancels() {
        let cool = [("tool0", 30.0, 0.0), ("bed", 30.0, 0.0)];
        for (state, heaters) in [
            (Printing, cool),
            (Paused, cool),
            (Operational, [("tool0", 30.0, 0.0), ("bed", 30.0, 60.0)]),
            (Operational, [("tool0", 30.0, 200.0), ("bed", 30.0, 0.0)]),
        ] {
            let mut play = Play::new();
            play.observe(Operational, &cool);
            play.auto_off.arm();
            assert_ne!(play.observe(Operational, &cool), AutoOffStage::Idle);
            assert_eq!(play.observe(state, &heaters), AutoOffStage::Idle, "{state:?} {heaters:?}");
            assert_eq!(
                play.observe(Operational, &heaters),
                AutoOffStage::Idle,
                "it stays cancelled"
            );
        }
    }

    #[test]
    fn what_is_not_known_to_be_cool_is_not_switched_off() {
        let mut play = Play::new();
        play.auto_off.arm();
        for none in [&[][..], &[("bed", 20.0, 0.0)]] {
            assert_eq!(play.observe(Offline, none), AutoOffStage::Cooling);
        }
        assert_ne!(play.observe(Operational, &[("tool0", 20.0, 0.0)]), AutoOffStage::Cooling);
        assert_eq!(
            play.observe(Operational, &[("tool0", 70.0, 0.0)]),
            AutoOffStage::Cooling,
            "again"
        );
        play.observe(Operational, &[("tool0", 20.0, 0.0)]);
        play.auto_off.lose_sight();
        assert_eq!(play.auto_off.stage(), AutoOffStage::Cooling);
    }
}
