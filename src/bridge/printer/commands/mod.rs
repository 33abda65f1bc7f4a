//! A command topic and its payload -> a checked command (pure).

mod admission;
pub mod answers;
mod command;
mod execution;
pub mod executor;
pub mod intake;
mod values;

use serde_json::Value;

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
        values::conceal(&mut value);
    }
    Asked { command, value, id }
}

/// Whether an empty payload is a command: for all others it is how a retained one is cleared.
pub fn empty_is_a_command(command: &str) -> bool {
    command == "reconnect"
}

/// A command in the making.
struct Given<'a> {
    asked: &'a Asked,
    rules: &'a Rules,
    /// The heater that the topic names, where it can be set, and its highest target in °C.
    heater: Option<(Heater, f64)>,
}

impl Given<'_> {
    fn heater(&self) -> Result<(Heater, f64), Refusal> {
        self.heater.clone().ok_or_else(|| unknown(self.asked))
    }
}

/// A command: what follows `set/` in its topic, and the function that reads its value.
type Row = (&'static str, fn(&Given<'_>) -> Result<Command, Refusal>);

/// Commands that are allowed together.
struct Group {
    /// As in the configuration.
    name: &'static str,
    is_allowed: fn(&Commands) -> bool,
    commands: &'static [Row],
}

/// Every command, by group: what is not here is unknown, and the answer to that lists these.
const GROUPS: &[Group] = &[
    Group {
        name: "bridge",
        is_allowed: |groups| groups.bridge,
        commands: &[
            ("reconnect", |_| Ok(Command::Reconnect)),
            ("rate", |given| values::rate(given.asked, given.rules.max_rate_factor)),
        ],
    },
    Group {
        name: "job",
        is_allowed: |groups| groups.job,
        commands: &[
            ("job", |given| values::job(given.asked)),
            ("select", |given| values::select(given.asked, false)),
            ("print", |given| values::select(given.asked, true)),
            ("message", |given| values::message(given.asked)),
            ("emergency_stop", |_| Ok(Command::EmergencyStop)),
        ],
    },
    Group {
        name: "temperature",
        is_allowed: |groups| groups.temperature,
        commands: &[
            ("temperature/<heater>", |given| {
                let (heater, limit) = given.heater()?;
                values::temperature(given.asked, heater, limit)
            }),
            ("temperature/all", |given| values::all(given.asked)),
            ("offset/<heater>", |given| values::offset(given.asked, given.heater()?.0)),
        ],
    },
    Group {
        name: "motion",
        is_allowed: |groups| groups.motion,
        commands: &[
            ("feedrate", |given| values::factor(given.asked).map(Command::Feedrate)),
            ("flowrate", |given| values::factor(given.asked).map(Command::Flowrate)),
            ("home", |given| values::home(given.asked)),
            ("jog", |given| values::jog(given.asked)),
            ("extrude", |given| values::extrude(given.asked)),
        ],
    },
    Group {
        name: "connection",
        is_allowed: |groups| groups.connection,
        commands: &[("connection", |given| values::connection(given.asked))],
    },
    Group {
        name: "gcode",
        is_allowed: |groups| groups.gcode,
        commands: &[("gcode", |given| values::gcode(given.asked))],
    },
    Group {
        name: "system",
        is_allowed: |groups| groups.system,
        commands: &[("system", |given| values::system(given.asked))],
    },
];

/// Whether `command` is the one of the row; `is_heater`: its second part names one that can be set.
fn names(row: &str, command: &str, is_heater: bool) -> bool {
    match row.strip_suffix("<heater>") {
        Some(before) => is_heater && command.starts_with(before),
        None => row == command,
    }
}

fn unknown(asked: &Asked) -> Refusal {
    let rows = GROUPS.iter().flat_map(|group| group.commands);
    let names: Vec<&str> = rows.map(|(name, _)| *name).collect();
    Refusal::Unknown { command: asked.command.clone(), known: names.join(", ") }
}

/// Checks a command against what the printer accepts.
///
/// # Errors
/// [`Refusal`] says why it is not accepted.
pub fn check(asked: &Asked, rules: &Rules) -> Result<Command, Refusal> {
    let heater = asked.command.split_once('/').and_then(|(_, part)| Heater::read(part));
    let heater = heater.and_then(|heater| {
        let limit = rules.limits.of(&heater)?;
        Some((heater, limit))
    });
    let given = Given { asked, rules, heater };
    for group in GROUPS {
        let is_asked = |(name, _): &&Row| names(name, &asked.command, given.heater.is_some());
        if let Some((_, read)) = group.commands.iter().find(is_asked) {
            let is_allowed = (group.is_allowed)(&rules.groups);
            return if is_allowed { read(&given) } else { Err(Refusal::NotAllowed(group.name)) };
        }
    }
    Err(unknown(asked))
}

#[cfg(test)]
mod tests;
