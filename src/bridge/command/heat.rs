//! Commands about heaters.

use super::{Asked, Command, Refusal, no_value, number};
use crate::config::Limits;

/// What OctoPrint takes as an offset, in °C either way.
const OFFSET: f64 = 50.0;

/// `tool0`, `tool1` …, `bed`, `chamber`: the only heaters that OctoPrint can set.
pub(super) fn can_be_set(heater: &str) -> bool {
    let is_tool = heater.strip_prefix("tool").is_some_and(|index| {
        (1..=2).contains(&index.len()) && index.bytes().all(|byte| byte.is_ascii_digit())
    });
    is_tool || matches!(heater, "bed" | "chamber")
}

/// In hundredths: Python writes smaller numbers with an exponent, which firmware misreads.
fn hundredths(celsius: f64) -> f64 {
    (celsius * 100.0).round() / 100.0 + 0.0
}

pub(super) fn temperature(
    asked: &Asked,
    heater: &str,
    limits: &Limits,
) -> Result<Command, Refusal> {
    let limit = match heater {
        "bed" => limits.bed,
        "chamber" => limits.chamber,
        _ => limits.tool,
    };
    let off = asked.value.as_str() == Some("off");
    let target = if off { Some(0.0) } else { number(&asked.value) };
    target
        .filter(|target| (0.0..=limit).contains(target))
        .map(hundredths)
        .map(|target| Command::Temperature { heater: heater.to_owned(), target })
        .ok_or_else(|| {
            no_value(asked, format!("off, or 0…{limit} °C (limits in the configuration)"))
        })
}

pub(super) fn offset(asked: &Asked, heater: &str) -> Result<Command, Refusal> {
    number(&asked.value)
        .filter(|offset| offset.abs() <= OFFSET)
        .map(hundredths)
        .map(|offset| Command::Offset { heater: heater.to_owned(), offset })
        .ok_or_else(|| no_value(asked, format!("-{OFFSET}…{OFFSET} °C")))
}
