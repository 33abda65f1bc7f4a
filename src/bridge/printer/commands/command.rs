//! The commands, their groups, and why one is refused (pure).

use serde::Serialize;
use serde_json::Value;

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
    #[error("unknown command {command:?}; known are {known}")]
    Unknown {
        /// What was asked for.
        command: String,
        /// The commands that there are.
        known: String,
    },
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
