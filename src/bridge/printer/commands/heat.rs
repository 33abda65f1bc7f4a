//! Commands about heaters.

use super::command::{Asked, Command, Refusal, no_value, number};
use crate::heater::Heater;

/// What OctoPrint takes as an offset, in °C either way.
const OFFSET: f64 = 50.0;

/// Stands for every heater that can be set.
pub(super) const ALL: &str = "all";

/// In hundredths: Python writes smaller numbers with an exponent, which firmware misreads.
fn hundredths(celsius: f64) -> f64 {
    (celsius * 100.0).round() / 100.0 + 0.0
}

pub(super) fn temperature(asked: &Asked, heater: Heater, limit: f64) -> Result<Command, Refusal> {
    let off = asked.value.as_str() == Some("off");
    let target = if off { Some(0.0) } else { number(&asked.value) };
    target
        .filter(|target| (0.0..=limit).contains(target))
        .map(hundredths)
        .map(|target| Command::Temperature { heater, target })
        .ok_or_else(|| {
            no_value(asked, format!("off, or 0…{limit} °C (limits in the configuration)"))
        })
}

/// Every heater at once can only be switched off: no target fits a nozzle and a bed.
pub(super) fn all(asked: &Asked) -> Result<Command, Refusal> {
    if asked.value.as_str() == Some("off") || number(&asked.value) == Some(0.0) {
        return Ok(Command::HeatersOff(Vec::new()));
    }
    Err(no_value(asked, "off: all heaters can only be switched off together"))
}

pub(super) fn offset(asked: &Asked, heater: Heater) -> Result<Command, Refusal> {
    number(&asked.value)
        .filter(|offset| offset.abs() <= OFFSET)
        .map(hundredths)
        .map(|offset| Command::Offset { heater, offset })
        .ok_or_else(|| no_value(asked, format!("-{OFFSET}…{OFFSET} °C")))
}
