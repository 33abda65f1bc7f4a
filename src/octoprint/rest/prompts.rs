//! What the printer asks, by OctoPrint's bundled plugin for prompts.

use serde_json::{Value, json};

use super::client::Rest;
use super::error::RestError;

/// The plugin.
pub const PROMPT_PLUGIN: &str = "action_command_prompt";
const PATH: &str = "api/plugin/action_command_prompt";

/// What the printer asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrinterPrompt {
    /// Its text.
    pub text: String,
    /// The answers that the printer offers, in its order.
    pub choices: Vec<String>,
}

impl PrinterPrompt {
    /// Reads an object with `text` and `choices`. `None` if it has no text.
    pub fn read(prompt: &Value) -> Option<Self> {
        let text = prompt["text"].as_str()?.to_owned();
        let choices = prompt["choices"].as_array().into_iter().flatten();
        // An index counts all of them, whatever they are.
        let choices = choices.map(|choice| choice.as_str().unwrap_or_default().to_owned());
        Some(Self { text, choices: choices.collect() })
    }
}

impl Rest {
    /// Returns what the printer asks, if anything.
    ///
    /// # Errors
    /// [`RestError`]; status 404 if the plugin is disabled, 403 if this user may not see prompts.
    pub async fn printer_prompt(&self) -> Result<Option<PrinterPrompt>, RestError> {
        let answer: Value = self.get_json(PATH).await?;
        Ok(PrinterPrompt::read(&answer))
    }

    /// Answers what the printer asks with the choice at `index`, from 0.
    ///
    /// # Errors
    /// [`RestError`]; status 409 if it asks nothing, 400 if there is no such choice.
    pub async fn answer_prompt(&self, index: usize) -> Result<(), RestError> {
        self.post(PATH, &json!({"command": "select", "choice": index})).await.map(drop)
    }
}
