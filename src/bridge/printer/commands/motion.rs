//! Commands that move.

use serde_json::Value;

use super::command::{Asked, Command, Refusal, no_value, number};
use crate::octoprint::Jog;

/// The axes, in the order in which they are homed.
const AXES: [&str; 3] = ["x", "y", "z"];
/// Farthest move of one command, in mm: more is a slip of the finger.
const DISTANCE: f64 = 1000.0;
/// Highest speed, in mm/min.
const SPEED: f64 = 100_000.0;

/// What OctoPrint is sent as a number in G-code: in thousandths. Python writes smaller ones with an
/// exponent, which firmware reads as the number before it: 5e-05 as 5.
fn thousandths(value: f64) -> f64 {
    // No negative zero.
    (value * 1000.0).round() / 1000.0 + 0.0
}

/// A feed or flow rate in whole percent: OctoPrint reads `100.0` as 10000 %.
pub(super) fn factor(asked: &Asked) -> Result<u32, Refusal> {
    number(&asked.value)
        .filter(|percent| percent.fract() == 0.0 && (10.0..=500.0).contains(percent))
        // In range and whole, so the conversion is exact.
        .map(|percent| percent as u32)
        .ok_or_else(|| no_value(asked, "a whole percentage 10…500"))
}

pub(super) fn home(asked: &Asked) -> Result<Command, Refusal> {
    let refused = || no_value(asked, "all, or axes such as x y z");
    let text = match &asked.value {
        Value::String(text) => text.to_ascii_lowercase(),
        Value::Array(axes) => {
            let axes: Option<Vec<&str>> = axes.iter().map(Value::as_str).collect();
            axes.ok_or_else(refused)?.join(" ").to_ascii_lowercase()
        }
        _ => return Err(refused()),
    };
    if text.trim() == "all" {
        return Ok(Command::Home(AXES.to_vec()));
    }
    let mut wanted = text.split([' ', ',']).filter(|axis| !axis.is_empty()).peekable();
    // Without an axis OctoPrint would home all of them.
    if wanted.peek().is_none() || wanted.clone().any(|axis| !AXES.contains(&axis)) {
        return Err(refused());
    }
    let wanted: Vec<&str> = wanted.collect();
    Ok(Command::Home(AXES.into_iter().filter(|axis| wanted.contains(axis)).collect()))
}

pub(super) fn jog(asked: &Asked) -> Result<Command, Refusal> {
    let expected = format!(
        "an object such as {{\"x\":10,\"y\":-5,\"z\":0.2,\"speed\":3000}}, with at least one axis, up to {DISTANCE} mm, and a speed in mm/min over 0"
    );
    let refused = || no_value(asked, expected.clone());
    let object = asked.value.as_object().ok_or_else(refused)?;
    let mut jog = Jog::default();
    for (key, value) in object {
        let value = thousandths(number(value).ok_or_else(refused)?);
        let (place, fits) = match key.as_str() {
            "x" => (&mut jog.x, value.abs() <= DISTANCE),
            "y" => (&mut jog.y, value.abs() <= DISTANCE),
            "z" => (&mut jog.z, value.abs() <= DISTANCE),
            "speed" => (&mut jog.speed, value > 0.0 && value <= SPEED),
            _ => return Err(refused()),
        };
        if !fits {
            return Err(refused());
        }
        *place = Some(value);
    }
    if jog.x.or(jog.y).or(jog.z).is_none() {
        return Err(refused());
    }
    Ok(Command::Jog(jog))
}

pub(super) fn extrude(asked: &Asked) -> Result<Command, Refusal> {
    number(&asked.value)
        .map(thousandths)
        .filter(|amount| *amount != 0.0 && amount.abs() <= DISTANCE)
        .map(Command::Extrude)
        .ok_or_else(|| no_value(asked, format!("mm, 0.001 to {DISTANCE}; negative retracts")))
}
