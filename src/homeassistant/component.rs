//! One component of a discovery message.

use serde_json::{Map, Value, json};

/// A component in the making.
pub(super) struct Component {
    key: String,
    platform: &'static str,
    members: Map<String, Value>,
}

impl Component {
    /// An entity. Its key is part of its unique id, so it never changes; and a key never changes
    /// its platform, for Home Assistant would keep the old entity.
    pub(super) fn new(platform: &'static str, key: impl Into<String>, name: &str) -> Self {
        Self::nameless(platform, key).with("name", name)
    }

    /// What has no name, such as a device trigger.
    pub(super) fn nameless(platform: &'static str, key: impl Into<String>) -> Self {
        Self { key: key.into(), platform, members: Map::new() }
    }

    /// Adds a member.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    pub(super) fn icon(self, icon: &str) -> Self {
        self.with("icon", format!("mdi:{icon}"))
    }

    /// Where the state comes from, and the template that reads it.
    pub(super) fn state(self, topic: &str, template: &str) -> Self {
        self.with("state_topic", topic).with("value_template", format!("{{{{ {template} }}}}"))
    }

    /// Where commands go.
    pub(super) fn command(self, topic: impl AsRef<str>) -> Self {
        self.with("command_topic", topic.as_ref())
    }

    /// Replaces the device's availability. Home Assistant inherits each setting by itself, so the
    /// mode is said again.
    pub(super) fn available(self, availability: Value) -> Self {
        self.with("availability", availability).with("availability_mode", "all")
    }

    pub(super) fn diagnostic(self) -> Self {
        self.with("entity_category", "diagnostic")
    }

    pub(super) fn config(self) -> Self {
        self.with("entity_category", "config")
    }

    /// Its key, its platform and its JSON.
    pub(super) fn finish(self, device: &str) -> (String, String, Value) {
        let Self { key, platform, mut members } = self;
        members.insert("platform".to_owned(), json!(platform));
        if platform != "device_automation" {
            members.insert("unique_id".to_owned(), json!(format!("{device}__{key}")));
        }
        // Home Assistant does not hand the root's on.
        members.insert("qos".to_owned(), json!(1));
        (key, platform.to_owned(), members.into())
    }
}
