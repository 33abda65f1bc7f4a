//! Commands: parses a topic and its payload into a checked command (pure).

mod admission;
pub mod answers;
mod command;
mod entity;
mod execution;
pub mod executor;
pub mod intake;
mod values;

use std::sync::Arc;

use serde_json::Value;

pub use self::command::{Command, CommandRequest, EntityCommand, RateSetting, Refusal};
use crate::config::{self, Commands};
use crate::heater::{Heater, Limits};
use crate::own_entity::OwnEntity;

/// The commands and values that a printer accepts.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The allowed groups of commands.
    pub groups: Commands,
    /// Highest targets in °C.
    pub limits: Limits,
    /// Largest factor for `rate`.
    pub max_rate_factor: u32,
    /// Entities of the user's own.
    pub entities: Arc<[OwnEntity]>,
    /// Names of the maintenance counters.
    pub maintenance: Vec<String>,
}

impl Rules {
    /// The rules of a printer, as configured.
    pub fn of(printer: &config::Printer) -> Self {
        Self {
            groups: printer.commands,
            limits: printer.limits,
            max_rate_factor: printer.socket.max_rate_factor,
            entities: printer.entities.clone(),
            maintenance: printer.maintenance.iter().map(|counter| counter.name.clone()).collect(),
        }
    }
}

/// Commands whose value is a text: a payload such as `5` or `1e3` is not a number there.
const TEXT_COMMANDS: &[&str] = &[
    "message",
    "select",
    "print",
    "gcode",
    "snapshot",
    "control",
    "preset",
    "prompt",
    "maintenance",
];

/// Parses a payload: JSON, a wrapper `{"value":…,"id":…}`, or else a text.
pub fn read_request(command: &str, payload: &[u8]) -> CommandRequest {
    let text = String::from_utf8_lossy(payload);
    let as_text = || Value::from(text.trim().to_owned());
    let value = match serde_json::from_str(text.trim()) {
        Ok(Value::Object(object)) => Value::Object(object),
        Ok(value) if !TEXT_COMMANDS.contains(&command) || value.is_string() => value,
        _ => as_text(),
    };
    let command = command.to_owned();
    let (mut value, id) = match value {
        // Parameters beside the value would be lost.
        Value::Object(mut object)
            if object.contains_key("value") && !object.contains_key("params") =>
        {
            let id = object.remove("id").unwrap_or(Value::Null);
            (object.remove("value").unwrap_or(Value::Null), id)
        }
        value => (value, Value::Null),
    };
    if command == "connection" {
        values::conceal(&mut value);
    }
    CommandRequest { command, value, id }
}

/// Whether an empty payload is a command: for all others it clears a retained one.
pub fn empty_is_a_command(command: &str) -> bool {
    command == "reconnect"
}

/// What the function for a command's value reads.
struct Input<'a> {
    request: &'a CommandRequest,
    rules: &'a Rules,
    /// The topic's heater, if it can be set, and its highest target in °C.
    heater: Option<(Heater, f64)>,
}

impl Input<'_> {
    fn heater(&self) -> Result<(Heater, f64), Refusal> {
        self.heater.clone().ok_or_else(|| unknown(self.request))
    }
}

/// A command: what follows `set/` in its topic, and the function that parses its value.
type Row = (&'static str, fn(&Input<'_>) -> Result<Command, Refusal>);

/// Commands that are allowed or forbidden together.
struct Group {
    /// Its key in the configuration.
    name: &'static str,
    is_allowed: fn(&Commands) -> bool,
    commands: &'static [Row],
}

/// Every command, by group. Any other is unknown, and the answer to that lists these.
const GROUPS: &[Group] = &[
    Group {
        name: "bridge",
        is_allowed: |groups| groups.bridge,
        commands: &[
            ("reconnect", |_| Ok(Command::Reconnect)),
            ("rate", |input| values::rate(input.request, input.rules.max_rate_factor)),
            ("snapshot", |input| values::snapshot(input.request)),
            ("maintenance", |input| values::maintenance(input.request, &input.rules.maintenance)),
        ],
    },
    Group {
        name: "job",
        is_allowed: |groups| groups.job,
        commands: &[
            ("job", |input| values::job(input.request)),
            ("select", |input| values::select(input.request, false)),
            ("print", |input| values::select(input.request, true)),
            ("prompt", |input| values::prompt(input.request)),
            ("refresh_sd", |_| Ok(Command::RefreshCard)),
            ("message", |input| values::message(input.request)),
            ("emergency_stop", |_| Ok(Command::EmergencyStop)),
        ],
    },
    Group {
        name: "temperature",
        is_allowed: |groups| groups.temperature,
        commands: &[
            ("temperature/<heater>", |input| {
                let (heater, limit) = input.heater()?;
                values::temperature(input.request, heater, limit)
            }),
            ("temperature/all", |input| values::all(input.request)),
            ("preset", |input| values::preset(input.request, input.rules.limits)),
            ("offset/<heater>", |input| values::offset(input.request, input.heater()?.0)),
        ],
    },
    Group {
        name: "motion",
        is_allowed: |groups| groups.motion,
        commands: &[
            ("feedrate", |input| values::factor(input.request).map(Command::Feedrate)),
            ("flowrate", |input| values::factor(input.request).map(Command::Flowrate)),
            ("home", |input| values::home(input.request)),
            ("jog", |input| values::jog(input.request)),
            ("extrude", |input| values::extrude(input.request)),
        ],
    },
    Group {
        name: "connection",
        is_allowed: |groups| groups.connection,
        commands: &[("connection", |input| values::connection(input.request))],
    },
    Group {
        name: "power",
        is_allowed: |groups| groups.power,
        commands: &[("power", |input| values::power(input.request))],
    },
    Group {
        name: "gcode",
        is_allowed: |groups| groups.gcode,
        commands: &[
            ("gcode", |input| values::gcode(input.request)),
            ("control", |input| values::control(input.request)),
        ],
    },
    Group {
        name: "system",
        is_allowed: |groups| groups.system,
        commands: &[
            ("system", |input| values::system(input.request)),
            ("update", |input| values::update(input.request)),
        ],
    },
];

/// Whether `row` is the row of `command`; `is_heater`: its second part is a heater that can be set.
fn names(row: &str, command: &str, is_heater: bool) -> bool {
    match row.strip_suffix("<heater>") {
        Some(before) => is_heater && command.starts_with(before),
        None => row == command,
    }
}

fn unknown(request: &CommandRequest) -> Refusal {
    let rows = GROUPS.iter().flat_map(|group| group.commands);
    let names: Vec<&str> = rows.map(|(name, _)| *name).chain([entity::NAME]).collect();
    Refusal::Unknown { command: request.command.clone(), known: names.join(", ") }
}

/// Checks a command against what the printer accepts.
///
/// # Errors
/// [`Refusal`] with the reason.
pub fn check(request: &CommandRequest, rules: &Rules) -> Result<Command, Refusal> {
    if let Some(key) = entity::key(&request.command) {
        return entity::check(request, key, &rules.entities);
    }
    let heater = request.command.split_once('/').and_then(|(_, part)| Heater::read(part));
    let heater = heater.and_then(|heater| {
        let limit = rules.limits.of(&heater)?;
        Some((heater, limit))
    });
    let input = Input { request, rules, heater };
    for group in GROUPS {
        let is_asked = |(name, _): &&Row| names(name, &request.command, input.heater.is_some());
        if let Some((_, read)) = group.commands.iter().find(is_asked) {
            let is_allowed = (group.is_allowed)(&rules.groups);
            return if is_allowed { read(&input) } else { Err(Refusal::NotAllowed(group.name)) };
        }
    }
    Err(unknown(request))
}

#[cfg(test)]
mod tests;
