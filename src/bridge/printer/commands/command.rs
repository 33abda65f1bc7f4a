//! The commands, and the reasons for refusing one (pure).

use serde::Serialize;
use serde_json::{Map, Value};

use crate::bridge::printer::pictures::WebcamChoice;
use crate::heater::{Heater, Limits};
use crate::octoprint::{ConnectWith, FilePath, JobAction, Jog, PrintParams, SystemCommand};
use crate::own_entity::Action;

/// A command that passed every check that does not need the printer.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Drop the socket and reconnect immediately.
    Reconnect,
    /// Set the rate at which OctoPrint pushes.
    Rate(RateSetting),
    /// Begin a maintenance counter again, by its name.
    Maintained(String),
    /// Control the job.
    Job(JobAction),
    /// Start the selected file with parameters, as OctoPrint 2.0 can.
    StartWith(PrintParams),
    /// Print the last printed file again; the intake fills it in. `None` for the selected one.
    PrintAgain(Option<FilePath>),
    /// Read the list of the SD card anew.
    RefreshCard,
    /// Select a file, and optionally print it.
    Select {
        /// Which file.
        file: FilePath,
        /// Whether to print it.
        print: bool,
        /// Parameters, which OctoPrint takes since 2.0.
        params: PrintParams,
    },
    /// Answer what the printer asks.
    AnswerPrompt {
        /// The text of a choice, or its index from 0.
        choice: String,
        /// The text of the prompt that is meant; `None` for any.
        text: Option<String>,
    },
    /// Show a text on the printer's display; one line without control characters.
    Message(String),
    /// Take pictures.
    Snapshot(WebcamChoice),
    /// Send M112 immediately.
    EmergencyStop,
    /// Set a heater's target.
    Temperature {
        /// A heater that can be set.
        heater: Heater,
        /// In °C; 0 is off.
        target: f64,
    },
    /// Switch these heaters off; admission fills them in.
    HeatersOff(Vec<Heater>),
    /// Set the heaters to the targets of one of OctoPrint's temperature presets.
    Preset {
        /// Its name.
        name: String,
        /// The highest targets.
        limits: Limits,
    },
    /// Set a heater's offset.
    Offset {
        /// A heater that can be set.
        heater: Heater,
        /// In °C.
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
    /// Extrude filament, in mm; negative retracts.
    Extrude(f64),
    /// Connect OctoPrint to the printer.
    Connect(ConnectWith),
    /// Disconnect OctoPrint from the printer.
    Disconnect,
    /// Switch the printer's power.
    Power {
        /// On or off.
        on: bool,
        /// Whether it may go off during a print.
        force: bool,
    },
    /// Do not switch the power off after this print.
    KeepPower,
    /// Send lines of G-code, without line ends.
    Gcode(Vec<String>),
    /// Run one of OctoPrint's custom controls.
    Control {
        /// Its name, or its path.
        name: String,
        /// The parameters that differ from their defaults.
        params: Map<String, Value>,
    },
    /// Update OctoPrint.
    Update,
    /// Restart OctoPrint, or act on its host.
    System(SystemCommand),
    /// Set or press an entity of the user's own.
    Entity(Box<EntityCommand>),
}

/// A command to an entity of the user's own.
#[derive(Debug, Clone, PartialEq)]
pub struct EntityCommand {
    /// The entity's key.
    pub key: String,
    /// The state that it has afterwards; null for a button.
    pub value: Value,
    /// What to send.
    pub action: Action,
}

/// A value of the command `rate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateSetting {
    /// Follow the publish latency.
    Auto,
    /// Hold this factor, in steps of 500 ms.
    Factor(u32),
    /// One step faster, then hold.
    Faster,
    /// One step slower, then hold.
    Slower,
    /// Hold the present factor.
    Hold,
}

impl Command {
    /// Whether it runs immediately, without waiting for previous commands.
    pub fn is_urgent(&self) -> bool {
        matches!(
            self,
            Self::Reconnect
                | Self::Rate(_)
                | Self::EmergencyStop
                | Self::Maintained(_)
                | Self::KeepPower
        )
    }

    /// The heater to set.
    pub fn heater(&self) -> Option<&Heater> {
        match self {
            Self::Temperature { heater, .. } | Self::Offset { heater, .. } => Some(heater),
            _ => None,
        }
    }
}

/// A command as it arrived, for its answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CommandRequest {
    /// The part of the topic after `set/`.
    pub command: String,
    /// The parsed value.
    pub value: Value,
    /// The `id` of the wrapper; null without one.
    pub id: Value,
}

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such command.
    #[error("unknown command {command:?}; known are {known}")]
    Unknown {
        /// The requested command.
        command: String,
        /// The known commands.
        known: String,
    },
    /// Its group is switched off.
    #[error(
        "commands of the group \"{0}\" are not allowed; set commands.{0} = true for this printer to allow them"
    )]
    NotAllowed(&'static str),
    /// The value is invalid.
    #[error("{found} is no value for {command}; expected {expected}")]
    Value {
        /// The command.
        command: String,
        /// The value as JSON, truncated.
        found: String,
        /// The accepted values.
        expected: String,
    },
}
