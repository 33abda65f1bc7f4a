//! Entities that users define in the configuration: what they show, and what they send (pure).

mod action;
mod pointer;
mod reading;
mod scalar;

use serde_json::Value;

pub use self::action::{Action, PLACE};
pub use self::pointer::Pointer;
pub use self::reading::{Form, Payload, ReadingCondition, Reduce, Source, ValueReading};
pub use self::scalar::{number, text};

/// An entity that a user defined.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnEntity {
    /// Its key in the configuration; part of topics and unique ids.
    pub key: String,
    /// Its name for people.
    pub name: String,
    /// What it is, and what it can do.
    pub role: Role,
    /// Where its state is read; `None` for a button, and for a control whose state is assumed.
    pub reading: Option<ValueReading>,
    /// How Home Assistant shows it.
    pub look: Look,
    /// The group of commands that a control belongs to, and whether it is allowed.
    pub group: (&'static str, bool),
}

/// How Home Assistant shows an entity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Look {
    /// Unit of a number.
    pub unit: Option<String>,
    /// Device class.
    pub device_class: Option<String>,
    /// State class, which makes statistics.
    pub state_class: Option<String>,
    /// Icon, such as `mdi:fan`.
    pub icon: Option<String>,
    /// Entity category: `config` or `diagnostic`.
    pub category: Option<String>,
}

/// What an entity is, and what it can do.
#[derive(Debug, Clone, PartialEq)]
pub enum Role {
    /// Shows a number or a text.
    Sensor,
    /// Shows on or off.
    BinarySensor,
    /// Passes on what happens: the types that it knows, at least one.
    Event(Vec<String>),
    /// Does something.
    Button(Action),
    /// Switches something on and off.
    Switch {
        /// What switches it on.
        on: Action,
        /// What switches it off.
        off: Action,
    },
    /// Sets a number.
    Number {
        /// What sets it.
        set: Action,
        /// The smallest number.
        min: f64,
        /// The largest number, above `min`.
        max: f64,
        /// The step between numbers.
        step: f64,
        /// What a number that is read is multiplied by, and one that is sent is divided by; not 0.
        scale: f64,
    },
    /// Chooses one of several options, each with what it does.
    Select(Vec<(String, Action)>),
}

impl Role {
    /// Home Assistant's platform.
    pub fn platform(&self) -> &'static str {
        match self {
            Self::Sensor => "sensor",
            Self::BinarySensor => "binary_sensor",
            Self::Event(_) => "event",
            Self::Button(_) => "button",
            Self::Switch { .. } => "switch",
            Self::Number { .. } => "number",
            Self::Select(_) => "select",
        }
    }

    /// Whether it has a state that is retained.
    pub fn has_state(&self) -> bool {
        !matches!(self, Self::Event(_) | Self::Button(_))
    }

    /// Whether it obeys commands.
    pub fn is_control(&self) -> bool {
        !self.actions().is_empty()
    }

    /// Whether one of its actions needs a connected printer.
    pub fn needs_printer(&self) -> bool {
        self.actions().into_iter().any(|action| matches!(action, Action::Gcode(_)))
    }

    fn actions(&self) -> Vec<&Action> {
        match self {
            Self::Sensor | Self::BinarySensor | Self::Event(_) => Vec::new(),
            Self::Button(action) | Self::Number { set: action, .. } => vec![action],
            Self::Switch { on, off } => vec![on, off],
            Self::Select(options) => options.iter().map(|(_, action)| action).collect(),
        }
    }
}

impl OwnEntity {
    /// Whether `value` is one that its state may have, besides null.
    pub fn takes(&self, value: &Value) -> bool {
        match &self.role {
            Role::Sensor => match self.reading.as_ref().map(|reading| &reading.form) {
                Some(Form::Number { .. }) => value.is_number(),
                _ => value.is_string() || value.is_number() || value.is_boolean(),
            },
            Role::BinarySensor | Role::Switch { .. } => value.is_boolean(),
            Role::Number { .. } => value.is_number(),
            Role::Select(options) => options.iter().any(|(option, _)| value == option),
            Role::Event(_) | Role::Button(_) => false,
        }
    }
}
