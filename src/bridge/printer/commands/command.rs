//! The commands, their groups, and why one is refused (pure).

use serde::Serialize;
use serde_json::Value;

use crate::config::Commands;
use crate::heater::Heater;
use crate::octoprint::{ConnectWith, FilePath, JobAction, Jog, SystemCommand};

/// A command that passed every check that needs no printer.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Drop the socket and connect at once.
    Reconnect,
    /// Steer the rate at which OctoPrint pushes.
    Rate(Rate),
    /// Steer the job.
    Job(JobAction),
    /// Select a file, and print it if told so.
    Select {
        /// Which file.
        file: FilePath,
        /// Print it at once.
        print: bool,
    },
    /// Show a text on the printer's display; one line without control characters.
    Message(String),
    /// M112, at once.
    EmergencyStop,
    /// Set a heater's target.
    Temperature {
        /// One that can be set.
        heater: Heater,
        /// °C; 0 is off.
        target: f64,
    },
    /// Switch these heaters off; the printer says which it has.
    HeatersOff(Vec<Heater>),
    /// Set a heater's offset.
    Offset {
        /// One that can be set.
        heater: Heater,
        /// °C.
        offset: f64,
    },
    /// Set the feed rate, in percent.
    Feedrate(u32),
    /// Set the flow rate, in percent.
    Flowrate(u32),
    /// Home these axes.
    Home(Vec<&'static str>),
    /// Move the print head.
    Jog(Jog),
    /// Extrude so many mm; negative retracts.
    Extrude(f64),
    /// Connect OctoPrint to the printer.
    Connect(ConnectWith),
    /// Disconnect OctoPrint from the printer.
    Disconnect,
    /// Send G-code, one command each, without line ends.
    Gcode(Vec<String>),
    /// Restart OctoPrint, or act on its host.
    System(SystemCommand),
}

/// What `rate` can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Follow the publish latency.
    Auto,
    /// A factor that holds, in steps of 500 ms.
    Factor(u32),
    /// One step faster, then hold.
    Faster,
    /// One step slower, then hold.
    Slower,
    /// Hold the present factor.
    Hold,
}

impl Command {
    /// Whether it waits for nothing, not even for a command that came before.
    pub fn is_urgent(&self) -> bool {
        matches!(self, Self::Reconnect | Self::Rate(_) | Self::EmergencyStop)
    }

    /// The heater that it is about.
    pub fn heater(&self) -> Option<&Heater> {
        match self {
            Self::Temperature { heater, .. } | Self::Offset { heater, .. } => Some(heater),
            _ => None,
        }
    }
}

/// What a command arrived as, for its answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Asked {
    /// The part of the topic after `set/`.
    pub command: String,
    /// The value, as it was understood.
    pub value: Value,
    /// The `id` of the wrapper, null without one.
    pub id: Value,
}

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such command.
    #[error("unknown command {0:?}; known are {known}", known = known())]
    Unknown(String),
    /// Its group is switched off.
    #[error(
        "commands of the group \"{0}\" are not allowed; set commands.{0} = true for this printer to allow them"
    )]
    NotAllowed(&'static str),
    /// The value is no good.
    #[error("{found} is no value for {command}; expected {expected}")]
    Value {
        /// The command.
        command: String,
        /// The value as JSON, cut.
        found: String,
        /// What it takes.
        expected: String,
    },
}

/// A group of commands: its name, whether it is allowed, and its commands.
pub(super) type Group = (&'static str, fn(&Commands) -> bool, &'static [&'static str]);

/// Every command, by group: what is not here is unknown, and the answer to that lists these.
const GROUPS: &[Group] = &[
    ("bridge", |groups| groups.bridge, &["reconnect", "rate"]),
    ("job", |groups| groups.job, &["job", "select", "print", "message", "emergency_stop"]),
    (
        "temperature",
        |groups| groups.temperature,
        &["temperature/<heater>", "temperature/all", "offset/<heater>"],
    ),
    ("motion", |groups| groups.motion, &["feedrate", "flowrate", "home", "jog", "extrude"]),
    ("connection", |groups| groups.connection, &["connection"]),
    ("gcode", |groups| groups.gcode, &["gcode"]),
    ("system", |groups| groups.system, &["system"]),
];

/// The names of all commands, for an answer.
fn known() -> String {
    let names: Vec<&str> = GROUPS.iter().flat_map(|(_, _, names)| *names).copied().collect();
    names.join(", ")
}

/// The group of the command whose topic begins with `name`.
pub(super) fn group_of(name: &str) -> Option<&'static Group> {
    let is = |known: &str| known.split('/').next() == Some(name);
    GROUPS.iter().find(|(_, _, names)| names.iter().any(|known| is(known)))
}

pub(super) fn no_value(asked: &Asked, expected: impl Into<String>) -> Refusal {
    let mut found: String = asked.value.to_string().chars().take(80).collect();
    if found == "\"\"" {
        found = "an empty text".to_owned();
    }
    Refusal::Value { command: asked.command.clone(), found, expected: expected.into() }
}

/// A number, also where it is written as a text.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number: &f64| number.is_finite())
}
