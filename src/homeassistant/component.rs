//! Building blocks of the entity tables: a builder for components, and the context of a printer
//! (pure).

use serde_json::{Map, Value, json};

use super::device::{PrinterDevice, Settings};
use crate::heater::{Heater, HeaterKind};
use crate::topics::PrinterTopics;

pub(super) struct Component {
    key: String,
    platform: &'static str,
    members: Map<String, Value>,
}

impl Component {
    /// Creates an entity. Its key is part of its unique id, so it must never change; nor may the
    /// platform of a key, since Home Assistant would keep the old entity.
    pub(super) fn new(platform: &'static str, key: impl Into<String>, name: &str) -> Self {
        Self::nameless(platform, key).with("name", name)
    }

    /// Creates a component without a name, such as a device trigger.
    pub(super) fn nameless(platform: &'static str, key: impl Into<String>) -> Self {
        Self { key: key.into(), platform, members: Map::new() }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    pub(super) fn icon(self, icon: &str) -> Self {
        self.with("icon", format!("mdi:{icon}"))
    }

    /// Sets the topic of the state, and the template that reads it.
    pub(super) fn state(self, topic: &str, template: &str) -> Self {
        self.with("state_topic", topic).with("value_template", format!("{{{{ {template} }}}}"))
    }

    pub(super) fn command(self, topic: impl AsRef<str>) -> Self {
        self.with("command_topic", topic.as_ref())
    }

    /// Replaces the device's availability. Home Assistant inherits each setting separately, so the
    /// mode is repeated.
    pub(super) fn available(self, availability: Value) -> Self {
        self.with("availability", availability).with("availability_mode", "all")
    }

    pub(super) fn diagnostic(self) -> Self {
        self.with("entity_category", "diagnostic")
    }

    pub(super) fn config(self) -> Self {
        self.with("entity_category", "config")
    }

    pub(super) fn finish(self, device: &str) -> (String, String, Value) {
        let Self { key, platform, mut members } = self;
        members.insert("platform".to_owned(), json!(platform));
        if platform != "device_automation" {
            members.insert("unique_id".to_owned(), json!(format!("{device}__{key}")));
        }
        // Home Assistant does not inherit the root's.
        members.insert("qos".to_owned(), json!(1));
        (key, platform.to_owned(), members.into())
    }
}

pub(super) struct EntityContext<'a> {
    pub(super) settings: &'a Settings,
    pub(super) topics: &'a PrinterTopics,
    pub(super) printer: &'a PrinterDevice,
}

impl EntityContext<'_> {
    /// Available with the bridge, even while OctoPrint is away.
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

    /// Returns whether OctoPrint is 2.0 or newer.
    pub(super) fn is_since_2_0(&self) -> bool {
        let version = self.printer.profile.octoprint_version.as_deref().unwrap_or_default();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        major.is_some_and(|major| major >= 2)
    }

    /// Returns the heaters that OctoPrint can set, and their highest targets.
    pub(super) fn settable(&self) -> impl Iterator<Item = (&Heater, f64)> {
        let PrinterDevice { profile, limits, .. } = self.printer;
        profile.heaters.iter().filter_map(|heater| Some((heater, limits.of(heater)?)))
    }

    pub(super) fn heater_name(&self, heater: &Heater) -> String {
        let is_tool = |heater: &&Heater| matches!(heater.kind(), HeaterKind::Tool(_));
        match heater.kind() {
            HeaterKind::Bed => "Bed".to_owned(),
            HeaterKind::Chamber => "Chamber".to_owned(),
            HeaterKind::Tool(_)
                if self.printer.profile.heaters.iter().filter(is_tool).count() == 1 =>
            {
                "Nozzle".to_owned()
            }
            HeaterKind::Tool(index) => format!("Tool {index}"),
            HeaterKind::Other => heater.to_string(),
        }
    }
}

/// Returns a heater as part of a component id, which allows letters, digits, `_` and `-`.
pub(super) fn component_key(heater: &Heater) -> String {
    let slug = heater.as_str().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    match heater.kind() {
        HeaterKind::Tool(_) | HeaterKind::Bed | HeaterKind::Chamber => slug,
        HeaterKind::Other => format!("sensor_{slug}"),
    }
}

/// Returns a number in its shortest JSON form: 120 and not 120.0.
pub(super) fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e9 { json!(value as i64) } else { json!(value) }
}
