//! A switch of a printer's power, as configured (pure).

use crate::own_entity::Pointer;

/// A switch of a printer's power, at the broker.
#[derive(Debug, Clone, PartialEq)]
pub struct PowerSwitch {
    /// Topic on which it reports its state.
    pub state_topic: String,
    /// Topic on which it takes commands.
    pub command_topic: String,
    /// Payload that switches it on.
    pub on: String,
    /// Payload that switches it off.
    pub off: String,
    /// Where its state is in a JSON payload; `None`: the payload is the state.
    pub value: Option<Pointer>,
    /// Its state while it is on.
    pub state_on: String,
    /// Its state while it is off.
    pub state_off: String,
}

impl PowerSwitch {
    /// Reads its state; `None` if the payload is neither on nor off.
    pub fn state(&self, payload: &[u8]) -> Option<bool> {
        let payload = std::str::from_utf8(payload).ok()?;
        let found = match &self.value {
            None => payload.trim().to_owned(),
            Some(pointer) => match pointer.find(payload)? {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            },
        };
        match found {
            text if text == self.state_on => Some(true),
            text if text == self.state_off => Some(false),
            _ => None,
        }
    }
}
