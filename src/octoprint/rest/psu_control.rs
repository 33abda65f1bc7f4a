//! The printer's power, by the plugin PSU Control.

use serde_json::{Value, json};

use super::client::Rest;
use super::error::RestError;

/// The plugin.
pub const PSU_PLUGIN: &str = "psucontrol";
const PATH: &str = "api/plugin/psucontrol";
/// The member of its messages and answers that has the state.
const STATE: &str = "isPSUOn";

/// Reads whether the power is on from a message or an answer of PSU Control.
pub fn psu_state(message: &Value) -> Option<bool> {
    message[STATE].as_bool()
}

impl Rest {
    /// Returns whether the power is on; `None` if PSU Control does not tell.
    ///
    /// # Errors
    /// [`RestError`]; status 400 or 404 if OctoPrint has no PSU Control, 403 if this user may not see
    /// the state.
    pub async fn psu_state(&self) -> Result<Option<bool>, RestError> {
        let answer = self.post(PATH, &json!({"command": "getPSUState"})).await?;
        Ok(psu_state(&serde_json::from_slice(&answer).unwrap_or_default()))
    }

    /// Switches the power on or off.
    ///
    /// # Errors
    /// [`RestError`]; status 400 or 404 if OctoPrint has no PSU Control, 403 if this user may not
    /// switch.
    pub async fn switch_psu(&self, on: bool) -> Result<(), RestError> {
        let command = if on { "turnPSUOn" } else { "turnPSUOff" };
        self.post(PATH, &json!({"command": command})).await.map(drop)
    }
}
