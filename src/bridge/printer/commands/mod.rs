//! A command topic and its payload -> a checked command (pure).

mod admission;
pub mod answers;
mod command;
mod execution;
pub mod executor;
mod heat;
pub mod intake;
mod job;
mod motion;
mod others;
mod rate_limit;

use serde_json::Value;

use self::command::group_of;
pub use self::command::{Asked, Command, Rate, Refusal};
use crate::config::Commands;
use crate::heater::{Heater, Limits};

/// What a printer accepts.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Which groups of commands are obeyed.
    pub groups: Commands,
    /// Highest targets, °C.
    pub limits: Limits,
    /// Largest factor for `rate`.
    pub max_rate_factor: u32,
}

/// Commands whose value is a text: a payload such as `5` or `1e3` is that text and no number.
const OF_TEXT: &[&str] = &["message", "select", "print", "gcode"];

/// Takes the wrapper off a payload: `{"value":…,"id":…}`; a payload that is no JSON is a text.
pub fn asked(command: &str, payload: &[u8]) -> Asked {
    let text = String::from_utf8_lossy(payload);
    let as_text = || Value::from(text.trim().to_owned());
    let value = match serde_json::from_str(text.trim()) {
        Ok(Value::Object(object)) => Value::Object(object),
        Ok(value) if !OF_TEXT.contains(&command) || value.is_string() => value,
        _ => as_text(),
    };
    let command = command.to_owned();
    let (mut value, id) = match value {
        Value::Object(mut object) if object.contains_key("value") => {
            let id = object.remove("id").unwrap_or(Value::Null);
            (object.remove("value").unwrap_or(Value::Null), id)
        }
        value => (value, Value::Null),
    };
    if command == "connection" {
        others::conceal(&mut value);
    }
    Asked { command, value, id }
}

/// Whether an empty payload is a command: for all others it is how a retained one is cleared.
pub fn empty_is_a_command(command: &str) -> bool {
    command == "reconnect"
}

/// Checks a command against what the printer accepts.
pub fn check(asked: &Asked, rules: &Rules) -> Result<Command, Refusal> {
    let unknown = || Err(Refusal::Unknown(asked.command.clone()));
    let (name, part) = match asked.command.split_once('/') {
        Some((name, part)) => (name, Some(part)),
        None => (asked.command.as_str(), None),
    };
    let Some((group, is_allowed, _)) = group_of(name) else { return unknown() };
    let heater = part.and_then(Heater::read);
    let heater = heater.and_then(|heater| Some((rules.limits.of(&heater)?, heater)));
    // Only commands about heaters have a second part, and those always.
    let is_whole = match (name, part) {
        ("temperature", Some(heat::ALL)) => true,
        ("temperature" | "offset", _) => heater.is_some(),
        (_, part) => part.is_none(),
    };
    if !is_whole {
        return unknown();
    }
    if !is_allowed(&rules.groups) {
        return Err(Refusal::NotAllowed(group));
    }
    match (name, heater) {
        ("reconnect", _) => Ok(Command::Reconnect),
        ("rate", _) => others::rate(asked, rules.max_rate_factor),
        ("job", _) => job::job(asked),
        ("select", _) => job::select(asked, false),
        ("print", _) => job::select(asked, true),
        ("message", _) => job::message(asked),
        ("emergency_stop", _) => Ok(Command::EmergencyStop),
        ("temperature", None) => heat::all(asked),
        ("temperature", Some((limit, heater))) => heat::temperature(asked, heater, limit),
        ("offset", Some((_, heater))) => heat::offset(asked, heater),
        ("feedrate", _) => motion::factor(asked).map(Command::Feedrate),
        ("flowrate", _) => motion::factor(asked).map(Command::Flowrate),
        ("home", _) => motion::home(asked),
        ("jog", _) => motion::jog(asked),
        ("extrude", _) => motion::extrude(asked),
        ("connection", _) => others::connection(asked),
        ("gcode", _) => others::gcode(asked),
        ("system", _) => others::system(asked),
        _ => unknown(),
    }
}

#[cfg(test)]
mod tests;
