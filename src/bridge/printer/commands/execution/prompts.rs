//! Answers what the printer asks.

use crate::bridge::printer::commands::answers::CommandError;
use crate::octoprint::{PrinterPrompt, Rest, RestError};

/// Answers with the choice of this text, or of this index from 0. With `text`, only the prompt of that
/// text is answered: another one may have come meanwhile.
pub(crate) async fn answer(
    rest: &Rest,
    choice: &str,
    text: Option<&str>,
) -> Result<(), CommandError> {
    let asked = rest.printer_prompt().await.map_err(|error| prompt_error(&error))?;
    let Some(prompt) = asked else {
        let error = "the printer asks nothing that could be answered here";
        return Err(CommandError::with_status(error, 409));
    };
    if text.is_some_and(|text| text != prompt.text) {
        let error = format!("the printer asks something else now: {:?}", prompt.text);
        return Err(CommandError::with_status(error, 409));
    }
    rest.answer_prompt(index(&prompt, choice)?).await?;
    // OctoPrint keeps the prompt if its settings forbid the answer.
    let now = rest.printer_prompt().await.map_err(|error| CommandError::unconfirmed(&error))?;
    if now.is_some_and(|now| now == prompt) {
        let error = "OctoPrint answered with success, but the printer still asks: look at the settings of its printer dialogs";
        return Err(CommandError::with_status(error, 409));
    }
    Ok(())
}

fn index(prompt: &PrinterPrompt, choice: &str) -> Result<usize, CommandError> {
    let choices = &prompt.choices;
    let by_text = choices.iter().position(|text| text == choice);
    let by_index = || choice.parse().ok().filter(|index| *index < choices.len());
    by_text.or_else(by_index).ok_or_else(|| {
        CommandError::new(match choices.is_empty() {
            true => format!("the printer offers no choice for {:?}", prompt.text),
            false => format!("there is no choice {choice:?}; there is {}", choices.join(", ")),
        })
    })
}

fn prompt_error(error: &RestError) -> CommandError {
    let text = match error.status() {
        Some(404) => "OctoPrint's plugin for prompts (Action Command Prompt Support) is disabled",
        Some(403) => "this user may not answer what the printer asks",
        _ => return CommandError::not_sent(error),
    };
    CommandError { error: text.to_owned(), status: error.status() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_meant_by_its_text_or_else_its_index() {
        let prompt = |choices: &[&str]| PrinterPrompt {
            text: "Which?".to_owned(),
            choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
        };
        let three = prompt(&["Purge", "1", "Go on"]);
        for (choice, expected) in [("Purge", 0), ("1", 1), ("Go on", 2), ("2", 2), ("0", 0)] {
            assert_eq!(index(&three, choice).unwrap(), expected, "{choice}");
        }
        for choice in ["purge", "3", "-1", ""] {
            let error = index(&three, choice).unwrap_err().error;
            assert!(error.contains("there is Purge, 1, Go on"), "{error}");
        }
        assert!(index(&prompt(&[]), "0").unwrap_err().error.contains("offers no choice"));
    }
}
