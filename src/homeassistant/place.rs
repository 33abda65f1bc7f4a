//! What the tables of a printer's entities look at (pure).

use serde_json::{Value, json};

use super::device::{PrinterDevice, Settings};
use crate::topics::PrinterTopics;

/// What the tables of a printer's entities look at.
pub(super) struct Place<'a> {
    pub(super) settings: &'a Settings,
    pub(super) topics: &'a PrinterTopics,
    pub(super) printer: &'a PrinterDevice,
}

impl Place<'_> {
    /// Available with the bridge alone, whether OctoPrint is there or not.
    pub(super) fn with_bridge_alone(&self) -> Value {
        json!([{"topic": self.settings.topics.state}])
    }

    /// Available while `template` over the printer's state, as `state`, is true.
    pub(super) fn while_state(&self, template: &str) -> Value {
        json!([
            {"topic": self.settings.topics.state},
            {"topic": self.topics.availability},
            {
                "topic": self.topics.printer,
                "value_template": format!(
                    "{{% set state = value_json.state %}}{{{{ 'online' if {template} else 'offline' }}}}"
                ),
            },
        ])
    }

    /// The heaters that OctoPrint can set.
    pub(super) fn settable(&self) -> impl Iterator<Item = &String> {
        self.printer.profile.heaters.iter().filter(|heater| limit(self.printer, heater).is_some())
    }

    /// How people call a heater.
    pub(super) fn heater_name(&self, heater: &str) -> String {
        let tools = self.printer.profile.heaters.iter().filter(|h| h.starts_with("tool")).count();
        match (heater, heater.strip_prefix("tool")) {
            ("bed", _) => "Bed".to_owned(),
            ("chamber", _) => "Chamber".to_owned(),
            (_, Some(_)) if tools == 1 => "Nozzle".to_owned(),
            (_, Some(index)) => format!("Tool {index}"),
            (other, None) => other.to_owned(),
        }
    }
}

/// A heater as part of a component id, which is made of letters, digits, `_` and `-`.
pub(super) fn component_key(heater: &str) -> String {
    let known = matches!(heater, "bed" | "chamber") || heater.starts_with("tool");
    let slug = heater.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    if known { slug } else { format!("sensor_{slug}") }
}

/// The highest target of a heater, in °C; `None` where OctoPrint cannot set it.
pub(super) fn limit(printer: &PrinterDevice, heater: &str) -> Option<f64> {
    match heater {
        "bed" => Some(printer.limits.bed),
        "chamber" => Some(printer.limits.chamber),
        tool => tool
            .strip_prefix("tool")
            .is_some_and(|index| !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit()))
            .then_some(printer.limits.tool),
    }
}

/// A number as JSON has it shortest: 120 and not 120.0.
pub(super) fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e9 { json!(value as i64) } else { json!(value) }
}
